"""A member whose programs do not take films is asked about their digests alone, and named; everybody else is asked with the frames."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.federation.bulk.lookup import BulkLookup, NumberedPart
from vidfed.federation.bulk.sources import SourceReader
from vidfed.federation.bulk.store import BulkStore
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.errors import GatewayError
from vidfed.federation.lookup.outcome import WITHOUT_FRAMES, NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item, Justification
from vidfed.index import Algorithm
from vidfed.security.identity.capabilities import FILMS
from vidfed.security.member.rotation import OwnEntry
from vidfed.wire.capabilities import SPOKEN
from vidfed.wire.envelope import read_call
from vidfed.wire.requests import read_request
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupRequest

RNG = random.Random(7)
FILM = Item(
    "film.mp4",
    {Algorithm.SHA256: (RNG.randbytes(32),), Algorithm.PDQ: tuple(RNG.randbytes(32) for _ in range(6))},
    times=tuple((n * 250, n * 250 + 200) for n in range(6)),
)
STILL = Item("still.png", {Algorithm.PDQ: (RNG.randbytes(32),)})
WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")


def asked_codes(request: LookupRequest) -> tuple[dict[Algorithm, list[int]], int]:
    return {column.algorithm: column.items.tolist() for column in request.columns}, len(request.films)


@pytest.mark.parametrize("older", [{"se"}, {"fr", "se"}, set()])
async def test_an_older_member_gets_the_digests_of_a_film_and_is_named(tmp_path: Path, older: set[str]) -> None:
    heard: dict[str, LookupRequest] = {}
    async with SocketFederation(tmp_path, "nl", "fr", "se") as made:

        def listening(member: str) -> Callable[[LookupCall], object]:
            honest = made.honest(member)

            async def reply(call: LookupCall) -> EnvelopeMessage:
                heard[member] = read_request(read_call(call)[1].payload)
                return await honest(call)

            return reply

        for member in ("fr", "se"):
            await made.start_node(member, ScriptedNode(listening(member)))  # type: ignore[arg-type]  # a coroutine function
            if member in older:
                made.administrators.folder.accept(OwnEntry(made.homes[member]).renew(speaks=SPOKEN - {FILMS}))
        async with FederationClient(await made.start_gateway("nl")) as client:
            await client.refresh_directory()
            result = await client.ask([STILL, FILM], WHY, ask=["fr", "se"])
            again = await client.resume(result.lookup)
    with_frames = {Algorithm.SHA256: [1], Algorithm.PDQ: [0, *[1] * 6]}, 1
    without = {Algorithm.SHA256: [1], Algorithm.PDQ: [0]}, 0
    for member in ("fr", "se"):
        assert asked_codes(heard[member]) == (without if member in older else with_frames), member
    for said in (result, again):
        assert [item.label for item in said.items] == ["still.png", "film.mp4"]
        told = {node.member: (node.outcome, node.detail) for node in said.nodes}
        expected = {m: (Outcome.PARTIAL, WITHOUT_FRAMES) if m in older else (Outcome.NO_MATCH, "") for m in ("fr", "se")}
        assert told == expected
        assert {node.member for node in said.not_asked} == {"nl"}


async def test_in_bulk_too_and_a_film_is_sent_again_whole_after_a_break(tmp_path: Path) -> None:
    sent: dict[str, list[tuple[dict[Algorithm, list[int]], int]]] = {"fr": [], "se": []}
    breaks = ["fr"]

    async def at_once(_: float) -> None:
        pass

    async def ask(
        parts: AsyncIterator[NumberedPart], ask: Sequence[str], on_node: Callable[[NumberedPart, NodeOutcome], None]
    ) -> Mapping[str, NodeOutcome]:
        async for part in parts:
            shown = {column.algorithm: column.items.tolist() for column in part.columns}, len(part.films)
            for member in ask:
                sent[member].append(shown)
                if member in breaks:  # the stream breaks with the film under way
                    breaks.remove(member)
                    raise GatewayError("gone")
                on_node(part, NodeOutcome(member, Outcome.NO_MATCH))
        return {}

    with BulkStore(tmp_path, {}) as store:
        store.add([(1, STILL), (2, FILM)])
        lookup = BulkLookup(store, ["fr", "se"], {}, ask, without_frames=frozenset({"se"}), sleep=at_once)
        await lookup.run(SourceReader(None))
        answered = store.answered(["fr", "se"])
    whole = {Algorithm.PDQ: [0, *[1] * 6], Algorithm.SHA256: [1]}, 1
    assert sent["fr"] == [whole, whole], "after the break the film is sent again with all its frames, as one chunk"
    assert set(map(str, sent["se"])) == {str(({Algorithm.PDQ: [0], Algorithm.SHA256: [1]}, 0))}
    assert len(answered["fr"]) == 2
    assert len(answered["se"]) == 0, "what was asked without frames is not answered"
    assert lookup.said["se"].detail == WITHOUT_FRAMES
