"""Questions whose contents are refused, and answers that would not fit into a message."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.memory import ANSWERING, MemoryFederation, MemoryNode, call_of, columns_of
from vidfed.index import Algorithm, Hash
from vidfed.node.policy.policy import Limits, Policy
from vidfed.node.records.record import Record
from vidfed.security.clock import MINUTE_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.requests import write_request
from vidfed.wire.statuses import Status
from vidfed.wire.values import MAX_TEXT, MAX_WORK, REQUEST_TYPE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator

from tests.node.lookup.asking import call_for, question, status, told

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
    message.columns[0].codes = bytes(32 * (MAX_WORK + 1))
    message.columns[0].items[:] = [0] * (MAX_WORK + 1)
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
