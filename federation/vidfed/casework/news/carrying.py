"""Takes news out to the members that were told, until each has confirmed, and takes theirs in. Blocking, but for the courier."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from vidfed.casework.core.rules import TOLERANCE_MS
from vidfed.casework.errors import CaseworkStoreError, LaterError, RefusedError
from vidfed.casework.news import storage
from vidfed.casework.storage import told as told_store
from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import AuditError, DirectoryError, EnvelopeError, SecurityError, SignatureError
from vidfed.v1 import envelope_pb2 as envelope_pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_receipt, write_receipt
from vidfed.wire.casework_values import RECEIPT_TYPE, Receipt, ReceiptStatus
from vidfed.wire.news import (
    MAX_NEWS_BYTES,
    MAX_NEWS_ITEMS,
    MAX_TOLD_HITS,
    NEWS_TYPE,
    Change,
    News,
    NewsItem,
    ToldHit,
    read_news,
    write_news,
)
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from vidfed.casework.context import Context
    from vidfed.casework.news.noticing import Noticing
    from vidfed.casework.news.records import RecordNow, Records
    from vidfed.casework.news.storage import Notice

    class NewsTransport(Protocol):
        """How other members' nodes are reached."""

        async def notify(self, member: str, news: Envelope) -> Envelope:
            """Return the receipt, unverified.

            Raises:
                OSError: the member could not be reached; the message says why.
                WireError, SecurityError: it answered nonsense, or is not known.
            """


LOOK_S = 1.0  # between two looks; what happens meanwhile goes out together
TROUBLED_S = 30.0
WITHHELD = "today's policy does not tell that member of it: say so with `vidfed node news narrow`, or wait for another policy"
_AT_ONCE = 20 * MAX_NEWS_ITEMS
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """News as it goes out: to whom, signed, and what it holds."""

    member: str
    envelope: Envelope
    sent: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class NewsSender:
    """Makes and signs one member's news, and takes the receipts in."""

    context: Context
    records: Records

    def due(self) -> list[Outgoing]:
        """Return what is to go out now, each with the fields that today's policy tells; the log has it.

        Raises:
            CaseworkStoreError, AuditError: it cannot be known or logged.
        """
        now_ms = self.context.clock()
        with self.context.database.reading() as connection:
            found = storage.due(connection, now_ms, _AT_ONCE)
            if not found:
                return []
            told = told_store.told_of(connection, {notice.reference for notice in found})
        now = self.records.look({notice.reference for notice in found})
        made: list[Outgoing] = []
        withheld: list[Notice] = []
        found.sort(key=lambda notice: (notice.member, notice.pseudonym))
        for (member, pseudonym), group in groupby(found, key=lambda notice: (notice.member, notice.pseudonym)):
            items: list[tuple[Notice, NewsItem]] = []
            for notice in group:
                hits = [
                    ToldHit(each.lookup_digest, each.answer_digest)
                    for each in told.get(notice.reference, ())
                    if (each.member, each.pseudonym) == (member, pseudonym)
                ]
                item = _item(notice, now.get(notice.reference), tuple(hits[:MAX_TOLD_HITS]))
                if item is None:
                    withheld.append(notice)
                else:
                    items.append((notice, item))
            made += [self._outgoing(member, pseudonym, part, now_ms) for part in _parts(items)]
        if withheld:
            with self.context.database.writing() as connection:
                storage.postpone(connection, withheld, WITHHELD, now_ms)
        return made

    def _outgoing(self, member: str, pseudonym: str, part: Sequence[tuple[Notice, NewsItem]], now_ms: int) -> Outgoing:
        items = tuple(item for _, item in part)
        news = News(self.context.federation, self.context.member, member, pseudonym, now_ms, items)
        envelope = Envelope(NEWS_TYPE, write_news(news)).signed_by(self.context.signer)
        sent = tuple(notice for notice, _ in part)
        if any(not notice.attempts for notice in sent):
            log_news(self.context, Event.CASEWORK_SENT, envelope.digest, news, member, "SIGNED")
        return Outgoing(member, envelope, sent)

    def failed(self, outgoing: Outgoing, trouble: str) -> None:
        """Note that news did not go.

        Raises:
            CaseworkStoreError: the store cannot be written.
        """
        with self.context.database.writing() as connection:
            storage.postpone(connection, outgoing.sent, trouble, self.context.clock())

    def answered(self, outgoing: Outgoing, answer: Envelope) -> None:
        """Take a receipt in.

        Raises:
            CaseworkStoreError, AuditError: it cannot be stored or logged; the news goes out again.
            DirectoryError: the directory cannot be used.
        """
        now_ms = self.context.clock()
        keys = self.context.directory_source.current().member(outgoing.member).signing_keys
        try:
            receipt = read_receipt(answer.verify(RECEIPT_TYPE, keys))
        except (EnvelopeError, SignatureError, WireError) as error:
            self.failed(outgoing, f"its receipt does not hold: {error}")
            return
        expected = (self.context.federation, outgoing.member, self.context.member, outgoing.envelope.digest)
        if (receipt.federation, receipt.issuer, receipt.audience, receipt.entry) != expected:
            self.failed(outgoing, "its receipt is for something else")
        elif receipt.status is not ReceiptStatus.TAKEN:
            self.failed(outgoing, f"{receipt.status.code}: {receipt.detail}")
        elif abs(receipt.received_ms - now_ms) > TOLERANCE_MS:
            self.failed(outgoing, "its receipt names a time that cannot be: compare the clocks")
        else:
            with self.context.database.writing() as connection:
                raw = wire_envelope.to_message(answer).SerializeToString()
                news = read_news(outgoing.envelope.payload)
                log_news(self.context, Event.CASEWORK_SENT, outgoing.envelope.digest, news, outgoing.member, "TAKEN")
                storage.arrived(connection, outgoing.sent, raw, receipt.received_ms)
                erased = [notice.reference for notice in outgoing.sent if Change.ERASED in notice.changes]
                if erased:  # nothing more can be said of them
                    told_store.forget_records(connection, erased, outgoing.member, outgoing.sent[0].pseudonym)


