"""Asking without a gateway: for a machine that holds the member's own folder and reaches the other members' nodes itself.

A node answers only questions that the member has signed, over a connection with the member's certificate. Both keys lie in the member's
folder; so this is for the unit's own servers (a gateway that is down, a test, a site with one machine), never for an investigator's
laptop. Everything a gateway does is done, in this process: the same checks, the same entries in the same audit log (docs/adr/0032).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import grpc

from vidfed.federation.client.client import FederationClient
from vidfed.federation.client.transport import NotInLogError
from vidfed.federation.gateway.audit_trail import AuditTrail
from vidfed.federation.gateway.core import GatewayCore
from vidfed.federation.gateway.settings import read_gateway_section
from vidfed.federation.lookup.contract import NOT_IN_THE_LOG
from vidfed.federation.lookup.errors import BusyError, GatewayError, GatewayRefusedError, QuestionError, UnreachableError
from vidfed.federation.nodes.pool import NodePool
from vidfed.rpc.channels import server_text
from vidfed.rpc.trust import PeerMirrors
from vidfed.security.errors import AuditError, SecurityError
from vidfed.security.member.audit_log import open_log
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from vidfed.federation.lookup.contract import MailboxEntry
    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import Kit
    from vidfed.security.trust.mirrors import Mirror
    from vidfed.v1 import audit_pb2 as audit_pb
    from vidfed.v1 import gateway_pb2 as pb
    from vidfed.v1.lookup_pb2 import LookupCall


@contextlib.asynccontextmanager
async def open_direct(kit: Kit, home: MemberHome) -> AsyncIterator[FederationClient]:
    """Give a client that asks the nodes itself. Nothing is kept for later: whoever waits gets the answers.

    Args:
        kit: of the investigator who asks.
        home: the folder of the kit's member.

    Raises:
        QuestionError: kit and folder are of different members.
        SecurityError: keys, directory or log cannot be used.
    """
    if (kit.federation, kit.member) != (home.federation, home.member):
        raise QuestionError(f"the kit is of {kit.member} in {kit.federation}, the folder of {home.member} in {home.federation}")
    section = read_gateway_section(home)
    with contextlib.ExitStack() as stack:
        peers = stack.enter_context(contextlib.closing(PeerMirrors(home.member, home.node_tls, home.federation, home.ask)))
        source = home.directory_source(ask=peers)
        source.ready()
        log = stack.enter_context(contextlib.closing(open_log(home)))
        core = GatewayCore(home, section, source, NodePool(home.node_tls, section.pool), AuditTrail(log, home.member))
        async with FederationClient(kit, transport=DirectTransport(core, kit, source.held)) as client:
            yield client


class DirectTransport:
    """A `Transport` to a gateway's core in this very process."""

    def __init__(self, core: GatewayCore, kit: Kit, held: Mirror) -> None:
        """Use a gateway's core.

        Args:
            core: of the kit's own member. Closed with this transport.
            kit: who asks.
            held: the trust directory that the member's folder holds.
        """
        self._core = core
        self._held = held
        self._leaf_pem = kit.tls.certificate

    async def lookup(self, call: LookupCall, timeout_s: float, on_kept: Callable[[int], object]) -> AsyncIterator[pb.NodeReply]:
        """Ask; see `Transport`."""
        with _core_failures():
            replies = self._core.lookup(call, self._leaf_pem, timeout_s, on_kept)
            async with contextlib.aclosing(replies):
                async for reply in replies:
                    yield reply

    async def stream(self, chunks: AsyncIterator[LookupCall]) -> AsyncGenerator[pb.NodeReply, None]:
        """Ask chunk by chunk; see `Transport`."""
        with _core_failures():
            async with contextlib.aclosing(self._core.lookup_stream(chunks, self._leaf_pem)) as replies:
                async for reply in replies:
                    yield reply

    async def proof(self, request: pb.GetMemberProofRequest) -> audit_pb.GetProofResponse:
        """Fetch a node's proof; see `Transport`."""
        with _core_failures():
            try:
                return await self._core.proof(request, self._leaf_pem)
            except grpc.aio.AioRpcError as error:
                if error.code() in NOT_IN_THE_LOG:
                    raise NotInLogError from None
                raise GatewayError(f"{request.member}: {server_text(error)}") from None

    async def mailbox_entries(self) -> list[MailboxEntry]:
        """List; see `Transport`."""
        with _core_failures():
            return await self._core.mailbox_entries(self._leaf_pem)

    async def fetch(self, lookup: bytes) -> AsyncIterator[tuple[str, bytes]]:
        """Fetch; see `Transport`."""
        with _core_failures():
            for reply in await self._core.fetch(lookup, self._leaf_pem):
                yield reply

    async def forget(self, lookup: bytes) -> None:
        """Forget; see `Transport`."""
        with _core_failures():
            await self._core.forget(lookup, self._leaf_pem)

    def mirrors(self, known: Directory | None) -> list[Mirror]:
        """Return what the member's folder holds; see `Transport`."""
        del known
        return [self._held]

    async def close(self) -> None:
        """Collect no more, and close the connections to the nodes."""
        await self._core.close()


@contextlib.contextmanager
def _core_failures() -> Iterator[None]:
    try:
        yield
    except AuditError as error:
        raise GatewayError(f"nothing is asked without a log: {error}") from None
    except (BusyError, UnreachableError) as error:
        raise GatewayError(str(error)) from None
    except (SecurityError, WireError) as error:
        raise GatewayRefusedError(f"refused: {error}") from None
