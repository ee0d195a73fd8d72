"""A node over real sockets when things go wrong, or are made to: a signed refusal or recovery follows, never a false "no hit"."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import KNOWN_NEAR as KNOWN
from tests.support.disk import full_disk
from tests.support.memory import FEDERATION, MemoryFederation, call_of, columns_of
from tests.support.patience import PATIENCE_S
from vidfed.index import Algorithm, Hash
from vidfed.node.serving.server import would_answer
from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.identity.tls import make_node_leaf
from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
from vidfed.wire.answers import read_answer
from vidfed.wire.envelope import from_message, to_message
from vidfed.wire.requests import write_request
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, REQUEST_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator, MemoryNode
    from tests.support.sockets import ServedNode
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupAnswer


def question(memory: MemoryFederation, asker: MemoryInvestigator, /, **header: object) -> LookupCall:
    return call_of(asker.credential, memory.sign(memory.request(asker, [KNOWN], **header), asker))


async def told(served: ServedNode, call: LookupCall) -> LookupAnswer:
    """What the node says to a call, signed and bound to it."""
    async with served.asked_by("nl") as stub:
        envelope = from_message(await stub.Lookup(call, timeout=PATIENCE_S))
    answer = read_answer(envelope.verify(ANSWER_TYPE, served.node.member.entry.signing_keys))
    assert answer.header.request_digest == Envelope(call.request.payload_type, call.request.payload).digest
    assert answer.hits or answer.header.status is not Status.ANSWERED  # the record is known: anything else would be a false "no hit"
    return answer


async def test_full_disk_and_room_again(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert (await told(served, question(memory, asker))).hits
    with full_disk():
        assert (await told(served, question(memory, asker))).header.status is not Status.ANSWERED
    assert (await told(served, question(memory, asker))).hits


@pytest.mark.parametrize("stream", [False, True])
async def test_a_defect_outside_the_pipeline_tells_the_caller_nothing_of_itself(
    served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("/srv/vidfed/keys")

    monkeypatch.setattr(type(served.node.pipeline), "conclude", fail)
    async with served.asked_by("nl") as stub:
        call = stub.LookupStream(timeout=PATIENCE_S) if stream else None
        if call is not None:
            ((_, chunk),) = memory.chunks(asker, [KNOWN])
            await call.write(call_of(asker.credential, chunk))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await (call.read() if call is not None else stub.Lookup(question(memory, asker), timeout=PATIENCE_S))
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.INTERNAL, "a defect of this node")


def test_a_node_without_room_on_its_disk_does_not_say_that_it_serves(
    node: MemoryNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.catalogue.catch_up()
    assert would_answer(node.pipeline, tmp_path)
    monkeypatch.setattr("vidfed.node.serving.server.ROOM_BYTES", 2**62)
    assert not would_answer(node.pipeline, tmp_path)


async def test_torn_index_file_is_rebuilt(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    """Marked by whoever finds it damaged, an index is emptied and filled again; searches meanwhile are refused."""
    assert (await told(served, question(memory, asker))).hits
    (tmp_path / "index" / f"{KNOWN.algorithm.value}.damaged").touch()
    statuses = {(await told(served, question(memory, asker))).header.status for _ in range(5)}
    assert statuses <= {Status.ANSWERED, Status.STALE_INDEX, Status.INDEX_UNAVAILABLE}
    served.node.catalogue.catch_up()
    assert (await told(served, question(memory, asker))).hits


async def test_database_gone_and_back(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    assert (await told(served, question(memory, asker))).hits
    served.node.store.database.engine.dispose()  # as when its server was restarted
    back = taken_away(tmp_path)
    answer = await told(served, question(memory, asker))
    assert answer.header.status in {Status.INDEX_UNAVAILABLE, Status.STALE_INDEX}
    served.node.store.database.engine.dispose()
    back()
    served.node.catalogue.catch_up()
    assert (await told(served, question(memory, asker))).hits


def taken_away(folder: Path) -> Callable[[], None]:
    """Take the record store's files away, and return what puts them back."""
    away = folder / "away"
    away.mkdir()
    for path in folder.glob("records.db*"):
        path.rename(away / path.name)
    (folder / "records.db").mkdir()

    def back() -> None:
        (folder / "records.db").rmdir()
        for path in away.iterdir():
            path.rename(folder / path.name)

    return back


async def test_clock_jumps_ahead_and_back(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator) -> None:
    """Messages of both times are refused as too new or too old; and back again, nothing of before is taken twice."""
    early = question(memory, asker)
    assert (await told(served, early)).hits
    memory.clock.advance(DAY_MS)
    assert (await told(served, early)).header.status is Status.OUTSIDE_TIME_WINDOW
    assert (await told(served, question(memory, asker))).hits
    memory.clock.advance(-DAY_MS)
    assert (await told(served, early)).header.status is not Status.ANSWERED
    assert (await told(served, question(memory, asker))).header.status is Status.NOT_YET  # it cannot know what it had answered
    memory.clock.advance(DAY_MS + MINUTE_MS)
    assert (await told(served, question(memory, asker))).hits


