"""What one entry of the log says, and how the tree commits to it.

An entry's body is JSON. Its leaf in the tree is only `SHA-256(domain || salt || body)`: whoever has body and salt can prove the entry,
and once both are dropped the leaf says nothing about anybody while the tree still verifies. Of a case reference the body holds a
commitment under a salt of its own: whoever knows the reference can check it, nobody can read it. Never a hash of a picture.
"""

from __future__ import annotations

import hashlib
import json
import os
from enum import Enum, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from vidfed.security.audit.merkle import leaf_hash
from vidfed.security.documents import read_document
from vidfed.security.errors import AuditDamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping

SALT_BYTES = 32
_ENTRY_DOMAIN = b"vidfed-audit-entry/1\x00"
_CASE_DOMAIN = b"vidfed-audit-case/1\x00"
_FORM = {
    "time_ms": int,
    "operation": str,
    "event": str,
    "member": str,
    "pseudonym": str,
    "purpose": str,
    "legal_basis": str,
    "offence_type": str,
    "case": str,
    "request": str,
    "answer": str,
    "outcome": str,
    "records": list,
    "details": dict,
}
_text = json.encoder.encode_basestring


@unique
class Operation(Enum):
    """The six operations that supervisors require to be logged (Directive (EU) 2016/680, article 25)."""

    COLLECTION = "collection"
    ALTERATION = "alteration"
    CONSULTATION = "consultation"
    DISCLOSURE = "disclosure"
    COMBINATION = "combination"
    ERASURE = "erasure"


@unique
class Event(Enum):
    """What happened, finer than the operation it counts as."""

    LOOKUP_ANSWERED = "lookup-answered"  # this node answered or refused another member
    LOOKUPS_REFUSED = "lookups-refused"  # it refused so many of another member that they are counted, not logged one by one
    LOOKUP_ASKED = "lookup-asked"  # this member's gateway sent an own investigator's question out
    LOOKUP_RECEIVED = "lookup-received"  # it got one node's reply
    LOOKUP_REFUSED = "lookup-refused"  # it refused an own investigator
    LOOKUP_FETCHED = "lookup-fetched"  # an own investigator fetched what it kept of a lookup
    LOOKUP_FORGOTTEN = "lookup-forgotten"  # an own investigator had it deleted
    CASEWORK_SENT = "casework-sent"  # an entry of this member went into a conversation, and was receipted or refused
    CASEWORK_RECEIVED = "casework-received"  # another member's did
    CASEWORK_OPENED = "casework-opened"  # an own person opened one entry to an overseer
    RECORDS_ADDED = "records-added"
    RECORDS_CHANGED = "records-changed"
    RECORDS_RETRACTED = "records-retracted"
    RECORDS_ERASED = "records-erased"
    RECORDS_EXPORTED = "records-exported"
    RECORDS_READ = "records-read"  # an own operator looked at records
    RECORDS_BACKED_UP = "records-backed-up"
    RECORDS_RESTORED = "records-restored"
    POLICY_CHANGED = "policy-changed"
    TRUST_CHANGED = "trust-changed"
    OVERSIGHT_APPOINTED = "oversight-appointed"
    OVERSIGHT_REVOKED = "oversight-revoked"
    KIT_INVITED = "kit-invited"
    KIT_ISSUED = "kit-issued"
    KIT_REVOKED = "kit-revoked"
    ENTRY_CHANGED = "entry-changed"  # this member's own entry in the list of members: renewed, or a key of it rotated
    LOG_READ = "log-read"
    LOG_EXPORTED = "log-exported"
    LOG_ERASED = "log-erased"  # single entries' bodies
    LOG_EPOCH_BEGUN = "log-epoch-begun"  # the log was lost or put back, and goes on under a new name
    LOG_PRUNED = "log-pruned"  # all bodies older than the retention time


