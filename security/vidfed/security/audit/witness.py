"""A witness of other members' logs, by the rules of https://c2sp.org/tlog-witness, and the evidence it keeps.

Rules, in this order: the log is a member's; its signature holds; the old size is not above the new one; the old size is the one cosigned
last; at equal size the root is equal; the proof leads from the state cosigned last to the new one. Comparing and storing are one
transaction, or two requests at once could make the witness go back. What is signed by the log and yet refused is kept: it may prove a fork.

A log may begin a new epoch (see `epochs`) by an announcement that names a state of its predecessor not older than the one cosigned here.
That it did is kept for good. The state to start from is then the one cosigned, or where that was lost, what the announcement keeps.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.epochs import MAX_EPOCHS_SENT, EpochStart
from vidfed.security.audit.merkle import EMPTY_ROOT, verify_consistency
from vidfed.security.audit.notes import Checkpoint, epoch_of, witness_name
from vidfed.security.audit.storage.opening import open_database
from vidfed.security.audit.storage.protocol import create_tables
from vidfed.security.clock import SECOND_MS, Clock, system_clock
from vidfed.security.errors import AuditError, CheckpointError, ProofError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vidfed.security.audit.storage.protocol import Transaction
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import Directory, Member

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cosigned (member TEXT PRIMARY KEY, time_ms {int} NOT NULL, note TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evidence (
    id {counter}, member TEXT NOT NULL, kind TEXT NOT NULL, time_ms {int} NOT NULL, held TEXT NOT NULL, shown TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS epochs_seen (
    member TEXT NOT NULL, epoch {int} NOT NULL, time_ms {int} NOT NULL, held TEXT NOT NULL, announcement TEXT NOT NULL,
    PRIMARY KEY (member, epoch)
);
CREATE TABLE IF NOT EXISTS disagreements (witness TEXT PRIMARY KEY, since_ms {int} NOT NULL, said TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cosignatures (witness TEXT PRIMARY KEY, size {int} NOT NULL, time_ms {int} NOT NULL, note TEXT NOT NULL);
"""
_MAX_EVIDENCE = {"fork": 1_000, "unproven": 100}
"""Rows of one member, each kind by itself: a liar may not fill the disk, nor crowd a fork out with what proves less. The first count."""


@unique
class Refusal(Enum):
    """Why a witness does not cosign."""

    BAD_REQUEST = "malformed, or the old size is larger than the new one"
    FORBIDDEN = "not signed with a key of that log"
    UNKNOWN_LOG = "no log of any other member"
    CONFLICT = "not the state cosigned last, or the same size with another root"
    EPOCH = "another epoch than the one cosigned last, without an announcement that names the state cosigned last as what it follows"
    UNPROVEN = "the proof does not lead from the state cosigned last to this one"


class WitnessRefusalError(AuditError):
    """A witness does not cosign. `latest_size` is that of the checkpoint it cosigned last."""

    def __init__(self, refusal: Refusal, latest_size: int = 0) -> None:
        super().__init__(f"the witness does not cosign: {refusal.value}")
        self.refusal = refusal
        self.latest_size = latest_size


@dataclass(frozen=True, slots=True)
class EpochSeen:
    """A new epoch that a log announced here.

    Attributes:
        member: whose log.
        time_ms: when it was announced here.
        held: what had been cosigned here of the epoch before, None if nothing.
        start: the announcement.
    """

    member: str
    time_ms: int
    held: Checkpoint | None
    start: EpochStart


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Another member does not cosign the own log: since when (ms), and why, in words."""

    since_ms: int
    said: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two checkpoints that one log signed and that cannot both be true (`fork`), or of which it could not show that they are (`unproven`).

    Attributes:
        id: number.
        member: whose log.
        kind: `fork` or `unproven`.
        time_ms: when it was found.
        held: the note held here.
        shown: the note that contradicts it; both with the log's signature.
    """

    id: int
    member: str
    kind: str
    time_ms: int
    held: Checkpoint
    shown: Checkpoint


def _as_the_log_signed(checkpoint: Checkpoint) -> Checkpoint:
    """Return it without cosignatures, whose times differ: the same two states are evidence once."""
    return replace(checkpoint, signatures=tuple(signature for signature in checkpoint.signatures if signature.name == checkpoint.origin))


