"""Envelopes between their message and their value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.security.crypto.envelope import MAX_SIGNATURES, Envelope, Signature
from vidfed.security.crypto.keys import SIGNATURE_BYTES
from vidfed.v1 import envelope_pb2 as pb
from vidfed.wire.statuses import MalformedError, TooLargeError
from vidfed.wire.values import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from vidfed.v1.lookup_pb2 import LookupCall

MAX_KEY_ID_CHARS = 128  # a hint; ours have 64 hex digits


def to_message(envelope: Envelope) -> pb.Envelope:
    """Write an envelope."""
    signatures = [pb.Signature(key_id=s.key_id, value=s.value) for s in envelope.signatures]
    return pb.Envelope(payload_type=envelope.payload_type, payload=envelope.payload, signatures=signatures)


def from_message(message: pb.Envelope) -> Envelope:
    """Read an envelope; what is inside is not touched.

    Raises:
        MalformedError: too large, too many signatures, or a signature or key id of the wrong length.
    """
    if len(message.payload) > MAX_MESSAGE_BYTES:
        raise TooLargeError(f"payload of {len(message.payload)} bytes, at most {MAX_MESSAGE_BYTES}")
    if len(message.signatures) > MAX_SIGNATURES:
        raise MalformedError(f"{len(message.signatures)} signatures, at most {MAX_SIGNATURES}")
    if any(len(signature.value) != SIGNATURE_BYTES for signature in message.signatures):
        raise MalformedError(f"a signature that is not of {SIGNATURE_BYTES} bytes")
    if any(len(signature.key_id) > MAX_KEY_ID_CHARS for signature in message.signatures):
        raise MalformedError(f"a signature's key id of more than {MAX_KEY_ID_CHARS} characters")
    signatures = tuple(Signature(signature.key_id, signature.value) for signature in message.signatures)
    return Envelope(message.payload_type, message.payload, signatures)


def read_call(call: LookupCall) -> tuple[Envelope, Envelope]:
    """Return the credential and the request of a call.

    Raises:
        MalformedError: as `from_message`.
    """
    return from_message(call.credential), from_message(call.request)
