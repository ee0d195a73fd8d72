"""What several members say together: series that more than one of them holds, and where their records contradict each other. Pure.

Nothing is resolved here. That a series is the same is taken from its name, whatever its case and spacing; that two records speak of the
same picture, from their being hits for the same item. Whoever reads it calls the members and finds out.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vidfed.federation.lookup.outcome import FoundHit

QUESTIONS = ("victim_identified", "offender_identified", "distributed")
_YES, _NO = "yes", "no"


class Statement(NamedTuple):
    """What one hit says. `answers` holds yes, no or unknown to each of QUESTIONS."""

    item: int
    member: str
    series: str
    answers: tuple[str, ...]

    @classmethod
    def of_hit(cls, hit: FoundHit) -> Self:
        """Take it from a hit."""
        record = hit.record
        answers = (record.victim_identified.code, record.offender_identified.code, record.distributed.code)
        return cls(hit.item, hit.member, record.series, answers)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any], item: int) -> Self:
        """Take it from a hit's JSON form; `item` is what it is a hit for."""
        return cls(item, fields["member"], fields["series"], tuple(fields[question] for question in QUESTIONS))


@dataclass(frozen=True, slots=True)
class SharedSeries:
    """A series that several members hold.

    Attributes:
        name: as the first of them writes it.
        members: who holds it, in order.
        items: items of the question that belong to it, in order.
        identified_by, not_identified_by: members with a record in it that says so of the victim.
    """

    name: str
    members: tuple[str, ...]
    items: tuple[int, ...]
    identified_by: tuple[str, ...]
    not_identified_by: tuple[str, ...]

    @property
    def text(self) -> str:
        """The same for people."""
        said = [f"identified by {', '.join(self.identified_by)}"] if self.identified_by else ["identified by none of them"]
        if self.not_identified_by:
            said.append(f"not identified by {', '.join(self.not_identified_by)}")
        return f"Series {self.name}: {len(self.members)} members hold it ({', '.join(self.members)}); victim {', '.join(said)}."


@dataclass(frozen=True, slots=True)
class Conflict:
    """Members (or records of one member) that contradict each other about an item.

    Attributes:
        item: of the question.
        question: one of QUESTIONS.
        yes, no: who says so, in order; a member can be in both.
    """

    item: int
    question: str
    yes: tuple[str, ...]
    no: tuple[str, ...]

    def text(self, label: str) -> str:
        """Return the same for people, with the item's label."""
        asked = self.question.replace("_", " ")
        return f"Conflict about {label}: {asked}: yes by {', '.join(self.yes)}, no by {', '.join(self.no)}. Not resolved here: ask them."


@dataclass(slots=True)
class _Holding:
    name: str
    members: set[str] = field(default_factory=set)
    items: set[int] = field(default_factory=set)
    identified: set[str] = field(default_factory=set)
    not_identified: set[str] = field(default_factory=set)


class SeriesTable:
    """Who holds which series. Grows with the number of series, and of items in them."""

    def __init__(self, statements: Iterable[Statement] = ()) -> None:
        self._held: dict[str, _Holding] = {}
        for statement in statements:
            self.add(statement)

    def add(self, said: Statement) -> None:
        """Take in one hit."""
        if not (key := series_key(said.series)):
            return
        held = self._held.setdefault(key, _Holding(said.series))
        held.members.add(said.member)
        held.items.add(said.item)
        if said.answers[0] == _YES:
            held.identified.add(said.member)
        elif said.answers[0] == _NO:
            held.not_identified.add(said.member)

    def shared(self) -> list[SharedSeries]:
        """Return the series of several members: those with an identified victim first, then those most members hold, then by name."""
        found = [
            SharedSeries(
                held.name,
                tuple(sorted(held.members)),
                tuple(sorted(held.items)),
                tuple(sorted(held.identified)),
                tuple(sorted(held.not_identified)),
            )
            for held in self._held.values()
            if len(held.members) > 1
        ]
        return sorted(found, key=lambda series: (not series.identified_by, -len(series.members), series.name))


def conflicts(statements: Iterable[Statement]) -> list[Conflict]:
    """Return where yes stands against no, by item and question."""
    said: dict[tuple[int, int], dict[str, set[str]]] = {}
    for statement in statements:
        for number, answer in enumerate(statement.answers):
            said.setdefault((statement.item, number), {}).setdefault(answer, set()).add(statement.member)
    return [
        Conflict(item, QUESTIONS[number], tuple(sorted(members[_YES])), tuple(sorted(members[_NO])))
        for (item, number), members in sorted(said.items(), key=lambda pair: pair[0])
        if _YES in members and _NO in members
    ]


def series_key(name: str) -> str:
    """Return by what two spellings of a series' name count as the same; empty for no name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
