"""A member's gateway for its own persons: takes what they sign, gives them what is theirs. Blocking; called from worker threads.

Nothing leaves the member that its own store would not take: every rule that the other side will check is checked here first, and one
more: whoever writes must have seen the newest that came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.casework.cards import DUTY_ROLE
from vidfed.casework.carriage.sending import is_urgent
from vidfed.casework.carriage.verification import check_readers, check_receiver, verify
from vidfed.casework.core.conversation import Fit
from vidfed.casework.core.rules import TOLERANCE_MS, check, decides
from vidfed.casework.core.state import state_of
from vidfed.casework.core.stored import Place, chain_of
from vidfed.casework.errors import ConversationError, MovedOnError, RefusedError
from vidfed.casework.news import storage as news_store
from vidfed.casework.sealing import key_id
from vidfed.casework.storage import conversations as store
from vidfed.casework.storage import outbox
from vidfed.security.audit.entries import Event
from vidfed.security.documents import MAX_NAME_CHARS, check_line
from vidfed.security.identity.officers import OFFICER_ROLE
from vidfed.v1 import casework_pb2 as pb
from vidfed.v1 import envelope_pb2 as envelope_pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_wrap
from vidfed.wire.casework_values import Release, Side

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import sqlalchemy as sa

    from vidfed.casework.carriage.verification import Verified
    from vidfed.casework.context import Context
    from vidfed.casework.core.conversation import Conversation
    from vidfed.casework.core.stored import Stored

_INBOX = 10_000  # entries looked through in one answer


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of an entry that a person handed in: with the signatures it has now, and whether another officer must sign."""

    message: envelope_pb.Envelope
    draft: bool


