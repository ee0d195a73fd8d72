"""The record store: the truth from which every index is rebuilt. SQLite by default, PostgreSQL by URL.

Every change of a record gets the next version number; whoever keeps an index follows those numbers.
Taking in many records: upsert/. Editing, retracting, erasing, listing: lifecycle.py.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from vidfed.formats.fields import FIELDS, LISTS, Kind
from vidfed.index import Algorithm
from vidfed.index.codes import WHOLE
from vidfed.index.hashing.results import RELIABLE_PDQ_QUALITY
from vidfed.node.errors import StoreError
from vidfed.node.records import schema
from vidfed.node.records.database import RecordDatabase
from vidfed.node.records.further import View, labels_of, of_record
from vidfed.node.records.record import Record
from vidfed.node.records.schema import PLACE_BITS
from vidfed.node.records.source_states import SourceState
from vidfed.node.records.upsert.transaction import UpsertTransaction, entries_of_records
from vidfed.wire.values import HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.index import Code
    from vidfed.node.records.upsert.report import UpsertReport

PERCEPTUAL = tuple(algorithm for algorithm in Algorithm if algorithm.is_perceptual)
_LOOKUP_CHUNK = 500  # SQLite takes at most 32,766 parameters in one statement; short statements keep readers short
_MOST_FURTHER = 200_000  # further codes of a batch of changes, beside those of its last record: some 30 MB
_table = schema.records
_LIVE_SQL = "retracted_ms IS NULL AND erased_ms IS NULL"
_LIVE = sa.and_(_table.c.retracted_ms.is_(None), _table.c.erased_ms.is_(None))


class Removal(NamedTuple):
    """What was taken out: a record's public reference; when it was retracted and why, when erased, in ms since the epoch."""

    reference: str
    retracted_ms: int | None
    retraction_reason: str
    erased_ms: int | None


class History(NamedTuple):
    """A store's version, and the mark of its history up to it (of an empty store: its own); another store has another mark."""

    version: int
    mark: str


@dataclass(frozen=True, slots=True)
class StoreState:
    """Version (number of changes so far), time of the last change in ms since the epoch (0: none yet), number of records.

    `records` are those that lookups find; `retracted` are kept as tombstones.
    """

    version: int
    changed_ms: int
    records: int
    retracted: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """Records that changed, oldest change first, in columns. A record that changed several times is there once, with its last change.

    Attributes:
        versions: numbers of the changes.
        record_ids: of the records.
        codes: for each perceptual algorithm each record's own code; None where it has none, or is retracted or erased.
        further: for each perceptual algorithm labels, rising, and codes: those that live ones of these records have beside their own.
        places: of each of these records, how many places for further codes it has ever had; those not in `further` are free.
        erased: of each of these records, whether it was erased: then no file may hold its codes any more.
        mark: of the store's history up to the last of these changes; see `RecordStore.mark`.
    """

    versions: Sequence[int]
    record_ids: Sequence[int]
    codes: Mapping[Algorithm, Sequence[bytes | None]]
    mark: str
    further: Mapping[Algorithm, tuple[Sequence[int], Sequence[bytes]]] = field(default_factory=dict)
    places: Sequence[int] = ()
    erased: Sequence[bool] = ()


