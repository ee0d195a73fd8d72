"""The node on the network: gRPC over mutual TLS, the pipeline in worker threads, an orderly end on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc as health_rpc
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from vidfed.casework.carriage.opening import open_casework
from vidfed.casework.standing.ending import Endings, epoch_key
from vidfed.node.config import NodeSection
from vidfed.node.lookup import metrics as lookup_metrics
from vidfed.node.lookup.admission import Admission, AdmissionLimits, QueueFullError, TooManyCallsError
from vidfed.node.lookup.authenticate import UnknownPeerError
from vidfed.node.lookup.pipeline import LookupPipeline
from vidfed.node.lookup.question import Call
from vidfed.node.lookup.streams import StoppingError, answer_chunks
from vidfed.node.lookup.told import ToldCodes
from vidfed.node.policy.file import POLICY_FILE, PolicyFile
from vidfed.node.policy.quotas import Quotas
from vidfed.node.records.known import open_store, store_memory
from vidfed.node.search.canary import CANARY, open_canary
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.serving import metrics
from vidfed.node.serving.audit_service import AuditCore, AuditServicer
from vidfed.node.serving.casework import NodeRecords
from vidfed.node.serving.stating import Stating
from vidfed.node.serving.witnessing import Witnessing
from vidfed.node.sources.follow import register_sources
from vidfed.node.sources.outbox import Outbox
from vidfed.node.sources.rounds import SourceRounds
from vidfed.node.sources.settings import read_sources
from vidfed.rpc.channels import SERVER_OPTIONS, peer_certificate, server_credentials
from vidfed.rpc.parsing import UnparsedError, new_server
from vidfed.rpc.serving import Service, open_shared, run_until_signal
from vidfed.rpc.supervision import supervise
from vidfed.rpc.trust import TrustServicer
from vidfed.rpc.turns import Turns
from vidfed.security.audit.changes import SEEN_FILE, Seen
from vidfed.security.clock import MINUTE_MS, SECOND_MS, system_clock
from vidfed.security.errors import AuditError, PeerError
from vidfed.security.identity.replay import ReplayMemory
from vidfed.security.identity.tls import NODE_ROLE
from vidfed.security.lockfile import hold_lockfile
from vidfed.security.member.audit_log import open_witness, read_audit_section
from vidfed.v1 import audit_pb2_grpc as audit_rpc
from vidfed.v1 import lookup_pb2_grpc as lookup_rpc
from vidfed.v1 import trust_pb2_grpc as trust_rpc
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.statuses import SequenceError
from vidfed.wire.values import LOOKUP_METHOD, STREAM_METHOD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from vidfed.casework.carriage.opening import Casework
    from vidfed.node.records.known import StoreMemory
    from vidfed.rpc.serving import Shared
    from vidfed.rpc.trust import Enter
    from vidfed.security.audit import AuditLog
    from vidfed.security.crypto.envelope import Envelope as SignedEnvelope
    from vidfed.security.identity.directory import DirectorySource
    from vidfed.security.member.home import MemberHome
    from vidfed.v1.envelope_pb2 import Envelope
    from vidfed.v1.lookup_pb2 import LookupCall

    NodeAdmission = Admission[Call, SignedEnvelope | None]

_WATCH_S = 1.0
HEALTH_SERVICES = ("", "vidfed.v1.NodeService")
ROOM_BYTES = 4 * 2**20  # on the disk; with less the log cannot be written, now or soon
_MAX_CALLS = 2_000  # at once, beyond what the admission lets wait: gRPC itself turns away the rest, unread
_TOO_MANY_CALLS = (grpc.StatusCode.RESOURCE_EXHAUSTED, "this member holds too many calls")
_DEFECT = (grpc.StatusCode.INTERNAL, "a defect of this node")
_BUSY_LOG_S = 10.0
_SHARE_BY_CHANCE = 4  # of the time grid: up to so much later an answer leaves, by chance
_STEPS = 1_000_000  # in which that is drawn
_NO_NODE = (grpc.StatusCode.UNAUTHENTICATED, "not a member's node")
_log = logging.getLogger(__name__)


class NodeServicer(lookup_rpc.NodeServiceServicer):
    """Hands each call to the pipeline in a worker thread, through the admission; the event loop stays free."""

    def __init__(self, pipeline: LookupPipeline, admission: NodeAdmission, grid_s: float = 0.0) -> None:
        """Answer calls.

        Args:
            pipeline: answers.
            admission: decides who waits.
            grid_s: answers leave a whole multiple of this after the question, or the stream, came; 0: at once.
        """
        self._grid_s = grid_s
        self._pipeline = pipeline
        self._admission = admission
        self._stopping = asyncio.Event()
        self._silent_until_s: dict[str, float] = {}

    def stop(self) -> None:
        """Take no more chunks of running streams."""
        self._stopping.set()

    async def Lookup(self, request: LookupCall, context: grpc.aio.ServicerContext[LookupCall, Envelope]) -> Envelope:  # noqa: N802
        """Answer one lookup."""
        leaf_pem, came_s = peer_certificate(context), asyncio.get_running_loop().time()
        try:
            member = self._enter(leaf_pem, context)
            answer = await self._admission.ask(member, Call(request, leaf_pem), request.ByteSize() + len(leaf_pem))
        except (UnknownPeerError, PeerError):
            answer = None
        except TooManyCallsError:
            await context.abort(*_TOO_MANY_CALLS)
        except QueueFullError:
            answer = self._busy(request, member, LOOKUP_METHOD)
        except Exception:  # noqa: BLE001 - gRPC would tell the caller what the exception says
            _log.exception("defect outside the pipeline")
            await context.abort(*_DEFECT)
        if answer is None:
            await context.abort(*_NO_NODE)
        await self._wait_for_grid(came_s)
        return wire_envelope.to_message(answer)

    async def LookupStream(  # noqa: N802 - the name in the .proto
        self, request_iterator: AsyncIterator[LookupCall], context: grpc.aio.ServicerContext[LookupCall, Envelope]
    ) -> AsyncIterator[Envelope]:
        """Answer a stream of lookups, chunk by chunk."""
        leaf_pem, came_s = peer_certificate(context), asyncio.get_running_loop().time()
        try:
            member = self._enter(leaf_pem, context)
            with self._admission.stream(member):
                run = functools.partial(self._admission.run, member)
                answers = answer_chunks(self._pipeline, request_iterator, leaf_pem, run, self._stopping)
                async with contextlib.aclosing(answers):
                    async for answer in answers:
                        await self._wait_for_grid(came_s)
                        yield wire_envelope.to_message(answer)
        except (UnknownPeerError, PeerError):
            await context.abort(*_NO_NODE)
        except TooManyCallsError:
            await context.abort(*_TOO_MANY_CALLS)
        except QueueFullError:
            with contextlib.suppress(TimeoutError, StopAsyncIteration):
                first = await asyncio.wait_for(anext(request_iterator), self._admission.wait_s)
                yield wire_envelope.to_message(self._busy(first, member, STREAM_METHOD))
        except SequenceError as error:
            await context.abort(grpc.StatusCode.ABORTED, str(error))
        except StoppingError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the node stops; go on in a new call at the first chunk without an answer")
        except UnparsedError:
            raise
        except Exception:  # noqa: BLE001 - as above
            _log.exception("defect outside the pipeline")
            await context.abort(*_DEFECT)

    async def _wait_for_grid(self, came_s: float) -> None:
        """Wait until an answer may leave: how long the search took is not for who asked, since what is withheld takes its time too.

        A moment beyond the grid is drawn by chance: the longer a process sleeps, the later it wakes, and that could be measured.
        """
        if self._grid_s > 0.0:
            elapsed_s = asyncio.get_running_loop().time() - came_s
            beyond_s = secrets.randbelow(_STEPS) / _STEPS * self._grid_s / _SHARE_BY_CHANCE
            await asyncio.sleep(-elapsed_s % self._grid_s + beyond_s)

    async def enter(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Count a call of another service among its member's, which all count together; end it if it is nobody's, or one too many."""
        try:
            self._enter(peer_certificate(context), context)
        except (UnknownPeerError, PeerError):
            await context.abort(*_NO_NODE)
        except TooManyCallsError:
            await context.abort(*_TOO_MANY_CALLS)

    def _enter(self, leaf_pem: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> str:
        """Return whose call it is, and count it among that member's until it has ended, its answer taken or not."""
        member = self._pipeline.caller(leaf_pem)
        self._admission.enter(member)
        context.add_done_callback(lambda _: self._admission.leave(member))  # type: ignore[arg-type]  # the stubs ask for a context class
        return member

    def _busy(self, call: LookupCall, member: str, method: str) -> SignedEnvelope:
        """Return the signed refusal to look at a call. It is in the log now and then only: a flood of calls must not be one of lines."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._silent_until_s.get(member, 0.0):
            self._silent_until_s[member] = now_s + _BUSY_LOG_S
            _log.warning("refused BUSY to %s: too much waits, or too many streams; said once in %.0f s", member, _BUSY_LOG_S)
        return self._pipeline.busy(call, member, method)


class Health(health_aio.HealthServicer):  # type: ignore[misc]  # it has no annotations
    """Tells how the node is to whoever asks, but not again and again of its own accord: a call that never ends takes another's place."""

    def __init__(self, enter: Enter | None = None) -> None:
        """Begin with nothing known; `enter` is awaited first for each call and counts it among its member's, or ends it."""
        super().__init__()
        self._enter = enter

    async def Check(  # noqa: N802 - the name in the .proto
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
    ) -> health_pb2.HealthCheckResponse:
        """Tell once."""
        if self._enter is not None:
            await self._enter(context)
        return await super().Check(request, context)

    async def Watch(  # noqa: N802 - the name in the .proto
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
    ) -> None:
        """Refuse; gRPC's own clients then do without."""
        del request
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "ask with Check")


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does of a node that runs in several; see `workers`. The first of them does what only one may do."""

    number: int
    listen: str

    @property
    def first(self) -> bool:
        """True for the worker that keeps the indexes and makes the rounds."""
        return self.number == 0


@contextlib.contextmanager
def open_pipeline(
    home: MemberHome,
    directory_source: DirectorySource,
    audit: AuditLog,
    *,
    keeper: bool = True,
) -> Iterator[tuple[LookupPipeline, Casework]]:
    """Open all that a member's lookups are answered with, and the conversations about its records, and close it in the end.

    One process is the keeper of the indexes.

    Raises:
        SecurityError, NodeError, HashError, CaseworkError: keys, policy, replay memory, store, index or conversations cannot be used.
    """
    seen = Seen(home.state_file(SEEN_FILE), home.member, audit, system_clock)
    policy = PolicyFile(
        home.folder / POLICY_FILE,
        directory_source=directory_source,
        accept=lambda taken: seen.policy(taken.to_json()),
        accepted=lambda found: seen.was_policy(found.to_json()),
    )
    with (
        contextlib.closing(Quotas(home.state_file("quotas.db"))) as quotas,
        contextlib.closing(ToldCodes(home.state_file("told.db"))) as told_codes,
        open_store(home, reads_only=not keeper) as store,
        contextlib.closing(Catalogue(store, home.folder / "index", system_clock, keeper=keeper)) as catalogue,
        open_canary(home.folder / CANARY, home.federation, home.member, system_clock, keeper=keeper) as canary,
        contextlib.closing(ReplayMemory(home.state_file("replay.db"))) as replay,
        open_casework(home, directory_source, audit, NodeRecords(store, policy, directory_source)) as casework,
    ):
        catalogue.start()
        pipeline = LookupPipeline(
            federation=home.federation,
            member=home.member,
            signer=home.signer,
            directory_source=directory_source,
            catalogue=catalogue,
            canary=canary,
            policy=policy,
            quotas=quotas,
            told_codes=told_codes,
            replay=replay,
            audit=audit,
            clock=system_clock,
            epoch_key=epoch_key(casework.context.database),
            mandate_ended=Endings(casework.context).has_ended,
            watch_ms=int(casework.section.watch_minutes * MINUTE_MS),
        )
        yield pipeline, casework


def would_answer(pipeline: LookupPipeline, folder: Path) -> bool:
    """Tell whether a lookup would be answered now: what it needs is there, and room to log it."""
    return shutil.disk_usage(folder).free >= ROOM_BYTES and pipeline.can_answer()


async def _watch(
    pipeline: LookupPipeline, admission: NodeAdmission, health: health_aio.HealthServicer, folder: Path, memory: StoreMemory | None
) -> None:
    """Take a changed policy over also when nobody asks, take down what changes by itself, and say whether lookups can be answered.

    With `memory`, remember which store that is.
    """
    answered, answering = False, False
    while True:
        before = answering
        try:
            await asyncio.to_thread(pipeline.policy.current)
            metrics.observe(pipeline.catalogue, admission, pipeline.policy.taken_ms)
            answering = await asyncio.to_thread(would_answer, pipeline, folder)
            await asyncio.to_thread(pipeline.log_refusals)
            metrics.observe_answering(answering=answering, from_ms=pipeline.replay.knows_from_ms())
            if answering and memory is not None:
                await asyncio.to_thread(memory.note, pipeline.catalogue.store)
        except Exception:  # noqa: BLE001 - who asks for the node's health must not hear for ever what was true before a defect
            _log.exception("defect while looking after the node")
            answering = False
        if answered and answering is not before:  # not while it starts: it catches up with the records then
            _log.warning("lookups are answered again" if answering else "lookups are refused: vidfed node doctor says why")
        answered = answered or answering
        status = HealthCheckResponse.SERVING if answering else HealthCheckResponse.NOT_SERVING
        for service in HEALTH_SERVICES:
            await health.set(service, status)
        await asyncio.sleep(_WATCH_S)


def _beside(name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Start what runs beside the lookups, for as long as the node does."""
    return asyncio.create_task(supervise(name, work, lookup_metrics.task_failures.labels(name).inc), name=name)


