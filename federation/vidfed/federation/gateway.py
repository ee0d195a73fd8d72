"""A member's gateway: takes its own investigators' lookups, adds the member's signature, asks all nodes, passes answers on.

For each call: (1) the TLS peer is an investigator of this member, (2) its credential holds and is the same person's, (3) its
signature holds over the bytes as received, (4) only then the request is parsed and must come from this member and person, now, for
this call, (5) the audit log has it, (6) the member's signature is added to the same envelope and the nodes are asked, (7) the audit log
has each reply before the investigator has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from typing import TYPE_CHECKING

import grpc

from vidfed.federation.bookkeeping import Bookkeeping
from vidfed.federation.errors import BusyError, UnreachableError
from vidfed.federation.fanout import Asking, Nodes
from vidfed.federation.gateway_status import SERVING_FILE, keep_status
from vidfed.federation.settings import read_gateway_section
from vidfed.federation.stream import Chunk, relay
from vidfed.security.audit.member import Checkpointer, open_log, read_audit_section
from vidfed.security.clock import system_clock
from vidfed.security.credentials import verify_credential
from vidfed.security.errors import AuditError, PeerError, SecurityError
from vidfed.security.presence import announced
from vidfed.security.replay import check_time_window
from vidfed.security.tls import INVESTIGATOR_ROLE, verify_peer
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import services_pb2 as pb
from vidfed.v1 import services_pb2_grpc as rpc
from vidfed.v1 import trust_pb2_grpc as trust_rpc
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.channels import SERVER_OPTIONS, run_until_signal, server_credentials
from vidfed.wire.errors import WireError
from vidfed.wire.lookup import read_request
from vidfed.wire.trust import PeerMirrors, TrustServicer
from vidfed.wire.values import GATEWAY_GRACE_S, LOOKUP_METHOD, REQUEST_TYPE, STREAM_METHOD, Urgency

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from vidfed.federation.settings import GatewaySection
    from vidfed.security.clock import Clock
    from vidfed.security.directory import Directory, DirectorySource
    from vidfed.security.envelope import Envelope
    from vidfed.security.home import MemberHome
    from vidfed.security.tls import Peer
    from vidfed.wire.values import LookupRequest

_log = logging.getLogger(__name__)


class GatewayServicer(rpc.GatewayServiceServicer):
    """The gateway's calls."""

    def __init__(
        self,
        home: MemberHome,
        section: GatewaySection,
        source: DirectorySource,
        nodes: Nodes,
        books: Bookkeeping,
        clock: Clock = system_clock,
    ) -> None:
        self._home = home
        self._section = section
        self._source = source
        self.nodes = nodes
        self._books = books
        self._clock = clock
        self._running: Counter[str] = Counter()

    async def Lookup(  # noqa: N802 - the name in the .proto
        self, request: pb.LookupCall, context: grpc.aio.ServicerContext[pb.LookupCall, pb.NodeReply]
    ) -> AsyncIterator[pb.NodeReply]:
        """Ask the request's audience; stream each node's reply as it comes."""
        (leaf_pem,) = context.auth_context()["x509_pem_cert"]
        with contextlib.ExitStack() as running:
            try:
                directory = self._source.current()
                peer = self._own_investigator(leaf_pem, directory)  # 1
                running.enter_context(self._one_more(peer))
                envelope, question = await self._admit(request, peer, directory)
                await self._books.asked(question, envelope.digest)  # 5
            except (SecurityError, WireError, BusyError) as error:
                _log.warning("refused a lookup: %s", error)
                await context.abort(_CODES.get(type(error), grpc.StatusCode.PERMISSION_DENIED), str(error))
            call = pb.LookupCall(credential=request.credential, request=wire_envelope.to_message(envelope))
            members = [directory.members[member] for member in dict.fromkeys(question.header.audience) if member in directory.members]
            # The caller's own deadline leaves time to hear which nodes did not answer; a call without one is not of our client.
            deadline_s = max(0.0, min(self._section.deadline_s, float(context.time_remaining() or 0) - GATEWAY_GRACE_S))
            asking = Asking(call, directory, deadline_s, urgent=question.header.urgency is Urgency.LIFE_AT_RISK)
            try:
                received = functools.partial(self._books.received, question, envelope.digest)  # 7
                async for reply in self.nodes.ask_all(asking, members, received):
                    yield reply
            except AuditError as error:
                _log.error("%s; the answers are not passed on", error)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway cannot log and therefore does not pass answers on")

    async def LookupStream(  # noqa: N802 - the name in the .proto
        self, request_iterator: AsyncIterator[pb.LookupCall], context: grpc.aio.ServicerContext[pb.LookupCall, pb.NodeReply]
    ) -> AsyncIterator[pb.NodeReply]:
        """Ask the nodes chunk by chunk; see `stream`."""
        (leaf_pem,) = context.auth_context()["x509_pem_cert"]
        with contextlib.ExitStack() as running:
            try:
                running.enter_context(self._one_more(self._own_investigator(leaf_pem, self._source.current())))
                replies = relay(self._chunks(request_iterator, leaf_pem), self.nodes, self._received)
                async with contextlib.aclosing(replies):
                    async for reply in replies:
                        yield reply
            except (SecurityError, WireError, BusyError) as error:
                _log.warning("ended a stream of lookups: %s", error)
                await context.abort(_CODES.get(type(error), grpc.StatusCode.PERMISSION_DENIED), str(error))

    async def _chunks(self, calls: AsyncIterator[pb.LookupCall], leaf_pem: bytes) -> AsyncIterator[Chunk]:
        """Take each chunk through all steps again: what was trusted when the stream began may not be any more.

        Raises:
            SecurityError, WireError: a step refuses.
        """
        audience: tuple[str, ...] | None = None
        async for call in calls:
            directory = self._source.current()
            envelope, question = await self._admit(call, self._own_investigator(leaf_pem, directory), directory, STREAM_METHOD)
            if question.header.audience != (audience or question.header.audience):
                raise PeerError("a chunk is to other members than those before it in its stream")
            audience = question.header.audience
            await self._books.asked(question, envelope.digest)
            call_on = pb.LookupCall(credential=call.credential, request=wire_envelope.to_message(envelope))
            urgent = question.header.urgency is Urgency.LIFE_AT_RISK
            yield Chunk(question, envelope.digest, Asking(call_on, directory, self._section.deadline_s, urgent=urgent))

    async def _received(self, chunk: Chunk, reply: pb.NodeReply) -> None:
        await self._books.received(chunk.question, chunk.digest, reply)

    async def GetMemberProof(  # noqa: N802 - the name in the .proto
        self, request: pb.GetMemberProofRequest, context: grpc.aio.ServicerContext[pb.GetMemberProofRequest, audit_pb.GetProofResponse]
    ) -> audit_pb.GetProofResponse:
        """Fetch a node's proof for an investigator of this member, who checks it."""
        (leaf_pem,) = context.auth_context()["x509_pem_cert"]
        try:
            directory = self._source.current()
            self._own_investigator(leaf_pem, directory)
            return await self.nodes.proof(request.proof, directory.member(request.member), directory)
        except SecurityError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except UnreachableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"{request.member}: {error}")
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), f"{request.member}: {error.details()}"[:500])

    @property
    def running(self) -> int:
        """How many lookups are under way."""
        return self._running.total()

    @contextlib.contextmanager
    def _one_more(self, peer: Peer) -> Iterator[None]:
        """Count a lookup while it runs.

        Raises:
            BusyError: there are as many as there may be.
        """
        if self.running >= self._section.max_lookups:
            raise BusyError("the gateway has as many lookups as it takes at once; try again in some seconds")
        if self._running[peer.pseudonym] >= self._section.max_lookups_per_investigator:
            raise BusyError(f"{peer.pseudonym} has as many lookups as one person may have at once; wait for one to end")
        self._running[peer.pseudonym] += 1
        try:
            yield
        finally:
            self._running[peer.pseudonym] -= 1
            if not self._running[peer.pseudonym]:
                del self._running[peer.pseudonym]

    def _own_investigator(self, leaf_pem: bytes, directory: Directory) -> Peer:
        """Step 1."""
        peer = verify_peer(leaf_pem, directory, self._clock())
        if (peer.member, peer.role) != (self._home.member, INVESTIGATOR_ROLE):
            raise PeerError(f"this gateway serves the investigators of {self._home.member} only")
        return peer

    async def _admit(
        self, call: pb.LookupCall, peer: Peer, directory: Directory, method: str = LOOKUP_METHOD
    ) -> tuple[Envelope, LookupRequest]:
        """Steps 2 to 4, and 6: return the envelope with the member's signature added, and what is in it.

        Raises:
            SecurityError, WireError: a step refuses, and it is logged.
        """
        credential_envelope, request_envelope = wire_envelope.read_call(call)
        try:
            # Signatures take their time: not on the event loop, where every other lookup would wait for them.
            question = await asyncio.to_thread(self._check, credential_envelope, request_envelope, peer, directory, method)
        except (SecurityError, WireError) as error:
            await self._books.refused(peer.pseudonym, request_envelope.digest, type(error).__name__)
            raise
        return request_envelope.signed_by(self._home.signer), question  # 6

    def _check(
        self, credential_envelope: Envelope, request_envelope: Envelope, peer: Peer, directory: Directory, method: str
    ) -> LookupRequest:
        """Steps 2 to 4."""
        now_ms = self._clock()
        own = directory.member(self._home.member)
        credential = verify_credential(  # 2
            credential_envelope,
            federation=directory.federation,
            member=own.id,
            member_keys=own.signing_keys,
            now_ms=now_ms,
            revoked=own.revoked,
        )
        if credential.pseudonym != peer.pseudonym:
            raise PeerError("the credential is another person's than the TLS certificate")
        question = read_request(request_envelope.verify(REQUEST_TYPE, [credential.key]))  # 3, 4
        header = question.header
        if (header.federation, header.issuer, header.pseudonym) != (directory.federation, own.id, credential.pseudonym):
            raise PeerError("the request names another federation, member or person")
        if header.method != method:
            raise PeerError("the request was signed for another call")
        check_time_window(header.issued_ms, header.expires_ms, now_ms)
        return question


