"""Attacks on a node by messages, by name. Each ends in a signed refusal, bound to the question, that tells nothing else.

The peer is faked, the crypto is not: members, credentials and calls are really signed, and the node's store, index, replay memory and
audit log are the real ones.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.node.lookup.conftest import KNOWN, UNKNOWN
from tests.support.disk import full_disk
from tests.support.memory import ANSWERING, FEDERATION, MemoryFederation, MemoryNode, call_of, columns_of
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.authenticate import UnknownPeerError
from vidfed.node.policy.policy import Limits, Policy
from vidfed.node.records.record import Record
from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.security.crypto.envelope import Envelope, Signature
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.identity.credentials import Credential
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.security.identity.tls import make_node_leaf
from vidfed.v1 import lookup_pb2 as pb
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.answers import read_answer
from vidfed.wire.requests import write_request
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, MAX_CODES, MAX_TEXT, REQUEST_TYPE, LookupAnswer, LookupRequest, Purpose

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator


def told(node: MemoryNode, call: LookupCall, peer: str = "nl") -> LookupAnswer:
    """What the node says; that it said it, and to this very question, is checked here."""
    envelope = node.ask(call, peer)
    answer = read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))
    header = answer.header
    assert header.request_digest == Envelope(call.request.payload_type, call.request.payload).digest
    assert (header.federation, header.issuer, header.audience) == (FEDERATION, node.member.id, peer)
    assert (header.sequence, header.last, header.previous_digest) == (0, True, b"")
    assert len(header.detail) <= MAX_TEXT
    if header.status is not Status.ANSWERED:
        assert (answer.records, answer.hits, answer.truncated_items, header.index) == ((), (), (), None)
    if header.status is not Status.AUDIT_UNAVAILABLE:
        assert answer.log is not None
        assert answer.log.position == node.logged() - 1
    return answer


def status(node: MemoryNode, call: LookupCall, peer: str = "nl") -> Status:
    return told(node, call, peer).header.status


def question(made: MemoryFederation, asker: MemoryInvestigator, /, **header: object) -> LookupRequest:
    return made.request(asker, [KNOWN], **header)


def call_for(made: MemoryFederation, asker: MemoryInvestigator, /, **header: object) -> LookupCall:
    return call_of(asker.credential, made.sign(question(made, asker, **header), asker))


def test_an_honest_question_is_answered(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    answer = told(node, call_for(federation, asker))
    assert answer.header.status is Status.ANSWERED
    assert [(hit.item, answer.records[hit.record].series) for hit in answer.hits] == [(0, "S")]


# --- replay ---


def test_replay(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker)
    assert status(node, call) is Status.ANSWERED
    assert status(node, call) is Status.REPLAYED


def test_replay_after_restart(federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    call = call_for(federation, asker)
    with MemoryNode(federation, "fr", tmp_path) as before:
        assert status(before, call) is Status.ANSWERED
    with MemoryNode(federation, "fr", tmp_path) as after:
        assert status(after, call) is Status.REPLAYED


def test_replay_with_more_signatures(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    assert status(node, call_of(asker.credential, envelope)) is Status.ANSWERED
    dressed = envelope.signed_by(SigningKey.generate())
    assert status(node, call_of(asker.credential, dressed)) is Status.REPLAYED


def test_replay_later_inside_the_window(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker, issued_ms=federation.clock() + WINDOW_MS, expires_ms=federation.clock() + DAY_MS)
    assert status(node, call) is Status.ANSWERED
    federation.clock.advance(2 * WINDOW_MS)
    assert status(node, call) is Status.REPLAYED


def test_a_message_id_used_for_another_question(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    message_id = secrets.token_bytes(16)
    assert status(node, call_for(federation, asker, message_id=message_id)) is Status.ANSWERED
    assert status(node, call_for(federation, asker, message_id=message_id, case_reference="other")) is Status.REPLAYED


def test_an_outsider_cannot_use_up_a_message_id(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    good = federation.sign(question(federation, asker), asker)
    stripped = replace(good, signatures=good.signatures[:1])
    assert status(node, call_of(asker.credential, stripped)) is Status.BAD_SIGNATURE
    assert status(node, call_of(asker.credential, good)) is Status.ANSWERED


def test_replay_memory_that_cannot_be_written(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    node.replay.close()
    assert status(node, call_for(federation, asker)) is Status.INTERNAL_ERROR


# --- whom and what for it was signed ---


def test_sent_on_to_another_node(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    to_br = call_of(asker.credential, federation.sign(federation.request(asker, [KNOWN], "br"), asker))
    assert status(node, to_br) is Status.WRONG_AUDIENCE


def test_sent_on_by_another_member(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """The envelope's issuer differs from the TLS peer."""
    assert status(node, call_for(federation, asker), peer="br") is Status.BAD_SIGNATURE


