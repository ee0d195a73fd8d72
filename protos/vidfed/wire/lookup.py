"""Lookup requests and answers: values to bytes and back.

Reading is strict: a length that does not fit, an item or record that does not exist, an unknown enum number, a text that is too long or
holds control characters, and any field this version does not know are all refused.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from vidfed.index import Algorithm
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.statuses import MalformedError, Status, TooLargeError, VersionError
from vidfed.wire.values import (
    DIGEST_BYTES,
    MAX_AUDIENCE,
    MAX_CODES,
    MAX_MESSAGE_BYTES,
    MAX_TEXT,
    MESSAGE_ID_BYTES,
    RECORD_BANDS,
    STREAM_ID_BYTES,
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
    from collections.abc import Iterable

_TO_WIRE = {algorithm: pb.HashAlgorithm.Value(f"HASH_ALGORITHM_{algorithm.name}") for algorithm in Algorithm}
_FROM_WIRE: dict[int, Algorithm] = {number: algorithm for algorithm, number in _TO_WIRE.items()}

_SHORT_BYTES = 2048  # a header with its longest detail

AnyEnum = TypeVar("AnyEnum", bound=Enum)
AnyMessage = TypeVar("AnyMessage", bound=Message)


def write_request(request: LookupRequest) -> bytes:
    """Return the bytes to be signed."""
    header, stream = request.header, request.stream
    message = pb.LookupRequest(
        header=pb.RequestHeader(
            federation=header.federation,
            issuer=header.issuer,
            audience=header.audience,
            message_id=header.message_id,
            issued_ms=header.issued_ms,
            expires_ms=header.expires_ms,
            method=header.method,
            directory_version=header.directory_version,
            purpose=header.purpose.value if header.purpose else pb.PURPOSE_UNSPECIFIED,
            legal_basis=header.legal_basis,
            offence_type=header.offence_type,
            case_reference=header.case_reference,
            pseudonym=header.pseudonym,
            urgency=header.urgency.value,
        ),
        item_count=request.item_count,
        columns=[
            pb.HashColumn(
                algorithm=_TO_WIRE[column.algorithm],
                codes=column.codes.tobytes(),
                items=column.items.tolist(),
                max_distance=column.max_distance,
            )
            for column in request.columns
        ],
        stream=pb.StreamPosition(stream_id=stream.stream_id, number=stream.number, last=stream.last, previous_digest=stream.previous_digest)
        if stream
        else None,
    )
    return message.SerializeToString()


def read_request(payload: bytes) -> LookupRequest:
    """Read a request's verified bytes.

    A missing purpose reads as None: refusing it is the pipeline's to do, with the status that says so.

    Raises:
        TooLargeError: too many hashes for one lookup.
        MalformedError: not of the stated form; the message says what.
        VersionError: it has fields this program does not know.
    """
    message = _parse(payload, pb.LookupRequest())
    header = message.header
    texts = (
        header.federation,
        header.issuer,
        *header.audience,
        header.method,
        header.legal_basis,
        header.offence_type,
        header.case_reference,
        header.pseudonym,
    )
    _check_texts(texts)
    if len(header.message_id) != MESSAGE_ID_BYTES:
        raise MalformedError(f"message id of {len(header.message_id)} bytes, expected {MESSAGE_ID_BYTES}")
    if len(header.audience) > MAX_AUDIENCE:
        raise MalformedError(f"audience of {len(header.audience)}, at most {MAX_AUDIENCE}")
    if not message.columns:
        raise MalformedError("no hash is asked for")
    columns = tuple(_read_column(column, message.item_count) for column in message.columns)
    if len({column.algorithm for column in columns}) != len(columns):
        raise MalformedError("an algorithm has two columns")
    if (count := sum(len(column.codes) for column in columns)) > MAX_CODES:
        raise TooLargeError(f"{count} hashes in one lookup, at most {MAX_CODES}")
    return LookupRequest(
        RequestHeader(
            federation=header.federation,
            issuer=header.issuer,
            audience=tuple(header.audience),
            message_id=header.message_id,
            issued_ms=header.issued_ms,
            expires_ms=header.expires_ms,
            method=header.method,
            directory_version=header.directory_version,
            purpose=_enum(Purpose, header.purpose) if header.purpose else None,
            legal_basis=header.legal_basis,
            offence_type=header.offence_type,
            case_reference=header.case_reference,
            pseudonym=header.pseudonym,
            urgency=_enum(Urgency, header.urgency),
        ),
        message.item_count,
        columns,
        _read_position(message.stream) if message.HasField("stream") else None,
    )


def write_answer(answer: LookupAnswer) -> bytes:
    """Return the bytes to be signed."""
    core = write_answer_header(answer.header) + write_found(answer.records, answer.hits, answer.truncated_items)
    return with_receipt(core, answer.log) if answer.log else core


# Protobuf reads messages written one after the other as one. So an answer can be written in three parts: what was found, once, to see
# whether it fits; the header; and the log's receipt, behind the bytes whose digest was logged.


def write_answer_header(header: AnswerHeader) -> bytes:
    """Return the first part of an answer."""
    index = header.index
    message = pb.AnswerHeader(
        federation=header.federation,
        issuer=header.issuer,
        audience=header.audience,
        request_digest=header.request_digest,
        method=header.method,
        answered_ms=header.answered_ms,
        sequence=header.sequence,
        last=header.last,
        previous_digest=header.previous_digest,
        status=header.status.value,
        detail=header.detail,
        index=pb.IndexState(
            version=index.version,
            changed_ms=index.changed_ms,
            current_ms=index.current_ms,
            searched=[pb.Searched(algorithm=_TO_WIRE[each.algorithm], max_distance=each.max_distance) for each in index.searched],
            records_at_least=index.records_at_least,
        )
        if index
        else None,
    )
    return pb.LookupAnswer(header=message).SerializeToString()


def write_found(records: Iterable[RecordView], hits: Iterable[Hit], truncated_items: Iterable[int]) -> bytes:
    """Return the second part of an answer: what was found."""
    message = pb.LookupAnswer(
        records=map(_write_record, records),
        hits=(
            pb.Hit(
                item=hit.item,
                record=hit.record,
                matches=[pb.Match(algorithm=_TO_WIRE[m.algorithm], distance=m.distance, code=m.code, slack=m.slack) for m in hit.matches],
            )
            for hit in hits
        ),
        truncated_items=truncated_items,
    )
    return message.SerializeToString()


def with_receipt(core: bytes, receipt: LogReceipt) -> bytes:
    """Return an answer with its last part, the log's receipt. The log holds the SHA-256 of `core`."""
    return core + _write_receipt(receipt)


