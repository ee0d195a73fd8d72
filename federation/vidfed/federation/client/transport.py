"""How an investigator's client reaches the gateway that asks for it: an interface, and the one over the network."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Protocol

import grpc

from vidfed.federation.lookup.contract import COLLECTING_KEY, NOT_IN_THE_LOG, MailboxEntry
from vidfed.federation.lookup.errors import GatewayError, GatewayRefusedError, MailboxError
from vidfed.rpc.channels import blocking_channel, open_channel, server_text
from vidfed.rpc.trust import GrpcMirror
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1 import gateway_pb2_grpc as rpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.kit import Kit
    from vidfed.security.trust.mirrors import Mirror
    from vidfed.v1 import audit_pb2 as audit_pb
    from vidfed.v1.lookup_pb2 import LookupCall

_TIMEOUT_S = 20.0
_MOMENT = re.compile(r"[0-9]{1,15}")  # ms since the epoch; int() refuses text of thousands of digits
_REFUSALS = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}


class NotInLogError(Exception):
    """A node says, and signed, that its log does not hold what it is asked to prove."""


class Transport(Protocol):
    """What a client needs of a gateway. All of it raises GatewayError or GatewayRefusedError when the gateway fails or refuses."""

    def lookup(self, call: LookupCall, timeout_s: float, on_kept: Callable[[int], object]) -> AsyncIterator[pb.NodeReply]:
        """Ask; `on_kept` is called with the time until which late answers are collected, if they are."""

    def stream(self, chunks: AsyncIterator[LookupCall]) -> AsyncGenerator[pb.NodeReply, None]:
        """Ask chunk by chunk; each is taken when there is room for it."""

    async def proof(self, request: pb.GetMemberProofRequest) -> audit_pb.GetProofResponse:
        """Fetch a node's proof. Raises NotInLogError."""

    async def mailbox_entries(self) -> list[MailboxEntry]:
        """List what is kept of this investigator's lookups."""

    def fetch(self, lookup: bytes) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (member, sealed reply) of a kept lookup. Raises MailboxError."""

    async def forget(self, lookup: bytes) -> None:
        """Delete what is kept of a lookup. Raises MailboxError."""

    def mirrors(self, known: Directory | None) -> list[Mirror]:
        """Return where a newer trust directory can be had; blocking, for `TufDirectory.refresh`."""

    async def close(self) -> None:
        """Let go of the gateway."""


class GrpcTransport:
    """The own member's gateway over mutual TLS."""

    def __init__(self, kit: Kit, directory: Directory) -> None:
        self._kit = kit
        self._address = kit.gateway
        self._trust_channel: grpc.Channel | None = None
        self._channel = open_channel(kit.gateway, kit.tls, directory, directory.member(kit.member))
        self._gateway = rpc.GatewayServiceStub(self._channel)

    async def lookup(self, call: LookupCall, timeout_s: float, on_kept: Callable[[int], object]) -> AsyncIterator[pb.NodeReply]:
        """Ask; see `Transport`."""
        with self._failures():
            replies = self._gateway.Lookup(call, timeout=timeout_s)
            told = dict(await replies.initial_metadata() or ())
            if _MOMENT.fullmatch(until_ms := str(told.get(COLLECTING_KEY, ""))):
                on_kept(int(until_ms))
            async for reply in replies:
                yield reply

    async def stream(self, chunks: AsyncIterator[LookupCall]) -> AsyncGenerator[pb.NodeReply, None]:
        """Ask chunk by chunk; see `Transport`."""
        with self._failures():
            call = self._gateway.LookupStream(chunks)
            try:
                async for reply in call:
                    yield reply
            finally:
                call.cancel()

    async def proof(self, request: pb.GetMemberProofRequest) -> audit_pb.GetProofResponse:
        """Fetch a node's proof; see `Transport`."""
        with self._failures():
            try:
                return await self._gateway.GetMemberProof(request, timeout=_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() in NOT_IN_THE_LOG:
                    raise NotInLogError from None
                raise

    async def mailbox_entries(self) -> list[MailboxEntry]:
        """List; see `Transport`."""
        with self._failures():
            response = await self._gateway.ListLookups(pb.ListLookupsRequest(), timeout=_TIMEOUT_S)
        return [
            MailboxEntry(one.id, one.asked_ms, one.collecting_until_ms, one.kept_until_ms, one.asked, one.replies)
            for one in response.lookups
        ]

    async def fetch(self, lookup: bytes) -> AsyncIterator[tuple[str, bytes]]:
        """Fetch; see `Transport`."""
        with self._failures(), self._kept_failures():
            async for reply in self._gateway.FetchLookup(pb.FetchLookupRequest(id=lookup), timeout=_TIMEOUT_S):
                yield reply.member, reply.sealed

    async def forget(self, lookup: bytes) -> None:
        """Forget; see `Transport`."""
        with self._failures(), self._kept_failures():
            await self._gateway.ForgetLookup(pb.ForgetLookupRequest(id=lookup), timeout=_TIMEOUT_S)

    def mirrors(self, known: Directory | None) -> list[Mirror]:
        """Return the gateway as a mirror; see `Transport`."""
        if known is None:
            return []
        if self._trust_channel is None:
            self._trust_channel = blocking_channel(self._address, self._kit.tls, known, known.member(self._kit.member))
        return [GrpcMirror("gateway", self._trust_channel)]

    async def close(self) -> None:
        """Close the connections."""
        await self._channel.close()
        if self._trust_channel is not None:
            self._trust_channel.close()

    @contextlib.contextmanager
    def _kept_failures(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise MailboxError(server_text(error)) from None
            raise

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            if error.code() in _REFUSALS:
                raise GatewayRefusedError(f"the gateway refuses: {server_text(error)}") from None
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise GatewayError(f"the gateway is busy: {server_text(error)}") from None
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise GatewayError(f"the gateway at {self._address} says: {server_text(error)}") from None
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                text = "cannot be reached: is it running, is this its address, is your kit still valid?"
                raise GatewayError(f"the gateway at {self._address} {text}") from None
            raise GatewayError(f"the gateway at {self._address} failed: {error.code().name}: {server_text(error)}") from None
