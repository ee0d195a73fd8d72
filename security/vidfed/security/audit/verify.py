"""Checking a whole log: every entry against its leaf, every leaf against the tree, the tree against every checkpoint known.

Anybody who can read the file can do this; nothing of what entries say is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from vidfed.security.audit.entries import Event, read_body
from vidfed.security.audit.epochs import EpochStart, is_binding
from vidfed.security.audit.merkle import Frontier
from vidfed.security.audit.notes import Checkpoint, epoch_after, witness_name
from vidfed.security.errors import AuditError, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vidfed.security.audit.entries import SealedEntry
    from vidfed.security.audit.storage.tables import Storage
    from vidfed.security.crypto.keys import PublicKey
    from vidfed.security.identity.directory import Directory

_MAX_FINDINGS = 50  # a log that is wrong everywhere says so soon enough


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A checkpoint of this log that somebody holds: the log itself, a file beside it, a witness, a receipt."""

    holder: str
    checkpoint: Checkpoint


@dataclass(slots=True)
class VerifyReport:
    """What checking found.

    Attributes:
        origin: whose log.
        entries: how many there are.
        opened: how many still have their content, and it is what their leaf says.
        dropped: how many had it dropped, announced in the log.
        checkpoints: how many were compared.
        root: over all entries.
        findings: what is wrong, one sentence each; empty if nothing is.
        notes: what is not wrong but should be known.
        vouched: who else cosigned a state that the log has: by member, of how many entries, and when in s; see `vouched_for`.
    """

    origin: str
    entries: int = 0
    opened: int = 0
    dropped: int = 0
    checkpoints: int = 0
    root: bytes = b""
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    vouched: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """True if nothing is wrong."""
        return not self.findings

    def find(self, text: str) -> None:
        """Add a finding."""
        if len(self.findings) < _MAX_FINDINGS:
            self.findings.append(text)


@dataclass(slots=True)
class DropsAnnounced:
    """Which entries may lack their content, by what the log itself says."""

    before: int = 0
    positions: set[int] = field(default_factory=set)

    def read(self, position: int, entry: SealedEntry) -> None:
        """Take note of one entry, if it announces that content is dropped. It can speak of earlier entries only."""
        if entry.body is None or not (b'"log-pruned"' in entry.body or b'"log-erased"' in entry.body):
            return
        fields = read_body(entry.body)
        if fields["event"] == Event.LOG_PRUNED.value:
            self.before = max(self.before, min(int(fields["details"]["before"]), position))
        elif fields["event"] == Event.LOG_ERASED.value:
            self.positions |= {int(named) for named in fields["details"]["positions"] if int(named) < position}

    def cover(self, position: int) -> bool:
        """Tell whether this entry's content may be missing."""
        return position < self.before or position in self.positions


def verify_log(storage: Storage, keys: Sequence[PublicKey], known: Iterable[KnownCheckpoint] = ()) -> VerifyReport:
    """Check a whole log.

    Args:
        storage: the log.
        keys: the member's audit keys, from the trust directory.
        known: checkpoints others hold; those in the log itself are always compared.

    Returns:
        What was found; an unreadable log is a finding, not an exception.
    """
    (_, origin), report = storage.about, VerifyReport(storage.about[1])
    checkpoints = _signed_checkpoints(storage, keys, known, report)
    drops = DropsAnnounced()
    missing: list[range] = []
    edge = Frontier()
    stored: dict[tuple[int, int], bytes] = {}
    try:
        stored = {(level, position): found for level, position, found in storage.stored_hashes()}
        _compare(checkpoints, edge, report)
        for position, entry in storage.entries(0, 1 << 62):
            if position != edge.size:
                report.find(f"entries {edge.size} to {position - 1} are gone")
                return report
            _check_content(position, entry, drops, missing, report)
            for level, place, expected in edge.append(entry.leaf_hash):
                if stored.pop((level, place), None) != expected:
                    report.find(f"the tree's stored hash {place} at level {level} is not that of its entries")
            _compare(checkpoints, edge, report)
    except AuditError as error:
        report.find(f"the log of {origin} cannot be read: {error}")
    report.entries, report.root = edge.size, edge.root()
    if stored:
        report.find(f"{len(stored)} stored hashes belong to entries that are gone")
    for size, holders in sorted(checkpoints.items()):
        for holder, _ in holders:
            report.find(f"the log has {edge.size} entries, but {holder} has a signed checkpoint of {size}: it was cut or put back")
    for position in chain.from_iterable(missing):
        if drops.cover(position):
            report.dropped += 1
        else:
            report.find(f"entry {position}: its content was removed, and no entry announces that")
    return report


