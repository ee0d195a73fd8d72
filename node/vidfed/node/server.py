"""The node on the network: gRPC over mutual TLS, the pipeline in worker threads, an orderly end on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from vidfed.node.audit_service import AuditDesk, AuditServicer
from vidfed.node.catalogue import Catalogue
from vidfed.node.config import NodeSection, store_location
from vidfed.node.pipeline import LookupPipeline, UnknownPeerError
from vidfed.node.policy import HashRates, Policy, PolicySection
from vidfed.node.store import RecordStore
from vidfed.node.witnessing import Witnessing
from vidfed.security.audit.changes import Seen
from vidfed.security.audit.member import Checkpointer, open_log, open_witness, read_audit_section
from vidfed.security.clock import system_clock
from vidfed.security.errors import PeerError
from vidfed.security.presence import announced
from vidfed.security.replay import ReplayMemory
from vidfed.security.tls import NODE_ROLE
from vidfed.security.trust.client import REFRESH_S
from vidfed.security.trust.own import renew_leaf
from vidfed.v1 import services_pb2_grpc as rpc
from vidfed.v1 import trust_pb2_grpc as trust_rpc
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.channels import SERVER_OPTIONS, run_until_signal, server_credentials
from vidfed.wire.trust import PeerMirrors, TrustServicer

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.security.home import MemberHome
    from vidfed.v1.envelope_pb2 import Envelope
    from vidfed.v1.services_pb2 import LookupCall

_WORKERS = 4  # threads for signatures, database and search, which all release the interpreter's lock
_log = logging.getLogger(__name__)


class NodeServicer(rpc.NodeServiceServicer):
    """Hands each call to the pipeline in a worker thread; the event loop stays free."""

    def __init__(self, pipeline: LookupPipeline, workers: ThreadPoolExecutor) -> None:
        self._pipeline = pipeline
        self._workers = workers

    async def Lookup(self, request: LookupCall, context: grpc.aio.ServicerContext[LookupCall, Envelope]) -> Envelope:  # noqa: N802
        """Answer one lookup."""
        (leaf_pem,) = context.auth_context()["x509_pem_cert"]
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._workers, self._pipeline.answer, request, leaf_pem)
        except (UnknownPeerError, PeerError):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not a member's node")
        return wire_envelope.to_message(answer)


async def serve(home: MemberHome, on_ready: Callable[[str], None]) -> None:
    """Serve one member's node until SIGTERM or SIGINT, then let running lookups finish.

    Args:
        home: the member's folder.
        on_ready: called with `host:port` once lookups are answered.

    Raises:
        ServeError: the address cannot be used.
        SecurityError, NodeError, HashError: keys, directory, store or index cannot be used.
    """
    section = home.section("node", NodeSection)
    policy = Policy.from_section(home.section("policy", PolicySection))
    audit_section = read_audit_section(home)
    peers = PeerMirrors(home.member, home.node_tls)
    directory_source = home.directory_source(ask=peers)
    publisher = home.publisher()
    if publisher is not None:
        publisher.renew_timestamp()
    directory_source.ready()  # better no node than one that can only refuse
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(peers))
        if home.refresh_s or publisher:

            def renew() -> None:
                renew_leaf(home, system_clock())
                if publisher is not None:
                    publisher.renew_timestamp()

            stack.enter_context(directory_source.refreshing(home.refresh_s or REFRESH_S, first=renew))
        audit = stack.enter_context(contextlib.closing(open_log(home)))
        seen = Seen(home.state_file("seen.json"), home.member, audit, system_clock)
        seen.policy(home.section("policy", PolicySection))
        seen.trust(directory_source)
        audit.checkpoint()  # so that the first answer can carry one
        stack.enter_context(Checkpointer(audit, audit_section.checkpoint_every_s))
        witness = stack.enter_context(contextlib.closing(open_witness(home)))
        store = stack.enter_context(contextlib.closing(RecordStore(store_location(home))))
        catalogue = stack.enter_context(contextlib.closing(Catalogue(store, home.folder / "index", system_clock)))
        pipeline = LookupPipeline(
            federation=home.federation,
            member=home.member,
            signer=home.signer,
            directory_source=directory_source,
            catalogue=catalogue,
            policy=policy,
            rates=HashRates(policy.max_hashes_per_minute),
            replay=stack.enter_context(contextlib.closing(ReplayMemory(home.state_file("replay.db")))),
            audit=audit,
            clock=system_clock,
        )
        catalogue.start()
        workers = stack.enter_context(ThreadPoolExecutor(_WORKERS, thread_name_prefix="lookup"))
        server = grpc.aio.server(options=SERVER_OPTIONS)
        rpc.add_NodeServiceServicer_to_server(NodeServicer(pipeline, workers), server)
        trust = TrustServicer(directory_source, lambda peer: peer.role == NODE_ROLE, system_clock, publisher)
        trust_rpc.add_TrustServiceServicer_to_server(trust, server)
        rpc.add_AuditServiceServicer_to_server(AuditServicer(AuditDesk(audit, witness, directory_source), workers), server)
        credentials = server_credentials(home.node_tls, directory_source)

        def announce(address: str) -> None:
            stack.enter_context(announced(home.state_file("serving"), address))
            on_ready(address)

        rounds = Witnessing(home.member, audit, witness, directory_source, home.node_tls, seen)
        witnessing = asyncio.create_task(rounds.run(audit_section.witness_every_s))
        try:
            await run_until_signal(server, section.listen, credentials, announce)
        finally:
            witnessing.cancel()
            await asyncio.gather(witnessing, return_exceptions=True)
        _log.info("stopped")