async def test_certificate_roll_over(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator) -> None:
    """Both ends renew theirs, of the same authority: calls of before and after the change are answered, over old and new connections."""
    async with served.asked_by("nl") as stub:
        assert (await stub.Lookup(question(memory, asker), timeout=PATIENCE_S)).payload
        for name in ("nl", "fr"):
            member = memory.members[name]
            memory.members[name] = replace(member, tls=make_node_leaf(member.ca, FEDERATION, name))
        assert (await told(served, question(memory, asker))).hits
        old = read_answer((await stub.Lookup(question(memory, asker), timeout=PATIENCE_S)).payload)
        assert old.hits


async def test_peers_vanishing_while_they_are_answered(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator) -> None:
    for _ in range(5):
        async with served.asked_by("nl") as stub:
            calls = [stub.Lookup(question(memory, asker), timeout=PATIENCE_S) for _ in range(5)]
            await asyncio.wait([asyncio.ensure_future(_reply(call)) for call in calls], return_when=asyncio.FIRST_COMPLETED)
            for call in calls:
                call.cancel()
    assert (await told(served, question(memory, asker))).hits


async def _reply(call: object) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        await call  # type: ignore[misc]  # a call is awaitable


async def test_ten_to_the_six_hashes_in_one_request(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator) -> None:
    """More than a message may hold does not get past gRPC; what does, and is too much, is refused by its count."""
    large = replace(memory.request(asker, [KNOWN]), item_count=1_000_000, columns=columns_of([Hash(Algorithm.MD5, bytes(16))] * 1_000_000))
    async with served.asked_by("nl") as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Lookup(call_of(asker.credential, memory.sign(large, asker)), timeout=PATIENCE_S)
    many = replace(large, item_count=30_000, columns=columns_of([Hash(Algorithm.MD5, bytes(16))] * 30_000))
    assert (await told(served, call_of(asker.credential, memory.sign(many, asker)))).header.status is Status.TOO_LARGE


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, int, bytes]:
    """Where, how far in, and what is written over."""
    place = draw(st.sampled_from(["credential", "request", "type", "signature", "signed", "call", "cut"]))
    return place, draw(st.integers(0, 2_000)), draw(st.binary(min_size=1, max_size=8))


def mutated(memory: MemoryFederation, asker: MemoryInvestigator, place: str, start: int, patch: bytes) -> LookupCall:
    """An honest call with something written over. `signed` is damaged before it is signed: then only its form can be wrong."""

    def patched(content: bytes) -> bytes:
        at = start % max(1, len(content))
        return content[:at] + patch + content[at + len(patch) :]

    envelope = memory.sign(memory.request(asker, [KNOWN]), asker)
    if place == "signed":
        payload = patched(write_request(memory.request(asker, [KNOWN])))
        envelope = Envelope(REQUEST_TYPE, payload).signed_by(asker.signer, memory.members["nl"].signer)
    call = call_of(asker.credential, envelope)
    match place:
        case "credential":
            call.credential.payload = patched(call.credential.payload)
        case "request":
            call.request.payload = patched(call.request.payload)
        case "type":
            call.request.payload_type = patched(call.request.payload_type.encode()).decode("ascii", "replace")
        case "signature":
            call.request.signatures[start % 2].value = patched(call.request.signatures[start % 2].value)
        case "cut":
            call.request.payload = call.request.payload[: start % len(call.request.payload)]
        case "call":
            call.request.CopyFrom(to_message(Envelope(patch.hex(), random.Random(start).randbytes(start))))
    return call


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutation=mutations())
async def test_fuzzed_calls_end_in_a_signed_refusal_or_the_true_answer(
    served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator, mutation: tuple[str, int, bytes]
) -> None:
    call = mutated(memory, asker, *mutation)
    answer = await told_something(served, call)
    assert answer.header.status is not Status.INTERNAL_ERROR
    if mutation[0] != "signed":  # what was signed as it is may be an honest question about another hash
        assert answer.hits or answer.header.status is not Status.ANSWERED


async def told_something(served: ServedNode, call: LookupCall) -> LookupAnswer:
    async with served.asked_by("nl") as stub:
        envelope = from_message(await stub.Lookup(call, timeout=PATIENCE_S))
    answer = read_answer(envelope.verify(ANSWER_TYPE, served.node.member.entry.signing_keys))
    assert answer.header.request_digest == Envelope(call.request.payload_type, call.request.payload).digest
    return answer


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=2_000), stream=st.booleans())
async def test_fuzzed_bytes_in_place_of_a_call_leave_the_node_well(
    served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator, body: bytes, *, stream: bool
) -> None:
    """Random bytes are no call at all, or one that is refused; whichever it is, the next honest question is answered."""
    method = "/vidfed.v1.NodeService/" + ("LookupStream" if stream else "Lookup")
    replies: list[bytes] = []
    async with served.channel("nl") as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):
            if stream:
                call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(method)(
                    _arriving(body),  # type: ignore[arg-type]  # bytes as they are
                    timeout=PATIENCE_S,
                )
                replies = [reply async for reply in call]
            else:
                replies.append(await channel.unary_unary(method)(body, timeout=PATIENCE_S))  # type: ignore[arg-type]  # bytes as they are
    for reply in replies:
        assert read_answer(from_message(EnvelopeMessage.FromString(reply)).payload).header.status is not Status.ANSWERED
    assert (await told(served, question(memory, asker))).hits


async def _arriving(*bodies: bytes) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body
