"""Envelopes on the wire, and confusion between versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.security.crypto.envelope import MAX_SIGNATURES, Envelope, Signature
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import EnvelopeError
from vidfed.v1 import envelope_pb2, lookup_pb2
from vidfed.wire.envelope import MAX_KEY_ID_CHARS, from_message, read_call, to_message
from vidfed.wire.statuses import MalformedError
from vidfed.wire.values import ANSWER_TYPE, MAX_MESSAGE_BYTES, REQUEST_TYPE

texts = st.text(st.characters(codec="utf-8"), max_size=30)
signatures = st.lists(st.builds(Signature, texts, st.binary(min_size=64, max_size=64)), max_size=MAX_SIGNATURES).map(tuple)
KEY = SigningKey(bytes(32))


@given(st.builds(Envelope, texts, st.binary(max_size=100), signatures))
def test_an_envelope_is_read_back_as_it_was_written(envelope: Envelope) -> None:
    assert from_message(envelope_pb2.Envelope.FromString(to_message(envelope).SerializeToString())) == envelope


@pytest.mark.parametrize("length", [0, 1, 63, 65, 10_000])
def test_a_signature_of_the_wrong_length_is_malformed(length: int) -> None:
    message = envelope_pb2.Envelope(signatures=[envelope_pb2.Signature(value=bytes(length))])
    with pytest.raises(MalformedError, match="64 bytes"):
        from_message(message)


def test_too_many_signatures_are_malformed() -> None:
    many = [envelope_pb2.Signature(value=bytes(64))] * (MAX_SIGNATURES + 1)
    with pytest.raises(MalformedError, match="at most"):
        from_message(envelope_pb2.Envelope(signatures=many))


def test_too_large_a_payload_is_malformed() -> None:
    from_message(envelope_pb2.Envelope(payload=bytes(MAX_MESSAGE_BYTES)))
    with pytest.raises(MalformedError, match="at most"):
        from_message(envelope_pb2.Envelope(payload=bytes(MAX_MESSAGE_BYTES + 1)))


def test_a_call_without_its_parts_has_nobody_s_signature() -> None:
    credential, request = read_call(lookup_pb2.LookupCall())
    assert credential.signatures == request.signatures == ()


@pytest.mark.parametrize("kind", [REQUEST_TYPE, ANSWER_TYPE])
def test_v1_v2_confusion(kind: str) -> None:
    """What was signed as one version verifies as no other, however alike the payloads."""
    other = kind.replace(".v1+", ".v2+")
    assert other != kind
    of_v2 = Envelope(other, b"payload").signed_by(KEY)
    with pytest.raises(EnvelopeError, match="expected"):
        of_v2.verify(kind, [KEY.public])


def test_a_request_type_is_no_answer_type() -> None:
    assert REQUEST_TYPE != ANSWER_TYPE
    with pytest.raises(EnvelopeError):
        Envelope(REQUEST_TYPE, b"").signed_by(KEY).verify(ANSWER_TYPE, [KEY.public])


def test_a_key_id_without_an_end_is_malformed() -> None:
    """It is kept for as long as the envelope is, and printed where no key of that id is known."""
    signature = envelope_pb2.Signature(key_id="k" * MAX_KEY_ID_CHARS, value=bytes(64))
    assert from_message(envelope_pb2.Envelope(signatures=[signature])).signatures
    signature.key_id += "k"
    with pytest.raises(MalformedError, match="key id"):
        from_message(envelope_pb2.Envelope(signatures=[signature]))
