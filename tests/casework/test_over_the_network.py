"""True gRPC over mutual TLS: who may call what."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from click.testing import CliRunner

from tests.support.casework import ASK
from tests.support.casework_members import made_up_records
from tests.support.sockets import SocketFederation
from vidfed.casework.carriage.opening import open_casework
from vidfed.casework.client import CaseworkClient
from vidfed.casework.core.state import Phase, state_of
from vidfed.casework.errors import ConversationError, GatewayFailedError
from vidfed.casework.opened import OpenedEntry
from vidfed.casework.storage.told import Told, note
from vidfed.cli.root import root
from vidfed.rpc.channels import SERVER_OPTIONS, open_channel, server_credentials
from vidfed.rpc.trust import TrustServicer
from vidfed.security.clock import system_clock
from vidfed.security.identity.credentials import Credential
from vidfed.security.member.audit_log import open_log
from vidfed.security.member.enrolment import certify, install, issue_kit
from vidfed.security.member.enrolment import request as request_kit
from vidfed.security.member.home import MemberHome
from vidfed.security.member.invitation import invite
from vidfed.security.member.persons import revoke_kit
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.entry import Entry
from vidfed.v1 import casework_pb2 as pb
from vidfed.v1 import casework_pb2_grpc as rpc
from vidfed.v1 import trust_pb2_grpc as trust_rpc
from vidfed.wire.casework_values import Content, Note, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from vidfed.casework.carriage.opening import Casework
    from vidfed.security.identity.tls import Peer
    from vidfed.security.member.kit import Kit


def _own_people(member: str) -> Callable[[Peer], bool]:
    return lambda peer: peer.member == member


HIT = (b"l" * 32, b"a" * 32, "FR-1")


class Served:
    """nl asks, fr answers, each with node and gateway on a port of its own."""

    def __init__(self, federation: SocketFederation, folder: Path, officers: int) -> None:
        self.federation, self.folder, self.officers = federation, folder, officers
        self.casework: dict[str, Casework] = {}
        self.gateways: dict[str, str] = {}
        self.nodes: dict[str, str] = {}

    async def start(self, member: str, stack: contextlib.AsyncExitStack) -> None:
        config = self.federation.homes[member].folder / "vidfed.toml"
        config.write_text(config.read_text().replace("\nofficers = 1\n", f"\nofficers = {self.officers}\n"))
        home = self.federation.homes[member] = MemberHome(config.parent)
        source = home.directory_source()
        source.current()
        audit = stack.enter_context(contextlib.closing(open_log(home)))
        casework = stack.enter_context(open_casework(home, source, audit, made_up_records()))
        self.casework[member] = casework
        node, gateway = (grpc.aio.server(options=SERVER_OPTIONS) for _ in range(2))
        await stack.enter_async_context(casework.serve_node(node, first=True))
        casework.serve_persons(gateway)
        trust = TrustServicer(source, _own_people(member), system_clock)
        trust_rpc.add_TrustServiceServicer_to_server(trust, gateway)
        for server, addresses in ((node, self.nodes), (gateway, self.gateways)):
            port = server.add_secure_port("127.0.0.1:0", server_credentials(home.node_tls, source))
            addresses[member] = f"127.0.0.1:{port}"
            await server.start()
            stack.push_async_callback(server.stop, None)
        self.federation.move(member, self.nodes[member])

    def kit(self, member: str, pseudonym: str, *roles: str) -> Kit:
        home = self.federation.homes[member]
        return issue_kit(home, self.folder / pseudonym, gateway=self.gateways[member], pseudonym=pseudonym, roles=roles)

    def officer(self, pseudonym: str) -> Kit:
        """Make an officer's kit at fr, whom the administrators accept."""
        return self.kit("fr", pseudonym, "release-officer")

    def accept_officers(self) -> None:
        """Let the administrators accept those who have a kit now."""
        self.federation.administrators.accept_officers(self.federation.homes["fr"])

    def publish(self, member: str) -> None:
        """Publish a member's own entry."""
        self.federation.administrators.folder.accept(Entry.load(self.federation.homes[member].entry_path))

    def lose(self, kit: Kit) -> None:
        """Revoke a kit that was lost."""
        revoke_kit(self.federation.homes[kit.member], kit.holder.serial)
        self.publish(kit.member)

    def replacement(self, lost: Kit, cosigned_by: Kit) -> Kit:
        """Enrol an officer again, with new keys, as the officer who is there signs for."""
        home, folder = self.federation.homes[lost.member], self.folder / f"{lost.pseudonym}-again"
        asked = request_kit(folder, invite(home, gateway=lost.gateway, pseudonym=lost.pseudonym, roles=lost.holder.roles))
        made = install(folder, certify(home, asked.signed_by(cosigned_by.signer).to_json(), home.directory_source())[0])
        self.publish(lost.member)
        return made

    async def run(self, kit: Kit, *arguments: str | Path, status: int = 0) -> str:
        """Run a command with a kit; the servers go on meanwhile."""
        words = [*map(str, arguments), "--kit", str(kit.folder)]
        ran = await asyncio.to_thread(lambda: CliRunner().invoke(root, words, prog_name="vidfed"))
        assert ran.exit_code == status, ran.output
        return ran.output

    async def until(self, kit: Kit, wanted: str, *arguments: str) -> str:
        """Look until a command says something."""
        while wanted not in (said := await self.run(kit, *arguments)):
            pass
        return said

    async def asked(self, holder: Kit, deputy: Kit) -> str:
        """Tell a hit and ask about it; return the conversation's id."""
        with self.casework["fr"].context.database.writing() as connection:
            note(connection, [Told(HIT[0], HIT[1], "nl", holder.pseudonym, system_clock(), (HIT[2],))])
        async with CaseworkClient(holder) as asking, CaseworkClient(deputy):
            return (await asking.begin("fr", HIT, deputy.pseudonym, ASK, Content(text="who is she?"))).hex()

    @contextlib.asynccontextmanager
    async def node_of(self, member: str, caller: str, kit: Kit | None = None) -> AsyncIterator[rpc.CaseworkServiceAsyncStub]:
        """Give the calls of a member's node over a connection of another member's node, or of a kit."""
        home = self.federation.homes[caller]
        directory = home.directory_source().current()
        tls = kit.tls if kit else home.node_tls()
        async with open_channel(self.nodes[member], tls, directory, directory.member(member)) as channel:
            yield rpc.CaseworkServiceStub(channel)


