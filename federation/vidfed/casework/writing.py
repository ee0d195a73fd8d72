"""What a person does on the own machine: seal, sign, and sign what a colleague wrote. Keys never leave it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfed.casework.core.conversation import Entry, conversation_id
from vidfed.casework.core.rules import check
from vidfed.casework.core.state import state_of
from vidfed.casework.sealing import seal
from vidfed.security.crypto.envelope import Envelope
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import write_entry
from vidfed.wire.casework_values import ENTRY_TYPE, EntryHeader, HandOver, Side

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from vidfed.casework.core.conversation import Conversation
    from vidfed.casework.sealing import SealingKey
    from vidfed.security.crypto.keys import Signer
    from vidfed.wire.casework_values import Body, Content, Reader, Subject

_UNSEALED = bytes(32)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a kit.

    Attributes:
        member: of which member.
        pseudonym: by the credential.
        signer: the signing key.
        credential: signed by the member.
        sealing: the X25519 key.
    """

    member: str
    pseudonym: str
    signer: Signer
    credential: Envelope
    sealing: SealingKey


@dataclass(frozen=True, slots=True)
class Hit:
    """Which conversation an entry is for: between whom, and for the first entry about what."""

    federation: str
    asker: str
    owner: str
    subject: Subject

    @property
    def conversation(self) -> bytes:
        """The conversation's id."""
        return conversation_id(self.federation, self.asker, self.owner, self.subject)


def hit_of(conversation: Conversation) -> Hit:
    """Return the hit that a conversation, which has begun, is about."""
    first = conversation.asker[0].header
    assert first.subject is not None  # noqa: S101 - by the rules
    return Hit(first.federation, first.asker, first.owner, first.subject)


def write(
    person: Person,
    hit: Hit,
    conversation: Conversation,
    body: Body,
    content: Content,
    *,
    officers: Collection[bytes],
    now_ms: int,
    cosigner: tuple[str, Envelope] | None = None,
) -> pb.Delivery:
    """Return a new entry, sealed and signed, behind the newest that the author has seen.

    Args:
        person: who writes.
        hit: what the conversation is about.
        conversation: as the author knows it; empty for the first entry.
        body: what is said in clear.
        content: what only readers see.
        officers: X25519 public keys of the owner's officers.
        now_ms: the time.
        cosigner: pseudonym and credential of a second officer who is to sign too.

    Raises:
        NotAllowedError: the protocol does not allow it here.
        SealError: the content cannot be sealed.
    """
    side = Side.ASKER if person.member == hit.asker else Side.OWNER
    own, other = conversation.side(side), conversation.side(side.other)
    authors = (person.pseudonym, cosigner[0]) if cosigner else (person.pseudonym,)
    header = EntryHeader(
        federation=hit.federation,
        conversation=hit.conversation,
        asker=hit.asker,
        owner=hit.owner,
        side=side,
        number=len(own) + 1,
        previous=own[-1].digest if own else b"",
        seen_number=len(other),
        seen=other[-1].digest if other else b"",
        written_ms=max([now_ms, *(entry.header.written_ms for entry in own[-1:])]),
        authors=authors,
        commitment=_UNSEALED,
        sealed_digest=_UNSEALED,
        body=body,
        subject=hit.subject if side is Side.ASKER and not own else None,
    )
    check(conversation, header)
    sealed = seal(content, [*_readers(conversation, header), *officers, person.sealing.public])
    header = replace(header, commitment=sealed.commitment, sealed_digest=sealed.digest)
    envelope = Envelope(ENTRY_TYPE, write_entry(header)).signed_by(person.signer)
    credentials = [person.credential, cosigner[1]] if cosigner else [person.credential]
    return pb.Delivery(
        entry=wire_envelope.to_message(envelope),
        credentials=[wire_envelope.to_message(credential) for credential in credentials],
        sealed=sealed.payload,
    )


def cosign(delivery: pb.Delivery, person: Person) -> pb.Delivery:
    """Return a colleague's draft with this person's signature too. Look at it first: it is the same bytes that count."""
    envelope = wire_envelope.from_message(delivery.entry).signed_by(person.signer)
    return pb.Delivery(entry=wire_envelope.to_message(envelope), credentials=delivery.credentials, sealed=delivery.sealed)


def _readers(conversation: Conversation, header: EntryHeader) -> Sequence[bytes]:
    """Return the keys of holder and deputy, the new ones too where the case is handed over."""
    before = state_of(conversation)
    after = state_of(conversation.added(Entry(header, b"")))
    readers: list[Reader | None] = [after.holder, after.deputy]
    if isinstance(header.body, HandOver):
        readers += [before.holder, before.deputy]
    return [reader.sealing_key for reader in readers if reader]
