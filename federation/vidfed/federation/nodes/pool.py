"""One question to many nodes at the same time, under one deadline. What a node does or does not do touches no other node's answer.

Each node has its own budget inside the deadline, and three things stand before it: its breaker (who keeps failing is left alone), its
concurrency limiter (no more lookups at the same time than it keeps up with), its connection (made before anything is sent). Then the
request is sent exactly once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from typing import TYPE_CHECKING

import grpc

from vidfed.federation.lookup.errors import UnreachableError
from vidfed.federation.nodes.breaker import Breaker
from vidfed.federation.nodes.concurrency import ConcurrencyLimiter
from vidfed.federation.nodes.connections import Connections, closed_under_call
from vidfed.federation.nodes.outgoing import NodeChannel, NodeUnavailableError, failure
from vidfed.federation.nodes.visit import KnownNode, Visit, VisitFailed
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import audit_pb2_grpc as audit_rpc
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1 import lookup_pb2_grpc as lookup_rpc
from vidfed.wire.answers import says_busy
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.federation.nodes.limits import PoolLimits
    from vidfed.federation.nodes.outgoing import OutgoingLookup
    from vidfed.federation.nodes.visit import NodeState
    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.identity.directory import Directory, Member
    from vidfed.v1.envelope_pb2 import Envelope

_log = logging.getLogger(__name__)
_PROOF_S = 10.0
_SMOOTHING = 0.2  # weight of the newest answer in a node's usual time
_BUSY_PAUSES_S = (0.25, 1.0, 3.0)  # before a question is put again to a node that was too busy to look at it; each varied by half
_SEE_LOG = "the gateway could not ask; see its log"
_KINDS = {
    grpc.StatusCode.UNAVAILABLE: FailureKind.UNREACHABLE,
    grpc.StatusCode.CANCELLED: FailureKind.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: FailureKind.TIMEOUT,
}


class NodePool:
    """The members' nodes as one gateway knows them, kept between lookups."""

    def __init__(self, own_tls: Callable[[], TlsIdentity], limits: PoolLimits) -> None:
        self._limits = limits
        self._connections = Connections(own_tls, attempts=limits.connect_attempts, connect_s=limits.connect_s)
        self._nodes: dict[str, KnownNode] = {}

    async def ask(self, outgoing: OutgoingLookup, member: Member) -> pb.NodeReply:
        """Return one member's reply, or why there is none. Raises nothing of the node's doing."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        node = self._node(member.id)
        ticket = node.breaker.admit(began_s, urgent=outgoing.urgent)
        if ticket is None:
            return node.left_alone(member.id, began_s)
        visit = Visit(member.id, node, ticket)
        # At the deadline the node has failed this lookup, also if its answer still comes and is kept for later.
        patience = loop.call_at(began_s + outgoing.deadline_s, visit.overdue, self._slow(outgoing))
        try:
            answer = await self._ask_in_time(outgoing, member, visit, began_s + outgoing.deadline_s)
            visit.end(good=True)
        except VisitFailed as failed:
            visit.end(good=failed.good)
            node.unanswered += 1
            node.last_failure = failed.kind.code
            return failure(member.id, failed.kind, failed.detail)
        except Exception:  # noqa: BLE001 - one member's odd entry must not take the other nodes' answers with it
            _log.exception("could not ask %s", member.id)
            return failure(member.id, FailureKind.PROTOCOL_ERROR, _SEE_LOG)
        finally:
            patience.cancel()
            visit.end(good=None)  # a lookup that is given up half-way teaches nothing
        node.answers += 1
        took_ms = 1000.0 * (loop.time() - began_s)
        node.usual_ms += (took_ms - node.usual_ms) * (_SMOOTHING if node.usual_ms else 1.0)
        return pb.NodeReply(member=member.id, answer=answer)

    async def open(self, outgoing: OutgoingLookup, member: Member) -> NodeChannel:
        """Pass the gates for a stream: breaker and connection. No slot: a stream bounds what is under way at the node itself.

        Raises:
            NodeUnavailableError: the node is left alone, or not reached by the deadline.
        """
        now_s = asyncio.get_running_loop().time()
        node = self._node(member.id)
        ticket = node.breaker.admit(now_s, urgent=outgoing.urgent)
        if ticket is None:
            raise NodeUnavailableError(node.left_alone(member.id, now_s))
        visit = Visit(member.id, node, ticket)
        try:
            channel = await self._connect(outgoing, member, now_s + outgoing.deadline_s)
        except VisitFailed as failed:
            visit.end(good=failed.good)
            node.unanswered += 1
            node.last_failure = failed.kind.code
            raise NodeUnavailableError(failure(member.id, failed.kind, failed.detail)) from None
        except Exception:  # noqa: BLE001 - as in `ask`
            visit.end(good=None)
            _log.exception("could not open a stream to %s", member.id)
            raise NodeUnavailableError(failure(member.id, FailureKind.PROTOCOL_ERROR, _SEE_LOG)) from None
        except BaseException:
            visit.end(good=None)
            raise
        return NodeChannel(channel, visit.end, functools.partial(self._connections.retire, member.id, channel))

    async def proof(self, request: audit_pb.GetProofRequest, member: Member, directory: Directory) -> audit_pb.GetProofResponse:
        """Fetch a proof from one member's node.

        Raises:
            UnreachableError: no connection.
            grpc.aio.AioRpcError: it gives none.
        """
        channel = await self._connections.ready(member, directory)
        return await audit_rpc.AuditServiceStub(channel).GetProof(request, timeout=_PROOF_S)

    def states(self) -> list[NodeState]:
        """Return what is known of every node asked so far, by member."""
        now_s = asyncio.get_running_loop().time()
        return [node.state(member, now_s) for member, node in sorted(self._nodes.items())]

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    def _node(self, member: str) -> KnownNode:
        if member not in self._nodes:
            self._nodes[member] = KnownNode(Breaker(self._limits.breaker), ConcurrencyLimiter(self._limits.max_calls_per_member))
        return self._nodes[member]

    async def _ask_in_time(self, outgoing: OutgoingLookup, member: Member, visit: Visit, until_s: float) -> Envelope:
        """Pass the gates and ask once. Raises VisitFailed."""
        loop = asyncio.get_running_loop()
        if not visit.take_free_slot():
            try:
                async with asyncio.timeout_at(until_s):
                    await visit.take_slot()
            except TimeoutError:
                raise VisitFailed(
                    FailureKind.TIMEOUT, "not asked: other lookups kept the node busy until the deadline", good=None
                ) from None
        channel = await self._connect(outgoing, member, until_s)
        for pause_s in _BUSY_PAUSES_S:
            answer = await self._send(outgoing, member, channel, until_s - loop.time() + outgoing.late_s)
            # A busy node has not looked at the question, so the same message may come again. Its signature is not checked here: whoever
            # forges this only has the node asked once more, and the client judges the answer it gets in the end.
            pause_s *= 0.5 + random.random()  # noqa: PLW2901, S311 - spreads load, guards nothing
            if not says_busy(answer.payload) or loop.time() + pause_s >= until_s:
                return answer
            visit.slow_down()
            await asyncio.sleep(pause_s)
        return await self._send(outgoing, member, channel, until_s - loop.time() + outgoing.late_s)

    async def _connect(self, outgoing: OutgoingLookup, member: Member, until_s: float) -> grpc.aio.Channel:
        if (standing := self._connections.standing(member)) is not None:
            return standing
        try:
            async with asyncio.timeout_at(until_s):
                return await self._connections.ready(member, outgoing.directory)
        except UnreachableError as error:
            raise VisitFailed(FailureKind.UNREACHABLE, str(error)) from None
        except TimeoutError:
            detail = f"no connection to {member.endpoint} within the deadline"
            raise VisitFailed(FailureKind.TIMEOUT, detail, good=self._slow(outgoing)) from None

    async def _send(self, outgoing: OutgoingLookup, member: Member, channel: grpc.aio.Channel, timeout_s: float) -> Envelope:
        try:
            return await lookup_rpc.NodeServiceStub(channel).Lookup(outgoing.call, timeout=max(0.0, timeout_s))
        except grpc.aio.AioRpcError as error:
            kind = _KINDS.get(error.code(), FailureKind.PROTOCOL_ERROR)
            if kind is FailureKind.TIMEOUT:
                detail = f"no answer from {member.endpoint} within the deadline"
                raise VisitFailed(kind, detail, good=self._slow(outgoing)) from None
            if kind is FailureKind.UNREACHABLE:
                # The question may have reached the node: it is not sent again, only the next one gets a new connection.
                self._connections.retire(member.id, channel)
                raise VisitFailed(kind, f"the connection to {member.endpoint} broke before an answer came") from None
            raise VisitFailed(kind, f"{member.endpoint}: {error.code().name}") from None
        except asyncio.CancelledError:
            if not closed_under_call():
                raise
            raise VisitFailed(FailureKind.UNREACHABLE, f"the connection to {member.endpoint} was replaced before an answer came") from None

    def _slow(self, outgoing: OutgoingLookup) -> bool | None:
        """Silence until the deadline is a failure of the node only if it was given time; who is in a hurry harms nobody else."""
        return False if outgoing.deadline_s >= self._limits.breaker_slow_s else None
