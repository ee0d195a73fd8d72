"""Asking without a gateway, from the member's own folder, over real sockets: all a gateway does is done, and nobody else can."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from click.testing import CliRunner

from tests.support.disk import full_disk
from tests.support.patience import DEADLINE_S
from vidfed.federation.cli.lookup import lookup
from vidfed.federation.client.client import FederationClient
from vidfed.federation.client.history import History
from vidfed.federation.direct import open_direct
from vidfed.federation.lookup.errors import GatewayError, GatewayRefusedError, QuestionError
from vidfed.federation.lookup.items import items_of_hashes
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Justification
from vidfed.federation.output.json import schema
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.member.audit_log import open_storage
from vidfed.security.member.enrolment import issue_kit
from vidfed.security.member.home import MemberHome
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from tests.support.sockets import SocketFederation
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.security.member.kit import Kit

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
ITEMS = items_of_hashes(["sha256:" + "5a" * 32])
NO_GATEWAY = "127.0.0.1:1"


def kit_of(federation: SocketFederation, member: str = "nl") -> Kit:
    return issue_kit(federation.homes[member], federation.folder / f"kit-{member}", gateway=NO_GATEWAY)


async def ask(federation: SocketFederation, kit: Kit) -> LookupResult:
    async with open_direct(kit, federation.homes["nl"]) as client:
        await client.refresh_directory()
        return await client.ask(ITEMS, WHY, deadline_s=DEADLINE_S)


async def test_a_unit_s_own_machine_asks_without_a_gateway_and_logs_it(federation: SocketFederation) -> None:
    result = await ask(federation, kit_of(federation))
    assert {node.member: node.outcome for node in result.nodes} == {"fr": Outcome.NO_MATCH, "nl": Outcome.NO_MATCH}
    assert (result.complete, result.lookup) == (True, "")
    bodies = [json.loads(entry.body) for _, entry in open_storage(federation.homes["nl"]).entries(0, 100) if entry.body]
    events = [body["event"] for body in bodies if body["event"].startswith("lookup-")]
    assert events == ["lookup-asked", "lookup-received", "lookup-received"]


async def test_a_node_that_is_away_is_named(federation: SocketFederation) -> None:
    federation.move("fr", "127.0.0.1:1")
    result = await ask(federation, kit_of(federation))
    assert [(node.member, node.outcome) for node in result.unanswered] == [("fr", Outcome.UNREACHABLE)]


async def test_a_kit_of_another_member_is_refused(federation: SocketFederation) -> None:
    with pytest.raises(QuestionError, match="the kit is of fr"):
        await ask(federation, kit_of(federation, "fr"))


async def test_the_member_s_folder_alone_cannot_ask_in_a_person_s_name(federation: SocketFederation) -> None:
    kit = kit_of(federation)
    kit.signer = SigningKey.generate()
    with pytest.raises(GatewayRefusedError, match="no signature"):
        await ask(federation, kit)


async def test_without_the_member_s_key_nothing_is_asked(federation: SocketFederation) -> None:
    kit = kit_of(federation)
    (federation.homes["nl"].folder / "keys/signing.key").chmod(0o644)
    federation.homes["nl"] = MemberHome(federation.homes["nl"].folder)
    with pytest.raises(GatewayRefusedError, match="lets others read this secret"):
        await ask(federation, kit)


async def test_nothing_is_asked_that_cannot_be_logged(federation: SocketFederation) -> None:
    kit = kit_of(federation)
    with pytest.raises(GatewayError, match="without a log"):  # noqa: PT012 - the disk is full only while asking
        async with open_direct(kit, federation.homes["nl"]) as client:
            await client.refresh_directory()
            with full_disk():
                await client.ask(ITEMS, WHY, deadline_s=DEADLINE_S, keep=False)


async def test_the_command_asks_directly(federation: SocketFederation) -> None:
    kit, home = kit_of(federation), federation.homes["nl"].folder
    options = ["--hash", "sha256:" + "5a" * 32, "--case", "T-1", "--purpose", "identification", "--legal-basis", "test law"]
    options += ["--kit", str(kit.folder), "--direct", str(home)]
    ran = await asyncio.to_thread(CliRunner().invoke, lookup, [*options, "--json"])
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert document["complete"] is True
    ran = await asyncio.to_thread(CliRunner().invoke, lookup, [*options, "--out", str(federation.folder / "out")])
    assert (ran.exit_code, "do not go together" in ran.output) == (2, True)


async def test_interrupted_it_says_so_and_remembers_only_what_a_gateway_goes_on_with(
    federation: SocketFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup_part = FederationClient.lookup

    async def interrupted(client: FederationClient, *given: Any, **named: Any) -> LookupResult:  # noqa: ANN401 - passed on
        await lookup_part(client, *given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(FederationClient, "lookup", interrupted)
    kit = await federation.start_gateway("nl")
    options = ["--hash", "sha256:" + "5a" * 32, "--case", "T-1", "--purpose", "identification", "--legal-basis", "test law"]
    options += ["--kit", str(kit.folder)]
    ran = await asyncio.to_thread(CliRunner().invoke, lookup, [*options, "--direct", str(federation.homes["nl"].folder)])
    assert (ran.exit_code, "Error: interrupted: nothing is known\n" in ran.output) == (1, True)
    assert not History(kit.folder / "lookups").ids()
    ran = await asyncio.to_thread(CliRunner().invoke, lookup, options)
    assert (ran.exit_code, "interrupted: nothing is known; the gateway collects" in ran.output) == (1, True)
    assert len(History(kit.folder / "lookups").ids()) == 1


async def test_on_a_terminal_it_shows_how_many_nodes_have_spoken(federation: SocketFederation) -> None:
    """Also of a single picture: a slow node may take the whole deadline."""
    options = ["--hash", "sha256:" + "5a" * 32, "--case", "T-1", "--purpose", "identification", "--legal-basis", "test law"]
    options += ["--kit", str((await federation.start_gateway("nl")).folder)]
    ran = await asyncio.to_thread(CliRunner(env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).invoke, lookup, options)
    assert ran.exit_code == 0
    assert re.search(r"nodes .*2/2", ran.stderr)