def test_sent_on_and_signed_by_another_member(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker).signed_by(federation.members["br"].signer)
    assert status(node, call_of(asker.credential, envelope), peer="br") is Status.BAD_CREDENTIAL


def test_issuer_in_the_request_is_another_member(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker, issuer="br")) is Status.BAD_SIGNATURE


def test_other_method(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker, method="vidfed.v1.NodeService/Subscribe")) is Status.WRONG_METHOD


@pytest.mark.parametrize("name", ["'" * MAX_TEXT, "\N{RIGHTWARDS ARROW}" * MAX_TEXT, '"' * 250 + "'" * 250])
def test_a_refusal_that_quotes_a_long_name_can_still_be_read(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, name: str
) -> None:
    assert status(node, call_for(federation, asker, method=name)) is Status.WRONG_METHOD


def test_other_federation(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker, federation="elsewhere")) is Status.WRONG_FEDERATION


# --- bytes and signatures ---


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


# --- credentials ---


def with_credential(made: MemoryFederation, asker: MemoryInvestigator, /, signed_by: str = "nl", **changes: object) -> LookupCall:
    """An honest question with a credential in which something is wrong."""
    credential = replace(made.credential("nl", asker.signer, asker.pseudonym), **changes)  # type: ignore[arg-type]
    envelope = credential.to_envelope(made.members[signed_by].signer)
    return call_of(envelope, made.sign(question(made, asker), asker))


