"""Requests and answers on the wire: what is written is read back, and nothing that is not of the stated form is read at all."""

from __future__ import annotations

import contextlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory import MemoryFederation, columns_of
from vidfed.index import Algorithm, Hash
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.answers import answer_digest, read_answer, write_answer
from vidfed.wire.records import read_record, write_record
from vidfed.wire.requests import read_request, write_request
from vidfed.wire.statuses import MalformedError, Status, VersionError, WireError
from vidfed.wire.values import (
    MAX_AUDIENCE,
    MAX_ITEMS,
    MAX_MESSAGE_BYTES,
    MAX_TEXT,
    MAX_WORK,
    RECORD_BANDS,
    AnswerHeader,
    HandlingCode,
    HashColumn,
    Hit,
    IndexState,
    LogReceipt,
    LookupAnswer,
    LookupRequest,
    Match,
    Purpose,
    RecordView,
    RequestHeader,
    Searched,
    StreamPosition,
    Ternary,
    Urgency,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=20).filter(str.isprintable)
int64 = st.integers(-(2**63), 2**63 - 1)
uint64 = st.integers(0, 2**64 - 1)
uint32 = st.integers(0, 2**32 - 1)
algorithms = st.sampled_from(Algorithm)
searched = st.builds(Searched, algorithms, uint32)


@st.composite
def columns(draw: st.DrawFn, item_count: int) -> tuple[HashColumn, ...]:
    made = []
    for algorithm in draw(st.lists(algorithms, min_size=1, max_size=4, unique=True)):
        items = draw(st.lists(st.integers(0, item_count - 1), min_size=1, max_size=5))
        codes = draw(st.binary(min_size=len(items) * algorithm.code_bytes, max_size=len(items) * algorithm.code_bytes))
        shaped = np.frombuffer(codes, dtype=np.uint8).reshape(len(items), algorithm.code_bytes)
        made.append(HashColumn(algorithm, shaped, np.array(items, dtype=np.uint32), draw(uint32)))
    return tuple(made)


@st.composite
def requests(draw: st.DrawFn) -> LookupRequest:
    header = RequestHeader(
        federation=draw(texts),
        issuer=draw(texts),
        audience=tuple(draw(st.lists(texts, max_size=4))),
        message_id=draw(st.binary(min_size=16, max_size=16)),
        issued_ms=draw(int64),
        expires_ms=draw(int64),
        method=draw(texts),
        directory_version=draw(uint64),
        purpose=draw(st.sampled_from([None, *Purpose])),
        legal_basis=draw(texts),
        offence_type=draw(texts),
        case_reference=draw(texts),
        pseudonym=draw(texts),
        urgency=draw(st.sampled_from(Urgency)),
    )
    item_count = draw(st.integers(1, 50))
    return LookupRequest(header, item_count, draw(columns(item_count)), draw(st.none() | positions()))


@st.composite
def positions(draw: st.DrawFn) -> StreamPosition:
    number = draw(uint32)
    return StreamPosition(draw(st.binary(min_size=16, max_size=16)), number, draw(st.booleans()), bytes(32) if number else b"")


ternaries = st.sampled_from(Ternary)
records = st.builds(
    RecordView,
    reference=texts,
    series=texts,
    tags=st.lists(texts, max_size=3).map(tuple),
    victim_identified=ternaries,
    offender_identified=ternaries,
    distributed=ternaries,
    case_reference=texts,
    case_contact=texts,
    handling_code=st.sampled_from(HandlingCode),
    handling_note=texts,
    category=texts,
    category_scale=texts,
    category_region=texts,
    source_grading=texts,
    information_grading=texts,
)
banded = st.builds(
    lambda algorithm, distance, code, slack, compared: Match(
        algorithm, distance, code, min(slack, distance), compared=compared % algorithm.parts if algorithm.is_perceptual else 0
    ),
    algorithms,
    *[uint32] * 4,
)
matches = st.lists(banded, min_size=1, max_size=3).map(tuple)
headers = st.builds(
    AnswerHeader,
    federation=texts,
    issuer=texts,
    audience=texts,
    request_digest=st.binary(min_size=32, max_size=32),
    method=texts,
    answered_ms=int64,
    status=st.just(Status.ANSWERED),
    detail=texts,
    index=st.none()
    | st.builds(
        IndexState,
        uint64,
        int64,
        int64,
        st.lists(searched, max_size=3).map(tuple),
        st.sampled_from(RECORD_BANDS),
        st.none() | st.integers(0, 2**63 - 1),
        st.booleans(),
    ),
    sequence=uint32,
    last=st.booleans(),
    previous_digest=st.sampled_from([b"", bytes(32)]),
)


