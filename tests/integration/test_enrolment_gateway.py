"""Enrolling through a gateway, and what a revoked kit can still do there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.support.patience import DEADLINE_S
from tests.support.sockets import FEDERATION, SocketFederation
from vidfed.federation.cli.enrol import enrol as enrol_command
from vidfed.federation.cli.history import lookups
from vidfed.federation.cli.kits import open_kit
from vidfed.federation.client.client import FederationClient
from vidfed.federation.gateway.enrolment import EnrolmentServicer
from vidfed.federation.lookup.errors import FederationError, GatewayRefusedError
from vidfed.federation.lookup.question import Item, Justification
from vidfed.index import Algorithm
from vidfed.rpc.enrolment import enrol
from vidfed.rpc.trust import ATTEMPT_MS
from vidfed.security.cli.trust import trust
from vidfed.security.clock import DAY_MS, system_clock
from vidfed.security.errors import EnrolmentError
from vidfed.security.identity.officers import OFFICER_ROLE as OFFICER
from vidfed.security.member.audit_log import open_log
from vidfed.security.member.enrolment import install, issue_kit, request
from vidfed.security.member.invitation import invite
from vidfed.security.member.issued import issued_kits
from vidfed.security.member.kit import Kit
from vidfed.security.member.rotation import OwnEntry
from vidfed.v1 import enrolment_pb2_grpc as enrolment_rpc
from vidfed.v1 import gateway_pb2_grpc as gateway_rpc
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import click

    from vidfed.security.member.invitation import Invitation

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
ITEMS = [Item("photo.jpg", {Algorithm.SHA256: (bytes(range(32)),)})]


class Clock:
    """The system's, moved forward so that nobody has to wait between two attempts."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        self.ahead_ms += ATTEMPT_MS
        return system_clock() + self.ahead_ms


class Gateway:
    """nl's gateway, as its people reach it."""

    def __init__(self, federation: SocketFederation) -> None:
        self.federation = federation
        self.home = federation.homes["nl"]
        self.address = ""

    async def start(self, stack: contextlib.ExitStack) -> None:
        source = self.home.directory_source()
        source.current()
        log = stack.enter_context(contextlib.closing(open_log(self.home)))
        serving = self.federation.gateway("nl", audit=log)
        enrolment = EnrolmentServicer(self.home, source, log, Clock())

        def register(server: object) -> None:
            gateway_rpc.add_GatewayServiceServicer_to_server(serving, server)  # type: ignore[arg-type]
            enrolment_rpc.add_EnrolmentServiceServicer_to_server(enrolment, server)  # type: ignore[arg-type]

        self.address = await self.federation.serve("nl", register)

    def invite(self, pseudonym: str = "inv-7") -> Invitation:
        return invite(self.home, gateway=self.address, pseudonym=pseudonym)

    async def enrol(self, folder: Path, invitation: Invitation | None = None) -> Kit:
        """Do what `vidfed enrol` does."""

        def run() -> Kit:
            asked = request(folder, invitation)
            kit = Kit(folder) if invitation is None else None
            tls = invitation.tls if invitation else kit.tls if kit else None
            assert tls is not None
            return install(folder, enrol(self.address, tls, self.home.ca.certificate, FEDERATION, "nl", asked.to_json()))

        return await asyncio.to_thread(run)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with SocketFederation(tmp_path, "nl") as federation:
        with contextlib.ExitStack() as stack:
            await federation.start_honest("nl")
            made = Gateway(federation)
            await made.start(stack)
            yield made


async def ask(kit: Kit) -> str:
    async with FederationClient(kit) as client:
        result = await client.ask(ITEMS, WHY, deadline_s=DEADLINE_S, keep=True)
    assert result.complete
    return result.lookup


async def test_enrolled_through_the_gateway_a_person_asks(gateway: Gateway, tmp_path: Path) -> None:
    kit = await gateway.enrol(tmp_path / "kit", gateway.invite())
    assert await ask(kit)


async def test_a_used_invitation_is_refused_at_the_gateway_and_logged(gateway: Gateway, tmp_path: Path) -> None:
    invitation = gateway.invite()
    await gateway.enrol(tmp_path / "kit", invitation)
    with pytest.raises(EnrolmentError, match="somebody else has it"):
        await gateway.enrol(tmp_path / "second", invitation)
    with contextlib.closing(open_log(gateway.home)) as log:
        said = [entry.fields() for _, entry in log.storage.entries(0, len(log)) if entry.body is not None]
    assert [one["outcome"] for one in said if one["event"] == "kit-issued"] == ["DONE", "REFUSED"]


async def test_an_invitation_s_certificate_does_nothing_but_enrol(gateway: Gateway, tmp_path: Path) -> None:
    kit = await gateway.enrol(tmp_path / "kit", gateway.invite())
    lookup = await ask(kit)
    kit = Kit(kit.folder)
    kit.tls = gateway.invite().tls
    async with FederationClient(kit) as client:
        for act in (client.history(), client.resume(lookup), client.forget(lookup), client.ask(ITEMS, WHY, deadline_s=DEADLINE_S)):
            with pytest.raises(GatewayRefusedError):
                await act


async def test_revoked_kit_fetches_lists_and_forgets_nothing(gateway: Gateway, tmp_path: Path) -> None:
    """At once, on the connection that is open, and before anything is published."""
    kit = await gateway.enrol(tmp_path / "kit", gateway.invite())
    lookup = await ask(kit)
    async with FederationClient(kit) as client:
        assert len(await client.history()) == 1
        await client.resume(lookup)
        before = gateway.federation.administrators.published_files()
        OwnEntry(gateway.home).revoke(kit.holder.serial)
        assert gateway.federation.administrators.published_files() == before
        for act in (client.history(), client.resume(lookup), client.forget(lookup), client.ask(ITEMS, WHY, deadline_s=DEADLINE_S)):
            with pytest.raises(GatewayRefusedError, match="revoked"):
                await act
    with pytest.raises(EnrolmentError, match="revoked"):
        await gateway.enrol(kit.folder)


