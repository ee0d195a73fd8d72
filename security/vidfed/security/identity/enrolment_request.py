"""What a person's machine asks a member to certify: public keys, signed with the one that is asked for."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import PublicKey
from vidfed.security.documents import read_document
from vidfed.security.errors import EnrolmentError, EnvelopeError, KeyFileError, SignatureError
from vidfed.security.identity.credentials import SEALING_KEY_BYTES

if TYPE_CHECKING:
    from vidfed.security.crypto.keys import Signer

MAX_REQUEST_BYTES = 32 * 1024
"""Of a request: it has 2 KiB."""
ENROLMENT_TYPE = "application/vnd.vidfed.enrolment.v1+json"
_REQUEST_KIND = "vidfed-enrolment/1"
_REQUEST_FORM = {"kind": str, "envelope": str, "proof": str}
_STATEMENT_FORM = {
    "federation": str,
    "member": str,
    "pseudonym": str,
    "roles": list,
    "invitation": str,
    "renews": str,
    "signing_key": str,
    "sealing_key": str,
    "tls_key": str,
    "made_ms": int,
}


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person's machine asks to have certified.

    Attributes:
        federation, member: by whom.
        pseudonym, roles: as what; must be what the invitation, or the credential that is renewed, says.
        invitation: its id; empty where a credential is renewed without one.
        renews: serial of the credential that is renewed; empty for a first one.
        signing_key: Ed25519.
        sealing_key: X25519, 32 bytes.
        tls_key: public key on P-256, PEM.
        made_ms: when it was made.
    """

    federation: str
    member: str
    pseudonym: str
    roles: tuple[str, ...]
    invitation: str
    renews: str
    signing_key: PublicKey
    sealing_key: bytes
    tls_key: bytes
    made_ms: int

    def to_payload(self) -> bytes:
        """Write the payload that `read` takes."""
        fields = {
            "federation": self.federation,
            "member": self.member,
            "pseudonym": self.pseudonym,
            "roles": list(self.roles),
            "invitation": self.invitation,
            "renews": self.renews,
            "signing_key": self.signing_key.text,
            "sealing_key": base64.b64encode(self.sealing_key).decode(),
            "tls_key": self.tls_key.decode(),
            "made_ms": self.made_ms,
        }
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def read(cls, payload: bytes) -> Statement:
        """Read a payload.

        Raises:
            EnrolmentError: malformed.
        """
        fields = read_document(payload, _STATEMENT_FORM, EnrolmentError, "request")
        try:
            signing_key = PublicKey.parse(fields["signing_key"])
            sealing_key = base64.b64decode(fields["sealing_key"], validate=True)
            tls_key = fields["tls_key"].encode()
        except (KeyFileError, ValueError):
            raise EnrolmentError("request: a key is malformed") from None
        if len(sealing_key) != SEALING_KEY_BYTES or not all(isinstance(role, str) for role in fields["roles"]):
            raise EnrolmentError("request: a key or a role is malformed")
        parts = {"signing_key": signing_key, "sealing_key": sealing_key, "tls_key": tls_key, "roles": tuple(fields["roles"])}
        return cls(**{**fields, **parts})


@dataclass(frozen=True, slots=True)
class Request:
    """A statement, signed with the key it names (and by an officer, for another one), and what proves the invitation."""

    statement: Statement
    envelope: Envelope
    proof: str = ""

    @property
    def id(self) -> str:
        """SHA-256 of what is signed, hex: the same request again is the same."""
        return self.envelope.digest.hex()

    def to_json(self) -> bytes:
        """Write the file that `from_json` reads."""
        return json.dumps({"kind": _REQUEST_KIND, "envelope": self.envelope.to_json().decode(), "proof": self.proof}).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Request:
        """Read a request and check that the key it names signed it.

        Raises:
            EnrolmentError: it is none, or its signature does not hold.
        """
        if len(content) > MAX_REQUEST_BYTES:
            raise EnrolmentError(f"request: {len(content)} bytes, at most {MAX_REQUEST_BYTES} are read")
        fields = read_document(content, _REQUEST_FORM, EnrolmentError, "request")
        if fields["kind"] != _REQUEST_KIND:
            raise EnrolmentError("request: not one of this version")
        try:
            return cls.of(Envelope.from_json(fields["envelope"].encode()), fields["proof"])
        except (EnvelopeError, ValueError) as error:
            raise EnrolmentError(f"request: {error}") from None

    @classmethod
    def of(cls, envelope: Envelope, proof: str = "") -> Request:
        """Take a signed statement, if the key it names signed it.

        Raises:
            EnrolmentError: it did not, or is none.
        """
        statement = Statement.read(envelope.payload)
        try:
            envelope.verify(ENROLMENT_TYPE, [statement.signing_key])
        except (EnvelopeError, SignatureError) as error:
            raise EnrolmentError(f"request: {error}") from None
        return cls(statement, envelope, proof)

    def signed_by(self, officer: Signer) -> Request:
        """Return the request with an officer's signature, which another officer's credential needs."""
        return replace(self, envelope=self.envelope.signed_by(officer))
