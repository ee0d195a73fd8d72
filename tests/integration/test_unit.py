"""Node and gateway of one member in one process, `vidfed serve`, over real sockets; another member's node in the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc
import pytest

from tests.support import unit_filter
from tests.support.memory import call_of
from tests.support.patience import PATIENCE_S
from tests.support.simulated import HomeFederation
from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.errors import GatewayError
from vidfed.federation.lookup.items import items_of_hashes
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Justification
from vidfed.index import Algorithm, Hash
from vidfed.node.policy.file import POLICY_FILE, render_policy
from vidfed.rpc.channels import open_channel
from vidfed.security.member.audit_log import open_storage
from vidfed.synthetic.federation import free_ports
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.wire.answers import read_answer
from vidfed.wire.envelope import from_message
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import Ran
    from vidfed.security.member.kit import Kit
    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupAnswer

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
UNKNOWN = Hash(Algorithm.SHA256, bytes(32))
ITEMS = items_of_hashes(["sha256:" + "5a" * 32])
NODE, GATEWAY = 0, 1  # the order of their settings in the configuration file


class Unit:
    """nl, whose services are one process; fr, whose node and investigator are in the test."""

    def __init__(self, federation: SocketFederation) -> None:
        self.federation = federation
        self.home = federation.homes["nl"]
        self.process: asyncio.subprocess.Process

    @classmethod
    def of(cls, federation: SocketFederation) -> Self:
        """Let nl's node answer everybody."""
        (federation.homes["nl"].folder / POLICY_FILE).write_text(render_policy(["nl", "fr"]))
        return cls(federation)

    def configure(self, setting: str, which: int, value: str) -> None:
        """Change a setting that is in both services' sections, or in one alone."""
        before, *sections = self.home.config_path.read_text().split(f"\n{setting} = ")
        sections[which] = value + sections[which][sections[which].index("\n") :]
        self.home.config_path.write_text(f"\n{setting} = ".join((before, *sections)))

    @contextlib.asynccontextmanager
    async def begun(self, *wrapper: str) -> AsyncIterator[None]:
        """Begin the process, as an argument of `wrapper` if there is one; what is left of it in the end is ended."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VIDFED_")}
        command = [*wrapper, sys.executable, "-m", "vidfed.cli", "serve", "--home", str(self.home.folder)]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.communicate()

    async def line(self, stream: asyncio.StreamReader | None, what: str) -> str:
        """Return the first line of a stream that holds this."""
        assert stream is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await stream.readline():
                if what in line.decode():
                    return line.decode().strip()
        raise AssertionError(f"the process ended without saying {what!r}")

    async def answering(self) -> Kit:
        """Wait until both services answer; list the node's address; return the kit of an investigator who asks through the gateway."""
        node = await self.line(self.process.stdout, "node nl answers on ")
        gateway = await self.line(self.process.stdout, "gateway of nl listens on ")
        self.federation.move("nl", node.rpartition(" ")[2])
        return self.federation.kit("nl", gateway.rpartition(" ")[2])

    async def stopping(self) -> None:
        """Send SIGTERM, and wait until it has been heard."""
        self.process.terminate()
        await self.line(self.process.stderr, "stopping")

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    def events(self) -> list[str]:
        with contextlib.closing(open_storage(self.home)) as storage:
            return [json.loads(entry.body)["event"] for _, entry in storage.entries(0, storage.size()) if entry.body]


class Neighbour:
    """The gateway of fr, as far as the node of nl sees one."""

    def __init__(self, unit: Unit) -> None:
        self._federation = HomeFederation(list(unit.federation.homes.values()))
        self._asker = self._federation.investigator("fr")
        self._own_tls = unit.federation.homes["fr"].node_tls
        self._nl = self._federation.current().member("nl")

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[rpc.NodeServiceAsyncStub]:
        channel = open_channel(self._nl.endpoint, self._own_tls(), self._federation.current(), self._nl)
        try:
            yield rpc.NodeServiceStub(channel)
        finally:
            await channel.close()

    def question(self) -> LookupCall:
        request = self._federation.request(self._asker, [UNKNOWN])
        return call_of(self._asker.credential, self._federation.sign(request, self._asker))

    def chunks(self, count: int) -> list[LookupCall]:
        chunks = self._federation.chunks(self._asker, *[[UNKNOWN]] * count)
        return [call_of(self._asker.credential, envelope) for _, envelope in chunks]

    def read(self, message: EnvelopeMessage) -> LookupAnswer:
        return read_answer(from_message(message).verify(ANSWER_TYPE, self._nl.signing_keys))


@pytest.fixture
async def unit(tmp_path: Path) -> AsyncIterator[Unit]:
    """Nothing of nl runs yet."""
    async with SocketFederation(tmp_path, "nl", "fr") as federation:
        await federation.start_honest("fr")
        yield Unit.of(federation)


UNIT_FILTER = (sys.executable, unit_filter.__file__, str(Path(__file__).parents[2] / "deploy/systemd/vidfed-unit@.service"))


