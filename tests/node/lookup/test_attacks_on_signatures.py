"""Bytes and signatures that are not what they seem."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.memory import MemoryFederation, MemoryNode, call_of
from vidfed.security.crypto.envelope import Envelope, Signature
from vidfed.security.crypto.keys import SigningKey
from vidfed.v1 import lookup_pb2 as pb
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.requests import write_request
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, REQUEST_TYPE

if TYPE_CHECKING:
    from tests.support.memory import MemoryInvestigator

from tests.node.lookup.asking import question, status


def test_payload_type_confused(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    payload = write_request(question(federation, asker))
    as_answer = Envelope(ANSWER_TYPE, payload).signed_by(asker.signer, federation.members["nl"].signer)
    assert status(node, call_of(asker.credential, as_answer)) is Status.VERSION_UNSUPPORTED
    relabelled = replace(as_answer, payload_type=REQUEST_TYPE)
    assert status(node, call_of(asker.credential, relabelled)) is Status.BAD_SIGNATURE


def test_v1_v2_confusion(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    payload = write_request(question(federation, asker))
    later = Envelope(REQUEST_TYPE.replace("v1", "v2"), payload).signed_by(asker.signer, federation.members["nl"].signer)
    assert status(node, call_of(asker.credential, later)) is Status.VERSION_UNSUPPORTED


def test_an_endless_payload_type_is_not_quoted_in_full(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = Envelope("x" * 100_000, write_request(question(federation, asker)))
    assert status(node, call_of(asker.credential, envelope)) is Status.VERSION_UNSUPPORTED


def test_re_serialisation(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """The same message in other bytes is not what was signed."""
    envelope = federation.sign(question(federation, asker), asker)
    message = pb.LookupRequest.FromString(envelope.payload)
    body = pb.LookupRequest(item_count=message.item_count, columns=message.columns)
    turned = body.SerializeToString() + pb.LookupRequest(header=message.header).SerializeToString()
    assert turned != envelope.payload
    assert status(node, call_of(asker.credential, replace(envelope, payload=turned))) is Status.BAD_SIGNATURE


def test_payload_altered(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    altered = bytearray(envelope.payload)
    altered[-1] ^= 1
    assert status(node, call_of(asker.credential, replace(envelope, payload=bytes(altered)))) is Status.BAD_SIGNATURE


def test_key_id_spoofed(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    stranger = SigningKey.generate()
    envelope = Envelope(REQUEST_TYPE, write_request(question(federation, asker))).signed_by(asker.signer)
    (forged,) = replace(envelope, signatures=()).signed_by(stranger).signatures
    spoofed = Signature(federation.members["nl"].signer.public.key_id, forged.value)
    assert status(node, call_of(asker.credential, replace(envelope, signatures=(*envelope.signatures, spoofed)))) is Status.BAD_SIGNATURE


def test_a_wrong_key_id_decides_nothing(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    renamed = tuple(Signature("0" * 16, signature.value) for signature in envelope.signatures)
    assert status(node, call_of(asker.credential, replace(envelope, signatures=renamed))) is Status.ANSWERED


def test_signature_stripped(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    assert status(node, call_of(asker.credential, replace(envelope, signatures=()))) is Status.BAD_SIGNATURE


def test_one_of_two_signatures_missing(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    for kept in envelope.signatures:
        assert status(node, call_of(asker.credential, replace(envelope, signatures=(kept,)))) is Status.BAD_SIGNATURE


def test_one_of_two_signatures_twice(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    for kept in envelope.signatures:
        assert status(node, call_of(asker.credential, replace(envelope, signatures=(kept, kept)))) is Status.BAD_SIGNATURE


def test_signature_of_another_message(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    one = federation.sign(question(federation, asker), asker)
    other = federation.sign(question(federation, asker, case_reference="other"), asker)
    assert status(node, call_of(asker.credential, replace(one, signatures=other.signatures))) is Status.BAD_SIGNATURE


@pytest.mark.parametrize("length", [0, 63, 65, 1000])
def test_signature_of_the_wrong_length(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, length: int) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    odd = (*envelope.signatures, Signature("", bytes(length)))
    assert status(node, call_of(asker.credential, replace(envelope, signatures=odd))) is Status.MALFORMED


def test_a_flood_of_signatures(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    flooded = replace(envelope, signatures=envelope.signatures * 5)
    assert status(node, call_of(asker.credential, flooded)) is Status.MALFORMED


def test_an_empty_call(node: MemoryNode) -> None:
    assert status(node, LookupCall()) is Status.VERSION_UNSUPPORTED


def test_signed_garbage(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = Envelope(REQUEST_TYPE, b"\xff" * 100).signed_by(asker.signer, federation.members["nl"].signer)
    assert status(node, call_of(asker.credential, envelope)) is Status.MALFORMED
