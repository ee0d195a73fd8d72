"""A key that is not known here may be one that only a newer trust directory names: it is asked for, once, and checked again."""

from __future__ import annotations

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.memory import MemoryFederation, MemoryNode
from tests.support.simulated import HomeFederation
from tests.support.sockets import ScriptedNode, SocketFederation
from tests.support.stale_directory import BehindDirectory
from vidfed.federation.client.client import FederationClient
from vidfed.federation.gateway.settings import GatewaySection
from vidfed.federation.lookup.errors import GatewayRefusedError
from vidfed.federation.lookup.items import items_of_hashes
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Justification
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.admission import Admission
from vidfed.node.serving.server import NodeServicer
from vidfed.rpc.trust import PeerMirrors, TrustServicer
from vidfed.security.clock import system_clock
from vidfed.security.identity.tls import NODE_ROLE
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.mirrors import FolderMirror
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.v1 import trust_pb2_grpc as trust_rpc
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.answers import read_answer
from vidfed.wire.envelope import to_message
from vidfed.wire.statuses import Status
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import grpc

    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.security.member.kit import Kit

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
ITEMS = items_of_hashes(["sha256:" + "5a" * 32])


@pytest.mark.parametrize("reachable", [True, False])
async def test_a_client_that_does_not_know_a_node_s_key_asks_for_a_newer_directory(federation: SocketFederation, reachable: bool) -> None:
    heard: list[NodeOutcome] = []
    async with FederationClient(await federation.start_gateway("nl")) as client:
        await client.refresh_directory()
        behind = BehindDirectory(client._source, "fr", reachable)
        client._source = behind  # type: ignore[assignment]
        result = await client.ask(ITEMS, WHY, on_node=heard.append)
    said = {node.member: node.outcome for node in result.nodes}
    assert said == {"fr": Outcome.NO_MATCH if reachable else Outcome.BAD_SIGNATURE, "nl": Outcome.NO_MATCH}
    assert behind.asked == ["fr"]
    of_fr = [node.outcome for node in heard if node.member == "fr"]
    assert of_fr == ([Outcome.BAD_SIGNATURE, Outcome.NO_MATCH] if reachable else [Outcome.BAD_SIGNATURE])


@pytest.mark.parametrize("reachable", [True, False])
async def test_a_gateway_that_does_not_know_its_member_s_new_key_asks_for_a_newer_directory(
    federation: SocketFederation, reachable: bool
) -> None:
    gateway = federation.gateway("nl")
    behind = BehindDirectory(gateway.core.source, "nl", reachable)
    gateway.core.admission.source = behind
    async with FederationClient(await federation.start_gateway("nl", gateway)) as client:
        await client.refresh_directory()
        if reachable:
            assert (await client.ask(ITEMS, WHY)).complete
        else:
            with pytest.raises(GatewayRefusedError):
                await client.ask(ITEMS, WHY)
    assert behind.asked == ["nl"]


async def test_a_gateway_older_than_the_asker_s_directory_asks_for_a_newer_one(federation: SocketFederation) -> None:
    gateway = federation.gateway("nl")
    behind = BehindDirectory(gateway.core.source, "fr")
    gateway.core.admission.source = behind
    async with FederationClient(await federation.start_gateway("nl", gateway)) as client:
        await client.refresh_directory()
        assert (await client.ask(ITEMS, WHY)).complete
    assert behind.asked == ["nl"]


@pytest.mark.parametrize("reachable", [True, False])
def test_a_node_that_does_not_know_the_asking_member_s_key_asks_for_a_newer_directory(tmp_path: Path, reachable: bool) -> None:
    federation = MemoryFederation()
    federation.add("nl", "fr")
    asker = federation.investigator("nl")
    with MemoryNode(federation, "fr", tmp_path) as node:
        behind = BehindDirectory(federation, "nl", reachable)
        node.pipeline = replace(node.pipeline, directory_source=behind)
        request = federation.request(asker, [Hash(Algorithm.SHA256, bytes(32))], "fr")
        call = LookupCall(credential=to_message(asker.credential), request=to_message(federation.sign(request, asker)))
        answer = read_answer(node.ask(call, "nl").payload)
    assert answer.header.status is (Status.ANSWERED if reachable else Status.BAD_SIGNATURE)
    assert behind.asked == ["nl"]


