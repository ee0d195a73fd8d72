"""Lookup requests, and mandates by which they are asked again: values to the bytes that are signed, and back. Reading is strict."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vidfed.index import Algorithm
from vidfed.index.codes import MAX_FILM_MS
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.algorithms import ALGORITHM_NUMBERS, read_algorithm
from vidfed.wire.sketches.columns import can_be_sketched, read_sketch, sketched, write_sketch
from vidfed.wire.statuses import MalformedError, TooLargeError
from vidfed.wire.strict import check_digest, check_texts, enum, parse
from vidfed.wire.values import (
    DIGEST_BYTES,
    EPOCH_BYTES,
    MAX_AUDIENCE,
    MAX_CODES_OF_ITEM,
    MAX_ITEMS,
    MAX_MESSAGE_BYTES,
    MAX_TEXT,
    MAX_WORK,
    MESSAGE_ID_BYTES,
    STREAM_ID_BYTES,
    FilmTimes,
    HashColumn,
    LookupRequest,
    Purpose,
    RequestHeader,
    Standing,
    StreamPosition,
    Urgency,
    work_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MANDATE_TYPE = "application/vnd.vidfed.mandate.v1+protobuf"
MANDATE_END_TYPE = "application/vnd.vidfed.mandate-end.v1+protobuf"
SERIAL_BYTES = 16
MAX_PARTS = 1_000
MAX_ENDED = 100  # mandates in one message
_MAX_BYTES = 128 * 1024
_MAX_MS = 2**53
_DOMAIN = b"vidfed-watched-columns/1\0"


def write_request(request: LookupRequest) -> bytes:
    """Return the bytes to be signed."""
    header, stream = request.header, request.stream
    in_outline = request.standing is not None and request.standing.sketch
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
        columns=() if in_outline else write_columns(request.columns),
        sketch=write_sketch(request.item_count, request.columns) if in_outline else (),
        stream=pb.StreamPosition(stream_id=stream.stream_id, number=stream.number, last=stream.last, previous_digest=stream.previous_digest)
        if stream
        else None,
        standing=pb.Standing(mandate=request.standing.mandate, epoch=request.standing.epoch) if request.standing else None,
        films=[
            pb.Film(
                item=film.item,
                from_ms=film.from_ms.tolist(),
                until_ms=film.until_ms.tolist(),
            )
            for film in request.films
        ],
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
    message = parse(payload, pb.LookupRequest(), MAX_MESSAGE_BYTES)
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
    check_texts(texts, MAX_TEXT)
    if len(header.message_id) != MESSAGE_ID_BYTES:
        raise MalformedError(f"message id of {len(header.message_id)} bytes, expected {MESSAGE_ID_BYTES}")
    if len(header.audience) > MAX_AUDIENCE:
        raise MalformedError(f"audience of {len(header.audience)}, at most {MAX_AUDIENCE}")
    if bool(message.columns) is bool(message.sketch):
        raise MalformedError("no hash is asked for" if not message.columns else "columns in whole and in outline")
    if message.item_count > MAX_ITEMS:
        raise TooLargeError(f"{message.item_count} items in one lookup, at most {MAX_ITEMS}")
    if message.sketch and not message.HasField("standing"):
        raise MalformedError("only a standing question is asked in outline")
    if message.sketch:
        columns = read_sketch(message.sketch, message.item_count)
    else:
        columns = tuple(_read_column(column, message.item_count) for column in message.columns)
    if len({column.algorithm for column in columns}) != len(columns):
        raise MalformedError("an algorithm has two columns")
    if (work := sum(len(column.codes) * work_of(column.algorithm) for column in columns)) > MAX_WORK:
        raise TooLargeError(f"hashes that take {work} units of work in one lookup, at most {MAX_WORK}")
    films = _read_films(message, columns)
    _check_codes_of_items(columns, films)
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
            purpose=enum(Purpose, header.purpose) if header.purpose else None,
            legal_basis=header.legal_basis,
            offence_type=header.offence_type,
            case_reference=header.case_reference,
            pseudonym=header.pseudonym,
            urgency=enum(Urgency, header.urgency),
        ),
        message.item_count,
        columns,
        _read_position(message.stream) if message.HasField("stream") else None,
        _read_standing(message.standing, sketch=bool(message.sketch)) if message.HasField("standing") else None,
        films,
    )


def read_columns(columns: Iterable[pb.HashColumn], item_count: int) -> tuple[HashColumn, ...]:
    """Read columns that come by themselves.

    Raises:
        TooLargeError: more than one lookup takes.
        MalformedError: not of the stated form.
    """
    read = tuple(_read_column(column, item_count) for column in columns)
    if not read or len({column.algorithm for column in read}) != len(read):
        raise MalformedError("no hash is asked for, or an algorithm has two columns")
    if item_count > MAX_ITEMS or sum(len(column.codes) * work_of(column.algorithm) for column in read) > MAX_WORK:
        raise TooLargeError("more than one lookup takes")
    return read


def write_columns(columns: Iterable[HashColumn]) -> list[pb.HashColumn]:
    """Write columns."""
    return [
        pb.HashColumn(
            algorithm=ALGORITHM_NUMBERS[column.algorithm],
            codes=column.codes.tobytes(),
            items=column.items.tolist(),
            max_distance=column.max_distance,
        )
        for column in columns
    ]


def _read_standing(standing: pb.Standing, *, sketch: bool) -> Standing:
    if len(standing.mandate) != DIGEST_BYTES or len(standing.epoch) not in {0, EPOCH_BYTES}:
        raise MalformedError("a standing question names its mandate by a digest, and an epoch as it was given")
    return Standing(standing.mandate, standing.epoch, sketch)


def _read_films(message: pb.LookupRequest, columns: Sequence[HashColumn]) -> tuple[FilmTimes, ...]:
    if not message.films:
        return ()
    counts = next((np.bincount(each.items, minlength=message.item_count) for each in columns if each.algorithm is Algorithm.PDQ), None)
    films = tuple(FilmTimes(each.item, np.array(each.from_ms, np.uint32), np.array(each.until_ms, np.uint32)) for each in message.films)
    for film, following in itertools.zip_longest(films, films[1:]):
        if counts is None or film.item >= message.item_count or not len(film.from_ms) == len(film.until_ms) == counts[film.item] > 0:
            raise MalformedError("a film without the times of each of its codes")
        if (film.until_ms < film.from_ms).any() or (np.diff(film.from_ms.astype(np.int64)) < 0).any() or film.until_ms.max() > MAX_FILM_MS:
            raise MalformedError("a film whose times are out of order")
        if following is not None and following.item <= film.item:
            raise MalformedError("films that are not in the order of their items")
    return films


def _check_codes_of_items(columns: Iterable[HashColumn], films: Iterable[FilmTimes]) -> None:
    """Refuse an item with more codes than one file can have: each further one would only try out what is near a record."""
    of_films = [film.item for film in films]
    for column in columns:
        if len(column.codes) <= MAX_CODES_OF_ITEM:
            continue
        counts = np.bincount(column.items)
        if column.algorithm is Algorithm.PDQ:
            counts[of_films] = 0
        if (most := int(counts.max())) > MAX_CODES_OF_ITEM:
            raise TooLargeError(f"{column.algorithm.label}: {most} codes of one item, at most {MAX_CODES_OF_ITEM}")


def _read_column(column: pb.HashColumn, item_count: int) -> HashColumn:
    algorithm = read_algorithm(column.algorithm)
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


@dataclass(frozen=True, slots=True)
class Mandate:
    """What a person lets the own gateway ask again and again. Fields as in `Mandate` of lookup.proto."""

    federation: str
    issuer: str
    pseudonym: str
    audience: tuple[str, ...]
    serial: bytes
    purpose: Purpose
    legal_basis: str
    offence_type: str
    case_reference: str
    parts: tuple[bytes, ...]
    begins_ms: int
    ends_ms: int
    sketches: tuple[bytes, ...] = ()

    def part_of(self, digest: bytes) -> bytes | None:
        """Return the digest of the part that is asked by these columns, whole or in outline; None: the mandate names no such part."""
        if digest in self.parts:
            return digest
        return self.parts[self.sketches.index(digest)] if digest in self.sketches else None


@dataclass(frozen=True, slots=True)
class MandateEnd:
    """Mandates that are at an end. Fields as in `MandateEnd` of lookup.proto."""

    federation: str
    issuer: str
    audience: str
    serials: tuple[bytes, ...]
    until_ms: int


def columns_digest(item_count: int, columns: Sequence[HashColumn]) -> bytes:
    """Return the SHA-256 by which a mandate names columns of hashes: of a form of its own, which no serialiser can change."""
    digest = hashlib.sha256(_DOMAIN + item_count.to_bytes(4, "big"))
    for column in columns:
        items = column.items.astype(">u4").tobytes()
        head = (int(ALGORITHM_NUMBERS[column.algorithm]), column.max_distance, len(column.codes))
        digest.update(b"".join(number.to_bytes(4, "big") for number in head) + items + column.codes.tobytes())
    return digest.digest()


def sketch_digests(parts: Sequence[tuple[int, Sequence[HashColumn]]]) -> tuple[bytes, ...]:
    """Return the digests of parts in outline, each given by its number of items and its columns; none if one of them has no outline."""
    if not all(can_be_sketched(columns) for _, columns in parts):
        return ()
    return tuple(columns_digest(count, sketched(columns)) for count, columns in parts)


def write_mandate(mandate: Mandate) -> bytes:
    """Return the bytes to be signed."""
    return pb.Mandate(
        federation=mandate.federation,
        issuer=mandate.issuer,
        pseudonym=mandate.pseudonym,
        audience=mandate.audience,
        serial=mandate.serial,
        purpose=mandate.purpose.value,
        legal_basis=mandate.legal_basis,
        offence_type=mandate.offence_type,
        case_reference=mandate.case_reference,
        parts=mandate.parts,
        begins_ms=mandate.begins_ms,
        ends_ms=mandate.ends_ms,
        sketches=mandate.sketches,
    ).SerializeToString()


def read_mandate(payload: bytes) -> Mandate:
    """Read verified bytes.

    Raises:
        MalformedError: not of the stated form; the message says what.
        VersionError: it has fields or codes this program does not know.
    """
    message = parse(payload, pb.Mandate(), _MAX_BYTES)
    texts = (message.federation, message.issuer, message.pseudonym, *message.audience)
    check_texts((*texts, message.legal_basis, message.offence_type, message.case_reference), MAX_TEXT)
    check_digest(message.serial, SERIAL_BYTES, "serial")
    if not 1 <= len(message.audience) <= MAX_AUDIENCE:
        raise MalformedError(f"audience of {len(message.audience)}, expected 1 to {MAX_AUDIENCE}")
    if not 1 <= len(message.parts) <= MAX_PARTS:
        raise MalformedError(f"{len(message.parts)} parts, expected 1 to {MAX_PARTS}")
    if len(message.sketches) not in {0, len(message.parts)}:
        raise MalformedError(f"{len(message.sketches)} parts in outline, of {len(message.parts)}")
    if not 0 < message.begins_ms < message.ends_ms < _MAX_MS:
        raise MalformedError("it ends before it begins")
    return Mandate(
        message.federation,
        message.issuer,
        message.pseudonym,
        tuple(message.audience),
        message.serial,
        enum(Purpose, message.purpose),
        message.legal_basis,
        message.offence_type,
        message.case_reference,
        tuple(check_digest(part, DIGEST_BYTES, "digest of a part") for part in message.parts),
        message.begins_ms,
        message.ends_ms,
        tuple(check_digest(part, DIGEST_BYTES, "digest of a part in outline") for part in message.sketches),
    )


def write_mandate_end(end: MandateEnd) -> bytes:
    """Return the bytes to be signed."""
    message = pb.MandateEnd(federation=end.federation, issuer=end.issuer, audience=end.audience, serials=end.serials, until_ms=end.until_ms)
    return message.SerializeToString()


def read_mandate_end(payload: bytes) -> MandateEnd:
    """Read verified bytes.

    Raises:
        MalformedError, VersionError: as `read_mandate`.
    """
    message = parse(payload, pb.MandateEnd(), _MAX_BYTES)
    check_texts((message.federation, message.issuer, message.audience), MAX_TEXT)
    if not 1 <= len(message.serials) <= MAX_ENDED or not 0 < message.until_ms < _MAX_MS:
        raise MalformedError("it names no mandates, too many, or no time")
    serials = tuple(check_digest(serial, SERIAL_BYTES, "serial") for serial in message.serials)
    return MandateEnd(message.federation, message.issuer, message.audience, serials, message.until_ms)