_CODES: dict[type[Exception], grpc.StatusCode] = {
    AuditError: grpc.StatusCode.UNAVAILABLE,
    BusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


async def serve(home: MemberHome, on_ready: Callable[[str], None]) -> None:
    """Serve a member's gateway until SIGTERM or SIGINT, then let running lookups finish.

    Args:
        home: the member's folder.
        on_ready: called with `host:port` once lookups are taken.

    Raises:
        ServeError: the address cannot be used.
        SecurityError: keys or directory cannot be used.
    """
    section = read_gateway_section(home)
    peers = PeerMirrors(home.member, home.node_tls)
    source = home.directory_source(ask=peers)
    source.ready()
    nodes = Nodes(home.node_tls, section)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(peers))
        audit = stack.enter_context(contextlib.closing(open_log(home)))
        stack.enter_context(Checkpointer(audit, read_audit_section(home).checkpoint_every_s))
        if home.refresh_s:
            stack.enter_context(source.refreshing(home.refresh_s))
        servicer = GatewayServicer(home, section, source, nodes, Bookkeeping(audit, home.member))
        server = grpc.aio.server(options=SERVER_OPTIONS)
        rpc.add_GatewayServiceServicer_to_server(servicer, server)
        trust_rpc.add_TrustServiceServicer_to_server(TrustServicer(source, lambda peer: peer.member == home.member, system_clock), server)

        def announce(address: str) -> None:
            stack.enter_context(announced(home.state_file(SERVING_FILE), address))
            on_ready(address)

        status = asyncio.create_task(keep_status(home, nodes, lambda: servicer.running))
        try:
            await run_until_signal(server, section.listen, server_credentials(home.node_tls, source), announce)
        finally:
            status.cancel()
            await asyncio.gather(status, return_exceptions=True)
            await nodes.close()
        _log.info("stopped")
