"""The investigator's side: asks through the own member's gateway, believes nobody, and says what each node said.

Every answer is verified here against this kit's own copy of the directory, and the set of answers against the set that should have
answered: a gateway can neither alter, invent, misattribute nor hide one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Self

import grpc

from vidfed.federation.client_stream import P, PartStream
from vidfed.federation.errors import AnswerError, GatewayError, GatewayRefusedError
from vidfed.federation.outcome import LookupResult, NodeOutcome, Outcome, outcome_of_answer
from vidfed.federation.receipts import Checked, Receipt, check_proof
from vidfed.federation.verify import verify_answer
from vidfed.security.clock import SECOND_MS, system_clock
from vidfed.security.envelope import Envelope
from vidfed.security.errors import ReceiptError
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import services_pb2 as pb
from vidfed.v1 import services_pb2_grpc as rpc
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.channels import blocking_channel, open_channel
from vidfed.wire.errors import WireError
from vidfed.wire.lookup import write_request
from vidfed.wire.trust import GrpcMirror
from vidfed.wire.values import (
    GATEWAY_GRACE_S,
    LOOKUP_METHOD,
    MESSAGE_ID_BYTES,
    REQUEST_TYPE,
    STREAM_METHOD,
    FailureKind,
    LookupRequest,
    RequestHeader,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from vidfed.federation.question import Justification, Part
    from vidfed.security.clock import Clock
    from vidfed.security.directory import Directory
    from vidfed.security.kit import Kit

_log = logging.getLogger(__name__)
DEFAULT_DEADLINE_S = 20.0
CHUNK_LIFE_S = 60.0  # no node takes an older one anyway
_FAILURES = {
    FailureKind.UNREACHABLE.value: Outcome.UNREACHABLE,
    FailureKind.TIMEOUT.value: Outcome.TIMEOUT,
    FailureKind.BREAKER_OPEN.value: Outcome.BREAKER_OPEN,
}
_NOT_IN_THE_LOG = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE}
_REFUSALS = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}


class FederationClient:
    """Asks for one investigator. Use as an async context manager."""

    def __init__(self, kit: Kit, *, clock: Clock = system_clock) -> None:
        self._kit = kit
        self._clock = clock
        self._trust_channel: grpc.Channel | None = None
        self._source = kit.directory_source(clock, self._ask_gateway)
        directory = self._source.last_known_or_fail()
        self._channel = open_channel(kit.gateway, kit.tls, directory, directory.member(kit.member))
        self._gateway = rpc.GatewayServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        if self._trust_channel is not None:
            self._trust_channel.close()

    async def refresh_directory(self) -> Directory:
        """Take what the gateway holds if it is newer and holds; return the directory to use.

        What the gateway has and does not hold changes nothing: the kit's own copy is used until it expires.

        Raises:
            DirectoryError: there is no usable directory.
        """
        await asyncio.to_thread(self._source.refresh)
        return self._source.current()

    def _ask_gateway(self, known: Directory | None) -> list[GrpcMirror]:
        if known is None:
            return []
        self._trust_channel = self._trust_channel or blocking_channel(
            self._kit.gateway, self._kit.tls, known, known.member(self._kit.member)
        )
        return [GrpcMirror("gateway", self._trust_channel)]

    async def lookup(
        self,
        part: Part,
        justification: Justification,
        *,
        ask: Sequence[str] = (),
        deadline_s: float = DEFAULT_DEADLINE_S,
        on_node: Callable[[NodeOutcome], None] = lambda _: None,
    ) -> LookupResult:
        """Ask about the items of one part.

        Args:
            part: from `split`.
            justification: why.
            ask: members to ask; all if empty.
            deadline_s: how long to wait for the slowest node.
            on_node: called with what each node said, verified, as it comes; not for nodes of which the gateway says nothing.

        Raises:
            UnknownMemberError: `ask` names somebody who is no member.
            GatewayError, GatewayRefusedError: the gateway fails or refuses; nothing is known then.
        """
        directory = self._source.current()
        audience = tuple(directory.member(member).id for member in dict.fromkeys(ask)) or directory.full_members()
        request = self._request(part, justification, audience, directory, deadline_s)
        envelope = Envelope(REQUEST_TYPE, write_request(request)).signed_by(self._kit.signer)
        call = pb.LookupCall(credential=wire_envelope.to_message(self._kit.credential), request=wire_envelope.to_message(envelope))
        outcomes: dict[str, NodeOutcome] = {}
        saving: list[asyncio.Task[object]] = []

        def keep(receipt: Receipt) -> None:
            saving.append(asyncio.create_task(asyncio.to_thread(receipt.save, self._kit.folder / "receipts")))

        try:
            async for reply in self._gateway.Lookup(call, timeout=deadline_s + GATEWAY_GRACE_S):
                if reply.member in audience and reply.member not in outcomes:
                    outcomes[reply.member] = self._judge(reply, part, request, envelope.digest, directory, keep)
                    on_node(outcomes[reply.member])
        except grpc.aio.AioRpcError as error:
            if not outcomes:
                raise self._gateway_error(error) from None
        finally:
            for saved in await asyncio.gather(*saving, return_exceptions=True):
                if isinstance(saved, OSError):  # what the nodes said is worth more than the proof that they said it
                    _log.warning("a receipt could not be kept: %s", saved)
        nodes = (
            outcomes.get(member, NodeOutcome(member, Outcome.MISSING, "the gateway gave no answer of this node")) for member in audience
        )
        return LookupResult(part.items, tuple(nodes))

    async def lookup_stream(
        self, parts: AsyncIterator[P], justification: Justification, *, ask: Sequence[str], on_node: Callable[[P, NodeOutcome], None]
    ) -> dict[str, NodeOutcome]:
        """Ask about any number of parts, one after the other, with few of them under way at a time.

        Args:
            parts: taken as they are needed.
            justification: why.
            ask: members to ask.
            on_node: called with what each node said about each part, verified, as it comes.

        Returns:
            The members that left the stream before its end, and why; parts of which `on_node` was not told them were not answered.

        Raises:
            UnknownMemberError: `ask` names somebody who is no member.
            GatewayError, GatewayRefusedError: the gateway fails or refuses; what `on_node` was told holds all the same.
        """
        directory = self._source.current()
        audience = tuple(directory.member(member).id for member in dict.fromkeys(ask))

        def told(part: P, node: NodeOutcome, receipt: Receipt) -> None:
            saving.add(save := asyncio.create_task(asyncio.to_thread(receipt.save, self._kit.folder / "receipts")))
            save.add_done_callback(saving.discard)
            on_node(part, node)

        saving: set[asyncio.Task[object]] = set()
        stream = PartStream(
            self._kit,
            directory,
            audience,
            self._clock,
            lambda part: self._request(part, justification, audience, directory, CHUNK_LIFE_S, STREAM_METHOD),
            _failed,
            told,
        )
        try:
            await stream.run(self._gateway.LookupStream(), parts)
        except grpc.aio.AioRpcError as error:
            raise self._gateway_error(error) from None
        finally:
            await asyncio.gather(*saving, return_exceptions=True)
        return stream.left

    async def fetch_proof(self, receipt: Receipt) -> Checked:
        """Ask the node for the proof that its log has the answer of a receipt, and check it.

        Raises:
            ReceiptError: the node does not stand by its answer, or cannot show that it does.
            GatewayError: gateway or node cannot be reached; that proves nothing.
        """
        directory = self._source.current()
        log, then, _, _ = receipt.read(directory)
        wanted = audit_pb.GetProofRequest(position=log.position, known_size=then.size)
        try:
            response = await self._gateway.GetMemberProof(
                pb.GetMemberProofRequest(member=receipt.member, proof=wanted), timeout=DEFAULT_DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in _NOT_IN_THE_LOG:
                raise ReceiptError(
                    f"{receipt.member} says that its log has no entry {log.position} or no state of {then.size} entries, and signed both"
                ) from None
            raise self._gateway_error(error) from None
        return check_proof(receipt, response, directory)

    def _request(
        self,
        part: Part,
        justification: Justification,
        audience: tuple[str, ...],
        directory: Directory,
        deadline_s: float,
        method: str = LOOKUP_METHOD,
    ) -> LookupRequest:
        now_ms = self._clock()
        header = RequestHeader(
            federation=directory.federation,
            issuer=self._kit.member,
            audience=audience,
            message_id=secrets.token_bytes(MESSAGE_ID_BYTES),
            issued_ms=now_ms,
            expires_ms=now_ms + int((deadline_s + GATEWAY_GRACE_S) * SECOND_MS),
            method=method,
            directory_version=directory.version,
            purpose=justification.purpose,
            legal_basis=justification.legal_basis,
            offence_type=justification.offence_type,
            case_reference=justification.case_reference,
            pseudonym=self._kit.pseudonym,
            urgency=justification.urgency,
        )
        return LookupRequest(header, len(part.items), part.columns)

    def _judge(
        self,
        reply: pb.NodeReply,
        part: Part,
        request: LookupRequest,
        digest: bytes,
        directory: Directory,
        keep: Callable[[Receipt], None],
    ) -> NodeOutcome:
        if reply.WhichOneof("reply") != "answer":
            return _failed(reply)
        try:
            envelope = wire_envelope.from_message(reply.answer)
            answer = verify_answer(
                envelope,
                member=directory.member(reply.member),
                request=request,
                request_digest=digest,
                now_ms=self._clock(),
            )
        except (AnswerError, WireError) as error:
            return NodeOutcome(reply.member, Outcome.BAD_SIGNATURE, f"the answer {error}; it was not believed")
        header = request.header
        keep(Receipt(header.federation, reply.member, header.issued_ms, header.case_reference, envelope))
        return outcome_of_answer(reply.member, answer, part.items, {column.algorithm: column.max_distance for column in part.columns})

    def _gateway_error(self, error: grpc.aio.AioRpcError) -> GatewayError | GatewayRefusedError:
        if error.code() in _REFUSALS:
            return GatewayRefusedError(f"the gateway refuses: {error.details()}")
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return GatewayError(f"the gateway is busy: {error.details()}")
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return GatewayError(
                f"the gateway at {self._kit.gateway} cannot be reached: is it running, is this its address, is your kit still valid?"
            )
        return GatewayError(f"the gateway at {self._kit.gateway} failed: {error.code().name}: {error.details()}")


def _failed(reply: pb.NodeReply) -> NodeOutcome:
    """Return what the gateway says of a node that it has no answer from."""
    outcome = _FAILURES.get(reply.failure.kind, Outcome.PROTOCOL_ERROR)
    return NodeOutcome(reply.member, outcome, reply.failure.detail if reply.failure.detail.isprintable() else "")
