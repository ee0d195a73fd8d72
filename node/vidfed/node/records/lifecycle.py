"""The life of a record after it was taken in: listed, edited, retracted, erased, reviewed.

Retraction keeps the row as a tombstone that lookups do not find. Erasure empties the row: its reference and times are all that stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.formats.values import text
from vidfed.index import Algorithm, Hash
from vidfed.node.errors import StoreError
from vidfed.node.records import schema
from vidfed.node.records.free_space import overwrite_free_space
from vidfed.node.records.further import further_codes, labels_with, of_record
from vidfed.node.records.record import to_column
from vidfed.node.records.store import RecordStore, Removal, to_record
from vidfed.node.records.upsert.columns import empty_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from vidfed.index import Code
    from vidfed.node.records.record import Record

BEFORE_RESTORE = ".before-restore"
"""What the name of a store ends with that a restored one has replaced."""
_table = schema.records
_PAGE = 2_000
_STATE = {
    "live": sa.and_(_table.c.retracted_ms.is_(None), _table.c.erased_ms.is_(None)),
    "retracted": sa.and_(_table.c.retracted_ms.is_not(None), _table.c.erased_ms.is_(None)),
    "erased": _table.c.erased_ms.is_not(None),
    "all": sa.true(),
}
_EQUAL = ("series", "case_reference", "category", "category_scale", "category_region", "victim_identified", "handling_code", "import_id")
LOCAL_FIELDS = frozenset({"sharing", "review_ms"})
"""What is set here also for records that a source is in charge of."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as the store keeps it. Times in ms since the epoch; None where it did not happen.

    Attributes:
        record: what is known of the item; of an erased one nothing.
        origin: the source or file it came from, empty where it was neither; with the tool that wrote it and the file's SHA-256.
        source: name of the source that is in charge of it; empty: none is.
        file_name: of the file that it was taken in from; empty where it was none.
    """

    number: int
    record: Record
    created_ms: int
    changed_ms: int
    retracted_ms: int | None
    retraction_reason: str
    erased_ms: int | None
    origin: str
    source: str = ""
    file_name: str = ""

    @property
    def state(self) -> str:
        """One of `live`, `retracted`, `erased`."""
        return "erased" if self.erased_ms else "retracted" if self.retracted_ms else "live"


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which records: all that fulfil everything given.

    Attributes:
        state: `live`, `retracted`, `erased` or `all`.
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
            own = _table.c[self.hash.algorithm.value] == self.hash.code
            parts.append(own if self.hash.algorithm.is_digest else sa.or_(own, _table.c.id.in_(labels_with(self.hash))))
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
            further = further_codes(connection, [row.id for row in rows if row.places])
        for row in rows:
            kept = _stored(row, further.get(row.id, ()))
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


def records_named(store: RecordStore, references: Collection[str]) -> list[tuple[int, StoredRecord]]:
    """Return records by their public references, each with the version of its last change; without their further codes.

    Raises:
        StoreError: the store cannot be read.
    """
    imports = schema.imports
    columns = (imports.c.file_name, imports.c.tool, imports.c.file_sha256)
    source = _table.outerjoin(imports, imports.c.id == _table.c.import_id)
    query = sa.select(_table, *(column.label(f"import_{column.name}") for column in columns)).select_from(source)
    found: list[tuple[int, StoredRecord]] = []
    named = sorted(references)
    with store.database.reading() as connection:
        for start in range(0, len(named), _PAGE):
            rows = connection.execute(query.where(_table.c.reference.in_(named[start : start + _PAGE])))
            found += [(int(row.version), _stored(row, ())) for row in rows]
    return found


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

    Of a record that a source is in charge of, only LOCAL_FIELDS can be set; the source leaves them from then on.

    Args:
        store: the store.
        reference: the record's.
        values: by field of `Record`, each of its type; neither hashes nor reference.
        now_ms: time of the change.

    Raises:
        StoreError: there is no such record, it was erased, or a source is in charge of what would be changed.
    """
    columns = {name: to_column(value) for name, value in values.items()}
    return _change(store, reference, columns, now_ms=now_ms, edited=values, locally=LOCAL_FIELDS.issuperset(values))


def retract(store: RecordStore, reference: str, reason: str, *, now_ms: int) -> StoredRecord:
    """Take a record back: lookups no longer find it, imports do not bring it back, its tombstone stays.

    Raises:
        StoreError: there is no such record, it was erased, or a source is in charge of it.
    """
    return _change(store, reference, {"retracted_ms": now_ms, "retraction_reason": text(reason)}, now_ms=now_ms)


def reinstate(store: RecordStore, reference: str, *, now_ms: int) -> StoredRecord:
    """Undo a retraction.

    Raises:
        StoreError: there is no such record, it was erased, or a source is in charge of it.
    """
    return _change(store, reference, {"retracted_ms": None, "retraction_reason": ""}, now_ms=now_ms)


def erase(store: RecordStore, reference: str, *, now_ms: int) -> StoredRecord:
    """Remove a record's hashes and all that is known of it from its store; only reference and times stay. The index follows at once.

    `vidfed.node.operations.erasing` takes them out of the other files of the member's folder too. A source that is in charge of it does not
    bring it back: what is left of its key there is a digest.

    Raises:
        JournalBusyError: as `finish_erasures`; it was erased.
        StoreError: there is no such record, or the store cannot be written.
    """
    kept = _change(store, reference, _emptied(now_ms), now_ms=now_ms, locally=True, erases=True)
    finish_erasures(store, now_ms=now_ms)
    return kept


