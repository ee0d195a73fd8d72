"""A lookup's results as the report an officer files: one HTML page that stands alone, without pictures, scripts or anything from elsewhere.

Written from `templates/report.html`, where everything is escaped unless the template says otherwise. What a member says of many pictures
alike is said once: pictures are grouped by whose they are and what is said of them. Of a million entries only what is printed is in memory.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cache
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from vidfed.federation.lookup.agreement import SeriesTable, Statement, conflicts
from vidfed.federation.lookup.closing import in_english
from vidfed.federation.lookup.evidence import Evidence
from vidfed.security.clock import as_text
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vidfed.federation.lookup.closing import Closing
    from vidfed.federation.lookup.outcome import NodeOutcome

MAX_ROWS = 10_000  # hits, and conflicts; a report longer than this is no report, and result.csv has all
MAX_GROUPS = 40  # of what the page of summary lists
MAX_LABELS = 12  # files named after a reason that many share; result.csv names all

_SAID: tuple[str, ...] = ("member", "series", "case_reference", "case_contact", "victim_identified", "offender_identified", "distributed")
_SAID += ("category", "category_scale", "category_region", "handling_code", "handling_note", "source_grading", "information_grading")
"""What an owner says of a record and prints once for all pictures it is the same of."""


class Words(Protocol):
    """A language the report is written in."""

    @property
    def code(self) -> str:
        """Its code, as `fr`."""

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`."""

    @property
    def reviewed(self) -> bool:
        """False if nobody who speaks it has read the translation."""

    def say(self, text: str, **values: object) -> str:
        """Return a text in it, with its values."""

    def term(self, code: str) -> str:
        """Return a word of the library in it."""

    def moment(self, moment_ms: int) -> str:
        """Return a moment as its readers write it, in UTC."""


class _English:
    """What the report is written in where no other language is asked for."""

    code, direction, reviewed = "en", "ltr", True

    say = staticmethod(in_english)

    def term(self, code: str) -> str:
        """Return the word."""
        return code.replace("-", " ").replace("_", " ")

    def moment(self, moment_ms: int) -> str:
        """Return the moment."""
        return as_text(moment_ms)


ENGLISH: Words = _English()


class Unit(NamedTuple):
    """A member for people: its full name, and whom to call."""

    name: str
    contact: str = ""


@dataclass(frozen=True, slots=True)
class ReportHead:
    """Who asked, why and what.

    Attributes:
        pseudonym: of the person who asked.
        member: id of that person's unit.
        case, purpose, legal_basis, offence: as they were stated to every member.
        source: name of the file that was asked about; empty where it was none.
        asked_ms: when the report was written.
        units: of every member, by id.
    """

    pseudonym: str
    member: str
    case: str
    purpose: str
    legal_basis: str
    offence: str
    source: str
    asked_ms: int
    units: Mapping[str, Unit] = field(default_factory=dict)

    def unit(self, member: str) -> Unit:
        """Return a member's names; its id where they are not known here."""
        return self.units.get(member, Unit(member))

    def named(self, member: str) -> str:
        """Return a member's full name with its id."""
        name = self.unit(member).name
        return f"{name} ({member})" if name != member else member


class ReportCounts(NamedTuple):
    """How many items: asked, known, with weak hits only, known to nobody, not answered by all, not asked at all, asked by digests alone."""

    asked: int
    known: int
    weak: int
    unseen: int
    open: int
    skipped: int
    exact_only: int = 0


class ReportNode(NamedTuple):
    """One member's part: different items it answered, its hits and weak hits, items it did not answer, when it answered, and remarks."""

    member: str
    answered: int | str
    hits: int | str
    weak_hits: int | str
    unanswered: int | str
    when: str
    detail: str


class ReportEntry(NamedTuple):
    """One entry of the source. `hits` as `vidfed.federation.output.json.hit_fields` gives them; `notes` say how it was asked about."""

    number: int
    label: str
    hits: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    weak_hits: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True)
