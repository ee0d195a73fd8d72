"""News in the tables: what was last seen of records that were told, what is to go out, what came. In the caller's transaction."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.casework.storage.schema import news, notices, seen, told, told_answers
from vidfed.security.clock import MINUTE_MS, SECOND_MS
from vidfed.wire.news import Change

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

FIRST_PAUSE_MS = 2 * SECOND_MS
MAX_PAUSE_MS = 15 * MINUTE_MS
_SPREAD = 0.25
_MAX_DOUBLINGS = 16
_MAX_TROUBLE = 500  # characters
_waiting = notices.c.received_ms.is_(None)


@dataclass(frozen=True, slots=True)
class Notice:
    """News of one record for one person of another member.

    Attributes:
        number: of the row.
        member, pseudonym: for whom.
        reference: of the record.
        changes: what became of it.
        since_ms: since when it waits.
        held: a person of this member is to confirm it first.
        attempts: how often it was tried.
        trouble: why it did not go the last time; empty before.
        received_ms: when it arrived, by the other's signed receipt; None: nobody has confirmed.
    """

    number: int
    member: str
    pseudonym: str
    reference: str
    changes: tuple[Change, ...]
    since_ms: int
    held: bool
    attempts: int
    trouble: str
    received_ms: int | None


def seen_of(connection: sa.Connection, references: Collection[str]) -> dict[str, tuple[int, bytes]]:
    """Return version and fingerprint of those records that were looked at before."""
    rows = connection.execute(sa.select(seen).where(seen.c.reference.in_(references)))
    return {row.reference: (int(row.version), row.fingerprint) for row in rows}


def keep_seen(connection: sa.Connection, found: Mapping[str, tuple[int, bytes]]) -> None:
    """Keep what was seen of records."""
    if found:
        connection.execute(sa.delete(seen).where(seen.c.reference.in_(list(found))))
        rows = [{"reference": reference, "version": version, "fingerprint": digest} for reference, (version, digest) in found.items()]
        connection.execute(sa.insert(seen), rows)


def seen_after(connection: sa.Connection, reference: str, limit: int) -> list[str]:
    """Return the next records that were looked at, by reference."""
    query = sa.select(seen.c.reference).where(seen.c.reference > reference).order_by(seen.c.reference).limit(limit)
    return list(connection.execute(query).scalars())


def forget_unneeded(connection: sa.Connection, before_ms: int) -> None:
    """Forget what is kept of records of which nobody was told any more, and confirmed or received news older than a time."""
    connection.execute(sa.delete(seen).where(~sa.exists().where(told.c.reference == seen.c.reference)))
    connection.execute(sa.delete(notices).where(notices.c.received_ms < before_ms))
    connection.execute(sa.delete(news).where(news.c.received_ms < before_ms))


def newly_told(connection: sa.Connection, after: int, limit: int) -> list[tuple[int, str, str, int, str]]:
    """Return (answer, member, pseudonym, version of the records, reference) of what was told after an answer; whole answers."""
    wanted = sa.select(told_answers.c.number).where(told_answers.c.number > after).order_by(told_answers.c.number).limit(limit)
    query = (
        sa.select(told_answers.c.number, told_answers.c.member, told_answers.c.pseudonym, told_answers.c.version, told.c.reference)
        .join(told, told.c.answer == told_answers.c.number)
        .where(told_answers.c.number.in_(list(connection.execute(wanted).scalars())))
        .order_by(told_answers.c.number)
    )
    return [(row.number, row.member, row.pseudonym, int(row.version), row.reference) for row in connection.execute(query)]


def persons_told(connection: sa.Connection, references: Collection[str]) -> dict[str, set[tuple[str, str]]]:
    """Return which persons of which members were told of records, by reference."""
    query = (
        sa.select(told.c.reference, told_answers.c.member, told_answers.c.pseudonym)
        .join(told_answers, told_answers.c.number == told.c.answer)
        .where(told.c.reference.in_(references))
        .distinct()
    )
    found: dict[str, set[tuple[str, str]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.reference, set()).add((row.member, row.pseudonym))
    return found


def queue(
    connection: sa.Connection, member: str, pseudonym: str, reference: str, changes: Iterable[Change], now_ms: int, *, held: bool = False
) -> None:
    """Let news go out; what waits already of the same record for the same person becomes one with it."""
    bits = sum(1 << change.value for change in set(changes))
    own = (notices.c.member == member) & (notices.c.pseudonym == pseudonym) & (notices.c.reference == reference) & _waiting
    row = connection.execute(sa.select(notices.c.number, notices.c.changes).where(own)).first()
    if row is not None:
        values: dict[str, object] = {"changes": row.changes | bits, "next_ms": now_ms}
        connection.execute(sa.update(notices).where(notices.c.number == row.number).values(**values | ({"held": True} if held else {})))
        return
    connection.execute(
        sa.insert(notices).values(
            member=member,
            pseudonym=pseudonym,
            reference=reference,
            changes=bits,
            since_ms=now_ms,
            held=held,
            next_ms=now_ms,
            attempts=0,
            trouble="",
        )
    )


def hold_removals(connection: sa.Connection, since_ms: int) -> None:
    """Let a person confirm first what takes records back and waits since a time or later."""
    bits = sum(1 << change.value for change in Change if change.takes_back)
    waits = sa.and_(_waiting, notices.c.since_ms >= since_ms, notices.c.changes.op("&")(bits) != 0)
    connection.execute(sa.update(notices).where(waits).values(held=True))


def due(connection: sa.Connection, now_ms: int, limit: int) -> list[Notice]:
    """Return what is to go out now, the oldest first."""
    query = sa.select(notices).where(_waiting, notices.c.held.is_(False), notices.c.next_ms <= now_ms)
    return [_read(row) for row in connection.execute(query.order_by(notices.c.since_ms, notices.c.number).limit(limit))]


def unconfirmed(connection: sa.Connection) -> list[Notice]:
    """Return all that nobody has confirmed, the oldest first."""
    return [_read(row) for row in connection.execute(sa.select(notices).where(_waiting).order_by(notices.c.since_ms, notices.c.number))]


def confirmed(connection: sa.Connection) -> list[Notice]:
    """Return what was confirmed and is still kept, the newest first."""
    query = sa.select(notices).where(notices.c.received_ms.is_not(None)).order_by(notices.c.received_ms.desc(), notices.c.number)
    return [_read(row) for row in connection.execute(query)]


def release_held(connection: sa.Connection, now_ms: int) -> int:
    """Let what a person has confirmed go out; return how many."""
    return connection.execute(sa.update(notices).where(_waiting, notices.c.held.is_(True)).values(held=False, next_ms=now_ms)).rowcount


def drop_held(connection: sa.Connection) -> int:
    """Drop what a person has decided not to say; return how many."""
    return connection.execute(sa.delete(notices).where(_waiting, notices.c.held.is_(True))).rowcount


def arrived(connection: sa.Connection, sent: Iterable[Notice], receipt: bytes, received_ms: int) -> None:
    """Note that news was confirmed. What came to it meanwhile goes out again."""
    for each in sent:
        bits = sum(1 << change.value for change in each.changes)
        own = (notices.c.number == each.number) & (notices.c.changes == bits)
        connection.execute(sa.update(notices).where(own).values(received_ms=received_ms, receipt=receipt, trouble=""))


def postpone(connection: sa.Connection, tried: Iterable[Notice], trouble: str, now_ms: int) -> None:
    """Note that news did not go, and when to try again."""
    for each in tried:
        pause = min(FIRST_PAUSE_MS * 2 ** min(each.attempts, _MAX_DOUBLINGS), MAX_PAUSE_MS)
        pause = int(pause * (1 + _SPREAD * random.uniform(-1, 1)))  # noqa: S311 - no secret
        values = {"attempts": each.attempts + 1, "next_ms": now_ms + pause, "trouble": trouble[:_MAX_TROUBLE]}
        connection.execute(sa.update(notices).where(notices.c.number == each.number).values(**values))


def receipt_of(connection: sa.Connection, digest: bytes, owner: str) -> bytes | None:
    """Return the receipt that was given to this owner for news that came before."""
    known = sa.select(news.c.receipt).where(news.c.digest == digest, news.c.owner == owner)
    found: bytes | None = connection.execute(known).scalar()
    return found


def take(connection: sa.Connection, digest: bytes, owner: str, pseudonym: str, envelope: bytes, received_ms: int, receipt: bytes) -> None:
    """Keep news that came."""
    connection.execute(
        sa.insert(news).values(digest=digest, owner=owner, pseudonym=pseudonym, envelope=envelope, received_ms=received_ms, receipt=receipt)
    )


def received(connection: sa.Connection, pseudonym: str, after: int, limit: int) -> list[tuple[int, bytes, int]]:
    """Return (number, envelope, time of receipt) of news for a person after a number."""
    query = sa.select(news.c.number, news.c.envelope, news.c.received_ms).where(news.c.pseudonym == pseudonym, news.c.number > after)
    return [(row.number, row.envelope, row.received_ms) for row in connection.execute(query.order_by(news.c.number).limit(limit))]


def _read(row: sa.Row[tuple[object, ...]]) -> Notice:
    changes = tuple(change for change in Change if row.changes >> change.value & 1)
    return Notice(
        row.number,
        row.member,
        row.pseudonym,
        row.reference,
        changes,
        row.since_ms,
        row.held,
        row.attempts,
        row.trouble,
        row.received_ms,
    )