def test_credential_expired(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    answer = told(node, with_credential(federation, asker, not_after_ms=federation.clock()))
    assert answer.header.status is Status.BAD_CREDENTIAL
    assert "new kit" in answer.header.detail + answer.header.status.advice


def test_credential_not_valid_yet(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, with_credential(federation, asker, not_before_ms=federation.clock() + 1)) is Status.BAD_CREDENTIAL


def test_credential_from_outside_the_calendar(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, with_credential(federation, asker, not_before_ms=2**70)) is Status.BAD_CREDENTIAL


def test_credential_revoked(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    serial = Credential.read(asker.credential.payload).serial
    nl = federation.members["nl"]
    federation.members["nl"] = replace(nl, entry=replace(nl.entry, revoked=frozenset({serial})))
    answer = told(node, call_for(federation, asker))
    assert (answer.header.status, answer.header.detail) == (Status.BAD_CREDENTIAL, "credential revoked by its member")
    assert status(node, call_for(federation, federation.investigator("nl", "inv-2"))) is Status.ANSWERED


def test_credential_of_another_member(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, with_credential(federation, asker, signed_by="br")) is Status.BAD_CREDENTIAL
    assert status(node, with_credential(federation, asker, member="br")) is Status.BAD_CREDENTIAL
    of_br = federation.investigator("br")
    assert status(node, call_of(of_br.credential, federation.sign(question(federation, asker), asker))) is Status.BAD_CREDENTIAL


def test_credential_of_another_federation(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, with_credential(federation, asker, federation="elsewhere")) is Status.BAD_CREDENTIAL


def test_credential_of_another_person(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    colleague = federation.investigator("nl", "inv-2")
    assert status(node, call_of(colleague.credential, federation.sign(question(federation, asker), asker))) is Status.BAD_SIGNATURE
    assert status(node, with_credential(federation, asker, pseudonym="inv-2")) is Status.BAD_CREDENTIAL


def test_credential_missing(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker)
    call.ClearField("credential")
    assert status(node, call) is Status.BAD_CREDENTIAL


def test_credential_altered(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    longer = replace(asker.credential, payload=asker.credential.payload.replace(b"inv-1", b"inv-9"))
    assert status(node, call_of(longer, federation.sign(question(federation, asker), asker))) is Status.BAD_CREDENTIAL


def test_request_in_the_place_of_the_credential(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    assert status(node, call_of(envelope, envelope)) is Status.BAD_CREDENTIAL


def test_credential_that_is_very_wrong_is_not_quoted_in_full(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    payload = b'{"' + b"x" * 500_000 + b'": 1}'
    envelope = replace(asker.credential, payload=payload, signatures=()).signed_by(federation.members["nl"].signer)
    assert status(node, call_of(envelope, federation.sign(question(federation, asker), asker))) is Status.BAD_CREDENTIAL


# --- time ---


@pytest.mark.parametrize("skew_ms", [-WINDOW_MS, WINDOW_MS])
def test_a_clock_that_is_a_little_wrong_is_forgiven(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, skew_ms: int
) -> None:
    issued_ms = federation.clock() + skew_ms
    call = call_for(federation, asker, issued_ms=issued_ms, expires_ms=issued_ms + 2 * WINDOW_MS)
    assert status(node, call) is Status.ANSWERED


@pytest.mark.parametrize("skew_ms", [-WINDOW_MS - 1, WINDOW_MS + 1, -(2**62), 2**62])
def test_clock_skew_either_way(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, skew_ms: int) -> None:
    issued_ms = federation.clock() + skew_ms
    call = call_for(federation, asker, issued_ms=issued_ms, expires_ms=issued_ms + 2 * WINDOW_MS)
    assert status(node, call) is Status.OUTSIDE_TIME_WINDOW


def test_expired_on_its_way(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker)
    federation.clock.advance(30_000)
    assert status(node, call) is Status.OUTSIDE_TIME_WINDOW


# --- contents ---


def test_unknown_field_smuggled(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    payload = write_request(question(federation, asker)) + bytes([0xBA, 0x3E, 0x02]) + b"hi"
    envelope = Envelope(REQUEST_TYPE, payload).signed_by(asker.signer, federation.members["nl"].signer)
    assert status(node, call_of(asker.credential, envelope)) is Status.VERSION_UNSUPPORTED


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"purpose": None}, "purpose"),
        ({"legal_basis": ""}, "legal basis"),
        ({"legal_basis": "   "}, "legal basis"),
        ({"offence_type": ""}, "offence type"),
        ({"offence_type": "  "}, "offence type"),
        ({"case_reference": ""}, "case reference"),
        ({"case_reference": " "}, "case reference"),
        ({"purpose": None, "case_reference": ""}, "purpose, case reference"),
    ],
)
def test_a_question_without_its_reason(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, missing: dict[str, object], said: str
) -> None:
    answer = told(node, call_for(federation, asker, **missing))
    assert answer.header.status is Status.JUSTIFICATION_MISSING
    assert answer.header.detail == f"not stated: {said}"


def ask_raw(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, message: pb.LookupRequest) -> Status:
    envelope = Envelope(REQUEST_TYPE, message.SerializeToString()).signed_by(asker.signer, federation.members["nl"].signer)
    return status(node, call_of(asker.credential, envelope))


def test_too_many_hashes(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    message = pb.LookupRequest.FromString(write_request(question(federation, asker)))
    message.columns[0].codes = bytes(32 * (MAX_CODES + 1))
    message.columns[0].items[:] = [0] * (MAX_CODES + 1)
    assert ask_raw(node, federation, asker, message) is Status.TOO_LARGE


def test_a_million_hashes(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    message = pb.LookupRequest.FromString(write_request(question(federation, asker)))
    message.columns[0].codes = bytes(32 * 1_000_000)
    message.columns[0].items[:] = [0] * 1_000_000
    assert ask_raw(node, federation, asker, message) is Status.TOO_LARGE


def test_hash_of_the_wrong_length(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    message = pb.LookupRequest.FromString(write_request(question(federation, asker)))
    message.columns[0].codes = bytes(31)
    assert ask_raw(node, federation, asker, message) is Status.MALFORMED


def test_an_unknown_algorithm(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    message = pb.LookupRequest.FromString(write_request(question(federation, asker)))
    message.columns[0].algorithm = 77  # type: ignore[assignment]  # what a later version would send
    assert ask_raw(node, federation, asker, message) is Status.VERSION_UNSUPPORTED


@pytest.mark.parametrize(
    ("algorithm", "distance"), [(Algorithm.PDQ, 65), (Algorithm.PHASH, 11), (Algorithm.SHA256, 1), (Algorithm.PDQ, 2**32 - 1)]
)
def test_distance_out_of_range(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, algorithm: Algorithm, distance: int
) -> None:
    columns = columns_of([Hash(algorithm, bytes(algorithm.code_bytes))], distance)
    envelope = federation.sign(replace(question(federation, asker), columns=columns), asker)
    assert status(node, call_of(asker.credential, envelope)) is Status.NOT_PERMITTED


def test_enumeration_by_one_member(federation: MemoryFederation, tmp_path: Path) -> None:
    """The rate limit holds for a member, whoever of its people asks, and for nobody else."""
    with MemoryNode(federation, "fr", tmp_path, replace(ANSWERING, limits=Limits(hashes_per_minute=2))) as node:
        one, other, of_br = federation.investigator("nl"), federation.investigator("nl", "inv-2"), federation.investigator("br")
        assert status(node, call_for(federation, one)) is Status.ANSWERED
        assert status(node, call_for(federation, other)) is Status.ANSWERED
        assert status(node, call_for(federation, one)) is Status.RATE_LIMITED
        assert status(node, call_for(federation, of_br), peer="br") is Status.ANSWERED
        federation.clock.advance(MINUTE_MS)
        assert status(node, call_for(federation, one)) is Status.ANSWERED


# --- answers that would not fit ---


def test_an_answer_too_large_for_one_message_is_cut_and_says_so(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    note = "x" * MAX_TEXT
    described = dict.fromkeys(("series", "case_reference", "case_contact", "handling_note", "category", "category_scale"), note)
    node.hold(*(Record({Algorithm.PDQ: number.to_bytes(32)}, **described) for number in range(600)))  # type: ignore[arg-type]
    items = [Hash(Algorithm.PDQ, (number << 6).to_bytes(32)) for number in range(10)]  # 64 records each are within 6 bits
    request = replace(federation.request(asker, items), columns=columns_of(items))
    node.policy.policy = Policy((replace(ANSWERING, max_hits_per_item=50),))
    answer = told(node, call_of(asker.credential, federation.sign(request, asker)))
    assert answer.header.status is Status.ANSWERED
    assert {hit.item for hit in answer.hits} == set(range(10))
    assert answer.truncated_items == tuple(range(10))
    assert {hit.matches[0].distance for hit in answer.hits if hit.item == 0} >= {0, 1}


def test_an_answer_that_cannot_be_cut_to_fit_is_refused(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    note = "x" * MAX_TEXT
    names = ("series", "case_reference", "case_contact", "handling_note", "category", "category_scale")
    far_apart = [Hash(Algorithm.MD5, number.to_bytes(16)) for number in range(400)]
    node.hold(*(Record({Algorithm.MD5: entry.code}, **dict.fromkeys(names, note)) for entry in far_apart))  # type: ignore[arg-type]
    call = call_of(asker.credential, federation.sign(federation.request(asker, far_apart), asker))
    assert status(node, call) is Status.TOO_LARGE


# --- policy ---


def test_a_node_with_no_policy_answers_nobody(federation: MemoryFederation, tmp_path: Path) -> None:
    with MemoryNode(federation, "fr", tmp_path) as node:
        node.policy.policy = Policy()
        for member in federation.members:
            answer = told(node, call_for(federation, federation.investigator(member)), peer=member)
            assert answer.header.status is Status.NOT_PERMITTED
            assert answer.header.detail == ""


def test_a_purpose_that_is_not_answered(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    node.policy.policy = Policy((replace(ANSWERING, purposes=frozenset({Purpose.PROSECUTION})),))
    assert status(node, call_for(federation, asker)) is Status.NOT_PERMITTED


def test_a_member_that_is_not_answered(federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    with MemoryNode(federation, "fr", tmp_path, replace(ANSWERING, members=frozenset({"br"}))) as node:
        assert status(node, call_for(federation, asker)) is Status.NOT_PERMITTED


@pytest.mark.parametrize("quarantined", ["nl", "fr"], ids=["the asker", "the node itself"])
def test_in_quarantine_only_a_self_test_is_answered(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, quarantined: str
) -> None:
    node.policy.policy = Policy((replace(ANSWERING, purposes=frozenset(Purpose)),))
    assert status(node, call_for(federation, asker)) is Status.ANSWERED
    member = federation.members[quarantined]
    federation.members[quarantined] = replace(member, entry=replace(member.entry, quarantined=True))
    assert status(node, call_for(federation, asker)) is Status.NOT_PERMITTED
    assert status(node, call_for(federation, asker, purpose=Purpose.SELF_TEST)) is Status.ANSWERED


def test_a_node_whose_own_member_was_removed_answers_a_self_test_only(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    node.policy.policy = Policy((replace(ANSWERING, purposes=frozenset(Purpose)),))
    federation.remove("fr")
    assert status(node, call_for(federation, asker, audience=("fr",))) is Status.NOT_PERMITTED
    assert status(node, call_for(federation, asker, audience=("fr",), purpose=Purpose.SELF_TEST)) is Status.ANSWERED


# --- who is at the other end ---


def test_a_caller_who_is_no_member_is_owed_nothing(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker)
    stranger = MemoryFederation(federation.clock)
    stranger.add("nl", "xx")
    for leaf in (
        stranger.members["nl"].tls.certificate,  # a CA of the same name
        stranger.members["xx"].tls.certificate,
        make_node_leaf(federation.members["br"].ca, FEDERATION, "nl").certificate,  # member A's CA naming member B
        make_node_leaf(federation.members["nl"].ca, "elsewhere", "nl").certificate,
        asker.tls.certificate,  # an investigator, past the own gateway
    ):
        with pytest.raises(UnknownPeerError):
            node.ask_as(leaf, call)
    assert node.logged() == 0


def test_a_certificate_that_names_nobody_is_owed_nothing(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    with pytest.raises(UnknownPeerError):
        node.ask_as(b"garbage", call_for(federation, asker))


def test_removed_but_still_connected(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    leaf = federation.members["nl"].tls.certificate
    first, second = call_for(federation, asker), call_for(federation, asker)
    node.ask_as(leaf, first)
    federation.remove("nl")
    with pytest.raises(UnknownPeerError):
        node.ask_as(leaf, second)


def test_a_replaced_signing_key_no_longer_speaks(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker)
    nl = federation.members["nl"]
    federation.members["nl"] = replace(nl, entry=replace(nl.entry, signing_keys=(SigningKey.generate().public,)))
    assert status(node, call) is Status.BAD_SIGNATURE


# --- when the node itself is not well ---


def test_a_directory_that_has_expired(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    federation.expires_ms = federation.clock()
    assert status(node, call_for(federation, asker)) is Status.DIRECTORY_UNAVAILABLE


@pytest.mark.parametrize("known", [True, False])
def test_audit_that_cannot_be_written(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, *, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    node.audit.close()
    request = federation.request(asker, [KNOWN if known else UNKNOWN])
    call = call_of(asker.credential, federation.sign(request, asker))
    with caplog.at_level(logging.ERROR):
        answer = told(node, call)
    assert answer.header.status is Status.AUDIT_UNAVAILABLE
    assert (answer.header.detail, answer.log) == ("", None)
    assert "audit" in caplog.text


def test_full_disk(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker)) is Status.ANSWERED  # the index is up to date before the disk is full
    with full_disk():
        answer = read_answer(node.ask(call_for(federation, asker), "nl").verify(ANSWER_TYPE, node.member.entry.signing_keys))
    assert answer.header.status is not Status.ANSWERED
    assert (answer.hits, answer.records) == ((), ())
    assert status(node, call_for(federation, asker)) is Status.ANSWERED


def test_a_refusal_needs_the_audit_log_too(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    node.audit.close()
    assert status(node, call_for(federation, asker, purpose=None)) is Status.AUDIT_UNAVAILABLE


def test_index_behind(federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = MemoryNode(federation, "fr", tmp_path)  # its catalogue is never started, so nothing follows the store
    monkeypatch.setattr("vidfed.node.search.catalogue.Catalogue.search.__kwdefaults__", {"patience_s": 0.0}, raising=True)
    node.hold(Record({KNOWN.algorithm: KNOWN.code}))
    for entry in (KNOWN, UNKNOWN):
        call = call_of(asker.credential, federation.sign(federation.request(asker, [entry]), asker))
        assert status(node, call) is Status.STALE_INDEX
    node.__exit__()


def test_index_broken(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker)) is Status.ANSWERED
    node.catalogue.close()
    perceptual = Hash(Algorithm.PDQ, bytes(32))
    call = call_of(asker.credential, federation.sign(federation.request(asker, [perceptual]), asker))
    assert status(node, call) is Status.INDEX_UNAVAILABLE


def test_store_broken(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    assert status(node, call_for(federation, asker)) is Status.ANSWERED
    node.catalogue.close()
    node.store.close()
    for path in tmp_path.glob("records.db*"):
        path.unlink()
    (tmp_path / "records.db").mkdir()
    assert status(node, call_for(federation, asker)) is Status.INDEX_UNAVAILABLE


def test_a_defect_is_a_signed_refusal_that_tells_nothing(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(type(node.catalogue), "search", fail)
    answer = told(node, call_for(federation, asker))
    assert (answer.header.status, answer.header.detail) == (Status.INTERNAL_ERROR, "")


def test_nothing_asked_is_in_the_log(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        told(node, call_for(federation, asker))
        told(node, call_for(federation, asker, purpose=None))
        told(node, call_for(federation, asker, issuer="br"))
    assert KNOWN.code.hex() not in caplog.text
    assert "T-2026-1" not in caplog.text