def finish_erasures(store: RecordStore, *, now_ms: int) -> None:
    """Take what was erased out of the database's files as well; also what an interrupted erasure left there.

    SQLite has overwritten the rows (`secure_delete`); what is free in its pages is too, and its write-ahead log is emptied. The store that
    a restore set aside is treated the same. PostgreSQL is told to vacuum; copies and backups elsewhere are the operator's to erase.

    Raises:
        JournalBusyError: a program that keeps reading or writing keeps it in the write-ahead log.
        StoreError: the store, or the one that was set aside, cannot be written.
    """
    path = store.database.path
    if path is None:
        tables = ", ".join(table.name for table in (schema.records, schema.codes, schema.codes_aside))
        with store.database.reading() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(f"VACUUM {tables}")
        return
    overwrite_free_space(path)
    aside = path.with_name(f"{path.name}{BEFORE_RESTORE}")
    if aside.exists():
        with contextlib.closing(RecordStore(aside, make=False)) as older:
            take_out_again(older, [each for each in store.removed_after(0) if each.erased_ms is not None], now_ms=now_ms)
        overwrite_free_space(aside)


def take_out_again(store: RecordStore, removals: Iterable[Removal], *, now_ms: int) -> int:
    """Erase and retract what was erased and retracted before from a store that still has it, and return how many records that were.

    Raises:
        StoreError: the store cannot be written.
    """
    count = 0
    with store.database.writing() as connection:
        version = connection.execute(sa.select(sa.func.max(_table.c.version))).scalar() or 0
        for removal in removals:
            erases = removal.erased_ms is not None
            condition = _table.c.erased_ms.is_(None) if erases else _STATE["live"]
            wanted = sa.select(_table.c.id, _table.c.source, _table.c.source_id).where(_table.c.reference == removal.reference, condition)
            found = connection.execute(wanted).first()
            if found is None:
                continue
            values: dict[str, object] = {"retracted_ms": removal.retracted_ms, "retraction_reason": removal.retraction_reason}
            if removal.erased_ms is not None:
                key = erased_key(found.source, found.source_id) if found.source else None
                values = _emptied(removal.erased_ms) | {"fingerprint": key}
                _delete_codes(connection, found.id)
            count, version = count + 1, version + 1
            values |= {"version": version, "changed_ms": now_ms}
            connection.execute(sa.update(_table).where(_table.c.reference == removal.reference).values(values))
    return count


def _delete_codes(connection: sa.Connection, record: int) -> None:
    """Delete what an erased record has in other tables than its own."""
    connection.execute(sa.delete(schema.codes).where(of_record(record)))
    connection.execute(sa.delete(schema.codes_aside).where(schema.codes_aside.c.record == record))


def _emptied(erased_ms: int) -> dict[str, object]:
    """Return what an erased record's columns hold."""
    columns: dict[str, object] = {algorithm.value: None for algorithm in Algorithm}
    described = empty_columns()
    del described["places"]  # by which the indexes know where its further codes are
    return columns | described | {"perceptual_key": None, "import_id": None, "erased_ms": erased_ms}


def _change(
    store: RecordStore,
    reference: str,
    columns: Mapping[str, object],
    *,
    now_ms: int,
    edited: Iterable[str] = (),
    locally: bool = False,
    erases: bool = False,
) -> StoredRecord:
    """Change a record's columns; `locally` says that this is the owner's to decide even where a source is in charge."""
    with store.database.writing() as connection:
        wanted = sa.select(_table.c.id, _table.c.erased_ms, _table.c.edited, _table.c.source, _table.c.source_id)
        found = connection.execute(wanted.where(_table.c.reference == reference)).first()
        if found is None:
            raise StoreError(f"no record has the reference {reference!r:.60}")
        if found.erased_ms is not None:
            raise StoreError(f"record {reference} was erased; nothing of it is left to change")
        if found.source and not locally:
            raise StoreError(
                f"record {reference} is read from the source {found.source}, which is in charge of it: change it there, and it changes here"
                " with the next run. Here can be set who may see it (vidfed node records edit --sharing nobody) and its review date"
            )
        last = connection.execute(sa.select(sa.func.max(_table.c.version))).scalar_one()
        if erases:
            columns = {**columns, "fingerprint": erased_key(found.source, found.source_id) if found.source else None}
        values = {"version": last + 1, "changed_ms": now_ms, "edited": ",".join(sorted({*filter(None, found.edited.split(",")), *edited}))}
        values |= columns
        if erases:
            _delete_codes(connection, found.id)
        connection.execute(sa.update(_table).where(_table.c.reference == reference).values(values))
    return stored_record(store, reference)


def erased_key(source: str, key: str) -> bytes:
    """Return what stays of an erased record's key at its source, 16 bytes: enough to know it again, and nothing to read."""
    return hashlib.blake2b(f"{source}/{key}".encode(), digest_size=16).digest()


def _stored(row: sa.Row[tuple[object, ...]], further: Sequence[Code]) -> StoredRecord:
    parts = [row.import_file_name, row.import_tool, f"SHA-256 {row.import_file_sha256.hex()}" if row.import_file_sha256 else ""]
    return StoredRecord(
        row.id,
        to_record(row, further),
        row.created_ms,
        row.changed_ms,
        row.retracted_ms,
        row.retraction_reason,
        row.erased_ms,
        ", ".join(part for part in parts if part),
        row.source,
        row.import_file_name or "",
    )
