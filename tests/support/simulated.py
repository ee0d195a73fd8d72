"""Many members' nodes in one process: each the real pipeline over a real store, index, replay memory and audit log, on a port of its own.

Simulated is only how far away a node is and how it misbehaves. The parent's side is `simulation`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum, unique
from pathlib import Path  # noqa: TC003 - a spec is unpickled in the process it is sent to
from typing import TYPE_CHECKING, Self

import grpc

from tests.support.memory import ANSWERING, MemoryFederation, MemoryMember, MemoryNode, SettableClock
from vidfed.index import Algorithm
from vidfed.node.lookup.admission import Admission
from vidfed.node.records.record import Record
from vidfed.node.serving.server import NodeServicer
from vidfed.rpc.channels import SERVER_OPTIONS, server_credentials
from vidfed.security.clock import system_clock
from vidfed.security.member.home import MemberHome
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.connection import Connection

    from vidfed.security.identity.directory import Directory, DirectorySource
    from vidfed.v1.lookup_pb2 import LookupCall

KNOWN = 100
"""How many known items there are."""

_WORKERS = 4  # threads for all nodes of one process: what they do between two answers is short


@unique
class Behaviour(Enum):
    """What a simulated node does with a lookup."""

    HONEST = "honest"
    SLOW = "slow, and honest"
    CLOSED = "its port is closed"
    DEAF = "takes connections and says nothing"
    HANGING = "takes the lookup and never answers"
    GARBAGE = "answers bytes that are no message"
    ANOTHERS = "answers what another node answered"
    UNSIGNED = "answers without its signature"
    ALTERED = "answers something else than it signed"

    @property
    def honest(self) -> bool:
        """True if its own signed answer comes, sooner or later."""
        return self in {Behaviour.HONEST, Behaviour.SLOW}


@dataclass(frozen=True, slots=True)
class Delays:
    """How long a lookup is under way to a node and back: lognormal, the same for the same seed, member and number of the lookup.

    Attributes:
        median_s: half of all lookups take longer.
        sigma: standard deviation of the delay's natural logarithm.
        slow_factor: how many times longer it takes to a slow node.
        seed: of everything drawn.
    """

    median_s: float = 0.15
    sigma: float = 0.5
    slow_factor: float = 3.0
    seed: int = 1

    def draw(self, member: str, number: int) -> float:
        """Return the delay in seconds of this member's lookup with this number."""
        # Plain seeded draws, nothing secret.
        return self.median_s * math.exp(random.Random(f"{self.seed}/{member}/{number}").gauss(0.0, self.sigma))


@dataclass(frozen=True, slots=True)
class Site:
    """One simulated member: its folder, its node's `host:port`, and whether it holds the known items."""

    home: Path
    address: str
    knows: bool


@dataclass(frozen=True, slots=True)
class Spec:
    """What one process of simulated nodes serves."""

    sites: tuple[Site, ...]
    delays: Delays
    records: int


@dataclass(frozen=True, slots=True)
class OwnTime:
    """One honest answer: whose, and when the lookup came and the answer went, by `time.perf_counter`, which all processes share."""

    member: str
    came_s: float
    went_s: float

    @property
    def took_s(self) -> float:
        """The node's own time, its distance included."""
        return self.went_s - self.came_s


def known_codes(number: int) -> dict[Algorithm, bytes]:
    """Return the hashes of the known item with this number; a member that knows any knows all KNOWN of them."""
    drawn = random.Random(f"known/{number}")
    return {Algorithm.SHA256: drawn.randbytes(32), Algorithm.PDQ: drawn.randbytes(32)}


class _Running(SettableClock):
    """The real time, where a test's clock could stand."""

    def __call__(self) -> int:
        return system_clock()


class HomeFederation(MemoryFederation):
    """Members with folders on disk: their keys, on the real clock, and everybody's directory as the administrators signed it."""

    def __init__(self, homes: Sequence[MemberHome]) -> None:
        super().__init__(clock=_Running(), federation=homes[0].federation)
        # One copy for all: that each member verifies its own is tested elsewhere, and would be members x members here.
        self.source: DirectorySource = homes[0].directory_source()
        entries = self.source.current()
        for home in homes:
            entry = entries.member(home.member)
            self.members[home.member] = MemoryMember(home.member, home.signer, home.audit_signer, home.ca, home.node_tls(), entry)

    def current(self) -> Directory:
        """Return the newest directory; see `DirectorySource.current`."""
        return self.source.current()


@dataclass(slots=True)
class _Shared:
    delays: Delays
    workers: ThreadPoolExecutor
    times: list[OwnTime] = field(default_factory=list)
    overheard: EnvelopeMessage = field(default_factory=EnvelopeMessage)


