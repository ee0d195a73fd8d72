"""One question to many nodes at the same time, under one deadline. What a node does or does not do touches no other node's answer.

Each node has its own budget inside the deadline, and passes three gates before it is asked: its breaker (who keeps failing is left alone),
its slots (no more lookups at the same time than it keeps up with), its connection (made before anything is sent). Then the question is
sent exactly once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from vidfed.federation.lookup.errors import UnreachableError
from vidfed.federation.nodes.breaker import Breaker, BreakerState, Ticket
from vidfed.federation.nodes.concurrency import Slots
from vidfed.federation.nodes.connections import Connections, closed_under_call
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import services_pb2 as pb
from vidfed.v1 import services_pb2_grpc as rpc
from vidfed.wire.lookup import says_busy
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.federation.gateway.settings import GatewaySection
    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.identity.directory import Directory, Member
    from vidfed.v1.envelope_pb2 import Envelope

_log = logging.getLogger(__name__)
_PROOF_S = 10.0
_SMOOTHING = 0.2  # weight of the newest answer in a node's usual time
_BUSY_PAUSES_S = (0.25, 1.0, 3.0)  # before a question is put again to a node that was too busy to look at it; each varied by half
_KINDS = {
    grpc.StatusCode.UNAVAILABLE: FailureKind.UNREACHABLE,
    grpc.StatusCode.CANCELLED: FailureKind.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: FailureKind.TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Asking:
    """One question on its way out.

    Attributes:
        call: what is asked.
        directory: names the members' keys and addresses.
        deadline_s: for all nodes together, from now.
        late_s: how much longer an answer to a question that was sent in time is awaited.
        urgent: a child may be in danger: no breaker keeps it from a node.
    """

    call: pb.LookupCall
    directory: Directory
    deadline_s: float
    late_s: float = 0.0
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the gateway has learned of one member's node.

    Attributes:
        member: its id.
        breaker: what the breaker does now; `retry_in_s` says for how long if it is open.
        failures: in a row.
        under_way, waiting: lookups at the node now, and those that wait for a slot.
        allowed: how many may be at the node at the same time.
        answers, unanswered: since the gateway started.
        usual_ms: smoothed time of its answers; 0 before the first.
        last_failure: why it last gave no answer, empty if it never did.
    """

    member: str
    breaker: BreakerState
    retry_in_s: float
    failures: int
    under_way: int
    waiting: int
    allowed: int
    answers: int
    unanswered: int
    usual_ms: float
    last_failure: str


@dataclass(frozen=True, slots=True)
class Opening:
    """A way to a node for a stream.

    Attributes:
        channel: connected.
        end: to be called with what became of it: `good` as in `Breaker.report`; only the first call counts.
        retire: makes the next stream or lookup connect anew.
    """

    channel: grpc.aio.Channel
    end: Callable[[bool | None], None]
    retire: Callable[[], None]


@dataclass(slots=True)
class NotOpenError(Exception):
    """There is no way to a node; `reply` says why to the investigator."""

    reply: pb.NodeReply


@dataclass(slots=True)
class _Node:
    """One member's gates and figures."""

    breaker: Breaker
    slots: Slots
    answers: int = 0
    unanswered: int = 0
    usual_ms: float = 0.0
    last_failure: str = ""


@dataclass(slots=True)
class _Failed(Exception):  # noqa: N818 - a step's outcome, never seen outside
    """A step fails: `good` is what the breaker and the slots learn from it."""

    kind: FailureKind
    detail: str
    good: bool | None = field(default=False)


