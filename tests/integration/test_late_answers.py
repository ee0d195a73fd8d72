"""Answers that come after the investigator stopped waiting, over real sockets: kept, fetched, verified again, and nobody else's to read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import jsonschema
import pytest
from click.testing import CliRunner

from tests.support.disk import full_disk
from tests.support.patience import DEADLINE_S
from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.federation.cli.history import lookups as lookups_command
from vidfed.federation.cli.lookup import lookup as lookup_command
from vidfed.federation.client.client import FederationClient
from vidfed.federation.gateway.mailbox import Mailbox
from vidfed.federation.gateway.settings import GatewaySection
from vidfed.federation.lookup.errors import GatewayRefusedError, MailboxError, QuestionError
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Item, Justification
from vidfed.federation.output.json import schema
from vidfed.index import Algorithm
from vidfed.security.audit import Event
from vidfed.security.member.audit_log import open_storage
from vidfed.security.member.enrolment import issue_kit
from vidfed.v1 import gateway_pb2_grpc as rpc
from vidfed.wire.values import MAX_ITEMS, Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from vidfed.federation.gateway.service import GatewayServicer
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.security.member.kit import Kit
    from vidfed.v1 import lookup_pb2 as pb
    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
ITEMS = [
    Item(
        "photo.jpg",
        {Algorithm.SHA256: (bytes(32),), Algorithm.PDQ: (bytes(32), b"\x01" * 32)},
        {Algorithm.PDQ: ("as it is", "mirrored")},
        ("a note",),
    )
]


class Late:
    """A federation whose node fr answers when it is told to."""

    def __init__(self, federation: SocketFederation) -> None:
        self.federation = federation
        self.asked, self.may_answer, self.answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def reply(self, call: pb.LookupCall) -> EnvelopeMessage:
        self.asked.set()
        await self.may_answer.wait()
        self.answered.set()
        return await self.federation.honest("fr")(call)


@pytest.fixture
async def late(tmp_path: Path) -> AsyncIterator[Late]:
    async with SocketFederation(tmp_path, "nl", "fr") as federation:
        made = Late(federation)
        await federation.start_honest("nl")
        await federation.start_node("fr", ScriptedNode(made.reply))
        yield made


def outcomes(result: LookupResult) -> dict[str, Outcome]:
    return {node.member: node.outcome for node in result.nodes}


async def ask(kit: Kit, *, deadline_s: float = 0.5, keep: bool = True) -> LookupResult:
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        return await client.ask(ITEMS, WHY, deadline_s=deadline_s, keep=keep)


async def resume(kit: Kit, lookup: str) -> LookupResult:
    async with FederationClient(kit) as client:
        return await client.resume(lookup)


async def collected(gateway: GatewayServicer) -> None:
    """Wait until the gateway has what is still to come."""
    await asyncio.gather(*gateway.core._late)


async def test_an_answer_after_the_deadline_is_kept_and_fetched(late: Late) -> None:
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    first = await ask(kit)
    assert outcomes(first) == {"fr": Outcome.TIMEOUT, "nl": Outcome.NO_MATCH}
    assert first.collecting_until_ms
    assert outcomes(await resume(kit, first.lookup)) == outcomes(first)
    late.may_answer.set()
    await collected(gateway)
    second = await resume(kit, first.lookup)
    assert outcomes(second) == {"fr": Outcome.NO_MATCH, "nl": Outcome.NO_MATCH}
    assert second.complete
    assert second.items == tuple(ITEMS)


async def test_an_investigator_who_goes_away_in_the_middle_fetches_the_answers_later(late: Late) -> None:
    """The laptop is closed before any answer has come; the gateway goes on without it."""
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    kept = gateway.core._mailbox
    assert kept
    keep, loop, all_kept = kept.keep, asyncio.get_running_loop(), asyncio.Event()
    awaited = {"fr", "nl"}

    def keep_and_tell(lookup: bytes, member: str, sealed: bytes, *, final: bool) -> None:
        keep(lookup, member, sealed, final=final)
        awaited.discard(member)
        if not awaited:
            loop.call_soon_threadsafe(all_kept.set)

    kept.keep = keep_and_tell  # type: ignore[method-assign]
    asking = asyncio.create_task(ask(kit, deadline_s=DEADLINE_S))
    await late.asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    late.may_answer.set()
    await all_kept.wait()
    async with FederationClient(kit) as client:
        (state,) = await client.history()
        assert (state.replies, state.asked) == (2, 2)
        assert (await client.resume(state.lookup.id)).complete


async def test_what_was_received_survives_a_restart_of_the_gateway(late: Late) -> None:
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    first = await ask(kit)
    await gateway.core.close()
    again = await late.federation.serve(
        "nl", lambda server: rpc.add_GatewayServiceServicer_to_server(late.federation.gateway("nl"), server)
    )
    kit.gateway = again
    assert outcomes(await resume(kit, first.lookup)) == {"fr": Outcome.TIMEOUT, "nl": Outcome.NO_MATCH}


async def test_the_answers_are_nobody_else_s_to_fetch_and_unreadable_on_the_gateway(late: Late) -> None:
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    first = await ask(kit)
    colleague = issue_kit(late.federation.homes["nl"], late.federation.folder / "colleague", gateway=kit.gateway)
    digest = next(iter((kit.folder / "lookups" / first.lookup).iterdir()))
    stolen = colleague.folder / "lookups" / first.lookup
    stolen.mkdir(parents=True)
    (stolen / digest.name).write_bytes(digest.read_bytes())
    (stolen / digest.name).chmod(0o600)
    with pytest.raises(MailboxError, match="no such lookup of yours"):
        await resume(colleague, first.lookup)
    content = b"".join(path.read_bytes() for path in (late.federation.homes["nl"].folder / "state").glob("lookups.db*"))
    assert b"T-1" not in content
    assert b"vnd.vidfed.lookup-answer" not in content


async def test_a_stranger_may_not_list_fetch_or_forget(late: Late) -> None:
    kit = await late.federation.start_gateway("nl")
    first = await ask(kit)
    kit.tls = late.federation.homes["nl"].node_tls()
    async with FederationClient(kit) as client:
        for act in (client.history(), client.resume(first.lookup), client.forget(first.lookup)):
            with pytest.raises(GatewayRefusedError):
                await act


async def test_gateway_alters_what_it_keeps(late: Late) -> None:
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    first = await ask(kit)
    database = gateway.core._mailbox
    assert isinstance(database, Mailbox)
    database._database.execute("UPDATE replies SET sealed = zeroblob(200) WHERE member = 'nl'")
    assert outcomes(await resume(kit, first.lookup))["nl"] is Outcome.BAD_SIGNATURE
    database._database.execute("DELETE FROM replies WHERE member = 'nl'")
    assert outcomes(await resume(kit, first.lookup))["nl"] is Outcome.MISSING


async def test_gateway_swaps_kept_answers_of_two_lookups(late: Late) -> None:
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    first, second = await ask(kit), await ask(kit)
    database = gateway.core._mailbox
    assert isinstance(database, Mailbox)
    rows = database._database.execute("SELECT lookup, sealed FROM replies WHERE member = 'nl'").fetchall()
    for (lookup, _), (_, sealed) in zip(rows, reversed(rows), strict=True):
        database._database.execute("UPDATE replies SET sealed = ? WHERE member = 'nl' AND lookup = ?", (sealed, lookup))
    for result in (first, second):
        assert outcomes(await resume(kit, result.lookup))["nl"] is Outcome.BAD_SIGNATURE


async def test_forgetting_deletes_a_lookup_here_and_there(late: Late) -> None:
    kit = await late.federation.start_gateway("nl")
    first = await ask(kit)
    async with FederationClient(kit) as client:
        await client.forget(first.lookup)
        assert await client.history() == []
        with pytest.raises(MailboxError, match="remembers no lookup"):
            await client.resume(first.lookup)
    assert not (kit.folder / "lookups" / first.lookup).exists()


async def test_what_is_not_to_be_kept_is_not(late: Late) -> None:
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    result = await ask(kit, keep=False)
    assert (result.lookup, result.collecting_until_ms) == ("", 0)
    async with FederationClient(kit) as client:
        assert await client.history() == []
    assert not gateway.core._late


async def test_a_gateway_without_room_answers_all_the_same_and_keeps_nothing(late: Late) -> None:
    late.may_answer.set()
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    kept = gateway.core._mailbox
    assert kept
    kept._max_bytes = 0
    result = await ask(kit, deadline_s=DEADLINE_S)
    assert (result.complete, result.lookup) == (True, "")
    assert not list((kit.folder / "lookups").iterdir())


async def test_keeping_on_a_full_disk_harms_no_lookup(late: Late, caplog: pytest.LogCaptureFixture) -> None:
    gateway = late.federation.gateway("nl")
    kept = gateway.core._mailbox
    assert kept
    begin = kept.begin

    def begin_on_a_full_disk(lookup: bytes, owner: str, *, asked: int, collecting_until_ms: int) -> None:
        with full_disk():
            begin(lookup, owner, asked=asked, collecting_until_ms=collecting_until_ms)

    kept.begin = begin_on_a_full_disk  # type: ignore[method-assign]
    late.may_answer.set()
    result = await ask(await late.federation.start_gateway("nl", gateway), deadline_s=DEADLINE_S)
    assert (result.complete, result.lookup) == (True, "")
    assert "a lookup is not kept for later" in caplog.text


async def test_the_audit_log_has_late_answers_fetches_and_deletions(late: Late) -> None:
    gateway = late.federation.gateway("nl")
    kit = await late.federation.start_gateway("nl", gateway)
    first = await ask(kit)
    late.may_answer.set()
    await collected(gateway)
    await resume(kit, first.lookup)
    async with FederationClient(kit) as client:
        await client.forget(first.lookup)
    bodies = [json.loads(entry.body) for _, entry in open_storage(late.federation.homes["nl"]).entries(0, 100) if entry.body]
    of_fr = [body["outcome"] for body in bodies if body["event"] == Event.LOOKUP_RECEIVED.value and body["member"] == "fr"]
    assert of_fr == ["TIMEOUT", "ANSWERED"]
    events = [body["event"] for body in bodies if body["event"] in {Event.LOOKUP_FETCHED.value, Event.LOOKUP_FORGOTTEN.value}]
    assert events == ["lookup-fetched", "lookup-forgotten"]


async def test_no_late_answers_are_collected_when_the_gateway_is_full_of_them(late: Late) -> None:
    section = GatewaySection("127.0.0.1:0", max_lookups=1)
    gateway = late.federation.gateway("nl", section=section)
    kit = await late.federation.start_gateway("nl", gateway)
    await ask(kit)
    await ask(kit)
    assert len(gateway.core._late) == 1


async def test_a_lookup_that_was_broken_off_is_never_complete(late: Late) -> None:
    """Every node has answered all that was asked, and still nothing is known about the rest."""
    late.may_answer.set()
    kit = await late.federation.start_gateway("nl")
    items = [Item(str(number), {Algorithm.SHA256: (number.to_bytes(32, "big"),)}) for number in range(1, MAX_ITEMS + 6)]

    def break_off(_: int) -> None:
        raise ZeroDivisionError

    async with FederationClient(kit) as client:
        await client.refresh_directory()
        whole = await client.ask(items, WHY)
        with pytest.raises(ZeroDivisionError):
            await client.ask(items, WHY, on_part=break_off)
        (broken,) = {state.lookup.id for state in await client.history()} - {whole.lookup}
    assert (await resume(kit, whole.lookup)).complete
    result = await resume(kit, broken)
    assert (len(result.items), result.answered_count, result.complete) == (MAX_ITEMS, 2, False)
    ran = await asyncio.to_thread(CliRunner().invoke, lookup_command, ["--resume", broken, "--kit", str(kit.folder)])
    assert (ran.exit_code, f"broken off after {MAX_ITEMS} items" in " ".join(ran.output.split())) == (3, True)


async def test_what_is_damaged_in_the_kit_can_be_forgotten_as_the_error_says(late: Late) -> None:
    late.may_answer.set()
    kit = await late.federation.start_gateway("nl")
    lookup = (await ask(kit, deadline_s=DEADLINE_S)).lookup
    (kit.folder / "lookups" / lookup / "0000.json").write_text("{}")
    async with FederationClient(kit) as client:
        with pytest.raises(MailboxError, match="forget this lookup with `vidfed lookups forget`"):
            await client.history()
        await client.forget(lookup)
        assert await client.history() == []


async def test_what_is_no_id_is_named(late: Late) -> None:
    kit = await late.federation.start_gateway("nl")
    with pytest.raises(QuestionError, match="8 hex digits"):
        await resume(kit, "../../etc")
    with pytest.raises(MailboxError, match="remembers no lookup 00000000"):
        await resume(kit, "00000000")


# --- the commands ---


async def test_the_commands_list_show_resume_and_forget(late: Late) -> None:
    late.may_answer.set()
    kit = await late.federation.start_gateway("nl")
    result = await ask(kit, deadline_s=DEADLINE_S)

    async def run(command: object, *arguments: str) -> tuple[int, str]:
        invoked = await asyncio.to_thread(CliRunner().invoke, command, [*arguments, "--kit", str(kit.folder)])  # type: ignore[arg-type]
        return invoked.exit_code, " ".join(invoked.output.split())

    status, text = await run(lookups_command, "list")
    assert status == 0
    assert f"{result.lookup} 0 s ago T-1 photo.jpg 2 of 2 collecting until" in text.replace(" 1 s ago", " 0 s ago")
    listed = json.loads((await run(lookups_command, "list", "--json"))[1])
    assert (listed["schema"], listed["lookups"][0]["lookup"]) == ("vidfed.lookups/1", result.lookup)
    status, text = await run(lookup_command, "--resume", result.lookup)
    assert (status, "COMPLETE; answered 2, " in text) == (0, True)
    document = json.loads((await run(lookup_command, "--resume", result.lookup, "--json"))[1])
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert document["lookup"] == result.lookup
    status, text = await run(lookup_command, "--resume", result.lookup, "photo.jpg")
    assert (status, "asks nothing new" in text) == (2, True)
    assert (await run(lookups_command, "forget", result.lookup))[0] == 0
    assert (await run(lookups_command, "list"))[1] == "No lookups are remembered in this kit."
    assert (await run(lookup_command, "--resume", result.lookup))[0] == 1
