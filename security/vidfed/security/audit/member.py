"""A member's own log: where it lies in the member's folder, and the thread that signs its checkpoints."""

from __future__ import annotations

import contextlib
import getpass
import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from vidfed.security.audit.entries import AuditEntry
from vidfed.security.audit.log import AuditLog
from vidfed.security.audit.notes import log_origin
from vidfed.security.audit.storage import Storage
from vidfed.security.audit.witness import Witness
from vidfed.security.clock import SECOND_MS, Clock, system_clock
from vidfed.security.errors import AuditError, HomeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.security.audit.entries import Event, Operation
    from vidfed.security.home import MemberHome

_log = logging.getLogger(__name__)
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


def read_audit_section(home: MemberHome) -> AuditSection:
    """Return `[audit]`.

    Raises:
        HomeError: a value makes no sense.
    """
    section = home.section("audit", AuditSection)
    for name in ("checkpoint_every_s", "witness_every_s", "retention_days"):
        if getattr(section, name) <= 0:
            raise HomeError(f"{home.config_path}: [audit] {name} must be above 0")
    return section


def audit_path(home: MemberHome) -> Path:
    """Return the log's file. One log for the member: node, gateway and commands write to it."""
    return home.state_file(_FILE)


def open_log(home: MemberHome, *, clock: Clock = system_clock) -> AuditLog:
    """Open the member's log for appending; close it to have a last checkpoint signed.

    Raises:
        AuditError: it cannot be written, or is not what its last checkpoint says.
        KeyFileError: the audit key cannot be used.
    """
    return AuditLog(audit_path(home), log_origin(home.federation, home.member), home.audit_signer, clock=clock)


def open_storage(home: MemberHome) -> Storage:
    """Open the member's log for reading only, as it is, even if damaged.

    Raises:
        AuditError: there is none.
    """
    path = audit_path(home)
    if not path.exists():
        raise AuditError(f"{path}: there is no log yet; it begins with the first import, lookup or answer")
    return Storage(path, log_origin(home.federation, home.member), read_only=True)


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


def open_witness(home: MemberHome, *, clock: Clock = system_clock) -> Witness:
    """Open the member's memory as a witness of the others, and of what they cosigned.

    Raises:
        AuditError: it cannot be opened.
        KeyFileError: the audit key cannot be used.
    """
    path = home.state_file(_WITNESS_FILE)
    return Witness(path, federation=home.federation, member=home.member, signer=home.audit_signer, clock=clock)


@contextlib.contextmanager
def logged(home: MemberHome, operation: Operation, event: Event, **details: int | str) -> Iterator[dict[str, int | str]]:
    """Log a command that changes something: before it begins, and what came of it. What cannot be logged is not done.

    Yields:
        A mapping for counts of what was done, which the second entry will hold.

    Raises:
        AuditError: the log cannot be written.
    """
    base = AuditEntry(system_clock(), operation, event, home.member, outcome="BEGUN", details={"operator": getpass.getuser(), **details})
    with contextlib.closing(open_log(home)) as log:
        begun = log.append(base).position
        done: dict[str, int | str] = {}
        outcome = "FAILED"
        try:
            yield done
            outcome = "DONE"
        finally:
            log.append(replace(base, time_ms=system_clock(), outcome=outcome, details={**base.details, **done, "begun": begun}))
