"""Whose turn it is to write: one caller at a time, who works for all that wait with work of the same kind.

Waiting callers sleep each on a lock of their own. Whoever has the turn hands it on to the caller that has waited longest, so that
nobody works for others for ever and nobody starves.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidfed.security.audit.entries import SealedEntry
    from vidfed.security.errors import AuditError


def _held_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class Waiting:
    """One caller: the entries it wants written, or none if it wants the turn for itself; then what became of it."""

    entries: list[SealedEntry] = field(default_factory=list)
    first: int = -1
    error: AuditError | None = None
    done: bool = False
    wake: threading.Lock = field(default_factory=_held_lock)


class Turns:
    """The queue of callers."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._queue: deque[Waiting] = deque()

    def take(self, waiting: Waiting) -> bool:
        """Wait for the turn, or until somebody has done this caller's work.

        Returns:
            True if the caller has the turn and must end with `pass_on`; False if its work is done.
        """
        self._queue.append(waiting)
        taken = self._turn.acquire(blocking=False)
        if not taken:
            # Whoever has the turn looks at the queue again after letting go of it, so this is always released.
            waiting.wake.acquire()
        if waiting.done and taken:  # done by one whose turn ended just before this caller took it
            self.pass_on()
        return not waiting.done

    def gather(self, own: Waiting, limit: int) -> list[Waiting]:
        """Return, for the one who has the turn, its own work and that of others, in order, until there are `limit` entries."""
        self._queue.remove(own)
        batch = [own]
        count = len(own.entries)
        while self._queue and self._queue[0].entries and count < limit:
            batch.append(self._queue.popleft())
            count += len(batch[-1].entries)
        return batch

    def finish(self, own: Waiting, batch: list[Waiting], error: AuditError | None) -> None:
        """Tell all of a batch what became of it."""
        for waiting in batch:
            waiting.error = error
            waiting.done = True
            if waiting is not own:
                waiting.wake.release()

    def pass_on(self) -> None:
        """Give the turn to the caller that has waited longest, or to nobody."""
        while True:
            if self._queue:
                self._queue[0].wake.release()  # the turn stays taken: it is that caller's now
                return
            self._turn.release()
            if not self._queue or not self._turn.acquire(blocking=False):
                return