@pytest.fixture
async def served(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with SocketFederation(tmp_path, "nl", "fr", "de") as federation, contextlib.AsyncExitStack() as stack:
        made = Served(federation, tmp_path, getattr(request, "param", 1))
        for member in ("nl", "fr"):
            await made.start(member, stack)
        yield made


async def test_conversation_over_true_connections(served: Served) -> None:
    told = Told(HIT[0], HIT[1], "nl", "nl-7", system_clock(), (HIT[2],))
    with served.casework["fr"].context.database.writing() as connection:
        note(connection, [told])
    holder, deputy, officer = served.kit("nl", "nl-7"), served.kit("nl", "nl-8"), served.kit("fr", "fr-1", "release-officer")
    served.federation.administrators.accept_officers(served.federation.homes["fr"])
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


RELEASING = ("--give", "victim-identity", "--give", "case-state", "--handling", "h1", "--ground", "member-state", "--yes")


@pytest.mark.slow
@pytest.mark.parametrize("served", [2], indirect=True)
async def test_a_release_that_two_officers_sign_and_what_is_opened_to_an_overseer(served: Served, tmp_path: Path) -> None:
    """By the commands: one officer alone is refused, nothing leaves before the second has signed, and both stand under it."""
    holder, deputy = served.kit("nl", "nl-7"), served.kit("nl", "nl-8")
    one, two = served.officer("fr-1"), served.officer("fr-2")
    served.accept_officers()
    details = tmp_path / "details.toml"
    details.write_text('text = "from 2024"\n[victim]\nnames = "Anna Example"\n')
    for officer in (one, two):
        await served.run(officer, "inbox")
    await served.asked(holder, deputy)
    await served.until(one, HIT[2], "requests", "list")

    release = ("requests", "release", HIT[2], *RELEASING, "--file", details)
    assert "2 officers sign this: name the other one too" in await served.run(one, *release, status=1)
    assert "when the second officer has signed too" in await served.run(one, *release, "--with", "fr-2")
    assert "waits for a second officer's signature" in await served.run(two, "requests", "list")
    assert "asked" in await served.run(holder, "cases", "list")
    assert "when the second officer has signed too" in await served.run(one, "requests", "sign", HIT[2], "--yes")  # once more counts once
    said = await served.run(two, "requests", "sign", HIT[2], "--yes")
    assert "release by fr-1 and fr-2" in said
    assert "Anna Example" in said
    await served.until(holder, "released", "cases", "list")
    assert "fr 1. release by fr-1 and fr-2" in await served.run(holder, "cases", "show", HIT[2])

    anchor = served.federation.administrators.folder.anchor_path
    for number, (kit, command) in enumerate(((holder, "cases"), (two, "requests"))):  # either party
        opened = tmp_path / f"opened-{number}"
        await served.run(kit, command, "open-for", HIT[2], "fr:1", "--to", "Data protection authority", "--out", opened)
        ran = CliRunner().invoke(root, ["audit", "opened", str(opened), "--anchor", str(anchor)], prog_name="vidfed")
        assert (ran.exit_code, "release by fr-1 and fr-2" in ran.output, "Anna Example" in ran.output) == (0, True, True), ran.output
        with contextlib.closing(open_log(served.federation.homes[kit.member])) as log:
            logged = [sealed.fields() for _, sealed in log.storage.entries(0, log.storage.size())]
        (line,) = [fields for fields in logged if fields["event"] == "casework-opened"]
        assert (line["pseudonym"], line["details"]["overseer"]) == (kit.pseudonym, "Data protection authority")
        assert "Anna Example" not in str(line)
    forged = OpenedEntry.from_json(opened.read_bytes())
    opened.write_bytes(replace(forged, content=forged.content.replace(b"Anna", b"Emma")).to_json())
    ran = CliRunner().invoke(root, ["audit", "opened", str(opened), "--anchor", str(anchor)], prog_name="vidfed")
    assert (ran.exit_code, "the content is not what was signed" in ran.output) == (1, True)
    stranger = ("requests", "open-for", HIT[2], "fr:1", "--to", "X", "--out", tmp_path / "no")
    assert "no conversation named" in await served.run(served.kit("fr", "fr-9"), *stranger, status=1)


@pytest.mark.slow
async def test_lost_kits_of_officer_and_investigator(served: Served, tmp_path: Path) -> None:
    """A colleague goes on, and lets who has a new kit read what was said before; nothing is released to the lost one."""
    holder, deputy, other = (served.kit("nl", name) for name in ("nl-7", "nl-8", "nl-9"))
    one, two = served.officer("fr-1"), served.officer("fr-2")
    served.accept_officers()
    for kit in (one, two, other):
        await served.run(kit, "inbox")
    await served.asked(holder, deputy)
    await served.until(one, HIT[2], "requests", "list")

    served.lose(two)
    again = served.replacement(two, cosigned_by=one)  # new keys, an empty folder
    await served.run(again, "inbox")
    assert "cannot be read" in await served.run(again, "requests", "show", HIT[2])
    assert "fr-2 can read 1 entries of 1 conversations." in await served.run(one, "requests", "hand-on", "fr-2")
    assert "who is she?" in await served.run(again, "requests", "show", HIT[2])

    served.lose(holder)
    details = tmp_path / "details.toml"
    details.write_text('text = "from 2024"\n')
    release = ("requests", "release", HIT[2], *RELEASING, "--file", details)
    assert "have its member name somebody else (hand over)" in await served.run(again, *release, status=1)
    said = await served.run(deputy, "cases", "hand-over", HIT[2], "nl-9", "--deputy", "nl-8", "--file", details)
    assert "nl-9 can read" in said
    await served.until(again, "hand-over", "requests", "show", HIT[2])
    await served.run(again, *release)
    await served.until(other, f"{HIT[2]}  released", "cases", "list")
    assert "from 2024" in await served.run(other, "cases", "show", HIT[2])
