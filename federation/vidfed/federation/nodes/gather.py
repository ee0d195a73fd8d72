"""The replies to one question: handed on as they come until the deadline, and, if they are kept, collected a little longer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from vidfed.federation.nodes.outgoing import failure
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from vidfed.federation.nodes.outgoing import OutgoingLookup
    from vidfed.federation.nodes.pool import NodePool
    from vidfed.security.identity.directory import Member
    from vidfed.v1 import gateway_pb2 as pb

_log = logging.getLogger(__name__)
_BEGUN_TOGETHER = 16


class Gathering:
    """One question on its way to all its nodes. Begins to ask when it is made."""

    def __init__(
        self, nodes: NodePool, outgoing: OutgoingLookup, members: Iterable[Member], take: Callable[[pb.NodeReply], Awaitable[None]]
    ) -> None:
        """Ask.

        Args:
            nodes: who asks.
            outgoing: what; its `late_s` is how long after the deadline replies are still taken.
            members: who is asked.
            take: awaited for each reply before it is handed on; several at the same time. What it raises ends `replies`.
        """
        self._nodes = nodes
        self._outgoing = outgoing
        self._take = take
        self._deadline_s = asyncio.get_running_loop().time() + outgoing.deadline_s
        self._arrived: asyncio.Queue[pb.NodeReply | Exception | None] = asyncio.Queue()  # one for each member; None: the deadline
        self._members = tuple(members)
        self._read = True  # somebody takes the replies, or will
        self._tasks: list[asyncio.Task[None]] = []
        self._starting = asyncio.create_task(self._start())

    async def replies(self) -> AsyncIterator[pb.NodeReply]:
        """Yield one reply for each member, as they come; at the deadline, a timeout for each that has given none."""
        pending = {member.id for member in self._members}
        deadline = asyncio.get_running_loop().call_at(self._deadline_s, self._arrived.put_nowait, None)
        if not self._outgoing.late_s:  # then each ends by itself
            deadline.cancel()
        try:
            while pending and (arrived := await self._arrived.get()) is not None:
                if isinstance(arrived, Exception):
                    raise arrived
                pending.discard(arrived.member)
                yield arrived
        finally:
            deadline.cancel()
            self._read = False
        late = "no answer within the deadline; what comes later is kept for you"
        timeouts = [failure(member, FailureKind.TIMEOUT, late) for member in sorted(pending)]
        await asyncio.gather(*map(self._take, timeouts))
        for reply in timeouts:
            yield reply

    async def go_on(self) -> None:
        """Wait for the replies that are still to come, which nobody is handed any more."""
        await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def end(self) -> None:
        """Ask no more."""
        for task in (self._starting, *self._tasks):
            task.cancel()
        await self.go_on()

    async def _start(self) -> None:
        """Begin with a few members at a time: a call is sent a turn of the event loop after it is made, so the first would wait for all."""
        for member in self._members:
            self._tasks.append(asyncio.create_task(self._one(member)))
            if not len(self._tasks) % _BEGUN_TOGETHER:
                await asyncio.sleep(0)

    async def _one(self, member: Member) -> None:
        try:
            reply = await self._nodes.ask(self._outgoing, member)
            await self._take(reply)
        except Exception as error:  # noqa: BLE001 - handed to whoever reads the replies
            if not self._read:  # the deadline has passed, or who asked has gone
                _log.error("a late answer of %s is lost: %s", member.id, error)
            self._arrived.put_nowait(error)
        else:
            self._arrived.put_nowait(reply)