class RecordStore:
    """A member's records. Safe from several threads, and from several processes."""

    def __init__(self, location: Path | str, *, make: bool = True) -> None:
        """Open the store in a SQLite file, or at a `postgresql://` URL.

        Args:
            location: file or URL.
            make: it if there is none. A node's own store is opened by `known.open_store`, which never makes one.

        Raises:
            StoreError: it cannot be opened, is of another form, or there is none and none is to be made.
        """
        self.database = RecordDatabase(location)
        try:
            self.database.open(make=make)
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def upsert(self, records: Iterable[Record], *, now_ms: int) -> UpsertReport:
        """Add the records that are new, change those that differ, all in one transaction.

        A known item is recognised by the strongest digest both carry. It keeps its public reference, and whatever the new record leaves
        at its default: a record taken in again can add and change, but not clear. (`lifecycle.edit` can.)

        Raises:
            StoreError: nothing was changed.
        """
        with self.database.writing() as connection:
            intake = UpsertTransaction(self.database, connection, now_ms=now_ms)
            intake.take_all(entries_of_records(records))
            return intake.finish()

    def state(self) -> StoreState:
        """Return the store's present state.

        Raises:
            StoreError: it cannot be read.
        """
        count = sa.func.count()
        with self.database.reading() as connection:
            version, changed_ms = _version(connection)
            live = connection.execute(sa.select(count).select_from(_table).where(_LIVE)).scalar_one()
            retracted = sa.select(count).select_from(_table).where(_table.c.retracted_ms.is_not(None), _table.c.erased_ms.is_(None))
            return StoreState(version, changed_ms, live, connection.execute(retracted).scalar_one())

    def carrying(self) -> tuple[int, dict[Algorithm, int]]:
        """Return how many live records there are, and how many of them carry a hash of each algorithm by which they can be found.

        Raises:
            StoreError: they cannot be read.
        """
        columns = ", ".join(f"count({_found_by(algorithm)})" for algorithm in Algorithm)
        with self.database.reading() as connection:
            row = connection.exec_driver_sql(f"SELECT count(*), {columns} FROM records WHERE {_LIVE_SQL}").one()  # noqa: S608 - our own names
        return int(row[0]), dict(zip(Algorithm, map(int, row[1:]), strict=True))

    def version(self) -> tuple[int, int]:
        """Return version and time of the last change, (0, 0) for an empty store. Cheap enough for every lookup."""
        with self.database.reading() as connection:
            return _version(connection)

    def changes_after(self, version: int, *, limit: int) -> Changes:
        """Return what to do to an index of that version: at most `limit` changes, and fewer where these records have many codes."""
        names = ", ".join(map(_found_by, PERCEPTUAL))
        mark = self.database.marks(1)
        wanted_columns = f"version, id, {_LIVE_SQL}, places, erased_ms IS NOT NULL, {names}"
        wanted = f"SELECT {wanted_columns} FROM records WHERE version > {mark} ORDER BY version LIMIT {mark}"  # noqa: S608 - our own names
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql(wanted, (version, limit)).cursor.fetchall()
            if not rows:
                return Changes((), (), dict.fromkeys(PERCEPTUAL, ()), "")
            rows = _at_once(rows)
            versions, ids, present, places, erased, *columns = zip(*rows, strict=True)
            if not all(present):
                columns = [tuple(code if there else None for code, there in zip(column, present, strict=True)) for column in columns]
            further = _further_of(connection, [each for each, there, some in zip(ids, present, places, strict=True) if there and some])
            codes = dict(zip(PERCEPTUAL, columns, strict=True))
            return Changes(versions, ids, codes, _mark(connection, versions[-1]), further, places, erased)

    def mark(self, version: int) -> str:
        """Return the mark of the store's history up to this version, of the empty store for 0; empty where it has not come so far."""
        with self.database.reading() as connection:
            return _mark(connection, version)

    def history(self) -> History:
        """Return how far this store has come, and by which history.

        Raises:
            StoreError: it cannot be read.
        """
        with self.database.reading() as connection:
            version, _ = _version(connection)
            return History(version, _mark(connection, version))

    def removed_after(self, version: int) -> list[Removal]:
        """Return what was retracted or erased by the changes after this version.

        Raises:
            StoreError: it cannot be read.
        """
        columns = (_table.c.reference, _table.c.retracted_ms, _table.c.retraction_reason, _table.c.erased_ms)
        wanted = sa.select(*columns).where(_table.c.version > version, sa.not_(_LIVE))
        with self.database.reading() as connection:
            return [Removal(*row) for row in connection.execute(wanted)]

    def erased_after(self, version: int) -> list[int]:
        """Return the numbers of the records that were erased by the changes after this version.

        Raises:
            StoreError: it cannot be read.
        """
        wanted = sa.select(_table.c.id).where(_table.c.erased_ms.is_not(None), _table.c.version > version)
        with self.database.reading() as connection:
            return list(connection.execute(wanted).scalars())

    def last_erasure(self) -> int:
        """Return the version of the last erasure, 0 where there was none.

        Raises:
            StoreError: it cannot be read.
        """
        wanted = sa.select(sa.func.max(_table.c.version)).where(_table.c.erased_ms.is_not(None))
        with self.database.reading() as connection:
            return int(connection.execute(wanted).scalar() or 0)

    def live_among(self, references: Sequence[str]) -> list[str]:
        """Return those of some records that lookups find.

        Raises:
            StoreError: it cannot be read.
        """
        found: list[str] = []
        with self.database.reading() as connection:
            for start in range(0, len(references), _LOOKUP_CHUNK):
                wanted = _table.c.reference.in_(references[start : start + _LOOKUP_CHUNK])
                found += connection.execute(sa.select(_table.c.reference).where(wanted, _LIVE)).scalars()
        return found

    @contextlib.contextmanager
    def reading(self) -> Iterator[StoreReader]:
        """Give the store's present state for one lookup.

        Raises:
            StoreError: it cannot be read.
        """
        with self.database.driver() as connection:
            yield StoreReader(self.database, connection)

    def find(self, algorithm: Algorithm, codes: Sequence[bytes]) -> dict[bytes, list[int]]:
        """See `StoreReader.find`."""
        with self.reading() as reading:
            return reading.find(algorithm, codes)

    def records(self, ids: Sequence[int]) -> dict[int, Record]:
        """See `StoreReader.records`."""
        with self.reading() as reading:
            return reading.records(ids)