class AuditEntry(NamedTuple):
    """One event, as it is handed to the log.

    Attributes:
        time_ms: when, in ms since the epoch.
        operation: which of the six operations.
        event: what happened.
        member: the other side: who asked, or who was asked; this member itself for what happens inside.
        pseudonym: the person, by the only name that leaves the member.
        purpose, legal_basis, offence_type: as stated in the question.
        case_reference: as stated; the log keeps a salted commitment only.
        request_digest: SHA-256 of the question's signed bytes, or empty.
        answer_digest: SHA-256 of the answer (see `vidfed.wire.answers.answer_digest`), or empty.
        outcome: stable name.
        records: references of the records told about.
        details: counts and durations; texts only where they say nothing about a person or a case.
    """

    time_ms: int
    operation: Operation
    event: Event
    member: str
    pseudonym: str = ""
    purpose: str = ""
    legal_basis: str = ""
    offence_type: str = ""
    case_reference: str = ""
    request_digest: bytes = b""
    answer_digest: bytes = b""
    outcome: str = "DONE"
    records: tuple[str, ...] = ()
    details: Mapping[str, int | str | tuple[int, ...]] = MappingProxyType({})


class SealedEntry(NamedTuple):
    """An entry as it is stored: what the tree commits to, and what opens the commitment.

    Attributes:
        time_ms: when.
        commitment: 32 bytes; the leaf of the tree.
        salt: 32 bytes, or None once dropped.
        case_salt: 32 bytes, or None where there is no case or it was dropped.
        body: JSON, or None once dropped.
    """

    time_ms: int
    commitment: bytes
    salt: bytes | None
    case_salt: bytes | None
    body: bytes | None

    @property
    def leaf_hash(self) -> bytes:
        """The leaf's hash in the tree."""
        return leaf_hash(self.commitment)

    def opens(self) -> bool:
        """Tell whether salt and body are there and are those the leaf commits to."""
        return self.salt is not None and self.body is not None and commit(self.salt, self.body) == self.commitment

    def fields(self) -> dict[str, Any]:
        """Return what the body says.

        Raises:
            AuditDamagedError: there is no body, or not of this version's form.
        """
        if self.body is None:
            raise AuditDamagedError("this entry's content was dropped")
        return read_body(self.body)


def seal(entry: AuditEntry) -> SealedEntry:
    """Encode an entry and commit to it under fresh salts."""
    salts = os.urandom(2 * SALT_BYTES)
    salt, case_salt = salts[:SALT_BYTES], salts[SALT_BYTES:] if entry.case_reference else None
    case = commit_case(case_salt, entry.case_reference) if case_salt else ""
    details = ",".join([f"{_text(name)}:{_value(value)}" for name, value in entry.details.items()])
    # Written out, because a JSON encoder takes half of the time that an entry costs. Values that are not free text need no quoting.
    body = (
        f'{{"time_ms":{entry.time_ms},"operation":"{entry.operation.value}","event":"{entry.event.value}","member":{_text(entry.member)}'
        f',"pseudonym":{_text(entry.pseudonym)},"purpose":{_text(entry.purpose)},"legal_basis":{_text(entry.legal_basis)}'
        f',"offence_type":{_text(entry.offence_type)},"case":"{case}","request":"{entry.request_digest.hex()}"'
        f',"answer":"{entry.answer_digest.hex()}","outcome":{_text(entry.outcome)}'
        f',"records":[{",".join(map(_text, entry.records))}],"details":{{{details}}}}}'
    ).encode(errors="backslashreplace")  # half a character has no bytes, but it has an escape in JSON; what is logged together stays whole
    return SealedEntry(entry.time_ms, commit(salt, body), salt, case_salt, body)


def _value(value: int | str | tuple[int, ...]) -> str:
    if isinstance(value, str):
        return _text(value)
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else f"{value:d}"


def commit(salt: bytes, body: bytes) -> bytes:
    """Return the 32-byte commitment to a body under a salt of SALT_BYTES."""
    return hashlib.sha256(_ENTRY_DOMAIN + salt + body).digest()


def commit_case(salt: bytes, case_reference: str) -> str:
    """Return the commitment to a case reference, as 64 hex digits."""
    return hashlib.sha256(_CASE_DOMAIN + salt + case_reference.encode()).hexdigest()


def read_body(body: bytes) -> dict[str, Any]:
    """Read an entry's body.

    Raises:
        AuditDamagedError: not of this version's form.
    """
    return read_document(body, _FORM, AuditDamagedError, "log entry")
