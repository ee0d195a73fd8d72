"""What becomes of an entry that was sent, and of own entries that were lost and fetched back. Blocking; called from worker threads."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING

from vidfed.casework.carriage.verification import short_id, verify
from vidfed.casework.core.conversation import Fit
from vidfed.casework.core.rules import TOLERANCE_MS, check
from vidfed.casework.core.state import state_of
from vidfed.casework.core.stored import Place
from vidfed.casework.errors import CaseworkError, NotAllowedError, RefusedError
from vidfed.casework.storage import conversations as store
from vidfed.casework.storage import outbox
from vidfed.security.audit.entries import Event
from vidfed.security.errors import EnvelopeError, SignatureError
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_receipt
from vidfed.wire.casework_values import RECEIPT_TYPE, AskUrgency, Receipt, ReceiptStatus
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import sqlalchemy as sa

    from vidfed.casework.context import Context
    from vidfed.casework.core.conversation import Conversation, Entry
    from vidfed.casework.core.stored import Stored
    from vidfed.casework.storage.outbox import Waiting
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.v1 import casework_pb2 as pb

_log = logging.getLogger(__name__)
_BATCH = 32  # entries tried at once


@unique
class After(Enum):
    """What is to be done after a receipt."""

    NOTHING = "nothing"
    FETCH_OWN = "fetch own"  # the other holds another entry of ours at this number


@dataclass(frozen=True, slots=True)
class Sender:
    """Takes what is due out of the outbox, and the answers in."""

    context: Context

    def due(self, heard: Collection[str] = ()) -> list[tuple[Waiting, pb.Delivery]]:
        """Return what is to be tried now.

        Args:
            heard: members that called just now: what failed to reach them is tried again at once.

        Raises:
            CaseworkStoreError: the store cannot be read or written.
        """
        if heard:
            with self.context.database.writing() as connection:
                for member in heard:
                    outbox.hurry(connection, member, self.context.clock())
        with self.context.database.reading() as connection:
            found = []
            for waiting in outbox.due(connection, self.context.clock(), _BATCH):
                each = store.find(connection, waiting.digest)
                if each is not None:
                    found.append((waiting, self._signed_now(each.whole)))
            return found

    def _signed_now(self, delivery: pb.Delivery) -> pb.Delivery:
        """Add the member's signature by its present key, if it has another since: the digest stays the same."""
        signer = self.context.signer
        if all(signature.key_id != signer.public.key_id for signature in delivery.entry.signatures):
            envelope = wire_envelope.from_message(delivery.entry)
            delivery.entry.CopyFrom(wire_envelope.to_message(envelope.signed_by(signer)))
        return delivery

    def failed(self, waiting: Waiting, trouble: str) -> None:
        """Note that a member could not be reached, or said nothing that counts.

        Raises:
            CaseworkStoreError: the store cannot be written.
        """
        with self.context.database.writing() as connection:
            outbox.postpone(connection, waiting.digest, trouble, self.context.clock())

    def answered(self, waiting: Waiting, answer: Envelope) -> After:
        """Do what a receipt says.

        Raises:
            CaseworkStoreError, AuditError: it cannot be stored or logged; the entry goes out again later, and the same receipt comes.
            DirectoryError: the directory cannot be used.
        """
        now_ms = self.context.clock()
        with self.context.database.writing() as connection:
            each = store.find(connection, waiting.digest)
            if each is None or each.place is not Place.CHAIN:
                outbox.take_out(connection, waiting.digest)
                return After.NOTHING
            try:
                receipt = self._verified(answer, each.entry, waiting.member, now_ms)
            except RefusedError as error:
                _log.warning("%s: %s", waiting.member, error)
                outbox.postpone(connection, waiting.digest, str(error), now_ms)
                return After.NOTHING
            return self._settle(connection, each, waiting, receipt, answer)

    def _settle(self, connection: sa.Connection, each: Stored, waiting: Waiting, receipt: Receipt, answer: Envelope) -> After:
        context, header, now_ms = self.context, each.entry.header, self.context.clock()
        raw = wire_envelope.to_message(answer).SerializeToString()
        if receipt.status is ReceiptStatus.TAKEN:
            context.log(Event.CASEWORK_SENT, each.entry, waiting.member, "TAKEN", receipt.received_ms)
            store.add_receipt(connection, each.entry.digest, raw, receipt.received_ms)
            outbox.take_out(connection, each.entry.digest)
        elif receipt.status is ReceiptStatus.LATER:
            outbox.postpone(connection, each.entry.digest, receipt.detail or "later", now_ms)
        elif receipt.status is ReceiptStatus.GAP:
            self._send_again(connection, each, receipt.expects, now_ms)
        elif each.received_ms is not None:  # it was taken once: nothing that is said later undoes that
            _log.error("ALARM: %s refuses entry %d of %s, which it had receipted", waiting.member, header.number, short_id(header))
            outbox.take_out(connection, each.entry.digest)
        else:
            _log.error(
                "%s refused entry %d of conversation %s for good: %s", waiting.member, header.number, short_id(header), receipt.detail
            )
            context.log(Event.CASEWORK_SENT, each.entry, waiting.member, receipt.status.name)
            store.void_from(connection, header, raw)
            if receipt.status is ReceiptStatus.FORK:
                return After.FETCH_OWN
        return After.NOTHING

    def _send_again(self, connection: sa.Connection, each: Stored, expects: int, now_ms: int) -> None:
        """The other lacks earlier ones, as after a backup was put back there: they go out again, this one behind them."""
        header = each.entry.header
        again = [
            other
            for other in store.part(connection, header.conversation, header.side, expects, header.number)
            if other.entry.header.number < header.number
        ]
        urgent = is_urgent(store.load(connection, header.conversation))
        for other in again:
            outbox.take_out(connection, other.entry.digest)
            outbox.put(connection, other.entry, now_ms, urgent=urgent)
        outbox.postpone(connection, each.entry.digest, "the other member lacks an earlier entry", now_ms)

    def adopt(self, member: str, deliveries: Iterable[pb.Delivery]) -> int:
        """Put own entries back that were lost here and that another member holds; return how many.

        They count only under our own signatures. What another member has refused by a signed receipt is not taken back from it.

        Raises:
            CaseworkStoreError, AuditError, DirectoryError: they cannot be stored, logged or verified now.
        """
        context = self.context
        directory, now_ms, count = context.directory_source.current(), context.clock(), 0
        for delivery in deliveries:
            try:
                verified = verify(delivery, directory, context.member, now_ms, history=True)
            except CaseworkError as error:
                _log.error("ALARM: %s holds an entry in our name that does not verify: %s", member, error)
                break
            header = verified.entry.header
            if header.receiver != member:
                break
            with context.database.writing() as connection:
                conversation = store.load(connection, header.conversation)
                if store.find(connection, verified.entry.digest) is not None:
                    continue
                try:
                    if conversation.fit(verified.entry) is not Fit.NEXT:
                        break
                    check(conversation, header)
                except NotAllowedError as error:
                    _log.error("ALARM: %s holds an entry of ours that is not allowed: %s", member, error)
                    break
                context.log(Event.CASEWORK_SENT, verified.entry, member, "RECOVERED")
                store.add(connection, verified.entry, delivery, Place.CHAIN, now_ms)
                outbox.put(connection, verified.entry, now_ms, urgent=False)  # for its receipt, which was lost too
                count += 1
        return count

    def _verified(self, answer: Envelope, entry: Entry, member: str, now_ms: int) -> Receipt:
        keys = self.context.directory_source.current().member(member).signing_keys
        try:
            receipt = read_receipt(answer.verify(RECEIPT_TYPE, keys))
        except (EnvelopeError, SignatureError, WireError) as error:
            raise RefusedError(f"its receipt does not hold: {error}") from None
        expected = (self.context.federation, member, self.context.member, entry.digest)
        if (receipt.federation, receipt.issuer, receipt.audience, receipt.entry) != expected:
            raise RefusedError("its receipt is for another entry or member")
        if not entry.header.written_ms - TOLERANCE_MS <= receipt.received_ms <= now_ms + TOLERANCE_MS:
            raise RefusedError("its receipt names a time that cannot be: compare the clocks")
        return receipt


def is_urgent(conversation: Conversation) -> bool:
    """Tell whether a conversation's ask says that a life is at risk."""
    return state_of(conversation).urgency is AskUrgency.LIFE_AT_RISK
