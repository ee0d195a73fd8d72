"""Work in a thread for many callers together: whoever comes while a batch is under way waits for the next.

For an event loop whose many tasks each have a little to write. One hand-over to a thread and one commit serve all that came meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """The callers that wait. For one event loop."""

    def __init__(self, work: Callable[[Sequence[T]], None], most: int) -> None:
        """Begin with nobody waiting.

        Args:
            work: called in a thread with what came, in order, and never twice at the same time; what it raises, everybody in that batch
                gets.
            most: in one batch: bounds how long the first of them waits for the others' work.
        """
        self._work = work
        self._most = most
        self._waiting: deque[tuple[T, asyncio.Future[None]]] = deque()
        self._working = False

    async def add(self, one: T) -> None:
        """Return when this has been worked on, as it is also if the caller is cancelled meanwhile."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, done))
        if not self._working:
            self._begin()
        await done

    def _begin(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        work = asyncio.get_running_loop().run_in_executor(None, self._work, [one for one, _ in batch])
        self._working = True
        work.add_done_callback(functools.partial(self._end, [done for _, done in batch]))

    def _end(self, batch: Sequence[asyncio.Future[None]], work: asyncio.Future[None]) -> None:
        self._working = False
        if self._waiting:  # before anybody is told: the thread has work while the event loop passes on what is done
            self._begin()
        for done in batch:
            if done.done():  # its caller has gone
                continue
            if work.cancelled():
                done.cancel()
            elif (error := work.exception()) is not None:
                done.set_exception(error)
            else:
                done.set_result(None)
