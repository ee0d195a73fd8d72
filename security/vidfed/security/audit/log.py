"""The audit log: an append-only Merkle tree in a SQLite file or on a PostgreSQL server. An entry is on disk before `append` returns.

Many threads may append at once: whoever comes first commits for all that wait, so that one write to disk serves many replies.

Several processes of one member (a node's workers, gateway, commands; on PostgreSQL also of several hosts) append to the same log, each with
an `AuditLog` of its own, opened in that process: an open one must not be carried over a fork. A write begins by taking the one lock that
lets one process write at a time (BEGIN IMMEDIATE; an advisory lock on PostgreSQL), and then reads the tree's edge anew if another has
appended since. So positions are unique and without gaps over all processes, each process commits once for all its threads that wait, and
processes alternate, one commit each. Checkpoints are signed by whoever first finds the last one too old; the others adopt it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from vidfed.security.audit.entries import seal
from vidfed.security.audit.epochs import MAX_EPOCHS_SENT, EpochStart, is_binding
from vidfed.security.audit.merkle import Frontier, consistency_proof, inclusion_proof, read_frontier, tree_root
from vidfed.security.audit.notes import Checkpoint, epoch_after
from vidfed.security.audit.storage.group_commit import GroupCommit, PendingWrite
from vidfed.security.audit.storage.tables import Storage, thin_checkpoints
from vidfed.security.clock import HOUR_MS, Clock, system_clock
from vidfed.security.errors import AuditDamagedError, AuditError
from vidfed.security.files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vidfed.security.audit.entries import AuditEntry
    from vidfed.security.audit.storage.protocol import Transaction
    from vidfed.security.crypto.keys import Signer

_MAX_BATCH = 5_000  # entries in one commit: bounds memory, and how long the first of them waits


class LogPosition(NamedTuple):
    """Where an entry is: its position, from 0, and the 32-byte commitment that is its leaf."""

    position: int
    commitment: bytes


class AuditLog:
    """One member's log, opened for appending. Safe from several threads and processes."""

    def __init__(
        self, location: Path | str, origin: str, signer: Signer, *, beside: Path | None = None, clock: Clock = system_clock
    ) -> None:
        """Open the log, making it if absent, and compare it with its own last checkpoint, in the database and beside it.

        Args:
            location: a SQLite file or a `postgresql://` URL.
            origin: the log's name in its first epoch, see `notes.log_origin`; the attribute `origin` is that of the present one.
            signer: the member's audit key.
            beside: a file for a copy of the last checkpoint, outside the database; by default that of a SQLite file with suffix
                `.checkpoint`, and for a server none.
            clock: gives the time of checkpoints.

        Raises:
            AuditDamagedError: the log is not what its last checkpoint says; it must not be continued.
            AuditError: it cannot be opened.
        """
        self.storage = Storage(location, origin)
        self.origin = self.storage.about[1]
        self._first = origin
        self._signer = signer
        self._clock = clock
        self._beside = beside or (None if isinstance(location, str) else location.with_suffix(".checkpoint"))
        self._group_commit = GroupCommit()
        self._frontier = Frontier()
        self._closed = False
        try:
            self._latest = self._check_last()
        except BaseException:
            self.storage.close()
            raise

    def __len__(self) -> int:
        return self.storage.size()

    def append(self, entry: AuditEntry) -> LogPosition:
        """Write one entry; it is on disk when this returns.

        Raises:
            AuditError: it was not written; the caller must not answer.
        """
        return self.append_many((entry,))[0]

    def append_many(self, entries: Sequence[AuditEntry]) -> list[LogPosition]:
        """Write entries one after the other, all or none.

        Raises:
            AuditError: none was written.
        """
        own = PendingWrite([seal(entry) for entry in entries])
        if own.entries and self._group_commit.acquire(own):
            self._write_batch(own)
        if own.error is not None:
            raise AuditError(str(own.error)) from own.error
        return [LogPosition(own.first + offset, entry.commitment) for offset, entry in enumerate(own.entries)]

    def checkpoint(self, *, max_age_ms: int = 0) -> Checkpoint:
        """Sign the log's present state, or return the last checkpoint if nothing was added since.

        Args:
            max_age_ms: a checkpoint younger than this will do too, whichever process signed it.

        Raises:
            AuditError: it cannot be kept; then it is not given out either.
        """
        with self.changing() as transaction:
            self._catch_up()
            now_ms, size = self._clock(), self._frontier.size
            stored = self.storage.latest_checkpoint()
            if stored is not None:
                found = self._latest = Checkpoint.parse(stored[1])
                if found.origin == self.origin and (found.size == size or 0 <= now_ms - stored[0] < max_age_ms):
                    return found
            signed = Checkpoint(self.origin, size, self._frontier.root()).signed_by(self._signer)
            transaction.insert("checkpoints", [(size, now_ms, signed.text)])
            if stored is not None and stored[0] // HOUR_MS != now_ms // HOUR_MS:
                thin_checkpoints(transaction, now_ms)
            # A copy outside the database: who puts an old database back must find and change this too, and the witnesses. Written while no
            # other process can write a newer one.
            if self._beside is not None:
                try:
                    write_private(self._beside, signed.text.encode())
                except OSError as error:
                    raise AuditError(f"{self._beside}: {error.strerror}") from None
        self._latest = signed
        return signed

    @property
    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint this process signed or found, None before the first."""
        return self._latest

    def announcements(self) -> list[str]:
        """Return the signed announcements of the epochs after the first, oldest first, as many as travel with a checkpoint."""
        return self.storage.epochs()[-MAX_EPOCHS_SENT:]

    def is_bound_by(self, checkpoint: Checkpoint) -> bool:
        """Tell whether the log must continue this state of its own: not where an epoch begun since announced the loss of its entries."""
        epoch = epoch_after(self._first, checkpoint.origin)
        return epoch is None or is_binding(checkpoint, epoch, [EpochStart.parse(text) for text in self.storage.epochs()])

    def prove_inclusion(self, position: int, size: int) -> list[bytes]:
        """Return the proof that the entry is in the log's first `size` entries.

        Raises:
            ProofError: it is not.
            AuditError: the log cannot be read, or is damaged.
        """
        self._check_size(size)
        return inclusion_proof(self.storage.read_hashes, position, size)

    def prove_consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the first `new` entries only add to the first `old`.

        Raises:
            ProofError: there is none.
            AuditError: the log cannot be read, or is damaged.
        """
        self._check_size(new)
        return consistency_proof(self.storage.read_hashes, old, new)

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` entries."""
        self._check_size(size)
        return tree_root(self.storage.read_hashes, size)

    def drop(self, positions: Sequence[int] = (), *, before: int = 0) -> int:
        """Drop salts and bodies of single entries, and of all before a position; leaves stay. Say so in the log first.

        Returns:
            How many entries lost their content.

        Raises:
            AuditError: nothing was dropped.
        """
        statement = "UPDATE entries SET salt = NULL, case_salt = NULL, body = NULL WHERE body IS NOT NULL AND "
        with self.changing() as transaction:
            dropped = transaction.execute(statement + "position < ?", (before,))
            for position in positions:
                dropped += transaction.execute(statement + "position = ?", (position,))
        self.storage.forget_deleted()
        return dropped

    @contextlib.contextmanager
    def changing(self) -> Iterator[Transaction]:
        """Hold the write lock, and give a transaction for the tables beside the tree.

        Raises:
            AuditError: nothing was changed.
        """
        own = PendingWrite()
        self._group_commit.acquire(own)
        self._group_commit.take_batch(own, 0)
        try:
            with self.storage.writing() as transaction:
                yield transaction
        finally:
            self._group_commit.release()

    def close(self) -> None:
        """Sign a last checkpoint and close. Closing twice is closing once."""
        if self._closed:
            return
        self._closed = True
        try:
            if len(self):
                self.checkpoint()
        finally:
            self.storage.close()

    def _write_batch(self, own: PendingWrite) -> None:
        """Write this caller's entries and those of the callers that wait, in one transaction."""
        batch = self._group_commit.take_batch(own, _MAX_BATCH)
        error: AuditError | None = AuditError("audit log: interrupted")
        try:
            self._write(batch)
            error = None
        except AuditError as failure:
            error = failure
        finally:
            self._group_commit.finish(own, batch, error)
            self._group_commit.release()

    def _write(self, batch: list[PendingWrite]) -> None:
        with self.storage.writing() as transaction:
            self._catch_up()
            edge = self._frontier.copy()  # replaces the present one only when all is on disk
            rows: list[tuple[object, ...]] = []
            hashes: list[tuple[object, ...]] = []
            for waiting in batch:
                waiting.first = edge.size
                for entry in waiting.entries:
                    rows.append((edge.size, *entry))
                    hashes += edge.append(entry.leaf_hash)
            transaction.insert("entries", rows)
            transaction.insert("hashes", hashes)
        self._frontier = edge

    def _catch_up(self) -> None:
        """Read the tree's edge if another process has appended since. Called inside a writing transaction."""
        size = self.storage.size()
        if size < self._frontier.size:
            raise AuditDamagedError(f"{self.storage.name}: {size} entries are left of {self._frontier.size}: the log was cut while in use")
        if size != self._frontier.size:
            self._frontier = read_frontier(self.storage.read_hashes, size)

    def _check_last(self) -> Checkpoint | None:
        known = [self._stored_checkpoint()]
        if self._beside is not None and self._beside.exists():
            known.append(Checkpoint.parse(self._beside.read_text(encoding="utf-8")))
        found = [checkpoint for checkpoint in known if checkpoint is not None]
        size = self.storage.size()
        for checkpoint in found:
            if not self.is_bound_by(checkpoint):
                continue
            if (
                epoch_after(self._first, checkpoint.origin) is None
                or checkpoint.size > size
                or self.root(checkpoint.size) != checkpoint.root
            ):
                raise AuditDamagedError(
                    f"{self.storage.name}: the log has {size} entries and is not what its checkpoint of {checkpoint.size} entries says. "
                    "It was edited, cut, or replaced by an older copy, and must not be continued: `vidfed audit verify` says more; "
                    "after a loss the way on is `vidfed audit new-epoch`"
                )
        return max((each for each in found if each.origin == self.origin), key=lambda checkpoint: checkpoint.size, default=None)

    def _stored_checkpoint(self) -> Checkpoint | None:
        stored = self.storage.latest_checkpoint()
        return Checkpoint.parse(stored[1]) if stored else None

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= (have := self.storage.size()):
            raise AuditError(f"the log has {have} entries, not {size}")
