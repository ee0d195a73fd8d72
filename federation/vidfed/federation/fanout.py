"""One question to many nodes at the same time, under one deadline. What a node does or does not do touches no other node's answer.

Each node has its own budget inside the deadline, and passes three gates before it is asked: its breaker (who keeps failing is left alone),
its slots (no more lookups at the same time than it keeps up with), its connection (made before anything is sent). Then the question is
sent exactly once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from vidfed.federation.breaker import Breaker, BreakerState, Ticket
from vidfed.federation.connections import Connections
from vidfed.federation.errors import UnreachableError
from vidfed.federation.slots import Slots
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import services_pb2 as pb
from vidfed.v1 import services_pb2_grpc as rpc
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from vidfed.federation.settings import GatewaySection
    from vidfed.security.directory import Directory, Member
    from vidfed.security.tls import TlsIdentity
    from vidfed.v1.envelope_pb2 import Envelope

_log = logging.getLogger(__name__)
_PROOF_S = 10.0
_SMOOTHING = 0.2  # weight of the newest answer in a node's usual time
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
        urgent: a child may be in danger: no breaker keeps it from a node.
    """

    call: pb.LookupCall
    directory: Directory
    deadline_s: float
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
        report: to be called once with what became of it: `good` as in `Breaker.report`.
        retire: makes the next stream or lookup connect anew.
    """

    channel: grpc.aio.Channel
    report: Callable[..., None]
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

    async def ask_all(
        self, asking: Asking, members: Iterable[Member], before: Callable[[pb.NodeReply], Awaitable[None]]
    ) -> AsyncIterator[pb.NodeReply]:
        """Yield one reply for each member, as they come; a member that gives none by the deadline yields a failure.

        Args:
            asking: what is asked.
            members: who is asked.
            before: awaited for each reply before it is yielded, for several replies at the same time; what it raises ends the asking.
        """

        async def ask(member: Member) -> pb.NodeReply:
            reply = await self.ask(asking, member)
            await before(reply)
            return reply

        tasks = [asyncio.create_task(ask(member)) for member in members]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def ask(self, asking: Asking, member: Member) -> pb.NodeReply:
        """Return one member's reply, or why there is none. Raises nothing of the node's doing."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        node = self._node(member.id)
        ticket = node.breaker.admit(began_s, urgent=asking.urgent)
        if ticket is None:
            return _left_alone(member, node, began_s)
        good: bool | None = None  # what a lookup that is given up half-way teaches
        try:
            answer = await self._ask_in_time(asking, member, node, began_s + asking.deadline_s)
            good = True
        except _Failed as failed:
            good = failed.good
            node.unanswered += 1
            node.last_failure = failed.kind.code
            return _failure(member, failed.kind, failed.detail)
        except Exception:  # noqa: BLE001 - one member's odd entry must not take the other nodes' answers with it
            _log.exception("could not ask %s", member.id)
            return _failure(member, FailureKind.PROTOCOL_ERROR, "the gateway could not ask; see its log")
        finally:
            self._report(member, node, ticket, good=good)
        node.answers += 1
        took_ms = 1000.0 * (loop.time() - began_s)
        node.usual_ms += (took_ms - node.usual_ms) * (_SMOOTHING if node.usual_ms else 1.0)
        return pb.NodeReply(member=member.id, answer=answer)

    async def open(self, asking: Asking, member: Member) -> Opening:
        """Pass the gates for a stream: breaker and connection. No slot: a stream bounds what is under way at the node itself.

        Raises:
            NotOpenError: the node is left alone, or not reached by the deadline.
        """
        loop = asyncio.get_running_loop()
        node = self._node(member.id)
        ticket = node.breaker.admit(loop.time(), urgent=asking.urgent)
        if ticket is None:
            raise NotOpenError(_left_alone(member, node, loop.time()))
        try:
            channel = await self._connect(asking, member, loop.time() + asking.deadline_s)
        except _Failed as failed:
            node.unanswered += 1
            node.last_failure = failed.kind.code
            self._report(member, node, ticket, good=failed.good)
            raise NotOpenError(_failure(member, failed.kind, failed.detail)) from None
        except BaseException:
            self._report(member, node, ticket, good=None)
            raise
        retire = functools.partial(self._connections.retire, member.id, channel)
        return Opening(channel, functools.partial(self._report, member, node, ticket), retire)

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

    def _report(self, member: Member, node: _Node, ticket: Ticket, *, good: bool | None) -> None:
        now_s = asyncio.get_running_loop().time()
        before = node.breaker.state(now_s)
        node.breaker.report(ticket, good=good, now_s=now_s)
        after = node.breaker.state(now_s)
        if before is not after:
            _log.warning("breaker of %s: %s, was %s", member.id, after.value, before.value)

    async def _ask_in_time(self, asking: Asking, member: Member, node: _Node, until_s: float) -> Envelope:
        """Pass the gates and ask once. Raises _Failed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until_s):
                epoch = await node.slots.take()
        except TimeoutError:
            raise _Failed(FailureKind.TIMEOUT, "not asked: other lookups kept the node busy until the deadline", good=None) from None
        good: bool | None = None
        try:
            channel = await self._connect(asking, member, until_s)
            answer = await self._send(asking, member, channel, until_s - loop.time())
            good = True
        except _Failed as failed:
            good = failed.good
            raise
        finally:
            node.slots.give_back(epoch, good=good)
        return answer

    async def _connect(self, asking: Asking, member: Member, until_s: float) -> grpc.aio.Channel:
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

    def _slow(self, asking: Asking) -> bool | None:
        """Silence until the deadline is a failure of the node only if it was given time; who is in a hurry harms nobody else."""
        return False if asking.deadline_s >= self._section.breaker_slow_s else None


def _left_alone(member: Member, node: _Node, now_s: float) -> pb.NodeReply:
    wait_s = max(1.0, node.breaker.open_until_s - now_s)
    return _failure(member, FailureKind.BREAKER_OPEN, f"not asked: it kept failing ({node.last_failure}); tried again in {wait_s:.0f} s")


def _failure(member: Member, kind: FailureKind, detail: str) -> pb.NodeReply:
    return pb.NodeReply(member=member.id, failure=pb.Failure(kind=kind.value, detail=detail))
