"""One investigator's stream of chunks spread over the nodes, and their signed answers brought back together.

Each node has a branch: its own stream, at most MAX_UNANSWERED_CHUNKS chunks behind the investigator's. The next chunk is read only when
every branch has room, so the slowest node that still answers sets the pace and nothing piles up; a node that leaves one chunk unanswered
for the deadline is left out of the rest of this stream, and the investigator asks it again later.

A branch that broke after it had answered goes on in a new call with the chunks that had no answer yet. Those of them that the node had
already taken it refuses as replayed, signed: only the investigator can sign them again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from vidfed.federation.nodes.connections import closed_under_call
from vidfed.federation.nodes.outgoing import NodeChannel, NodeUnavailableError, failure
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
from vidfed.wire.values import MAX_UNANSWERED_CHUNKS, FailureKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from vidfed.federation.nodes.outgoing import OutgoingLookup
    from vidfed.federation.nodes.pool import NodePool
    from vidfed.security.identity.directory import Member
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupRequest

    Call = grpc.aio.StreamStreamCall[LookupCall, EnvelopeMessage]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk that was admitted: as asked, with both signatures, and how to ask the nodes at all."""

    request: LookupRequest
    digest: bytes
    outgoing: OutgoingLookup


class _Branch:
    """One node's part in a stream."""

    def __init__(self, member: Member, nodes: NodePool, say: Callable[[Chunk | None, pb.NodeReply], Awaitable[None]]) -> None:
        self._member = member
        self._nodes = nodes
        self._say = say
        self._room = asyncio.Semaphore(MAX_UNANSWERED_CHUNKS)
        self._waiting: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self._sent: deque[Chunk] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self.gone = False

    async def hand(self, chunk: Chunk) -> None:
        """Give it the next chunk, waiting until it has room; one that is gone takes everything and does nothing."""
        await self._room.acquire()
        if self.gone:
            self._room.release()
        else:
            self._waiting.put_nowait(chunk)

    def end(self) -> None:
        """Say that no chunk comes after those handed over."""
        self._waiting.put_nowait(None)

    async def run(self) -> None:
        """Ask until every chunk handed over is answered, or say once why the node is left out from here on."""
        try:
            first = await self._waiting.get()
            if first is None:
                return
            self._sent.append(first)
            outgoing = first.outgoing
            while not self._ended or self._sent:
                opening = await self._nodes.open(outgoing, self._member)
                if left := await self._call(opening, outgoing.deadline_s):
                    await self._say(None, left)
                    return
        except NodeUnavailableError as error:
            await self._say(None, error.reply)
        finally:
            self.gone = True
            self._room.release()

    async def _call(self, opening: NodeChannel, deadline_s: float) -> pb.NodeReply | None:
        """Make one call; return why the node is to be left out, or None if all is answered or it may go on in another call."""
        call: Call = rpc.NodeServiceStub(opening.channel).LookupStream()
        writer = asyncio.create_task(self._write(call))
        good: bool | None = None
        try:
            while await self._due():
                try:
                    async with asyncio.timeout(deadline_s):
                        answer = await call.read()
                except TimeoutError:
                    good = bool(good)
                    return self._failure(FailureKind.TIMEOUT, f"no answer from {self._member.endpoint} within the deadline")
                except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
                    if isinstance(error, asyncio.CancelledError) and not closed_under_call():
                        raise
                    opening.retire()
                    if good:
                        return None
                    good = False
                    why = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "its connection was replaced"
                    return self._failure(FailureKind.UNREACHABLE, f"the stream to {self._member.endpoint} broke: {why}")
                except Exception:  # noqa: BLE001 - one node's odd stream must not end the others'
                    _log.exception("could not read the stream of %s", self._member.id)
                    opening.retire()
                    good = bool(good)
                    return self._failure(FailureKind.PROTOCOL_ERROR, f"the stream of {self._member.endpoint} could not be read")
                if not isinstance(answer, EnvelopeMessage):  # the end of the stream
                    good = bool(good)
                    return self._failure(FailureKind.PROTOCOL_ERROR, f"{self._member.endpoint} ended the stream before the last answer")
                good = True
                await self._say(self._sent.popleft(), pb.NodeReply(member=self._member.id, answer=answer))
                self._room.release()
            return None
        finally:
            opening.end(good)
            writer.cancel()
            call.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, call: Call) -> None:
        for chunk in tuple(self._sent):
            await call.write(chunk.outgoing.call)
        while not self._ended:
            next_chunk = await self._waiting.get()
            if next_chunk is None:
                self._ended = True
            else:
                self._sent.append(next_chunk)
            self._news.set()
            if next_chunk is not None:
                await call.write(next_chunk.outgoing.call)
        await call.done_writing()

    async def _due(self) -> bool:
        """Wait until an answer is due; False if none is any more."""
        while not self._sent and not self._ended:
            self._news.clear()
            await self._news.wait()
        return bool(self._sent)

    def _failure(self, kind: FailureKind, detail: str) -> pb.NodeReply:
        return failure(self._member.id, kind, detail)


async def relay(
    chunks: AsyncIterator[Chunk], nodes: NodePool, before: Callable[[Chunk, pb.NodeReply], Awaitable[None]]
) -> AsyncGenerator[pb.NodeReply, None]:
    """Yield the nodes' replies to each chunk as they come; of a node that is left out, one failure instead of all that is missing.

    Args:
        chunks: admitted, all with the same audience.
        nodes: of the gateway.
        before: awaited with each answer before it is yielded; what it raises ends the stream, as does what `chunks` raises.
    """
    replies: asyncio.Queue[pb.NodeReply | None] = asyncio.Queue()  # None: the end, for which there is always room
    room = asyncio.Semaphore(1)  # for one reply: who does not read its answers holds everything up
    last: Chunk | None = None

    async def say(chunk: Chunk | None, reply: pb.NodeReply) -> None:
        if (about := chunk or last) is not None:
            await before(about, reply)
        await room.acquire()
        replies.put_nowait(reply)

    async def spread(group: asyncio.TaskGroup) -> None:
        nonlocal last
        branches: list[_Branch] = []
        try:
            async for chunk in chunks:
                last = chunk
                if not branches:
                    members = chunk.outgoing.directory.members
                    asked = [members[member] for member in dict.fromkeys(chunk.request.header.audience) if member in members]
                    branches = [_Branch(member, nodes, say) for member in asked]
                    for branch in branches:
                        group.create_task(branch.run())
                for branch in branches:
                    await branch.hand(chunk)
                if all(branch.gone for branch in branches):
                    return
        finally:
            for branch in branches:
                branch.end()

    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(spread(group))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others followed from it
        finally:
            replies.put_nowait(None)

    task = asyncio.create_task(work())
    try:
        while (reply := await replies.get()) is not None:
            room.release()
            yield reply
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
