"""A member's own log: where it lies in the member's folder, and the thread that signs its checkpoints."""

from __future__ import annotations

import contextlib
import getpass
import logging
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from vidfed.security.audit.entries import AuditEntry
from vidfed.security.audit.log import AuditLog
from vidfed.security.audit.notes import Checkpoint, log_origin
from vidfed.security.audit.storage.tables import Storage
from vidfed.security.audit.verify import KnownCheckpoint, verify_log
from vidfed.security.audit.witness import Witness
from vidfed.security.clock import SECOND_MS, Clock, system_clock
from vidfed.security.errors import AuditError
from vidfed.security.settings import check_above_zero

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from vidfed.security.audit.entries import Event, Operation
    from vidfed.security.audit.verify import VerifyReport
    from vidfed.security.member.home import MemberHome

_log = logging.getLogger(__name__)

_LAST_ENTRY_BYTES = 1 << 20
"""Taken in advance for a command's last entry: far more than an entry, its place in the tree and the database's journal of them."""
_FILE = "audit.db"
_WITNESS_FILE = "witness.db"


@dataclass(frozen=True, slots=True)
class AuditSection:
    """`[audit]` of the configuration file.

    Attributes:
        checkpoint_every_s: how often the log's state is signed while it grows.
        witness_every_s: how often the other members are asked to cosign it.
        retention_days: how long an entry's content is kept before `vidfed audit prune` drops it; its leaf stays for ever.
    """

    checkpoint_every_s: float = 10.0
    witness_every_s: float = 60.0
    retention_days: int = 365

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        check_above_zero(self, "checkpoint_every_s", "witness_every_s", "retention_days")


def read_audit_section(home: MemberHome) -> AuditSection:
    """Return `[audit]`.

    Raises:
        HomeError: a value makes no sense.
    """
    return home.section("audit", AuditSection)


def audit_location(home: MemberHome, file: str = _FILE) -> Path | str:
    """Return where the log is: with the records on PostgreSQL, or a file. Node, gateway and commands all write to it."""
    return home.database_url or home.state_file(file)


def checkpoint_copy(home: MemberHome) -> Path:
    """Return the file that holds a copy of the log's last checkpoint, outside the database."""
    return home.state_file("audit.checkpoint")


def open_log(home: MemberHome, *, clock: Clock = system_clock) -> AuditLog:
    """Open the member's log for appending; close it to have a last checkpoint signed.

    Raises:
        AuditError: it cannot be written, or is not what its last checkpoint says.
        KeyFileError: the audit key cannot be used.
    """
    origin = log_origin(home.federation, home.member)
    return AuditLog(audit_location(home), origin, home.audit_signer, beside=checkpoint_copy(home), clock=clock)


def open_storage(home: MemberHome) -> Storage:
    """Open the member's log for reading only, as it is, even if damaged.

    Raises:
        NoLogError: there is none.
        AuditError: it cannot be opened.
    """
    return Storage(audit_location(home), log_origin(home.federation, home.member), read_only=True)


class Checkpointer:
    """Signs a checkpoint every so often while the log grows, in whichever of a member's processes is first. Use as a context manager."""

    def __init__(self, log: AuditLog, every_s: float) -> None:
        self._log = log
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._log.checkpoint(max_age_ms=int(self._every_s * SECOND_MS / 2))
            except AuditError as error:
                # Not the end: appends fail too while the log cannot be written, and say so in every answer.
                _log.error("no checkpoint could be signed: %s", error)
            except Exception:  # noqa: BLE001 - the thread must outlive a defect, or nothing would be signed ever again
                _log.exception("ALARM: defect while signing a checkpoint")


def open_witness(home: MemberHome, *, clock: Clock = system_clock) -> Witness:
    """Open the member's memory as a witness of the others, and of what they cosigned.

    Raises:
        AuditError: it cannot be opened.
        KeyFileError: the audit key cannot be used.
    """
    location = audit_location(home, _WITNESS_FILE)
    return Witness(location, federation=home.federation, member=home.member, signer=home.audit_signer, clock=clock)


class Done(dict[str, int | str]):
    """What the second entry of `logged` will say; and the log, for what else goes into its database."""

    def __init__(self, log: AuditLog) -> None:
        super().__init__()
        self.log = log


@contextlib.contextmanager
def logged(home: MemberHome, operation: Operation, event: Event, **details: int | str) -> Iterator[Done]:
    """Log a command that changes something: before it begins, and what came of it. What cannot be logged is not done.

    Room for the second entry is taken before anything is done, so that a disk which the command itself fills does not keep it out.

    Yields:
        A mapping for counts of what was done, which the second entry will hold.

    Raises:
        AuditError: the log cannot be written, and nothing was done; or its end could not be logged, and the error says what was done.
    """
    base = AuditEntry(system_clock(), operation, event, home.member, outcome="BEGUN", details={"operator": getpass.getuser(), **details})
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(contextlib.closing(open_log(home)))
        room = stack.enter_context(_room(home))
        begun = log.append(base).position
        done = Done(log)
        outcome = "FAILED"
        try:
            yield done
            outcome = "DONE"
        finally:
            room.close()
            entry = base._replace(time_ms=system_clock(), outcome=outcome, details={**base.details, **done, "begun": begun})
            try:
                log.append(entry)
            except AuditError as error:
                if outcome == "FAILED":
                    raise
                counts = ", ".join(f"{name} {value}" for name, value in done.items())
                what = f"this was done all the same{f' ({counts})' if counts else ''}"
                raise AuditError(
                    f"{what} and is not to be repeated, but its end could not be logged after entry {begun}: {error}"
                ) from None


def _room(home: MemberHome) -> IO[bytes]:
    """Take room beside the log, in a file without a name: whatever ends the process gives it back.

    Raises:
        AuditError: there is none.
    """
    try:
        file = tempfile.TemporaryFile(dir=home.folder)  # noqa: SIM115 - the caller closes it when the room is needed
    except OSError as error:
        raise AuditError(f"{home.folder}: cannot be logged, so nothing was done: {error.strerror}") from None
    try:
        file.write(bytes(_LAST_ENTRY_BYTES))
        file.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            file.close()
        raise AuditError(f"{home.folder}: no room for what must be logged at the end, so nothing was done: {error.strerror}") from None
    return file


def checkpoints_known(home: MemberHome) -> list[KnownCheckpoint]:
    """Return what this member holds outside the log: the copy beside it, and what others cosigned.

    Raises:
        AuditError: one of them cannot be read.
    """
    known = []
    beside = checkpoint_copy(home)
    if beside.exists():
        known.append(KnownCheckpoint(f"the file {beside.name}", Checkpoint.parse(beside.read_text(encoding="utf-8"))))
    with contextlib.closing(open_witness(home)) as witness:
        known += [KnownCheckpoint(f"witness {name}", checkpoint) for name, (_, checkpoint) in witness.cosignatures().items()]
    return known


def verify_own_log(home: MemberHome, known: Iterable[KnownCheckpoint]) -> VerifyReport:
    """Check the whole log of a member against itself and against checkpoints that are known of it.

    Raises:
        AuditError: there is no log, or it cannot be read.
        DirectoryError: there is no usable trust directory.
    """
    keys = home.directory_source().current().member(home.member).audit_keys
    with contextlib.closing(open_storage(home)) as storage:
        return verify_log(storage, keys, list(known))