@st.composite
def answers(draw: st.DrawFn) -> LookupAnswer:
    held = tuple(draw(st.lists(records, max_size=3)))
    found = st.builds(Hit, uint32, st.integers(0, len(held) - 1), matches)
    hits = tuple(draw(st.lists(found, max_size=4))) if held else ()
    return LookupAnswer(draw(headers), held, hits, tuple(draw(st.lists(uint32, max_size=3))), draw(receipts))


receipts = st.none() | st.builds(LogReceipt, uint64, st.binary(min_size=32, max_size=32), texts)


def same(one: LookupRequest, other: LookupRequest) -> bool:
    parts = [(request.header, request.item_count, len(request.columns), request.stream) for request in (one, other)]
    return parts[0] == parts[1] and all(
        (a.algorithm, a.max_distance) == (b.algorithm, b.max_distance)
        and np.array_equal(a.codes, b.codes)
        and np.array_equal(a.items, b.items)
        for a, b in zip(one.columns, other.columns, strict=True)
    )


@settings(max_examples=50)
@given(requests())
def test_a_request_is_read_back_as_it_was_written(request: LookupRequest) -> None:
    assert same(read_request(write_request(request)), request)


@settings(max_examples=50)
@given(answers())
def test_an_answer_is_read_back_as_it_was_written(answer: LookupAnswer) -> None:
    assert read_answer(write_answer(answer)) == answer


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_wire_errors(payload: bytes) -> None:
    for read in (read_request, read_answer):
        with pytest.raises(WireError):
            read(payload)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_message_raises_nothing_but_wire_errors(data: st.DataObject) -> None:
    payload = bytearray(REQUEST.SerializeToString() if data.draw(st.booleans()) else ANSWER.SerializeToString())
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, len(payload) - 1), st.integers(0, 255)), min_size=1, max_size=4)):
        payload[position] = value
    del payload[data.draw(st.integers(0, len(payload))) :]
    for read in (read_request, read_answer):
        with contextlib.suppress(WireError):
            read(bytes(payload))


def _full_request() -> pb.LookupRequest:
    federation = MemoryFederation()
    federation.add("nl")
    asker = federation.investigator("nl")
    request = federation.request(asker, [Hash(Algorithm.PDQ, bytes(32)), Hash(Algorithm.MD5, bytes(16))])
    request = replace(request, stream=StreamPosition(bytes(16), 1, previous_digest=bytes(32)))
    return pb.LookupRequest.FromString(write_request(request))


def _full_answer() -> pb.LookupAnswer:
    index = IndexState(1, 1, 1, (Searched(Algorithm.PDQ, 31),), 1_000)
    header = AnswerHeader("f", "nl", "fr", bytes(32), "m", 1, Status.ANSWERED, "d", index, 1)
    receipt = LogReceipt(7, bytes(32), "note")
    hit = Hit(0, 0, (Match(Algorithm.PDQ, 3, 0),))
    return pb.LookupAnswer.FromString(write_answer(LookupAnswer(header, (RecordView("r", tags=("a",)),), (hit,), (0,), receipt)))


REQUEST, ANSWER = _full_request(), _full_answer()


