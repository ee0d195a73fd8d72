"""A node in several processes, over real sockets: one address, one index, one log, one memory; killed, stopped, begun anew."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.memory import call_of
from tests.support.patience import PATIENCE_S
from tests.support.simulated import HomeFederation
from vidfed.index import Algorithm, Hash
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.rpc.channels import open_channel
from vidfed.security.clock import system_clock
from vidfed.security.member.audit_log import open_storage
from vidfed.security.member.home import MemberHome
from vidfed.synthetic.federation import LocalFederation
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.wire.answers import read_answer
from vidfed.wire.envelope import from_message
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from tests.conftest import Ran
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupAnswer

CONNECTIONS = 12  # the chance that all of them fall to one of two workers is one in 2,000
KNOWN = Hash(Algorithm.PDQ, bytes(range(32)))


class Node:
    """The node of fr in two processes, asked by the gateway of nl over several connections."""

    def __init__(self, local: LocalFederation) -> None:
        self.local = local
        self.homes = {member: MemberHome(place.folder) for member, place in local.places.items()}
        self.federation = HomeFederation(list(self.homes.values()))
        self.asker = self.federation.investigator("nl")
        self.fr = self.federation.current().member("fr")

    @property
    def supervisor(self) -> int:
        return self.local.process_id("fr")

    def workers(self) -> list[int]:
        """Process ids, the keeper of the indexes first."""
        return [int(child) for child in Path(f"/proc/{self.supervisor}/task/{self.supervisor}/children").read_text().split()]

    def call(self, *hashes: Hash) -> LookupCall:
        return call_of(self.asker.credential, self.federation.sign(self.federation.request(self.asker, hashes or (KNOWN,)), self.asker))

    @contextlib.asynccontextmanager
    async def connections(self, count: int = CONNECTIONS) -> AsyncIterator[list[rpc.NodeServiceAsyncStub]]:
        own = self.homes["nl"].node_tls()
        channels = [open_channel(self.fr.endpoint, own, self.federation.current(), self.fr) for _ in range(count)]
        try:
            yield [rpc.NodeServiceStub(channel) for channel in channels]
        finally:
            await asyncio.gather(*(channel.close() for channel in channels))

    def read(self, message: object) -> LookupAnswer:
        return read_answer(from_message(message).verify(ANSWER_TYPE, self.fr.signing_keys))  # type: ignore[arg-type]

    async def ask(self, stub: rpc.NodeServiceAsyncStub, call: LookupCall | None = None) -> LookupAnswer:
        return self.read(await stub.Lookup(call or self.call(), timeout=PATIENCE_S, wait_for_ready=True))

    async def until_answered(self) -> LookupAnswer:
        """Ask over new connections until a worker answers."""
        while True:
            async with self.connections(1) as (stub,):
                with contextlib.suppress(grpc.aio.AioRpcError):
                    return await self.ask(stub)

    def hold(self, *records: Record) -> None:
        with contextlib.closing(RecordStore(self.local.places["fr"].folder / "store/records.db")) as store:
            store.upsert(records, now_ms=system_clock())

    def logged(self) -> set[int]:
        with contextlib.closing(open_storage(self.homes["fr"])) as storage:
            return {position for position, _ in storage.entries(0, storage.size())}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, run: Callable[[Sequence[str | Path]], Ran]) -> Iterator[Node]:
    with LocalFederation(tmp_path_factory.mktemp("workers"), run) as local:
        local.create({"nl": "Unit NL", "fr": "Unit FR"})
        config = local.places["fr"].folder / "vidfed.toml"
        config.write_text(config.read_text().replace("\nworkers = 1\n", "\nworkers = 2\n"))
        node = Node(local)
        node.hold(Record({KNOWN.algorithm: KNOWN.code}, series="S"))
        yield node


@pytest.fixture
def node(made: Node) -> Node:
    """The node, running: the test before may have ended it."""
    if not made.local.runs("fr"):
        made.local.start("fr")
    return made


async def test_replay_at_another_worker_process(node: Node) -> None:
    """Each connection's lookup is answered; the same bytes on all of them are answered once."""
    async with node.connections() as stubs:
        answers = await asyncio.gather(*(node.ask(stub) for stub in stubs))
        assert [[hit.item for hit in answer.hits] for answer in answers] == [[0]] * CONNECTIONS
        same = node.call()
        again = await asyncio.gather(*(node.ask(stub, same) for stub in stubs))
    statuses = sorted(answer.header.status.name for answer in again)
    assert statuses == ["ANSWERED", *["REPLAYED"] * (CONNECTIONS - 1)]
    positions = {answer.log.position for answer in (*answers, *again) if answer.log}
    assert len(positions) == 2 * CONNECTIONS  # one log, each entry once
    assert positions <= node.logged()