class Nodes:
    """The members' nodes as one gateway knows them, kept between lookups."""

    def __init__(self, own_tls: Callable[[], TlsIdentity], section: GatewaySection) -> None:
        self._section = section
        self._connections = Connections(own_tls, attempts=section.connect_attempts, connect_s=section.connect_s)
        self._nodes: dict[str, _Node] = {}

    async def ask(self, asking: Asking, member: Member) -> pb.NodeReply:
        """Return one member's reply, or why there is none. Raises nothing of the node's doing."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        node = self._node(member.id)
        ticket = node.breaker.admit(began_s, urgent=asking.urgent)
        if ticket is None:
            return _left_alone(member, node, began_s)
        visit = _Visit(member.id, node, ticket)
        # At the deadline the node has failed this lookup, also if its answer still comes and is kept for later.
        patience = loop.call_at(began_s + asking.deadline_s, visit.overdue, self._slow(asking))
        try:
            answer = await self._ask_in_time(asking, member, visit, began_s + asking.deadline_s)
            visit.end(good=True)
        except _Failed as failed:
            visit.end(good=failed.good)
            node.unanswered += 1
            node.last_failure = failed.kind.code
            return failure(member.id, failed.kind, failed.detail)
        except Exception:  # noqa: BLE001 - one member's odd entry must not take the other nodes' answers with it
            _log.exception("could not ask %s", member.id)
            return failure(member.id, FailureKind.PROTOCOL_ERROR, "the gateway could not ask; see its log")
        finally:
            patience.cancel()
            visit.end(good=None)  # a lookup that is given up half-way teaches nothing
        node.answers += 1
        took_ms = 1000.0 * (loop.time() - began_s)
        node.usual_ms += (took_ms - node.usual_ms) * (_SMOOTHING if node.usual_ms else 1.0)
        return pb.NodeReply(member=member.id, answer=answer)

    async def open(self, asking: Asking, member: Member) -> Opening:
        """Pass the gates for a stream: breaker and connection. No slot: a stream bounds what is under way at the node itself.

        Raises:
            NotOpenError: the node is left alone, or not reached by the deadline.
        """
        now_s = asyncio.get_running_loop().time()
        node = self._node(member.id)
        ticket = node.breaker.admit(now_s, urgent=asking.urgent)
        if ticket is None:
            raise NotOpenError(_left_alone(member, node, now_s))
        visit = _Visit(member.id, node, ticket)
        try:
            channel = await self._connect(asking, member, now_s + asking.deadline_s)
        except _Failed as failed:
            visit.end(good=failed.good)
            node.unanswered += 1
            node.last_failure = failed.kind.code
            raise NotOpenError(failure(member.id, failed.kind, failed.detail)) from None
        except BaseException:
            visit.end(good=None)
            raise
        return Opening(channel, visit.end, functools.partial(self._connections.retire, member.id, channel))

    async def proof(self, request: audit_pb.GetProofRequest, member: Member, directory: Directory) -> audit_pb.GetProofResponse:
        """Fetch a proof from one member's node.

        Raises:
            UnreachableError: no connection.
            grpc.aio.AioRpcError: it gives none.
        """
        channel = await self._connections.ready(member, directory)
        return await rpc.AuditServiceStub(channel).GetProof(request, timeout=_PROOF_S)

    def states(self) -> list[NodeState]:
        """Return what is known of every node asked so far, by member."""
        now_s = asyncio.get_running_loop().time()
        return [
            NodeState(
                member=member,
                breaker=(state := node.breaker.state(now_s)),
                retry_in_s=max(0.0, node.breaker.open_until_s - now_s) if state is BreakerState.OPEN else 0.0,
                failures=node.breaker.failures,
                under_way=node.slots.busy,
                waiting=node.slots.waiting,
                allowed=node.slots.limit.allowed,
                answers=node.answers,
                unanswered=node.unanswered,
                usual_ms=node.usual_ms,
                last_failure=node.last_failure,
            )
            for member, node in sorted(self._nodes.items())
        ]

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    def _node(self, member: str) -> _Node:
        if member not in self._nodes:
            self._nodes[member] = _Node(Breaker(self._section.breaker), Slots(self._section.max_calls_per_member))
        return self._nodes[member]

    async def _ask_in_time(self, asking: Asking, member: Member, visit: _Visit, until_s: float) -> Envelope:
        """Pass the gates and ask once. Raises _Failed."""
        loop = asyncio.get_running_loop()
        if not visit.take_free_slot():
            try:
                async with asyncio.timeout_at(until_s):
                    await visit.take_slot()
            except TimeoutError:
                raise _Failed(FailureKind.TIMEOUT, "not asked: other lookups kept the node busy until the deadline", good=None) from None
        channel = await self._connect(asking, member, until_s)
        for pause_s in _BUSY_PAUSES_S:
            answer = await self._send(asking, member, channel, until_s - loop.time() + asking.late_s)
            # A busy node has not looked at the question, so the same message may come again. Its signature is not checked here: whoever
            # forges this only has the node asked once more, and the client judges the answer it gets in the end.
            pause_s *= 0.5 + random.random()  # noqa: PLW2901, S311 - spreads load, guards nothing
            if not says_busy(answer.payload) or loop.time() + pause_s >= until_s:
                return answer
            visit.slow_down()
            await asyncio.sleep(pause_s)
        return await self._send(asking, member, channel, until_s - loop.time() + asking.late_s)

    async def _connect(self, asking: Asking, member: Member, until_s: float) -> grpc.aio.Channel:
        if (standing := self._connections.standing(member)) is not None:
            return standing
        try:
            async with asyncio.timeout_at(until_s):
                return await self._connections.ready(member, asking.directory)
        except UnreachableError as error:
            raise _Failed(FailureKind.UNREACHABLE, str(error)) from None
        except TimeoutError:
            detail = f"no connection to {member.endpoint} within the deadline"
            raise _Failed(FailureKind.TIMEOUT, detail, good=self._slow(asking)) from None

    async def _send(self, asking: Asking, member: Member, channel: grpc.aio.Channel, timeout_s: float) -> Envelope:
        try:
            return await rpc.NodeServiceStub(channel).Lookup(asking.call, timeout=max(0.0, timeout_s))
        except grpc.aio.AioRpcError as error:
            kind = _KINDS.get(error.code(), FailureKind.PROTOCOL_ERROR)
            if kind is FailureKind.TIMEOUT:
                detail = f"no answer from {member.endpoint} within the deadline"
                raise _Failed(kind, detail, good=self._slow(asking)) from None
            if kind is FailureKind.UNREACHABLE:
                # The question may have reached the node: it is not sent again, only the next one gets a new connection.
                self._connections.retire(member.id, channel)
                raise _Failed(kind, f"the connection to {member.endpoint} broke before an answer came") from None
            raise _Failed(kind, f"{member.endpoint}: {error.code().name}") from None
        except asyncio.CancelledError:
            if not closed_under_call():
                raise
            raise _Failed(FailureKind.UNREACHABLE, f"the connection to {member.endpoint} was replaced before an answer came") from None

    def _slow(self, asking: Asking) -> bool | None:
        """Silence until the deadline is a failure of the node only if it was given time; who is in a hurry harms nobody else."""
        return False if asking.deadline_s >= self._section.breaker_slow_s else None


class _Visit:
    """One lookup at one node: holds the breaker's ticket and a slot, and gives both back once, with what was learned."""

    def __init__(self, member: str, node: _Node, ticket: Ticket) -> None:
        self._member = member
        self._node = node
        self._ticket: Ticket | None = ticket
        self._epoch: int | None = None

    def take_free_slot(self) -> bool:
        """Take a slot if that needs no waiting."""
        self._epoch = self._node.slots.take_free()
        return self._epoch is not None

    async def take_slot(self) -> None:
        """Wait for a slot. Raises TimeoutError if the visit ended in the very moment in which it was given."""
        epoch = await self._node.slots.take()
        if self._ticket is None:
            self._node.slots.give_back(epoch, good=None)
            raise TimeoutError
        self._epoch = epoch

    def slow_down(self) -> None:
        """Let fewer lookups at the node: it says that it is busy."""
        if self._epoch is not None:
            self._node.slots.limit.bad(self._epoch)

    def overdue(self, good: bool | None) -> None:
        """End the visit at the deadline. Of a node that was not asked, because other lookups had all its slots, nothing is learned."""
        self.end(good=good if self._epoch is not None else None)

    def end(self, good: bool | None) -> None:
        """End the visit; a second end does nothing."""
        if self._ticket is None:
            return
        now_s = asyncio.get_running_loop().time()
        ticket, self._ticket = self._ticket, None
        before = self._node.breaker.state(now_s)
        self._node.breaker.report(ticket, good=good, now_s=now_s)
        after = self._node.breaker.state(now_s)
        if before is not after:
            _log.warning("breaker of %s: %s, was %s", self._member, after.value, before.value)
        if self._epoch is not None:
            self._node.slots.give_back(self._epoch, good=good)


def _left_alone(member: Member, node: _Node, now_s: float) -> pb.NodeReply:
    wait_s = max(1.0, node.breaker.open_until_s - now_s)
    detail = f"not asked: it kept failing ({node.last_failure}); tried again in {wait_s:.0f} s"
    return failure(member.id, FailureKind.BREAKER_OPEN, detail)


def failure(member: str, kind: FailureKind, detail: str) -> pb.NodeReply:
    """Return what the gateway says of a member that gave no answer."""
    return pb.NodeReply(member=member, failure=pb.Failure(kind=kind.value, detail=detail))
