"""`vidfed lookup --csv ... --out` against a federation over sockets: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from click.testing import CliRunner

from tests.support.memory import answer_to, sign_answer
from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.federation.cli.lookup import lookup
from vidfed.security.clock import system_clock
from vidfed.security.errors import CredentialError
from vidfed.wire.envelope import read_call, to_message
from vidfed.wire.requests import read_request
from vidfed.wire.statuses import Status
from vidfed.wire.values import MAX_ITEMS

if TYPE_CHECKING:
    import pytest
    from click.testing import Result

    from vidfed.security.member.kit import Kit
    from vidfed.v1 import lookup_pb2 as pb
    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage

MEMBERS = ("nl", "fr")


async def look_up(federation: SocketFederation, kit: Kit, *codes: str) -> Result:
    file = federation.folder / "hashes.csv"
    if not file.exists():
        file.write_text("\n".join(["sha256", *codes]) + "\n")
    options = ["--csv", str(file), "--out", str(federation.folder / "out"), "--kit", str(kit.folder)]
    options += ["--case", "T-1", "--purpose", "identification", "--legal-basis", "test law"]
    return await asyncio.to_thread(CliRunner().invoke, lookup, options)


def refusing(federation: SocketFederation, member: str) -> ScriptedNode:
    home = federation.homes[member]

    async def refuse(call: pb.LookupCall) -> EnvelopeMessage:
        envelope = read_call(call)[1]
        question = read_request(envelope.payload)
        assert question.stream
        place = {"method": question.header.method, "sequence": question.stream.number, "last": question.stream.last}
        answer = answer_to(question, envelope.digest, member, home.audit_signer, Status.NOT_PERMITTED, system_clock(), **place)
        return to_message(sign_answer(answer, home.signer))

    return ScriptedNode(refuse)


async def test_what_is_listed_twice_is_asked_once_and_a_second_run_asks_nothing(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    first = await look_up(federation, kit, "ab" * 32, "cd" * 32, "ab" * 32)
    assert (first.exit_code, "3 items asked (2 different, each asked once): 0 known, 3 unseen, 0 open" in first.output) == (0, True)
    for member in MEMBERS:
        await federation.start_node(member, refusing(federation, member))
    again = await look_up(federation, kit)
    assert (again.exit_code, "2 to 2 of 2 items were answered before" in again.output) == (5, True)


async def test_an_entry_that_cannot_be_asked_about_is_named_and_ends_with_5(federation: SocketFederation) -> None:
    ran = await look_up(federation, await federation.start_gateway("nl"), "ab" * 32, "zz")
    assert ran.exit_code == 5
    assert "not asked: entry 3: no usable hash; SHA-256: 2 characters, expected 64 hex digits" in ran.output


async def test_when_nothing_can_be_asked_about_it_says_so(federation: SocketFederation) -> None:
    ran = await look_up(federation, await federation.start_gateway("nl"), "zz")
    assert ran.exit_code == 1
    assert "NOTHING ASKED" in ran.output
    assert "COMPLETE" not in ran.output


async def test_one_node_that_refuses_makes_it_incomplete(federation: SocketFederation) -> None:
    await federation.start_node("fr", refusing(federation, "fr"))
    ran = await look_up(federation, await federation.start_gateway("nl"), "ab" * 32)
    assert ran.exit_code == 3
    assert "fr: 0 answered, 0 hits; 1 NOT ANSWERED (items 1): refused NOT_PERMITTED" in ran.output


async def test_refused_by_every_node_ends_with_4(federation: SocketFederation) -> None:
    for member in MEMBERS:
        await federation.start_node(member, refusing(federation, member))
    assert (await look_up(federation, await federation.start_gateway("nl"), "ab" * 32)).exit_code == 4


async def test_refused_by_the_own_gateway_ends_with_4_and_the_reason(federation: SocketFederation) -> None:
    gateway = federation.gateway("nl")

    def revoked(*_: object) -> NoReturn:
        raise CredentialError("credential revoked by its member")

    gateway.core.admission.check = revoked  # type: ignore[method-assign, assignment]
    ran = await look_up(federation, await federation.start_gateway("nl", gateway), "ab" * 32)
    assert ran.exit_code == 4, ran.output
    assert "credential revoked by its member" in ran.output


async def test_each_stream_goes_by_the_newest_directory(federation: SocketFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case may take days: what is published meanwhile counts, and the lookup outlives the directory it began with."""
    monkeypatch.setattr("vidfed.federation.bulk.lookup.STREAM_S", 0.0)  # one chunk in each
    honest, gateway = federation.honest("fr"), federation.gateway("nl")

    async def answer_and_leave(call: pb.LookupCall) -> EnvelopeMessage:
        federation.administrators.remove("fr")
        gateway.core.source.current()  # as it would a moment later
        return await honest(call)

    await federation.start_node("fr", ScriptedNode(answer_and_leave))
    codes = [(number + 2**200).to_bytes(32, "big").hex() for number in range(MAX_ITEMS + 5)]
    ran = await look_up(federation, await federation.start_gateway("nl", gateway), *codes)
    assert ran.exit_code == 3
    assert f"nl: {len(codes)} answered" in ran.output
    assert f"fr: {MAX_ITEMS} answered, 0 hits; 5 NOT ANSWERED" in ran.output
    assert "it is no member any more" in ran.output