class Group:
    """Pictures of which one member says the same. `said` is the first of its hits."""

    said: Mapping[str, Any]
    rows: list[tuple[ReportEntry, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """How many different entries."""
        return len({entry.number for entry, _ in self.rows})

    @property
    def exact(self) -> int:
        """How many hits are of the very same file."""
        return sum(hit["evidence"] == Evidence.EXACT.value for _, hit in self.rows)

    @property
    def near(self) -> int:
        """How many hits are of a picture that looks the same."""
        return len(self.rows) - self.exact


@dataclass(frozen=True, slots=True)
class Report:
    """All that is printed. Make it with `gather`, write it with `write`."""

    head: ReportHead
    counts: ReportCounts
    nodes: Sequence[ReportNode]
    closing: Closing
    groups: list[Group]
    weak: list[tuple[ReportEntry, Mapping[str, Any]]]
    series: list[str]
    conflicts: list[str]
    notes: list[tuple[str, list[str], int]]
    unasked: list[tuple[str, list[str], int]]
    left_out: int
    weak_left_out: int

    @property
    def unheard(self) -> list[NodeOutcome]:
        """Members that were not asked, refused or gave no whole answer."""
        return [*self.closing.left_out, *self.closing.not_chosen, *self.closing.refused_by_policy, *self.closing.silent]

    def write(self, file: IO[str], words: Words = ENGLISH) -> None:
        """Write it in a language."""
        page = _environment().get_template("report.html")
        for piece in page.generate(report=self, words=words, _=words.say, max_groups=MAX_GROUPS):
            file.write(piece)


class _Gathered:
    """Texts that many files share, with the first files and how many there are."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[list[str], list[int]]] = {}

    def add(self, text: str, label: str) -> None:
        if text not in self._files and len(self._files) >= MAX_ROWS:
            return
        labels, count = self._files.setdefault(text, ([], [0]))
        count[0] += 1
        if len(labels) < MAX_LABELS:
            labels.append(label)

    def all(self) -> list[tuple[str, list[str], int]]:
        return [(text, labels, count[0] - len(labels)) for text, (labels, count) in self._files.items()]


def gather(
    head: ReportHead,
    counts: ReportCounts,
    nodes: Sequence[ReportNode],
    entries: Iterable[ReportEntry],
    closing: Closing,
    not_asked: Mapping[str, str],
) -> Report:
    """Read all entries once and keep what is printed.

    Args:
        head: who asked, why and what.
        counts: of items.
        nodes: every member, asked or not.
        entries: in the order of the source.
        closing: what there is to say at the end.
        not_asked: what could not be asked about, with the reason.
    """
    series, groups, notes, unasked = SeriesTable(), dict[tuple[object, ...], Group](), _Gathered(), _Gathered()
    disagreements: list[str] = []
    weak: list[tuple[ReportEntry, Mapping[str, Any]]] = []
    count = weak_count = 0
    for entry in entries:
        statements = [Statement.of_fields(hit, entry.number) for hit in entry.hits]
        if len(disagreements) < MAX_ROWS:
            disagreements += [conflict.text(entry.label) for conflict in conflicts(statements)]
        for note in entry.notes:
            notes.add(note, entry.label)
        weak_count += len(entry.weak_hits)
        weak += [(entry, hit) for hit in entry.weak_hits[: MAX_ROWS - len(weak)]]
        for statement, hit in zip(statements, entry.hits, strict=True):
            series.add(statement)
            count += 1
            if count <= MAX_ROWS:
                key = (*(hit[name] for name in _SAID), str(hit.get("superseded")))
                groups.setdefault(key, Group(hit)).rows.append((entry, hit))
    for label, why in itertools.islice(not_asked.items(), 100 * MAX_ROWS):
        unasked.add(why, label)
    return Report(
        head,
        counts,
        nodes,
        closing,
        sorted(groups.values(), key=_order),
        weak,
        [each.text for each in series.shared()],
        disagreements,
        notes.all(),
        unasked.all(),
        max(0, count - MAX_ROWS),
        weak_count - len(weak),
    )


def _order(group: Group) -> tuple[bool, int, str, str]:
    """Identified victims first, then what most pictures are of."""
    said = group.said
    return said["victim_identified"] != Ternary.YES.code, -group.pictures, str(said["member"]), str(said["series"])


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vidfed.federation.output", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
