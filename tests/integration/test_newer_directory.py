"""A key that is not known here may be one that only a newer trust directory names: it is asked for, once, and checked again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vidfed.federation.client import FederationClient
from vidfed.federation.errors import GatewayRefusedError
from vidfed.federation.items import items_of_hashes
from vidfed.federation.outcome import Outcome
from vidfed.federation.question import Justification
from vidfed.index import Algorithm, Hash
from vidfed.synthetic.behind import BehindDirectory
from vidfed.synthetic.memory import MemoryFederation, MemoryNode
from vidfed.synthetic.sockets import SocketFederation
from vidfed.v1.services_pb2 import LookupCall
from vidfed.wire.envelope import to_message
from vidfed.wire.errors import Status
from vidfed.wire.lookup import read_answer
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from vidfed.federation.outcome import NodeOutcome

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
ITEMS = items_of_hashes(["sha256:" + "00" * 32])


@pytest.fixture
async def federation(tmp_path: Path) -> AsyncIterator[SocketFederation]:
    async with SocketFederation(tmp_path, "nl", "fr") as made:
        await made.start_honest("nl", "fr")
        yield made


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
    behind = BehindDirectory(gateway.desk.source, "nl", reachable)
    gateway.desk.source = behind
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
    behind = BehindDirectory(gateway.desk.source, "fr")
    gateway.desk.source = behind
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
