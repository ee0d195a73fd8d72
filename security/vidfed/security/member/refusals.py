"""How many refusals of one caller are logged one by one: who wants to be refused must not fill the disk that the log is on.

A node whose log cannot be written answers nobody, and a gateway asks nobody. So each member, and each own investigator, has a budget of
refusals that are logged whole; beyond it the log gets one entry a minute with how many there were, by what they were refused for. What is
not refused is logged whole always. Counted in each process by itself.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.security.clock import MINUTE_MS, SECOND_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE = 300
"""Of one caller, logged whole: a broken client or an expired kit on a day's folder is seen in full."""
ANOTHER_MS = 10 * SECOND_MS
"""Until one more may be: 8,640 a day, with 2 KiB each 17 MB of log for each caller that does nothing else."""
TOGETHER_MS = MINUTE_MS
"""How long refusals beyond the budget are counted before the log is told."""


@dataclass(slots=True)
class _OfCaller:
    """What one caller has left, and what was not logged whole."""

    left: float = AT_ONCE
    filled_ms: int = 0
    since_ms: int = 0
    counts: Counter[str] = field(default_factory=Counter)


class Refusals:
    """The budgets of all callers. Safe from several threads."""

    def __init__(self, event: Event) -> None:
        """Begin with full budgets; `event` is what the entries about many say."""
        self._event = event
        self._callers: dict[tuple[str, str], _OfCaller] = {}  # whom some CA of the directory stands for: few, however often they call
        self._lock = threading.Lock()

    def logged_whole(self, member: str, reason: str, now_ms: int, pseudonym: str = "") -> bool:
        """Tell whether a refusal is logged by itself, and take it from its caller's budget; else it is counted.

        Args:
            member: whose node or investigator is refused.
            reason: a stable name.
            now_ms: the time.
            pseudonym: of an investigator.
        """
        with self._lock:
            known = self._callers.setdefault((member, pseudonym), _OfCaller(filled_ms=now_ms))
            known.left = min(AT_ONCE, known.left + max(0, now_ms - known.filled_ms) / ANOTHER_MS)
            known.filled_ms = now_ms
            if known.left >= 1:
                known.left -= 1
                return True
            known.since_ms = known.since_ms or now_ms
            known.counts[reason] += 1
            return False

    def due(self, now_ms: int, *, end: bool = False) -> list[AuditEntry]:
        """Take the entries about refusals that were counted for TOGETHER_MS, or any at the `end`."""
        entries = []
        with self._lock:
            for (member, pseudonym), known in self._callers.items():
                if known.counts and (end or not 0 <= now_ms - known.since_ms < TOGETHER_MS):
                    details = {**known.counts, "count": known.counts.total(), "since_ms": known.since_ms}
                    entries.append(
                        AuditEntry(now_ms, Operation.CONSULTATION, self._event, member, pseudonym, outcome="REFUSED", details=details)
                    )
                    known.counts, known.since_ms = Counter(), 0
        return entries

    def put_back(self, entries: Iterable[AuditEntry]) -> None:
        """Count again what could not be logged."""
        with self._lock:
            for entry in entries:
                known = self._callers[entry.member, entry.pseudonym]
                said = dict(entry.details)
                since_ms = said.pop("since_ms")
                del said["count"]
                known.since_ms = int(str(since_ms))
                known.counts.update({name: int(str(count)) for name, count in said.items()})
