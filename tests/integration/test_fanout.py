"""The gateway's side of robustness, over real sockets: what one node does or does not do harms nobody else, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.memory import answer_to, sign_answer
from tests.support.patience import DEADLINE_S
from tests.support.sockets import ScriptedNode, SocketFederation, no_hit
from vidfed.federation.client.client import FederationClient
from vidfed.federation.gateway.settings import GatewaySection, read_gateway_section
from vidfed.federation.gateway.status import describe, read_status, write_status
from vidfed.federation.lookup.errors import GatewayError
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Item, Justification, split
from vidfed.federation.nodes.breaker import Breaker, BreakerState
from vidfed.federation.nodes.concurrency import ConcurrencyLimiter
from vidfed.federation.nodes.outgoing import OutgoingLookup
from vidfed.federation.nodes.pool import NodePool
from vidfed.federation.nodes.visit import KnownNode, Visit
from vidfed.index import Algorithm
from vidfed.security.clock import system_clock
from vidfed.security.errors import HomeError
from vidfed.security.files import write_private
from vidfed.security.identity.tls import make_node_leaf
from vidfed.v1 import lookup_pb2 as pb
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
from vidfed.wire.envelope import read_call, to_message
from vidfed.wire.requests import read_request
from vidfed.wire.statuses import Status
from vidfed.wire.values import MAX_MESSAGE_BYTES, Purpose, Urgency

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vidfed.federation.lookup.result import LookupResult
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import Kit

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
URGENT = Justification(Purpose.IDENTIFICATION, "test law", "T-1", urgency=Urgency.LIFE_AT_RISK)
(PART,) = split([Item("photo.jpg", {Algorithm.SHA256: (bytes(32),), Algorithm.PDQ: (bytes(32),)})], {})
TOUCHY = GatewaySection("127.0.0.1:0", breaker_failures=2, breaker_open_s=3600.0, breaker_open_max_s=7200.0, connect_attempts=1)
NOWHERE = "127.0.0.1:1"


async def look_up(kit: Kit, why: Justification = WHY, *, deadline_s: float = DEADLINE_S) -> LookupResult:
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        return await client.lookup(PART, why, deadline_s=deadline_s)


async def outcome_of_fr(kit: Kit, why: Justification = WHY, *, deadline_s: float = DEADLINE_S) -> Outcome:
    """Look up, check that the other node's answer is there all the same, and return what became of fr."""
    said = {node.member: node.outcome for node in (await look_up(kit, why, deadline_s=deadline_s)).nodes}
    assert said.pop("nl") is Outcome.NO_MATCH
    return said["fr"]


def counting(calls: list[pb.LookupCall], reply: Callable[[pb.LookupCall], Awaitable[EnvelopeMessage]]) -> ScriptedNode:
    async def count(call: pb.LookupCall) -> EnvelopeMessage:
        calls.append(call)
        return await reply(call)

    return ScriptedNode(count)


async def test_every_node_gets_the_person_s_signature_and_the_member_s(federation: SocketFederation) -> None:
    """The one for accountability, the other for authority; a gateway that left out its own would be answered by nobody."""
    calls: list[pb.LookupCall] = []
    home = federation.homes["fr"]

    async def answer(call: pb.LookupCall) -> EnvelopeMessage:
        return no_hit(call, "fr", home.signer, home.audit_signer)

    await federation.start_node("fr", counting(calls, answer))
    kit = await federation.start_gateway("nl", federation.gateway("nl"))
    assert await outcome_of_fr(kit) is Outcome.NO_MATCH
    request = read_call(calls[0])[1]
    member = federation.administrators.directory().member("nl")
    assert len(request.signatures) == 2
    for key in (kit.signer.public, *member.signing_keys):
        assert request.verify(request.payload_type, [key]) == request.payload


# --- breakers ---


