"""The investigator's end of a stream: parts go out signed and chained, answers come back in any order of members."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic

from vidfed.federation.client.receipt_store import ReceiptWriter
from vidfed.federation.client.replies import StreamReplies
from vidfed.federation.lookup.errors import GatewayError
from vidfed.federation.lookup.verification import P, ReplyVerifier, SignedPart
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.stream import ChunkChain
from vidfed.wire.values import MAX_UNANSWERED_CHUNKS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from vidfed.federation.client.receipt_store import ReceiptStore
    from vidfed.federation.client.transport import Transport
    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.security.clock import Clock
    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.kit import Kit
    from vidfed.wire.values import LookupRequest

SILENCE_S = 120.0  # a gateway that owes answers and says nothing for so long is given up; it speaks of every node far sooner


class PartStream(Generic[P]):
    """One stream of parts to the same members."""

    def __init__(
        self,
        kit: Kit,
        directory: Directory,
        audience: Iterable[str],
        receipts: ReceiptStore,
        clock: Clock,
        compose: Callable[[P], LookupRequest],
        on_node: Callable[[P, NodeOutcome], None],
    ) -> None:
        """Prepare.

        Args:
            kit: of the investigator.
            directory: the investigator's own.
            audience: the members asked.
            receipts: where answers that hold are kept.
            clock: gives the time.
            compose: makes the request about a part, complete but for its place in the stream.
            on_node: called with each verified answer, in the order of parts for each member.
        """
        self._kit = kit
        self._compose = compose
        self._chain = ChunkChain()
        self._room = asyncio.Semaphore(MAX_UNANSWERED_CHUNKS)
        self._writer = ReceiptWriter(receipts)
        self._replies = StreamReplies(audience, ReplyVerifier[P](directory, clock), self._writer.add, on_node, self._room.release)
        self._trouble: Exception | None = None

    @property
    def left(self) -> dict[str, NodeOutcome]:
        """Members that are not asked any more in this stream, and why."""
        return self._replies.left

    async def run(self, transport: Transport, parts: AsyncIterator[P]) -> None:
        """Ask about all parts; return when each is answered by every member that has not left.

        Raises:
            GatewayError, GatewayRefusedError: the gateway fails, refuses, or says nothing any more.
        """
        try:
            async with (
                self._writer,
                asyncio.timeout(None) as self._limit,
                contextlib.aclosing(transport.stream(self._chunks(parts))) as replies,
            ):
                async for reply in replies:
                    self._replies.take(reply)
                    self._expect()
        except TimeoutError:
            raise GatewayError(f"the gateway at {self._kit.gateway} owes answers and says nothing for {SILENCE_S:.0f} s") from None
        except GatewayError:
            if self._trouble is None:
                raise
        if self._trouble is not None:
            raise self._trouble
        self._replies.end()

    async def _chunks(self, parts: AsyncIterator[P]) -> AsyncIterator[pb.LookupCall]:
        credential = wire_envelope.to_message(self._kit.credential)
        try:
            part = await anext(parts, None)
            while part is not None:
                following = await anext(parts, None)  # the last chunk says so under its signature
                await self._room.acquire()
                if not self._replies.asked:
                    return
                request, envelope = self._chain.sign(self._compose(part), self._kit.signer, last=following is None)
                self._replies.expect(SignedPart(part, request, envelope.digest))
                self._expect()
                yield pb.LookupCall(credential=credential, request=wire_envelope.to_message(envelope))
                part = following
        except Exception as error:  # noqa: BLE001 - raised by `run`; whoever takes the chunks would only see them end
            self._trouble = error

    def _expect(self) -> None:
        """Wait for the next reply only so long, if one is due."""
        self._limit.reschedule(asyncio.get_running_loop().time() + SILENCE_S if self._replies.open else None)
