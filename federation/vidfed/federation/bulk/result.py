"""What is known after a bulk lookup, summed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vidfed.federation.bulk.ranges import Range
    from vidfed.federation.bulk.store import BulkStore
    from vidfed.federation.lookup.outcome import NodeOutcome


@dataclass(frozen=True, slots=True)
class NodePart:
    """One member's part in a bulk lookup.

    Attributes:
        answered, unanswered: items.
        missing: where they are, as ranges of items.
        hits: records it knows.
        detail: why it did not answer, the last time.
    """

    answered: int
    unanswered: int
    missing: tuple[Range, ...]
    hits: int
    detail: str


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What is known after a bulk lookup.

    Attributes:
        asked: entries in all.
        different: different ones among them; each was asked once.
        known: entries with at least one hit.
        unseen: entries that every node asked says, signed, it does not know.
        exact_only: entries asked by digests alone, so that changed copies of them were not looked for.
        open: entries without a hit that some node did not answer; what those nodes hold is not known.
        partial: entries, with or without a hit, that some node did not answer.
        skipped: what could not be asked about.
        nodes: by member.
    """

    asked: int
    different: int
    known: int
    unseen: int
    exact_only: int
    open: int
    partial: int
    skipped: int
    nodes: Mapping[str, NodePart]

    @property
    def complete(self) -> bool:
        """True if every node answered everything."""
        return self.asked > 0 and self.partial == 0


def result_of(store: BulkStore, members: Sequence[str], said: Mapping[str, NodeOutcome], *, skipped: int = 0) -> BulkResult:
    """Sum up what the store holds.

    Args:
        store: the answers.
        members: who was to answer.
        said: why members did not.
        skipped: what could not be asked about.
    """
    nodes = {}
    for member, ranges in store.answered(members).items():
        missing = tuple(ranges.missing(store.count))
        outcome = said.get(member)
        detail = f"{outcome.outcome.value} {outcome.detail}".strip() if outcome and missing else ""
        nodes[member] = NodePart(len(ranges), sum(each.size for each in missing), missing, store.hit_count(member), detail)
    asked = store.entry_count
    known, still_open, partial = store.counts(members)
    return BulkResult(asked, store.count, known, asked - known - still_open, store.exact_only_count, still_open, partial, skipped, nodes)
