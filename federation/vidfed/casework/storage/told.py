"""Whom this member told of which of its records, and what each member has taken of its budgets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.casework.storage.schema import places, spent, told, told_answers
from vidfed.security.clock import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from vidfed.wire.casework_values import Subject

MAX_CONVERSATIONS_A_DAY = 200  # begun by one member: more hits than a unit can work on
MAX_ENTRIES_A_DAY = 2_000
MAX_BYTES_A_DAY = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Told:
    """One answer that told of records.

    Attributes:
        lookup_digest, answer_digest: 32 bytes each.
        member, pseudonym: who was told.
        told_ms: when, in ms since the epoch.
        references: the records.
        version: of the records that were searched.
    """

    lookup_digest: bytes
    answer_digest: bytes
    member: str
    pseudonym: str
    told_ms: int
    references: tuple[str, ...]
    version: int = 0


def note(connection: sa.Connection, answers: Sequence[Told]) -> None:
    """Keep what was told. What is kept already stays as it is. Few statements, however many: bulk answers tell thousands of records."""
    if not answers:
        return
    asked = sa.select(told_answers.c.answer_digest).where(told_answers.c.answer_digest.in_([each.answer_digest for each in answers]))
    known = set(connection.execute(asked).scalars())
    new = [each for each in answers if each.answer_digest not in known]
    if not new:
        return
    first = int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(told_answers.c.number), 0))).scalar_one()) + 1
    rows = [{name: value for name, value in asdict(each).items() if name != "references"} for each in new]
    connection.execute(sa.insert(told_answers), [row | {"number": number} for number, row in enumerate(rows, first)])
    connection.execute(
        sa.insert(told),
        [
            {"reference": reference, "answer": number}
            for number, each in enumerate(new, first)
            for reference in dict.fromkeys(each.references)
        ],
    )


def was_told(connection: sa.Connection, subject: Subject, member: str, pseudonym: str) -> bool:
    """Tell whether this answer told this person of this member of this record."""
    found = sa.select(told_answers.c.number).where(
        told_answers.c.answer_digest == subject.answer_digest,
        told_answers.c.lookup_digest == subject.lookup_digest,
        told_answers.c.member == member,
        told_answers.c.pseudonym == pseudonym,
    )
    numbers = [row.number for row in connection.execute(found)]
    of_it = sa.select(told.c.answer).where(told.c.reference == subject.reference, told.c.answer.in_(numbers))
    return connection.execute(of_it).first() is not None


def told_of(connection: sa.Connection, references: Collection[str], member: str | None = None) -> dict[str, list[Told]]:
    """Return by which answers records were told, the newest first, by reference; of one member, or of all."""
    query = sa.select(told.c.reference, told_answers).join(told_answers, told_answers.c.number == told.c.answer)
    query = query.where(told.c.reference.in_(references)).order_by(told_answers.c.number.desc())
    if member is not None:
        query = query.where(told_answers.c.member == member)
    found: dict[str, list[Told]] = {}
    for row in connection.execute(query):
        each = Told(row.lookup_digest, row.answer_digest, row.member, row.pseudonym, row.told_ms, (row.reference,), row.version)
        found.setdefault(row.reference, []).append(each)
    return found


def forget_before(connection: sa.Connection, before_ms: int) -> int:
    """Forget answers given before a time; return how many."""
    old = sa.select(told_answers.c.number).where(told_answers.c.told_ms < before_ms)
    connection.execute(sa.delete(told).where(told.c.answer.in_(old)))
    return connection.execute(sa.delete(told_answers).where(told_answers.c.told_ms < before_ms)).rowcount


def forget_records(connection: sa.Connection, references: Collection[str], member: str, pseudonym: str) -> None:
    """Forget that a person was told of records: there is nothing left that could be said of them."""
    own = sa.select(told_answers.c.number).where(told_answers.c.member == member, told_answers.c.pseudonym == pseudonym)
    connection.execute(sa.delete(told).where(told.c.reference.in_(references), told.c.answer.in_(own)))


def reached(connection: sa.Connection, name: str) -> tuple[int, str]:
    """Return how far something that is followed was read, and a mark of its history; (0, "") before the first time."""
    row = connection.execute(sa.select(places.c.reached, places.c.mark).where(places.c.name == name)).first()
    return (0, "") if row is None else (int(row.reached), row.mark)


def reach(connection: sa.Connection, name: str, position: int, mark: str = "") -> None:
    """Note how far something was read."""
    connection.execute(sa.delete(places).where(places.c.name == name))
    connection.execute(sa.insert(places).values(name=name, reached=position, mark=mark))


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
