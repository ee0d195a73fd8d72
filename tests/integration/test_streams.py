"""Streams of lookups over real sockets: nodes that hang, die and lie in the middle, and gateways that drop, alter, repeat and exchange."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.federation.client.client import FederationClient
from vidfed.federation.direct import DirectTransport
from vidfed.federation.gateway.service import GatewayServicer
from vidfed.federation.gateway.settings import GatewaySection
from vidfed.federation.lookup.errors import GatewayError, GatewayRefusedError
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item, Justification, Part, split
from vidfed.index import Algorithm
from vidfed.v1 import gateway_pb2 as pb
from vidfed.wire.values import MAX_UNANSWERED_CHUNKS, Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    import grpc

    from vidfed.security.member.kit import Kit
    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupRequest

    Reply = Callable[[LookupCall], Awaitable[EnvelopeMessage]]

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
HURRIED = GatewaySection("127.0.0.1:0", deadline_s=0.5, connect_attempts=1)
PARTS = [
    part
    for number in range(10)
    for part in split([Item(f"item {number}", {Algorithm.SHA256: (number.to_bytes(32, "big"),)})], {})
]  # fmt: skip


class Heard:
    """What one stream brought: by member the numbers of the parts that were answered, in order, and who left."""

    def __init__(self) -> None:
        self.answered: dict[str, list[int]] = {"fr": [], "nl": []}
        self.left: dict[str, Outcome] = {}
        self.taken = 0

    async def parts(self, count: int = len(PARTS)) -> AsyncIterator[Part]:
        for part in PARTS[:count]:
            self.taken += 1
            yield part

    def on_node(self, part: Part, node: NodeOutcome) -> None:
        assert node.outcome is Outcome.NO_MATCH
        self.answered[node.member].append(PARTS.index(part))


async def ask(kit: Kit, heard: Heard | None = None, members: Sequence[str] = ("fr", "nl")) -> Heard:
    heard = heard or Heard()
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        left = await client.lookup_stream(heard.parts(), WHY, ask=members, on_node=heard.on_node)
    heard.left = {member: node.outcome for member, node in left.items()}
    return heard


ALL = list(range(len(PARTS)))


def counted(honest: Reply, instead: dict[int, Reply], calls: list[int] | None = None) -> Reply:
    """Reply honestly, but to the calls with these numbers, from 0, with something else."""
    seen = calls if calls is not None else []

    async def reply(call: LookupCall) -> EnvelopeMessage:
        seen.append(len(seen))
        return await instead.get(seen[-1], honest)(call)

    return reply


async def broken(_: LookupCall) -> EnvelopeMessage:
    raise ZeroDivisionError


async def silent(_: LookupCall) -> EnvelopeMessage:
    await asyncio.Event().wait()
    raise AssertionError


async def test_every_chunk_is_answered_by_every_node_in_order(federation: SocketFederation) -> None:
    heard = await ask(await federation.start_gateway("nl"))
    assert heard.answered == {"fr": ALL, "nl": ALL}
    assert heard.left == {}


async def test_a_stream_without_anything_to_ask_ends(federation: SocketFederation) -> None:
    async def none() -> AsyncIterator[Part]:
        for part in PARTS[:0]:
            yield part

    async with FederationClient(await federation.start_gateway("nl")) as client:
        assert await client.lookup_stream(none(), WHY, ask=["fr"], on_node=lambda _part, _node: None) == {}


async def test_node_dying_mid_stream(federation: SocketFederation) -> None:
    """It answers three chunks and is not there any more: those three count, the other node's answers are all there."""
    calls: list[int] = []
    node = ScriptedNode(counted(federation.honest("fr"), dict.fromkeys(range(3, 20), broken), calls))
    await federation.start_node("fr", node)
    heard = await ask(await federation.start_gateway("nl"))
    assert heard.answered == {"fr": [0, 1, 2], "nl": ALL}
    assert heard.left == {"fr": Outcome.UNREACHABLE}


async def test_a_node_that_breaks_off_goes_on_in_a_new_call(federation: SocketFederation) -> None:
    node = ScriptedNode(counted(federation.honest("fr"), {3: broken, 7: broken}))
    await federation.start_node("fr", node)
    heard = await ask(await federation.start_gateway("nl"))
    assert heard.answered == {"fr": ALL, "nl": ALL}
    assert heard.left == {}


