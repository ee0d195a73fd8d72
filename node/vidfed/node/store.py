"""The record store: the truth from which every index is rebuilt. SQLAlchemy over SQLite in WAL mode.

Every change gets the next version number in `changes`, in its own transaction; whoever keeps an index follows that list.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from vidfed.index import Algorithm
from vidfed.node.errors import StoreError
from vidfed.node.records import Record
from vidfed.wire.values import HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SCHEMA_VERSION = 1
_LOOKUP_CHUNK = 500  # SQLite takes at most 32,766 parameters in one statement; short statements keep readers short

_metadata = sa.MetaData()
_schema = sa.Table("schema", _metadata, sa.Column("version", sa.Integer, nullable=False))
_records = sa.Table(
    "records",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("reference", sa.String, nullable=False, unique=True),
    sa.Column("identity", sa.String, nullable=False, unique=True),
    sa.Column("pdq_quality", sa.Integer),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("mime_type", sa.String, nullable=False),
    sa.Column("series", sa.String, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("victim_identified", sa.Enum(Ternary, native_enum=False), nullable=False),
    sa.Column("offender_identified", sa.Enum(Ternary, native_enum=False), nullable=False),
    sa.Column("distributed", sa.Enum(Ternary, native_enum=False), nullable=False),
    sa.Column("case_reference", sa.String, nullable=False),
    sa.Column("case_contact", sa.String, nullable=False),
    sa.Column("handling_code", sa.Enum(HandlingCode, native_enum=False), nullable=False),
    sa.Column("handling_note", sa.String, nullable=False),
    sa.Column("category", sa.String, nullable=False),
    sa.Column("category_scale", sa.String, nullable=False),
    sa.Column("category_region", sa.String, nullable=False),
    sa.Column("source_grading", sa.String, nullable=False),
    sa.Column("information_grading", sa.String, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
)
_hashes = sa.Table(
    "hashes",
    _metadata,
    sa.Column("record_id", sa.ForeignKey("records.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("algorithm", sa.Enum(Algorithm, native_enum=False), primary_key=True),
    sa.Column("code", sa.LargeBinary, nullable=False),
    sa.Index("hashes_by_code", "algorithm", "code"),
)
_changes = sa.Table(
    "changes",
    _metadata,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("record_id", sa.Integer, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True)
class StoreState:
    """Version (number of changes so far), time of the last change in ms since the epoch (0: none yet), number of records."""

    version: int
    changed_ms: int
    records: int


@dataclass(slots=True)
class UpsertReport:
    """What a batch of records changed."""

    new: int = 0
    updated: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A record's codes after a change; none left if it is gone."""

    version: int
    record_id: int
    codes: Mapping[Algorithm, bytes]