class SimulatedNode(NodeServicer):
    """One member's true node, at a distance, that may misbehave."""

    def __init__(self, node: MemoryNode, site: Site, credentials: Callable[[], grpc.ServerCredentials], shared: _Shared) -> None:
        super().__init__(node.pipeline, Admission(shared.workers, node.pipeline.answer))
        self.behaviour = Behaviour.HONEST
        self._member = node.member.id
        self._site = site
        self._credentials = credentials
        self._shared = shared
        self._asked = 0
        self._server: grpc.aio.Server | None = None
        self._deaf: asyncio.Server | None = None

    async def Lookup(  # noqa: N802 - the name in the .proto
        self, request: LookupCall, context: grpc.aio.ServicerContext[LookupCall, EnvelopeMessage]
    ) -> EnvelopeMessage:
        """Answer one lookup, or do what this node does instead."""
        came_s = time.perf_counter()
        delay_s = self._shared.delays.draw(self._member, self._asked)
        self._asked += 1
        if self.behaviour is Behaviour.HANGING:
            await asyncio.Event().wait()
        await asyncio.sleep(delay_s * (self._shared.delays.slow_factor if self.behaviour is Behaviour.SLOW else 1.0))
        if self.behaviour is Behaviour.ANOTHERS:
            return self._shared.overheard
        answer = await super().Lookup(request, context)
        if self.behaviour is Behaviour.UNSIGNED:
            del answer.signatures[:]
        elif self.behaviour is Behaviour.ALTERED:
            answer.payload = answer.payload[:-1] + bytes([answer.payload[-1] ^ 1])
        else:
            self._shared.overheard = answer
            self._shared.times.append(OwnTime(self._member, came_s, time.perf_counter()))
        return answer

    async def behave(self, behaviour: Behaviour) -> None:
        """Behave like this from now on."""
        await self.close()
        self.behaviour = behaviour
        host, _, port = self._site.address.rpartition(":")
        if behaviour is Behaviour.DEAF:
            self._deaf = await asyncio.start_server(_say_nothing, host, int(port))
        elif behaviour is not Behaviour.CLOSED:
            self._server = grpc.aio.server(options=SERVER_OPTIONS)
            if behaviour is Behaviour.GARBAGE:
                self._server.add_generic_rpc_handlers((_GARBAGE,))
            else:
                rpc.add_NodeServiceServicer_to_server(self, self._server)
            self._server.add_secure_port(self._site.address, self._credentials())  # each server its own: they tell it news only
            await self._server.start()

    async def close(self) -> None:
        """Stop serving at once."""
        if self._server is not None:
            await self._server.stop(None)
        if self._deaf is not None:
            self._deaf.close()
        self._server = self._deaf = None


async def _garbage(_request: bytes, _context: object) -> bytes:
    return b"\xff" * 1000


_GARBAGE = grpc.method_handlers_generic_handler("vidfed.v1.NodeService", {"Lookup": grpc.unary_unary_rpc_method_handler(_garbage)})


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


class _Neighbourhood:
    """All nodes of this process. Use as an async context manager."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._stack = contextlib.AsyncExitStack()
        self._shared = _Shared(spec.delays, self._stack.enter_context(ThreadPoolExecutor(_WORKERS, thread_name_prefix="lookup")))
        self._nodes: dict[str, SimulatedNode] = {}

    async def __aenter__(self) -> Self:
        homes = [MemberHome(site.home) for site in self._spec.sites]
        federation = HomeFederation(homes)
        rule = replace(ANSWERING, members=frozenset(federation.current().members))

        def make(home: MemberHome, site: Site) -> MemoryNode:
            node = MemoryNode(federation, home.member, home.folder / "state", rule)
            self._stack.callback(node.__exit__)
            node.hold(*_records(home.member, self._spec.records, knows=site.knows))
            node.catalogue.catch_up()  # and not followed further: nobody changes the records from here on
            return node

        # At the same time: making them is mostly waiting for the disk.
        nodes = await asyncio.gather(*(asyncio.to_thread(make, *each) for each in zip(homes, self._spec.sites, strict=True)))
        for home, site, node in zip(homes, self._spec.sites, nodes, strict=True):
            credentials = functools.partial(server_credentials, home.node_tls, federation)
            simulated = SimulatedNode(node, site, credentials, self._shared)
            self._stack.push_async_callback(simulated.close)
            await simulated.behave(Behaviour.HONEST)
            self._nodes[home.member] = simulated
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def behave(self, behaviours: Mapping[str, Behaviour]) -> None:
        """Let each member named behave like this from now on."""
        for member, behaviour in behaviours.items():
            if self._nodes[member].behaviour is not behaviour:
                await self._nodes[member].behave(behaviour)

    def times(self) -> list[OwnTime]:
        """Return the honest answers given since this was asked last."""
        times, self._shared.times = self._shared.times, []
        return times


def _records(member: str, count: int, *, knows: bool) -> list[Record]:
    drawn = random.Random(f"records/{member}")
    others: list[Mapping[Algorithm, bytes]] = [
        {Algorithm.SHA256: drawn.randbytes(32), Algorithm.PDQ: drawn.randbytes(32)} for _ in range(count)
    ]
    known = [known_codes(number) for number in range(KNOWN)] if knows else []
    return [
        Record(hashes, series="simulated", victim_identified=Ternary.YES, case_contact=f"desk@{member}.example")
        for hashes in (*known, *others)
    ]


def serve_members(spec: Spec, connection: Connection) -> None:
    """Serve these members' nodes until the other end of the connection is closed: the whole life of one process.

    Sends True once all answer. Then for each mapping of members to behaviours received, sets those; and sends what was answered since.
    """
    asyncio.run(_serve(spec, connection))


async def _serve(spec: Spec, connection: Connection) -> None:
    async with _Neighbourhood(spec) as nodes:
        connection.send(True)
        with contextlib.suppress(EOFError):
            while True:
                await nodes.behave(await asyncio.to_thread(connection.recv))
                connection.send(nodes.times())
