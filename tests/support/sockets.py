"""A federation over real sockets inside one process: true TLS, true gateways, and nodes that behave as a test tells them to.

Everything runs on the event loop of the test and listens on free loopback ports. For real processes see `vidfed.synthetic.federation`.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from tests.support.administrators import Administrators
from tests.support.memory import answer_to, sign_answer
from tests.support.patience import DEADLINE_S
from vidfed.federation.gateway.audit_trail import AuditTrail
from vidfed.federation.gateway.core import GatewayCore
from vidfed.federation.gateway.service import GatewayServicer, open_mailbox
from vidfed.federation.gateway.settings import GatewaySection
from vidfed.federation.nodes.pool import NodePool
from vidfed.index import Algorithm
from vidfed.node.config import render_config
from vidfed.node.lookup.admission import Admission, AdmissionLimits
from vidfed.node.records.known import make_store
from vidfed.node.serving.server import NodeServicer
from vidfed.rpc.channels import SERVER_OPTIONS, open_channel, server_credentials
from vidfed.rpc.parsing import new_server
from vidfed.rpc.trust import TrustServicer
from vidfed.security.clock import system_clock
from vidfed.security.member.audit_log import open_log
from vidfed.security.member.enrolment import issue_kit
from vidfed.security.member.home import MemberHome, create_home
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.entry import Entry
from vidfed.v1 import gateway_pb2_grpc as gateway_rpc
from vidfed.v1 import lookup_pb2_grpc as lookup_rpc
from vidfed.v1 import trust_pb2_grpc as trust_rpc
from vidfed.wire.capabilities import SPOKEN
from vidfed.wire.envelope import read_call, to_message
from vidfed.wire.requests import read_request
from vidfed.wire.statuses import Status
from vidfed.wire.values import Hit, Match

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    import grpc

    from tests.support.memory import MemoryNode
    from vidfed.security.audit import AuditLog
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import DirectorySource
    from vidfed.security.member.kit import Kit
    from vidfed.security.trust.client import TufDirectory
    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import RecordView

FEDERATION = "sockets"
_HOST = "127.0.0.1"


class ScriptedNode(lookup_rpc.NodeServiceServicer):
    """A node that replies what a test tells it to."""

    def __init__(self, reply: Callable[[LookupCall], Awaitable[EnvelopeMessage]]) -> None:
        self._reply = reply

    async def Lookup(  # noqa: N802 - the name in the .proto
        self, request: LookupCall, context: grpc.aio.ServicerContext[LookupCall, EnvelopeMessage]
    ) -> EnvelopeMessage:
        """Reply to one lookup."""
        del context
        return await self._reply(request)

    async def LookupStream(  # noqa: N802
        self, request_iterator: AsyncIterator[LookupCall], context: grpc.aio.ServicerContext[LookupCall, EnvelopeMessage]
    ) -> AsyncIterator[EnvelopeMessage]:
        """Reply to each chunk of a stream; chaining the answers is the reply's affair."""
        del context
        async for call in request_iterator:
            yield await self._reply(call)


def no_hit(call: LookupCall, member: str, signer: Signer, audit_signer: Signer, **header: object) -> EnvelopeMessage:
    """Return a member's 'no hit' to this call, signed; it does not look anything up. `header` replaces fields of the answer's header."""
    request = read_call(call)[1]
    question = read_request(request.payload)
    place = {"sequence": question.stream.number, "last": question.stream.last} if question.stream else {}
    told = {"method": question.header.method} | place | header
    answer = answer_to(question, request.digest, member, audit_signer, Status.ANSWERED, system_clock(), **told)
    return to_message(sign_answer(answer, signer))