@dataclass(frozen=True, slots=True)
class NewsReceiver:
    """Takes other members' news for the own persons."""

    context: Context

    def notify(self, envelope: Envelope, peer: str) -> Envelope:
        """Return the signed receipt for news.

        Args:
            envelope: as received.
            peer: the member whose node called, by its TLS certificate.
        """
        now_ms = self.context.clock()
        try:
            with self.context.database.writing() as connection:
                known = storage.receipt_of(connection, envelope.digest, peer)
                if known is not None:
                    return wire_envelope.from_message(envelope_pb.Envelope.FromString(known))
                budget = f"{peer} (news)"  # of its own: news must not take the place of asks, nor asks that of news
                size = len(envelope.payload)
                over = told_store.within_budget(connection, budget, size, now_ms, begins=False)
                if over:
                    raise LaterError(over)
                told_store.charge(connection, budget, size, now_ms, begins=False)
            news = self._verified(envelope, peer, now_ms)
            receipt = self._receipt(envelope.digest, peer, ReceiptStatus.TAKEN, now_ms, "")
            raw = wire_envelope.to_message(envelope).SerializeToString()
            with self.context.database.writing() as connection:
                if storage.receipt_of(connection, envelope.digest, peer) is None:
                    log_news(self.context, Event.CASEWORK_RECEIVED, envelope.digest, news, peer, "TAKEN")
                    kept = wire_envelope.to_message(receipt).SerializeToString()
                    storage.take(connection, envelope.digest, peer, news.pseudonym, raw, now_ms, kept)
        except RefusedError as error:
            _log.warning("refused news from %s: %s", peer, error)
            return self._receipt(envelope.digest, peer, ReceiptStatus.REFUSED, now_ms, str(error))
        except LaterError as error:
            return self._receipt(envelope.digest, peer, ReceiptStatus.LATER, now_ms, str(error))
        except (AuditError, CaseworkStoreError, DirectoryError) as error:
            _log.error("%s; news from %s is not taken", error, peer)
            return self._receipt(envelope.digest, peer, ReceiptStatus.LATER, now_ms, "cannot be stored or logged right now")
        return receipt

    def _verified(self, envelope: Envelope, peer: str, now_ms: int) -> News:
        context = self.context
        if len(envelope.payload) > MAX_NEWS_BYTES:
            raise RefusedError(f"{len(envelope.payload)} bytes, at most {MAX_NEWS_BYTES}")
        try:
            news = read_news(envelope.verify(NEWS_TYPE, context.directory_source.current().member(peer).signing_keys))
        except SignatureError:
            raise LaterError(f"the signature of {peer} is missing, or by a key that the directory here does not know") from None
        except (EnvelopeError, WireError) as error:
            raise RefusedError(str(error)) from None
        if (news.federation, news.issuer, news.audience) != (context.federation, peer, context.member):
            raise RefusedError("the news is of another member, or for another one")
        if news.issued_ms > now_ms + TOLERANCE_MS:
            raise LaterError("the time of the news is ahead of the clock here: compare the clocks")
        return news

    def _receipt(self, digest: bytes, audience: str, status: ReceiptStatus, now_ms: int, detail: str) -> Envelope:
        clean = "".join(character if character.isprintable() else "?" for character in detail)[:300]
        receipt = Receipt(self.context.federation, self.context.member, audience, digest, status, now_ms, 1, clean)
        return Envelope(RECEIPT_TYPE, write_receipt(receipt)).signed_by(self.context.signer)


