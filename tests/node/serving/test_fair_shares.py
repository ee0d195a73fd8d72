"""What one member asks of the services beside the lookups takes nothing from lookups, nor from other members. Events, no times."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc as health_rpc

from tests.support.memory import MemoryFederation, MemoryNode, call_of
from tests.support.patience import PATIENCE_S
from tests.support.sockets import ServedNode, serve_node
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.admission import Admission, AdmissionLimits
from vidfed.node.serving.audit_service import AuditCore, AuditServicer
from vidfed.node.serving.server import Health
from vidfed.rpc.turns import CrowdedError, Turns
from vidfed.security.audit.witness import Witness
from vidfed.v1 import audit_pb2 as pb
from vidfed.v1 import audit_pb2_grpc as rpc
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from vidfed.node.serving.server import NodeServicer

WAITING = 3


class World:
    """fr's node, whose proofs of its log take for ever when nl asks for them, until `go_on`."""

    def __init__(self, served: ServedNode, turns: Turns) -> None:
        self.served = served
        self.turns = turns
        self.go_on = threading.Event()
        self.began = threading.Semaphore(0)

    async def prove(self, member: str) -> pb.GetConsistencyResponse:
        async with self.served.channel(member) as channel:
            return await rpc.AuditServiceStub(channel).GetConsistency(pb.GetConsistencyRequest(old_size=0, new_size=0))

    async def look_up(self, member: str) -> Status:
        federation = self.served.node.federation
        asker = federation.investigator(member)
        request = federation.request(asker, [Hash(Algorithm.SHA256, bytes(32))], "fr")
        async with self.served.asked_by(member) as stub:
            return read_answer((await stub.Lookup(call_of(asker.credential, federation.sign(request, asker)))).payload).header.status


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    federation = MemoryFederation()
    federation.add("nl", "fr", "br")
    with MemoryNode(federation, "fr", tmp_path) as node, Turns(2, waiting_of_caller=WAITING) as turns, contextlib.ExitStack() as stack:
        signer = federation.members["fr"].audit_signer
        made = Witness(tmp_path / "w.db", federation=federation.federation, member="fr", signer=signer, clock=federation.clock)
        witness = stack.enter_context(contextlib.closing(made))
        core = AuditCore(node.audit, witness, federation, federation.clock)

        def register(server: grpc.aio.Server, servicer: NodeServicer) -> None:
            rpc.add_AuditServiceServicer_to_server(AuditServicer(core, turns, servicer.enter), server)
            health = Health(servicer.enter)
            health_rpc.add_HealthServicer_to_server(health, server)

        async with serve_node(node, beside=register, bounds=AdmissionLimits(calls_of_member=8)) as served:
            world = World(served, turns)
            honest = AuditCore.consistency
            nl = federation.members["nl"].tls.certificate

            def slow(self: AuditCore, request: pb.GetConsistencyRequest, leaf_pem: bytes) -> pb.GetConsistencyResponse:
                if leaf_pem.strip() == nl.strip():
                    world.began.release()
                    world.go_on.wait(PATIENCE_S)
                return honest(self, request, leaf_pem)

            monkeypatch.setattr(AuditCore, "consistency", slow)
            try:
                yield world
            finally:
                world.go_on.set()


async def crowd(world: World, count: int) -> list[asyncio.Task[pb.GetConsistencyResponse]]:
    """Have nl ask for so many proofs at once; return when the first is being worked on."""
    asked = [asyncio.create_task(world.prove("nl")) for _ in range(count)]
    await asyncio.to_thread(world.began.acquire)
    return asked


async def test_audit_calls_of_one_member_starve_nobody(world: World) -> None:
    """More of them than there are threads, all held up: lookups of everybody and proofs for others are answered meanwhile."""
    asked = await crowd(world, WAITING + 1)
    assert await world.look_up("br") is Status.ANSWERED
    assert await world.look_up("nl") is Status.ANSWERED
    assert await world.prove("br") == pb.GetConsistencyResponse()
    assert not any(task.done() for task in asked)
    world.go_on.set()
    assert await asyncio.gather(*asked) == [pb.GetConsistencyResponse()] * len(asked)


