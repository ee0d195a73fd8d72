"""Answers: values to the bytes that are signed, and back. Reading is strict (see `strict`).

Protobuf reads messages written one after the other as one. So an answer can be written in three parts: what was found, once, to see
whether it fits; the header; and the log's receipt, behind the bytes whose digest was logged.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from vidfed.index.codes import MAX_FILM_MS, MAX_QUALITY, WHOLE, is_kind
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.algorithms import ALGORITHM_NUMBERS, read_algorithm
from vidfed.wire.records import read_record, write_record
from vidfed.wire.statuses import MalformedError, Status
from vidfed.wire.strict import check_texts, enum, parse
from vidfed.wire.values import (
    DIGEST_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_STRETCHES,
    MAX_TEXT,
    RECORD_BANDS,
    AnswerHeader,
    FilmMatch,
    FramesNotSearched,
    Hit,
    IndexState,
    LogReceipt,
    LookupAnswer,
    Match,
    RecordView,
    Searched,
    Share,
    Stretch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHARE_NUMBERS = {share: pb.Share.Value(f"SHARE_{share.name}") for share in Share}
_SHORT_BYTES = 2048  # a header with its longest detail


def write_answer(answer: LookupAnswer) -> bytes:
    """Return the bytes to be signed."""
    found = write_found(answer.records, answer.hits, answer.truncated_items, answer.frames_not_searched)
    core = write_answer_header(answer.header) + found
    return with_receipt(core, answer.log) if answer.log else core


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
        epoch=header.epoch,
        status=header.status.value,
        detail=header.detail,
        index=pb.IndexState(
            version=index.version,
            changed_ms=index.changed_ms,
            current_ms=index.current_ms,
            searched=[
                pb.Searched(algorithm=ALGORITHM_NUMBERS[each.algorithm], max_distance=each.max_distance, share=_SHARE_NUMBERS[each.share])
                for each in index.searched
            ],
            records_at_least=index.records_at_least,
            records_as_of_ms=index.records_as_of_ms,
            source_behind=index.source_behind,
        )
        if index
        else None,
        directory_version=header.directory_version,
    )
    return pb.LookupAnswer(header=message).SerializeToString()


def write_found(
    records: Iterable[RecordView], hits: Iterable[Hit], truncated_items: Iterable[int], frames_not_searched: Iterable[FramesNotSearched]
) -> bytes:
    """Return the second part of an answer: what was found."""
    message = pb.LookupAnswer(
        records=map(write_record, records),
        hits=(
            pb.Hit(
                item=hit.item,
                record=hit.record,
                matches=map(_write_match, hit.matches),
                film=_write_film(hit.film) if hit.film else None,
            )
            for hit in hits
        ),
        truncated_items=truncated_items,
        frames_not_searched=(pb.FramesNotSearched(**each._asdict()) for each in frames_not_searched),
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


def read_answer_with_digest(payload: bytes) -> tuple[LookupAnswer, bytes]:
    """Return what `read_answer` and `answer_digest` do, from one reading.

    Raises:
        MalformedError, VersionError: as `read_answer`.
    """
    message, core = _split_receipt(payload)
    return _value(message), hashlib.sha256(core).digest()


def read_answer(payload: bytes) -> LookupAnswer:
    """Read an answer's verified bytes. Whether it fits the question is for the asker to check.

    Raises:
        MalformedError: not of the stated form; the message says what.
        VersionError: it has fields this program does not know.
    """
    return _value(_split_receipt(payload)[0])


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
    message = parse(payload, pb.LookupAnswer(), MAX_MESSAGE_BYTES)
    if not message.HasField("log"):
        return message, payload
    if len(message.log.commitment) != DIGEST_BYTES:
        raise MalformedError("a digest of the wrong length")
    receipt = pb.LookupAnswer(log=message.log).SerializeToString()
    core = payload.removesuffix(receipt)
    if len(core) == len(payload) or pb.LookupAnswer.FromString(core).HasField("log"):
        raise MalformedError("an answer whose log receipt is not its last field")
    return message, core


def _value(message: pb.LookupAnswer) -> LookupAnswer:
    header = message.header
    check_texts((header.federation, header.issuer, header.audience, header.method, header.detail), MAX_TEXT)
    if len(header.request_digest) != DIGEST_BYTES or len(header.previous_digest) not in {0, DIGEST_BYTES}:
        raise MalformedError("a digest of the wrong length")
    index = header.index
    if index.records_at_least not in RECORD_BANDS:
        raise MalformedError(f"{index.records_at_least} records, which is no band")
    if index.records_as_of_ms < 0:
        raise MalformedError("records as of a moment before 1970")
    searched = tuple(Searched(read_algorithm(each.algorithm), each.max_distance, enum(Share, each.share)) for each in index.searched)
    as_of_ms = index.records_as_of_ms if index.HasField("records_as_of_ms") else None
    state = IndexState(index.version, index.changed_ms, index.current_ms, searched, index.records_at_least, as_of_ms, index.source_behind)
    answer = LookupAnswer(
        AnswerHeader(
            federation=header.federation,
            issuer=header.issuer,
            audience=header.audience,
            request_digest=header.request_digest,
            method=header.method,
            answered_ms=header.answered_ms,
            status=enum(Status, header.status),
            detail=header.detail,
            index=state if header.HasField("index") else None,
            sequence=header.sequence,
            last=header.last,
            previous_digest=header.previous_digest,
            directory_version=header.directory_version,
            epoch=header.epoch,
        ),
        tuple(read_record(record) for record in message.records),
        tuple(map(_read_hit, message.hits)),
        tuple(message.truncated_items),
        LogReceipt(message.log.position, message.log.commitment, message.log.checkpoint) if message.HasField("log") else None,
        tuple(FramesNotSearched(each.item, each.frames) for each in message.frames_not_searched),
    )
    if any(hit.record >= len(answer.records) or not hit.matches for hit in answer.hits):
        raise MalformedError("a hit without its record or without a match")
    told = answer.records or answer.hits or answer.truncated_items or answer.frames_not_searched
    if answer.header.status is not Status.ANSWERED and told:
        raise MalformedError("a refusal with hits")
    if any(not each.frames for each in answer.frames_not_searched):
        raise MalformedError("no frames that were not searched")
    if any(before.item >= after.item for before, after in itertools.pairwise(answer.frames_not_searched)):
        raise MalformedError("frames that were not searched out of order")
    return answer


def _write_film(film: FilmMatch) -> pb.FilmMatch:
    return pb.FilmMatch(
        frames=film.frames,
        frames_agreeing=film.frames_agreeing,
        record_frames=film.record_frames,
        record_frames_agreeing=film.record_frames_agreeing,
        stretches=[pb.Stretch(**each._asdict()) for each in film.stretches],
        stretches_left_out=film.stretches_left_out,
        coarse=film.coarse,
    )


def _read_hit(hit: pb.Hit) -> Hit:
    return Hit(hit.item, hit.record, tuple(map(_read_match, hit.matches)), _read_film(hit.film) if hit.HasField("film") else None)


def _read_film(film: pb.FilmMatch) -> FilmMatch:
    if not (0 < film.frames_agreeing <= film.frames and 0 < film.record_frames_agreeing <= film.record_frames):
        raise MalformedError("a film of which more agrees than there is, or nothing")
    stretches = tuple(Stretch(each.from_ms, each.until_ms, each.record_from_ms, each.record_until_ms) for each in film.stretches)
    if not 0 < len(stretches) <= MAX_STRETCHES:
        raise MalformedError(f"{len(stretches)} stretches of a film, 1 to {MAX_STRETCHES} are told")
    if any(e.from_ms > e.until_ms or e.record_from_ms > e.record_until_ms or e.record_until_ms > MAX_FILM_MS for e in stretches):
        raise MalformedError("a stretch of a film that ends before it begins, or after 100 hours")
    if any(before.from_ms > after.from_ms for before, after in itertools.pairwise(stretches)):
        raise MalformedError("stretches of a film out of order")
    counts = (film.frames, film.frames_agreeing, film.record_frames, film.record_frames_agreeing)
    return FilmMatch(*counts, stretches, film.stretches_left_out, film.coarse)


def _write_match(match: Match) -> pb.Match:
    return pb.Match(
        algorithm=ALGORITHM_NUMBERS[match.algorithm],
        distance=match.distance,
        code=match.code,
        slack=match.slack,
        kind="" if match.kind == WHOLE else match.kind,
        quality=match.quality,
        compared=match.compared,
    )


def _read_match(match: pb.Match) -> Match:
    if match.slack > match.distance:
        raise MalformedError("a match in a band that begins below 0")
    if match.kind == WHOLE or (match.kind and not is_kind(match.kind)):  # one form for each meaning: what is signed must not have two
        raise MalformedError("a match by a code of no known form of kind")
    if match.quality > MAX_QUALITY:
        raise MalformedError(f"a quality of {match.quality}, at most {MAX_QUALITY}")
    quality = match.quality if match.HasField("quality") else None
    algorithm = read_algorithm(match.algorithm)
    if match.compared and (algorithm.is_digest or match.compared >= algorithm.parts):
        raise MalformedError(f"{algorithm.label}: {match.compared} of {algorithm.parts} parts compared")
    return Match(algorithm, match.distance, match.code, match.slack, match.kind or WHOLE, quality, match.compared)
