"""What a member says of itself: the form of it, and that it holds every key it names."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support.memory import MemoryFederation
from vidfed.security.clock import LAST_MS
from vidfed.security.errors import DirectoryError, UnknownMemberError
from vidfed.security.identity.directory import Member, MemberRequest, read_revoked


@pytest.fixture
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr")
    return made


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "NL"},
        {"id": "../nl"},
        {"id": ""},
        {"id": "n" * 33},
        {"id": "nl\n"},
        {"endpoint": "no-port"},
        {"endpoint": ":7443"},
        {"endpoint": "host:x"},
        {"endpoint": "https://host"},
        {"endpoint": "host:99999"},
        {"name": ""},
        {"contact": "two\nlines"},
        {"signing_keys": []},
        {"signing_keys": ["AAAA"]},
        {"signing_keys": [5]},
        {"tls_ca": 5},
    ],
)
def test_a_member_of_another_form_is_refused(federation: MemoryFederation, changes: dict[str, object]) -> None:
    with pytest.raises(DirectoryError):
        Member.from_fields(federation.members["nl"].entry.to_fields() | changes)


def test_an_unknown_member_is_an_error_that_names_it(federation: MemoryFederation) -> None:
    with pytest.raises(UnknownMemberError, match="'xx'"):
        federation.directory().member("xx")


def test_a_request_proves_possession_of_each_key_it_names(federation: MemoryFederation) -> None:
    nl = federation.members["nl"]
    asked = MemberRequest("test", nl.signer.public, nl.entry)
    assert MemberRequest.read(asked.to_envelope(nl.signer, nl.audit_signer)) == asked
    stolen = replace(nl.entry, signing_keys=(*nl.entry.signing_keys, federation.members["fr"].signer.public))
    with pytest.raises(DirectoryError, match="no signature"):
        MemberRequest.read(replace(asked, member=stolen).to_envelope(nl.signer, nl.audit_signer))


@pytest.mark.parametrize("authority", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "leaf", "three"])
def test_a_request_without_one_ca_certificate_or_two_is_refused(federation: MemoryFederation, authority: str) -> None:
    nl, fr = federation.members["nl"], federation.members["fr"]
    text = {"leaf": nl.tls.certificate, "three": nl.ca.certificate + fr.ca.certificate + nl.ca.certificate}.get(
        authority, authority.encode()
    )
    with pytest.raises(DirectoryError, match="CA"):
        MemberRequest.read(MemberRequest("test", nl.signer.public, replace(nl.entry, tls_ca=text)).to_envelope(nl.signer, nl.audit_signer))


def test_an_audit_key_that_did_not_sign_is_refused(federation: MemoryFederation) -> None:
    nl = federation.members["nl"]
    asked = MemberRequest("test", nl.signer.public, nl.entry)
    with pytest.raises(DirectoryError, match="no signature"):
        MemberRequest.read(asked.to_envelope(nl.signer))
    stolen = replace(nl.entry, audit_keys=federation.members["fr"].entry.audit_keys)
    with pytest.raises(DirectoryError, match="no signature"):
        MemberRequest.read(replace(asked, member=stolen).to_envelope(nl.signer, nl.audit_signer))


def test_a_retired_key_still_in_use_is_refused(federation: MemoryFederation) -> None:
    nl = federation.members["nl"].entry
    with pytest.raises(DirectoryError, match="both in use and retired"):
        Member.from_fields(replace(nl, retired_keys=nl.signing_keys).to_fields())
    other = federation.members["fr"].entry.signing_keys
    assert Member.from_fields(replace(nl, retired_keys=other).to_fields()).retired_keys == other


@pytest.mark.parametrize("when", [True, -1, LAST_MS + 1, 1.5, "1", None])
def test_a_credential_revoked_at_no_time_is_refused(when: object) -> None:
    serial = "0123456789abcdef" * 2
    assert read_revoked(json.dumps({"revoked": {serial: LAST_MS}}).encode()) == {serial: LAST_MS}
    with pytest.raises(DirectoryError, match="not a number of ms"):
        read_revoked(json.dumps({"revoked": {serial: when}}).encode())
