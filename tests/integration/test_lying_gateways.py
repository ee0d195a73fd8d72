"""Gateways that lie or break off, over real sockets: what they can do is named."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from vidfed.federation.client.client import FederationClient
from vidfed.federation.gateway.service import GatewayServicer
from vidfed.federation.lookup.outcome import Outcome
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.mirrors import FolderMirror
from vidfed.v1 import gateway_pb2 as pb
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import grpc

    from tests.support.sockets import SocketFederation
    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.v1.lookup_pb2 import LookupCall

from tests.integration.lying import look_up, outcomes


class LyingGateway(GatewayServicer):
    """The true gateway, with something done to what it passes on."""

    def __init__(self, true: GatewayServicer, lie: Callable[[list[pb.NodeReply]], list[pb.NodeReply]]) -> None:
        super().__init__(true.core)
        self._lie = lie

    async def Lookup(  # noqa: N802
        self, request: LookupCall, context: grpc.aio.ServicerContext[LookupCall, pb.NodeReply]
    ) -> AsyncIterator[pb.NodeReply]:
        replies = [reply async for reply in super().Lookup(request, context)]
        for reply in self._lie(sorted(replies, key=lambda reply: reply.member)):
            yield reply


async def ask_through(
    federation: SocketFederation,
    lie: Callable[[list[pb.NodeReply]], list[pb.NodeReply]],
    on_node: Callable[[NodeOutcome], None] = lambda _: None,
) -> LookupResult:
    return await look_up(await federation.start_gateway("nl", LyingGateway(federation.gateway("nl"), lie)), on_node=on_node)


async def test_gateway_drops_an_answer(federation: SocketFederation) -> None:
    result = await ask_through(federation, lambda replies: replies[1:])
    assert outcomes(result) == {"fr": Outcome.MISSING, "nl": Outcome.NO_MATCH}
    assert not result.complete


async def test_gateway_drops_every_answer(federation: SocketFederation) -> None:
    result = await ask_through(federation, lambda _: [])
    assert set(outcomes(result).values()) == {Outcome.MISSING}


async def test_gateway_swaps_two_answers(federation: SocketFederation) -> None:
    def swap(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        one, other = replies
        return [pb.NodeReply(member=one.member, answer=other.answer), pb.NodeReply(member=other.member, answer=one.answer)]

    assert set(outcomes(await ask_through(federation, swap)).values()) == {Outcome.BAD_SIGNATURE}


async def test_gateway_gives_one_node_s_answer_for_all(federation: SocketFederation) -> None:
    result = await ask_through(federation, lambda replies: [pb.NodeReply(member=r.member, answer=replies[1].answer) for r in replies])
    assert outcomes(result) == {"fr": Outcome.BAD_SIGNATURE, "nl": Outcome.NO_MATCH}


async def test_gateway_alters_an_answer(federation: SocketFederation) -> None:
    def alter(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        payload = bytearray(replies[0].answer.payload)
        payload[-1] ^= 1
        replies[0].answer.payload = bytes(payload)
        return replies

    assert outcomes(await ask_through(federation, alter)) == {"fr": Outcome.BAD_SIGNATURE, "nl": Outcome.NO_MATCH}


async def test_gateway_says_a_node_has_no_hit_on_its_own_word(federation: SocketFederation) -> None:
    def say(_: list[pb.NodeReply]) -> list[pb.NodeReply]:
        return [pb.NodeReply(member="fr"), pb.NodeReply(member="nl", failure=pb.Failure(kind=77, detail="no hit\n"))]  # type: ignore[arg-type]

    assert set(outcomes(await ask_through(federation, say)).values()) == {Outcome.PROTOCOL_ERROR}


async def test_a_failure_the_gateway_reports_is_shown_with_its_kind(federation: SocketFederation) -> None:
    def fail(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        kinds = (FailureKind.TIMEOUT, FailureKind.UNREACHABLE)
        return [pb.NodeReply(member=r.member, failure=pb.Failure(kind=k.value)) for r, k in zip(replies, kinds, strict=True)]

    assert outcomes(await ask_through(federation, fail)) == {"fr": Outcome.TIMEOUT, "nl": Outcome.UNREACHABLE}


async def test_gateway_answers_twice_for_a_node_and_for_strangers(federation: SocketFederation) -> None:
    """A later reply cannot replace an earlier one, and who was not asked is not listed."""

    def add(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        failed = pb.NodeReply(member="fr", failure=pb.Failure(kind=FailureKind.TIMEOUT.value))
        return [*replies, failed, pb.NodeReply(member="xx", answer=replies[0].answer)]

    heard: list[str] = []
    result = await ask_through(federation, add, on_node=lambda node: heard.append(node.member))
    assert outcomes(result) == {"fr": Outcome.NO_MATCH, "nl": Outcome.NO_MATCH}
    assert sorted(heard) == ["fr", "nl"]


async def test_gateway_breaks_off_in_the_middle(federation: SocketFederation) -> None:
    def break_off(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        return [replies[0], None]  # type: ignore[list-item]  # what is no message ends the stream with an error

    result = await ask_through(federation, break_off)
    assert outcomes(result) == {"fr": Outcome.NO_MATCH, "nl": Outcome.MISSING}


async def test_gateway_with_an_older_directory_changes_nothing(federation: SocketFederation, tmp_path: Path) -> None:
    shutil.copytree(federation.administrators.published, tmp_path / "stale")
    stale = TufDirectory(tmp_path / "state", federation.administrators.anchor, [FolderMirror(tmp_path / "stale")])
    federation.move("fr", "127.0.0.1:2")
    kit = await federation.start_gateway("nl", directory_source=stale)
    async with FederationClient(kit) as client:
        assert (await client.refresh_directory()).version > stale.current().version