async def test_a_record_taken_in_by_another_process_is_found_at_every_worker_at_once(node: Node) -> None:
    late = Hash(Algorithm.PDQ, bytes(reversed(range(32))))
    async with node.connections() as stubs:
        before = await asyncio.gather(*(node.ask(stub, node.call(late)) for stub in stubs))
        assert not any(answer.hits for answer in before)
        node.hold(Record({late.algorithm: late.code}))
        answers = await asyncio.gather(*(node.ask(stub, node.call(late)) for stub in stubs))
    assert all(answer.hits for answer in answers)


async def test_kill_9_of_workers_loses_nothing_acknowledged_and_they_are_begun_anew(node: Node) -> None:
    """Also the keeper of the indexes: whoever answers meanwhile knows the record, or says that it cannot search."""
    acknowledged: list[int] = []
    before = node.workers()
    for victim in before:
        async with node.connections() as stubs:
            asked = [asyncio.create_task(node.ask(stub)) for stub in stubs for _ in range(3)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            os.kill(victim, signal.SIGKILL)
            for answer in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(answer, grpc.aio.AioRpcError):
                    continue  # not acknowledged
                assert not isinstance(answer, BaseException)
                assert answer.hits or answer.header.status is not Status.ANSWERED
                assert answer.log
                acknowledged.append(answer.log.position)
        assert (await node.until_answered()).hits
    assert len(set(acknowledged)) == len(acknowledged) > 0
    assert set(acknowledged) <= node.logged()
    assert node.local.stop("fr") == 0


async def test_sigterm_drains_all_workers(node: Node) -> None:
    """What was answered is in the log, what was not is an error; nothing ends as 'no hit'."""
    async with node.connections() as stubs:
        asked = [asyncio.create_task(node.ask(stub)) for stub in stubs for _ in range(5)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert await asyncio.to_thread(node.local.stop, "fr") == 0
        ended = await asyncio.gather(*asked, return_exceptions=True)
    answers = [answer for answer in ended if not isinstance(answer, grpc.aio.AioRpcError)]
    assert answers
    for answer in answers:
        assert not isinstance(answer, BaseException)
        assert answer.hits
        assert answer.log
        assert answer.log.position in node.logged()


def test_workers_end_when_the_process_that_started_them_is_killed(node: Node) -> None:
    descriptors = [os.pidfd_open(worker) for worker in node.workers()]
    node.local.kill("fr")
    with contextlib.ExitStack() as stack:
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
            assert _ended(descriptor)


def _ended(descriptor: int) -> bool:
    import select  # noqa: PLC0415 - only here

    return bool(select.select([descriptor], [], [], PATIENCE_S)[0])


def test_an_address_in_use_is_one_clear_line(node: Node, vidfed: Callable[..., Ran]) -> None:
    place = node.local.places["fr"]
    if node.local.runs("fr"):
        assert node.local.stop("fr") == 0
    host, _, port = place.node_address.rpartition(":")
    with socket.create_server((host, int(port))):
        ran = vidfed("node", "serve", "--home", place.folder)
    assert ran.status == 1
    assert ran.err.count("Error:") == 1
    assert "the address is in use" in ran.err
