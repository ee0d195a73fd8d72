"""A member's gateway on the network: gRPC over mutual TLS before the core that does the work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import grpc

from vidfed.casework.carriage.opening import open_casework
from vidfed.casework.standing.watches import Closet
from vidfed.federation.gateway.audit_trail import AuditTrail
from vidfed.federation.gateway.core import GatewayCore
from vidfed.federation.gateway.enrolment import EnrolmentServicer
from vidfed.federation.gateway.mailbox import Mailbox
from vidfed.federation.gateway.settings import read_gateway_section
from vidfed.federation.gateway.standing import StandingLookups, watch_key
from vidfed.federation.gateway.standing_service import StandingServicer
from vidfed.federation.gateway.status import SERVING_FILE, keep_status
from vidfed.federation.lookup.contract import COLLECTING_KEY, NOT_IN_THE_LOG
from vidfed.federation.lookup.errors import BusyError, MailboxError, UnreachableError
from vidfed.federation.nodes.pool import NodePool
from vidfed.rpc.channels import SERVER_OPTIONS, peer_certificate, server_credentials, server_text
from vidfed.rpc.parsing import new_server
from vidfed.rpc.serving import Service, open_shared, run_until_signal
from vidfed.rpc.supervision import supervise
from vidfed.rpc.trust import TrustServicer
from vidfed.security.clock import MINUTE_MS, SECOND_MS, system_clock
from vidfed.security.errors import AuditError, SecurityError
from vidfed.security.lockfile import hold_lockfile
from vidfed.security.member.issued import Standing
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import enrolment_pb2_grpc as enrolment_rpc
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1 import gateway_pb2_grpc as rpc
from vidfed.v1 import trust_pb2_grpc as trust_rpc
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vidfed.federation.gateway.settings import GatewaySection
    from vidfed.rpc.serving import Shared
    from vidfed.security.clock import Clock
    from vidfed.security.identity.tls import Peer
    from vidfed.security.member.home import MemberHome
    from vidfed.v1.lookup_pb2 import LookupCall

_log = logging.getLogger(__name__)
_HOUR_MS = 3_600 * SECOND_MS
_KEPT_FILE = "lookups.db"
_Codes = grpc.StatusCode


class GatewayServicer(rpc.GatewayServiceServicer):
    """The gateway's calls, each handed to the core; what the core raises becomes a status."""

    def __init__(self, core: GatewayCore) -> None:
        self.core = core

    async def Lookup(  # noqa: N802 - the name in the .proto
        self, request: LookupCall, context: grpc.aio.ServicerContext[LookupCall, pb.NodeReply]
    ) -> AsyncIterator[pb.NodeReply]:
        """Ask the request's audience; stream each node's reply as it comes."""
        told: list[asyncio.Task[None]] = []

        def tell(until_ms: int) -> None:
            told.append(asyncio.ensure_future(context.send_initial_metadata(((COLLECTING_KEY, str(until_ms)),))))

        async with _refusals(context):
            replies = self.core.lookup(request, peer_certificate(context), float(context.time_remaining() or 0), tell)
            async with contextlib.aclosing(replies):
                async for reply in replies:
                    if told:
                        await told.pop()
                    yield reply

    async def LookupStream(  # noqa: N802 - the name in the .proto
        self, request_iterator: AsyncIterator[LookupCall], context: grpc.aio.ServicerContext[LookupCall, pb.NodeReply]
    ) -> AsyncIterator[pb.NodeReply]:
        """Ask the nodes chunk by chunk."""
        async with _refusals(context), contextlib.aclosing(self.core.lookup_stream(request_iterator, peer_certificate(context))) as replies:
            async for reply in replies:
                yield reply

    async def ListLookups(  # noqa: N802 - the name in the .proto
        self, request: pb.ListLookupsRequest, context: grpc.aio.ServicerContext[pb.ListLookupsRequest, pb.ListLookupsResponse]
    ) -> pb.ListLookupsResponse:
        """List what is kept for the caller."""
        del request
        async with _refusals(context):
            kept = await self.core.mailbox_entries(peer_certificate(context))
        return pb.ListLookupsResponse(
            lookups=[
                pb.MailboxLookup(
                    id=one.id,
                    asked_ms=one.asked_ms,
                    collecting_until_ms=one.collecting_until_ms,
                    kept_until_ms=one.kept_until_ms,
                    asked=one.asked,
                    replies=one.replies,
                )
                for one in kept
            ]
        )

    async def FetchLookup(  # noqa: N802 - the name in the .proto
        self, request: pb.FetchLookupRequest, context: grpc.aio.ServicerContext[pb.FetchLookupRequest, pb.SealedReply]
    ) -> AsyncIterator[pb.SealedReply]:
        """Stream what is kept of one of the caller's lookups."""
        async with _refusals(context):
            for member, sealed in await self.core.fetch(request.id, peer_certificate(context)):
                yield pb.SealedReply(member=member, sealed=sealed)

    async def ForgetLookup(  # noqa: N802 - the name in the .proto
        self, request: pb.ForgetLookupRequest, context: grpc.aio.ServicerContext[pb.ForgetLookupRequest, pb.ForgetLookupResponse]
    ) -> pb.ForgetLookupResponse:
        """Delete what is kept of one of the caller's lookups."""
        async with _refusals(context):
            await self.core.forget(request.id, peer_certificate(context))
        return pb.ForgetLookupResponse()

    async def GetMemberProof(  # noqa: N802 - the name in the .proto
        self, request: pb.GetMemberProofRequest, context: grpc.aio.ServicerContext[pb.GetMemberProofRequest, audit_pb.GetProofResponse]
    ) -> audit_pb.GetProofResponse:
        """Fetch a node's proof for an investigator of this member, who checks it."""
        try:
            async with _refusals(context):
                return await self.core.proof(request, peer_certificate(context))
        except UnreachableError as error:
            await context.abort(_Codes.FAILED_PRECONDITION, f"{request.member}: {error}")
        except grpc.aio.AioRpcError as error:  # UNAVAILABLE, say, would be taken for the gateway's own state
            code = error.code() if error.code() in NOT_IN_THE_LOG else _Codes.FAILED_PRECONDITION
            await context.abort(code, f"{request.member}: {server_text(error)}")


