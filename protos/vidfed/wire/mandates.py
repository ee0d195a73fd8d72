"""Mandates for standing questions: values to bytes and back. Reading is strict, as in `vidfed.wire.requests`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.algorithms import ALGORITHM_NUMBERS
from vidfed.wire.statuses import MalformedError
from vidfed.wire.strict import check_digest, check_texts, enum, parse
from vidfed.wire.values import DIGEST_BYTES, MAX_AUDIENCE, MAX_TEXT, Purpose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.wire.values import HashColumn

MANDATE_TYPE = "application/vnd.vidfed.mandate.v1+protobuf"
MANDATE_END_TYPE = "application/vnd.vidfed.mandate-end.v1+protobuf"
SERIAL_BYTES = 16
MAX_PARTS = 1_000
MAX_ENDED = 100  # mandates in one message
_MAX_BYTES = 128 * 1024
_MAX_MS = 2**53
_DOMAIN = b"vidfed-watched-columns/1\0"


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
