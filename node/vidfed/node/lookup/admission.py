"""How much a node takes on at once: a bounded number of lookups running and waiting, in turn between members.

Lookups that wait are answered several at a time, by one thread in one go: what waits for a disk or a lock is then waited for once. Whoever
has much to ask waits behind its own questions, not others behind it: places go to the members in turn. When too many wait, it is the member
with the most waiting whose newest question is sent away, with a signed BUSY.

Chunks of streams have threads of their own, each chunk one at a time, the members' in turn too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """Too much is waiting already."""


class TooManyCallsError(Exception):
    """One member holds so many calls that a further one is not even read."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much is taken on.

    Attributes:
        groups: of lookups answered at the same time, each in a thread.
        apart_s: how long a group has run before another one joins it. Mostly it is done by then, and two at a time would only take the
            interpreter's lock from each other; but nobody waits long behind a slow disk or a large search.
        group: lookups answered together at most; beyond it nothing is saved any more, and the first of them waits for the last.
        group_bytes: of their messages together; a larger one is answered alone, because many hashes take long to search.
        chunks: of streams worked on at the same time, each in a thread; one large search is spread over all processors by the index itself.
        waiting: single lookups that wait for a thread, of all members.
        waiting_of_member: of them, of one member.
        waiting_bytes: of their messages with all that is around them; each has some KiB mostly, and 1.1 MiB at most.
        wait_s: how long one waits at most: whoever asked is told in time to ask again, before its own patience and signature end.
        streams: at the same time; each holds at most 4 chunks of at most 1 MiB.
        streams_of_member: of them, of one member.
        calls_of_member: of one member in whatever state, also those whose answer it does not take: no member can take all there is.
    """

    groups: int = 4
    apart_s: float = 0.03
    group: int = 32
    group_bytes: int = 64 * 1024
    chunks: int = 2
    waiting: int = 1_024
    waiting_of_member: int = 512
    waiting_bytes: int = 128 * 1024 * 1024
    wait_s: float = 5.0
    streams: int = 32
    streams_of_member: int = 8
    calls_of_member: int = 1_000

    @property
    def threads(self) -> int:
        """How many threads all of it takes."""
        return self.groups + self.chunks


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Asked, Answer]):
    """A lookup that waits, and where its answer goes."""

    asked: Asked
    size_bytes: int
    answer: asyncio.Future[Answer]
    patience: asyncio.TimerHandle | None = None


class Admission(Generic[Asked, Answer]):
    """Lets lookups and chunks through to the threads. For one event loop."""

    def __init__(
        self, threads: Executor, answer_together: Callable[[Sequence[Asked]], Sequence[Answer]], limits: AdmissionLimits | None = None
    ) -> None:
        """Take what answers.

        Args:
            threads: `AdmissionLimits.threads` of them.
            answer_together: answers lookups in one thread, each in its place.
            limits: how much is taken on.
        """
        self._threads = threads
        self._answer_together = answer_together
        self._limits = limits or AdmissionLimits()
        self._lookups: OrderedDict[str, deque[_Waiting[Asked, Answer]]] = OrderedDict()
        self._chunks: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._streams: dict[str, int] = {}
        self._calls: Counter[str] = Counter()
        self._waiting_bytes = 0
        self._groups_running = self._chunks_running = 0
        self._next_start_s = 0.0  # when another group may be started beside those that run, by the loop's clock
        self._next_start: asyncio.TimerHandle | None = None
        self.running = 0

    @property
    def wait_s(self) -> float:
        """How long a single lookup waits at most."""
        return self._limits.wait_s

    def enter(self, member: str) -> None:
        """Count a call of this member until `leave` is called for it.

        Raises:
            TooManyCallsError: it has too many.
        """
        if self._calls[member] >= self._limits.calls_of_member:
            raise TooManyCallsError
        self._calls[member] += 1

    def leave(self, member: str) -> None:
        """End a call that has entered."""
        self._calls[member] -= 1
        if not self._calls[member]:
            del self._calls[member]

    @property
    def waiting(self) -> int:
        """How many lookups and chunks wait for a thread."""
        return sum(map(len, self._lookups.values())) + sum(map(len, self._chunks.values()))

    async def ask(self, member: str, asked: Asked, size_bytes: int) -> Answer:
        """Have a member's single lookup answered, when it is that member's turn.

        Args:
            member: who asks.
            asked: what `answer_together` takes.
            size_bytes: of the whole call: what is around a message takes memory as it does.

        Raises:
            QueueFullError: too much is waiting; nothing was begun.
        """
        loop = asyncio.get_running_loop()
        entry: _Waiting[Asked, Answer] = _Waiting(asked, size_bytes, loop.create_future())
        if self._groups_running:  # else it is begun at once
            self._make_room(member, size_bytes)
            entry.patience = loop.call_later(self._limits.wait_s, self._send_away, member, entry)
        self._lookups.setdefault(member, deque()).append(entry)
        self._waiting_bytes += size_bytes
        self._start_groups()
        try:
            return await entry.answer
        except asyncio.CancelledError:
            self._leave(member, entry)
            raise

    async def run(self, member: str, work: Callable[..., Result], /, *arguments: object) -> Result:
        """Run blocking work for a chunk of a member's stream in a thread, when it is that member's turn.

        It is never sent away: streams are bounded by their number and by how many chunks each may have here.
        """
        await self._turn(member)
        self.running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self.running -= 1
            self._pass_on()

    @contextlib.contextmanager
    def stream(self, member: str) -> Iterator[None]:
        """Hold one of the places for streams.

        Raises:
            QueueFullError: there is none left.
        """
        held = self._streams.get(member, 0)
        if held >= self._limits.streams_of_member or sum(self._streams.values()) >= self._limits.streams:
            raise QueueFullError
        self._streams[member] = held + 1
        try:
            yield
        finally:
            self._streams[member] -= 1
            if not self._streams[member]:
                del self._streams[member]

    # --- lookups ---

    def _make_room(self, member: str, size_bytes: int) -> None:
        """Let a member's lookup wait, if need be in the place of others' whose member has more waiting."""
        own = len(self._lookups.get(member, ()))
        if own >= self._limits.waiting_of_member:
            raise QueueFullError
        while (
            sum(map(len, self._lookups.values())) >= self._limits.waiting or self._waiting_bytes + size_bytes > self._limits.waiting_bytes
        ):
            longest = max(self._lookups, key=lambda other: len(self._lookups[other]), default=member)
            if longest == member or len(self._lookups[longest]) <= own + 1:
                raise QueueFullError
            self._send_away(longest, self._lookups[longest][-1])

    def _send_away(self, member: str, entry: _Waiting[Asked, Answer]) -> None:
        self._leave(member, entry)
        if not entry.answer.done():
            entry.answer.set_exception(QueueFullError())

    def _leave(self, member: str, entry: _Waiting[Asked, Answer]) -> None:
        """Take a lookup out of the queue, if it is still in it."""
        if entry.patience is not None:
            entry.patience.cancel()
        queue = self._lookups.get(member)
        if queue is not None and entry in queue:
            queue.remove(entry)
            self._waiting_bytes -= entry.size_bytes
            if not queue:
                del self._lookups[member]

    def _start_groups(self) -> None:
        """Give what waits to the threads, as far as it is time."""
        loop = asyncio.get_running_loop()
        while self._lookups and self._groups_running < self._limits.groups:
            now_s = loop.time()
            if self._groups_running and now_s < self._next_start_s:
                if self._next_start is None:
                    self._next_start = loop.call_at(self._next_start_s, self._start_late)
                return
            self._next_start_s = now_s + self._limits.apart_s
            group = self._next_group()
            self._groups_running += 1
            self.running += len(group)
            done = loop.run_in_executor(self._threads, self._answer_together, [entry.asked for entry in group])
            done.add_done_callback(functools.partial(self._hand_out, group))

    def _start_late(self) -> None:
        self._next_start = None
        self._start_groups()

    def _next_group(self) -> list[_Waiting[Asked, Answer]]:
        """Take what is answered together out of the queues, from the members in turn."""
        group: list[_Waiting[Asked, Answer]] = []
        size_bytes = 0
        while self._lookups and len(group) < self._limits.group:
            member, queue = next(iter(self._lookups.items()))
            if group and size_bytes + queue[0].size_bytes > self._limits.group_bytes:
                break
            entry = queue.popleft()
            if queue:
                self._lookups.move_to_end(member)
            else:
                del self._lookups[member]
            if entry.patience is not None:
                entry.patience.cancel()
            size_bytes += entry.size_bytes
            self._waiting_bytes -= entry.size_bytes
            group.append(entry)
        return group

    def _hand_out(self, group: Sequence[_Waiting[Asked, Answer]], answered: asyncio.Future[Sequence[Answer]]) -> None:
        self._groups_running -= 1
        self.running -= len(group)
        error = answered.exception()
        for place, entry in enumerate(group):
            if entry.answer.done():  # whoever asked has gone
                continue
            if error is not None:
                entry.answer.set_exception(error)
            else:
                entry.answer.set_result(answered.result()[place])
        self._start_groups()

    # --- chunks ---

    async def _turn(self, member: str) -> None:
        if self._chunks_running < self._limits.chunks and not self._chunks:
            self._chunks_running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._chunks.setdefault(member, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came at the same moment
                self._pass_on()
            else:
                self._forget(member, turn)
            raise

    def _forget(self, member: str, turn: asyncio.Future[None]) -> None:
        queue = self._chunks.get(member)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._chunks[member]

    def _pass_on(self) -> None:
        """Give the thread that became free to the member whose turn it is, or to nobody."""
        self._chunks_running -= 1
        while self._chunks:
            member, queue = self._chunks.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._chunks[member] = queue  # behind all others
            if not turn.done():
                self._chunks_running += 1
                turn.set_result(None)
                return
