"""The audit log's messages: lengths checked, refusals as values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.security.audit.merkle import HASH_BYTES, MAX_PROOF_HASHES
from vidfed.security.audit.notes import MAX_NOTE_BYTES
from vidfed.security.audit.witness import Refusal, WitnessRefusalError
from vidfed.v1 import audit_pb2 as pb
from vidfed.wire.statuses import MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TO_WIRE = {
    Refusal.BAD_REQUEST: pb.WITNESS_REFUSAL_REASON_BAD_REQUEST,
    Refusal.FORBIDDEN: pb.WITNESS_REFUSAL_REASON_FORBIDDEN,
    Refusal.UNKNOWN_LOG: pb.WITNESS_REFUSAL_REASON_UNKNOWN_LOG,
    Refusal.CONFLICT: pb.WITNESS_REFUSAL_REASON_CONFLICT,
    Refusal.EPOCH: pb.WITNESS_REFUSAL_REASON_EPOCH,
    Refusal.UNPROVEN: pb.WITNESS_REFUSAL_REASON_UNPROVEN,
}
_FROM_WIRE = {number: refusal for refusal, number in _TO_WIRE.items()}


def read_proof(hashes: Sequence[bytes]) -> list[bytes]:
    """Return a proof's hashes.

    Raises:
        MalformedError: too many, or one of the wrong length.
    """
    if len(hashes) > MAX_PROOF_HASHES or any(len(found) != HASH_BYTES for found in hashes):
        raise MalformedError(f"a proof is at most {MAX_PROOF_HASHES} hashes of {HASH_BYTES} bytes")
    return list(hashes)


def read_note(text: str) -> str:
    """Return a note's text.

    Raises:
        MalformedError: too long.
    """
    if len(text) > MAX_NOTE_BYTES:
        raise MalformedError(f"a note of more than {MAX_NOTE_BYTES} characters")
    return text


def write_refusal(error: WitnessRefusalError) -> pb.AddCheckpointResponse:
    """Write a witness's refusal."""
    return pb.AddCheckpointResponse(refusal=pb.WitnessRefusal(reason=_TO_WIRE[error.refusal], latest_size=error.latest_size))


def read_cosignatures(response: pb.AddCheckpointResponse) -> str:
    """Return the signature lines of a witness's response.

    Raises:
        WitnessRefusalError: it refused, whatever for; a reason that is not known here reads as BAD_REQUEST.
        MalformedError: it is neither a cosignature nor a refusal, or too long.
    """
    match response.WhichOneof("answer"):
        case "cosignatures" if response.cosignatures:
            return read_note(response.cosignatures)
        case "refusal":
            refusal = response.refusal
            raise WitnessRefusalError(_FROM_WIRE.get(refusal.reason, Refusal.BAD_REQUEST), refusal.latest_size)
    raise MalformedError("a witness's response with neither a cosignature nor a refusal")
