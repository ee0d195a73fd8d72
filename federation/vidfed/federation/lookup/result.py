"""What there is to say about all nodes together. Pure.

Whatever is not a signed answer to the whole question makes the result incomplete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfed.federation.lookup.agreement import SeriesTable, Statement, conflicts
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.federation.lookup.agreement import Conflict, SharedSeries
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
    """

    items: tuple[Item, ...]
    nodes: tuple[NodeOutcome, ...]
    lookup: str = ""
    collecting_until_ms: int = 0
    whole: bool = True

    @property
    def hits(self) -> list[FoundHit]:
        """All hits, what helps most first within each item."""
        return sorted((hit for node in self.nodes for hit in node.hits), key=lambda hit: hit.usefulness)

    @property
    def shared_series(self) -> list[SharedSeries]:
        """The series that several members hold."""
        return SeriesTable(map(Statement.of_hit, self.hits)).shared()

    @property
    def conflicts(self) -> list[Conflict]:
        """Where members contradict each other, by item."""
        return conflicts(map(Statement.of_hit, self.hits))

    @property
    def asked_count(self) -> int:
        """How many nodes were to be asked."""
        return len(self.nodes)

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
        """True if every node asked gave a signed answer to the whole question. False if nobody was asked, or not about everything."""
        return self.whole and bool(self.nodes) and all(node.outcome.answered for node in self.nodes)

    @property
    def refused(self) -> bool:
        """True if every node asked refused."""
        return bool(self.nodes) and all(node.outcome.refused for node in self.nodes)

    @property
    def unanswered(self) -> list[NodeOutcome]:
        """The nodes without a whole signed answer."""
        return [node for node in self.nodes if not node.outcome.answered]


def merge(parts: Sequence[LookupResult]) -> LookupResult:
    """Join the results of a question that was asked in parts: items in order, and for each node the worst that happened to it.

    A node that was not asked about every part (the directory may change in between) has not answered the whole question.
    """
    items: list[Item] = []
    nodes: dict[str, NodeOutcome] = {}
    failed: dict[str, int] = {}
    members = dict.fromkeys(node.member for part in parts for node in part.nodes)
    for part in parts:
        offset = len(items)
        items += part.items
        asked = {node.member for node in part.nodes}
        absent = (NodeOutcome(member, Outcome.MISSING, "not asked") for member in members if member not in asked)
        for node in (*part.nodes, *absent):
            failed[node.member] = failed.get(node.member, 0) + (not node.outcome.answered)
            shifted = replace(
                node,
                hits=tuple(replace(hit, item=hit.item + offset) for hit in node.hits),
                truncated_items=tuple(item + offset for item in node.truncated_items),
            )
            before = nodes.get(node.member)
            nodes[node.member] = shifted if before is None else _joined(before, shifted)
    if len(parts) > 1:
        for member, count in failed.items():
            if count:
                detail = f"{count} of {len(parts)} parts unanswered: {nodes[member].detail}".rstrip(": ")
                nodes[member] = replace(nodes[member], detail=detail)
    return LookupResult(tuple(items), tuple(nodes.values()))


def _joined(before: NodeOutcome, after: NodeOutcome) -> NodeOutcome:
    worst = next((node for node in (before, after) if not node.outcome.answered), None)
    if worst is None:
        worst = next((node for node in (before, after) if node.outcome is Outcome.MATCH), after)
    return replace(
        worst,
        index=after.index or before.index,
        hits=before.hits + after.hits,
        truncated_items=before.truncated_items + after.truncated_items,
    )
