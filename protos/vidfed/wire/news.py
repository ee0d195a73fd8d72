"""News of records that were told: values to bytes and back. Reading is strict, as in `vidfed.wire.requests`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import unique

from vidfed.v1 import casework_pb2 as pb
from vidfed.wire.records import read_record, write_record
from vidfed.wire.statuses import MalformedError
from vidfed.wire.strict import check_digest, check_texts, enum, parse
from vidfed.wire.values import DIGEST_BYTES, MAX_TEXT, Coded, RecordView

NEWS_TYPE = "application/vnd.vidfed.news.v1+protobuf"
MAX_NEWS_BYTES = 512 * 1024
MAX_NEWS_ITEMS = 100
MAX_TOLD_HITS = 100  # of one record, the newest: whoever looks up the same picture more often finds it by the reference
_MAX_MS = 2**53


@unique
class Change(Coded):
    """What became of a record since it was told."""

    STATUS = pb.CHANGE_STATUS
    SERIES = pb.CHANGE_SERIES
    HANDLING = pb.CHANGE_HANDLING
    CORRECTED = pb.CHANGE_CORRECTED
    RETRACTED = pb.CHANGE_RETRACTED
    ERASED = pb.CHANGE_ERASED
    REINSTATED = pb.CHANGE_REINSTATED
    NARROWED = pb.CHANGE_NARROWED

    @property
    def takes_back(self) -> bool:
        """True if the record may not be relied on any more."""
        return self in {Change.RETRACTED, Change.ERASED, Change.NARROWED}

    @property
    def always_goes(self) -> bool:
        """True if it is said also of a record that is not told any more: by reference and kind, without a field of it."""
        return self.takes_back or self in {Change.CORRECTED, Change.REINSTATED}


@dataclass(frozen=True, slots=True)
class ToldHit:
    """A hit that somebody was told; SHA-256 digests."""

    lookup_digest: bytes
    answer_digest: bytes


@dataclass(frozen=True, slots=True)
class NewsItem:
    """News of one record. `record` is None where nothing of it is told any more."""

    reference: str
    changes: tuple[Change, ...]
    record: RecordView | None
    told: tuple[ToldHit, ...]


@dataclass(frozen=True, slots=True)
class News:
    """News for one person of another member. Fields as in `News` of casework.proto."""

    federation: str
    issuer: str
    audience: str
    pseudonym: str
    issued_ms: int
    items: tuple[NewsItem, ...]


def write_news(news: News) -> bytes:
    """Return the bytes to be signed."""
    return pb.News(
        federation=news.federation,
        issuer=news.issuer,
        audience=news.audience,
        pseudonym=news.pseudonym,
        issued_ms=news.issued_ms,
        items=[
            pb.NewsItem(
                reference=item.reference,
                changes=[change.value for change in item.changes],
                record=write_record(item.record) if item.record else None,
                told=[pb.ToldHit(lookup_digest=hit.lookup_digest, answer_digest=hit.answer_digest) for hit in item.told],
            )
            for item in news.items
        ],
    ).SerializeToString()


def read_news(payload: bytes) -> News:
    """Read verified bytes.

    Raises:
        MalformedError: not of the stated form; the message says what.
        VersionError: it has fields or codes this program does not know.
    """
    message = parse(payload, pb.News(), MAX_NEWS_BYTES)
    check_texts((message.federation, message.issuer, message.audience, message.pseudonym), MAX_TEXT)
    if not 0 < message.issued_ms < _MAX_MS:
        raise MalformedError(f"issued at {message.issued_ms}, which is no time")
    if not 1 <= len(message.items) <= MAX_NEWS_ITEMS:
        raise MalformedError(f"{len(message.items)} records, expected 1 to {MAX_NEWS_ITEMS}")
    items = tuple(map(_read_item, message.items))
    if len({item.reference for item in items}) != len(items):
        raise MalformedError("one record twice")
    return News(message.federation, message.issuer, message.audience, message.pseudonym, message.issued_ms, items)


def _read_item(message: pb.NewsItem) -> NewsItem:
    check_texts((message.reference,), MAX_TEXT)
    changes = tuple(enum(Change, number) for number in message.changes)
    if not changes or list(message.changes) != sorted(set(message.changes)):
        raise MalformedError("changes are missing, doubled, or not in order")
    record = read_record(message.record) if message.HasField("record") else None
    if record is not None and (record.reference != message.reference or any(change.takes_back for change in changes)):
        raise MalformedError("a record is told that is another one, or that is taken back")
    if not 1 <= len(message.told) <= MAX_TOLD_HITS:
        raise MalformedError(f"{len(message.told)} hits, expected 1 to {MAX_TOLD_HITS}")
    told = tuple(
        ToldHit(
            check_digest(hit.lookup_digest, DIGEST_BYTES, "digest of a lookup"),
            check_digest(hit.answer_digest, DIGEST_BYTES, "digest of an answer"),
        )
        for hit in message.told
    )
    return NewsItem(message.reference, changes, record, told)
