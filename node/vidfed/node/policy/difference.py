"""What another policy would change: for each member, by the very decisions a lookup takes, over the records that are there.

A record's fate under a rule depends on few of its fields, which many records share; so the records are counted by these fields once, and
each kind of record is judged once for each member.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.index import Algorithm
from vidfed.node.policy.policy import EVERY_MEMBER, Policy, Requester, Rule
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vidfed.node.records.record import Record

SCHEMA = "vidfed.policy-difference/1"
_DECIDING = tuple(name for name in Rule.__slots__ if name not in {"name", "members", "purposes", "roles"})
"""The settings of a rule that say what is told, once it decides."""


@dataclass(frozen=True, slots=True)
class MemberDifference:
    """What changes for one member, whichever of its people asks and why.

    Attributes:
        member: its id.
        told_before: live records it could be told of; None where it is not known what was in force.
        told_after: the same under the new policy.
        gains: records that some person of it would be told of for some purpose, and was not before.
        loses: records that some person of it was told of for some purpose, and would not be any more. One record can be in both.
        settings: what else becomes another, in words, such as "distances: exact -> bands (for identification)".
    """

    member: str
    told_before: int | None
    told_after: int
    gains: int
    loses: int
    settings: tuple[str, ...]

    @property
    def is_change(self) -> bool:
        """Tell whether anything is different for it."""
        return bool(self.told_before is None or self.gains or self.loses or self.settings)

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        if self.told_before is None:
            yield f"{self.member}: told of {self.told_after:,} records; what it was told of before is not known"
        elif not self.is_change:
            yield f"{self.member}: nothing changes; told of {self.told_after:,} records"
        else:
            now = f"told of {self.told_after:,}, was {self.told_before:,}"
            yield f"{self.member}: GAINS {self.gains:,} records, loses {self.loses:,}: {now}"
        for setting in self.settings:
            yield f"    {setting}"


class RecordKinds:
    """Live records counted by all that a rule looks at."""

    def __init__(self) -> None:
        """Begin without any."""
        self._counts: Counter[tuple[object, ...]] = Counter()
        self._examples: dict[tuple[object, ...], Record] = {}

    def add(self, record: Record) -> None:
        """Count one record."""
        kind = (
            record.sharing,
            record.handling_code,
            record.category,
            record.category_scale,
            record.category_region,
            record.series.strip().casefold(),
            tuple(sorted(record.tags)),
            frozenset(record.hashes),
        )
        self._counts[kind] += 1
        self._examples.setdefault(kind, record)

    def __len__(self) -> int:
        """Return how many records were counted."""
        return self._counts.total()

    def __iter__(self) -> Iterator[tuple[Record, int]]:
        """Yield an example of each kind and how many records are of it."""
        return ((self._examples[kind], count) for kind, count in self._counts.items())


def differences(before: Policy | None, after: Policy, kinds: RecordKinds, members: Iterable[str]) -> list[MemberDifference]:
    """Compare two policies.

    Args:
        before: in force; None where it cannot be read.
        after: the one that would be.
        kinds: the node's live records.
        members: ids of the trust directory's members; those that a policy names besides are added.

    Returns:
        One for each member, by id.
    """
    policies = [policy for policy in (before, after) if policy is not None]
    named = set(members).union(*(policy.members() for policy in policies)) - {EVERY_MEMBER}
    # The first rule that fits a person with several roles is the first that fits one of them: single roles stand for every set of them.
    single = sorted({role for policy in policies for rule in policy.rules for role in rule.roles})
    roles = [frozenset(role) for role in ([], *([each] for each in single))]
    purposes = [purpose for purpose in Purpose if purpose is not Purpose.SELF_TEST]
    asking = {member: [Requester(member, role, purpose) for role in roles for purpose in purposes] for member in sorted(named)}
    return [_difference(before, after, kinds, askers) for askers in asking.values()]


def _difference(before: Policy | None, after: Policy, kinds: RecordKinds, askers: list[Requester]) -> MemberDifference:
    member = askers[0].member
    deciding: dict[tuple[str, str], tuple[Rule | None, Rule | None]] = {}  # by the rules' names, of which each is once in a policy
    where: dict[tuple[str, str], list[Requester]] = {}
    for asker in askers:
        old, new = None if before is None else before.decide(asker), after.decide(asker)
        names = (old.name if old else "", new.name if new else "")
        deciding[names] = (old, new)
        where.setdefault(names, []).append(asker)
    told_before = told_after = gains = loses = 0
    for record, count in kinds:
        fates = [(_told(old, member, record), _told(new, member, record)) for old, new in deciding.values()]
        told_before += count * any(old for old, _ in fates)
        told_after += count * any(new for _, new in fates)
        gains += count * any(new and not old for old, new in fates)
        loses += count * any(old and not new for old, new in fates)
    if before is None:
        return MemberDifference(member, None, told_after, 0, 0, ())
    settings = tuple(f"{said} ({_who(where[names])})" for names, pair in deciding.items() for said in _changes(*pair))
    return MemberDifference(member, told_before, told_after, gains, loses, settings)


def _told(rule: Rule | None, member: str, record: Record) -> bool:
    """Tell whether the record can be found by a hash that the rule allows to be searched, and is told then."""
    if rule is None or all(rule.reach(each, each.maximum_distance) is None for each in Algorithm if each in record.hashes):
        return False
    return rule.tells(member, record)


def _changes(old: Rule | None, new: Rule | None) -> Iterator[str]:
    """Yield in words what becomes another where `old` decided and `new` would."""
    if old is None or new is None:
        if old is not new:
            yield "refused -> answered" if old is None else "answered -> refused"
        return
    for name in _DECIDING:
        if name != "limits" and getattr(old, name) != getattr(new, name):
            yield f"{name}: {_plain(getattr(old, name))} -> {_plain(getattr(new, name))}"
    for name in type(new.limits).__slots__:
        if getattr(old.limits, name) != getattr(new.limits, name):
            yield f"{name}: {getattr(old.limits, name):,} -> {getattr(new.limits, name):,}"


def _who(askers: list[Requester]) -> str:
    roles = sorted({role for asker in askers for role in asker.roles})
    everybody = any(not asker.roles for asker in askers)
    purposes = ", ".join(dict.fromkeys(asker.purpose.code for asker in askers))
    return f"for {purposes}" + ("" if everybody else f", as {' or '.join(roles)}")


def _plain(value: object) -> str:
    if value is None:
        return "all"
    if isinstance(value, frozenset):
        return ", ".join(sorted(str(getattr(each, "value", each)) for each in value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{getattr(each, 'value', each)} {distance}" for each, distance in value.items()) or "the usual"
    return str(getattr(value, "value", value))