def nested(message: Message, path: str = "") -> Iterator[tuple[str, Message]]:
    """Yield every message inside this one, itself first."""
    yield path or "itself", message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                yield from nested(part, f"{path}.{field.name}")


def smuggled(message: Message, path: str) -> bytes:
    """The message with a field 999 added to the nested message at `path`."""
    copy = type(message)()
    copy.CopyFrom(message)
    inner = dict(nested(copy))[path]
    inner.MergeFromString(bytes([0xBA, 0x3E, 0x02]) + b"hi")  # field 999, length-delimited
    return copy.SerializeToString()


@pytest.mark.parametrize("path", sorted(dict(nested(REQUEST))))
def test_unknown_field_smuggled_into_a_request(path: str) -> None:
    with pytest.raises(VersionError, match="does not know"):
        read_request(smuggled(REQUEST, path))


@pytest.mark.parametrize("path", sorted(dict(nested(ANSWER))))
def test_unknown_field_smuggled_into_an_answer(path: str) -> None:
    with pytest.raises(VersionError, match="does not know"):
        read_answer(smuggled(ANSWER, path))


def test_the_messages_these_attacks_start_from_are_good_and_deep() -> None:
    read_request(REQUEST.SerializeToString())
    read_answer(ANSWER.SerializeToString())
    assert {path for path, _ in nested(REQUEST)} == {"itself", ".header", ".columns", ".stream"}
    header = {"itself", ".header", ".header.index", ".header.index.searched"}
    assert {path for path, _ in nested(ANSWER)} == header | {".records", ".hits", ".hits.matches", ".log"}


def changed_request(**header: object) -> bytes:
    return write_request(replace(good_request(), header=replace(good_request().header, **header)))  # type: ignore[arg-type]


def good_request() -> LookupRequest:
    return read_request(REQUEST.SerializeToString())


def request_with(change: str) -> bytes:  # noqa: C901, PLR0912, PLR0915 - one case for each thing that can be wrong
    """A good request with one thing wrong, for what the values themselves would not let through."""
    message = pb.LookupRequest()
    message.CopyFrom(REQUEST)
    column = message.columns[0]
    match change:
        case "code too short":
            column.codes = column.codes[:-1]
        case "code too long":
            column.codes += b"\0"
        case "more codes than items":
            column.codes += bytes(32)
        case "more items than codes":
            column.items.append(0)
        case "no code":
            column.codes, column.items[:] = b"", []
        case "no column":
            del message.columns[:]
        case "item beyond those announced":
            column.items[0] = 2
        case "no item announced":
            message.item_count = 0
        case "algorithm twice":
            message.columns.add().CopyFrom(column)
        case "message id too short":
            message.header.message_id = bytes(15)
        case "message id too long":
            message.header.message_id = bytes(17)
        case "too many codes":
            column.codes, column.items[:] = bytes(32 * (MAX_WORK + 1)), [0] * (MAX_WORK + 1)
        case "too many members asked":
            message.header.audience[:] = ["nl"] * (MAX_AUDIENCE + 1)
        case "text too long":
            message.header.case_reference = "x" * (MAX_TEXT + 1)
        case "control characters":
            message.header.legal_basis = "law\x1b[2J"
        case "text that turns around":
            message.header.legal_basis = "law \u202e"
        case "line break":
            message.header.pseudonym = "inv-1\nroot"
        case "too large":
            message.header.case_reference = "x" * MAX_MESSAGE_BYTES
        case "stream id too short":
            message.stream.stream_id = bytes(15)
        case "chunk without the digest of the one before":
            message.stream.previous_digest = b""
        case "first chunk with a digest of one before":
            message.stream.number = 0
        case "digest too long":
            message.stream.previous_digest = bytes(33)
        case "no header":
            message.ClearField("header")
        case _:
            raise AssertionError(change)
    return message.SerializeToString()