async def test_more_audit_calls_than_may_wait_are_turned_away_by_name(world: World) -> None:
    asked = await crowd(world, WAITING + 3)
    ended = asyncio.as_completed(asked)
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await next(ended)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    world.go_on.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, grpc.aio.AioRpcError) for each in outcomes) == 2


async def test_calls_of_every_service_count_together(world: World) -> None:
    """Eight calls is all that one member may hold here: those to the audit log are among them, and health's too."""
    world.served.servicer._admission._calls["nl"] = 8
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await world.prove("nl")
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with world.served.channel("nl") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await health_rpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await world.prove("br") == pb.GetConsistencyResponse()


async def test_a_call_counts_until_it_has_ended(world: World) -> None:
    world.go_on.set()
    for _ in range(3):
        await world.prove("nl")
    async with asyncio.timeout(PATIENCE_S):  # gRPC's own thread says that a call has ended: when depends on what else the machine does
        while world.served.servicer._admission._calls["nl"]:
            await world.prove("br")
    assert "nl" not in world.served.servicer._admission._calls


async def test_waiting_bytes_count_the_whole_call(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small question beside a credential of half a megabyte: what waits is all of it."""
    federation = world.served.node.federation
    asker = federation.investigator("br")
    request = federation.request(asker, [Hash(Algorithm.SHA256, bytes(32))], "fr")
    call = call_of(asker.credential, federation.sign(request, asker))
    call.credential.payload += bytes(2**19)
    sizes: list[int] = []
    ask = Admission.ask

    async def noted(self: Admission[Any, Any], member: str, asked: object, size_bytes: int) -> object:
        sizes.append(size_bytes)
        return await ask(self, member, asked, size_bytes)

    monkeypatch.setattr(Admission, "ask", noted)
    async with world.served.asked_by("br") as stub:
        answer = read_answer((await stub.Lookup(call)).payload)
    assert answer.header.status is Status.BAD_CREDENTIAL
    assert sizes[0] >= call.ByteSize() > 2**19


async def test_callers_take_turns_and_each_has_one_thread_at_most() -> None:
    order: list[str] = []
    gate, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        gate.wait(PATIENCE_S)

    with Turns(1, waiting_of_caller=3) as turns:
        first = asyncio.create_task(turns.run("nl", hold))
        await asyncio.to_thread(begun.wait)
        rest = [asyncio.create_task(turns.run(who, functools.partial(order.append, who))) for who in ("nl", "nl", "nl", "fr", "br", "fr")]
        await asyncio.sleep(0)
        with pytest.raises(CrowdedError):
            await turns.run("nl", begun.set)
        gate.set()
        await asyncio.gather(first, *rest)
    assert order == ["nl", "fr", "br", "nl", "fr", "nl"]


async def test_who_goes_away_while_it_waits_or_as_its_turn_comes_leaves_no_hole() -> None:
    gate, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        gate.wait(PATIENCE_S)

    with Turns(1) as turns:
        first = asyncio.create_task(turns.run("nl", hold))
        await asyncio.to_thread(begun.wait)
        waiting = [asyncio.create_task(turns.run(who, lambda: None)) for who in ("fr", "br")]
        await asyncio.sleep(0)
        waiting[0].cancel()
        first.cancel()  # its thread goes on, and its turn with it
        await asyncio.gather(first, waiting[0], return_exceptions=True)
        assert not waiting[1].done()
        turns._ended("nl")  # the turn comes to br and is taken back in the same step of the loop
        waiting[1].cancel()
        await asyncio.gather(waiting[1], return_exceptions=True)
        turns._begin("nl")
        gate.set()
        assert await turns.run("nl", lambda: 7) == 7
    assert (turns._free, turns._running, dict(turns._waiting)) == (1, set(), {})
