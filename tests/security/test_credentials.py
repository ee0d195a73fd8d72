"""Investigators' credentials: whom a member vouches for, and for how long."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support.memory import FEDERATION, MemoryFederation
from vidfed.security.clock import DAY_MS
from vidfed.security.crypto.envelope import Envelope, Signature
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.documents import ROLES
from vidfed.security.errors import CredentialError
from vidfed.security.identity.credentials import CREDENTIAL_TYPE, MAX_CREDENTIAL_BYTES, Credential, _verified, verify_credential


@pytest.fixture(scope="module")
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr")
    return made


@pytest.fixture(scope="module")
def credential(federation: MemoryFederation) -> Credential:
    return federation.credential("nl", SigningKey.generate(), "inv-1")


def verify(federation: MemoryFederation, envelope: Envelope, *, now_ms: int | None = None, name: str = FEDERATION) -> Credential:
    keys = federation.members["nl"].entry.signing_keys
    return verify_credential(envelope, federation=name, member="nl", member_keys=keys, now_ms=now_ms or federation.clock())


def test_a_member_s_credential_holds(federation: MemoryFederation, credential: Credential) -> None:
    assert verify(federation, credential.to_envelope(federation.members["nl"].signer)) == credential


def test_it_holds_from_its_first_moment_until_before_its_last(federation: MemoryFederation, credential: Credential) -> None:
    envelope = credential.to_envelope(federation.members["nl"].signer)
    verify(federation, envelope, now_ms=credential.not_before_ms)
    verify(federation, envelope, now_ms=credential.not_after_ms - 1)
    with pytest.raises(CredentialError, match="not valid before"):
        verify(federation, envelope, now_ms=credential.not_before_ms - 1)
    with pytest.raises(CredentialError, match=r"expired at .*; ask the member for a new kit"):
        verify(federation, envelope, now_ms=credential.not_after_ms)


def test_signed_by_another_member(federation: MemoryFederation, credential: Credential) -> None:
    with pytest.raises(CredentialError, match="no signature"):
        verify(federation, credential.to_envelope(federation.members["fr"].signer))


def test_signed_by_the_investigator(federation: MemoryFederation) -> None:
    key = SigningKey.generate()
    with pytest.raises(CredentialError):
        verify(federation, federation.credential("nl", key, "inv-1").to_envelope(key))


def test_of_another_member_but_signed_by_this_one(federation: MemoryFederation, credential: Credential) -> None:
    with pytest.raises(CredentialError, match="another member"):
        verify(federation, replace(credential, member="fr").to_envelope(federation.members["nl"].signer))


def test_of_another_federation(federation: MemoryFederation, credential: Credential) -> None:
    with pytest.raises(CredentialError, match="another member or federation"):
        verify(federation, credential.to_envelope(federation.members["nl"].signer), name="elsewhere")


def test_another_document_of_the_member_is_no_credential(federation: MemoryFederation, credential: Credential) -> None:
    signer = federation.members["nl"].signer
    payload = credential.to_envelope(signer).payload
    with pytest.raises(CredentialError, match="expected application"):
        verify(federation, Envelope("application/vnd.vidfed.member-request.v1+json", payload).signed_by(signer))


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"key": "AAAA"},
        {"pseudonym": 5},
        {"not_after_ms": "never"},
        {"not_after_ms": 1e20},
        {"not_before_ms": True},
    ],
)
def test_a_credential_of_another_form_is_refused(federation: MemoryFederation, credential: Credential, change: dict[str, object]) -> None:
    signer = federation.members["nl"].signer
    fields = json.loads(credential.to_envelope(signer).payload) | change
    with pytest.raises(CredentialError):
        verify(federation, Envelope(CREDENTIAL_TYPE, json.dumps(fields).encode()).signed_by(signer))


@pytest.mark.parametrize("change", [{"not_before_ms": 10**30}, {"not_after_ms": -(10**30)}, {"not_before_ms": 2**62}])
def test_a_moment_no_calendar_knows_is_a_refusal_and_no_crash(
    federation: MemoryFederation, credential: Credential, change: dict[str, int]
) -> None:
    signer = federation.members["nl"].signer
    fields = json.loads(credential.to_envelope(signer).payload) | change
    with pytest.raises(CredentialError):
        verify(federation, Envelope(CREDENTIAL_TYPE, json.dumps(fields).encode()).signed_by(signer))


def test_an_error_about_unknown_fields_is_short(federation: MemoryFederation, credential: Credential) -> None:
    signer = federation.members["nl"].signer
    fields = json.loads(credential.to_envelope(signer).payload) | {"x" * 100_000: 1}
    with pytest.raises(CredentialError) as caught:
        verify(federation, Envelope(CREDENTIAL_TYPE, json.dumps(fields).encode()).signed_by(signer))
    assert len(str(caught.value)) < 500


def test_each_credential_has_a_serial_of_its_own(federation: MemoryFederation, credential: Credential) -> None:
    assert federation.credential("nl", SigningKey.generate(), "inv-1").serial != credential.serial
    assert credential.not_after_ms - federation.clock() == 30 * DAY_MS


def test_credentials_of_a_megabyte_are_not_kept(federation: MemoryFederation, credential: Credential) -> None:
    """A member signs what it likes: its credentials are kept once verified, and 4,096 of a megabyte took a node's memory."""
    signer = federation.members["nl"].signer
    fields = json.loads(credential.to_envelope(signer).payload)
    padded = json.dumps(fields).encode() + b" " * 2**20
    kept = _verified.cache_info().currsize
    for envelope in (
        Envelope(CREDENTIAL_TYPE, padded).signed_by(signer),
        Envelope(CREDENTIAL_TYPE, json.dumps(fields | {"roles": ["analyst"] * 1_000}).encode()).signed_by(signer),
        replace(credential.to_envelope(signer), signatures=(Signature("k" * 2**20, b""), *credential.to_envelope(signer).signatures)),
    ):
        with pytest.raises(CredentialError, match=f"more than {MAX_CREDENTIAL_BYTES} bytes"):
            verify(federation, envelope)
    assert _verified.cache_info().currsize == kept
    largest = Envelope(CREDENTIAL_TYPE, json.dumps(fields | {"roles": list(ROLES)}).encode().ljust(MAX_CREDENTIAL_BYTES - 16)).signed_by(
        signer
    )
    assert verify(federation, largest).roles == ROLES
    assert (_verified.cache_info().maxsize or 2**60) * MAX_CREDENTIAL_BYTES <= 16 * 2**20


@pytest.mark.parametrize("field", ["pseudonym", "serial", "member", "federation"])
@pytest.mark.parametrize("text", ["\ud800", "a\nb", "[/x]", "", "a" * 300])
def test_a_credential_s_texts_have_a_grammar(federation: MemoryFederation, credential: Credential, field: str, text: str) -> None:
    """Half a character, say, has no bytes: it could not be logged, and took the lookups that were logged with it along."""
    signer = federation.members["nl"].signer
    fields = json.loads(credential.to_envelope(signer).payload) | {field: text}
    with pytest.raises(CredentialError, match=f"the {field} is not of its form"):
        verify(federation, Envelope(CREDENTIAL_TYPE, json.dumps(fields).encode()).signed_by(signer))


def test_a_role_that_nobody_knows_is_refused(federation: MemoryFederation, credential: Credential) -> None:
    """What it would allow is not known here either."""
    signer = federation.members["nl"].signer
    assert verify(federation, replace(credential, roles=(min(ROLES),)).to_envelope(signer)).roles == (min(ROLES),)
    with pytest.raises(CredentialError, match="'wizard' is unknown"):
        verify(federation, replace(credential, roles=(min(ROLES), "wizard")).to_envelope(signer))
