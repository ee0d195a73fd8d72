"""Dropping what entries say, lawfully: announced in the log first, and the tree stays whole.

Dropping takes the salts with it, so that the leaf that remains says nothing about anybody: it is a hash of something nobody can guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.security.clock import DAY_MS
from vidfed.security.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.security.audit.log import AuditLog

MAX_POSITIONS = 1_000  # named in one announcement
_KEPT = {Event.LOG_ERASED.value, Event.LOG_PRUNED.value}


def erase(log: AuditLog, positions: Sequence[int], *, member: str, operator: str, reason: str, now_ms: int) -> int:
    """Drop the content of single entries, for example on a court's order.

    Args:
        log: to drop from.
        positions: of the entries.
        member: this member.
        operator: who does it.
        reason: for those who later find a leaf without content; must not repeat what is erased.
        now_ms: the time of the announcement.

    Returns:
        How many entries lost their content; fewer than named if some had none any more. Done twice, it is announced twice.

    Raises:
        AuditError: nothing was dropped: an entry does not exist, or is itself such an announcement.
    """
    chosen = sorted(set(positions))
    if not 0 < len(chosen) <= MAX_POSITIONS:
        raise AuditError(f"name 1 to {MAX_POSITIONS} entries")
    for position in chosen:
        entry = log.storage.entry(position)
        if entry.body is not None and entry.fields()["event"] in _KEPT:
            raise AuditError(f"entry {position} announces an erasure itself; it goes only with the retention time")
    details: dict[str, int | str | tuple[int, ...]] = {"positions": tuple(chosen), "reason": reason, "operator": operator}
    log.append(AuditEntry(now_ms, Operation.ERASURE, Event.LOG_ERASED, member, details=details))
    return log.drop(chosen)


def prune(log: AuditLog, *, retention_days: int, member: str, operator: str, now_ms: int) -> tuple[int, int]:
    """Drop the content of everything older than the retention time.

    Returns:
        (first position that is kept, how many entries lost their content).

    Raises:
        AuditError: nothing was dropped.
    """
    limit_ms = now_ms - retention_days * DAY_MS
    kept, end = log.storage.positions(limit_ms, 1 << 62)
    before = kept if end else len(log)
    if not before or not log.storage.has_content_before(before):
        return before, 0
    details: dict[str, int | str | tuple[int, ...]] = {"before": before, "retention_days": retention_days, "operator": operator}
    log.append(AuditEntry(now_ms, Operation.ERASURE, Event.LOG_PRUNED, member, details=details))
    return before, log.drop(before=before)
