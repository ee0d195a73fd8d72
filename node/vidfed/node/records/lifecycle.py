"""The life of a record after it was taken in: listed, edited, retracted, erased, reviewed.

Retraction keeps the row as a tombstone that lookups do not find. Erasure empties the row: its reference and times are all that stays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.formats.values import text
from vidfed.index import Algorithm, Hash
from vidfed.node.errors import StoreError
from vidfed.node.records import schema
from vidfed.node.records.record import to_column
from vidfed.node.records.store import to_record
from vidfed.node.records.upsert.columns import empty_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vidfed.node.records.record import Record
    from vidfed.node.records.store import RecordStore

STATES = ("live", "retracted", "erased", "all")
_table = schema.records
_PAGE = 2_000
_STATE = {
    "live": sa.and_(_table.c.retracted_ms.is_(None), _table.c.erased_ms.is_(None)),
    "retracted": sa.and_(_table.c.retracted_ms.is_not(None), _table.c.erased_ms.is_(None)),
    "erased": _table.c.erased_ms.is_not(None),
    "all": sa.true(),
}
_EQUAL = ("series", "case_reference", "category", "category_scale", "category_region", "victim_identified", "handling_code", "import_id")


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as the store keeps it. Times in ms since the epoch; None where it did not happen.

    Attributes:
        record: what is known of the item; of an erased one nothing.
        origin: the file it came from, empty where it was not a file; with the tool that wrote it and the file's SHA-256.
    """

    number: int
    record: Record
    created_ms: int
    changed_ms: int
    retracted_ms: int | None
    retraction_reason: str
    erased_ms: int | None
    origin: str

    @property
    def state(self) -> str:
        """One of STATES but `all`."""
        return "erased" if self.erased_ms else "retracted" if self.retracted_ms else "live"


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which records: all that fulfil everything given.

    Attributes:
        state: one of STATES.
        equal: fields and their values; of those in `_EQUAL`.
        tag: one of the record's tags.
        hash: a code the record carries exactly.
        due_ms: review date at or before this.
    """

    state: str = "live"
    equal: Mapping[str, object] = field(default_factory=dict)
    tag: str = ""
    hash: Hash | None = None
    due_ms: int | None = None

    def condition(self) -> sa.ColumnElement[bool]:
        """Return it as SQL, but for the tag, which is compared in Python."""
        parts = [_STATE[self.state], *(_table.c[name] == to_column(value) for name, value in self.equal.items() if name in _EQUAL)]
        if self.hash is not None:
            parts.append(_table.c[self.hash.algorithm.value] == self.hash.code)
        if self.due_ms is not None:
            parts.append(_table.c.review_ms <= self.due_ms)
        return sa.and_(*parts)


def stored_records(store: RecordStore, wanted: RecordQuery, *, after: int = 0) -> Iterator[StoredRecord]:
    """Yield the wanted records with numbers beyond `after`, in that order, a page at a time: no long transaction, no large memory.

    Raises:
        StoreError: the store cannot be read.
    """
    imports = schema.imports
    columns = (imports.c.file_name, imports.c.tool, imports.c.file_sha256)
    source = _table.outerjoin(imports, imports.c.id == _table.c.import_id)
    while True:
        page = (
            sa.select(_table, *(column.label(f"import_{column.name}") for column in columns))
            .select_from(source)
            .where(_table.c.id > after, wanted.condition())
            .order_by(_table.c.id)
            .limit(_PAGE)
        )
        with store.database.reading() as connection:
            rows = connection.execute(page).all()
        for row in rows:
            kept = _stored(row)
            if not wanted.tag or wanted.tag in kept.record.tags:
                yield kept
        if len(rows) < _PAGE:
            return
        after = rows[-1].id


def stored_record(store: RecordStore, reference: str) -> StoredRecord:
    """Return one record by its public reference.

    Raises:
        StoreError: there is none.
    """
    with store.database.reading() as connection:
        number = connection.execute(sa.select(_table.c.id).where(_table.c.reference == reference)).scalar()
    if number is None:
        raise StoreError(f"no record has the reference {reference!r:.60}")
    return next(stored_records(store, RecordQuery(state="all"), after=number - 1))


@dataclass(frozen=True, slots=True)
class WordsInUse:
    """What live records say: series and tags case-folded and stripped, scales as they are."""

    series: frozenset[str]
    tags: frozenset[str]
    scales: frozenset[str]


def words_in_use(store: RecordStore, *, tags: bool) -> WordsInUse:
    """Return the series, category scales and, only if asked for because it takes longest, the tags that live records have.

    Raises:
        StoreError: the store cannot be read.
    """
    live = _STATE["live"]
    with store.database.reading() as connection:
        series = connection.execute(sa.select(_table.c.series).where(live).distinct()).scalars().all()
        lists = connection.execute(sa.select(_table.c.tags).where(live).distinct()).scalars().all() if tags else ()
        scales = connection.execute(sa.select(_table.c.category_scale).where(live).distinct()).scalars().all()
    return WordsInUse(
        frozenset(each.strip().casefold() for each in series),
        frozenset(tag.strip().casefold() for each in lists for tag in json.loads(each)),
        frozenset(scales),
    )


def edit(store: RecordStore, reference: str, values: Mapping[str, object], *, now_ms: int) -> StoredRecord:
    """Set fields of a record, also to empty. Imports leave them from then on, unless told to overwrite.

    Args:
        store: the store.
        reference: the record's.
        values: by field of `Record`, each of its type; neither hashes nor reference.
        now_ms: time of the change.

    Raises:
        StoreError: there is no such record, or it was erased.
    """
    columns = {name: to_column(value) for name, value in values.items()}
    return _change(store, reference, columns, now_ms=now_ms, edited=values)


def retract(store: RecordStore, reference: str, reason: str, *, now_ms: int) -> StoredRecord:
    """Take a record back: lookups no longer find it, imports do not bring it back, its tombstone stays.

    Raises:
        StoreError: there is no such record, or it was erased.
    """
    return _change(store, reference, {"retracted_ms": now_ms, "retraction_reason": text(reason)}, now_ms=now_ms)


def reinstate(store: RecordStore, reference: str, *, now_ms: int) -> StoredRecord:
    """Undo a retraction.

    Raises:
        StoreError: there is no such record, or it was erased.
    """
    return _change(store, reference, {"retracted_ms": None, "retraction_reason": ""}, now_ms=now_ms)


def erase(store: RecordStore, reference: str, *, now_ms: int) -> StoredRecord:
    """Remove a record's hashes and all that is known of it; only reference and times stay. The index follows at once.

    SQLite overwrites the freed space (`secure_delete`), and its write-ahead log is emptied; copies and backups are the operator's to erase.

    Raises:
        StoreError: there is no such record.
    """
    columns: dict[str, object] = {algorithm.value: None for algorithm in Algorithm}
    columns |= empty_columns() | {"perceptual_key": None, "import_id": None, "erased_ms": now_ms}
    kept = _change(store, reference, columns, now_ms=now_ms)
    if store.database.is_sqlite:
        with store.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return kept


def _change(store: RecordStore, reference: str, columns: Mapping[str, object], *, now_ms: int, edited: Iterable[str] = ()) -> StoredRecord:
    with store.database.writing() as connection:
        found = connection.execute(sa.select(_table.c.erased_ms, _table.c.edited).where(_table.c.reference == reference)).first()
        if found is None:
            raise StoreError(f"no record has the reference {reference!r:.60}")
        if found.erased_ms is not None:
            raise StoreError(f"record {reference} was erased; nothing of it is left to change")
        last = connection.execute(sa.select(sa.func.max(_table.c.version))).scalar_one()
        values = {"version": last + 1, "changed_ms": now_ms, "edited": ",".join(sorted({*filter(None, found.edited.split(",")), *edited}))}
        values |= columns
        connection.execute(sa.update(_table).where(_table.c.reference == reference).values(values))
    return stored_record(store, reference)


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredRecord:
    parts = [row.import_file_name, row.import_tool, f"SHA-256 {row.import_file_sha256.hex()}" if row.import_file_sha256 else ""]
    return StoredRecord(
        row.id,
        to_record(row),
        row.created_ms,
        row.changed_ms,
        row.retracted_ms,
        row.retraction_reason,
        row.erased_ms,
        ", ".join(part for part in parts if part),
    )
