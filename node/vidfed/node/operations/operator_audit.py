"""What the node's own operators do to records, in the audit log: which operation, on which record. Never its content."""

from __future__ import annotations

import contextlib
import getpass
from typing import TYPE_CHECKING

from vidfed.security.audit import AuditEntry, Event, Operation
from vidfed.security.clock import as_text
from vidfed.security.errors import NoLogError
from vidfed.security.member.audit_log import open_log, open_storage

if TYPE_CHECKING:
    from vidfed.security.member.home import MemberHome

__all__ = ["Operation", "earlier_recipients", "log_operation"]

_EVENTS = {
    "EDITED": Event.RECORDS_CHANGED,
    "REINSTATED": Event.RECORDS_CHANGED,
    "RETRACTED": Event.RECORDS_RETRACTED,
    "ERASED": Event.RECORDS_ERASED,
    "READ": Event.RECORDS_READ,
    "EXPORTED": Event.RECORDS_EXPORTED,
    "IMPORTED": Event.RECORDS_ADDED,
}


def log_operation(home: MemberHome, operation: Operation, outcome: str, *, records: int, reference: str = "", now_ms: int) -> None:
    """Write one entry.

    Args:
        home: the member's folder.
        operation: which of the six.
        outcome: what was done, one of the words above.
        records: how many records it concerned; 0 where that is not known yet.
        reference: of the record, where it was one.
        now_ms: when.

    Raises:
        AuditError: it cannot be written; the caller has not done anything yet.
    """
    entry = AuditEntry(
        time_ms=now_ms,
        operation=operation,
        event=_EVENTS[outcome],
        member=home.member,
        pseudonym=f"operator:{_operator()}",
        outcome=outcome,
        records=(reference,) if reference else (),
        details={"records": records},
    )
    with contextlib.closing(open_log(home)) as log:
        log.append(entry)


def earlier_recipients(home: MemberHome, reference: str) -> list[str]:
    """Return who was told of a record, each as `member, time`, oldest first. What retention has pruned is no longer known.

    Raises:
        AuditError: the log cannot be read.
    """
    try:
        storage = open_storage(home)
    except NoLogError:
        return []
    with contextlib.closing(storage):
        return [
            f"{fields['member']}, {as_text(entry.time_ms)}"
            for _, entry in storage.entries(0, storage.size())
            if entry.body is not None
            and (fields := entry.fields())["event"] == Event.LOOKUP_ANSWERED.value
            and reference in fields["records"]
        ]


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
