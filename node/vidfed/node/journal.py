"""What the node's own operators do to records, in the audit log: which operation, on how many records. Never their content."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
from typing import TYPE_CHECKING

from vidfed.security.audit import AuditEntry, AuditLog, Operation

if TYPE_CHECKING:
    from vidfed.security.home import MemberHome

__all__ = ["Operation", "earlier_recipients", "log_operation"]


def log_operation(home: MemberHome, operation: Operation, outcome: str, *, records: int, reference: str = "", now_ms: int) -> None:
    """Write one entry.

    Args:
        home: the member's folder.
        operation: which of the six.
        outcome: what was done, a stable word.
        records: how many records it concerned.
        reference: of the record, where it was one.
        now_ms: when.

    Raises:
        AuditError: it cannot be written; the caller has not done anything yet.
    """
    entry = AuditEntry(
        time_ms=now_ms,
        operation=operation,
        member=home.member,
        pseudonym=f"operator:{_operator()}",
        purpose="",
        request_digest=hashlib.sha256(reference.encode()).digest(),
        outcome=outcome,
        records_disclosed=records,
    )
    with contextlib.closing(AuditLog(home.state_file("audit.db"))) as log:
        log.append(entry)


def earlier_recipients(home: MemberHome, reference: str) -> list[str] | None:
    """Return who was told of a record, each as `member, time`; None where the log does not say which records were told."""
    with contextlib.closing(AuditLog(home.state_file("audit.db"))) as log:
        told = getattr(log, "disclosures_of", None)
        return None if told is None else [str(each) for each in told(reference)]


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
