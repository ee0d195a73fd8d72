"""Whom a node answers, for what, and what it tells. Pure: values in, decisions out; reading the file is policy/file.py.

1. A question is decided by the first rule that names its member, one of its person's roles, and its purpose. No such rule: refused.
2. What the rule does not allow to be searched (algorithms, distances) is not searched, and the answer says so.
3. A record that the rule or its owner withholds is as if it did not exist: it is taken out after the search, before anything is counted.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vidfed.index import Algorithm
from vidfed.wire.values import HandlingCode, Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vidfed.node.records.record import Record
    from vidfed.wire.values import HashColumn, Match

EVERY_MEMBER = "*"
MOST_HITS_PER_ITEM = 1_000
"""More a rule cannot tell: a chunk of 1,000 items is searched in memory that grows with it, and an answer has 1 MiB."""


@unique
class Distances(Enum):
    """How precisely a rule tells how near a record is."""

    EXACT = "exact"
    BANDS = "bands"


class Category(NamedTuple):
    """A category with the scale and region it belongs to: the bare value means something else elsewhere."""

    scale: str
    region: str
    value: str

    def __str__(self) -> str:
        return f"{self.value} ({', '.join(part for part in (self.scale or 'no scale', self.region) if part)})"


@dataclass(frozen=True, slots=True)
class Limits:
    """What each member may spend under one rule. Minutes and days are those of the clock, UTC.

    Attributes:
        lookups_per_minute: calls in a minute.
        hashes_per_minute: in a minute; a picture is asked with 13 hashes.
        lookups_per_day: calls in a day.
        hashes_per_day: in a day.
        urgent_lookups_per_day: what stays for lookups with a life at risk once the ordinary budget is spent; 0: nothing.
        urgent_hashes_per_day: the same, in hashes.
    """

    lookups_per_minute: int = 6_000
    hashes_per_minute: int = 600_000
    lookups_per_day: int = 100_000
    hashes_per_day: int = 20_000_000
    urgent_lookups_per_day: int = 50
    urgent_hashes_per_day: int = 50_000


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, and why: what a rule is chosen by."""

    member: str
    roles: frozenset[str]
    purpose: Purpose


class Check(NamedTuple):
    """One reason for which a record could be withheld: whether it passes, and a sentence for the operator."""

    name: str
    passed: bool
    said: str


