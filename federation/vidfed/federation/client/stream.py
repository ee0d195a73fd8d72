"""The investigator's end of a stream: parts go out signed and chained, answers come back in any order of members and are believed of none.

That nothing was dropped, repeated or exchanged on the way is seen by counting: each answer is bound by its signature to one chunk, each
chunk waits for exactly one answer of each member, and what has no answer stays open. The chain of the answers could not tell more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from vidfed.federation.client.receipt_store import Keeping
from vidfed.federation.lookup.answers import verify_answer
from vidfed.federation.lookup.errors import AnswerError, GatewayError
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome, outcome_of_answer
from vidfed.federation.lookup.question import Part
from vidfed.federation.lookup.receipts import Receipt
from vidfed.federation.lookup.verification import judged_failure
from vidfed.v1 import services_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.statuses import WireError
from vidfed.wire.stream import ChunkChain
from vidfed.wire.values import MAX_UNANSWERED_CHUNKS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from vidfed.federation.client.receipt_store import ReceiptStore
    from vidfed.federation.client.transport import Link
    from vidfed.security.clock import Clock
    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.kit import Kit
    from vidfed.wire.values import LookupRequest

SILENCE_S = 120.0  # a gateway that owes answers and says nothing for so long is given up; it speaks of every node far sooner
_REMEMBERED = 2 * MAX_UNANSWERED_CHUNKS  # answers of each member, to know one that is repeated

P = TypeVar("P", bound=Part)


@dataclass(slots=True, eq=False)
class _Asked(Generic[P]):
    """A part on its way, and the members whose answer is still due."""

    part: P
    request: LookupRequest
    digest: bytes
    due: set[str]


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
        self._directory = directory
        self._audience = frozenset(audience)
        self._clock = clock
        self._compose = compose
        self._on_node = on_node
        self._chain = ChunkChain()
        self._pending: deque[_Asked[P]] = deque()
        self._room = asyncio.Semaphore(MAX_UNANSWERED_CHUNKS)
        self._accepted: dict[str, deque[bytes]] = {member: deque(maxlen=_REMEMBERED) for member in self._audience}
        self._keeping = Keeping(receipts)
        self._trouble: Exception | None = None
        self.left: dict[str, NodeOutcome] = {}
        """Members that are not asked any more in this stream, and why."""

    async def run(self, link: Link, parts: AsyncIterator[P]) -> None:
        """Ask about all parts; return when each is answered by every member that has not left.

        Raises:
            GatewayError, GatewayRefusedError: the gateway fails, refuses, or says nothing any more.
        """
        try:
            async with (
                self._keeping,
                asyncio.timeout(None) as self._limit,
                contextlib.aclosing(link.stream(self._chunks(parts))) as replies,
            ):
                async for reply in replies:
                    self._take(reply)
                    self._expect()
        except TimeoutError:
            raise GatewayError(f"the gateway at {self._kit.gateway} owes answers and says nothing for {SILENCE_S:.0f} s") from None
        except GatewayError:
            if self._trouble is None:
                raise
        if self._trouble is not None:
            raise self._trouble
        for asked in self._pending:
            for member in asked.due:
                self.left.setdefault(member, NodeOutcome(member, Outcome.MISSING, "the gateway gave no answer of this node"))

    async def _chunks(self, parts: AsyncIterator[P]) -> AsyncIterator[pb.LookupCall]:
        credential = wire_envelope.to_message(self._kit.credential)
        try:
            part = await anext(parts, None)
            while part is not None:
                following = await anext(parts, None)  # the last chunk says so under its signature
                await self._room.acquire()
                due = set(self._audience - self.left.keys())
                if not due:
                    return
                request, envelope = self._chain.sign(self._compose(part), self._kit.signer, last=following is None)
                self._pending.append(_Asked(part, request, envelope.digest, due))
                self._expect()
                yield pb.LookupCall(credential=credential, request=wire_envelope.to_message(envelope))
                part = following
        except Exception as error:  # noqa: BLE001 - raised by `run`; whoever takes the chunks would only see them end
            self._trouble = error

    def _expect(self) -> None:
        """Wait for the next reply only so long, if one is due."""
        self._limit.reschedule(asyncio.get_running_loop().time() + SILENCE_S if self._pending else None)

    def _take(self, reply: pb.NodeReply) -> None:
        member = reply.member
        if member not in self._audience or member in self.left:
            return
        if reply.WhichOneof("reply") != "answer":
            self._leave(judged_failure(reply))
            return
        problem = "answers nothing that was asked"
        due = [asked for asked in self._pending if member in asked.due]
        for asked in due:
            try:
                envelope = wire_envelope.from_message(reply.answer)
                if envelope.digest in self._accepted[member]:
                    return  # repeated on the way
                answer = verify_answer(
                    envelope,
                    member=self._directory.member(member),
                    request=asked.request,
                    request_digest=asked.digest,
                    now_ms=self._clock(),
                )
            except (AnswerError, WireError) as error:
                problem = problem if asked is not due[0] else str(error)
                continue
            self._accepted[member].append(envelope.digest)
            for before in due[: due.index(asked)]:  # nodes answer in order: what came before was lost on the way
                self._settle(before, member)
            self._settle(asked, member)
            columns = {column.algorithm: column.max_distance for column in asked.part.columns}
            header = asked.request.header
            self._keeping.add(Receipt(header.federation, member, header.issued_ms, header.case_reference, envelope))
            columns = {column.algorithm: column.max_distance for column in asked.part.columns}
            self._on_node(asked.part, outcome_of_answer(member, answer, asked.part.items, columns))
            return
        if due:
            self._leave(NodeOutcome(member, Outcome.BAD_SIGNATURE, f"the answer {problem}; it was not believed"))

    def _leave(self, outcome: NodeOutcome) -> None:
        self.left[outcome.member] = outcome
        for asked in tuple(self._pending):
            self._settle(asked, outcome.member)

    def _settle(self, asked: _Asked[P], member: str) -> None:
        asked.due.discard(member)
        if not asked.due and asked in self._pending:
            self._pending.remove(asked)
            self._room.release()
