"""Attacks on streams of questions, by name: whatever is done to the chunks, none of them is ever answered with a false "no hit"."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from tests.node.lookup.conftest import KNOWN, UNKNOWN
from tests.support.memory import ANSWERING, MemoryFederation, MemoryNode, call_of
from tests.support.patience import PATIENCE_S
from tests.support.streams import AnswerOrder, fork
from vidfed.federation.lookup.question import Part
from vidfed.federation.lookup.verification import SignedPart, verify_answer
from vidfed.node.lookup.authenticate import UnknownPeerError
from vidfed.node.lookup.streams import StoppingError
from vidfed.node.policy.policy import Limits, Policy
from vidfed.node.records.record import Record
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.wire.answers import read_answer
from vidfed.wire.requests import write_request
from vidfed.wire.statuses import SequenceError, Status
from vidfed.wire.stream import ChunkChain
from vidfed.wire.values import ANSWER_TYPE, LOOKUP_METHOD, MAX_UNANSWERED_CHUNKS, REQUEST_TYPE, STREAM_METHOD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator
    from vidfed.index import Hash
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupAnswer, LookupRequest

PARTS = ([KNOWN], [UNKNOWN], [UNKNOWN, KNOWN], [KNOWN])


class Call:
    """One call of a stream to a node, as the asker sees it: what was answered, verified, and how it ended."""

    def __init__(self, node: MemoryNode, asker: MemoryInvestigator, *, first: int = 0, peer: str = "nl") -> None:
        self.node = node
        self.asker = asker
        self.order = AnswerOrder(first)
        self.peer = peer
        self.answers: list[LookupAnswer] = []
        self.asked: dict[bytes, LookupRequest] = {}

    async def send(self, chunks: Iterable[tuple[LookupRequest, Envelope]]) -> list[Status]:
        async def arriving() -> AsyncIterator[LookupCall]:
            for request, envelope in chunks:
                self.asked[envelope.digest] = request
                yield call_of(self.asker.credential, envelope)

        async for envelope in self.node.stream(arriving(), self.peer):
            self.take(envelope)
        return self.statuses

    def take(self, envelope: Envelope) -> None:
        digest = read_answer(envelope.verify(ANSWER_TYPE, self.node.member.entry.signing_keys)).header.request_digest
        request = self.asked[digest]
        asked = SignedPart(Part((), request.columns), request, digest)
        _, answer = verify_answer(envelope, member=self.node.member.entry, pending={digest: asked}, now_ms=self.node.federation.clock())
        self.order.accept(answer.header, envelope.digest)
        self.answers.append(answer)

    @property
    def statuses(self) -> list[Status]:
        return [answer.header.status for answer in self.answers]

    @property
    def hits(self) -> list[list[int]]:
        return [[hit.item for hit in answer.hits] for answer in self.answers]


@pytest.fixture
def call(node: MemoryNode, asker: MemoryInvestigator) -> Call:
    return Call(node, asker)


async def test_an_honest_stream_is_answered_chunk_by_chunk(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert await call.send(federation.chunks(asker, *PARTS)) == [Status.ANSWERED] * 4
    assert call.hits == [[0], [], [1], [0]]
    assert [answer.header.sequence for answer in call.answers] == [0, 1, 2, 3]
    call.order.finish()
    assert call.node.logged() == 4


async def test_a_stream_is_one_lookup_of_the_budget_and_each_call_that_goes_on_with_it_is_another(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    """Whatever number its first chunk claims: else whoever begins every stream in its middle would never have asked."""
    node.policy.policy = Policy((replace(ANSWERING, limits=Limits(lookups_per_minute=2)),))
    assert await Call(node, asker).send(federation.chunks(asker, *PARTS)) == [Status.ANSWERED] * 4
    chunks = federation.chunks(asker, *PARTS)
    assert await Call(node, asker, first=2).send(chunks[2:]) == [Status.ANSWERED] * 2
    assert await Call(node, asker, first=3).send(federation.chunks(asker, *PARTS)[3:]) == [Status.RATE_LIMITED]


async def test_stream_truncated(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """`last` is missing: what came is answered, the end is an error, and the asker sees that it is not the end."""
    with pytest.raises(SequenceError, match="cut: it ended where chunk 3 was due"):
        await call.send(federation.chunks(asker, *PARTS)[:3])
    assert call.statuses == [Status.ANSWERED] * 3
    with pytest.raises(SequenceError, match="the answer to chunk 3 is missing"):
        call.order.finish()


async def test_a_stream_without_a_chunk(call: Call) -> None:
    with pytest.raises(SequenceError, match="cut"):
        await call.send([])


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ((0, 2, 1, 3), "chunk 2 where chunk 1 was due"),
        ((0, 1, 3), "chunk 3 where chunk 2 was due"),
        ((0, 1, 1, 2, 3), "chunk 1 where chunk 2 was due"),
        ((0, 1, 0), "chunk 0 where chunk 2 was due"),
    ],
    ids=["chunks reordered", "chunk dropped", "chunk repeated", "stream begun again"],
)
async def test_chunks_that_do_not_follow_each_other(
    call: Call, federation: MemoryFederation, asker: MemoryInvestigator, places: tuple[int, ...], said: str
) -> None:
    chunks = federation.chunks(asker, *PARTS)
    statuses = await call.send(chunks[place] for place in places)
    assert statuses[-1] is Status.OUT_OF_SEQUENCE
    assert set(statuses[:-1]) == {Status.ANSWERED}
    assert said in call.answers[-1].header.detail
    assert call.answers[-1].header.last  # nothing is answered after that


async def test_chunk_of_another_stream_spliced_in(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    one, other = federation.chunks(asker, *PARTS), federation.chunks(asker, *PARTS)
    assert await call.send([one[0], other[1], one[1]]) == [Status.ANSWERED, Status.OUT_OF_SEQUENCE]
    assert "another stream" in call.answers[-1].header.detail


async def test_chunk_exchanged_for_another_of_the_same_number(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """Signed again, chunk 1 is another chunk 1, and chunk 2 of before does not continue it."""
    chain, signers = ChunkChain(), (asker.signer, federation.members["nl"].signer)

    def signed(entry: Hash, chain: ChunkChain) -> tuple[LookupRequest, Envelope]:
        return chain.sign(federation.request(asker, [entry], method=STREAM_METHOD), *signers)

    first = signed(KNOWN, chain)
    other = fork(chain)
    before = [first, signed(KNOWN, chain), signed(KNOWN, chain)]
    again = signed(UNKNOWN, other)
    assert await call.send([before[0], again, before[2]]) == [Status.ANSWERED, Status.ANSWERED, Status.OUT_OF_SEQUENCE]
    assert "does not continue" in call.answers[-1].header.detail


async def test_a_chunk_after_the_last_is_not_read(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert await call.send(federation.chunks(asker, [KNOWN]) + federation.chunks(asker, [KNOWN])) == [Status.ANSWERED]


async def test_long_stream_after_removal(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """A member taken out of the directory while its stream runs is owed nothing from its next chunk on."""

    def removed_meanwhile() -> Iterator[tuple[LookupRequest, Envelope]]:
        chunks = federation.chunks(asker, *PARTS)
        yield from chunks[:2]
        federation.remove("nl")
        yield from chunks[2:]

    with pytest.raises(UnknownPeerError):
        await call.send(removed_meanwhile())
    assert len(call.answers) <= 2


async def test_enumeration_by_a_stream(federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    """A refusal after a chunk has its place is one answer among others: the rate is judged anew for each chunk."""
    with MemoryNode(federation, "fr", tmp_path, replace(ANSWERING, limits=Limits(hashes_per_minute=2))) as node:
        node.hold(Record({KNOWN.algorithm: KNOWN.code}))
        call = Call(node, asker)
        statuses = await call.send(federation.chunks(asker, *PARTS))
        assert statuses == [Status.ANSWERED, Status.ANSWERED, Status.RATE_LIMITED, Status.RATE_LIMITED]
        assert call.hits == [[0], [], [], []]
        call.order.finish()


async def test_replay_of_a_whole_stream(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """The same bytes in another call are refused, each signed, and nothing in the refusal can be taken for an answer."""
    chunks = federation.chunks(asker, *PARTS)
    assert await Call(node, asker).send(chunks) == [Status.ANSWERED] * 4
    again = Call(node, asker)
    assert await again.send(chunks) == [Status.REPLAYED] * 4
    assert all(answer.header.index is None for answer in again.answers)
    again.order.finish()


async def test_a_broken_stream_goes_on_at_any_chunk_signed_again(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    chain, signers = ChunkChain(), (asker.signer, federation.members["nl"].signer)

    def signed(number: int, chain: ChunkChain) -> tuple[LookupRequest, Envelope]:
        request = federation.request(asker, PARTS[number], method=STREAM_METHOD)
        return chain.sign(request, *signers, last=number == 3)

    broken = Call(node, asker)
    begun = [signed(0, chain), signed(1, chain)]
    again = fork(chain)
    with pytest.raises(SequenceError):
        await broken.send([*begun, signed(2, chain)])  # say that the answer to chunk 2 was lost
    resumed = Call(node, asker, first=2)
    assert await resumed.send([signed(2, again), signed(3, again)]) == [Status.ANSWERED, Status.ANSWERED]
    assert resumed.hits == [[1], [0]]
    resumed.order.finish()


async def test_a_resent_chunk_is_refused_and_the_stream_goes_on(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    """A gateway that cannot sign again may send the same bytes: what the node saw before is refused, what it did not is answered."""
    chunks = federation.chunks(asker, *PARTS)
    with pytest.raises(SequenceError):
        await Call(node, asker).send(chunks[:3])
    resumed = Call(node, asker, first=2)
    assert await resumed.send(chunks[2:]) == [Status.REPLAYED, Status.ANSWERED]


async def test_other_method(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """A lookup sent as a chunk, a chunk sent as a lookup, and either with the other's name on it."""
    lookup = federation.request(asker, [KNOWN])
    unplaced = federation.request(asker, [KNOWN], method=STREAM_METHOD)
    ((chunk, _),) = federation.chunks(asker, [KNOWN])
    ((misnamed, _),) = federation.chunks(asker, [KNOWN], method=LOOKUP_METHOD)
    for request in (lookup, unplaced, misnamed):
        call = call_of(asker.credential, federation.sign(request, asker))

        async def arriving(call: LookupCall = call) -> AsyncIterator[LookupCall]:
            yield call

        (envelope,) = [answer async for answer in node.stream(arriving(), "nl")]
        assert read_answer(envelope.payload).header.status is Status.WRONG_METHOD
    for request in (chunk, unplaced, misnamed):
        call = call_of(asker.credential, federation.sign(request, asker))
        assert read_answer(node.ask(call, "nl").payload).header.status is Status.WRONG_METHOD


