"""What an operator does about hashes on many items: list, keep, refuse. How they are found: upsert/repeated, shared_frames."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.index import Algorithm
from vidfed.node.errors import StoreError
from vidfed.node.records import schema
from vidfed.node.records.shared_frames import Frames, take_frames
from vidfed.node.records.upsert.repeated import KEEP, REFUSE, fingerprint, give_back, set_aside, take_from

if TYPE_CHECKING:
    from vidfed.node.records.store import RecordStore

_SHOWN = 3  # references of records that carry it, to look at


@dataclass(frozen=True, slots=True)
class Repeat:
    """A hash that one import had on many items.

    Attributes:
        number: by which it is named.
        algorithm: of the hash.
        origin: name of the file or source.
        records: of that import that carried it.
        evidence: what else is known of them says of it.
        state: `kept`, `set aside`, or `undecided`: kept although nothing confirms it, until an operator decides.
        decision: the operator's: `keep`, `refuse` or empty; with its reason.
        aside: records it is set aside from now.
        references: of some records that it was on.
        found_ms: when.
        is_frame: it is a frame that many films share, and what is near it is taken for it.
    """

    number: int
    algorithm: Algorithm
    origin: str
    records: int
    evidence: str
    state: str
    decision: str
    reason: str
    aside: int
    references: tuple[str, ...]
    found_ms: int
    is_frame: bool = False


def repeats(store: RecordStore) -> list[Repeat]:
    """Return all that were found, oldest first.

    Raises:
        StoreError: the store cannot be read.
    """
    known, aside, imports, table = schema.repeated_codes, schema.codes_aside, schema.imports, schema.records
    found = []
    with store.database.reading() as connection:
        wanted = sa.select(known, imports.c.file_name).outerjoin(imports, imports.c.id == known.c.import_id).order_by(known.c.number)
        for row in connection.execute(wanted).all():
            mine = sa.select(aside.c.record).where(aside.c.repeated == row.number)
            count = connection.execute(sa.select(sa.func.count()).select_from(mine.subquery())).scalar_one()
            some = sa.select(table.c.reference).where(table.c.id.in_(mine.limit(_SHOWN)))
            references = tuple(connection.execute(some.order_by(table.c.id)).scalars())
            state = "set aside" if row.is_aside else "kept" if row.confirmed or row.decision else "undecided"
            found.append(
                Repeat(
                    row.number,
                    Algorithm(row.algorithm),
                    row.file_name or "",
                    row.records,
                    row.evidence,
                    state,
                    row.decision,
                    row.reason,
                    count,
                    references,
                    row.found_ms,
                    row.frame is not None,
                )
            )
    return found


def keep(store: RecordStore, number: int, reason: str, *, now_ms: int) -> int:
    """Decide that a repeated hash is a picture's: records have it back, and imports to come keep it. Return how many records changed.

    Raises:
        StoreError: there is no such number, or the store cannot be written.
    """
    return _decide(store, number, KEEP, reason, now_ms)


def refuse(store: RecordStore, number: int, reason: str, *, now_ms: int) -> int:
    """Decide that a repeated hash is a filler: it is set aside from every record, also of imports to come. Return how many records changed.

    Raises:
        StoreError: there is no such number, or the store cannot be written.
    """
    return _decide(store, number, REFUSE, reason, now_ms)


def _decide(store: RecordStore, number: int, decision: str, reason: str, now_ms: int) -> int:
    known, table = schema.repeated_codes, schema.records
    with store.database.writing() as connection:
        row = connection.execute(sa.select(known).where(known.c.number == number)).first()
        if row is None:
            raise StoreError(f"no repeated hash has the number {number}; vidfed node repeats list shows them")
        alike = sa.and_(known.c.fingerprint == row.fingerprint, known.c.frame.is_(None))
        wanted = sa.select(known.c.number).where(alike if row.frame is None else known.c.number == number)
        same = list(connection.execute(wanted).scalars())
        versions = itertools.count(int(connection.execute(sa.select(sa.func.max(table.c.version))).scalar() or 0) + 1)
        if decision == KEEP:
            count = give_back(connection, same, versions, now_ms)
        elif row.frame is not None:
            frames = Frames.of(connection)
            count = take_frames(store, connection, number, frames.labels[frames.near(row.frame)].tolist(), now_ms)
        else:
            count = _take_everywhere(store, connection, number, same, row.algorithm, row.fingerprint, versions, now_ms)
        values = {"decision": decision, "reason": reason, "decided_ms": now_ms, "is_aside": decision == REFUSE}
        connection.execute(sa.update(known).where(known.c.number.in_(same)).values(**values))
    return count


def _take_everywhere(
    store: RecordStore,
    connection: sa.Connection,
    number: int,
    same: list[int],
    name: str,
    known_by: bytes,
    versions: itertools.count[int],
    now_ms: int,
) -> int:
    """Set a hash aside from all records that carry it; of those without a digest it is all that there is, so they keep it."""
    table, aside, codes = schema.records, schema.codes_aside, schema.codes
    code = _code(connection, same, name, known_by)
    if code is None:  # no record carries it any more; imports to come are told by its fingerprint
        return 0
    carriers = sa.select(table.c.id).where(table.c[name] == code, table.c.perceptual_key.is_(None), table.c.erased_ms.is_(None))
    records = list(connection.execute(carriers.order_by(table.c.id)).scalars())
    connection.execute(sa.delete(aside).where(aside.c.record.in_(carriers), aside.c.algorithm == name, aside.c.code == code))
    take_from(store.database, connection, number, name, code, records, versions, now_ms)
    further = sa.select(codes).where(codes.c.algorithm == name, codes.c.code == code)
    for row in connection.execute(further).all():
        record = row.label >> schema.PLACE_BITS
        set_aside(connection, number, record, name, code, kind=row.kind, quality=row.quality)
        connection.execute(sa.delete(codes).where(codes.c.label == row.label))
        connection.execute(sa.update(table).where(table.c.id == record).values(version=next(versions), changed_ms=now_ms))
        records.append(record)
    return len(set(records))


def _code(connection: sa.Connection, same: list[int], name: str, known_by: bytes) -> bytes | None:
    """Return the hash itself, from a record that carries it or that it is set aside from."""
    known, table, aside = schema.repeated_codes, schema.records, schema.codes_aside
    if (code := connection.execute(sa.select(aside.c.code).where(aside.c.repeated.in_(same)).limit(1)).scalar()) is not None:
        return bytes(code)
    imports = sa.select(known.c.import_id).where(known.c.number.in_(same))
    for scope in (table.c.import_id.in_(imports), sa.true()):
        rows = connection.execute(sa.select(table.c[name]).where(scope, table.c[name].is_not(None)))
        for (each,) in rows:
            if fingerprint(name, each) == known_by:
                rows.close()
                return bytes(each)
    return None
