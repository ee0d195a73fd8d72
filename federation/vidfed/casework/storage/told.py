"""Whom this member told of which of its records, and what each member has taken of its budgets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from vidfed.casework.storage.schema import spent, told
from vidfed.security.clock import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.wire.casework_values import Subject

MAX_CONVERSATIONS_A_DAY = 200  # begun by one member: more hits than a unit can work on
MAX_ENTRIES_A_DAY = 2_000
MAX_BYTES_A_DAY = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Told:
    """One record told to one member by one answer; digests of 32 bytes, time in ms since the epoch."""

    lookup_digest: bytes
    answer_digest: bytes
    reference: str
    member: str
    pseudonym: str
    told_ms: int


def note(connection: sa.Connection, answers: Sequence[Told]) -> None:
    """Keep what was told. What is kept already stays as it is. One statement: an answer to a large question tells hundreds of records."""
    if not answers:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(told).on_conflict_do_nothing(), [asdict(each) for each in answers])


def was_told(connection: sa.Connection, subject: Subject, member: str, pseudonym: str) -> bool:
    """Tell whether this answer told this person of this member of this record."""
    row = connection.execute(
        sa.select(told.c.lookup_digest, told.c.member, told.c.pseudonym).where(
            told.c.answer_digest == subject.answer_digest, told.c.reference == subject.reference
        )
    ).first()
    return row is not None and tuple(row) == (subject.lookup_digest, member, pseudonym)


def told_of(connection: sa.Connection, reference: str) -> list[Told]:
    """Return to whom a record was told."""
    rows = connection.execute(sa.select(told).where(told.c.reference == reference).order_by(told.c.told_ms))
    return [Told(row.lookup_digest, row.answer_digest, row.reference, row.member, row.pseudonym, row.told_ms) for row in rows]


def within_budget(connection: sa.Connection, member: str, size_bytes: int, now_ms: int, *, begins: bool) -> str:
    """Return why a member's entry is over its budget today; empty if it is not."""
    row = connection.execute(sa.select(spent).where(spent.c.member == member, spent.c.day == now_ms // DAY_MS)).first()
    if row is None:
        return ""
    if begins and row.conversations >= MAX_CONVERSATIONS_A_DAY:
        return f"{MAX_CONVERSATIONS_A_DAY} conversations were begun today"
    if row.entries >= MAX_ENTRIES_A_DAY or row.size_bytes + size_bytes > MAX_BYTES_A_DAY:
        return f"{MAX_ENTRIES_A_DAY} entries or {MAX_BYTES_A_DAY // 2**20} MiB were sent today"
    return ""


def charge(connection: sa.Connection, member: str, size_bytes: int, now_ms: int, *, begins: bool) -> None:
    """Count an entry of a member that was looked at."""
    day = now_ms // DAY_MS
    key = (spent.c.member == member) & (spent.c.day == day)
    if connection.execute(sa.select(spent.c.day).where(key)).first() is None:
        connection.execute(sa.delete(spent).where(spent.c.day < day - 1))
        connection.execute(sa.insert(spent).values(member=member, day=day, conversations=0, entries=0, size_bytes=0))
    connection.execute(
        sa.update(spent)
        .where(key)
        .values(
            conversations=spent.c.conversations + int(begins),
            entries=spent.c.entries + 1,
            size_bytes=spent.c.size_bytes + size_bytes,
        )
    )
