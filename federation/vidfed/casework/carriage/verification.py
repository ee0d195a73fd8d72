"""Whether an entry was signed by whom it says. Steps in order; nothing is parsed before its signature holds.

1. bounds: sizes, number of credentials and signatures
2. the member's signature over the header, as received (not for what an own person just handed in: that is yet to be made)
3. each author's credential, signed by that member, valid when the entry was written, not revoked now
4. each author's signature over the same bytes
5. federation, member and authors in the header are those of the signers; two authors are two persons with two keys
6. decisions are signed by officers alone: the role in the credential, and name and key in the member's list of officers, which its
   operators cannot lengthen
7. the sealed part is the one that is signed for
8. the time of writing is not ahead of the clock here
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.casework.core.conversation import Entry
from vidfed.casework.core.rules import TOLERANCE_MS, decides
from vidfed.casework.core.state import state_of
from vidfed.casework.core.stored import Place, chain_of
from vidfed.casework.errors import LaterError, RefusedError
from vidfed.casework.sealing import key_id, named_readers, sealed_digest
from vidfed.security.errors import CredentialError, EnvelopeError, SignatureError
from vidfed.security.identity.credentials import Credential, verify_credential
from vidfed.security.identity.officers import OFFICER_ROLE
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_entry
from vidfed.wire.casework_values import ENTRY_TYPE, MAX_AUTHORS, MAX_CREDENTIAL_BYTES, MAX_HEADER_BYTES, MAX_SEALED_BYTES, Side
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from vidfed.casework.core.conversation import Conversation
    from vidfed.casework.core.stored import Stored
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.security.identity.directory import Directory
    from vidfed.security.identity.officers import Officers
    from vidfed.v1 import casework_pb2 as pb
    from vidfed.wire.casework_values import EntryHeader


@dataclass(frozen=True, slots=True)
class Verified:
    """An entry that was signed by whom it says.

    Attributes:
        entry: header and digest.
        envelope: with all signatures.
        credentials: of its authors, in order.
        signed: how many of them have signed; all, unless a draft was allowed.
    """

    entry: Entry
    envelope: Envelope
    credentials: tuple[Credential, ...]
    signed: int

    @property
    def complete(self) -> bool:
        """True if every author has signed."""
        return self.signed == len(self.credentials)


def check_bounds(delivery: pb.Delivery) -> None:
    """Do step 1; cheap, before anything is verified.

    Raises:
        RefusedError: something is larger, or more, than it may be.
    """
    if len(delivery.sealed) > MAX_SEALED_BYTES:
        raise RefusedError(f"{len(delivery.sealed)} bytes sealed, at most {MAX_SEALED_BYTES}")
    if len(delivery.entry.payload) > MAX_HEADER_BYTES:
        raise RefusedError(f"a header of {len(delivery.entry.payload)} bytes, at most {MAX_HEADER_BYTES}")
    if not 1 <= len(delivery.credentials) <= MAX_AUTHORS:
        raise RefusedError(f"{len(delivery.credentials)} credentials, expected 1 to {MAX_AUTHORS}")
    if any(len(credential.payload) > MAX_CREDENTIAL_BYTES for credential in delivery.credentials):
        raise RefusedError(f"a credential of more than {MAX_CREDENTIAL_BYTES} bytes")


def verify(
    delivery: pb.Delivery, directory: Directory, writer: str, now_ms: int, *, history: bool = False, draft: bool = False
) -> Verified:
    """Return what a delivery holds, if it was signed by whom it says.

    Args:
        delivery: as received.
        directory: the trust directory.
        writer: the member whose entry it must be.
        now_ms: the time.
        history: it was written and accepted long ago: retired keys verify it too, and revocations since do not matter.
        draft: it comes from an own person: the member's signature is yet to be made, and so may be another author's.

    Raises:
        RefusedError: it was not, or is not of the stated form; the message says which step fails.
        LaterError: its time of writing is ahead of the clock here, or a key is not known by the directory here, which may be older than the
            writer's.
        DirectoryError: the directory does not know the writer.
    """
    check_bounds(delivery)  # 1
    member = directory.member(writer)
    # A credential may be older than the member's present key: the member's signature by that one stands over it.
    all_keys = (*member.signing_keys, *member.retired_keys)
    keys = all_keys if history else member.signing_keys
    try:
        envelope = wire_envelope.from_message(delivery.entry)
        credentials_sent = [wire_envelope.from_message(credential) for credential in delivery.credentials]
        if not draft:
            envelope.verify(ENTRY_TYPE, keys)  # 2
        elif envelope.payload_type != ENTRY_TYPE:
            raise RefusedError(f"expected {ENTRY_TYPE}, got {envelope.payload_type!r:.80}")
        header = read_entry(envelope.payload)
    except SignatureError:
        raise LaterError(f"the signature of {writer} is missing, or by a key that the directory here does not know") from None
    except (EnvelopeError, WireError) as error:
        raise RefusedError(str(error)) from None
    try:
        credentials = tuple(
            verify_credential(  # 3
                sent,
                federation=directory.federation,
                member=writer,
                member_keys=all_keys,
                now_ms=header.written_ms,
                revoked=() if history else member.revoked,
            )
            for sent in credentials_sent
        )
    except CredentialError as error:
        raise RefusedError(str(error)) from None
    signed = _count_signatures(envelope, credentials)  # 4
    if signed < len(credentials) and not (draft and signed):
        raise RefusedError("the signature of an author is missing or does not hold")
    _check_names(header, directory.federation, writer, credentials)  # 5
    if decides(header.side, header.body):  # 6
        current = not draft and not history and header.written_ms > directory.issued_ms
        _check_officers(header.body.kind, credentials, member.officers, history=history, maybe_later=current)
    if (delivery.sealed or not history) and sealed_digest(delivery.sealed) != header.sealed_digest:  # 7
        raise RefusedError("the sealed part is not the one that is signed for")
    if header.written_ms > now_ms + TOLERANCE_MS:  # 8
        raise LaterError("the entry's time is ahead of the clock here: compare the clocks")
    return Verified(Entry(header, envelope.digest), envelope, credentials, signed)


def check_readers(conversation: Conversation, entry: Entry, sealed: bytes, officers: Collection[bytes] | None) -> None:
    """Return if an allowed entry is sealed to those who must be able to read it: holder, deputy, and at least one officer.

    Args:
        conversation: holds the entry's past.
        entry: to be added.
        sealed: its sealed part.
        officers: X25519 public keys of the owner's officers; None where they are not known here.

    Raises:
        RefusedError: it is not; the message says to whom it is not.
    """
    state = state_of(conversation.past(entry.header).added(entry))
    try:
        named = named_readers(sealed)
    except WireError as error:
        raise RefusedError(f"the sealed part: {error}") from None
    for reader in (state.holder, state.deputy):
        if reader is not None and key_id(reader.sealing_key) not in named:
            raise RefusedError(f"it is not sealed to {reader.pseudonym}")
    if officers is not None and not named & {key_id(officer) for officer in officers}:
        raise RefusedError(f"it is not sealed to any officer of {entry.header.owner}")


def check_receiver(found: Iterable[Stored], directory: Directory) -> None:
    """Return if who holds the case still has a valid kit: nothing is released to one that was revoked.

    Args:
        found: the conversation's entries.
        directory: the trust directory.

    Raises:
        RefusedError: every credential by which holder or deputy wrote is revoked.
    """
    found = list(found)
    chain = chain_of(found)
    state = state_of(chain)
    names = {reader.pseudonym for reader in (state.holder, state.deputy) if reader}
    revoked = directory.member(chain.asker[0].header.asker).revoked if chain.asker else frozenset()
    serials = {
        credential.serial
        for each in found
        if each.place is Place.CHAIN and each.entry.header.side is Side.ASKER
        for credential in (Credential.read(sent.payload) for sent in each.whole.credentials)
        if credential.pseudonym in names
    }
    if serials and serials <= revoked:
        raise RefusedError("the kit of who holds the case was revoked: have its member name somebody else (hand over)")


def short_id(header: EntryHeader) -> str:
    """Return the first 16 hex digits of the conversation's id, for logs and people."""
    return header.conversation.hex()[:16]


