"""The rounds in which members cosign each other's logs, over real sockets: what one member sends harms the others' nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.sockets import SocketFederation
from vidfed.node.serving.audit_service import AuditCore, AuditServicer
from vidfed.node.serving.witnessing import Witnessing
from vidfed.rpc.turns import Turns
from vidfed.security.audit import AuditEntry, Event, Operation
from vidfed.security.audit.changes import Seen
from vidfed.security.audit.notes import Checkpoint, log_origin
from vidfed.security.clock import system_clock
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.member.audit_log import open_log, open_witness
from vidfed.v1 import audit_pb2 as pb
from vidfed.v1 import audit_pb2_grpc as rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from vidfed.security.audit import AuditLog
    from vidfed.security.audit.witness import Witness

ROOT = "A" * 43 + "="


class Talker(rpc.AuditServiceServicer):
    """The node of br: cosigns nothing, or what it likes, and shows whatever it is told to."""

    def __init__(self, shown: list[str], cosigned: pb.AddCheckpointResponse) -> None:
        self.shown = shown
        self.cosigned = cosigned

    async def AddCheckpoint(self, request: pb.AddCheckpointRequest, context: object) -> pb.AddCheckpointResponse:  # noqa: N802
        del request, context
        return self.cosigned

    async def GetWitnessed(self, request: pb.GetWitnessedRequest, context: object) -> pb.GetWitnessedResponse:  # noqa: N802
        del request, context
        return pb.GetWitnessedResponse(checkpoints=self.shown)

    async def GetConsistency(self, request: object, context: object) -> pb.GetConsistencyResponse:  # noqa: N802
        raise NotImplementedError

    async def GetProof(self, request: object, context: object) -> pb.GetProofResponse:  # noqa: N802
        raise NotImplementedError


class World:
    """nl makes rounds; fr cosigns as it should; br does what a test says."""

    def __init__(self, federation: SocketFederation, logs: dict[str, AuditLog], witnesses: dict[str, Witness]) -> None:
        self.federation = federation
        self.logs = logs
        self.witnesses = witnesses
        home = federation.homes["nl"]
        source = home.directory_source()
        source.ready()
        seen = Seen(home.state_file("seen.json"), "nl", logs["nl"], system_clock)
        self.rounds = Witnessing("nl", logs["nl"], witnesses["nl"], source, home.node_tls, seen)

    async def talk(self, talker: Talker) -> None:
        """Start br's node."""
        address = await self.federation.serve("br", lambda server: rpc.add_AuditServiceServicer_to_server(talker, server))
        self.federation.move("br", address)

    def shown_by_fr(self, size: int, root: bytes = bytes(32)) -> Checkpoint:
        """Return a state that fr's true key signed."""
        return Checkpoint(log_origin("sockets", "fr"), size, root).signed_by(self.federation.homes["fr"].audit_signer)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with contextlib.ExitStack() as stack:
        async with SocketFederation(tmp_path, "nl", "fr", "br") as federation:
            homes = {member: federation.homes[member] for member in ("nl", "fr")}
            logs = {member: stack.enter_context(contextlib.closing(open_log(home))) for member, home in homes.items()}
            witnesses = {member: stack.enter_context(contextlib.closing(open_witness(home))) for member, home in homes.items()}
            turns = stack.enter_context(Turns())
            source = homes["fr"].directory_source()
            servicer = AuditServicer(AuditCore(logs["fr"], witnesses["fr"], source), turns)
            address = await federation.serve("fr", lambda server: rpc.add_AuditServiceServicer_to_server(servicer, server), source)
            federation.move("fr", address)
            yield World(federation, logs, witnesses)


@pytest.mark.parametrize(
    ("shown", "cosigned"),
    [
        ([f"vidfed/sockets/nl/audit\n{'9' * 5_000}\n{ROOT}\n\n\u2014 a AAAAAAA=\n"], pb.AddCheckpointResponse(cosignatures="x")),
        ([f"vidfed/sockets/fr/audit\n{'9' * 5_000}\n{ROOT}\n\n\u2014 a AAAAAAA=\n"], pb.AddCheckpointResponse()),
        (
            ["\0" * 70_000],
            pb.AddCheckpointResponse(refusal=pb.WitnessRefusal(reason=pb.WITNESS_REFUSAL_REASON_FORBIDDEN, latest_size=2**64 - 1)),
        ),
        ([], pb.AddCheckpointResponse(refusal=pb.WitnessRefusal(reason=pb.WITNESS_REFUSAL_REASON_CONFLICT, latest_size=1))),
        ([], pb.AddCheckpointResponse(cosignatures="\u2014 a " + "A" * 60_000 + "\n")),
    ],
    ids=["an endless size of one's own", "an endless size of another's", "endless text", "a size it cannot know", "an endless signature"],
)
async def test_one_member_s_nonsense_never_ends_the_rounds(world: World, shown: list[str], cosigned: pb.AddCheckpointResponse) -> None:
    await world.talk(Talker(shown, cosigned))
    rounds = asyncio.create_task(world.rounds.run(0.0))
    fr, nl = world.witnesses["fr"], world.witnesses["nl"]

    async def cosigned_by_fr(size: int) -> None:
        while not rounds.done():
            held = await asyncio.to_thread(fr.witnessed)
            known = await asyncio.to_thread(nl.cosignatures)
            if "nl" in held and held["nl"][1].size >= size and "fr" in known:
                return
        pytest.fail(f"the rounds ended: {rounds.exception()!r}")

    try:
        await cosigned_by_fr(1)
        grown = len(world.logs["nl"]) + 1
        await asyncio.to_thread(world.rounds.log.append, AuditEntry(system_clock(), Operation.ALTERATION, Event.RECORDS_ADDED, "nl"))
        await cosigned_by_fr(grown)
    finally:
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)
    assert nl.evidence() == []


async def test_a_defect_at_one_member_is_that_member_s_affair(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its type: here one that nobody expects."""
    await world.talk(Talker(["note"], pb.AddCheckpointResponse()))
    visited: list[str] = []
    ask = Witnessing._ask

    async def odd(self: Witnessing, stub: rpc.AuditServiceAsyncStub, own: Checkpoint, old_size: int, epochs: Sequence[str]) -> str:
        visited.append("")
        if len(visited) == 1:
            raise RecursionError
        return await ask(self, stub, own, old_size, epochs)

    monkeypatch.setattr(Witnessing, "_ask", odd)
    await world.rounds.round()
    assert len(visited) == 2


async def test_a_checkpoint_that_says_nothing_hides_no_fork_behind_it(world: World) -> None:
    """br still shows what it cosigned of a member that has left, before the fork it was shown of fr."""
    former = Checkpoint(log_origin("sockets", "aa"), 3, bytes(32)).signed_by(SigningKey.generate())
    held = world.shown_by_fr(3)
    lie = world.shown_by_fr(3, b"\1" * 32)
    await world.talk(Talker([former.text, lie.text], pb.AddCheckpointResponse()))
    nl = world.witnesses["nl"]
    with nl._writing() as database:
        database.execute("INSERT INTO cosigned VALUES (?, ?, ?)", ("fr", 0, held.text))
    await world.rounds.round()
    (evidence,) = nl.evidence()
    assert (evidence.kind, evidence.member, evidence.shown) == ("fork", "fr", lie)