@pytest.mark.parametrize("wrapper", [(), UNIT_FILTER], ids=["plain", "under the unit's system-call filter"])
async def test_an_investigator_asks_through_the_process_whose_node_answers_too(
    unit: Unit, vidfed: Callable[..., Ran], wrapper: tuple[str, ...]
) -> None:
    async with unit.begun(*wrapper):
        async with FederationClient(await unit.answering()) as client:
            await client.refresh_directory()
            result = await client.ask(ITEMS, WHY)
        assert {node.member: node.outcome for node in result.nodes} == {"fr": Outcome.NO_MATCH, "nl": Outcome.NO_MATCH}
        unit.process.terminate()
        assert await unit.ended() == 0
    # One log holds what the gateway asked and what the node answered, and it is whole.
    assert {"lookup-asked", "lookup-received", "lookup-answered"} <= set(unit.events())
    verified = await asyncio.to_thread(vidfed, "audit", "verify", "--home", unit.home.folder, "--json")
    assert verified.json()["holds"] is True


async def test_both_status_commands_tell_the_truth_while_it_serves_and_after(unit: Unit, vidfed: Callable[..., Ran]) -> None:
    async def states() -> list[tuple[bool, str | None]]:
        said = [await asyncio.to_thread(vidfed, name, "status", "--home", unit.home.folder, "--json") for name in ("node", "gateway")]
        return [(ran.json()["serving"], ran.json()["address"]) for ran in said]

    async with unit.begun():
        kit = await unit.answering()
        node = unit.federation.homes["fr"].directory_source().current().member("nl").endpoint
        assert await states() == [(True, node), (True, kit.gateway)]
        health = await asyncio.to_thread(vidfed, "node", "health", "--home", unit.home.folder)
        assert (health.status, health.out) == (0, "SERVING\n")
        unit.process.terminate()
        assert await unit.ended() == 0
    assert [serving for serving, _ in await states()] == [False, False]


async def test_sigterm_lets_the_gateway_s_lookups_finish_while_the_node_still_answers(unit: Unit) -> None:
    asked, let = asyncio.Event(), asyncio.Event()
    honest = unit.federation.honest("fr")

    async def slow(call: LookupCall) -> EnvelopeMessage:
        asked.set()
        await let.wait()
        return await honest(call)

    await unit.federation.start_node("fr", ScriptedNode(slow))
    async with unit.begun():
        kit = await unit.answering()
        neighbour = Neighbour(unit)
        async with FederationClient(kit) as client, neighbour.connected() as node:
            await client.refresh_directory()
            asking = asyncio.create_task(client.ask(ITEMS, WHY))
            await asked.wait()
            await unit.stopping()
            answer = neighbour.read(await node.Lookup(neighbour.question(), timeout=PATIENCE_S))
            let.set()
            result = await asking
        assert answer.header.status is Status.ANSWERED
        assert result.complete
        assert await unit.ended() == 0
        async with FederationClient(kit) as client:
            with pytest.raises(GatewayError, match="cannot be reached"):
                await client.ask(ITEMS, WHY)


async def test_sigterm_ends_the_node_s_streams_with_a_word(unit: Unit) -> None:
    async with unit.begun():
        await unit.answering()
        neighbour = Neighbour(unit)
        async with neighbour.connected() as node:
            stream = node.LookupStream(timeout=PATIENCE_S)
            await stream.write(neighbour.chunks(2)[0])
            first = await stream.read()
            assert neighbour.read(first).header.status is Status.ANSWERED  # type: ignore[arg-type]  # not at its end
            await unit.stopping()
            with pytest.raises(grpc.aio.AioRpcError, match="the node stops"):
                await stream.read()
        assert await unit.ended() == 0


@pytest.mark.parametrize("which", [NODE, GATEWAY], ids=["node", "gateway"])
async def test_an_address_in_use_is_one_clear_line_and_neither_service_begins(unit: Unit, which: int) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    address = f"127.0.0.1:{taken.sockets[0].getsockname()[1]}"
    unit.configure("listen", which, f'"{address}"')
    async with taken, unit.begun():
        out, err = await unit.process.communicate()
    assert (unit.process.returncode, out) == (1, b"")
    assert [line for line in err.decode().splitlines() if "Error:" in line] == [
        f"Error: cannot listen on {address}: the address is in use, or not one of this machine"
    ]
    assert not list(unit.home.folder.glob("state/*serving"))


@pytest.mark.parametrize("workers", ["0", "2"])
async def test_a_node_in_several_processes_is_refused_before_anything_begins(unit: Unit, workers: str) -> None:
    unit.configure("workers", 0, workers)
    async with unit.begun():
        out, err = await unit.process.communicate()
    assert (unit.process.returncode, out) == (1, b"")
    assert f"[node] workers is {workers}, but `vidfed serve` is one process" in err.decode()


async def test_each_service_s_metrics_are_where_they_are_when_it_runs_alone(unit: Unit) -> None:
    ports = free_ports(2)
    for which in (NODE, GATEWAY):
        unit.configure("metrics_listen", which, f'"127.0.0.1:{ports[which]}"')

    def names(which: int) -> set[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[which]}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return {line.split()[2] for line in lines if line.startswith("# TYPE")}

    async with unit.begun():
        async with FederationClient(await unit.answering()) as client:
            await client.refresh_directory()
            await client.ask(ITEMS, WHY)
        of_node, of_gateway = [await asyncio.to_thread(names, which) for which in (NODE, GATEWAY)]
    assert "vidfed_node_lookups_total" in of_node
    assert not any(name.startswith("vidfed_node_") for name in of_gateway)  # or each lookup would be counted twice
    assert not any(name.startswith("vidfed_gateway_") for name in of_node)
    assert "vidfed_gateway_lookups" in of_gateway
    assert "vidfed_audit_entries" in of_node & of_gateway
