"""A member whose log was put back: what its node, its doctor, the others and its investigators see, and the way back."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from tests.support.sockets import SocketFederation
from vidfed.federation.cli.audit import audit
from vidfed.node.operations.doctor import examine
from vidfed.node.serving.audit_service import AuditCore, AuditServicer
from vidfed.node.serving.witnessing import Witnessing
from vidfed.rpc.turns import Turns
from vidfed.security.audit import AuditEntry, Event, Operation
from vidfed.security.audit.changes import Seen
from vidfed.security.clock import system_clock
from vidfed.security.member.audit_log import open_log, open_witness
from vidfed.v1 import audit_pb2_grpc as rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from vidfed.security.audit.witness import Witness

ENTRY = AuditEntry(1, Operation.ALTERATION, Event.RECORDS_ADDED, "nl")
WHOLE = ("audit.db", "audit.checkpoint")


class World:
    """nl, whose log is lost; fr, whose node cosigns; br, whose node is down."""

    def __init__(self, federation: SocketFederation, witness: Witness) -> None:
        self.federation = federation
        self.home = federation.homes["nl"]
        self.state = self.home.state_file("audit.db").parent
        self.fr = witness

    async def grow(self, count: int) -> int:
        """Write entries as nl's node does, and make a round; return how many there are."""
        source = self.home.directory_source()
        source.ready()
        with contextlib.closing(open_log(self.home)) as log, contextlib.closing(open_witness(self.home)) as witness:
            log.append_many([ENTRY] * count)
            seen = Seen(self.home.state_file("seen.json"), "nl", log, system_clock)
            await Witnessing("nl", log, witness, source, self.home.node_tls, seen).round()
            return len(log)

    async def run(self, *arguments: str) -> Result:
        command = [*arguments, "--home", str(self.home.folder)]
        return await asyncio.to_thread(CliRunner().invoke, audit, command)

    async def doctor(self) -> tuple[str, str]:
        report = await asyncio.to_thread(examine, self.home)
        return next((each.state.value, each.said) for each in report.findings if each.point == "witnesses")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with contextlib.ExitStack() as stack:
        async with SocketFederation(tmp_path, "nl", "fr", "br") as federation:
            home = federation.homes["fr"]
            log = stack.enter_context(contextlib.closing(open_log(home)))
            witness = stack.enter_context(contextlib.closing(open_witness(home)))
            source = home.directory_source()
            servicer = AuditServicer(AuditCore(log, witness, source), stack.enter_context(Turns()))
            address = await federation.serve("fr", lambda server: rpc.add_AuditServiceServicer_to_server(servicer, server), source)
            federation.move("fr", address)
            yield World(federation, witness)


async def test_restored_member_begins_a_new_epoch(world: World, tmp_path: Path) -> None:
    await world.grow(3)
    for name in WHOLE:
        shutil.copy(world.state / name, tmp_path / name)
    told = await world.grow(4)
    for name in WHOLE:
        shutil.copy(tmp_path / name, world.state / name)
    left = await world.grow(0)
    assert left < told

    state, said = await world.doctor()
    assert (state, "new-epoch" in said, "fr" in said) == ("failed", True, True), said
    done = await world.run("new-epoch", "--reason", "the disk of 3 March failed")
    assert done.exit_code == 0, done.output
    assert f"had {told} entries, " in done.output, done.output
    assert "br could not be asked" in done.output

    grown = await world.grow(1)
    directory = world.home.directory_source().current()
    (seen,) = world.fr.epochs(directory)
    assert (seen.start.reason, seen.start.predecessor.size) == ("the disk of 3 March failed", told)
    assert 3 <= seen.start.kept <= left  # what was written in the second of the loss, and by the doctor after it, is not said to be kept
    assert world.fr.witnessed()["nl"][1].size == grown
    assert world.fr.evidence() == []
    assert (await world.doctor())[0] == "ok"
    verified = await world.run("verify", "--ask")
    assert (verified.exit_code, "vouched     by fr" in verified.output, f"{seen.start.lost} are lost" in verified.output) == (0, True, True)
    again = await world.run("new-epoch", "--reason", "by mistake")
    assert (again.exit_code, "nothing is to be begun" in again.output) == (1, True)


async def test_verify_without_witnesses_says_so(world: World) -> None:
    with contextlib.closing(open_log(world.home)) as log:
        log.append(ENTRY)
    alone = await world.run("verify")
    assert (alone.exit_code, "NOBODY ELSE VOUCHES" in alone.output, "The log holds." in alone.output) == (0, True, False)
    await world.grow(1)
    with contextlib.closing(open_log(world.home)) as log:
        seen = len(log)
        log.append_many([ENTRY] * 2)
    vouched = await world.run("verify")
    assert f"vouched     by fr for the first {seen} of {seen + 2} entries" in vouched.output


async def test_doctor_fails_when_nobody_has_cosigned_for_an_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.grow(1)
    assert (await world.doctor())[0] == "ok"
    monkeypatch.setattr("vidfed.node.operations.doctor._UNWITNESSED_MS", -1)
    state, said = await world.doctor()
    assert (state, "nobody has cosigned" in said) == ("failed", True)
