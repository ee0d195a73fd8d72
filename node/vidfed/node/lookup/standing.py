"""Standing questions at a node: whether a mandate holds, and what an epoch means. Section 5 of docs/casework-protocol.md.

Of a mandate that holds a node keeps nothing: serial and end are kept of one that has ended before its time, so that it is refused.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from vidfed.node.lookup.question import RefusalError
from vidfed.security.clock import MINUTE_MS, as_text
from vidfed.security.errors import EnvelopeError, SignatureError
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.requests import MANDATE_TYPE, Mandate, columns_digest, read_mandate
from vidfed.wire.statuses import Status, WireError
from vidfed.wire.values import EPOCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.node.policy.policy import Rule
    from vidfed.security.identity.credentials import Credential
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupRequest

SHORTEST_MS = 15 * MINUTE_MS  # between two questions by one epoch, if nothing else is set
_EARLY = 15  # a fifteenth of that: so far the asker's timer may be ahead of this clock
_TOLERANCE_MS = MINUTE_MS
_DIGEST_BYTES = 16
_FORM = struct.Struct(f">qqq{_DIGEST_BYTES}s{_DIGEST_BYTES}s{_DIGEST_BYTES}s")  # 72 bytes, 40 more sealed
_ZEROS = bytes(EPOCH_BYTES - _FORM.size - SecretBox.NONCE_SIZE - SecretBox.MACBYTES)


class Epoch(NamedTuple):
    """Where the next question begins: behind which version, asked when, and digests of what must be the same."""

    version: int
    asked_ms: int
    history: bytes
    generation: bytes
    bound_to: bytes


@dataclass(frozen=True, slots=True)
class StandingQuestions:
    """What one node needs for them.

    Attributes:
        member: this node's.
        key: 32 bytes that seal its epochs.
        has_ended: tells whether a member's mandate of this serial was ended before its time.
        mark: gives the mark of the records' history up to a version.
        shortest_ms: between two questions by one epoch.
    """

    member: str
    key: bytes
    has_ended: Callable[[str, bytes], bool]
    mark: Callable[[int], str]
    shortest_ms: int = SHORTEST_MS

    def verify(self, call: LookupCall, request: LookupRequest, credential: Credential, now_ms: int) -> Mandate:
        """Return the mandate by which a member may ask this question now.

        Raises:
            RefusalError: it does not hold, is for something else, or has ended.
        """
        try:
            envelope = wire_envelope.from_message(call.mandate)
            mandate = read_mandate(envelope.verify(MANDATE_TYPE, [credential.key]))
        except SignatureError:
            raise RefusalError(Status.BAD_SIGNATURE, "the mandate is not signed by the person whose credential it is") from None
        except (EnvelopeError, WireError) as error:
            raise RefusalError(Status.MALFORMED, f"the mandate: {error}") from None
        header, standing = request.header, request.standing
        if standing is None or standing.mandate != envelope.digest:
            raise RefusalError(Status.BAD_SIGNATURE, "the question is signed for another mandate")
        stated = (header.federation, header.issuer, header.pseudonym, header.purpose, header.legal_basis, header.offence_type)
        allowed = (mandate.federation, mandate.issuer, mandate.pseudonym, mandate.purpose, mandate.legal_basis, mandate.offence_type)
        if stated != allowed or header.case_reference != mandate.case_reference:
            raise RefusalError(Status.NOT_PERMITTED, "the mandate is for another purpose, case or person")
        if self.member not in mandate.audience:
            raise RefusalError(Status.WRONG_AUDIENCE, f"the mandate is not for {self.member}")
        digest = columns_digest(request.item_count, request.columns)
        if digest not in (mandate.sketches if standing.sketch else mandate.parts):
            raise RefusalError(Status.NOT_PERMITTED, "the mandate is for other hashes")
        ends_ms = min(mandate.ends_ms, credential.not_after_ms)
        if not mandate.begins_ms - _TOLERANCE_MS <= now_ms < ends_ms:
            raise RefusalError(Status.NOT_PERMITTED, f"the mandate ended at {as_text(ends_ms)}, or has not begun")
        if self.has_ended(header.issuer, mandate.serial):
            raise RefusalError(Status.NOT_PERMITTED, "the mandate was withdrawn, or its case closed")
        return mandate

    def since(self, request: LookupRequest, mandate: Mandate, generation: bytes, now_ms: int) -> int | None:
        """Return the version behind which is searched; None: everything, since nothing was asked yet or something is not as it was.

        Raises:
            RefusalError: it was asked too short a time ago.
        """
        epoch = self._open(request.standing.epoch if request.standing else b"")
        if epoch is None or epoch.bound_to != _bound_to(request, mandate):
            return None
        if now_ms - epoch.asked_ms < self.shortest_ms - self.shortest_ms // _EARLY:
            raise RefusalError(Status.RATE_LIMITED, f"a standing question is asked every {self.shortest_ms / MINUTE_MS:g} minutes at most")
        same = epoch.generation == generation and epoch.history == _short(self.mark(epoch.version).encode())
        return epoch.version if same else None

    def next_epoch(self, request: LookupRequest, mandate: Mandate, generation: bytes, version: int, now_ms: int) -> bytes:
        """Return what the next question is to name: sealed, of constant length, another one each time."""
        history = _short(self.mark(version).encode())
        packed = _FORM.pack(1, version, now_ms, history, generation, _bound_to(request, mandate))
        return bytes(SecretBox(self.key).encrypt(packed + _ZEROS))

    def _open(self, sealed: bytes) -> Epoch | None:
        try:
            opened = SecretBox(self.key).decrypt(sealed) if sealed else b""
        except (CryptoError, ValueError):
            return None
        return Epoch(*_FORM.unpack(opened[: _FORM.size])[1:]) if opened else None


def generation_of(policy: str, rule: Rule, roles: frozenset[str]) -> bytes:
    """Return a digest of what decides what is tellable: where it changes, everything is asked anew."""
    return _short("\0".join((policy, rule.name, *sorted(roles))).encode())


def _bound_to(request: LookupRequest, mandate: Mandate) -> bytes:
    part = mandate.part_of(columns_digest(request.item_count, request.columns)) or b""
    return _short(b"\0".join((request.header.issuer.encode(), mandate.serial, part)))


def _short(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=_DIGEST_BYTES).digest()