async def test_a_renewed_kit_fetches_what_the_one_before_asked(gateway: Gateway, tmp_path: Path) -> None:
    kit = await gateway.enrol(tmp_path / "kit", gateway.invite())
    lookup = await ask(kit)
    renewed = await gateway.enrol(kit.folder)
    assert [issued.renews for issued in issued_kits(gateway.home)] == ["", kit.holder.serial]
    async with FederationClient(renewed) as client:
        assert (await client.resume(lookup)).complete
        await client.forget(lookup)


async def test_a_new_kit_of_the_same_name_fetches_nothing_of_the_other(gateway: Gateway, tmp_path: Path) -> None:
    first = await gateway.enrol(tmp_path / "first", gateway.invite())
    lookup = await ask(first)
    second = await gateway.enrol(tmp_path / "second", gateway.invite())
    stolen = second.folder / "lookups"
    stolen.mkdir(mode=0o700, exist_ok=True)
    for path in (first.folder / "lookups" / lookup).iterdir():
        place = stolen / lookup / path.name
        place.parent.mkdir(mode=0o700, exist_ok=True)
        place.write_bytes(path.read_bytes())
        place.chmod(0o600)
    async with FederationClient(second) as client:
        with pytest.raises(FederationError, match="no such lookup of yours"):
            await client.resume(lookup)


async def test_a_gateway_that_cannot_be_reached_points_to_the_way_by_files(gateway: Gateway, tmp_path: Path) -> None:
    gateway.address = "127.0.0.1:1"
    with pytest.raises(EnrolmentError, match="--request FILE"):
        await gateway.enrol(tmp_path / "kit", gateway.invite())


def ran(command: click.Command, *arguments: object) -> str:
    result = CliRunner().invoke(command, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


async def test_the_command_renews_over_the_gateway_and_a_kit_that_ends_within_a_week_says_so(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = await gateway.enrol(tmp_path / "kit", gateway.invite())
    lookup = await ask(kit)
    ends_ms = kit.holder.not_after_ms
    with monkeypatch.context() as later:
        later.setattr("vidfed.security.clock.system_clock", lambda: ends_ms - 8 * DAY_MS)
        assert "ends" not in await asyncio.to_thread(ran, lookups, "list", "--kit", kit.folder)
        later.setattr("vidfed.security.clock.system_clock", lambda: ends_ms - 5 * DAY_MS)
        said = await asyncio.to_thread(ran, lookups, "list", "--kit", kit.folder)
        assert f"in 5 days: vidfed enrol --renew --to {kit.folder}" in said
        later.setattr("vidfed.security.clock.system_clock", lambda: ends_ms)
        open_kit(kit.folder)
        assert "Your kit ended" in capsys.readouterr().err
    said = await asyncio.to_thread(ran, enrol_command, "--renew", "--to", kit.folder)
    assert f"Enrolled inv-7 of nl in {kit.folder}, until " in said
    renewed = Kit(kit.folder)
    assert renewed.holder.serial != kit.holder.serial
    assert renewed.holder.key == kit.holder.key
    async with FederationClient(renewed) as client:
        assert [each.lookup.id for each in await client.history()] == [lookup]


async def test_a_further_officer_is_cosigned_and_certified_by_the_commands(gateway: Gateway, tmp_path: Path) -> None:
    officers = [
        issue_kit(gateway.home, tmp_path / name, gateway=gateway.address, pseudonym=name, roles=(OFFICER,)) for name in ("one-1", "two-2")
    ]
    gateway.federation.administrators.accept_officers(gateway.home)
    phrase, invitation = tmp_path / "phrase", tmp_path / "three.invitation"
    phrase.write_text("four words drawn by lot")
    phrase.chmod(0o600)
    made = invite(gateway.home, gateway=gateway.address, pseudonym="three-3", roles=(OFFICER,))
    invitation.write_bytes(made.close(b"four words drawn by lot"))
    asked, reply, folder = tmp_path / "three.request", tmp_path / "three.reply", tmp_path / "three"
    ran(enrol_command, invitation, "--to", folder, "--request", asked, "--passphrase-file", phrase)
    refused = CliRunner().invoke(trust, ["certify", str(asked), str(reply), "--home", str(gateway.home.folder)])
    assert refused.exit_code == 1
    assert "needs the signature of one there is" in refused.output
    said = ran(enrol_command, "--cosign", asked, "--to", officers[1].folder, "--yes")
    assert "three-3 of nl asks to be: release-officer" in said
    assert f"Signed {asked} as two-2." in said
    ran(trust, "certify", asked, reply, "--home", gateway.home.folder)
    assert "Enrolled three-3 of nl" in ran(enrol_command, "--to", folder, "--reply", reply)
    assert Kit(folder).holder.roles == (OFFICER,)
    listed = ran(trust, "officers", "--home", gateway.home.folder).splitlines()
    assert [line.split()[:4] for line in listed] == [
        ["one-1", "decides", "by", "the"],
        ["two-2", "decides", "by", "the"],
        ["three-3", "decides", "by", "two-2"],
    ]
    assert "decides no more" in ran(trust, "remove-officer", "three-3", "--home", gateway.home.folder)
    assert "three-3          former" in ran(trust, "officers", "--home", gateway.home.folder)
