"""How much a node takes on at once: a bounded number of lookups running and waiting, in turn between members.

Whoever has much to ask waits behind its own questions, not others behind it: free threads go to the members in turn. When too many
wait, it is the member with the most waiting whose newest question is sent away, with a signed BUSY.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

Result = TypeVar("Result")
_Lane = tuple[str, bool]  # a member's single lookups, or (True) its streams' chunks


class BusyError(Exception):
    """Too much is waiting already."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is taken on.

    Attributes:
        running: lookups at the same time, each in a thread; signatures, database and search all let go of the interpreter's lock.
        waiting: single lookups that wait for a thread, of all members; each holds a message of at most 1 MiB, mostly of some KiB.
        waiting_of_member: of them, of one member.
        wait_s: how long one waits at most: whoever asked is told in time to ask again, before its own patience and signature end.
        streams: at the same time; each holds at most 4 chunks of at most 1 MiB.
        streams_of_member: of them, of one member.
    """

    running: int = 4
    waiting: int = 512
    waiting_of_member: int = 256
    wait_s: float = 5.0
    streams: int = 32
    streams_of_member: int = 8


class Gate:
    """Lets work through to the threads. For one event loop."""

    def __init__(self, threads: Executor, bounds: Bounds | None = None) -> None:
        self._threads = threads
        self._bounds = bounds or Bounds()
        self._queues: OrderedDict[_Lane, deque[asyncio.Future[None]]] = OrderedDict()
        self._streams: dict[str, int] = {}
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many pieces of work wait for a thread."""
        return sum(map(len, self._queues.values()))

    async def run(self, member: str, work: Callable[..., Result], /, *arguments: object, patient: bool = False) -> Result:
        """Run blocking work for a member in a thread, when it is that member's turn.

        Args:
            member: for whom.
            work: with its arguments.
            arguments: of the work.
            patient: it is bounded otherwise, as a stream's chunks are, and never sent away.

        Raises:
            BusyError: too much is waiting; the work was not begun.
        """
        await self._turn((member, patient))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._pass_on()

    @contextlib.contextmanager
    def stream(self, member: str) -> Iterator[None]:
        """Hold one of the places for streams.

        Raises:
            BusyError: there is none left.
        """
        held = self._streams.get(member, 0)
        if held >= self._bounds.streams_of_member or sum(self._streams.values()) >= self._bounds.streams:
            raise BusyError
        self._streams[member] = held + 1
        try:
            yield
        finally:
            self._streams[member] -= 1
            if not self._streams[member]:
                del self._streams[member]

    async def _turn(self, lane: _Lane) -> None:
        if self.running < self._bounds.running and not self._queues:
            self.running += 1
            return
        member, patient = lane
        if not patient:
            self._make_room(member)
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(lane, deque()).append(turn)
        try:
            async with asyncio.timeout(None if patient else self._bounds.wait_s):
                await turn
        except TimeoutError:
            if not _given(turn):  # else it came at the very end
                self._leave(lane, turn)
                raise BusyError from None
        except asyncio.CancelledError:
            if _given(turn):
                self._pass_on()
            else:
                self._leave(lane, turn)
            raise

    def _make_room(self, member: str) -> None:
        """Let a member's single lookup wait, if need be in the place of another's that has more waiting."""
        queues = {lane[0]: queue for lane, queue in self._queues.items() if not lane[1]}
        own = len(queues.get(member, ()))
        if own >= self._bounds.waiting_of_member:
            raise BusyError
        if sum(map(len, queues.values())) < self._bounds.waiting:
            return
        longest = max(queues, key=lambda other: len(queues[other]))
        if len(queues[longest]) <= own + 1:
            raise BusyError
        newest = queues[longest][-1]
        self._leave((longest, False), newest)
        if not newest.done():
            newest.set_exception(BusyError())

    def _leave(self, lane: _Lane, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(lane)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[lane]

    def _pass_on(self) -> None:
        """Give the thread that became free to the lane whose turn it is, or to nobody."""
        self.running -= 1
        while self._queues:
            lane, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[lane] = queue  # behind all others
            if not turn.done():
                self.running += 1
                turn.set_result(None)
                return


def _given(turn: asyncio.Future[None]) -> bool:
    """Tell whether a turn was given, and neither given up nor taken back."""
    return turn.done() and not turn.cancelled() and turn.exception() is None