@dataclass(frozen=True, slots=True)
class PersonCore:
    """Serves the persons of one member.

    Attributes:
        context: the member.
        officers_needed: different officers that must sign a decision, 1 or 2.
    """

    context: Context
    officers_needed: int = 1

    def send(self, delivery: pb.Delivery, pseudonym: str) -> Sent:
        """Take an entry that a person signed; it is on disk, and goes out, when this returns.

        Args:
            delivery: without the member's signature.
            pseudonym: of the caller, by the TLS certificate.

        Raises:
            RefusedError, NotAllowedError: it cannot be sent; the message says why.
            MovedOnError: the conversation has moved on: look again, sign again.
            LaterError: the person's clock is ahead.
            CaseworkStoreError, AuditError, DirectoryError: it cannot be stored, logged or verified now.
        """
        context, now_ms = self.context, self.context.clock()
        verified = verify(delivery, context.directory_source.current(), context.member, now_ms, draft=True)
        header = verified.entry.header
        if pseudonym not in header.authors:
            raise RefusedError("the entry is by somebody else than who sends it")
        if decides(header.side, header.body) and len(header.authors) < self.officers_needed:
            raise RefusedError(f"{self.officers_needed} officers sign this: name the other one too")
        with context.database.writing() as connection:
            conversation = store.load(connection, header.conversation)
            known = store.find(connection, verified.entry.digest)
            if known is not None and known.place is Place.CHAIN:
                return Sent(known.whole.entry, draft=False)  # the same again: the answer was lost on its way
            self._check_newest(conversation, verified)
            if known is None and header.written_ms < now_ms - TOLERANCE_MS:
                raise RefusedError("the entry's time is behind the clock here: compare the clocks")
            check(conversation, header)
            check_readers(conversation, verified.entry, delivery.sealed, context.officers(header.owner))
            if isinstance(header.body, Release):
                check_receiver(store.stored(connection, header.conversation), context.directory_source.current())
            return self._store(connection, conversation, verified, delivery, known, now_ms)

    def _check_newest(self, conversation: Conversation, verified: Verified) -> None:
        header, fit = verified.entry.header, conversation.fit(verified.entry)
        if fit is not Fit.NEXT or header.seen_number != len(conversation.side(header.side.other)):
            raise MovedOnError("the conversation has moved on: read what came, and sign anew")

    def _store(
        self,
        connection: sa.Connection,
        conversation: Conversation,
        verified: Verified,
        delivery: pb.Delivery,
        known: Stored | None,
        now_ms: int,
    ) -> Sent:
        header, merged = verified.entry.header, delivery
        if known is not None and known.place is Place.DRAFT:
            merged = _merged(known, delivery)
            directory = self.context.directory_source.current()
            verified = verify(merged, directory, self.context.member, now_ms, draft=True)
        if not verified.complete:
            if known is None:
                store.add(connection, verified.entry, merged, Place.DRAFT, now_ms)
            return Sent(merged.entry, draft=True)
        signed = wire_envelope.to_message(verified.envelope.signed_by(self.context.signer))
        whole = pb.Delivery(entry=signed, credentials=merged.credentials, sealed=merged.sealed)
        self.context.log(Event.CASEWORK_SENT, verified.entry, header.receiver, "SIGNED")
        if known is not None:
            store.replace_draft(connection, verified.entry.digest, whole, Place.CHAIN)
        else:
            store.add(connection, verified.entry, whole, Place.CHAIN, now_ms)
        outbox.put(connection, verified.entry, now_ms, urgent=is_urgent(conversation.added(verified.entry)))
        return Sent(signed, draft=False)

    def inbox(self, pseudonym: str, roles: Collection[str], after: int = 0, conversation: bytes = b"") -> list[pb.KeptEntry]:
        """Return what changed after a version, of the conversations that are the caller's.

        Args:
            pseudonym: of the caller, by the TLS certificate.
            roles: by its credential.
            after: the last version the caller has; 0 for all.
            conversation: this one only; empty for all.

        Raises:
            CaseworkStoreError: it cannot be read.
        """
        with self.context.database.reading() as connection:
            changed = store.changed(connection, after, _INBOX)
            if conversation:
                changed = [each for each in changed if each.entry.header.conversation == conversation]
            mine: dict[bytes, bool] = {}
            for each in changed:
                header = each.entry.header
                if header.conversation not in mine:
                    mine[header.conversation] = self._is_theirs(connection, header.conversation, pseudonym, roles)
            return [
                pb.KeptEntry(
                    position=each.version,
                    delivery=each.whole,
                    receipt=_receipt(each.receipt),
                    void=each.place is Place.VOID,
                    draft=each.place is Place.DRAFT,
                    later_wraps=[
                        pb.Wrap(key_id=wrap.key_id, sealed_key=wrap.sealed_key) for wrap in store.later_wraps(connection, each.entry.digest)
                    ],
                )
                for each in changed
                if mine[each.entry.header.conversation]
            ]

    def news(self, pseudonym: str, after: int = 0) -> list[pb.KeptNews]:
        """Return what other members say became of records that the caller was told, from a position on.

        Raises:
            CaseworkStoreError: it cannot be read.
        """
        with self.context.database.reading() as connection:
            found = news_store.received(connection, pseudonym, after, _INBOX)
        return [
            pb.KeptNews(position=number, news=envelope_pb.Envelope.FromString(envelope), received_ms=received_ms)
            for number, envelope, received_ms in found
        ]

    def hand_on(self, digest: bytes, made: Sequence[pb.Wrap], pseudonym: str, roles: Collection[str]) -> None:
        """Keep content keys that the caller wrapped for persons who are to read the conversation too.

        Raises:
            ConversationError: no such entry, or not for this caller.
            WireError: a wrap is not of the stated form.
            CaseworkStoreError: it cannot be written.
        """
        read = [read_wrap(wrap) for wrap in made]
        with self.context.database.writing() as connection:
            found = store.find(connection, digest)
            if found is None or not self._is_theirs(connection, found.entry.header.conversation, pseudonym, roles):
                raise ConversationError("no such entry, or not one of yours")
            entitled = {key_id(key) for key in self._entitled(connection, found)}
            if any(wrap.key_id not in entitled for wrap in read):
                raise ConversationError("only holder, deputy and officers of this member can be given an entry to read")
            store.add_wraps(connection, digest, read)

    def log_opening(self, digest: bytes, overseer: str, pseudonym: str, roles: Collection[str]) -> None:
        """Log that the caller opens an entry to an overseer.

        Raises:
            ConversationError: no such entry, not for this caller, or the overseer's name is none.
            CaseworkStoreError, AuditError: it cannot be read or logged.
        """
        check_line(overseer, MAX_NAME_CHARS, ConversationError, "name of the overseer")
        with self.context.database.reading() as connection:
            found = store.find(connection, digest)
            if found is None or not self._is_theirs(connection, found.entry.header.conversation, pseudonym, roles):
                raise ConversationError("no such entry, or not one of yours")
        header = found.entry.header
        other = header.owner if header.asker == self.context.member else header.asker
        self.context.log(Event.CASEWORK_OPENED, found.entry, other, "OPENED", by=pseudonym, overseer=overseer)

    def _entitled(self, connection: sa.Connection, found: Stored) -> set[bytes]:
        header = found.entry.header
        if header.asker == self.context.member:
            state = state_of(store.load(connection, header.conversation))
            return {reader.sealing_key for reader in (state.holder, state.deputy) if reader}
        return set(self.context.officers(self.context.member) or ())

    def _is_theirs(self, connection: sa.Connection, conversation: bytes, pseudonym: str, roles: Collection[str]) -> bool:
        found = store.stored(connection, conversation)
        if not found:
            return False
        if found[0].entry.header.owner == self.context.member:
            return OFFICER_ROLE in roles or DUTY_ROLE in roles
        state = state_of(chain_of(found))
        wrote = {author for each in found if each.entry.header.side is Side.ASKER for author in each.entry.header.authors}
        return pseudonym in wrote | {reader.pseudonym for reader in (state.holder, state.deputy) if reader}


def _receipt(raw: bytes | None) -> envelope_pb.Envelope | None:
    return None if raw is None else envelope_pb.Envelope.FromString(raw)


def _merged(known: Stored, delivery: pb.Delivery) -> pb.Delivery:
    """Return a draft with the signatures of both: what was there, and what a further officer adds."""
    whole = known.whole
    have = {signature.value for signature in whole.entry.signatures}
    whole.entry.signatures.extend(s for s in delivery.entry.signatures if s.value not in have)
    return whole