async def test_breaker_opening_and_closing(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl", federation.gateway("nl", section=TOUCHY))
    home = federation.administrators.directory().member("fr").endpoint
    federation.move("fr", NOWHERE)
    assert [await outcome_of_fr(kit) for _ in range(4)] == [Outcome.UNREACHABLE] * 2 + [Outcome.BREAKER_OPEN] * 2
    federation.move("fr", home)
    assert await outcome_of_fr(kit) is Outcome.BREAKER_OPEN
    assert await outcome_of_fr(kit, URGENT) is Outcome.NO_MATCH  # a child may be in danger: always tried
    assert await outcome_of_fr(kit) is Outcome.NO_MATCH


async def test_breaker_closing_by_a_probe_after_its_pause(federation: SocketFederation) -> None:
    gateway = federation.gateway("nl", section=replace(TOUCHY, breaker_open_s=0.3, breaker_open_max_s=0.3))
    kit = await federation.start_gateway("nl", gateway)
    home = federation.administrators.directory().member("fr").endpoint
    federation.move("fr", NOWHERE)
    assert [await outcome_of_fr(kit) for _ in range(2)] == [Outcome.UNREACHABLE] * 2
    federation.move("fr", home)
    async with asyncio.timeout(20):
        while (said := await outcome_of_fr(kit)) is Outcome.BREAKER_OPEN:
            pass
    assert said is Outcome.NO_MATCH
    states = {state.member: state.breaker for state in gateway.core.nodes.states()}
    assert states == {"fr": BreakerState.CLOSED, "nl": BreakerState.CLOSED}


async def test_a_signed_refusal_opens_no_breaker(federation: SocketFederation) -> None:
    """Whoever refuses is there; what is refused to one investigator may be answered to another."""

    async def refuse(call: pb.LookupCall) -> EnvelopeMessage:
        home = federation.homes["fr"]
        return no_hit(call, "fr", home.signer, home.audit_signer, request_digest=bytes(32))

    await federation.start_node("fr", ScriptedNode(refuse))
    kit = await federation.start_gateway("nl", federation.gateway("nl", section=TOUCHY))
    assert {await outcome_of_fr(kit) for _ in range(4)} == {Outcome.BAD_SIGNATURE}


async def test_an_investigator_in_a_hurry_opens_no_breaker_for_the_others(federation: SocketFederation) -> None:
    async def silent(_: pb.LookupCall) -> EnvelopeMessage:
        await asyncio.Event().wait()
        raise AssertionError

    await federation.start_node("fr", ScriptedNode(silent))
    gateway = federation.gateway("nl", section=TOUCHY)
    kit = await federation.start_gateway("nl", gateway)
    hurried = [await look_up(kit, deadline_s=0.3) for _ in range(4)]  # too short a time for the other node too, on a slow machine
    assert {node.outcome for result in hurried for node in result.nodes if node.member == "fr"} == {Outcome.TIMEOUT}


# --- nothing is sent twice ---


async def test_a_node_that_breaks_the_connection_is_asked_once(federation: SocketFederation) -> None:
    """It may have logged the question and counted it: the same message must not come again."""
    calls: list[pb.LookupCall] = []
    hung_up = asyncio.Event()

    async def hang_up(_: pb.LookupCall) -> EnvelopeMessage:
        hung_up.set()
        await asyncio.Event().wait()
        raise AssertionError

    servers: list[grpc.aio.Server] = []

    def register(server: grpc.aio.Server) -> None:
        rpc.add_NodeServiceServicer_to_server(counting(calls, hang_up), server)
        servers.append(server)

    federation.move("fr", await federation.serve("fr", register))
    kit = await federation.start_gateway("nl")
    asking = asyncio.create_task(outcome_of_fr(kit))
    await hung_up.wait()
    await servers[0].stop(None)
    assert await asking is Outcome.UNREACHABLE
    assert len(calls) == 1


async def test_a_connection_is_tried_again_before_anything_is_sent(federation: SocketFederation) -> None:
    calls: list[pb.LookupCall] = []
    node = counting(calls, federation.honest("fr"))
    true = await federation.serve("fr", lambda server: rpc.add_NodeServiceServicer_to_server(node, server))
    host, _, port = true.rpartition(":")
    tries = 0

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hang up on the first who connects; from then on be the node."""
        nonlocal tries
        tries += 1
        if tries == 1:
            writer.close()
            return
        to_node, from_writer = await asyncio.open_connection(host, int(port))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, from_writer), pump(to_node, writer), return_exceptions=True)

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as front:
        federation.move("fr", f"127.0.0.1:{front.sockets[0].getsockname()[1]}")
        gateway = federation.gateway("nl")
        assert await outcome_of_fr(await federation.start_gateway("nl", gateway)) is Outcome.NO_MATCH
        assert (tries, len(calls)) == (2, 1)
        await gateway.core.nodes.close()


def busy_node(federation: SocketFederation) -> Callable[[pb.LookupCall], Awaitable[EnvelopeMessage]]:
    """Return the reply of fr's node when it is too busy to look at a question."""
    home = federation.homes["fr"]

    async def reply(call: pb.LookupCall) -> EnvelopeMessage:
        envelope = read_call(call)[1]
        request = read_request(envelope.payload)
        answer = answer_to(request, envelope.digest, "fr", home.audit_signer, Status.BUSY, system_clock(), index=None)
        return to_message(sign_answer(replace(answer, log=None), home.signer))

    return reply


async def test_a_busy_node_is_asked_again_with_the_same_message(federation: SocketFederation) -> None:
    calls: list[pb.LookupCall] = []
    honest, busy = federation.honest("fr"), busy_node(federation)

    async def busy_at_first(call: pb.LookupCall) -> EnvelopeMessage:
        return await (busy if len(calls) < 3 else honest)(call)

    await federation.start_node("fr", counting(calls, busy_at_first))
    gateway = federation.gateway("nl")
    assert await outcome_of_fr(await federation.start_gateway("nl", gateway)) is Outcome.NO_MATCH
    assert len(calls) == 3
    assert len({call.request.payload for call in calls}) == 1
    (fr,) = [state for state in gateway.core.nodes.states() if state.member == "fr"]
    assert (fr.under_way, fr.failures, fr.allowed) == (0, 0, 2)


async def test_a_node_that_stays_busy_says_so_in_the_end(federation: SocketFederation) -> None:
    await federation.start_node("fr", ScriptedNode(busy_node(federation)))
    assert await outcome_of_fr(await federation.start_gateway("nl"), deadline_s=0.6) is Outcome.RATE_LIMITED


async def test_a_slot_given_at_the_very_deadline_is_given_back() -> None:
    node = KnownNode(Breaker(TOUCHY.pool.breaker), ConcurrencyLimiter(1))
    taken = await node.limiter.take()
    ticket = node.breaker.admit(0.0)
    assert ticket
    visit = Visit("fr", node, ticket)
    waiting = asyncio.create_task(visit.take_slot())
    await asyncio.sleep(0)
    node.limiter.give_back(taken, good=None)  # the slot is given ...
    visit.end(good=None)  # ... and the deadline passes before the lookup wakes up
    with pytest.raises(TimeoutError):
        await waiting
    assert node.limiter.busy == 0


async def test_waiting_for_other_lookups_until_the_deadline_is_no_failure_of_the_node(federation: SocketFederation) -> None:
    """It was never asked. Else a crowd at the gateway would open the breaker of a node that is well."""
    section = replace(TOUCHY, breaker_slow_s=0.01, max_calls_per_member=1)
    nodes = NodePool(federation.homes["nl"].node_tls, section.pool)
    directory = federation.administrators.directory()
    await nodes._node("fr").limiter.take()
    replies = [await nodes.ask(OutgoingLookup(pb.LookupCall(), directory, deadline_s=0.05), directory.member("fr")) for _ in range(4)]
    assert ["other lookups" in reply.failure.detail for reply in replies] == [True] * 4
    assert nodes._node("fr").breaker.failures == 0
    await nodes.close()


async def test_a_connection_that_is_replaced_and_closed_under_a_lookup_is_a_failure_and_not_silence(
    federation: SocketFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidfed.federation.nodes.connections._RETIRE_S", 0.0)
    gateway = federation.gateway("nl")

    async def replaced(_: pb.LookupCall) -> EnvelopeMessage:
        gateway.core.nodes._connections.retire("fr")
        await asyncio.Event().wait()
        raise AssertionError

    await federation.start_node("fr", ScriptedNode(replaced))
    assert await outcome_of_fr(await federation.start_gateway("nl", gateway)) is Outcome.UNREACHABLE


# --- floods, double answers, broken streams ---


async def raw_node(federation: SocketFederation, replies: list[bytes]) -> None:
    """Let fr send these messages to every lookup, whatever the service says."""

    async def send(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        for reply in replies:
            await context.write(reply)

    handler = grpc.method_handlers_generic_handler("vidfed.v1.NodeService", {"Lookup": grpc.unary_stream_rpc_method_handler(send)})
    federation.move("fr", await federation.serve("fr", lambda server: server.add_generic_rpc_handlers((handler,))))


async def test_node_answering_twice(federation: SocketFederation) -> None:
    answer = EnvelopeMessage(payload_type="x").SerializeToString()
    await raw_node(federation, [answer, answer])
    assert not (await outcome_of_fr(await federation.start_gateway("nl"), deadline_s=0.5)).answered


async def test_node_closing_without_an_answer(federation: SocketFederation) -> None:
    await raw_node(federation, [])
    assert await outcome_of_fr(await federation.start_gateway("nl")) is Outcome.PROTOCOL_ERROR


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_node_flooding(federation: SocketFederation) -> None:
    await raw_node(federation, [bytes(2 * MAX_MESSAGE_BYTES)] * 50)
    assert await outcome_of_fr(await federation.start_gateway("nl")) is Outcome.PROTOCOL_ERROR


# --- connections ---


async def test_lookups_share_one_connection_until_the_certificate_changes(federation: SocketFederation) -> None:
    gateway = federation.gateway("nl")
    kit = await federation.start_gateway("nl", gateway)
    await look_up(kit)
    connections = gateway.core.nodes._connections
    before = {member: channel for member, (_, channel) in connections._channels.items()}
    await look_up(kit)
    assert {member: channel for member, (_, channel) in connections._channels.items()} == before
    _renew(federation.homes["nl"])
    connections._own_tls._read_at_s = float("-inf")
    assert (await look_up(kit)).complete
    after = {member: channel for member, (_, channel) in connections._channels.items()}
    assert before.keys() == after.keys() == {"nl", "fr"}
    assert all(before[member] is not after[member] for member in before)


async def test_a_key_file_damaged_while_serving_leaves_the_old_certificate_in_use(
    federation: SocketFederation, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = federation.gateway("nl")
    kit = await federation.start_gateway("nl", gateway)
    await look_up(kit)
    (federation.homes["nl"].folder / "keys/node.key").chmod(0o644)
    gateway.core.nodes._connections._own_tls._read_at_s = float("-inf")
    assert (await look_up(kit)).complete
    assert "TLS goes on with the old certificate" in caplog.text


def _renew(home: MemberHome) -> None:
    tls = make_node_leaf(home.ca, home.federation, home.member)
    home.keys.save_tls("node", tls)


# --- how much at once ---


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (GatewaySection("127.0.0.1:0", max_lookups=1), "as many lookups as it takes at once"),
        (GatewaySection("127.0.0.1:0", max_lookups_per_investigator=1), "as many lookups as one person may have"),
    ],
)
async def test_who_asks_beyond_the_limit_is_told_to_come_back(federation: SocketFederation, section: GatewaySection, words: str) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()
    honest = federation.honest("fr")

    async def wait(call: pb.LookupCall) -> EnvelopeMessage:
        asked.set()
        await may_answer.wait()
        return await honest(call)

    await federation.start_node("fr", ScriptedNode(wait))
    kit = await federation.start_gateway("nl", federation.gateway("nl", section=section))
    first = asyncio.create_task(look_up(kit))
    await asked.wait()
    with pytest.raises(GatewayError, match=words):
        await look_up(kit)
    may_answer.set()
    assert (await first).complete
    assert (await look_up(kit)).complete


async def test_a_node_is_given_no_more_lookups_at_once_than_it_may_have(federation: SocketFederation) -> None:
    at_once = most = 0
    honest = federation.honest("fr")

    async def count(call: pb.LookupCall) -> EnvelopeMessage:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return await honest(call)

    await federation.start_node("fr", ScriptedNode(count))
    section = GatewaySection("127.0.0.1:0", max_calls_per_member=2)
    kit = await federation.start_gateway("nl", federation.gateway("nl", section=section))
    results = await asyncio.gather(*(look_up(kit) for _ in range(8)))
    assert all(result.complete for result in results)
    assert most <= 2


# --- status and configuration ---


async def test_the_gateway_tells_how_the_nodes_do(federation: SocketFederation) -> None:
    federation.move("fr", NOWHERE)
    gateway = federation.gateway("nl", section=TOUCHY)
    kit = await federation.start_gateway("nl", gateway)
    for _ in range(2):
        await look_up(kit)
    home = federation.homes["nl"]
    with pytest.raises(HomeError, match="no gateway has run here"):
        read_status(home)
    write_status(home, describe(gateway.core.nodes, gateway.core.running))
    state = read_status(home)
    fr, nl = state.nodes
    assert (fr["member"], fr["breaker"], fr["unanswered"], fr["last_failure"]) == ("fr", "open", 2, "unreachable")
    assert (nl["member"], nl["breaker"], nl["answers"], nl["last_failure"]) == ("nl", "closed", 2, "")
    assert fr["retry_in_s"] > 2000
    assert json.loads(json.dumps(state.to_fields()))["schema"] == "vidfed.gateway-status/1"
    assert not state.to_fields()["serving"]


@pytest.mark.parametrize("setting", ["connect_s = 0", "max_lookups = -1", "breaker_failures = 0"])
async def test_a_setting_that_makes_no_sense_is_named(federation: SocketFederation, setting: str) -> None:
    home = federation.homes["nl"]
    name = setting.partition(" ")[0]
    text = home.config_path.read_text()
    lines = [f"{setting}" if line.startswith(f"{name} =") else line for line in text.splitlines()]
    write_private(home.config_path, "\n".join(lines).encode())
    with pytest.raises(HomeError, match=rf"\[gateway\] {name} must be above 0"):
        read_gateway_section(type(home)(home.folder))


async def test_gateway_and_node_of_one_member_do_not_make_each_other_read_the_directory_again(federation: SocketFederation) -> None:
    """Both keep it in the member's folder: if writing what is there already counted as news, every lookup would read all of it."""
    gateway, node = (federation.homes["nl"].directory_source() for _ in range(2))
    first, other = gateway.current(), node.current()
    assert (gateway.current() is first, node.current() is other) == (True, True)
    federation.move("fr", NOWHERE)
    assert (gateway.current().version, node.current().version) == (first.version + 1, first.version + 1)
    first, other = gateway.current(), node.current()
    assert (gateway.current() is first, node.current() is other) == (True, True)


async def test_after_a_break_the_next_lookup_connects_anew(federation: SocketFederation) -> None:
    """A connection that broke under a question is not used again, whatever gRPC would make of it."""
    asked, again = asyncio.Event(), asyncio.Event()
    servers: list[grpc.aio.Server] = []

    async def hang_up(_: pb.LookupCall) -> EnvelopeMessage:
        asked.set()
        await again.wait()
        raise AssertionError

    def register(server: grpc.aio.Server) -> None:
        rpc.add_NodeServiceServicer_to_server(ScriptedNode(hang_up), server)
        servers.append(server)

    federation.move("fr", await federation.serve("fr", register))
    gateway = federation.gateway("nl")
    kit = await federation.start_gateway("nl", gateway)
    asking = asyncio.create_task(outcome_of_fr(kit))
    await asked.wait()
    _, broken = gateway.core.nodes._connections._channels["fr"]
    await servers[0].stop(None)
    assert await asking is Outcome.UNREACHABLE
    assert "fr" not in gateway.core.nodes._connections._channels
    await federation.start_node("fr", ScriptedNode(federation.honest("fr")))
    assert await outcome_of_fr(kit) is Outcome.NO_MATCH
    assert gateway.core.nodes._connections._channels["fr"][1] is not broken
