"""Streams over real sockets: a true node behind mutual TLS, asked as a gateway asks it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.integration.conftest import KNOWN, UNKNOWN
from tests.support.memory import MemoryFederation, MemoryNode, call_of
from tests.support.patience import PATIENCE_S
from tests.support.sockets import ServedNode, serve_node
from tests.support.streams import AnswerOrder
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.admission import AdmissionLimits
from vidfed.node.search.catalogue import Catalogue
from vidfed.rpc.channels import SERVER_OPTIONS
from vidfed.wire.answers import read_answer
from vidfed.wire.envelope import from_message
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, MAX_ITEMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.memory import MemoryInvestigator
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.v1 import lookup_pb2_grpc as rpc
    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupAnswer


def read(served: ServedNode, message: EnvelopeMessage) -> tuple[LookupAnswer, Envelope]:
    """The verified answer in a message."""
    envelope = from_message(message)
    return read_answer(envelope.verify(ANSWER_TYPE, served.node.member.entry.signing_keys)), envelope


async def test_a_stream_of_full_chunks_is_answered_in_order(
    served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator
) -> None:
    part = [KNOWN, *(Hash(Algorithm.PDQ, hashlib.sha256(bytes([n % 256, n // 256])).digest()) for n in range(MAX_ITEMS - 1))]
    chunks = memory.chunks(asker, *[part] * 6)

    async def sending() -> AsyncIterator[object]:
        for _, envelope in chunks:
            yield call_of(asker.credential, envelope)

    order = AnswerOrder()
    async with served.asked_by("nl") as stub:
        async for message in stub.LookupStream(sending(), timeout=PATIENCE_S):  # type: ignore[arg-type]  # calls
            answer, envelope = read(served, message)
            order.accept(answer.header, envelope.digest)
            assert answer.header.request_digest == chunks[answer.header.sequence][1].digest
            assert [hit.item for hit in answer.hits] == [0]
    order.finish()
    assert order.due == 6


async def test_stream_truncated(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator) -> None:
    (_, first), _ = memory.chunks(asker, [KNOWN], [UNKNOWN])
    async with served.asked_by("nl") as stub:
        call = stub.LookupStream(timeout=PATIENCE_S)
        await call.write(call_of(asker.credential, first))
        await call.done_writing()
        answer, _ = read(served, await call.read())  # type: ignore[arg-type]  # not at its end
        assert (answer.header.status, answer.header.last) == (Status.ANSWERED, False)
        with pytest.raises(grpc.aio.AioRpcError, match="cut"):
            await call.read()
        assert await call.code() is grpc.StatusCode.ABORTED


async def test_removed_but_still_connected_mid_stream(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator) -> None:
    chunks = memory.chunks(asker, [KNOWN], [UNKNOWN], [KNOWN])
    async with served.asked_by("nl") as stub:
        call = stub.LookupStream(timeout=PATIENCE_S)
        await call.write(call_of(asker.credential, chunks[0][1]))
        answer, _ = read(served, await call.read())  # type: ignore[arg-type]
        assert answer.hits
        memory.remove("nl")
        await call.write(call_of(asker.credential, chunks[1][1]))
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_peer_that_vanishes_mid_stream_leaves_nothing_running(
    served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator
) -> None:
    before = asyncio.all_tasks()
    chunks = memory.chunks(asker, *[[KNOWN]] * 10)
    async with served.asked_by("nl") as stub:
        call = stub.LookupStream(timeout=PATIENCE_S)
        for _, envelope in chunks[:3]:
            await call.write(call_of(asker.credential, envelope))
        await call.read()
    working = [task for task in asyncio.all_tasks() - before if "vidfed/node" in repr(task)]
    await asyncio.wait_for(asyncio.gather(*working, return_exceptions=True), PATIENCE_S)
    async with served.asked_by("nl") as stub:
        answer, _ = read(served, await stub.Lookup(call_of(asker.credential, memory.sign(memory.request(asker, [KNOWN]), asker))))
        assert answer.hits


async def test_a_node_that_stops_ends_streams_after_what_it_has_read(
    node: MemoryNode, memory: MemoryFederation, asker: MemoryInvestigator
) -> None:
    chunks = memory.chunks(asker, [KNOWN], [UNKNOWN])
    async with serve_node(node, drain_s=PATIENCE_S) as served, served.asked_by("nl") as stub:
        call = stub.LookupStream(timeout=PATIENCE_S)
        await call.write(call_of(asker.credential, chunks[0][1]))
        await call.read()
        served.servicer.stop()
        with pytest.raises(grpc.aio.AioRpcError, match="go on in a new call"):
            await call.read()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_oversize_message(served: ServedNode, memory: MemoryFederation, asker: MemoryInvestigator) -> None:
    limit = dict(SERVER_OPTIONS)["grpc.max_receive_message_length"]
    ((_, envelope),) = memory.chunks(asker, [KNOWN])
    large = call_of(asker.credential, envelope)
    large.request.payload = bytes(limit)
    async with served.asked_by("nl") as stub:
        call = stub.LookupStream(timeout=PATIENCE_S)
        with contextlib.suppress(grpc.aio.AioRpcError):  # said at once, or when the answer is read
            await call.write(large)
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
    assert served.node.logged() == 0


async def test_more_streams_than_a_member_may_have_are_refused_signed(
    node: MemoryNode, memory: MemoryFederation, asker: MemoryInvestigator
) -> None:
    (_, first), (_, other) = memory.chunks(asker, [KNOWN], [KNOWN])[0], memory.chunks(asker, [KNOWN])[0]
    async with serve_node(node, bounds=AdmissionLimits(streams_of_member=1)) as served, served.asked_by("nl") as stub:
        running = stub.LookupStream(timeout=PATIENCE_S)
        await running.write(call_of(asker.credential, first))
        await running.read()
        refused = stub.LookupStream(timeout=PATIENCE_S)
        await refused.write(call_of(asker.credential, other))
        answer, envelope = read(served, await refused.read())  # type: ignore[arg-type]
        assert (answer.header.status, answer.header.request_digest) == (Status.BUSY, other.digest)
        AnswerOrder().accept(answer.header, envelope.digest)
        assert await refused.read() is grpc.aio.EOF
        running.cancel()


def one_call(memory: MemoryFederation, asker: MemoryInvestigator) -> LookupCall:
    return call_of(asker.credential, memory.sign(memory.request(asker, [KNOWN]), asker))


async def test_calls_that_one_member_holds_do_not_take_the_places_of_others(
    node: MemoryNode, memory: MemoryFederation, asker: MemoryInvestigator
) -> None:
    of_fr = memory.investigator("fr")
    (_, chunk), _ = memory.chunks(asker, [KNOWN], [KNOWN])
    async with (
        serve_node(node, bounds=AdmissionLimits(calls_of_member=1)) as served,
        served.asked_by("nl") as stub,
        served.asked_by("fr") as other,
    ):
        held = stub.LookupStream(timeout=PATIENCE_S)
        await held.write(call_of(asker.credential, chunk))
        await held.read()
        with pytest.raises(grpc.aio.AioRpcError) as crowded:
            await stub.Lookup(one_call(memory, asker), timeout=PATIENCE_S)
        assert crowded.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert read(served, await other.Lookup(one_call(memory, of_fr), timeout=PATIENCE_S))[0].hits
        held.cancel()
        while True:  # until the node knows
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert read(served, await stub.Lookup(one_call(memory, asker), timeout=PATIENCE_S))[0].hits
                break


async def test_a_stream_that_finds_no_place_and_says_nothing_is_ended(
    node: MemoryNode, memory: MemoryFederation, asker: MemoryInvestigator, caplog: pytest.LogCaptureFixture
) -> None:
    (_, chunk), _ = memory.chunks(asker, [KNOWN], [KNOWN])
    async with serve_node(node, bounds=AdmissionLimits(streams_of_member=1, wait_s=0.1)) as served, served.asked_by("nl") as stub:
        held = stub.LookupStream(timeout=PATIENCE_S)
        await held.write(call_of(asker.credential, chunk))
        await held.read()
        silent = stub.LookupStream(timeout=PATIENCE_S)
        assert await silent.read() is grpc.aio.EOF
        for _ in range(2):
            late = stub.LookupStream(timeout=PATIENCE_S)
            await late.write(call_of(asker.credential, chunk))
            await late.read()
        held.cancel()
    assert caplog.text.count("refused BUSY to nl") == 1


async def test_a_node_with_too_much_waiting_says_busy_signed_and_answers_the_others(
    node: MemoryNode, memory: MemoryFederation, asker: MemoryInvestigator, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching, go_on = threading.Event(), threading.Event()
    search = Catalogue.search

    def slowly(*arguments: object, **options: object) -> object:
        searching.set()
        go_on.wait(PATIENCE_S)
        return search(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Catalogue, "search", slowly)
    calls = [one_call(memory, asker) for _ in range(8)]
    async with serve_node(node, bounds=AdmissionLimits(groups=1, group=1, waiting_of_member=2)) as served, served.asked_by("nl") as stub:
        asked = [asyncio.create_task(_ask(stub, call)) for call in calls]
        await asyncio.to_thread(searching.wait, PATIENCE_S)
        busy, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        answers = [read(served, await answer)[0] for answer in asked]
    assert busy
    assert {answer.header.status for answer in answers} == {Status.ANSWERED, Status.BUSY}
    assert all(answer.hits for answer in answers if answer.header.status is Status.ANSWERED)
    assert all(answer.log is None for answer in answers if answer.header.status is Status.BUSY)
    assert served.node.logged() == sum(answer.header.status is Status.ANSWERED for answer in answers)


async def _ask(stub: rpc.NodeServiceAsyncStub, call: LookupCall) -> EnvelopeMessage:
    return await stub.Lookup(call, timeout=PATIENCE_S)