_FURTHER_FOUND_SQL = (
    f"(coalesce(quality, {RELIABLE_PDQ_QUALITY}) >= {RELIABLE_PDQ_QUALITY} OR algorithm NOT IN "
    f"({', '.join(repr(algorithm.value) for algorithm in Algorithm if algorithm.is_weak_alone)}))"
)
"""Of a view too plain for its hashes a 64-bit one finds nothing, as `_found_by` says of the picture as a whole."""
_FURTHER_FOUND = sa.text(_FURTHER_FOUND_SQL)


def _found_by(algorithm: Algorithm) -> str:
    """Return the SQL of the code by which a record is found, or NULL.

    Of a record too plain for its hashes a 64-bit one resembles those of all other plain pictures: it finds nothing.
    """
    if not algorithm.is_weak_alone:
        return algorithm.value
    return f"CASE WHEN coalesce(pdq_quality, {RELIABLE_PDQ_QUALITY}) >= {RELIABLE_PDQ_QUALITY} THEN {algorithm.value} END"


class StoreReader:
    """One state of the store. Statements go straight to the driver: composing them anew took longer than answering them."""

    def __init__(self, database: RecordDatabase, connection: sa.PoolProxiedConnection) -> None:
        self._database = database
        self._connection = connection

    def version(self) -> tuple[int, int]:
        """Return version and time of the last change, (0, 0) for an empty store."""
        rows = self._rows("SELECT version, changed_ms FROM records ORDER BY version DESC LIMIT 1")
        return rows[0] if rows else (0, 0)

    def source_states(self) -> list[SourceState]:
        """Return what is known of each source that is in charge of records."""
        return [SourceState(*row) for row in self._rows(_SOURCES_SQL)]

    def recent(self, version: int, limit: int) -> list[tuple[Any, ...]]:
        """Return (number, places, its own code of each algorithm) of at most `limit` live records that changed after a version."""
        names = ", ".join(map(_found_by, Algorithm))
        mark = self._database.marks(1)
        wanted = f"SELECT id, places, {names} FROM records WHERE version > {mark} AND {_LIVE_SQL} ORDER BY version LIMIT {mark}"  # noqa: S608 - our own names
        return self._rows(wanted, (version, limit))

    def mark(self, version: int) -> str:
        """Return the mark of the store's history up to this version; see `RecordStore.mark`."""
        which = "version >=" if version else "version ="
        rows = self._rows(f"SELECT mark FROM commits WHERE {which} {self._database.marks(1)} ORDER BY version LIMIT 1", (version,))  # noqa: S608 - constants
        return rows[0][0] if rows else ""

    def find(self, algorithm: Algorithm, codes: Sequence[bytes]) -> dict[bytes, list[int]]:
        """Return the record ids that carry each of these exact digests; codes nobody carries are left out."""
        found: dict[bytes, list[int]] = {}
        for start in range(0, len(codes), _LOOKUP_CHUNK):
            condition, values = self._database.within(algorithm.value, codes[start : start + _LOOKUP_CHUNK])
            for code, record_id in self._rows(f"SELECT {algorithm.value}, id FROM records WHERE {condition} AND {_LIVE_SQL}", values):  # noqa: S608 - our own names
                found.setdefault(bytes(code), []).append(record_id)
        return found

    def records(self, ids: Sequence[int]) -> dict[int, Record]:
        """Return the records with these ids, without their further codes; ids no longer known, retracted or erased are left out."""
        found: dict[int, Record] = {}
        for start in range(0, len(ids), _LOOKUP_CHUNK):
            condition, values = self._database.within("id", ids[start : start + _LOOKUP_CHUNK])
            for row in self._rows(f"SELECT {_RECORD_SQL} FROM records WHERE {condition} AND {_LIVE_SQL}", values):  # noqa: S608 - our own names
                found[row[0]] = _record_of(row)
        return found

    def numbers(self, references: Sequence[str]) -> dict[str, int]:
        """Return the ids of the live records with these references, by reference."""
        found: dict[str, int] = {}
        for start in range(0, len(references), _LOOKUP_CHUNK):
            condition, values = self._database.within("reference", references[start : start + _LOOKUP_CHUNK])
            found.update(self._rows(f"SELECT reference, id FROM records WHERE {condition} AND {_LIVE_SQL}", values))  # noqa: S608 - our own names
        return found

    def views(self, labels: Sequence[int]) -> dict[int, View]:
        """Return of which view of a record each of these further codes is; labels no longer known are left out."""
        found: dict[int, View] = {}
        for start in range(0, len(labels), _LOOKUP_CHUNK):
            condition, values = self._database.within("label", labels[start : start + _LOOKUP_CHUNK])
            for label, kind, quality in self._rows(f"SELECT label, kind, quality FROM codes WHERE {condition}", values):  # noqa: S608 - our own names
                found[label] = View(kind, quality)
        return found

    def further(self, record: int, algorithm: Algorithm) -> list[tuple[int, bytes]]:
        """Return label and code of each further code of one algorithm by which a record is found, by label."""
        mark = self._database.marks(1)
        condition = f"label BETWEEN {mark} AND {mark} AND algorithm = {mark} AND {_FURTHER_FOUND_SQL}"
        statement = f"SELECT label, code FROM codes WHERE {condition} ORDER BY label"  # noqa: S608 - only marks and constants
        return [(label, bytes(code)) for label, code in self._rows(statement, (*labels_of(record), algorithm.value))]

    def views_of(self, record: int, algorithm: Algorithm) -> dict[int, tuple[View, bytes]]:
        """Return every code of one algorithm that a record has, with what it is the code of, by label, rising."""
        mark = self._database.marks(1)
        statement = f"SELECT {algorithm.value}, pdq_quality FROM records WHERE id = {mark}"  # noqa: S608 - a name and a mark
        own = [(record << PLACE_BITS, code, WHOLE, quality) for code, quality in self._rows(statement, (record,)) if code is not None]
        columns, where = "label, code, kind, quality", f"label BETWEEN {mark} AND {mark} AND algorithm = {mark}"
        statement = f"SELECT {columns} FROM codes WHERE {where} ORDER BY label"  # noqa: S608 - only names and marks
        rows = self._rows(statement, (*labels_of(record), algorithm.value))
        return {label: (View(kind, quality), bytes(code)) for label, code, kind, quality in (*own, *rows)}

    def stop_list(self) -> list[tuple[int, bytes]]:
        """Return number and code of each frame that very many films share and that is set aside from them."""
        wanted = "SELECT number, frame FROM repeated_codes WHERE frame IS NOT NULL AND is_aside ORDER BY number"
        return [(number, bytes(frame)) for number, frame in self._rows(wanted)]

    def stopped(self, number: int, after: int, limit: int) -> list[int]:
        """Return the numbers of at most `limit` records, behind `after`, that a frame of the stop list is set aside from, rising."""
        mark = self._database.marks(1)
        where = f"repeated = {mark} AND record > {mark} ORDER BY record LIMIT {mark}"
        return [row[0] for row in self._rows(f"SELECT DISTINCT record FROM codes_aside WHERE {where}", (number, after, limit))]  # noqa: S608 - only marks

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement, values)
            return list(cursor.fetchall())
        except self._database.driver_error as error:
            raise StoreError(f"{self._database.name}: {error}") from None
        finally:
            cursor.close()


