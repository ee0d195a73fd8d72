"""Signed envelopes: Ed25519 over DSSE's pre-authentication encoding of the exact bytes.

Source: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md and envelope.md (its JSON form, used for files).
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from vidfed.security.errors import EnvelopeError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidfed.security.crypto.keys import PublicKey, Signer

MAX_SIGNATURES = 8  # more than any message needs; bounds the work an unauthenticated sender can cause


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature; `key_id` is a hint and decides nothing."""

    key_id: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload, what type it is of, and the signatures over both. What is signed and its digest are worked out once."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()

    @cached_property
    def signed_bytes(self) -> bytes:
        """What the signatures cover: DSSE's pre-authentication encoding, PAE(type, payload)."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the signed bytes, 32 bytes: names this message whoever signed it."""
        return hashlib.sha256(self.signed_bytes).digest()

    def signed_by(self, *signers: Signer) -> Envelope:
        """Return this envelope with the signers' signatures added."""
        message = self.signed_bytes
        added = tuple(Signature(signer.public.key_id, signer.sign(message)) for signer in signers)
        signed = replace(self, signatures=self.signatures + added)
        vars(signed)["signed_bytes"] = message  # signatures are not among what is signed
        return signed

    def verify(self, payload_type: str, keys: Iterable[PublicKey]) -> bytes:
        """Return the payload if any of `keys` signed it as `payload_type`; parse it only after this.

        Raises:
            EnvelopeError: it is of another type, or carries more than MAX_SIGNATURES signatures.
            SignatureError: none of the keys signed it.
        """
        if self.payload_type != payload_type:
            raise EnvelopeError(f"expected {payload_type}, got {self.payload_type!r:.80}")
        if len(self.signatures) > MAX_SIGNATURES:
            raise EnvelopeError(f"{len(self.signatures)} signatures, at most {MAX_SIGNATURES} are read")
        message = self.signed_bytes
        for key in keys:
            hint = key.key_id  # decides nothing but which signature is tried first
            if any(key.holds(message, signature.value) for signature in sorted(self.signatures, key=lambda each: each.key_id != hint)):
                return self.payload
        raise SignatureError("no signature by the expected key")

    def to_json(self) -> bytes:
        """Write DSSE's JSON form."""
        fields = {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [{"keyid": s.key_id, "sig": base64.b64encode(s.value).decode()} for s in self.signatures],
        }
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Envelope:
        """Read DSSE's JSON form; unknown fields are refused.

        Raises:
            EnvelopeError: it is not of that form.
        """
        try:
            fields = json.loads(content)
            if set(fields) != {"payloadType", "payload", "signatures"} or not isinstance(fields["signatures"], list):
                raise EnvelopeError("not a signed file: it must have payloadType, payload and signatures, and nothing else")
            fields["payloadType"].encode()  # JSON can name half a character, which has no bytes that could be signed
            signatures = tuple(
                Signature(str(entry["keyid"]), base64.b64decode(entry["sig"], validate=True)) for entry in fields["signatures"]
            )
            return cls(fields["payloadType"], base64.b64decode(fields["payload"], validate=True), signatures)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise EnvelopeError("not a signed file: damaged, or of another kind") from None