def answer_digest(payload: bytes) -> bytes:
    """Return the SHA-256 of an answer without its log receipt: what both ends' logs hold of it.

    Raises:
        MalformedError, VersionError: as `read_answer`.
    """
    return hashlib.sha256(_split_receipt(payload)[1]).digest()


def read_answer(payload: bytes) -> LookupAnswer:
    """Read an answer's verified bytes. Whether it fits the question is for the asker to check.

    Raises:
        MalformedError: not of the stated form; the message says what.
        VersionError: it has fields this program does not know.
    """
    message, _ = _split_receipt(payload)
    header = message.header
    _check_texts((header.federation, header.issuer, header.audience, header.method, header.detail))
    if len(header.request_digest) != DIGEST_BYTES or len(header.previous_digest) not in {0, DIGEST_BYTES}:
        raise MalformedError("a digest of the wrong length")
    index = header.index
    if index.records_at_least not in RECORD_BANDS:
        raise MalformedError(f"{index.records_at_least} records, which is no band")
    searched = tuple(Searched(_algorithm(each.algorithm), each.max_distance) for each in index.searched)
    state = IndexState(index.version, index.changed_ms, index.current_ms, searched, index.records_at_least)
    answer = LookupAnswer(
        AnswerHeader(
            federation=header.federation,
            issuer=header.issuer,
            audience=header.audience,
            request_digest=header.request_digest,
            method=header.method,
            answered_ms=header.answered_ms,
            status=_enum(Status, header.status),
            detail=header.detail,
            index=state if header.HasField("index") else None,
            sequence=header.sequence,
            last=header.last,
            previous_digest=header.previous_digest,
        ),
        tuple(_read_record(record) for record in message.records),
        tuple(Hit(hit.item, hit.record, tuple(map(_read_match, hit.matches))) for hit in message.hits),
        tuple(message.truncated_items),
        LogReceipt(message.log.position, message.log.commitment, message.log.checkpoint) if message.HasField("log") else None,
    )
    if any(hit.record >= len(answer.records) or not hit.matches for hit in answer.hits):
        raise MalformedError("a hit without its record or without a match")
    if answer.header.status is not Status.ANSWERED and (answer.records or answer.hits or answer.truncated_items):
        raise MalformedError("a refusal with hits")
    return answer


def says_busy(payload: bytes) -> bool:
    """Tell whether an unverified answer says that the node was too busy to look at the question. Cheap: such an answer is short."""
    if len(payload) > _SHORT_BYTES:
        return False
    try:
        return pb.LookupAnswer.FromString(payload).header.status == pb.STATUS_BUSY
    except DecodeError:
        return False


def _write_receipt(receipt: LogReceipt) -> bytes:
    log = audit_pb.LogReceipt(position=receipt.position, commitment=receipt.commitment, checkpoint=receipt.checkpoint)
    return pb.LookupAnswer(log=log).SerializeToString()