@pytest.mark.parametrize(
    "change",
    [
        "code too short",
        "code too long",
        "more codes than items",
        "more items than codes",
        "no code",
        "no column",
        "item beyond those announced",
        "no item announced",
        "algorithm twice",
        "message id too short",
        "message id too long",
        "too many codes",
        "too many members asked",
        "text too long",
        "control characters",
        "text that turns around",
        "line break",
        "too large",
        "stream id too short",
        "chunk without the digest of the one before",
        "first chunk with a digest of one before",
        "digest too long",
        "no header",
    ],
)
def test_a_request_with_one_thing_wrong_is_malformed(change: str) -> None:
    with pytest.raises(MalformedError):
        read_request(request_with(change))


def test_as_many_codes_as_are_allowed_are_read() -> None:
    request = replace(good_request(), item_count=MAX_ITEMS, columns=columns_of([Hash(Algorithm.PHOTODNA, bytes(144))] * MAX_ITEMS))
    payload = write_request(request)
    assert len(payload) < MAX_MESSAGE_BYTES
    assert len(read_request(payload).columns[0].codes) == MAX_ITEMS


def test_a_missing_purpose_is_read_as_none_for_the_pipeline_to_refuse() -> None:
    assert read_request(changed_request(purpose=None)).header.purpose is None


@pytest.mark.parametrize(("field", "value"), [("purpose", 99), ("purpose", -1), ("urgency", 0), ("urgency", 99)])
def test_an_unknown_number_in_a_header_is_of_another_version(field: str, value: int) -> None:
    message = pb.LookupRequest()
    message.CopyFrom(REQUEST)
    setattr(message.header, field, value)
    with pytest.raises(VersionError):
        read_request(message.SerializeToString())


@pytest.mark.parametrize("number", [0, 10, 99, -1])
def test_an_unknown_algorithm_is_of_another_version(number: int) -> None:
    message = pb.LookupRequest()
    message.CopyFrom(REQUEST)
    message.columns[0].algorithm = number  # type: ignore[assignment]  # what a later version would send
    with pytest.raises(VersionError):
        read_request(message.SerializeToString())


def answer_with(change: str) -> bytes:
    message = pb.LookupAnswer()
    message.CopyFrom(ANSWER)
    match change:
        case "request digest too short":
            message.header.request_digest = bytes(31)
        case "previous digest too short":
            message.header.previous_digest = bytes(31)
        case "hit without its record":
            message.hits[0].record = 1
        case "hit without a match":
            del message.hits[0].matches[:]
        case "refusal with hits":
            message.header.status = pb.STATUS_STALE_INDEX
        case "refusal with records":
            message.header.status = pb.STATUS_NOT_PERMITTED
            del message.hits[:]
        case "refusal that names items":
            message.header.status = pb.STATUS_NOT_PERMITTED
            del message.hits[:], message.records[:]
        case "control characters":
            message.records[0].series = "\x1b]0;x\x07"
        case "control characters in a tag":
            message.records[0].tags[0] = "\r"
        case "text too long":
            message.records[0].handling_note = "x" * (MAX_TEXT + 1)
        case _:
            raise AssertionError(change)
    return message.SerializeToString()


@pytest.mark.parametrize(
    "change",
    [
        "request digest too short",
        "previous digest too short",
        "hit without its record",
        "hit without a match",
        "refusal with hits",
        "refusal with records",
        "refusal that names items",
        "control characters",
        "control characters in a tag",
        "text too long",
    ],
)
def test_an_answer_with_one_thing_wrong_is_malformed(change: str) -> None:
    with pytest.raises(MalformedError):
        read_answer(answer_with(change))


@pytest.mark.parametrize("number", [0, max(status.value for status in Status) + 1, 99])
def test_an_answer_without_a_known_status_is_never_read(number: int) -> None:
    message = pb.LookupAnswer()
    message.CopyFrom(ANSWER)
    message.header.status = number  # type: ignore[assignment]  # what a later version would send
    with pytest.raises(VersionError):
        read_answer(message.SerializeToString())


