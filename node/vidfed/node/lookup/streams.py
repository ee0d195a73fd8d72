"""Streams of questions: chunks admitted one after the other, searched side by side, answered in order, few of them held at once.

Nothing is remembered about a stream when its call ends; see `vidfed.wire.stream` for how one goes on in a new call.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

from vidfed.node.lookup.authenticate import UnknownPeerError
from vidfed.node.lookup.question import Call
from vidfed.wire.stream import ChunkOrder
from vidfed.wire.values import MAX_UNANSWERED_CHUNKS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from vidfed.node.lookup.pipeline import LookupPipeline
    from vidfed.node.lookup.question import Question
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.v1.lookup_pb2 import LookupCall

Result = TypeVar("Result")


class Run(Protocol):
    """Runs a blocking function with its arguments in a worker thread."""

    def __call__(self, work: Callable[..., Result], /, *arguments: object) -> Awaitable[Result]:
        """Return what it returns."""


class StoppingError(Exception):
    """The node takes no more chunks because it stops; those it took are answered."""


async def answer_chunks(
    pipeline: LookupPipeline, chunks: AsyncIterator[LookupCall], leaf_pem: bytes, run: Run, stopping: asyncio.Event
) -> AsyncGenerator[Envelope, None]:
    """Yield the signed answer to each chunk, in order.

    A chunk is read only while fewer than MAX_UNANSWERED_CHUNKS wait until their answer is taken, so a peer that does not read its answers
    costs no more memory than that.

    Args:
        pipeline: answers them.
        chunks: as they come.
        leaf_pem: the caller's TLS certificate.
        run: for what blocks.
        stopping: set when the node stops: what was read is answered, and no more is read.

    Raises:
        UnknownPeerError: the caller is no member's node, or no longer.
        SequenceError: the chunks ended before the last one.
        StoppingError: the node stops.
    """
    order = ChunkOrder()
    room = asyncio.Semaphore(MAX_UNANSWERED_CHUNKS)
    admitted: asyncio.Queue[tuple[Question, asyncio.Future[None]] | None] = asyncio.Queue()

    async def read() -> None:
        stopped = asyncio.create_task(_until(stopping))
        try:
            while True:
                await room.acquire()
                chunk = await _next_of(chunks, stopped)
                if chunk is None:
                    order.finish()
                    return
                (question,) = await run(pipeline.admit, [Call(chunk, leaf_pem, order)])
                if question is None:
                    raise UnknownPeerError
                admitted.put_nowait((question, asyncio.ensure_future(run(pipeline.search, [question]))))
                if question.last:
                    return
        finally:
            stopped.cancel()
            admitted.put_nowait(None)

    reader = asyncio.create_task(read())
    previous_digest = b""
    try:
        while (entry := await admitted.get()) is not None:
            question, searched = entry
            await searched
            question.previous_digest = previous_digest
            (answer,) = await run(pipeline.conclude, [question])
            previous_digest = answer.digest
            yield answer
            room.release()
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _next_of(chunks: AsyncIterator[LookupCall], stopped: asyncio.Task[None]) -> LookupCall | None:
    """Return the next chunk, None after the last.

    Raises:
        StoppingError: the node stops before there is one.
    """
    coming = asyncio.create_task(_anext(chunks))
    try:
        tasks: set[asyncio.Task[LookupCall | None] | asyncio.Task[None]] = {coming, stopped}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise StoppingError
        return await coming
    finally:
        coming.cancel()


async def _anext(chunks: AsyncIterator[LookupCall]) -> LookupCall | None:
    return await anext(chunks, None)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