async def test_one_of_two_signatures_missing_on_one_chunk(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    chunks = federation.chunks(asker, *PARTS)
    request, envelope = chunks[1]
    stripped = replace(envelope, signatures=envelope.signatures[:1])
    assert await call.send([chunks[0], (request, stripped), *chunks[2:]]) == [Status.ANSWERED, Status.BAD_SIGNATURE]
    assert call.answers[-1].header.last


async def test_a_chunk_of_another_person_in_the_same_stream(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """Each chunk is signed by the person its credential names: a gateway cannot go on with a stream in somebody's name."""
    chunks = federation.chunks(asker, *PARTS)
    request = replace(federation.request(asker, [KNOWN], method=STREAM_METHOD), stream=chunks[1][0].stream)
    forged = Envelope(REQUEST_TYPE, write_request(request)).signed_by(SigningKey.generate(), federation.members["nl"].signer)
    assert await call.send([chunks[0], (request, forged)]) == [Status.ANSWERED, Status.BAD_SIGNATURE]


async def test_a_chunk_that_waited_too_long(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    early = federation.chunks(asker, *PARTS)
    federation.clock.advance(WINDOW_MS + 1)
    assert await call.send(early) == [Status.OUTSIDE_TIME_WINDOW] * 4


async def test_a_peer_that_does_not_read_its_answers_is_not_read_from(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[LookupCall]:
        nonlocal sent
        chain, signers = ChunkChain(), (asker.signer, federation.members["nl"].signer)
        while True:
            _, envelope = chain.sign(federation.request(asker, [KNOWN], method=STREAM_METHOD), *signers)
            sent += 1
            yield call_of(asker.credential, envelope)

    answers = node.stream(endless(), "nl")
    for taken in range(1, 4):
        await anext(answers)
        assert sent <= taken + MAX_UNANSWERED_CHUNKS
    await asyncio.wait_for(answers.aclose(), PATIENCE_S)
    assert node.logged() <= 3 + MAX_UNANSWERED_CHUNKS


async def test_a_node_that_stops_answers_what_it_read_and_says_that_it_stops(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    stopping, forever = asyncio.Event(), asyncio.Event()
    chunks = federation.chunks(asker, *PARTS)

    async def arriving() -> AsyncIterator[LookupCall]:
        for _, envelope in chunks[:2]:
            yield call_of(asker.credential, envelope)
        stopping.set()
        await forever.wait()

    answers = node.stream(arriving(), "nl", stopping)
    headers = [read_answer((await anext(answers)).payload).header for _ in range(2)]
    assert [(header.sequence, header.status, header.last) for header in headers] == [
        (0, Status.ANSWERED, False),
        (1, Status.ANSWERED, False),
    ]
    with pytest.raises(StoppingError):
        await anext(answers)


async def test_directory_that_expires_mid_stream(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    def expiring() -> Iterator[tuple[LookupRequest, Envelope]]:
        chunks = federation.chunks(asker, *PARTS)
        yield chunks[0]
        federation.expires_ms = federation.clock()
        yield chunks[1]

    assert (await call.send(expiring()))[-1] is Status.DIRECTORY_UNAVAILABLE
    assert call.answers[-1].header.last


async def test_audit_that_cannot_be_written_mid_stream(call: Call, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call.node.audit.close()
    assert await call.send(federation.chunks(asker, *PARTS)) == [Status.AUDIT_UNAVAILABLE] * 4
    assert call.hits == [[], [], [], []]


async def test_the_fifth_chunk_is_read_only_after_an_answer_is_taken(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is taken when the next one is asked for: handed to a transport whose peer does not read, it still takes up its place."""
    waits = asyncio.Event()
    read = 0

    class Room(asyncio.Semaphore):
        async def acquire(self) -> Literal[True]:
            if self.locked():
                waits.set()
            return await super().acquire()

        def release(self) -> None:
            waits.clear()
            super().release()

    async def arriving() -> AsyncIterator[LookupCall]:
        nonlocal read
        for _, envelope in federation.chunks(asker, *[[KNOWN]] * (3 * MAX_UNANSWERED_CHUNKS)):
            read += 1
            yield call_of(asker.credential, envelope)
        waits.set()

    monkeypatch.setattr(asyncio, "Semaphore", Room)
    answers = node.stream(arriving(), "nl")
    for taken in range(4):
        await anext(answers)
        await waits.wait()
        assert read == MAX_UNANSWERED_CHUNKS + taken
    await answers.aclose()
