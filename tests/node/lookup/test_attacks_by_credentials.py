"""Credentials that do not hold, and messages from another time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.memory import MemoryFederation, MemoryNode, call_of
from vidfed.security.identity.credentials import Credential
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.wire.statuses import Status

if TYPE_CHECKING:
    from tests.support.memory import MemoryInvestigator
    from vidfed.v1.lookup_pb2 import LookupCall

from tests.node.lookup.asking import call_for, question, status, told

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