@contextlib.asynccontextmanager
async def _refusals(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Turn what the core raises on purpose into statuses."""
    try:
        yield
    except AuditError as error:
        _log.error("%s; nothing is passed on", error)
        await context.abort(_Codes.FAILED_PRECONDITION, "the gateway cannot log and therefore does not pass answers on")
    except BusyError as error:
        await context.abort(_Codes.RESOURCE_EXHAUSTED, str(error))
    except MailboxError as error:
        await context.abort(_Codes.NOT_FOUND, str(error))
    except (SecurityError, WireError) as error:
        _log.warning("refused: %s", error)
        await context.abort(_Codes.PERMISSION_DENIED, str(error))


def open_mailbox(home: MemberHome, section: GatewaySection, clock: Clock = system_clock) -> Mailbox:
    """Open what a member's gateway keeps of lookups.

    Raises:
        MailboxError: it cannot be opened.
    """
    keep_ms = int(section.keep_hours * _HOUR_MS)
    return Mailbox(home.state_file(_KEPT_FILE), max_bytes=section.keep_max_mib * 2**20, keep_ms=keep_ms, clock=clock)


@contextlib.asynccontextmanager
async def gateway_service(shared: Shared, on_ready: Callable[[str], None]) -> AsyncIterator[Service]:
    """Open a member's gateway, ready to be run, and close it in the end.

    Args:
        shared: what the process's services share.
        on_ready: called with `host:port` once lookups are taken.

    Raises:
        MailboxError: the file of kept lookups cannot be opened.
        SecurityError: configuration, keys or directory cannot be used.
    """
    home, source = shared.home, shared.source
    section = read_gateway_section(home)
    with contextlib.ExitStack() as stack:
        mailbox = stack.enter_context(contextlib.closing(open_mailbox(home, section)))
        core = GatewayCore(home, section, source, NodePool(home.node_tls, section.pool), AuditTrail(shared.audit, home.member), mailbox)
        standing = Standing(home)

        def allowed(peer: Peer) -> bool:
            return peer.member == home.member and peer.serial not in standing.revoked()

        server = new_server(SERVER_OPTIONS)
        rpc.add_GatewayServiceServicer_to_server(GatewayServicer(core), server)
        trust_rpc.add_TrustServiceServicer_to_server(TrustServicer(source, allowed, system_clock), server)
        enrolment_rpc.add_EnrolmentServiceServicer_to_server(EnrolmentServicer(home, source, shared.audit, system_clock), server)

        def announce(address: str) -> None:
            stack.enter_context(hold_lockfile(home.state_file(SERVING_FILE), address))
            on_ready(address)

        casework = stack.enter_context(open_casework(home, source, shared.audit))
        casework.serve_persons(server)
        watched = StandingLookups(
            federation=home.federation,
            member=home.member,
            signer=home.signer,
            source=source,
            database=casework.context.database,
            closet=Closet(watch_key(home.state_file("watch.key"))),
            nodes=core.nodes,
            trail=AuditTrail(shared.audit, home.member),
            ends=casework.transport,
            clock=system_clock,
            shortest_s=int(casework.section.watch_minutes * MINUTE_MS / SECOND_MS),
            found=casework.alarm.hit,
        )
        rpc.add_StandingGatewayServiceServicer_to_server(StandingServicer(watched), server)
        work = {"standing lookups": watched.run, "status": lambda: keep_status(home, core.nodes, lambda: core.running)}
        beside = [asyncio.create_task(supervise(name, each)) for name, each in work.items()]
        try:
            yield Service(server, section.listen, server_credentials(home.node_tls, source), announce)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await core.close()


async def serve(home: MemberHome, on_ready: Callable[[str], None]) -> None:
    """Serve a member's gateway until SIGTERM or SIGINT, then let running lookups finish.

    Args:
        home: the member's folder.
        on_ready: called with `host:port` once lookups are taken.

    Raises:
        ServeError: the address cannot be used.
        MailboxError: the file of kept lookups cannot be opened.
        SecurityError: keys or directory cannot be used.
    """
    with open_shared(home) as shared:
        async with gateway_service(shared, on_ready) as service:
            await run_until_signal(service)
