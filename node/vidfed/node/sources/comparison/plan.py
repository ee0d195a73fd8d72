"""What a source's statements mean for the records taken from it: new, changed, unchanged, lost; and when to ask. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from vidfed.node.records.upsert.repeated import Repeats
from vidfed.node.sources.errors import SuspiciousError
from vidfed.node.sources.rows.statement import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vidfed.node.sources.rows.statement import Statement

ASK_ABOVE_SHARE = 0.05
"""Of a source's live records: losing more in one run is more often a wrong or half-filled database than the truth."""
ALWAYS_LOST = 20
"""Records: so many may always go, or a small source would ask about every single one. All of them never go unasked."""
REASONS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Known:
    """A record taken from the source earlier.

    Attributes:
        record_id: its number in the store.
        fingerprint: of the statement it was made from.
        is_live: not retracted.
        is_erased: erased here; it is never taken in again.
    """

    record_id: int
    fingerprint: bytes
    is_live: bool
    is_erased: bool = False


@dataclass(slots=True)
class RunReport:
    """What a run found.

    Attributes:
        rows: read at the source.
        new, changed, unchanged: live items.
        back: of those changed, how many had been retracted and are there again.
        deleted: taken back by the source in so many words.
        vanished: known here and no longer there; only a full comparison can tell.
        unmatched_deletions: taken back by the source and not known here.
        lost_hashes: known here, and their row cannot be used any more.
        passed_over: rows that cannot be used, with `reasons`.
        erased: rows about records that were erased here and stay so.
        repeated: rows whose key an earlier row of the run had; the first one's word stands.
        noted: values left out of rows that were used.
        repeats: what came of perceptual hashes that are on many unrelated items.
    """

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    back: int = 0
    deleted: int = 0
    unmatched_deletions: int = 0
    vanished: int = 0
    lost_hashes: int = 0
    passed_over: int = 0
    erased: int = 0
    repeated: int = 0
    noted: int = 0
    repeats: Repeats = field(default_factory=Repeats)
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """How many records the source no longer stands behind."""
        return self.deleted + self.vanished + self.lost_hashes

    def pass_over(self, reason: str) -> None:
        """Count a row that cannot be used."""
        self.passed_over += 1
        self.reason(reason)

    def reason(self, words: str) -> None:
        """Count a reason; of many different ones the first few are kept by name."""
        if words in self.reasons or len(self.reasons) < REASONS_SHOWN:
            self.reasons[words] = self.reasons.get(words, 0) + 1
        else:
            self.reasons["other reasons"] = self.reasons.get("other reasons", 0) + 1

    def to_fields(self) -> dict[str, object]:
        """Return the JSON form."""
        return asdict(self)


class Seen:
    """Which records a run has met: one bit each."""

    def __init__(self, last_id: int) -> None:
        """Begin.

        Args:
            last_id: the highest number of any record.
        """
        self._bits = bytearray(last_id // 8 + 1)

    def add(self, record_id: int) -> bool:
        """Remember a record; return whether it is met for the first time."""
        place, bit = record_id >> 3, 1 << (record_id & 7)
        if self._bits[place] & bit:
            return False
        self._bits[place] |= bit
        return True

    def __contains__(self, record_id: int) -> bool:
        """Return whether the run has met the record."""
        return bool(self._bits[record_id >> 3] & (1 << (record_id & 7)))


class Comparison:
    """Compares one run's statements with what is known."""

    def __init__(self, report: RunReport, seen: Seen, *, journal: bool = False) -> None:
        """Begin.

        Args:
            report: where to count.
            seen: empty.
            journal: the source tells changes, and what it says last about a key is what stands; else a key occurs once.
        """
        self.report = report
        self.seen = seen
        self._journal = journal
        self._previous: frozenset[str] = frozenset()

    def changes(self, statements: Iterable[Statement], known: Mapping[str, Known]) -> Iterator[Statement]:
        """Yield what must be done: statements that are new or differ, and those that take a live record back.

        Args:
            statements: a batch of the source's, keys that are close together in the order of reading being in the same batch or the next.
            known: what is known of these keys.
        """
        report = self.report
        batch: set[str] = set()
        for statement in statements:
            key, record = statement.key, known.get(statement.key)
            report.rows += 1
            first = record is None or record.is_erased or self.seen.add(record.record_id)
            if not self._journal and (not first or key in batch or key in self._previous):
                report.repeated += 1
                report.reason("the key occurs more than once: the first row stands; is it really a key?")
                continue
            batch.add(key)
            if record is not None and record.is_erased:
                report.erased += 1
                continue
            if statement.kind is Kind.LIVE:
                report.noted += len(statement.notes)
                if record is None:
                    report.new += 1
                elif first and record.is_live and record.fingerprint == statement.fingerprint:
                    report.unchanged += 1
                    continue
                else:
                    report.changed += 1
                    report.back += not record.is_live
                yield statement
                continue
            is_loss = record is not None and record.is_live
            if statement.kind is Kind.UNUSABLE:
                report.pass_over(statement.notes[0] if statement.notes else "cannot be used")
                report.lost_hashes += is_loss
            else:
                report.deleted += is_loss
                report.unmatched_deletions += record is None
            if is_loss:
                yield statement
        self._previous = frozenset(batch)


def check_losses(report: RunReport, live: int, *, share: float = ASK_ABOVE_SHARE, accepted: bool = False) -> None:
    """Return if a run may take back what it lost.

    Args:
        report: of the run.
        live: how many live records of the source there were before it.
        share: of them, 0 to 1, that may go without asking.
        accepted: a person has looked at it and agrees.

    Raises:
        SuspiciousError: it lost too much to be believed unasked.
    """
    lost = report.lost
    if accepted or not lost or not live:
        return
    if lost < live and lost <= max(ALWAYS_LOST, share * live):
        return
    parts = {"vanished": report.vanished, "deleted": report.deleted, "without a usable hash now": report.lost_hashes}
    said = ", ".join(f"{count} {words}" for words, count in parts.items() if count)
    raise SuspiciousError(
        f"{lost} of {live} records would be retracted ({said}); more than {max(ALWAYS_LOST, int(share * live))} at once, or all of them,"
        " are retracted only when a person agrees. Nothing was changed. Is it the right database, and is it complete?"
        " If so: vidfed node source sync NAME --accept-losses"
    )
