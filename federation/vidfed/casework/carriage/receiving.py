"""A member's node takes entries from other members, and gives them what their conversations hold. Blocking; called from worker threads."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.casework.carriage.verification import check_bounds, check_readers, check_receiver, short_id, verify
from vidfed.casework.core.conversation import Fit
from vidfed.casework.core.rules import check
from vidfed.casework.core.stored import Place
from vidfed.casework.errors import CaseworkStoreError, LaterError, NotAllowedError, RefusedError, UnknownHitError
from vidfed.casework.storage import conversations as store
from vidfed.casework.storage import told as told_store
from vidfed.casework.storage.conversations import MAX_FORKS
from vidfed.security.audit.entries import Event
from vidfed.security.clock import MINUTE_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import AuditError, DirectoryError
from vidfed.v1 import casework_pb2 as pb
from vidfed.v1 import envelope_pb2 as envelope_pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import write_receipt
from vidfed.wire.casework_values import (
    CONVERSATION_BYTES,
    MAX_ENTRIES,
    MAX_FETCHED,
    RECEIPT_TYPE,
    Ask,
    Receipt,
    ReceiptStatus,
    Release,
    Side,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

    from vidfed.casework.carriage.verification import Verified
    from vidfed.casework.context import Context
    from vidfed.casework.core.conversation import Conversation

_log = logging.getLogger(__name__)
MAX_BAD_A_MINUTE = 100  # of one member: an honest one sends none
_MAX_DETAIL = 300  # characters of a receipt's detail
_FETCHED_BYTES = 768 * 1024  # in one answer, below what one message may have


@dataclass(frozen=True, slots=True)
class Receiver:
    """Takes entries for one member.

    Attributes:
        context: the member.
        sought: conversations in which they were fetched already: whoever still names others is refused.
        lost: (member, conversation) in which it has seen own entries that are not here: a backup was put back. See `recovery`.
    """

    context: Context
    lost: set[tuple[str, bytes]] = field(default_factory=set)
    sought: set[bytes] = field(default_factory=set)
    _bad: dict[str, tuple[int, int]] = field(default_factory=dict)  # by member: the minute, and how many did not verify in it

    def deliver(self, delivery: pb.Delivery, peer: str) -> Envelope:
        """Return the signed receipt for an entry.

        Args:
            delivery: as received.
            peer: the member whose node or gateway called, by its TLS certificate.
        """
        context = self.context
        now_ms = context.clock()
        digest = _digest_of(delivery)
        try:
            return self._deliver(delivery, peer, now_ms)
        except UnknownHitError:
            return self._receipt(digest, peer, ReceiptStatus.UNKNOWN, now_ms, 1, "no such hit")
        except (RefusedError, NotAllowedError) as error:
            _log.warning("refused an entry from %s: %s", peer, error)
            return self._receipt(digest, peer, ReceiptStatus.REFUSED, now_ms, 1, str(error))
        except LaterError as error:
            return self._receipt(digest, peer, ReceiptStatus.LATER, now_ms, 1, str(error))
        except (AuditError, CaseworkStoreError, DirectoryError) as error:
            _log.error("%s; an entry from %s is not taken", error, peer)
            return self._receipt(digest, peer, ReceiptStatus.LATER, now_ms, 1, "cannot be stored or logged right now")

    def _deliver(self, delivery: pb.Delivery, peer: str, now_ms: int) -> Envelope:
        context = self.context
        check_bounds(delivery)
        size = delivery.ByteSize()
        with context.database.reading() as connection:
            over = told_store.within_budget(connection, peer, size, now_ms, begins=False)
        if over:
            raise LaterError(over)
        verified = self._verified(delivery, peer, now_ms)
        header = verified.entry.header
        if header.subject is not None:
            context.catch_up()  # whether the hit was told is asked of the register next
        with context.database.writing() as connection:
            known = store.find(connection, verified.entry.digest)
            if known is not None and known.receipt is not None and known.place is Place.CHAIN:
                return wire_envelope.from_message(envelope_pb.Envelope.FromString(known.receipt))  # the same again gets the same
            begins = header.subject is not None
            over = told_store.within_budget(connection, peer, size, now_ms, begins=begins)
            if not over:
                told_store.charge(connection, peer, size, now_ms, begins=begins)
                conversation = store.load(connection, header.conversation)
                receipt = self._place(connection, conversation, verified, delivery, now_ms)
        if over:
            raise LaterError(over)
        if isinstance(receipt, Exception):  # what was spent on it stays spent
            raise receipt
        if isinstance(header.body, Ask):
            self._call_somebody(verified)
        return receipt

    def _verified(self, delivery: pb.Delivery, peer: str, now_ms: int) -> Verified:
        """Verify, unless this member has sent too much that did not verify: signatures cost more than sending nonsense does."""
        minute, bad = self._bad.get(peer, (0, 0))
        bad = bad if minute == now_ms // MINUTE_MS else 0
        if bad >= MAX_BAD_A_MINUTE:
            raise LaterError("too many entries that do not verify")
        try:
            return verify(delivery, self.context.directory_source.current(), peer, now_ms)
        except (RefusedError, LaterError):
            self._bad[peer] = (now_ms // MINUTE_MS, bad + 1)
            raise

    def _place(
        self, connection: sa.Connection, conversation: Conversation, verified: Verified, delivery: pb.Delivery, now_ms: int
    ) -> Envelope | Exception:
        """Return the receipt, or why there is none of the good kind."""
        context, entry = self.context, verified.entry
        header = entry.header
        expects = len(conversation.side(header.side)) + 1
        fit = conversation.fit(entry)
        if fit is Fit.GAP:
            return self._receipt(entry.digest, header.writer, ReceiptStatus.GAP, now_ms, expects, "an earlier entry is missing")
        if fit is Fit.FORK:
            kept = store.find(connection, entry.digest)
            if kept is None and store.count_forks(connection, header.conversation) < MAX_FORKS:
                store.add(connection, entry, delivery, Place.FORK, now_ms)
            _log.error("ALARM: %s sent two different entries %d in conversation %s", header.writer, header.number, short_id(header))
            context.log(Event.CASEWORK_RECEIVED, entry, header.writer, "FORK")
            return self._receipt(entry.digest, header.writer, ReceiptStatus.FORK, now_ms, expects, "another entry has this number")
        if fit is Fit.AHEAD:
            return self._ahead(conversation, verified)
        try:
            if header.subject is not None:
                self._check_told(connection, verified)
            check(conversation, header)
            check_readers(conversation, entry, delivery.sealed, context.officers(header.owner))
            if isinstance(header.body, Release):
                check_receiver(store.stored(connection, header.conversation), context.directory_source.current())
        except (UnknownHitError, NotAllowedError, RefusedError) as error:
            return error
        receipt = self._receipt(entry.digest, header.writer, ReceiptStatus.TAKEN, now_ms, expects + 1, "")
        raw = wire_envelope.to_message(receipt).SerializeToString()
        store.add(connection, entry, delivery, Place.CHAIN, now_ms, receipt=raw, received_ms=now_ms)
        context.log(Event.CASEWORK_RECEIVED, entry, header.writer, "TAKEN")  # before it is committed, and before anybody is told
        return receipt

    def _check_told(self, connection: sa.Connection, verified: Verified) -> None:
        """A hit that was not told, or may not be told any more, is refused exactly like one that does not exist."""
        header, subject = verified.entry.header, verified.entry.header.subject
        assert subject is not None  # noqa: S101 - the caller looked
        told = header.side is Side.ASKER and told_store.was_told(connection, subject, header.asker, header.authors[0])
        may = self.context.may_tell(header.asker, subject.reference)  # asked either way: the work is the same
        if not (told and may):
            raise UnknownHitError("no such hit")

    def _ahead(self, conversation: Conversation, verified: Verified) -> Exception:
        """The author says to have seen more of our entries than are here."""
        header = verified.entry.header
        if header.seen_number <= len(conversation.side(header.side.other)):
            return RefusedError("what it names as seen is not what was sent")
        if header.conversation in self.sought:
            return RefusedError("what it names as seen does not exist")
        self.lost.add((header.writer, header.conversation))
        return LaterError("own entries are missing here and are being fetched")

    def _call_somebody(self, verified: Verified) -> None:
        try:
            self.context.alarm(verified.entry.header)
        except Exception:  # noqa: BLE001 - a hook of the operator's: what was taken stays taken
            _log.exception("ALARM: nobody could be called about an ask")

    def fetch(self, request: pb.FetchRequest, peer: str) -> pb.FetchResponse:
        """Return a piece of one chain of a conversation of which `peer` is one side; nothing in any other case.

        Raises:
            CaseworkStoreError: it cannot be read.
        """
        response = pb.FetchResponse()
        if len(request.conversation) != CONVERSATION_BYTES or request.side not in {side.value for side in Side}:
            return response
        if not 1 <= request.from_number <= MAX_ENTRIES:
            return response
        with self.context.database.reading() as connection:
            found = store.part(connection, request.conversation, Side(request.side), request.from_number, MAX_FETCHED)
        size = 0
        for each in found:
            header = each.entry.header
            if peer not in {header.asker, header.owner}:
                break
            whole = each.whole
            size += whole.ByteSize()
            if response.entries and size > _FETCHED_BYTES:
                break
            response.entries.append(whole)
        return response

    def _receipt(self, digest: bytes, audience: str, status: ReceiptStatus, now_ms: int, expects: int, detail: str) -> Envelope:
        context = self.context
        clean = "".join(character if character.isprintable() else "?" for character in detail)[:_MAX_DETAIL]
        receipt = Receipt(context.federation, context.member, audience, digest, status, now_ms, min(expects, MAX_ENTRIES + 1), clean)
        return Envelope(RECEIPT_TYPE, write_receipt(receipt)).signed_by(context.signer)


def _digest_of(delivery: pb.Delivery) -> bytes:
    entry = delivery.entry
    return Envelope(entry.payload_type, entry.payload).digest
