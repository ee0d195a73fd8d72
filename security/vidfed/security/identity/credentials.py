"""Investigators' credentials: a member vouches for a person whom others know by a pseudonym only."""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.security.clock import as_text
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import PublicKey, Signer
from vidfed.security.documents import FEDERATION_ID, MEMBER_ID, PSEUDONYM, ROLES, SERIAL, read_document
from vidfed.security.errors import CredentialError, EnvelopeError, KeyFileError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Collection

CREDENTIAL_TYPE = "application/vnd.vidfed.credential.v1+json"
MAX_CREDENTIAL_BYTES = 4 * 1024
"""Of a credential's payload and its signatures' key ids: one with every role and the longest names has 1 KiB. What is verified is kept in
memory, so this bounds the memory too."""
_KEPT = 2_048  # verified credentials: at most 20 MiB, and mostly 2
SEALING_KEY_BYTES = 32
_FORM = {
    "federation": str,
    "member": str,
    "serial": str,
    "pseudonym": str,
    "key": str,
    "sealing_key": str,
    "not_before_ms": int,
    "not_after_ms": int,
    "roles": list,
}


@dataclass(frozen=True, slots=True)
class Credential:
    """What a member states about one of its investigators.

    Attributes:
        federation, member: who vouches, and where.
        serial: 32 hex digits; what a revocation names.
        pseudonym: the only name other members see.
        key: the investigator's signing key.
        sealing_key: the investigator's X25519 public key, 32 bytes: what is sealed for this person is sealed for it.
        not_before_ms, not_after_ms: validity.
        roles: of ROLES; what other members' policies may ask for.
    """

    federation: str
    member: str
    serial: str
    pseudonym: str
    key: PublicKey
    sealing_key: bytes
    not_before_ms: int
    not_after_ms: int
    roles: tuple[str, ...] = ()

    def to_envelope(self, signer: Signer) -> Envelope:
        """Sign this credential with the member's key."""
        fields = {
            "federation": self.federation,
            "member": self.member,
            "serial": self.serial,
            "pseudonym": self.pseudonym,
            "key": self.key.text,
            "sealing_key": base64.b64encode(self.sealing_key).decode(),
            "not_before_ms": self.not_before_ms,
            "not_after_ms": self.not_after_ms,
            "roles": list(self.roles),
        }
        return Envelope(CREDENTIAL_TYPE, json.dumps(fields, sort_keys=True).encode()).signed_by(signer)

    @classmethod
    def read(cls, payload: bytes) -> Credential:
        """Read a credential's payload without judging it; for one's own, or after `verify_credential`.

        Raises:
            CredentialError: malformed.
        """
        fields = read_document(payload, _FORM, CredentialError, "credential")
        try:
            key = PublicKey.parse(fields["key"])
            sealing_key = base64.b64decode(fields["sealing_key"], validate=True)
        except (KeyFileError, ValueError) as error:
            raise CredentialError(f"credential: {error}") from None
        for name, pattern in (("federation", FEDERATION_ID), ("member", MEMBER_ID), ("serial", SERIAL), ("pseudonym", PSEUDONYM)):
            if not pattern.fullmatch(fields[name]):
                raise CredentialError(f"credential: the {name} is not of its form")
        if len(sealing_key) != SEALING_KEY_BYTES:
            raise CredentialError(f"credential: a sealing key of {len(sealing_key)} bytes, expected {SEALING_KEY_BYTES}")
        if unknown := [role for role in fields["roles"] if role not in ROLES]:
            raise CredentialError(f"credential: the role {unknown[0]!r:.40} is unknown")
        return cls(**{**fields, "key": key, "sealing_key": sealing_key, "roles": tuple(fields["roles"])})


@functools.lru_cache(maxsize=_KEPT)  # a person asks again and again: a credential's signature is verified once, its validity always
def _verified(envelope: Envelope, member_keys: tuple[PublicKey, ...]) -> Credential:
    return Credential.read(envelope.verify(CREDENTIAL_TYPE, member_keys))


def verify_credential(
    envelope: Envelope,
    *,
    federation: str,
    member: str,
    member_keys: tuple[PublicKey, ...],
    now_ms: int,
    revoked: Collection[str] = (),
) -> Credential:
    """Return the credential if this member of this federation signed it, it is valid now and its serial is not among those `revoked`.

    Raises:
        CredentialError: it does not hold; the message says why.
    """
    if len(envelope.payload) + sum(len(signature.key_id) for signature in envelope.signatures) > MAX_CREDENTIAL_BYTES:
        raise CredentialError(f"credential of more than {MAX_CREDENTIAL_BYTES} bytes")
    try:
        credential = _verified(envelope, member_keys)
    except (EnvelopeError, SignatureError) as error:
        raise CredentialError(f"credential: {error}") from None
    if (credential.federation, credential.member) != (federation, member):
        raise CredentialError("credential of another member or federation")
    if credential.serial in revoked:
        raise CredentialError("credential revoked by its member")
    if now_ms < credential.not_before_ms:
        raise CredentialError(f"credential not valid before {as_text(credential.not_before_ms)}")
    if now_ms >= credential.not_after_ms:
        raise CredentialError(f"credential expired at {as_text(credential.not_after_ms)}; ask the member for a new kit")
    return credential
