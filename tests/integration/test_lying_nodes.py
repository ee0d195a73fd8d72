"""Nodes that lie, hang, break off or talk nonsense, over real sockets: each is named, and none looks like 'no match'."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.sockets import ScriptedNode, SocketFederation, no_hit
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.outcome import Outcome
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import DirectoryError
from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
from vidfed.wire.values import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from vidfed.v1.lookup_pb2 import LookupCall


from tests.integration.lying import PART, WHY, look_up, outcomes


async def test_honest_nodes_and_an_honest_gateway_give_a_complete_result(federation: SocketFederation) -> None:
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.NO_MATCH, "nl": Outcome.NO_MATCH}
    assert result.complete


async def silent(_: LookupCall) -> EnvelopeMessage:
    await asyncio.Event().wait()
    raise AssertionError


async def unsigned(call: LookupCall) -> EnvelopeMessage:
    message = no_hit(call, "fr", SigningKey.generate(), SigningKey.generate())
    del message.signatures[:]
    return message


async def wrong_key(call: LookupCall) -> EnvelopeMessage:
    return no_hit(call, "fr", SigningKey.generate(), SigningKey.generate())


async def nothing(_: LookupCall) -> EnvelopeMessage:
    return EnvelopeMessage()


async def echo(call: LookupCall) -> EnvelopeMessage:
    return call.request


async def broken(_: LookupCall) -> EnvelopeMessage:
    raise ZeroDivisionError


async def endless(_: LookupCall) -> EnvelopeMessage:
    return EnvelopeMessage(payload=bytes(2 * MAX_MESSAGE_BYTES))


async def large(_: LookupCall) -> EnvelopeMessage:
    return EnvelopeMessage(payload=bytes(MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (wrong_key, Outcome.BAD_SIGNATURE),
        (unsigned, Outcome.BAD_SIGNATURE),
        (nothing, Outcome.BAD_SIGNATURE),
        (echo, Outcome.BAD_SIGNATURE),
        (large, Outcome.BAD_SIGNATURE),
        (broken, Outcome.PROTOCOL_ERROR),
        (endless, Outcome.PROTOCOL_ERROR),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_node_that_replies_something_else_than_its_signed_answer_is_named(
    federation: SocketFederation, reply: Callable[[LookupCall], Awaitable[EnvelopeMessage]], outcome: Outcome
) -> None:
    await federation.start_node("fr", ScriptedNode(reply))
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": outcome, "nl": Outcome.NO_MATCH}
    assert not result.complete
    assert [node.member for node in result.unanswered] == ["fr"]


@pytest.mark.parametrize(
    "header",
    [{"issuer": "nl"}, {"request_digest": bytes(32)}, {"audience": "fr"}, {"last": False}, {"answered_ms": 0}, {"answered_ms": 2**62}],
)
async def test_a_node_that_signs_an_answer_to_something_else_is_named(federation: SocketFederation, header: dict[str, object]) -> None:
    await federation.start_node("fr", ScriptedNode(federation.honest("fr", **header)))
    result = await look_up(await federation.start_gateway("nl"))
    expected = Outcome.CLOCK if "answered_ms" in header else Outcome.BAD_SIGNATURE
    assert outcomes(result) == {"fr": expected, "nl": Outcome.NO_MATCH}


async def test_hanging_node_is_a_timeout(federation: SocketFederation) -> None:
    await federation.start_node("fr", ScriptedNode(silent))
    result = await look_up(await federation.start_gateway("nl"), deadline_s=0.5)
    assert outcomes(result) == {"fr": Outcome.TIMEOUT, "nl": Outcome.NO_MATCH}


async def test_a_node_that_is_not_there_is_unreachable(federation: SocketFederation) -> None:
    federation.move("fr", "127.0.0.1:1")
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.UNREACHABLE, "nl": Outcome.NO_MATCH}


async def test_a_node_that_takes_connections_and_says_nothing_is_named(federation: SocketFederation) -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
        federation.move("fr", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        result = await look_up(await federation.start_gateway("nl"), deadline_s=0.5)
    assert outcomes(result) == {"fr": Outcome.TIMEOUT, "nl": Outcome.NO_MATCH}


async def test_a_server_that_speaks_something_else_is_unreachable(federation: SocketFederation) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        federation.move("fr", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.UNREACHABLE, "nl": Outcome.NO_MATCH}


async def test_garbage_bytes_from_a_node_are_named(federation: SocketFederation) -> None:
    async def garbage(_: bytes, __: object) -> bytes:
        return b"\xff" * 100

    handler = grpc.method_handlers_generic_handler("vidfed.v1.NodeService", {"Lookup": grpc.unary_unary_rpc_method_handler(garbage)})
    federation.move("fr", await federation.serve("fr", lambda server: server.add_generic_rpc_handlers((handler,))))
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.PROTOCOL_ERROR, "nl": Outcome.NO_MATCH}


async def test_a_node_of_a_later_version_without_this_call_is_named(federation: SocketFederation) -> None:
    federation.move("fr", await federation.serve("fr", lambda _: None))
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.PROTOCOL_ERROR, "nl": Outcome.NO_MATCH}


async def test_node_listed_twice_speaks_for_one_member_only(federation: SocketFederation) -> None:
    """fr's entry leads to nl's node, which shows nl's certificate."""
    federation.move("fr", federation.administrators.directory().member("nl").endpoint)
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.UNREACHABLE, "nl": Outcome.NO_MATCH}


@pytest.mark.parametrize("endpoint", ["no-such-host.invalid:1", "[2001:db8::1]:1", "0.0.0.0:1"])
async def test_an_endpoint_that_leads_nowhere_harms_nobody_else(federation: SocketFederation, endpoint: str) -> None:
    federation.move("fr", endpoint)  # what is no endpoint at all never enters a directory: test_endpoint_that_is_no_text
    result = await look_up(await federation.start_gateway("nl"), deadline_s=2.0)
    assert outcomes(result)["nl"] is Outcome.NO_MATCH
    assert not outcomes(result)["fr"].answered


@pytest.mark.parametrize("endpoint", ["127.0.0.1:99999", "no such host:1", "unix:/tmp/x:1", "[:1"])
def test_an_endpoint_that_is_none_is_not_published(federation: SocketFederation, endpoint: str) -> None:
    with pytest.raises(DirectoryError, match="endpoint"):
        federation.move("fr", endpoint)


async def test_a_gateway_that_cannot_read_its_own_key_gives_no_answers_and_says_so(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        (federation.homes["nl"].folder / "keys/node.key").chmod(0o644)
        result = await client.lookup(PART, WHY)
    assert set(outcomes(result).values()) == {Outcome.PROTOCOL_ERROR}


async def test_twenty_slow_nodes_are_waited_for_at_the_same_time(tmp_path: Path) -> None:
    """Each answers only once all twenty have been asked: one after the other, none ever would."""
    members = [f"m{number:02}" for number in range(20)]
    everybody = asyncio.Barrier(len(members))
    async with SocketFederation(tmp_path, *members) as federation:
        for member in members:
            honest = federation.honest(member)

            async def reply(call: LookupCall, honest: Callable[[LookupCall], Awaitable[EnvelopeMessage]] = honest) -> EnvelopeMessage:
                await everybody.wait()
                return await honest(call)

            await federation.start_node(member, ScriptedNode(reply))
        result = await look_up(await federation.start_gateway("m00"), deadline_s=30.0)
    assert set(outcomes(result)) == set(members)
    assert result.complete