def _beside_unit(home: MemberHome) -> list[asyncio.Task[None]]:
    """Follow the unit's own sources, and tell its own system what happens here."""
    sources, outbox = read_sources(home), Outbox(home)
    with open_store(home) as store:
        register_sources(home, store)
    tasks = [_beside("sources", SourceRounds(home, sources).run)] if sources else []
    return [*tasks, *([_beside("outbox", outbox.run)] if outbox.is_wanted else [])]


@contextlib.asynccontextmanager
async def node_service(shared: Shared, on_ready: Callable[[str], None], share: Share | None = None) -> AsyncIterator[Service]:
    """Open a member's node, ready to be run, and close it in the end.

    Args:
        shared: what the process's services share.
        on_ready: called with `host:port` once lookups are answered.
        share: this process's part of a node in several processes; all of it if None.

    Raises:
        SecurityError, NodeError, HashError: keys, store or index cannot be used.
    """
    first = share is None or share.first
    home, directory_source, audit = shared.home, shared.source, shared.audit
    async with contextlib.AsyncExitStack() as conversations:
        stack = conversations.enter_context(contextlib.ExitStack())
        seen = Seen(home.state_file(SEEN_FILE), home.member, audit, system_clock)
        if first:
            seen.trust(directory_source)
        audit.checkpoint()  # so that the first answer can carry one
        witness = stack.enter_context(contextlib.closing(open_witness(home)))
        pipeline, casework = stack.enter_context(open_pipeline(home, directory_source, audit, keeper=first))
        bounds = AdmissionLimits()
        workers = stack.enter_context(ThreadPoolExecutor(bounds.threads, thread_name_prefix="lookup"))
        options = dict(SERVER_OPTIONS) | {"grpc.so_reuseport": int(share is not None)}
        server = new_server(tuple(options.items()), maximum_concurrent_rpcs=_MAX_CALLS)
        admission: NodeAdmission = Admission(workers, pipeline.answer, bounds)
        section = home.section("node", NodeSection)
        servicer, turns = NodeServicer(pipeline, admission, section.answer_grid_ms / SECOND_MS), stack.enter_context(Turns())
        health = Health(servicer.enter)
        health_rpc.add_HealthServicer_to_server(health, server)  # behind the same mutual TLS as everything else
        lookup_rpc.add_NodeServiceServicer_to_server(servicer, server)
        trust = TrustServicer(
            directory_source, lambda peer: peer.role == NODE_ROLE, system_clock, shared.publisher, turns=turns, enter=servicer.enter
        )
        trust_rpc.add_TrustServiceServicer_to_server(trust, server)
        audit_servicer = AuditServicer(AuditCore(audit, witness, directory_source), turns, servicer.enter)
        audit_rpc.add_AuditServiceServicer_to_server(audit_servicer, server)
        credentials = server_credentials(home.node_tls, directory_source)

        def announce(address: str) -> None:
            if share is None:
                stack.enter_context(hold_lockfile(home.state_file("serving"), address))
            on_ready(address)

        rounds = Witnessing(home.member, audit, witness, directory_source, home.node_tls, seen)
        memory = store_memory(home) if first else None
        beside = [_beside("watch", lambda: _watch(pipeline, admission, health, home.folder, memory))]
        if first:
            stating = Stating(home, directory_source, audit, shared.publisher)
            beside.append(_beside("capabilities", stating.run))
            beside.append(_beside("witnessing", lambda: rounds.run(read_audit_section(home).witness_every_s)))
            beside += _beside_unit(home)
        try:
            await conversations.enter_async_context(casework.serve_node(server, first=first))
            yield Service(server, share.listen if share else section.listen, credentials, announce, servicer.stop)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            with contextlib.suppress(AuditError):  # it was said when the refusals were answered
                pipeline.log_refusals(end=True)


async def serve(home: MemberHome, on_ready: Callable[[str], None], share: Share | None = None) -> None:
    """Serve one member's node until SIGTERM or SIGINT, then let running lookups finish.

    Args:
        home: the member's folder.
        on_ready: called with `host:port` once lookups are answered.
        share: this process's part of a node in several processes; all of it if None.

    Raises:
        ServeError: the address cannot be used.
        SecurityError, NodeError, HashError: keys, directory, store or index cannot be used.
    """
    with open_shared(home, home.publisher(), keeper=share is None or share.first) as shared:
        async with node_service(shared, on_ready, share) as service:
            await run_until_signal(service)
