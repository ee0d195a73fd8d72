"""What there is to say about all nodes together. Pure.

Whatever is not a signed answer to the whole question makes the result incomplete; what is complete is decided in `closing`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from vidfed.federation.lookup.agreement import SeriesTable, Statement, conflicts
from vidfed.federation.lookup.closing import Closing, Subject, close
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
from vidfed.security.clock import SECOND_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vidfed.casework.news.book import RecordNews
    from vidfed.federation.lookup.agreement import Conflict, SharedSeries
    from vidfed.federation.lookup.closing import Answered
    from vidfed.federation.lookup.outcome import FoundHit
    from vidfed.federation.lookup.question import Item


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What all the nodes asked said about all the items.

    Attributes:
        items: what was asked about.
        nodes: one for each member asked.
        lookup: id under which later answers can be fetched; empty if nothing is kept.
        collecting_until_ms: until when the gateway takes late answers; 0 if nothing is kept.
        whole: False if only the first of the question's parts were ever asked, because asking was broken off; `items` are theirs.
        not_asked: the members that were not asked, and why: left out by the trust directory, or not chosen.
        failures: files that could not be asked about, with the reason.
        directory: version of the trust directory that said whom to ask.
        answered_at: when the answers were given; None if just now.
    """

    items: tuple[Item, ...]
    nodes: tuple[NodeOutcome, ...]
    lookup: str = ""
    collecting_until_ms: int = 0
    whole: bool = True
    not_asked: tuple[NodeOutcome, ...] = ()
    failures: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    directory: int = 0
    answered_at: Answered | None = None

    def with_failures(self, failures: Mapping[str, str]) -> LookupResult:
        """Return this with the files that could not be asked about and why, as `items_of_pictures` gives them: it is less complete."""
        return replace(self, failures=MappingProxyType({**self.failures, **failures}))

    def with_news(self, known: Mapping[tuple[str, str], RecordNews]) -> LookupResult:
        """Return this with what owners have said of its records since they answered, by member and reference."""

        def since(node: NodeOutcome, hit: FoundHit) -> RecordNews | None:
            news = known.get((node.member, hit.record.reference))
            searched_ms = node.index.current_ms if node.index else 0
            return news if news is not None and news.since_ms >= searched_ms else None

        nodes = (replace(node, hits=tuple(replace(hit, news=since(node, hit)) for hit in node.hits)) for node in self.nodes)
        return replace(self, nodes=tuple(nodes))

    @property
    def hits(self) -> list[FoundHit]:
        """The exact and near hits, what helps most first within each item."""
        return sorted((hit for node in self.nodes for hit in node.hits if not hit.weak), key=lambda hit: hit.usefulness)

    @property
    def weak_hits(self) -> list[FoundHit]:
        """The weak hits, which say nothing by themselves, the nearest first within each item."""
        return sorted((hit for node in self.nodes for hit in node.hits if hit.weak), key=lambda hit: hit.usefulness)

    @property
    def known_items(self) -> set[int]:
        """Items with an exact or near hit."""
        return {hit.item for hit in self.hits}

    @property
    def weak_items(self) -> set[int]:
        """Items with weak hits only: neither known nor unknown."""
        return {hit.item for hit in self.weak_hits} - self.known_items

    @property
    def closing(self) -> Closing:
        """What there is to say at the end."""
        shortfalls = Counter(shortfall for item in self.items for shortfall in item.shortfalls)
        bare = sum(item.exact_only and not item.shortfalls for item in self.items)
        noun = "files" if self.failures else "items"
        subject = Subject(len(self.items), len(self.failures), noun, shortfalls, bare, whole=self.whole)
        return close(subject, (*self.nodes, *self.not_asked), answered_at=self.answered_at, directory=self.directory)

    @property
    def shared_series(self) -> list[SharedSeries]:
        """The series that several members hold."""
        return SeriesTable(map(Statement.of_hit, self.hits)).shared()

    @property
    def conflicts(self) -> list[Conflict]:
        """Where members contradict each other, by item."""
        return conflicts(map(Statement.of_hit, self.hits))

    @property
    def clock_note(self) -> str:
        """Whose clock is wrong and by how much, as far as the answers tell; empty where all agree."""
        off = [node for node in self.nodes if node.outcome is Outcome.CLOCK]
        if not off:
            return ""
        agreeing = sum(node.outcome.verified for node in self.nodes)
        by = ", ".join(f"{node.member}'s {'+' if node.ahead_ms > 0 else '-'}{max(1, abs(node.ahead_ms) // SECOND_MS):,} s" for node in off)
        if agreeing:
            whose = f"{'that is' if len(off) == 1 else 'those are'} wrong, not this machine's, with which {agreeing} agree: call the member"
        elif len({node.ahead_ms > 0 for node in off}) == 1 and len(off) > 1:
            whose = "no member's clock agrees with this machine's, which is wrong: set it, and ask again"
        else:
            whose = "compare both with the correct time"
        return f"Clocks differ from this machine's: {by}; {whose}"

    @property
    def asked_count(self) -> int:
        """How many nodes were asked."""
        return len(self.closing.asked)

    @property
    def answered_count(self) -> int:
        """How many gave a signed answer to the whole question."""
        return sum(node.outcome.answered for node in self.nodes)

    @property
    def verified_count(self) -> int:
        """How many said something, signed, be it a refusal."""
        return sum(node.outcome.verified for node in self.nodes)

    @property
    def complete(self) -> bool:
        """True if everything named was asked about in full, of every member, and each gave a signed answer to the whole question.

        `closing` says what is missing.
        """
        return self.closing.complete

    @property
    def refused(self) -> bool:
        """True if every node asked refused."""
        return bool(self.nodes) and all(node.outcome.refused for node in self.nodes)

    @property
    def unanswered(self) -> list[NodeOutcome]:
        """The nodes asked without a whole signed answer."""
        return [node for node in self.nodes if not node.outcome.answered]