_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[rule]]` of the policy: whom it is for, what they may ask, what they are told. What is not said is as below.

    Attributes:
        name: for the log, budgets and `vidfed node policy explain`; no other rule has it.
        members: ids of the members it is for, or "*" for every member of the trust directory.
        purposes: why they may ask; at least one.
        roles: of the person who asks, by the credential; one of them is enough. Empty: any person of these members.
        algorithms: that are searched for them.
        max_distance: for single algorithms, how far apart at most. Others: as far as anybody may ask.
        distances: "exact" tells each hit's distance; "bands" tells only in which of few bands it lies, searches no farther than the usual
            distance, and keeps a hash from being worked out by asking again and again.
        categories: only records of these categories are told, each `{ scale, region, values }`. Not said: whatever the category.
        without_category: where `categories` are said: whether records without one are told too.
        handling_codes: only records with one of these are told.
        withheld_series: records of these series are not told; upper and lower case are the same.
        withheld_tags: records with one of these tags are not told; upper and lower case are the same.
        max_hits_per_item: of more records for one item the nearest are told, and the answer says that there are more; 1,000 at most.
        max_records_age_hours: where the oldest source was read longer ago than this, nothing is answered; 0: whatever their age. Records
            that no source is in charge of have no age.
        limits: the budgets, each a setting of the rule.
    """

    name: str
    members: frozenset[str]
    purposes: frozenset[Purpose]
    roles: frozenset[str] = frozenset()
    algorithms: frozenset[Algorithm] = frozenset(Algorithm)
    max_distance: Mapping[Algorithm, int] = field(default_factory=lambda: MappingProxyType({}))
    distances: Distances = Distances.EXACT
    categories: frozenset[Category] | None = None
    without_category: bool = False
    handling_codes: frozenset[HandlingCode] = frozenset(HandlingCode)
    withheld_series: frozenset[str] = frozenset()
    withheld_tags: frozenset[str] = frozenset()
    max_hits_per_item: int = 20
    max_records_age_hours: int = 0
    limits: Limits = Limits()

    def mismatch(self, asker: Requester) -> str:
        """Return why this rule is not for this asker, or nothing if it is."""
        if not self.names(asker.member):
            return f"member {asker.member} is not named"
        if self.roles and not self.roles & asker.roles:
            return f"roles: {_listed(asker.roles) or 'none'}, needed is one of {_listed(self.roles)}"
        if asker.purpose not in self.purposes:
            return f"purpose {asker.purpose.code} is not allowed"
        return ""

    def names(self, member: str) -> bool:
        """Tell whether this rule is for the member."""
        return member in self.members or EVERY_MEMBER in self.members

    def too_old(self, as_of_ms: int | None, now_ms: int) -> bool:
        """Tell whether records of this moment are older than this rule answers from; a moment after now is no better than one long ago."""
        if not self.max_records_age_hours or as_of_ms is None:
            return False
        return not 0 <= now_ms - as_of_ms <= self.max_records_age_hours * _HOUR_MS

    def covers(self, other: Rule) -> bool:
        """Tell whether this rule is for every asker that the other one is for."""
        members = EVERY_MEMBER in self.members or other.members <= self.members
        roles = not self.roles or (bool(other.roles) and other.roles <= self.roles)
        return members and roles and other.purposes <= self.purposes

    def reach(self, algorithm: Algorithm, distance: int) -> int | None:
        """Return how far is searched by this algorithm if this distance is asked for; None: not at all.

        With bands it is the edge of a band: asked again and again with other distances, the node tells nothing finer.
        """
        if algorithm not in self.algorithms:
            return None
        allowed = min(distance, self.max_distance.get(algorithm, algorithm.maximum_distance))
        if self.distances is Distances.BANDS:
            edges = band_edges(algorithm)
            return edges[bisect.bisect_right(edges, allowed) - 1]
        return allowed

    def limit(self, columns: Iterable[HashColumn]) -> tuple[HashColumn, ...]:
        """Return what of a question is searched: other algorithms are left out, larger distances cut."""
        reached = ((column, self.reach(column.algorithm, column.max_distance)) for column in columns)
        return tuple(
            column if distance == column.max_distance else replace(column, max_distance=distance)
            for column, distance in reached
            if distance is not None
        )

    def tell(self, match: Match) -> Match:
        """Return what is told of a match: its distance, or the upper edge of its band and how wide the band is."""
        if self.distances is Distances.EXACT or not match.distance:
            return match
        edges = band_edges(match.algorithm)
        place = bisect.bisect_left(edges, match.distance)
        return replace(match, distance=edges[place], slack=edges[place] - edges[place - 1] - 1)

    def checks(self, member: str, record: Record) -> Iterator[Check]:
        """Yield everything that a record must pass for this member to be told of it."""
        yield Check("sharing", record.visible_to(member), f"the record's own rule: {record.sharing or 'whoever the policy allows'}")
        code = record.handling_code
        yield Check("handling", code in self.handling_codes, f"{code.name}; told are {_listed(each.name for each in self.handling_codes)}")
        yield self._category_check(record)
        series = record.series.strip().casefold()
        yield Check("series", series not in self.withheld_series, f"{record.series or 'none'}; {_withheld(self.withheld_series)}")
        tags = self.withheld_tags.intersection(tag.strip().casefold() for tag in record.tags)
        yield Check("tags", not tags, f"{_listed(record.tags) or 'none'}; {_withheld(self.withheld_tags)}")

    def tells(self, member: str, record: Record) -> bool:
        """Tell whether this member is told of a record that is found."""
        return all(check.passed for check in self.checks(member, record))

    def _category_check(self, record: Record) -> Check:
        category = Category(record.category_scale, record.category_region, record.category)
        if self.categories is None:
            return Check("category", passed=True, said=f"{category if category.value else 'none'}; all are told")
        told = f"told are {_listed(map(str, self.categories)) or 'none'}" + (", and those without one" if self.without_category else "")
        if not category.value:
            return Check("category", self.without_category, f"none; {told}")
        return Check("category", category in self.categories, f"{category}; {told}")


SELF_TEST_RULE = Rule(
    "(self-test)",
    frozenset({EVERY_MEMBER}),
    frozenset({Purpose.SELF_TEST}),
    max_hits_per_item=1,
    limits=Limits(
        lookups_per_minute=60,
        hashes_per_minute=600,
        lookups_per_day=5_000,
        hashes_per_day=20_000,
        urgent_lookups_per_day=0,
        urgent_hashes_per_day=0,
    ),
)
"""By which every member's self-tests are answered, whatever the policy: they search the node's canary, and tell nothing of any record."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in order. Without any, nobody is answered."""

    rules: tuple[Rule, ...] = ()

    def decide(self, asker: Requester) -> Rule | None:
        """Return the rule that decides, or None: refused."""
        return next((rule for rule in self.rules if not rule.mismatch(asker)), None)

    def refusal(self, asker: Requester) -> str:
        """Return for the operator why no rule is for this asker."""
        named = [rule for rule in self.rules if rule.names(asker.member)]
        if not named:
            return f"member {asker.member} is not answered by this node's policy"
        if all(rule.roles and not rule.roles & asker.roles for rule in named):
            return f"no rule answers a person of {asker.member} with the roles {_listed(asker.roles) or 'none'}"
        return f"purpose {asker.purpose.code} is not answered for {asker.member} by this node's policy"

    def unreachable(self) -> Iterator[tuple[Rule, Rule]]:
        """Yield each rule that never decides, and the earlier one that always decides before it."""
        for number, rule in enumerate(self.rules):
            if earlier := next((other for other in self.rules[:number] if other.covers(rule)), None):
                yield rule, earlier

    def members(self) -> frozenset[str]:
        """Return the ids of all members that some rule names, "*" included."""
        return frozenset[str]().union(*(rule.members for rule in self.rules))

    def strangers(self, members: Iterable[str]) -> list[str]:
        """Return the ids that some rule names and that are not among these members."""
        return sorted(self.members() - {EVERY_MEMBER} - set(members))

    def to_json(self) -> str:
        """Return the rules as JSON that is equal for equal policies, for the audit log and for comparing."""
        return json.dumps([_fields(rule) for rule in self.rules], sort_keys=True, ensure_ascii=False)


class PolicySource(Protocol):
    """Where the policy in force comes from; `taken_ms` is since when it is in force."""

    taken_ms: int

    def current(self) -> Policy:
        """Return the policy in force now."""


def band_edges(algorithm: Algorithm) -> list[int]:
    """Return the upper edges of an algorithm's bands, rising: equal, half the usual distance, the usual one."""
    usual = algorithm.default_distance
    return sorted({0, usual // 2, usual})


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _withheld(names: frozenset[str]) -> str:
    return f"withheld are {_listed(names)}" if names else "none is withheld"


def _fields(rule: Rule) -> dict[str, object]:
    fields: dict[str, object] = {name: getattr(rule, name) for name in Rule.__slots__ if name != "limits"}
    return {name: _plain(value) for name, value in fields.items()} | asdict(rule.limits)


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted((_plain(entry) for entry in value), key=str)
    if isinstance(value, Mapping):
        return {key.value: distance for key, distance in value.items()}
    if isinstance(value, Purpose):
        return value.code
    if isinstance(value, HandlingCode):
        return value.name
    return value.value if isinstance(value, Enum) else value