_FIELDS = tuple(each.name for each in fields(Record) if each.name not in {"hashes", "further"})
_ENUMS = {Kind.TERNARY: Ternary, Kind.HANDLING: HandlingCode}
_NUMBERED = {field.name: _ENUMS[field.kind] for field in FIELDS.values() if field.kind in _ENUMS}


_RECORD_SQL = ", ".join(("id", *_FIELDS, *(algorithm.value for algorithm in Algorithm)))
_LIVE_SQL = "retracted_ms IS NULL AND erased_ms IS NULL"
_ALGORITHMS = tuple(Algorithm)
_SOURCES_SQL = f"SELECT {', '.join(SourceState.__slots__)} FROM sources"  # noqa: S608 - our own names


def _record_of(row: tuple[Any, ...]) -> Record:
    """Return the record in a row of _RECORD_SQL."""
    values = _read_fields(dict(zip(_FIELDS, row[1:], strict=False)))
    codes = {algorithm: code for algorithm, code in zip(_ALGORITHMS, row[1 + len(_FIELDS) :], strict=True) if code is not None}
    return Record(hashes=codes, **values)


def _read_fields(columns: dict[str, Any]) -> dict[str, Any]:
    """Return a record's fields from their columns."""
    for name, kind in _NUMBERED.items():
        columns[name] = kind(columns[name])
    for name in LISTS:
        columns[name] = tuple(json.loads(columns[name])) if columns[name] != "[]" else ()
    return columns