def vouched_for(report: VerifyReport, known: Iterable[KnownCheckpoint], directory: Directory) -> dict[str, tuple[int, int]]:
    """Return by other member the largest state of this log that it cosigned: number of entries, and when in s.

    Only what holds under that member's key counts, whoever kept it, and only what the log continues; that was compared before.
    """
    found: dict[str, tuple[int, int]] = {}
    for member in directory.members.values():
        for entry in known:
            checkpoint = entry.checkpoint
            if report.holds and checkpoint.size <= report.entries and checkpoint.origin == report.origin:
                for cosigned in checkpoint.cosignatures(witness_name(directory.federation, member.id), member.audit_keys):
                    found[member.id] = max(found.get(member.id, (0, 0)), (checkpoint.size, cosigned.time_s))
    return found


def cosigned_s(checkpoint: Checkpoint, directory: Directory) -> int | None:
    """Return when another member first cosigned a state, in s; None if nobody did whose key the directory lists."""
    times = (
        cosigned.time_s
        for member in directory.members.values()
        for cosigned in checkpoint.cosignatures(witness_name(directory.federation, member.id), member.audit_keys)
    )
    return min(times, default=None)


def _check_content(position: int, entry: SealedEntry, drops: DropsAnnounced, missing: list[range], report: VerifyReport) -> None:
    if entry.body is None and entry.salt is None:
        # As ranges: retention drops millions in a row.
        if missing and missing[-1].stop == position:
            missing[-1] = range(missing[-1].start, position + 1)
        else:
            missing.append(range(position, position + 1))
    elif not entry.opens():
        report.find(f"entry {position}: its content is not what was logged")
    else:
        report.opened += 1
        drops.read(position, entry)


def _signed_checkpoints(
    storage: Storage, keys: Sequence[PublicKey], known: Iterable[KnownCheckpoint], report: VerifyReport
) -> dict[int, list[tuple[str, bytes]]]:
    """Return (holder, root) by size of all checkpoints that the log's key signed; one that it did not sign is a finding."""
    found = list(known)
    for _, note in storage.checkpoints():
        try:
            found.append(KnownCheckpoint("the log itself", Checkpoint.parse(note)))
        except CheckpointError as error:
            report.find(f"a checkpoint in the log is damaged: {error}")
    by_size: dict[int, list[tuple[str, bytes]]] = {}
    starts = _epochs(storage, keys, report)
    for entry in found:
        try:
            epoch = epoch_after(storage.first_origin, entry.checkpoint.origin)
            entry.checkpoint.verify(entry.checkpoint.origin if epoch else report.origin, keys)
        except CheckpointError as error:
            report.find(f"a checkpoint of {entry.checkpoint.size} entries held by {entry.holder}: {error}")
            continue
        if epoch is not None and not is_binding(entry.checkpoint, epoch, starts):
            continue  # of entries whose loss was announced
        report.checkpoints += 1
        by_size.setdefault(entry.checkpoint.size, []).append((entry.holder, entry.checkpoint.root))
    return by_size


def _epochs(storage: Storage, keys: Sequence[PublicKey], report: VerifyReport) -> list[EpochStart]:
    """Return the epochs that the log says it began; each is told, and one that it did not sign is a finding."""
    starts = []
    for text in storage.epochs():
        try:
            start = EpochStart.parse(text)
            start.verify(start.federation, start.member, keys)
        except CheckpointError as error:
            report.find(f"the log names an epoch that it did not announce: {error}")
            continue
        starts.append(start)
        report.notes.append(start.words)
    return starts


def _compare(checkpoints: dict[int, list[tuple[str, bytes]]], edge: Frontier, report: VerifyReport) -> None:
    for holder, root in checkpoints.pop(edge.size, ()):
        if root != edge.root():
            report.find(f"the first {edge.size} entries are not those of the signed checkpoint that {holder} has: the log was edited")
