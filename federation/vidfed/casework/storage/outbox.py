"""What waits to be delivered. An entry and its place here are written in one transaction.

Section 4.1 of docs/casework-protocol.md. Within a conversation entries go in order; between conversations none waits for another.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.casework.storage.schema import outbox
from vidfed.security.clock import MINUTE_MS, SECOND_MS

if TYPE_CHECKING:
    from vidfed.casework.core.conversation import Entry

FIRST_PAUSE_MS = 2 * SECOND_MS
MAX_PAUSE_MS = 15 * MINUTE_MS
MAX_URGENT_PAUSE_MS = MINUTE_MS  # of a conversation whose ask says that a life is at risk
_SPREAD = 0.25  # so that members that were away together do not come back together
_MAX_DOUBLINGS = 16
_MAX_TROUBLE = 500  # characters


@dataclass(frozen=True, slots=True)
class Waiting:
    """One entry that is to go out.

    Attributes:
        digest: of the entry.
        member: to whom.
        conversation: of the entry.
        since_ms: since when it waits.
        next_ms: when it is tried next.
        attempts: how often it was tried.
        trouble: why it did not go the last time; empty before.
    """

    digest: bytes
    member: str
    conversation: bytes
    since_ms: int
    next_ms: int
    attempts: int
    trouble: str


def put(connection: sa.Connection, entry: Entry, now_ms: int, *, urgent: bool) -> None:
    """Let an entry go out from now on."""
    connection.execute(
        sa.insert(outbox).values(
            digest=entry.digest,
            member=entry.header.receiver,
            conversation=entry.header.conversation,
            number=entry.header.number,
            urgent=urgent,
            since_ms=now_ms,
            next_ms=now_ms,
            attempts=0,
            trouble="",
        )
    )


def due(connection: sa.Connection, now_ms: int, limit: int) -> list[Waiting]:
    """Return what is to be tried now, the urgent first: of each conversation the first entry alone, whose turn it is."""
    earlier = outbox.alias()
    is_first = ~sa.exists().where(earlier.c.conversation == outbox.c.conversation, earlier.c.number < outbox.c.number)
    query = sa.select(outbox).where(outbox.c.next_ms <= now_ms, is_first)
    return [_read(row) for row in connection.execute(query.order_by(outbox.c.urgent.desc(), outbox.c.next_ms).limit(limit))]


def waiting(connection: sa.Connection) -> list[Waiting]:
    """Return all that waits, the oldest first."""
    return [_read(row) for row in connection.execute(sa.select(outbox).order_by(outbox.c.since_ms))]


def postpone(connection: sa.Connection, digest: bytes, trouble: str, now_ms: int, spread: float | None = None) -> None:
    """Note that an entry did not go, and when to try again.

    Args:
        connection: the caller's transaction.
        digest: of the entry.
        trouble: why, for people.
        now_ms: the time.
        spread: -1 to 1, by how much of a quarter the pause differs; at random if None.
    """
    row = connection.execute(sa.select(outbox.c.attempts, outbox.c.urgent).where(outbox.c.digest == digest)).first()
    if row is None:
        return
    pause = FIRST_PAUSE_MS * 2 ** min(row.attempts, _MAX_DOUBLINGS)
    pause = min(pause, MAX_URGENT_PAUSE_MS if row.urgent else MAX_PAUSE_MS)
    pause = int(pause * (1 + _SPREAD * (random.uniform(-1, 1) if spread is None else spread)))  # noqa: S311 - no secret
    values = {"attempts": row.attempts + 1, "next_ms": now_ms + pause, "trouble": trouble[:_MAX_TROUBLE]}
    connection.execute(sa.update(outbox).where(outbox.c.digest == digest).values(**values))


def take_out(connection: sa.Connection, digest: bytes) -> None:
    """Forget that an entry is to go out: it has arrived."""
    connection.execute(sa.delete(outbox).where(outbox.c.digest == digest))


def hurry(connection: sa.Connection, member: str, now_ms: int) -> None:
    """Try everything for a member now: it was heard of."""
    connection.execute(sa.update(outbox).where(outbox.c.member == member, outbox.c.next_ms > now_ms).values(next_ms=now_ms))


def _read(row: sa.Row[tuple[object, ...]]) -> Waiting:
    return Waiting(row.digest, row.member, row.conversation, row.since_ms, row.next_ms, row.attempts, row.trouble)