async def test_a_connection_that_is_replaced_under_a_stream_is_gone_on_with(
    federation: SocketFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewed certificate, a member that moves: the old connection ends some time later, also under a call that still runs."""
    monkeypatch.setattr("vidfed.federation.nodes.connections._RETIRE_S", 0.0)
    gateway, honest = federation.gateway("nl"), federation.honest("fr")

    async def replaced(call: LookupCall) -> EnvelopeMessage:
        gateway.core.nodes._connections.retire("fr")
        await asyncio.Event().wait()
        return await honest(call)

    await federation.start_node("fr", ScriptedNode(counted(honest, {3: replaced})))
    async with asyncio.timeout(20):
        heard = await ask(await federation.start_gateway("nl", gateway))
    assert heard.answered == {"fr": ALL, "nl": ALL}
    assert heard.left == {}


async def test_hanging_node_is_left_out_of_the_rest_of_the_stream(federation: SocketFederation) -> None:
    node = ScriptedNode(counted(federation.honest("fr"), {2: silent}))
    await federation.start_node("fr", node)
    heard = await ask(await federation.start_gateway("nl", federation.gateway("nl", section=HURRIED)))
    assert heard.answered == {"fr": [0, 1], "nl": ALL}
    assert heard.left == {"fr": Outcome.TIMEOUT}


async def test_slow_node_holds_up_what_is_read_so_that_nothing_piles_up(federation: SocketFederation) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    honest = federation.honest("fr")

    async def slow(call: LookupCall) -> EnvelopeMessage:
        reached.set()
        await go_on.wait()
        return await honest(call)

    await federation.start_node("fr", ScriptedNode(slow))
    heard = Heard()
    everybody_else = asyncio.Event()
    on_node = heard.on_node

    def told(part: Part, node: NodeOutcome) -> None:
        on_node(part, node)
        if len(heard.answered["nl"]) == MAX_UNANSWERED_CHUNKS:
            everybody_else.set()

    heard.on_node = told  # type: ignore[method-assign]
    asking = asyncio.create_task(ask(await federation.start_gateway("nl"), heard))
    await asyncio.wait_for(asyncio.gather(reached.wait(), everybody_else.wait()), PATIENCE_S)
    assert heard.answered == {"fr": [], "nl": ALL[:MAX_UNANSWERED_CHUNKS]}
    assert heard.taken <= MAX_UNANSWERED_CHUNKS + 2, "the one to be signed next, and whether there is one after it"
    go_on.set()
    assert (await asking).answered == {"fr": ALL, "nl": ALL}


async def test_no_node_there_ends_the_stream(federation: SocketFederation) -> None:
    for member in ("fr", "nl"):
        federation.move(member, "127.0.0.1:1")
    heard = await ask(await federation.start_gateway("nl", federation.gateway("nl", section=HURRIED)))
    assert heard.answered == {"fr": [], "nl": []}
    assert heard.left == {"fr": Outcome.UNREACHABLE, "nl": Outcome.UNREACHABLE}


async def test_a_node_that_is_no_member_any_more_is_missing(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        federation.administrators.remove("fr")
        heard = Heard()
        left = await client.lookup_stream(heard.parts(3), WHY, ask=["fr", "nl"], on_node=heard.on_node)
    assert heard.answered == {"fr": [], "nl": [0, 1, 2]}
    assert left["fr"].outcome is Outcome.MISSING


# --- gateways ---


class LyingStream(GatewayServicer):
    """The true gateway, with something done to each reply of a stream; it is told the reply's number."""

    def __init__(self, true: GatewayServicer, lie: Callable[[int, pb.NodeReply], Sequence[pb.NodeReply]]) -> None:
        super().__init__(true.core)
        self._lie = lie

    async def LookupStream(  # noqa: N802
        self, request_iterator: AsyncIterator[LookupCall], context: grpc.aio.ServicerContext[LookupCall, pb.NodeReply]
    ) -> AsyncIterator[pb.NodeReply]:
        numbers = {"fr": 0, "nl": 0}
        async for reply in super().LookupStream(request_iterator, context):
            for told in self._lie(numbers[reply.member], reply):
                yield told
            numbers[reply.member] += 1


async def ask_through(federation: SocketFederation, lie: Callable[[int, pb.NodeReply], Sequence[pb.NodeReply]]) -> Heard:
    return await ask(await federation.start_gateway("nl", LyingStream(federation.gateway("nl"), lie)))


async def test_gateway_drops_an_answer_of_a_stream(federation: SocketFederation) -> None:
    heard = await ask_through(federation, lambda number, reply: [] if (number, reply.member) == (4, "fr") else [reply])
    assert heard.answered == {"fr": [number for number in ALL if number != 4], "nl": ALL}


async def test_gateway_drops_the_last_answer_of_a_stream(federation: SocketFederation) -> None:
    heard = await ask_through(federation, lambda number, reply: [] if (number, reply.member) == (9, "fr") else [reply])
    assert heard.answered == {"fr": ALL[:9], "nl": ALL}
    assert heard.left == {"fr": Outcome.MISSING}


async def test_gateway_alters_an_answer_of_a_stream(federation: SocketFederation) -> None:
    def alter(number: int, reply: pb.NodeReply) -> list[pb.NodeReply]:
        if (number, reply.member) == (4, "fr"):
            reply.answer.payload = reply.answer.payload[:-1] + bytes([reply.answer.payload[-1] ^ 1])
        return [reply]

    heard = await ask_through(federation, alter)
    assert heard.answered == {"fr": ALL[:4], "nl": ALL}
    assert heard.left == {"fr": Outcome.BAD_SIGNATURE}


async def test_answered_twice(federation: SocketFederation) -> None:
    """A repeated answer counts once, and does the node no harm."""
    heard = await ask_through(federation, lambda number, reply: [reply] * (1 + number % 2))
    assert heard.answered == {"fr": ALL, "nl": ALL}
    assert heard.left == {}


async def test_answer_attributed_to_another_node(federation: SocketFederation) -> None:
    def attribute(number: int, reply: pb.NodeReply) -> list[pb.NodeReply]:
        return [pb.NodeReply(member="fr", answer=reply.answer)] if (number, reply.member) == (2, "nl") else [reply]

    heard = await ask_through(federation, attribute)
    assert heard.left["fr"] is Outcome.BAD_SIGNATURE
    assert 2 not in heard.answered["nl"]


async def test_gateway_says_a_node_left_that_did_not(federation: SocketFederation) -> None:
    """It can keep answers away, and then they are missing; it cannot make them up."""
    heard = await ask_through(
        federation, lambda number, reply: [pb.NodeReply(member="fr")] if (number, reply.member) == (1, "fr") else [reply]
    )
    assert heard.answered == {"fr": [0], "nl": ALL}
    assert heard.left == {"fr": Outcome.PROTOCOL_ERROR}


async def test_gateway_breaks_off_in_the_middle_of_a_stream(federation: SocketFederation) -> None:
    def fail(number: int, reply: pb.NodeReply) -> list[pb.NodeReply]:
        if number == 3:
            raise ZeroDivisionError
        return [reply]

    heard = Heard()
    gateway = LyingStream(federation.gateway("nl"), fail)
    with pytest.raises(GatewayError):
        await ask(await federation.start_gateway("nl", gateway), heard)
    assert heard.answered["fr"] == ALL[: len(heard.answered["fr"])]
    assert 3 in (len(heard.answered["fr"]), len(heard.answered["nl"]))


# --- investigators ---


async def test_an_investigator_who_goes_away_while_answers_wait_to_be_taken_leaves_nothing_behind(federation: SocketFederation) -> None:
    gateway = federation.gateway("nl")
    kit = await federation.start_gateway("nl", gateway)
    received, came, some_wait = gateway.core._trail.received, [0], asyncio.Event()

    async def count(*reply: Any) -> None:  # noqa: ANN401 - passed on
        came[0] += 1
        if came[0] == 4:  # one was taken, and of these two nodes' next three at least one waits
            some_wait.set()
        await received(*reply)

    gateway.core._trail.received = count  # type: ignore[method-assign, assignment]

    class GoesAway(DirectTransport):
        async def stream(self, chunks: AsyncIterator[LookupCall]) -> AsyncGenerator[pb.NodeReply, None]:
            async with contextlib.aclosing(super().stream(chunks)) as replies:
                async for reply in replies:
                    yield reply
                    await some_wait.wait()
                    raise GatewayError("gone")

    link = GoesAway(gateway.core, kit, federation.homes["nl"].directory_source().held)
    async with asyncio.timeout(20), FederationClient(kit, transport=link) as client:
        heard = Heard()
        with pytest.raises(GatewayError, match="gone"):
            await client.lookup_stream(heard.parts(), WHY, ask=["fr", "nl"], on_node=heard.on_node)
    assert gateway.core.running == 0


async def test_a_chunk_to_others_than_those_before_it_is_refused(federation: SocketFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    request, audiences = FederationClient._request, iter([("fr", "nl"), ("fr",)])

    def to_others(self: FederationClient, part: Part, why: Justification, _audience: object, *rest: Any) -> LookupRequest:  # noqa: ANN401 - passed on
        return request(self, part, why, next(audiences), *rest)

    monkeypatch.setattr(FederationClient, "_request", to_others)
    with pytest.raises(GatewayRefusedError, match="to other members"):
        await ask(await federation.start_gateway("nl"))


async def test_a_chunk_signed_for_another_call_is_refused(federation: SocketFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    request = FederationClient._request

    def for_another(self: FederationClient, *given: Any) -> LookupRequest:  # noqa: ANN401 - passed on
        return request(self, *given[:5])

    monkeypatch.setattr(FederationClient, "_request", for_another)
    with pytest.raises(GatewayRefusedError, match="another call"):
        await ask(await federation.start_gateway("nl"))
