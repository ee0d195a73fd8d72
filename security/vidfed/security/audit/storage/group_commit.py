"""Group commit: one thread at a time writes, with its own entries those of all callers that wait, in one transaction.

Waiting callers sleep each on a lock of their own. The holder hands the write lock to the caller that has waited longest, so that
no thread writes for others for ever and none starves.
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
class PendingWrite:
    """One caller's entries, or none if it wants the lock for itself; then what became of them."""

    entries: list[SealedEntry] = field(default_factory=list)
    first: int = -1
    error: AuditError | None = None
    done: bool = False
    wake: threading.Lock = field(default_factory=_held_lock)


class GroupCommit:
    """The write lock and the queue of callers that wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[PendingWrite] = deque()

    def acquire(self, waiting: PendingWrite) -> bool:
        """Wait for the lock, or until another thread has written this caller's entries.

        Returns:
            True if the caller holds the lock and must end with `release`; False if its entries are written.
        """
        self._queue.append(waiting)
        taken = self._lock.acquire(blocking=False)
        if not taken:
            # The holder looks at the queue again after releasing the lock, so this is always released.
            waiting.wake.acquire()
        if waiting.done and taken:  # written by one who released the lock just before this caller took it
            self.release()
        return not waiting.done

    def take_batch(self, own: PendingWrite, limit: int) -> list[PendingWrite]:
        """Return, for the holder of the lock, its own write and those of others, in order, until there are `limit` entries."""
        self._queue.remove(own)
        batch = [own]
        count = len(own.entries)
        while self._queue and self._queue[0].entries and count < limit:
            batch.append(self._queue.popleft())
            count += len(batch[-1].entries)
        return batch

    def finish(self, own: PendingWrite, batch: list[PendingWrite], error: AuditError | None) -> None:
        """Wake all of a batch with its outcome."""
        for waiting in batch:
            waiting.error = error
            waiting.done = True
            if waiting is not own:
                waiting.wake.release()

    def release(self) -> None:
        """Hand the lock to the caller that has waited longest, or free it."""
        while True:
            if self._queue:
                self._queue[0].wake.release()  # the lock stays held: it is that caller's now
                return
            self._lock.release()
            if not self._queue or not self._lock.acquire(blocking=False):
                return
