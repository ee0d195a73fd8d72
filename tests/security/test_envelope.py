"""Envelopes: DSSE's encoding, signatures over exact bytes, the strict JSON form."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.security.crypto.envelope import MAX_SIGNATURES, Envelope, Signature
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import EnvelopeError, SignatureError

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))
TYPE = "application/vnd.test.v1+json"

payloads = st.binary(max_size=300)
types = st.text(st.characters(codec="utf-8"), max_size=40)
envelopes = st.builds(
    Envelope,
    types,
    payloads,
    st.lists(st.builds(Signature, st.text(st.characters(codec="utf-8"), max_size=20), st.binary(max_size=80)), max_size=4).map(tuple),
)


def test_the_signed_bytes_are_those_of_the_published_dsse_example() -> None:
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, "Test Vectors"
    envelope = Envelope("http://example.com/HelloWorld", b"hello world")
    assert envelope.signed_bytes == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_in_the_signed_bytes_count_bytes_and_not_characters() -> None:
    assert Envelope("ä", "ö".encode()).signed_bytes == b"DSSEv1 2 \xc3\xa4 2 \xc3\xb6"


@given(types, payloads)
def test_what_was_signed_is_given_back(kind: str, payload: bytes) -> None:
    assert Envelope(kind, payload).signed_by(KEY).verify(kind, [KEY.public]) == payload


@given(envelopes)
def test_the_json_form_round_trips(envelope: Envelope) -> None:
    assert Envelope.from_json(envelope.to_json()) == envelope


@given(types, payloads, types, payloads)
def test_no_two_messages_share_their_signed_bytes(kind: str, payload: bytes, other_kind: str, other_payload: bytes) -> None:
    same = (kind, payload) == (other_kind, other_payload)
    assert (Envelope(kind, payload).signed_bytes == Envelope(other_kind, other_payload).signed_bytes) is same


@given(payloads.filter(bool), st.data())
def test_a_flipped_bit_of_the_payload_breaks_the_signature(payload: bytes, data: st.DataObject) -> None:
    envelope = Envelope(TYPE, payload).signed_by(KEY)
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    altered = bytearray(payload)
    altered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        Envelope(TYPE, bytes(altered), envelope.signatures).verify(TYPE, [KEY.public])


@given(payloads, st.integers(0, 511))
def test_a_flipped_bit_of_the_signature_breaks_it(payload: bytes, bit: int) -> None:
    (signature,) = Envelope(TYPE, payload).signed_by(KEY).signatures
    altered = bytearray(signature.value)
    altered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        Envelope(TYPE, payload, (Signature(signature.key_id, bytes(altered)),)).verify(TYPE, [KEY.public])


@given(payloads, types.filter(lambda kind: kind != TYPE))
def test_payload_type_confused(payload: bytes, kind: str) -> None:
    signed = Envelope(TYPE, payload).signed_by(KEY)
    with pytest.raises(EnvelopeError):
        signed.verify(kind, [KEY.public])
    with pytest.raises(SignatureError):
        Envelope(kind, payload, signed.signatures).verify(kind, [KEY.public])


def test_key_id_spoofed() -> None:
    (forged,) = Envelope(TYPE, b"x").signed_by(OTHER).signatures
    spoofed = Envelope(TYPE, b"x", (Signature(KEY.public.key_id, forged.value),))
    with pytest.raises(SignatureError):
        spoofed.verify(TYPE, [KEY.public])


def test_a_wrong_key_id_does_not_hide_a_good_signature() -> None:
    (good,) = Envelope(TYPE, b"x").signed_by(KEY).signatures
    assert Envelope(TYPE, b"x", (Signature(OTHER.public.key_id, good.value),)).verify(TYPE, [KEY.public]) == b"x"


def test_signature_stripped() -> None:
    with pytest.raises(SignatureError):
        Envelope(TYPE, b"x").verify(TYPE, [KEY.public])


def test_nobody_s_keys_verify_nothing() -> None:
    with pytest.raises(SignatureError):
        Envelope(TYPE, b"x").signed_by(KEY).verify(TYPE, [])


def test_a_good_signature_among_strangers_is_found() -> None:
    assert Envelope(TYPE, b"x").signed_by(OTHER, KEY).verify(TYPE, [KEY.public]) == b"x"


def test_more_signatures_than_are_read_are_refused_before_any_is_checked() -> None:
    envelope = Envelope(TYPE, b"x").signed_by(KEY)
    flooded = Envelope(TYPE, b"x", envelope.signatures * (MAX_SIGNATURES + 1))
    with pytest.raises(EnvelopeError, match="at most"):
        flooded.verify(TYPE, [KEY.public])


def test_adding_a_signature_changes_neither_payload_nor_digest() -> None:
    once = Envelope(TYPE, b"x").signed_by(KEY)
    twice = once.signed_by(OTHER)
    assert twice.digest == once.digest == Envelope(TYPE, b"x").digest
    assert len(twice.signatures) == 2


@given(st.binary(max_size=200))
def test_random_bytes_as_json_raise_nothing_but_envelope_errors(content: bytes) -> None:
    with pytest.raises(EnvelopeError):
        Envelope.from_json(content)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["keyid", "sig", "payload", "x"]), inner, max_size=3),
    max_leaves=6,
)


@given(_json, _json, _json)
def test_json_of_odd_types_raises_nothing_but_envelope_errors(kind: object, payload: object, signatures: object) -> None:
    content = json.dumps({"payloadType": kind, "payload": payload, "signatures": signatures}).encode()
    with contextlib.suppress(EnvelopeError):
        Envelope.from_json(content)


@pytest.mark.parametrize("change", [{"extra": 1}, {"payload": None}, {"signatures": {}}, {"payload": "a b"}, {"payloadType": 5}])
def test_a_json_form_with_anything_else_in_it_is_refused(change: dict[str, object]) -> None:
    fields = json.loads(Envelope(TYPE, b"x").signed_by(KEY).to_json()) | change
    with pytest.raises(EnvelopeError):
        Envelope.from_json(json.dumps(fields).encode())


def test_deeply_nested_json_is_refused_and_does_not_end_the_program() -> None:
    with pytest.raises(EnvelopeError):
        Envelope.from_json(b'{"payload":' * 100_000)


def test_a_payload_type_that_is_no_text_on_the_wire_never_verifies() -> None:
    lone_surrogate = json.dumps({"payloadType": "\ud800", "payload": "", "signatures": []}).encode()
    with pytest.raises(EnvelopeError):
        Envelope.from_json(lone_surrogate)