class Witness:
    """One member as witness of all others. Safe from several threads and processes."""

    def __init__(self, location: Path | str, *, federation: str, member: str, signer: Signer, clock: Clock = system_clock) -> None:
        """Open the memory in a SQLite file or at a `postgresql://` URL, making it if absent.

        Raises:
            AuditError: it cannot be opened.
        """
        self.federation = federation
        self.member = member
        self._signer = signer
        self._clock = clock
        self._lock = threading.Lock()
        self._database = open_database(location)
        try:
            if not self._database.has_table("cosignatures"):
                create_tables(self._database, _SCHEMA)
        except BaseException:
            self.close()
            raise

    def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: str, directory: Directory, caller: str, announcements: Sequence[str] = ()
    ) -> str:
        """Cosign a checkpoint and return the signature line, once it is remembered durably.

        Args:
            old_size: of the checkpoint that the log believes was cosigned last, 0 if none.
            proof: consistency proof from there.
            note: the checkpoint.
            directory: names the logs and their keys.
            caller: the member who hands it in, by its TLS certificate. Anybody may, but only the log's own failed proof speaks against it.
            announcements: those of the log's epochs, oldest first. Looked at where the checkpoint is of a later epoch than the one held;
                the proof then starts from the state held, or from what the announcement keeps if that is less.

        Raises:
            WitnessRefusalError: a rule is broken.
            AuditError: it cannot be remembered.
        """
        try:
            checkpoint = Checkpoint.parse(note)
        except CheckpointError:
            raise WitnessRefusalError(Refusal.BAD_REQUEST) from None
        member, checkpoint = self._verified(checkpoint, directory)
        if not 0 <= old_size <= checkpoint.size:
            raise WitnessRefusalError(Refusal.BAD_REQUEST)
        with self._writing() as database:
            held = self._held(database, member)
            starts = self._announced(database, checkpoint, held, announcements, directory.member(member))
            size, refusal, kind = self._judge(old_size, proof, checkpoint, held, starts)
            if refusal is None:
                for start in starts or ():
                    self._note_epoch(database, member, start.epoch, held, start.text)
                return self._cosign(database, member, checkpoint)
            if held and (kind == "fork" or (kind and caller == member)):
                self._keep(database, member, kind, held, checkpoint)
        # Raised after the transaction, which has kept the evidence.
        raise WitnessRefusalError(refusal, size)

    @staticmethod
    def _judge(
        old_size: int, proof: Sequence[bytes], checkpoint: Checkpoint, held: Checkpoint | None, starts: Sequence[EpochStart] | None
    ) -> tuple[int, Refusal | None, str]:
        """Return (size of the state to start from, why the checkpoint does not follow it or None, what kind of evidence that is)."""
        size, root = (held.size, held.root) if held else (0, EMPTY_ROOT)
        if starts is None:
            return size, Refusal.EPOCH, "unproven"
        if starts and (base := min(starts, key=lambda start: start.kept)).kept < size:
            size, root = base.kept, base.kept_root
        if held and not starts and checkpoint.size == held.size and checkpoint.root != held.root:
            return size, Refusal.CONFLICT, "fork"
        if old_size != size:
            return size, Refusal.CONFLICT, ""
        try:
            verify_consistency(size, checkpoint.size, root, checkpoint.root, proof)
        except ProofError:
            return size, Refusal.UNPROVEN, "unproven"
        return size, None, ""

    def compare(self, note: str, directory: Directory) -> tuple[str, Checkpoint, Checkpoint] | None:
        """Look at a checkpoint of a log that another witness was shown.

        Returns:
            None if it agrees with what is held here, or is known here to be false; else (member, the older, the newer), two checkpoints of
            which the log must still show that one continues the other.

        Raises:
            WitnessRefusalError: it is no member's, or the log did not sign it.
            AuditError: the memory cannot be read or written.
        """
        try:
            checkpoint = Checkpoint.parse(note)
        except CheckpointError:
            raise WitnessRefusalError(Refusal.BAD_REQUEST) from None
        member, checkpoint = self._verified(checkpoint, directory)
        with self._writing() as database:
            held = self._held(database, member)
            if held is not None and self._epoch(checkpoint) != self._epoch(held):
                # Each is a log by itself. One that began a new epoch elsewhere is not cosigned here in the old one any more.
                if self._epoch(checkpoint) > self._epoch_known(database, member, held):
                    self._note_epoch(database, member, self._epoch(checkpoint), held, "")
                return None
            if held is None or (checkpoint.size, checkpoint.root) == (held.size, held.root):
                return None
            if checkpoint.size == held.size:
                self._keep(database, member, "fork", held, checkpoint)
                return None
        return (member, held, checkpoint) if held.size < checkpoint.size else (member, checkpoint, held)

    def judge(self, member: str, older: Checkpoint, newer: Checkpoint, proof: Sequence[bytes] | None) -> bool:
        """Return whether the log showed that `newer` continues `older`; keep both as evidence if its proof does not.

        Args:
            member: whose log.
            older: signed by the log, the smaller one.
            newer: signed by the log.
            proof: what the log gave, None if it refused.
        """
        try:
            if proof is None:
                raise ProofError("none was given")
            verify_consistency(older.size, newer.size, older.root, newer.root, proof)
        except ProofError:
            with self._writing() as database:
                self._keep(database, member, "unproven", older, newer)
            return False
        return True

    def witnessed(self) -> dict[str, tuple[int, Checkpoint]]:
        """Return by member (time in ms, checkpoint with both signatures) of what was cosigned last."""
        return {
            row[0]: (row[1], Checkpoint.parse(row[2])) for row in self._fetch("SELECT member, time_ms, note FROM cosigned ORDER BY member")
        }

    def evidence(self) -> list[Evidence]:
        """Return what was kept, oldest first."""
        rows = self._fetch("SELECT id, member, kind, time_ms, held, shown FROM evidence ORDER BY id")
        return [
            Evidence(number, member, kind, time_ms, Checkpoint.parse(held), Checkpoint.parse(shown))
            for number, member, kind, time_ms, held, shown in rows
        ]

    def epochs(self, directory: Directory) -> list[EpochSeen]:
        """Return the new epochs that members' logs announced here, oldest first."""
        rows = self._fetch("SELECT member, time_ms, held, announcement FROM epochs_seen WHERE announcement != '' ORDER BY time_ms, member")
        return [
            EpochSeen(member, time_ms, Checkpoint.parse(held) if held else None, EpochStart.parse(text))
            for member, time_ms, held, text in rows
            if member in directory.members
        ]

    def note_disagreement(self, witness: str, said: str) -> None:
        """Remember that another member does not cosign the own log, and why. It is forgotten when it does."""
        with self._writing() as database:
            database.execute(
                "INSERT INTO disagreements VALUES (?, ?, ?) ON CONFLICT (witness) DO UPDATE SET said = excluded.said",
                (witness, self._clock(), said),
            )

    def disagreements(self) -> dict[str, Disagreement]:
        """Return by member who does not cosign the own log, since when and why."""
        rows = self._fetch("SELECT witness, since_ms, said FROM disagreements ORDER BY witness")
        return {witness: Disagreement(since_ms, said) for witness, since_ms, said in rows}

    def remember_cosignature(self, witness: str, checkpoint: Checkpoint) -> None:
        """Remember what another member cosigned of the own log; the newest of each is kept."""
        row = (witness, checkpoint.size, self._clock(), checkpoint.text)
        with self._writing() as database:
            database.execute("DELETE FROM disagreements WHERE witness = ?", (witness,))
            rows = database.fetch("SELECT note FROM cosignatures WHERE witness = ?", (witness,))
            known = Checkpoint.parse(rows[0][0]) if rows else None
            if known is None or (self._epoch(known), known.size) <= (self._epoch(checkpoint), checkpoint.size):
                database.execute("DELETE FROM cosignatures WHERE witness = ?", (witness,))
                database.insert("cosignatures", [row])

    def cosignatures(self) -> dict[str, tuple[int, Checkpoint]]:
        """Return by witness (time in ms, own checkpoint with its cosignature) of what others cosigned of the own log."""
        rows = self._fetch("SELECT witness, time_ms, note FROM cosignatures ORDER BY witness")
        return {row[0]: (row[1], Checkpoint.parse(row[2])) for row in rows}

    def close(self) -> None:
        """Close the memory."""
        with self._lock:
            self._database.close()

    def _verified(self, checkpoint: Checkpoint, directory: Directory) -> tuple[str, Checkpoint]:
        """Return whose log signed this, and the checkpoint with nothing but the log's signatures that hold: the rest says nothing here."""
        for member in directory.members.values():
            if member.id != self.member and epoch_of(checkpoint.origin, self.federation, member.id) is not None:
                try:
                    return member.id, checkpoint.verify(checkpoint.origin, member.audit_keys)
                except CheckpointError:
                    raise WitnessRefusalError(Refusal.FORBIDDEN) from None
        raise WitnessRefusalError(Refusal.UNKNOWN_LOG)

    @staticmethod
    def _epoch(checkpoint: Checkpoint) -> int:
        """Return the epoch of a state of some member's log: what its name ends in."""
        number = checkpoint.origin.rpartition("/")[2]
        return int(number) if number.isdecimal() else 1

    def _epoch_known(self, database: Transaction, member: str, held: Checkpoint | None) -> int:
        """Return the latest epoch of which is known here that the log began it."""
        ((seen,),) = database.fetch("SELECT max(epoch) FROM epochs_seen WHERE member = ?", (member,))
        return max(seen or 1, self._epoch(held) if held else 1)

    def _announced(
        self, database: Transaction, checkpoint: Checkpoint, held: Checkpoint | None, announcements: Sequence[str], member: Member
    ) -> list[EpochStart] | None:
        """Return the announcements by which this checkpoint's epoch follows the one held here: none if it is the same, or nothing is held.

        None if they do not lead there. The log may have begun several since; what it keeps is then the least of what each kept.
        """
        epoch, before = self._epoch(checkpoint), self._epoch(held) if held else 1
        if epoch < self._epoch_known(database, member.id, held):
            return None
        if epoch == before:
            return []
        try:
            starts = [start for start in map(EpochStart.parse, announcements[-MAX_EPOCHS_SENT:]) if before < start.epoch <= epoch]
            for start in starts:
                start.verify(self.federation, member.id, member.audit_keys)
        except CheckpointError:
            return None if held else []
        starts.sort(key=lambda start: start.epoch)
        if held is None:
            return starts
        if not starts or starts[-1].epoch != epoch:
            return None
        return starts if any(start.names(held.size, before) for start in starts) else None

    def _note_epoch(self, database: Transaction, member: str, epoch: int, held: Checkpoint | None, announcement: str) -> None:
        database.execute("DELETE FROM epochs_seen WHERE member = ? AND epoch = ?", (member, epoch))
        database.insert("epochs_seen", [(member, epoch, self._clock(), held.text if held else "", announcement)])

    def _cosign(self, database: Transaction, member: str, checkpoint: Checkpoint) -> str:
        now_ms = self._clock()
        line = checkpoint.cosigned_by(witness_name(self.federation, self.member), self._signer, now_ms // SECOND_MS)
        both = checkpoint.with_signatures([line])
        database.execute(
            "INSERT INTO cosigned VALUES (?, ?, ?) ON CONFLICT (member) DO UPDATE SET time_ms = excluded.time_ms, note = excluded.note",
            (member, now_ms, both.text),
        )
        return line.line

    def _held(self, database: Transaction, member: str) -> Checkpoint | None:
        rows = database.fetch("SELECT note FROM cosigned WHERE member = ?", (member,))
        return Checkpoint.parse(rows[0][0]) if rows else None

    def _keep(self, database: Transaction, member: str, kind: str, held: Checkpoint, shown: Checkpoint) -> None:
        row = (kind, _as_the_log_signed(held).text, _as_the_log_signed(shown).text)
        ((count,),) = database.fetch("SELECT count(*) FROM evidence WHERE member = ? AND kind = ?", (member, kind))
        known = database.fetch("SELECT 1 FROM evidence WHERE member = ? AND kind = ? AND held = ? AND shown = ? LIMIT 1", (member, *row))
        if not known and count < _MAX_EVIDENCE[kind]:
            database.execute(
                "INSERT INTO evidence (member, kind, time_ms, held, shown) VALUES (?, ?, ?, ?, ?)", (member, kind, self._clock(), *row[1:])
            )

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        with self._lock, self._database.writing() as transaction:
            yield transaction

    def _fetch(self, query: str) -> list[Any]:
        return self._database.fetch(query)