def _at_once(rows: Sequence[Any]) -> Sequence[Any]:
    """Return the first of some changes, as many as have further codes enough to be applied at once; at least one."""
    if not any(row[3] for row in rows):
        return rows
    within = sum(codes <= _MOST_FURTHER for codes in accumulate(row[3] for row in rows))
    return rows[: max(within, 1)]


def _further_of(connection: sa.Connection, numbers: Sequence[int]) -> dict[Algorithm, tuple[Sequence[int], Sequence[bytes]]]:
    """Return the further codes of these records, by algorithm: labels, rising, and codes."""
    found: dict[Algorithm, tuple[list[int], list[bytes]]] = {}
    for number in sorted(numbers):
        select = sa.select(schema.codes.c.label, schema.codes.c.algorithm, schema.codes.c.code).where(of_record(number))
        for label, algorithm, code in connection.execute(select.where(_FURTHER_FOUND).order_by(schema.codes.c.label)):
            labels, codes = found.setdefault(Algorithm(algorithm), ([], []))
            labels.append(label)
            codes.append(code)
    return dict(found)


def to_record(row: sa.Row[Any], further: Sequence[Code] = ()) -> Record:
    """Return the record that a row of the table `records` holds, with the further codes it has."""
    mapping = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    values = _read_fields({name: mapping[name] for name in _FIELDS})
    codes = {algorithm: code for algorithm in Algorithm if (code := mapping[algorithm.value]) is not None}
    return Record(hashes=codes, further=tuple(further), **values)


def _mark(connection: sa.Connection, version: int) -> str:
    """Return the mark of the transaction that gave this version its number; the first is that in which the store was made."""
    commits = schema.commits
    which = commits.c.version >= version if version else commits.c.version == 0
    return connection.execute(sa.select(commits.c.mark).where(which).order_by(commits.c.version).limit(1)).scalar() or ""


def _version(connection: sa.Connection) -> tuple[int, int]:
    row = connection.execute(sa.select(_table.c.version, _table.c.changed_ms).order_by(_table.c.version.desc()).limit(1)).first()
    return (row.version, row.changed_ms) if row else (0, 0)