def _count_signatures(envelope: Envelope, credentials: Collection[Credential]) -> int:
    found = 0
    for credential in credentials:
        try:
            envelope.verify(ENTRY_TYPE, [credential.key])
        except SignatureError:
            continue
        except EnvelopeError as error:
            raise RefusedError(str(error)) from None
        found += 1
    return found


def _check_officers(kind: str, credentials: Collection[Credential], officers: Officers, *, history: bool, maybe_later: bool) -> None:
    """Return if all authors are officers, or were, in history; `maybe_later`: the writer's directory may be newer than the one here."""
    for credential in credentials:
        if OFFICER_ROLE not in credential.roles:
            raise RefusedError(f"{kind} is for officers ({OFFICER_ROLE}) alone")
        if officers.find(credential.pseudonym, credential.key, ever=history) is not None:
            continue
        if officers.find(credential.pseudonym, credential.key, ever=True) is not None:
            raise RefusedError(f"{kind} is for officers alone, and {credential.pseudonym} is one no more")
        said = f"{kind} is for officers alone, and {credential.pseudonym} is not in the list that officers or administrators signed"
        raise LaterError(f"{said}, as the directory here has it") if maybe_later else RefusedError(said)


def _check_names(header: EntryHeader, federation: str, writer: str, credentials: tuple[Credential, ...]) -> None:
    if header.federation != federation:
        raise RefusedError(f"the entry is of another federation than {federation}")
    if header.writer != writer:
        raise RefusedError(f"the entry is in the name of {header.writer}, and comes from {writer}")
    if header.authors != tuple(credential.pseudonym for credential in credentials):
        raise RefusedError("the entry names other authors than its credentials")
    if len({credential.key for credential in credentials}) != len(credentials):
        raise RefusedError("one key signs for two authors")
