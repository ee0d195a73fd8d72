"""True gRPC over mutual TLS: who may call what."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.casework import ASK
from tests.support.casework_members import made_up_records
from tests.support.sockets import SocketFederation
from vidfed.casework.carriage.opening import open_casework
from vidfed.casework.client import CaseworkClient
from vidfed.casework.core.state import Phase, state_of
from vidfed.casework.errors import ConversationError, GatewayFailedError
from vidfed.casework.storage.told import Told, note
from vidfed.rpc.channels import SERVER_OPTIONS, open_channel, server_credentials
from vidfed.security.clock import system_clock
from vidfed.security.identity.credentials import Credential
from vidfed.security.member.audit_log import open_log
from vidfed.security.member.enrolment import issue_kit
from vidfed.security.member.rotation import OwnEntry
from vidfed.v1 import casework_pb2 as pb
from vidfed.v1 import casework_pb2_grpc as rpc
from vidfed.wire.casework_values import Content, Note, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from vidfed.casework.carriage.opening import Casework
    from vidfed.security.member.kit import Kit

HIT = (b"l" * 32, b"a" * 32, "FR-1")


class Served:
    """nl asks, fr answers, each with node and gateway on a port of its own."""

    def __init__(self, federation: SocketFederation, folder: Path) -> None:
        self.federation, self.folder = federation, folder
        self.casework: dict[str, Casework] = {}
        self.gateways: dict[str, str] = {}
        self.nodes: dict[str, str] = {}

    async def start(self, member: str, stack: contextlib.AsyncExitStack) -> None:
        home = self.federation.homes[member]
        source = home.directory_source()
        source.current()
        audit = stack.enter_context(contextlib.closing(open_log(home)))
        casework = stack.enter_context(open_casework(home, source, audit, made_up_records()))
        self.casework[member] = casework
        node, gateway = (grpc.aio.server(options=SERVER_OPTIONS) for _ in range(2))
        await stack.enter_async_context(casework.serve_node(node, first=True))
        casework.serve_persons(gateway)
        for server, addresses in ((node, self.nodes), (gateway, self.gateways)):
            port = server.add_secure_port("127.0.0.1:0", server_credentials(home.node_tls, source))
            addresses[member] = f"127.0.0.1:{port}"
            await server.start()
            stack.push_async_callback(server.stop, None)
        self.federation.move(member, self.nodes[member])

    def kit(self, member: str, pseudonym: str, *roles: str) -> Kit:
        home = self.federation.homes[member]
        return issue_kit(home, self.folder / pseudonym, gateway=self.gateways[member], pseudonym=pseudonym, roles=roles)

    @contextlib.asynccontextmanager
    async def node_of(self, member: str, caller: str, kit: Kit | None = None) -> AsyncIterator[rpc.CaseworkServiceAsyncStub]:
        """Give the calls of a member's node over a connection of another member's node, or of a kit."""
        home = self.federation.homes[caller]
        directory = home.directory_source().current()
        tls = kit.tls if kit else home.node_tls()
        async with open_channel(self.nodes[member], tls, directory, directory.member(member)) as channel:
            yield rpc.CaseworkServiceStub(channel)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with SocketFederation(tmp_path, "nl", "fr", "de") as federation, contextlib.AsyncExitStack() as stack:
        made = Served(federation, tmp_path)
        for member in ("nl", "fr"):
            await made.start(member, stack)
        yield made


async def test_conversation_over_true_connections(served: Served) -> None:
    told = Told(HIT[0], HIT[1], "nl", "nl-7", system_clock(), (HIT[2],))
    with served.casework["fr"].context.database.writing() as connection:
        note(connection, [told])
    holder, deputy, officer = served.kit("nl", "nl-7"), served.kit("nl", "nl-8"), served.kit("fr", "fr-1", "release-officer")
    async with CaseworkClient(holder) as asking, CaseworkClient(deputy), CaseworkClient(officer) as answering:
        identity = await asking.begin("fr", HIT, "nl-8", ASK, Content(text="who is she?"))
        while not (views := await answering.conversations()):
            pass
        assert [read.content.text for read in answering.read(views[identity]) if read.content] == ["who is she?"]
        await answering.say(views[identity], Note(), Content(text="looking"))
        while (
            state_of((view := (await asking.conversations())[identity]).conversation).phase is not Phase.ASKED
            or not view.conversation.owner
        ):
            pass
        assert [read.content.text for read in asking.read(view) if read.content] == ["who is she?", "looking"]
        assert len(view.receipts) == 2


async def test_person_without_colleague_or_officer_is_told_whom_to_call(served: Served) -> None:
    async with CaseworkClient(served.kit("nl", "nl-7")) as client:
        with pytest.raises(ConversationError, match="run `vidfed inbox` once"):
            await client.begin("fr", HIT, "nl-8", ASK, Content())
        async with CaseworkClient(served.kit("nl", "nl-8")):
            with pytest.raises(ConversationError, match="call desk"):
                await client.begin("fr", HIT, "nl-8", ASK, Content())
        with pytest.raises(ConversationError, match="somebody else than you"):
            await client.begin("fr", HIT, "nl-7", ASK, Content())


@pytest.mark.parametrize("own", [True, False])
async def test_kit_calls_a_node_in_a_member_s_place(served: Served, *, own: bool) -> None:
    member = "fr" if own else "nl"
    async with served.node_of("fr", member, served.kit(member, "p-1")) as node:
        for call in (node.Deliver(pb.Delivery()), node.Fetch(pb.FetchRequest()), node.GetOfficers(pb.GetOfficersRequest())):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_nonsense_from_a_member_gets_a_signed_refusal(served: Served) -> None:
    async with served.node_of("fr", "de") as node:
        receipt = await node.Deliver(pb.Delivery())
    assert receipt.signatures


async def test_kit_of_another_member_at_a_gateway(served: Served) -> None:
    kit = served.kit("nl", "nl-7")
    kit.gateway = served.gateways["fr"]
    with pytest.raises(GatewayFailedError):
        async with CaseworkClient(kit) as client:
            await client.conversations()


async def test_revoked_kit_reads_nothing(served: Served) -> None:
    kit = served.kit("nl", "nl-7")
    async with CaseworkClient(kit) as client:
        await client.conversations()
        serial = Credential.read(kit.credential.payload).serial
        served.federation.administrators.folder.accept(OwnEntry(served.federation.homes["nl"]).revoke(serial))
        with pytest.raises(GatewayFailedError, match="revoked"):
            await client.conversations()


async def test_nobody_is_an_officer_by_own_word(served: Served) -> None:
    async with CaseworkClient(served.kit("fr", "fr-9")) as clerk, served.node_of("fr", "nl") as node:
        assert (await node.GetOfficers(pb.GetOfficersRequest())).cards == []
        assert [known.reader.pseudonym for known in await clerk.readers("fr")] == ["fr-9"]
        assert not (await clerk.readers("fr"))[0].officer


async def test_fetch_over_the_network_gives_strangers_nothing(served: Served) -> None:
    async with served.node_of("fr", "de") as node:
        response = await node.Fetch(pb.FetchRequest(conversation=b"x" * 32, side=Side.ASKER.value, from_number=1))
    assert response == pb.FetchResponse()