def merge(parts: Sequence[LookupResult]) -> LookupResult:
    """Join the results of a question that was asked in parts: items in order, and for each node the worst that happened to it.

    A node that was not asked about every part (the directory may change in between) has not answered the whole question.
    """
    items: list[Item] = []
    nodes: dict[str, NodeOutcome] = {}
    failed: dict[str, int] = {}
    members = dict.fromkeys(node.member for part in parts for node in part.nodes)
    not_asked = {node.member: node for part in parts for node in part.not_asked if node.member not in members}
    for part in parts:
        offset = len(items)
        items += part.items
        asked = {node.member for node in part.nodes}
        absent = (NodeOutcome(member, Outcome.MISSING, "not asked") for member in members if member not in asked)
        for node in (*part.nodes, *absent):
            failed[node.member] = failed.get(node.member, 0) + (not node.outcome.answered)
            moved = shifted(node, offset)
            before = nodes.get(node.member)
            nodes[node.member] = moved if before is None else _joined(before, moved)
    if len(parts) > 1:
        for member, count in failed.items():
            if count:
                detail = f"{count} of {len(parts)} parts unanswered: {nodes[member].detail}".rstrip(": ")
                nodes[member] = replace(nodes[member], detail=detail)
    directory = min((part.directory for part in parts), default=0)  # whom a part with an older one did not ask was not asked
    return LookupResult(tuple(items), tuple(nodes.values()), not_asked=tuple(not_asked.values()), directory=directory)


def together(one: LookupResult, other: LookupResult) -> LookupResult:
    """Return what different members said of the same items, some of them without the frames of films, as one result."""
    nodes = (*one.nodes, *other.nodes)
    names = {node.member for node in nodes}
    left_out = tuple(node for node in one.not_asked if node.member not in names)
    return replace(
        one,
        nodes=nodes,
        not_asked=left_out,
        collecting_until_ms=max(one.collecting_until_ms, other.collecting_until_ms),
        directory=min(one.directory, other.directory),
    )


def shifted(node: NodeOutcome, offset: int) -> NodeOutcome:
    """Return what a node said of one part as it counts in the whole, where `offset` items stand before that part's."""
    hits = tuple(replace(hit, item=hit.item + offset) for hit in node.hits)
    return replace(
        node,
        hits=hits,
        truncated_items=tuple(item + offset for item in node.truncated_items),
        frames_not_searched=tuple(each._replace(item=each.item + offset) for each in node.frames_not_searched),
    )


_FOUND = (Outcome.MATCH, Outcome.WEAK_MATCH, Outcome.NO_MATCH)


def _joined(before: NodeOutcome, after: NodeOutcome) -> NodeOutcome:
    worst = next((node for node in (before, after) if not node.outcome.answered), None)
    if worst is None:
        worst = min(before, after, key=lambda node: _FOUND.index(node.outcome))
    return replace(
        worst,
        directory=max(before.directory, after.directory),
        index=after.index or before.index,
        hits=before.hits + after.hits,
        truncated_items=before.truncated_items + after.truncated_items,
        frames_not_searched=before.frames_not_searched + after.frames_not_searched,
    )
