"""To whom contents are sealed: a person's own word for the sealing key, and the member's for the person. Pure.

No server makes or holds the private half, and none can put another key in its place: the statement is signed with the key that the
member's credential certifies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.casework.errors import RefusedError
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import CredentialError, EnvelopeError, SignatureError
from vidfed.security.identity.credentials import verify_credential
from vidfed.security.identity.officers import OFFICER_ROLE
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_statement, write_statement
from vidfed.wire.casework_values import MAX_CREDENTIAL_BYTES, READER_TYPE, Reader, ReaderStatement
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import Directory

DUTY_ROLE = "duty-officer"


@dataclass(frozen=True, slots=True)
class KnownReader:
    """A person who can be sealed to.

    Attributes:
        member: the person's.
        reader: name and key.
        roles: by the credential.
        officer: decides on release: the member's entry lists this name with these two keys.
        credential: signed by the member.
        made_ms: when the person said so; the newest counts.
        until_ms: the credential's end.
    """

    member: str
    reader: Reader
    roles: tuple[str, ...]
    officer: bool
    credential: Envelope
    made_ms: int
    until_ms: int


def make_card(
    federation: str, member: str, pseudonym: str, signer: Signer, credential: Envelope, sealing_key: bytes, now_ms: int
) -> pb.ReaderCard:
    """Return a person's card, signed by that person."""
    statement = ReaderStatement(federation, member, pseudonym, sealing_key, now_ms)
    envelope = Envelope(READER_TYPE, write_statement(statement)).signed_by(signer)
    return pb.ReaderCard(statement=wire_envelope.to_message(envelope), credential=wire_envelope.to_message(credential))


def read_card(card: pb.ReaderCard, directory: Directory, member: str, now_ms: int) -> KnownReader:
    """Return whom a card is of, if member and person both signed, and the credential holds now.

    Raises:
        RefusedError: it does not hold; the message says why.
        DirectoryError: there is no such member.
    """
    entry = directory.member(member)
    try:
        statement_sent, credential_sent = (wire_envelope.from_message(each) for each in (card.statement, card.credential))
        if max(len(statement_sent.payload), len(credential_sent.payload)) > MAX_CREDENTIAL_BYTES:
            raise RefusedError("a card that is too large")
        credential = verify_credential(
            credential_sent,
            federation=directory.federation,
            member=member,
            member_keys=entry.signing_keys,
            now_ms=now_ms,
            revoked=entry.revoked,
        )
        statement = read_statement(statement_sent.verify(READER_TYPE, [credential.key]))
    except (CredentialError, EnvelopeError, SignatureError, WireError) as error:
        raise RefusedError(f"a card of {member}: {error}") from None
    if (statement.federation, statement.member, statement.pseudonym) != (directory.federation, member, credential.pseudonym):
        raise RefusedError(f"a card of {member} speaks of another person than its credential")
    listed = entry.officers.find(credential.pseudonym, credential.key) if OFFICER_ROLE in credential.roles else None
    return KnownReader(
        member,
        Reader(statement.pseudonym, statement.sealing_key),
        credential.roles,
        listed is not None and listed.sealing_key == statement.sealing_key,
        credential_sent,
        statement.made_ms,
        credential.not_after_ms,
    )
