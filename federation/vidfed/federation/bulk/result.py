"""What is known after a bulk lookup, summed up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vidfed.federation.lookup.closing import Answered, Closing, Subject, close
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
from vidfed.federation.lookup.question import Shortfall
from vidfed.wire.values import IndexState, Searched, Share

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vidfed.federation.bulk.ranges import Range
    from vidfed.federation.bulk.store import BulkStore, Heard


@dataclass(frozen=True, slots=True)
class NodePart:
    """One member's part in a bulk lookup.

    Attributes:
        answered, unanswered: items.
        missing: where they are, as ranges of items.
        hits: records it knows, by exact or near hits.
        weak_hits: hits of it that say nothing by themselves.
        detail: why it did not answer, the last time.
        few: algorithms, by label, that few of its records carry: by these it cannot be said not to know something.
        answered_from_ms, answered_to_ms: when its answers came; None if there is none.
        more: items of which it holds more records than it told.
    """

    answered: int
    unanswered: int
    missing: tuple[Range, ...]
    hits: int
    weak_hits: int
    detail: str
    few: tuple[str, ...] = ()
    answered_from_ms: int | None = None
    answered_to_ms: int | None = None
    more: int = 0


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What is known after a bulk lookup. Known, weak, unseen and open make up `asked`.

    Attributes:
        asked: entries in all.
        different: different ones among them; each was asked once.
        known: entries with at least one exact or near hit.
        weak: entries with weak hits only: neither known nor unseen.
        unseen: entries that every node asked says, signed, it does not know.
        exact_only: entries asked by digests alone, so that changed copies of them were not looked for.
        open: entries without a hit that some node did not answer; what those nodes hold is not known.
        partial: entries, with or without a hit, that some node did not answer.
        not_asked: what could not be asked about, with the reason.
        nodes: members asked.
        closing: what there is to say at the end.
    """

    asked: int
    different: int
    known: int
    weak: int
    unseen: int
    exact_only: int
    open: int
    partial: int
    not_asked: Mapping[str, str]
    nodes: Mapping[str, NodePart]
    closing: Closing

    @property
    def complete(self) -> bool:
        """True if everything named was asked about in full, of every member, and all was answered; `closing` says what is missing."""
        return self.closing.complete

    @property
    def skipped(self) -> int:
        """How many could not be asked about."""
        return len(self.not_asked)

    def counts(self) -> dict[str, Any]:
        """Return the numbers, and each node's part, for scripts."""
        names = ("asked", "different", "known", "weak", "unseen", "exact_only", "open", "partial", "skipped")
        return {name: getattr(self, name) for name in names} | {"nodes": {name: asdict(node) for name, node in self.nodes.items()}}


def result_of(
    store: BulkStore,
    members: Sequence[str],
    said: Mapping[str, NodeOutcome],
    *,
    not_asked: Mapping[str, str] | None = None,
    left_out: Iterable[NodeOutcome] = (),
    directory: int = 0,
    noun: str = "items",
    now_ms: int | None = None,
) -> BulkResult:
    """Sum up what the store holds.

    Args:
        store: the answers.
        members: who was to answer.
        said: why members did not.
        not_asked: what could not be asked about, with the reason.
        left_out: members that were not asked, and why.
        directory: version of the trust directory known here; 0 if it is not to be compared with the nodes'.
        noun: what the entries are called.
        now_ms: the time; when the store was opened if None.
    """
    nodes, outcomes = {}, []
    times: list[tuple[int, int]] = []
    for member, ranges in store.answered(members).items():
        missing = tuple(ranges.missing(store.count))
        heard, outcome = store.heard(member), said.get(member)
        detail = f"{outcome.outcome.value} {outcome.detail}".strip() if outcome and missing else ""
        hits, weak = store.hit_count(member), store.hit_count(member, weak=True)
        unanswered = sum(each.size for each in missing)
        few = tuple(algorithm.label for algorithm in heard.few)
        more = store.more_count(member)
        nodes[member] = NodePart(len(ranges), unanswered, missing, hits, weak, detail, few, heard.first_ms, heard.last_ms, more)
        if missing:
            outcomes.append(outcome or NodeOutcome(member, Outcome.MISSING, "it has not answered", directory=heard.directory))
        else:
            outcomes.append(_whole(member, heard, hits, weak))
        if heard.first_ms is not None and heard.last_ms is not None:
            times.append((heard.first_ms, heard.last_ms))
    shortfalls, bare = store.asked_how()
    counts = store.counts(members)
    asked, skipped = store.entry_count, dict(not_asked or {})
    subject = Subject(asked, len(skipped), noun, shortfalls, bare, unanswered=counts.partial)
    answered_at = None
    if times:
        first_ms, last_ms = min(first for first, _ in times), max(last for _, last in times)
        answered_at = Answered.between(first_ms, last_ms, begun_ms=store.begun_ms, now_ms=now_ms or store.begun_ms)
    return BulkResult(
        asked,
        store.count,
        counts.known,
        counts.weak,
        asked - counts.known - counts.weak - counts.open,
        shortfalls[Shortfall.EXACT_ONLY] + bare,
        counts.open,
        counts.partial,
        skipped,
        nodes,
        close(subject, (*outcomes, *left_out), answered_at=answered_at, directory=directory),
    )


def _whole(member: str, heard: Heard, hits: int, weak: int) -> NodeOutcome:
    """Return the outcome of a member that has answered everything."""
    outcome = Outcome.MATCH if hits else Outcome.WEAK_MATCH if weak else Outcome.NO_MATCH
    searched = tuple(Searched(algorithm, algorithm.default_distance, Share.FEW) for algorithm in heard.few)
    return NodeOutcome(member, outcome, index=IndexState(0, 0, 0, searched), directory=heard.directory)