class Behind:
    """The true node of fr, over its own socket, that follows a copy of the directory and asks other members' nodes for a newer one."""

    def __init__(self, federation: SocketFederation) -> None:
        self.federation = federation
        self.copy = federation.folder / "copy"
        self.follow()
        home = federation.homes["fr"]
        self.peers = PeerMirrors("fr", home.node_tls)
        mirror = FolderMirror(self.copy)
        self.source = TufDirectory(federation.folder / "behind", federation.administrators.anchor, [mirror], ask=self.peers)

    def follow(self) -> None:
        """Copy what is published now."""
        shutil.copytree(self.federation.administrators.published, self.copy, dirs_exist_ok=True)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer lookups at an address that everybody knows of, this copy too."""
        everybody = HomeFederation(list(self.federation.homes.values()))
        with (
            MemoryNode(everybody, "fr", self.federation.folder / "node-of-fr") as node,
            ThreadPoolExecutor() as threads,
            contextlib.closing(self.peers),
        ):
            pipeline = replace(node.pipeline, directory_source=self.source)
            servicer = NodeServicer(pipeline, Admission(threads, pipeline.answer))
            address = await self.federation.serve("fr", lambda server: rpc.add_NodeServiceServicer_to_server(servicer, server), self.source)
            self.federation.move("fr", address)
            yield


async def tell_the_newest(federation: SocketFederation) -> None:
    """Start a node of nl that hands out the newest directory, as every node does."""
    source = federation.homes["nl"].directory_source()
    source.ready()
    trust = TrustServicer(source, lambda peer: peer.role == NODE_ROLE, system_clock)

    def register(server: grpc.aio.Server) -> None:
        rpc.add_NodeServiceServicer_to_server(ScriptedNode(federation.honest("nl")), server)
        trust_rpc.add_TrustServiceServicer_to_server(trust, server)

    federation.move("nl", await federation.serve("nl", register))


async def ask(kit: Kit) -> LookupResult:
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        return await client.ask(ITEMS, WHY)


def outcomes(result: LookupResult) -> dict[str, Outcome]:
    return {node.member: node.outcome for node in result.nodes}


@pytest.mark.parametrize("told", [True, False], ids=["told a newer one", "told nothing"])
async def test_node_with_an_older_directory_and_an_asker_s_new_key(federation: SocketFederation, told: bool) -> None:
    """It asks another member's node for a newer directory and answers; told nothing it refuses, which is no 'no hit'."""
    if told:
        await tell_the_newest(federation)
    node = Behind(federation)
    async with node.serving():
        node.follow()
        older = node.source.current().version
        home = federation.homes["nl"]
        federation.administrators.folder.accept(OwnEntry(home).begin_signing_key())
        home.keys.path("signing-next").replace(home.keys.path("signing"))  # in haste: the others had no day to hear of it
        result = await ask(await federation.start_gateway("nl"))
        assert outcomes(result) == {"fr": Outcome.NO_MATCH if told else Outcome.REFUSED, "nl": Outcome.NO_MATCH}
        assert result.complete is told
        assert [node.code for node in result.unanswered] == ([] if told else [Status.BAD_SIGNATURE.name])
        assert (node.source.current().version > older) is told


async def test_node_with_an_older_directory_and_an_asker_it_does_not_know(federation: SocketFederation) -> None:
    """It does not speak with a stranger, and so is unreachable, until its directory names the member."""
    node = Behind(federation)
    async with node.serving():
        federation.administrators.remove("nl")
        node.follow()
        assert "nl" not in node.source.current().members
        OwnEntry(federation.homes["nl"]).renew()
        federation.administrators.admit(Entry.load(federation.homes["nl"].entry_path))
        section = GatewaySection("127.0.0.1:0", connect_attempts=1)
        kit = await federation.start_gateway("nl", federation.gateway("nl", section=section))
        result = await ask(kit)
        assert outcomes(result) == {"fr": Outcome.UNREACHABLE, "nl": Outcome.NO_MATCH}
        assert not result.complete
        node.follow()
        assert outcomes(await ask(kit)) == {"fr": Outcome.NO_MATCH, "nl": Outcome.NO_MATCH}