def _split_receipt(payload: bytes) -> tuple[pb.LookupAnswer, bytes]:
    """Return the parsed answer and the bytes before its log receipt, which must be the last thing in it and be there once."""
    message = _parse(payload, pb.LookupAnswer())
    if not message.HasField("log"):
        return message, payload
    if len(message.log.commitment) != DIGEST_BYTES:
        raise MalformedError("a digest of the wrong length")
    receipt = pb.LookupAnswer(log=message.log).SerializeToString()
    core = payload.removesuffix(receipt)
    if len(core) == len(payload) or _parse(core, pb.LookupAnswer()).HasField("log"):
        raise MalformedError("an answer whose log receipt is not its last field")
    return message, core


def _read_column(column: pb.HashColumn, item_count: int) -> HashColumn:
    algorithm = _algorithm(column.algorithm)
    count = len(column.items)
    if not count or len(column.codes) != count * algorithm.code_bytes:
        raise MalformedError(f"{algorithm.label}: {len(column.codes)} bytes for {count} codes of {algorithm.code_bytes} bytes")
    codes = np.frombuffer(column.codes, dtype=np.uint8).reshape(count, algorithm.code_bytes)
    items = np.fromiter(column.items, dtype=np.uint32, count=count)
    if int(np.maximum.reduce(items)) >= item_count:
        raise MalformedError(f"{algorithm.label}: an item beyond the {item_count} announced")
    return HashColumn(algorithm, codes, items, column.max_distance)


def _read_position(stream: pb.StreamPosition) -> StreamPosition:
    if len(stream.stream_id) != STREAM_ID_BYTES:
        raise MalformedError(f"stream id of {len(stream.stream_id)} bytes, expected {STREAM_ID_BYTES}")
    if len(stream.previous_digest) != (DIGEST_BYTES if stream.number else 0):
        raise MalformedError("only the first chunk of a stream has none before it, and all others name its digest")
    return StreamPosition(stream.stream_id, stream.number, stream.last, stream.previous_digest)


def _read_match(match: pb.Match) -> Match:
    if match.slack > match.distance:
        raise MalformedError("a match in a band that begins below 0")
    return Match(_algorithm(match.algorithm), match.distance, match.code, match.slack)


def _write_record(record: RecordView) -> pb.RecordView:
    return pb.RecordView(
        reference=record.reference,
        series=record.series,
        tags=record.tags,
        victim_identified=record.victim_identified.value,
        offender_identified=record.offender_identified.value,
        distributed=record.distributed.value,
        case_reference=record.case_reference,
        case_contact=record.case_contact,
        handling_code=record.handling_code.value,
        handling_note=record.handling_note,
        category=record.category,
        category_scale=record.category_scale,
        category_region=record.category_region,
        source_grading=record.source_grading,
        information_grading=record.information_grading,
    )


def _read_record(record: pb.RecordView) -> RecordView:
    view = RecordView(
        reference=record.reference,
        series=record.series,
        tags=tuple(record.tags),
        victim_identified=_enum(Ternary, record.victim_identified),
        offender_identified=_enum(Ternary, record.offender_identified),
        distributed=_enum(Ternary, record.distributed),
        case_reference=record.case_reference,
        case_contact=record.case_contact,
        handling_code=_enum(HandlingCode, record.handling_code),
        handling_note=record.handling_note,
        category=record.category,
        category_scale=record.category_scale,
        category_region=record.category_region,
        source_grading=record.source_grading,
        information_grading=record.information_grading,
    )
    _check_texts((view.reference, view.series, *view.tags, view.case_reference, view.case_contact, view.handling_note))
    _check_texts((view.category, view.category_scale, view.category_region, view.source_grading, view.information_grading))
    return view


def _parse(payload: bytes, message: AnyMessage) -> AnyMessage:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise TooLargeError(f"{len(payload)} bytes, at most {MAX_MESSAGE_BYTES}")
    try:
        message.ParseFromString(payload)
    except DecodeError:
        raise MalformedError("not a message of this type") from None
    _refuse_unknown_fields(message)
    return message


def _refuse_unknown_fields(message: Message) -> None:
    """Refuse a message that is smaller without the fields this version does not know, wherever in it they are."""
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise VersionError(f"{type(message).__name__} has a field that this version does not know")


def _check_texts(texts: tuple[str, ...]) -> None:
    """Refuse texts that are too long or could play tricks on a terminal or a log."""
    for text in texts:
        if len(text) > MAX_TEXT:
            raise MalformedError(f"a text of {len(text)} characters, at most {MAX_TEXT}")
        if not text.isprintable():
            raise MalformedError("a text with control characters")


def _algorithm(number: int) -> Algorithm:
    try:
        return _FROM_WIRE[number]
    except KeyError:
        raise VersionError(f"hash algorithm number {number} is not known") from None


def _enum(kind: type[AnyEnum], number: int) -> AnyEnum:
    try:
        return kind(number)
    except ValueError:
        raise VersionError(f"{kind.__name__} number {number} is not known") from None