class NewsCourier:
    """Notices and delivers, beside a node's lookups."""

    def __init__(self, noticing: Noticing, sender: NewsSender, transport: NewsTransport) -> None:
        """Take what sees, what signs, and how members are reached."""
        self._noticing = noticing
        self._sender = sender
        self._transport = transport

    async def run(self) -> None:
        """Deliver until cancelled. What fails is tried again."""
        while True:
            pause_s = LOOK_S
            try:
                await self.round()
            except (CaseworkStoreError, AuditError, SecurityError) as error:
                _log.error("ALARM: news waits and cannot be sent: %s", error)
                pause_s = TROUBLED_S
            except Exception:  # noqa: BLE001 - news must go out whatever one of them did
                _log.exception("ALARM: a defect while news was being sent")
                pause_s = TROUBLED_S
            await asyncio.sleep(pause_s)

    async def round(self) -> int:
        """Look once, and try what is due, each member by itself; return how many were tried.

        Raises:
            CaseworkStoreError, AuditError, SecurityError: something cannot be read, logged or stored; it is tried again.
        """
        await asyncio.to_thread(self._noticing.look)
        due = await asyncio.to_thread(self._sender.due)
        by_member: dict[str, list[Outgoing]] = {}
        for outgoing in due:
            by_member.setdefault(outgoing.member, []).append(outgoing)
        results = await asyncio.gather(*(self._deliver(each) for each in by_member.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(due)

    async def _deliver(self, to_member: list[Outgoing]) -> None:
        for number, outgoing in enumerate(to_member):
            try:
                answer = await self._transport.notify(outgoing.member, outgoing.envelope)
            except (OSError, WireError, SecurityError) as error:
                for left in to_member[number:]:  # the others would not reach it either
                    await asyncio.to_thread(self._sender.failed, left, str(error))
                return
            await asyncio.to_thread(self._sender.answered, outgoing, answer)


def log_news(context: Context, event: Event, digest: bytes, news: News, other: str, outcome: str) -> None:
    """Write one line about news: references and kinds, no field of a record.

    Raises:
        AuditError: it cannot be written; the caller does nothing.
    """
    kinds = sorted({change.code for item in news.items for change in item.changes})
    entry = AuditEntry(
        time_ms=context.clock(),
        operation=Operation.DISCLOSURE,
        event=event,
        member=other,
        pseudonym=news.pseudonym,
        request_digest=digest,
        outcome=outcome,
        records=tuple(item.reference for item in news.items),
        details={"kind": "news", "changes": ",".join(kinds)},
    )
    context.audit.append_many([entry])


def _item(notice: Notice, now: RecordNow | None, told: tuple[ToldHit, ...]) -> NewsItem | None:
    """Return what is said today, or None where nothing may be."""
    changes = set(notice.changes)
    tellable = now is not None and now.state == "live" and now.tellable(notice.member)
    if tellable:
        changes -= {Change.RETRACTED, Change.NARROWED, Change.ERASED}  # it was undone before it was said
        if not changes:
            changes = {Change.REINSTATED}
    else:
        changes = {change for change in changes if change.always_goes}
    if not changes or not told:
        return None
    ordered = tuple(sorted(changes, key=lambda change: int(change.value)))
    return NewsItem(notice.reference, ordered, now.view if now and tellable else None, told)


def _parts(items: Sequence[tuple[Notice, NewsItem]]) -> list[list[tuple[Notice, NewsItem]]]:
    """Return the items in as many parts as messages are needed."""
    parts: list[list[tuple[Notice, NewsItem]]] = []
    size = MAX_NEWS_BYTES
    for each in items:
        own = len(write_news(News("", "", "", "", 1, (each[1],))))
        size += own
        if size > MAX_NEWS_BYTES - 4096 or len(parts[-1]) == MAX_NEWS_ITEMS:
            parts.append([])
            size = own
        parts[-1].append(each)
    return parts