class RecordStore:
    """A member's records. Safe from several threads, and from several processes on one machine."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, making it if absent.

        Raises:
            StoreError: it cannot be opened, or is of another version.
        """
        self._path = path
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
        event.listen(self._engine, "connect", _prepare_connection)
        try:
            path.touch(mode=0o600)
            with self._engine.begin() as connection:
                _metadata.create_all(connection)
                version = connection.execute(sa.select(_schema.c.version)).scalar()
                if version is None:
                    connection.execute(sa.insert(_schema).values(version=SCHEMA_VERSION))
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise StoreError(f"{path}: {_cause(error)}") from None
        if version not in {None, SCHEMA_VERSION}:
            raise StoreError(f"{path}: record store of schema {version}, this program knows {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def upsert(self, records: Iterable[Record], *, now_ms: int) -> UpsertReport:
        """Add the records that are new, change those that differ, all in one transaction.

        Two rows speak of the same item if they have the same `Record.identity`. A known item keeps its public reference and any hash
        that the new row does not carry.

        Raises:
            StoreError: nothing was changed.
        """
        report = UpsertReport()
        try:
            with self._engine.begin() as connection:
                for record in records:
                    self._upsert_one(connection, record, now_ms, report)
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"{self._path}: {_cause(error)}; nothing was changed") from None
        return report

    def state(self) -> StoreState:
        """Return the store's present state.

        Raises:
            StoreError: it cannot be read.
        """
        latest = sa.select(_changes.c.version, _changes.c.changed_ms).order_by(_changes.c.version.desc()).limit(1)
        with self._reading() as connection:
            row = connection.execute(latest).first()
            count = connection.execute(sa.select(sa.func.count()).select_from(_records)).scalar_one()
        return StoreState(row.version, row.changed_ms, count) if row else StoreState(0, 0, count)

    def version(self) -> tuple[int, int]:
        """Return version and time of the last change, (0, 0) for an empty store. Cheap enough for every lookup."""
        latest = sa.select(_changes.c.version, _changes.c.changed_ms).order_by(_changes.c.version.desc()).limit(1)
        with self._reading() as connection:
            row = connection.execute(latest).first()
        return (row.version, row.changed_ms) if row else (0, 0)

    def changes_after(self, version: int, *, limit: int) -> list[Change]:
        """Return what to do to an index of that version, oldest change first, at most `limit` changes."""
        newest = (
            sa.select(_changes.c.version, _changes.c.record_id)
            .where(_changes.c.version > version)
            .order_by(_changes.c.version)
            .limit(limit)
            .subquery()
        )
        wanted = (
            sa.select(newest.c.version, newest.c.record_id, _hashes.c.algorithm, _hashes.c.code)
            .select_from(newest.outerjoin(_hashes, _hashes.c.record_id == newest.c.record_id))
            .order_by(newest.c.version)
        )
        changes: dict[int, Change] = {}
        with self._reading() as connection:
            for row in connection.execute(wanted):
                change = changes.setdefault(row.version, Change(row.version, row.record_id, {}))
                if row.algorithm is not None:
                    change.codes[row.algorithm] = row.code  # type: ignore[index]  # ours until it is returned
        return list(changes.values())

    def find(self, algorithm: Algorithm, codes: Sequence[bytes]) -> dict[bytes, list[int]]:
        """Return the record ids that carry each of these exact codes; codes nobody carries are left out."""
        found: dict[bytes, list[int]] = {}
        with self._reading() as connection:
            for start in range(0, len(codes), _LOOKUP_CHUNK):
                chunk = codes[start : start + _LOOKUP_CHUNK]
                wanted = sa.select(_hashes.c.code, _hashes.c.record_id).where(_hashes.c.algorithm == algorithm, _hashes.c.code.in_(chunk))
                for code, record_id in connection.execute(wanted):
                    found.setdefault(code, []).append(record_id)
        return found

    def records(self, ids: Sequence[int]) -> dict[int, Record]:
        """Return the records with these ids; ids no longer known are left out."""
        found: dict[int, Record] = {}
        with self._reading() as connection:
            for start in range(0, len(ids), _LOOKUP_CHUNK):
                chunk = ids[start : start + _LOOKUP_CHUNK]
                codes: dict[int, dict[Algorithm, bytes]] = {}
                for row in connection.execute(sa.select(_hashes).where(_hashes.c.record_id.in_(chunk))):
                    codes.setdefault(row.record_id, {})[row.algorithm] = row.code
                for row in connection.execute(sa.select(_records).where(_records.c.id.in_(chunk))):
                    found[row.id] = _to_record(row, codes.get(row.id, {}))
        return found

    def _upsert_one(self, connection: sa.Connection, record: Record, now_ms: int, report: UpsertReport) -> None:
        known = connection.execute(sa.select(_records).where(_records.c.identity == record.identity)).first()
        if known is None:
            values = _to_row(record) | {"created_ms": now_ms, "changed_ms": now_ms}
            key = connection.execute(sa.insert(_records).values(values)).inserted_primary_key
            if key is None:
                raise StoreError(f"{self._path}: the database gave no row number")
            record_id, codes = key[0], record.hashes
            report.new += 1
        else:
            record_id = known.id
            present = {row.algorithm: row.code for row in connection.execute(sa.select(_hashes).where(_hashes.c.record_id == record_id))}
            merged = replace(record, reference=known.reference, hashes=present | dict(record.hashes))
            if merged == _to_record(known, present):
                report.unchanged += 1
                return
            values = _to_row(merged) | {"identity": known.identity, "changed_ms": now_ms}
            connection.execute(sa.update(_records).where(_records.c.id == record_id).values(values))
            connection.execute(sa.delete(_hashes).where(_hashes.c.record_id == record_id))
            codes = merged.hashes
            report.updated += 1
        rows = [{"record_id": record_id, "algorithm": algorithm, "code": code} for algorithm, code in codes.items()]
        connection.execute(sa.insert(_hashes), rows)
        connection.execute(sa.insert(_changes).values(record_id=record_id, changed_ms=now_ms))

    def _reading(self) -> _Reading:
        return _Reading(self._engine, self._path)


class _Reading:
    """A connection for reading whose failures are StoreErrors."""

    def __init__(self, engine: sa.Engine, path: Path) -> None:
        self._engine = engine
        self._path = path

    def __enter__(self) -> sa.Connection:
        try:
            self._connection = self._engine.connect()
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"{self._path}: {_cause(error)}") from None
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._connection.close()
        if isinstance(error, sa.exc.SQLAlchemyError):
            raise StoreError(f"{self._path}: {_cause(error)}") from None


def _prepare_connection(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the database driver gives
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


_SHARED = tuple(field.name for field in fields(Record) if field.name != "hashes")


def _to_row(record: Record) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in _SHARED}
    return row | {"tags": list(record.tags), "identity": record.identity}


def _to_record(row: sa.Row[Any], codes: Mapping[Algorithm, bytes]) -> Record:
    values = {name: getattr(row, name) for name in _SHARED}
    return Record(hashes=codes, **(values | {"tags": tuple(row.tags)}))


def _cause(error: Exception) -> str:
    """Return the database's own words without the statement, whose parameters may hold hashes."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]