@pytest.mark.parametrize("field", ["victim_identified", "offender_identified", "distributed", "handling_code"])
def test_unset_is_not_unknown(field: str) -> None:
    message = pb.LookupAnswer()
    message.CopyFrom(ANSWER)
    setattr(message.records[0], field, 0)
    with pytest.raises(VersionError):
        read_answer(message.SerializeToString())


def test_a_request_is_no_answer_and_an_answer_is_no_request() -> None:
    with pytest.raises(WireError):
        read_answer(REQUEST.SerializeToString())
    with pytest.raises(WireError):
        read_request(ANSWER.SerializeToString())


def test_re_serialisation_can_give_other_bytes_for_the_same_message() -> None:
    """Why only the received bytes are signed and compared: fields in another order say the same and sign differently."""
    parts = [pb.LookupRequest(header=REQUEST.header), pb.LookupRequest()]
    parts[1].CopyFrom(REQUEST)
    parts[1].ClearField("header")
    turned = b"".join(part.SerializeToString() for part in reversed(parts))
    assert turned != REQUEST.SerializeToString()
    assert same(read_request(turned), good_request())


@settings(max_examples=50)
@given(answers(), receipts)
def test_the_digest_of_an_answer_does_not_depend_on_its_log_receipt(answer: LookupAnswer, receipt: LogReceipt | None) -> None:
    assert answer_digest(write_answer(answer)) == answer_digest(write_answer(replace(answer, log=receipt)))


def test_a_log_receipt_that_is_not_the_last_field_or_comes_twice_is_malformed() -> None:
    receipt = pb.LookupAnswer(log=ANSWER.log).SerializeToString()
    core = ANSWER.SerializeToString().removesuffix(receipt)
    assert read_answer(core + receipt).log == LogReceipt(7, bytes(32), "note")
    for payload in (receipt + core, receipt + core + receipt, core + receipt + receipt, core[:-2] + receipt + core[-2:]):
        for read in (read_answer, answer_digest):
            with pytest.raises(WireError):
                read(payload)


def test_repr_of_a_column_holds_no_code() -> None:
    codes = np.full((1, 32), 171, dtype=np.uint8)
    said = repr(HashColumn(Algorithm.PDQ, codes, np.zeros(1, dtype=np.uint32), 31))
    assert "171" not in said
    assert "codes" not in said


@pytest.mark.parametrize(
    "name", [each.name for each in fields(RecordView) if isinstance(getattr(RecordView("r"), each.name), str)] + ["tags"]
)
@pytest.mark.parametrize("text", ["\x1b[2J", "a" * (MAX_TEXT + 1)])
def test_every_text_of_a_record_is_checked(name: str, text: str) -> None:
    honest = write_record(RecordView("r"))
    assert read_record(honest) == RecordView("r")
    if name == "tags":
        honest.tags.extend(["good", text])
    else:
        setattr(honest, name, text)
    with pytest.raises(MalformedError, match="text"):
        read_record(honest)


@pytest.mark.parametrize("frames", [[(1, 2), (1, 2)], [(2, 1), (1, 1)], [(0, 0)]])
def test_frames_that_were_not_searched_are_some_and_in_order(frames: list[tuple[int, int]]) -> None:
    message = pb.LookupAnswer()
    message.CopyFrom(ANSWER)
    del message.frames_not_searched[:]
    message.ClearField("log")
    message.frames_not_searched.extend(pb.FramesNotSearched(item=item, frames=count) for item, count in [(0, 1), (1, 1)])
    assert len(read_answer(message.SerializeToString()).frames_not_searched) == 2
    del message.frames_not_searched[:]
    message.frames_not_searched.extend(pb.FramesNotSearched(item=item, frames=count) for item, count in frames)
    with pytest.raises(MalformedError, match="not searched"):
        read_answer(message.SerializeToString())
