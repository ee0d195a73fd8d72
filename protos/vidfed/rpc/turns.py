"""Blocking work beside the lookups, in threads of its own: callers in turn, each one call at a time, few of each waiting.

Whoever asks for proofs, cosignatures or the trust directory as fast as it can waits behind itself: the lookups' threads are not touched,
and another caller's work begins as soon as a thread is free.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
THREADS = 4  # each caller has one at most: three members that are slow do not keep a fourth waiting
WAITING_OF_CALLER = 16  # calls; a member's rounds and its investigators' proofs come one or two at a time
WAITING = 1_024  # calls of all callers: what waits is a request of at most 1 MiB


class CrowdedError(Exception):
    """Too much of this caller, or of all, waits already."""


class Turns:
    """Runs blocking work for callers in turn. For one event loop. Use as a context manager, which waits for what is running."""

    def __init__(self, threads: int = THREADS, *, waiting_of_caller: int = WAITING_OF_CALLER, waiting: int = WAITING) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="beside")
        self._free = threads
        self._most_of_caller = waiting_of_caller
        self._most = waiting
        self._running: set[str] = set()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    async def run(self, caller: str, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, once it is this caller's turn.

        Raises:
            CrowdedError: too much waits; nothing was begun.
        """
        await self._turn(caller)
        # The turn lasts as long as the thread works, whether or not anybody waits for what comes of it.
        done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        done.add_done_callback(lambda _: self._ended(caller))
        return await asyncio.shield(done)

    async def _turn(self, caller: str) -> None:
        if self._free and caller not in self._running:
            self._begin(caller)
            return
        queue = self._waiting.get(caller, ())
        if len(queue) >= self._most_of_caller or sum(map(len, self._waiting.values())) >= self._most:
            raise CrowdedError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came in the same moment
                self._ended(caller)
            else:
                self._leave(caller, turn)
            raise

    def _begin(self, caller: str) -> None:
        self._free -= 1
        self._running.add(caller)

    def _ended(self, caller: str) -> None:
        self._free += 1
        self._running.discard(caller)
        self._pass_on()

    def _pass_on(self) -> None:
        """Give the free threads to those who have waited longest, one to each."""
        for caller in tuple(self._waiting):
            if not self._free:
                return
            if caller in self._running:
                continue
            queue = self._waiting[caller]
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(caller)
            else:
                del self._waiting[caller]
            if not turn.done():
                self._begin(caller)
                turn.set_result(None)

    def _leave(self, caller: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(caller)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[caller]