class SocketFederation:
    """Members with folders on disk, in-process servers, one trust directory. Use as an async context manager."""

    def __init__(self, folder: Path, *members: str, places: Mapping[str, str] | None = None, gateway: str = f"{_HOST}:0") -> None:
        """Make the members below `folder`; nobody serves yet.

        Args:
            folder: everything is below it.
            members: their ids.
            places: `host:port` of their nodes, where that is known already; see `move`.
            gateway: `host:port` on which their gateways listen when run by `vidfed gateway serve`.
        """
        self.folder = folder
        self.administrators = Administrators(folder / "federation", FEDERATION)
        self._stack = contextlib.AsyncExitStack()

        def make(member: str) -> MemberHome:
            config = render_config(
                federation=FEDERATION,
                member=member,
                name=f"Unit {member}",
                contact="desk",
                listen=f"{_HOST}:0",
                gateway_listen=gateway,
                directory_folder=str(self.administrators.published),
            )
            endpoint = (places or {}).get(member, f"{_HOST}:1")
            home = create_home(folder / member, config=config, endpoint=endpoint, anchor=self.administrators.anchor, speaks=SPOKEN)
            make_store(home)
            return home

        with ThreadPoolExecutor() as pool:  # making a folder is mostly waiting for the disk
            self.homes = dict(zip(members, pool.map(make, members), strict=True))
        self.administrators.admit(*(Entry.load(home.entry_path) for home in self.homes.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def move(self, member: str, endpoint: str) -> None:
        """Publish a directory in which this member's node is elsewhere."""
        self.administrators.folder.accept(OwnEntry(self.homes[member]).renew(endpoint=endpoint))

    async def serve(self, member: str, register: Callable[[grpc.aio.Server], None], directory_source: DirectorySource | None = None) -> str:
        """Start a server with this member's certificate, for whom this directory (by default the true one) names; return its address."""
        home = self.homes[member]
        server = new_server(SERVER_OPTIONS)
        register(server)
        port = server.add_secure_port(f"{_HOST}:0", server_credentials(home.node_tls, directory_source or home.directory_source()))
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        return f"{_HOST}:{port}"

    async def start_node(self, member: str, servicer: lookup_rpc.NodeServiceServicer) -> str:
        """Start a node and list its address."""
        address = await self.serve(member, lambda server: lookup_rpc.add_NodeServiceServicer_to_server(servicer, server))
        self.move(member, address)
        return address

    async def start_honest(self, *members: str) -> None:
        """Start nodes that know nothing, and say so."""
        for member in members:
            await self.start_node(member, ScriptedNode(self.honest(member)))

    def honest(self, member: str, **header: object) -> Callable[[LookupCall], Awaitable[EnvelopeMessage]]:
        """Return the reply of a node that knows nothing, and says so."""
        signer, audit_signer = self.homes[member].signer, self.homes[member].audit_signer

        async def reply(call: LookupCall) -> EnvelopeMessage:
            return no_hit(call, member, signer, audit_signer, **header)

        return reply

    def knowing(self, member: str, record: RecordView, distance: int = 4) -> Callable[[LookupCall], Awaitable[EnvelopeMessage]]:
        """Return the reply of a node that knows the first item of whatever it is asked by PDQ, and tells this record."""
        signer, audit_signer = self.homes[member].signer, self.homes[member].audit_signer

        async def reply(call: LookupCall) -> EnvelopeMessage:
            envelope = read_call(call)[1]
            request = read_request(envelope.payload)
            answer = answer_to(request, envelope.digest, member, audit_signer, Status.ANSWERED, system_clock())
            if any(column.algorithm is Algorithm.PDQ for column in request.columns):
                hit = Hit(0, 0, (Match(Algorithm.PDQ, distance, 0),))
                answer = replace(answer, records=(record,), hits=(hit,))
            return to_message(sign_answer(answer, signer))

        return reply

    def gateway(
        self, member: str, *, deadline_s: float = DEADLINE_S, audit: AuditLog | None = None, section: GatewaySection | None = None
    ) -> GatewayServicer:
        """Return this member's true gateway, not serving yet; with `section` its other settings than the usual ones."""
        home = self.homes[member]
        section = section or GatewaySection(f"{_HOST}:0", deadline_s)
        if audit is None:
            audit = self._stack.enter_context(contextlib.closing(open_log(home)))
        mailbox = self._stack.enter_context(contextlib.closing(open_mailbox(home, section)))
        core = GatewayCore(
            home, section, home.directory_source(), NodePool(home.node_tls, section.pool), AuditTrail(audit, member), mailbox
        )
        self._stack.push_async_callback(core.close)
        return GatewayServicer(core)

    async def start_gateway(
        self, member: str, servicer: gateway_rpc.GatewayServiceServicer | None = None, directory_source: TufDirectory | None = None
    ) -> Kit:
        """Start a gateway, the true one and with the true directory if none is given, and return a new kit of who asks through it."""
        serving = servicer or self.gateway(member)
        source = directory_source or self.homes[member].directory_source()
        source.current()
        trust = TrustServicer(source, lambda peer: peer.member == member, system_clock)

        def register(server: grpc.aio.Server) -> None:
            gateway_rpc.add_GatewayServiceServicer_to_server(serving, server)
            trust_rpc.add_TrustServiceServicer_to_server(trust, server)

        return self.kit(member, await self.serve(member, register))

    def kit(self, member: str, gateway: str) -> Kit:
        """Return a new kit of an investigator of this member who asks through this gateway."""
        return issue_kit(self.homes[member], self.folder / f"kit-of-{member}", gateway=gateway)


@dataclass(frozen=True, slots=True)
class ServedNode:
    """A true node over a real socket, and how other members' gateways reach it."""

    node: MemoryNode
    servicer: NodeServicer
    address: str

    @contextlib.asynccontextmanager
    async def channel(self, member: str) -> AsyncIterator[grpc.aio.Channel]:
        """Give a connection of this member's gateway to the node."""
        federation = self.node.federation
        channel = open_channel(self.address, federation.members[member].tls, federation.directory(), self.node.member.entry)
        try:
            yield channel
        finally:
            await channel.close()

    @contextlib.asynccontextmanager
    async def asked_by(self, member: str) -> AsyncIterator[lookup_rpc.NodeServiceAsyncStub]:
        """Give the node's calls over a connection of this member's gateway."""
        async with self.channel(member) as channel:
            yield lookup_rpc.NodeServiceStub(channel)


@contextlib.asynccontextmanager
async def serve_node(
    node: MemoryNode,
    *,
    drain_s: float | None = None,
    bounds: AdmissionLimits | None = None,
    beside: Callable[[grpc.aio.Server, NodeServicer], None] = lambda _server, _servicer: None,
    grid_ms: float = 0.0,
) -> AsyncIterator[ServedNode]:
    """Serve a node as `vidfed node serve` does, on a free loopback port; leaving stops it and lets running calls finish for `drain_s`.

    `beside` is given the server to add other services to.
    """
    server = new_server(SERVER_OPTIONS)
    bounds = bounds or AdmissionLimits()
    with ThreadPoolExecutor(bounds.threads) as threads:
        servicer = NodeServicer(node.pipeline, Admission(threads, node.pipeline.answer, bounds), grid_ms / 1_000)
        lookup_rpc.add_NodeServiceServicer_to_server(servicer, server)
        beside(server, servicer)
        port = server.add_secure_port(f"{_HOST}:0", server_credentials(lambda: node.member.tls, node.federation))
        await server.start()
        try:
            yield ServedNode(node, servicer, f"{_HOST}:{port}")
        finally:
            servicer.stop()
            await server.stop(drain_s)
