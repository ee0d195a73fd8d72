"""One question to many nodes at the same time, under one deadline. What a node does or does not do touches no other node's answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc

from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import services_pb2 as pb
from vidfed.v1 import services_pb2_grpc as rpc
from vidfed.wire.channels import open_channel
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from vidfed.security.directory import Directory, Member
    from vidfed.security.tls import TlsIdentity

_log = logging.getLogger(__name__)
_RETIRE_S = 60.0
_PROOF_S = 10.0
_KINDS = {
    grpc.StatusCode.UNAVAILABLE: FailureKind.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: FailureKind.TIMEOUT,
    grpc.StatusCode.CANCELLED: FailureKind.TIMEOUT,
}


class Nodes:
    """Connections to the members' nodes, kept between lookups and renewed when a member's entry or the own certificate changes."""

    def __init__(self, own_tls: Callable[[], TlsIdentity]) -> None:
        self._own_tls = own_tls
        self._channels: dict[str, tuple[object, grpc.aio.Channel]] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def ask_all(
        self,
        call: pb.LookupCall,
        members: Iterable[Member],
        directory: Directory,
        deadline_s: float,
        before: Callable[[pb.NodeReply], Awaitable[None]],
    ) -> AsyncIterator[pb.NodeReply]:
        """Yield one reply for each member, as they come; a member that gives none by the deadline yields a failure.

        Args:
            call: what is asked.
            members: who is asked.
            directory: names their keys and addresses.
            deadline_s: for all of them.
            before: awaited for each reply before it is yielded, for several replies at the same time; what it raises ends the asking.
        """

        async def ask(member: Member) -> pb.NodeReply:
            reply = await self._ask(call, member, directory, deadline_s)
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

    async def proof(self, request: audit_pb.GetProofRequest, member: Member, directory: Directory) -> audit_pb.GetProofResponse:
        """Fetch a proof from one member's node.

        Raises:
            grpc.aio.AioRpcError: it gives none.
        """
        return await rpc.AuditServiceStub(self._channel(member, directory)).GetProof(request, timeout=_PROOF_S)

    async def close(self) -> None:
        """Close all connections."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for _, channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def _ask(self, call: pb.LookupCall, member: Member, directory: Directory, deadline_s: float) -> pb.NodeReply:
        try:
            channel = self._channel(member, directory)
            answer = await rpc.NodeServiceStub(channel).Lookup(call, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                # Not kept: a node that comes back is reached by the next lookup, whatever gRPC's back-off would say.
                self._retire(member.id)
            kind = _KINDS.get(error.code(), FailureKind.PROTOCOL_ERROR)
            return pb.NodeReply(member=member.id, failure=pb.Failure(kind=kind.value, detail=_described(kind, member, error)))
        except Exception:  # noqa: BLE001 - one member's odd entry must not take the other nodes' answers with it
            _log.exception("could not ask %s", member.id)
            failure = pb.Failure(kind=FailureKind.PROTOCOL_ERROR.value, detail="the gateway could not ask; see its log")
            return pb.NodeReply(member=member.id, failure=failure)
        return pb.NodeReply(member=member.id, answer=answer)

    def _channel(self, member: Member, directory: Directory) -> grpc.aio.Channel:
        tls = self._own_tls()
        basis = (member.endpoint, member.tls_ca, tls.certificate)
        known = self._channels.get(member.id)
        if known is not None and known[0] == basis:
            return known[1]
        if known is not None:
            self._retire(member.id)
        channel = open_channel(member.endpoint, tls, directory, member)
        self._channels[member.id] = (basis, channel)
        return channel

    def _retire(self, member_id: str) -> None:
        """Open no more calls on this connection; those of other lookups that still run on it may end."""
        known = self._channels.pop(member_id, None)
        if known is not None:
            task = asyncio.create_task(known[1].close(grace=_RETIRE_S))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


def _described(kind: FailureKind, member: Member, error: grpc.aio.AioRpcError) -> str:
    if kind is FailureKind.UNREACHABLE:
        return f"no connection to {member.endpoint}"
    if kind is FailureKind.TIMEOUT:
        return f"no answer from {member.endpoint} within the deadline"
    return f"{member.endpoint}: {error.code().name}"
