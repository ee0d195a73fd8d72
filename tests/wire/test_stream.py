"""Chains of chunks and of answers: whatever happens to them on the way is noticed, and nothing else is."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.memory import MemoryFederation
from tests.support.streams import AnswerOrder
from vidfed.index import Algorithm, Hash
from vidfed.wire.requests import read_request
from vidfed.wire.statuses import SequenceError, Status
from vidfed.wire.stream import ChunkChain, ChunkOrder
from vidfed.wire.values import STREAM_METHOD, AnswerHeader, StreamPosition

LENGTH = 5


def digest(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


def positions(stream: int, length: int = LENGTH) -> list[tuple[StreamPosition, bytes]]:
    """A whole stream's places, each with the digest of its chunk."""
    digests = [digest(100 * stream + number) for number in range(length)]
    return [
        (StreamPosition(bytes([stream]) * 16, number, number == length - 1, digests[number - 1] if number else b""), digests[number])
        for number in range(length)
    ]


def answer(sequence: int, previous: bytes, *, last: bool = False, status: Status = Status.ANSWERED) -> AnswerHeader:
    return AnswerHeader("f", "fr", "nl", bytes(32), STREAM_METHOD, 0, status, sequence=sequence, last=last, previous_digest=previous)


def accepted(chunks: list[tuple[StreamPosition, bytes]]) -> bool:
    order = ChunkOrder()
    try:
        for position, own in chunks:
            order.accept(position, own)
        order.finish()
    except SequenceError:
        return False
    return True


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, LENGTH - 1)), min_size=1, max_size=8))
def test_only_the_rest_of_one_stream_in_order_is_accepted(taken: list[tuple[int, int]]) -> None:
    streams = [positions(0), positions(1)]
    stream, first = taken[0]
    assert accepted([streams[one][number] for one, number in taken]) == (taken == [(stream, number) for number in range(first, LENGTH)])


@pytest.mark.parametrize("first", range(LENGTH))
def test_a_call_may_begin_at_any_chunk(first: int) -> None:
    assert accepted(positions(0)[first:])


def test_a_stream_that_ends_without_its_last_chunk_was_cut() -> None:
    assert not accepted(positions(0)[:-1])
    assert not accepted([])


def test_signed_chunks_continue_each_other_and_are_read_back() -> None:
    federation = MemoryFederation()
    federation.add("nl")
    asker = federation.investigator("nl")
    chain, order = ChunkChain(), ChunkOrder()
    for number in range(3):
        request = federation.request(asker, [Hash(Algorithm.MD5, bytes(16))], method=STREAM_METHOD)
        placed, envelope = chain.sign(request, asker.signer, last=number == 2)
        assert len(chain) == number + 1
        read = read_request(envelope.payload)
        assert read.stream == placed.stream
        assert read.stream is not None
        order.accept(read.stream, envelope.digest)
    order.finish()
    with pytest.raises(ValueError, match="last chunk"):
        chain.sign(request, asker.signer)


@given(st.integers(0, 3), st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_only_the_answers_of_one_call_in_order_are_accepted(first: int, taken: list[int]) -> None:
    order = AnswerOrder(first)
    whole = list(range(first, 6))
    try:
        for sequence in taken:
            order.accept(answer(sequence, digest(sequence - 1) if sequence > first else b"", last=sequence == 5), digest(sequence))
        order.finish()
    except SequenceError:
        assert taken != whole
    else:
        assert taken == whole


def test_an_answer_of_another_call_does_not_continue_this_one() -> None:
    order = AnswerOrder()
    order.accept(answer(0, b""), digest(0))
    with pytest.raises(SequenceError, match="does not continue"):
        order.accept(answer(1, b""), digest(1))


def test_a_refusal_that_ends_the_stream_need_not_know_which_chunk_it_was() -> None:
    order = AnswerOrder(4)
    order.accept(answer(0, b"", last=True, status=Status.BAD_SIGNATURE), digest(0))
    order.finish()
    with pytest.raises(SequenceError, match="after the last"):
        order.accept(answer(5, digest(0)), digest(1))


@pytest.mark.parametrize(("status", "last"), [(Status.ANSWERED, True), (Status.ANSWERED, False), (Status.RATE_LIMITED, False)])
def test_any_other_answer_must_know(status: Status, *, last: bool) -> None:
    with pytest.raises(SequenceError, match="was due"):
        AnswerOrder(4).accept(answer(0, b"", last=last, status=status), digest(0))


def test_a_chunk_after_the_last_is_out_of_sequence() -> None:
    """Also one that continues it in number and digest."""
    order = ChunkOrder()
    order.accept(StreamPosition(bytes(16), 0, True, b""), digest(0))
    with pytest.raises(SequenceError, match="after the last"):
        order.accept(StreamPosition(bytes(16), 1, True, digest(0)), digest(1))
