"""Writing what a source says into the record store. The source's word replaces what was known, but for what is decided here.

All of one run is written by one transaction, with the source's new state: whoever reads sees the source as of one moment.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from vidfed.formats.entries import FileEntry
from vidfed.index import Algorithm, Code
from vidfed.node.records import schema
from vidfed.node.records.further import FurtherCodes
from vidfed.node.records.lifecycle import LOCAL_FIELDS, erased_key
from vidfed.node.records.upsert.columns import AT, COLUMNS, empty_columns, perceptual_key_of
from vidfed.node.records.upsert.digest_filter import DigestFilter
from vidfed.node.records.upsert.repeated import RepeatedCodes, Repeats
from vidfed.node.records.upsert.transaction import MAX_REPEATS, random_references
from vidfed.node.sources.comparison.plan import Known
from vidfed.node.sources.rows.statement import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from vidfed.node.records.database import RecordDatabase
    from vidfed.node.records.source_states import SourceState
    from vidfed.node.sources.rows.statement import Statement

DELETED_REASON = "taken back by its source"
VANISHED_REASON = "no longer at its source"
UNUSABLE_REASON = "its source has nothing usable of it any more"
_REASONS = {Kind.DELETED: DELETED_REASON, Kind.UNUSABLE: UNUSABLE_REASON}
_KEPT = ("id", "reference", "created_ms", "import_id", "source", "source_id", "edited", "places")
_PAGE = 20_000
_ALGORITHMS = {algorithm.value: algorithm for algorithm in Algorithm}
_IDS_AT_ONCE = 5_000


class SourceRecords:
    """What is known of one source's records; for reading, a short while at a time: reading a source may take hours."""

    def __init__(self, database: RecordDatabase, source: str, connection: sa.Connection | None = None) -> None:
        """Begin.

        Args:
            database: the store's.
            source: its name.
            connection: that reads; None: a new one each time.
        """
        self._database = database
        self._source = source
        self._open: Callable[[], contextlib.AbstractContextManager[sa.Connection]] = (
            (lambda: contextlib.nullcontext(connection)) if connection is not None else database.reading
        )
        table = schema.records
        own = sa.select(table.c.id).where(table.c.source == source, table.c.source_id != "").limit(1)
        erased = sa.select(table.c.fingerprint).where(table.c.erased_ms.is_not(None), table.c.source == source)
        with self._open() as opened:
            self.last_id = int(opened.execute(sa.select(sa.func.max(table.c.id))).scalar() or 0)
            self.exists = opened.execute(own).first() is not None
            self._erased = {bytes(each) for each in opened.execute(erased).scalars() if each}

    def known(self, keys: Sequence[str]) -> dict[str, Known]:
        """Return what is known of these keys; keys never heard of are left out."""
        found: dict[str, Known] = {}
        if self.exists and keys:
            condition, parameters = _own(self._database, self._source, keys)
            columns = "source_id, id, fingerprint, retracted_ms IS NULL AND erased_ms IS NULL"
            with self._open() as opened:
                rows = opened.exec_driver_sql(f"SELECT {columns} FROM records WHERE {condition}", parameters).all()  # noqa: S608 - our own names
            found = {key: Known(number, bytes(fingerprint or b""), bool(live)) for key, number, fingerprint, live in rows}
        if self._erased:
            for key in keys:
                if key not in found and erased_key(self._source, key) in self._erased:
                    found[key] = Known(0, b"", is_live=False, is_erased=True)
        return found

    def live_ids(self) -> Iterator[int]:
        """Yield the numbers of the live records, a page at a time."""
        table, last = schema.records, ""
        live = sa.and_(table.c.source == self._source, table.c.source_id != "", table.c.retracted_ms.is_(None), table.c.erased_ms.is_(None))
        while self.exists:
            page = sa.select(table.c.source_id, table.c.id).where(live, table.c.source_id > last).order_by(table.c.source_id).limit(_PAGE)
            with self._open() as opened:
                rows = opened.execute(page).all()
            for _, number in rows:
                yield number
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]


class SourceWriter:
    """Writes one run. Give it statements and numbers of vanished records, then `finish`; the caller's transaction makes it a whole."""

    def __init__(
        self,
        database: RecordDatabase,
        connection: sa.Connection,
        state: SourceState,
        *,
        now_ms: int,
        defaults: Mapping[str, object] | None = None,
        max_repeats: int = MAX_REPEATS,
        journal: bool = False,
    ) -> None:
        """Begin.

        Args:
            database: the store's.
            connection: from `database.writing()`.
            state: the source's, registered.
            now_ms: time of the change.
            defaults: what is true of every record where the source does not say otherwise, in the form of columns.
            max_repeats: unrelated new items that may share one perceptual hash, see `UpsertTransaction`.
            journal: of what the source says about one key, the last stands; else the first.
        """
        self._database = database
        self._connection = connection
        self._state = state
        self._now_ms = now_ms
        table = schema.records
        last_id, last_version = connection.execute(sa.select(sa.func.max(table.c.id), sa.func.max(table.c.version))).one()
        self._next_id = itertools.count((last_id or 0) + 1)
        self._next_version = itertools.count((last_version or 0) + 1)
        self._references = random_references()
        self._first_id = (last_id or 0) + 1
        self._first_version = (last_version or 0) + 1
        self._journal = journal
        # Where there was nothing before, only what this run wrote can be there; it is remembered, and asked about only when in doubt.
        had_records = SourceRecords(database, state.name, connection).exists
        self._written = None if had_records else DigestFilter()
        self._repeated = RepeatedCodes(database, connection, max_repeats)
        self._further = FurtherCodes(database, connection)
        self._empty = empty_columns() | dict(defaults or {})
        self._common = {"source": state.name, "import_id": state.import_id, "created_ms": now_ms, "changed_ms": now_ms}
        mark = database.marks(1)
        self._update = f"UPDATE records SET {', '.join(f'{name} = {mark}' for name in COLUMNS)} WHERE id = {mark}"  # noqa: S608 - our own column names
        self.notes: list[str] = []
        self.repeated_new = 0  # statements about a key whose record this run had made already
        self.repeated_known = 0  # the same, of a record that was there before

    def write(self, statements: Iterable[Statement]) -> None:
        """Write one batch."""
        listed = list(statements)
        batch = {statement.key: statement for statement in (listed if self._journal else reversed(listed))}
        extra = collections.Counter(statement.key for statement in listed) if len(batch) < len(listed) else {}
        entries = {key: _entry(statement) for key, statement in batch.items() if statement.kind is Kind.LIVE}
        self._repeated.leave_out(entries.values())
        asked = list(batch) if self._written is None else [key for key in batch if self._written.add([key.encode()])]
        rows = self._rows(asked) if asked else {}
        new: list[Statement] = []
        changed: list[tuple[object, ...]] = []
        fresh: list[FileEntry] = []
        lost: dict[str, list[int]] = {}
        for key, statement in batch.items() if self._journal else reversed(batch.items()):
            row = rows.get(key)
            again = row is not None and row[AT["version"]] >= self._first_version
            repeated = extra.get(key, 1) - 1 + again
            if row is None or row[AT["id"]] >= self._first_id:
                self.repeated_new += repeated
            else:
                self.repeated_known += repeated
            if again and not self._journal:
                continue
            if statement.kind is not Kind.LIVE or not statement.codes:  # of some, all was a tool's placeholder
                if row is not None and row[AT["retracted_ms"]] is None:
                    lost.setdefault(_REASONS.get(statement.kind, UNUSABLE_REASON), []).append(row[AT["id"]])
            elif row is None:
                new.append(statement)
                fresh.append(entries[key])
            else:
                self._repeated.written(entries[key], row[AT["id"]])
                columns = self._replaced(statement, row, entries[key])
                changed.append((*columns, columns[AT["id"]]))
        self._insert(new, entries)
        if changed:
            self._connection.exec_driver_sql(self._update, changed)
        for reason, numbers in lost.items():
            self._retract(numbers, reason)
        self._further.write()
        self._repeated.count(fresh)

    def retract(self, numbers: Sequence[int]) -> None:
        """Retract records that are no longer at the source; those that are retracted or erased by now stay as they are."""
        table = schema.records
        for start in range(0, len(numbers), _IDS_AT_ONCE):
            condition, parameters = self._database.within("id", numbers[start : start + _IDS_AT_ONCE])
            live = f"{condition} AND retracted_ms IS NULL AND erased_ms IS NULL AND source = {self._database.marks(1)}"
            wanted = f"SELECT id FROM {table.name} WHERE {live}"  # noqa: S608 - our own names
            found = self._connection.exec_driver_sql(wanted, (*parameters, self._state.name)).scalars().all()
            self._retract(list(found), VANISHED_REASON)

    def finish(self) -> Repeats:
        """Do what can only be done at the end; return what came of perceptual hashes that are on many unrelated items."""
        return self._repeated.judge(
            self._state.import_id, self._first_id, self._next_version, self._now_ms, lambda _number, text: self.notes.append(text)
        )

    def _retract(self, numbers: Sequence[int], reason: str) -> None:
        mark = self._database.marks(1)
        names = ("version", "changed_ms", "retracted_ms", "retraction_reason")
        statement = f"UPDATE records SET {', '.join(f'{name} = {mark}' for name in names)} WHERE id = {mark}"  # noqa: S608 - our own names
        values = [(next(self._next_version), self._now_ms, self._now_ms, reason, number) for number in numbers]
        if values:
            self._connection.exec_driver_sql(statement, values)

    def _rows(self, keys: Sequence[str]) -> dict[str, list[Any]]:
        condition, parameters = _own(self._database, self._state.name, keys)
        wanted = f"SELECT {', '.join(COLUMNS)} FROM records WHERE {condition} AND erased_ms IS NULL"  # noqa: S608 - our own names
        rows = self._connection.exec_driver_sql(wanted, parameters)
        return {row[AT["source_id"]]: list(row) for row in rows}

    def _insert(self, statements: Sequence[Statement], entries: Mapping[str, FileEntry]) -> None:
        """Write new records. Those with the same fields share a statement without the columns that stay empty: binding a NULL is dear."""
        groups: dict[tuple[str, ...], tuple[dict[str, object], list[tuple[object, ...]]]] = {}
        for statement in statements:
            entry, number = entries[statement.key], next(self._next_id)
            codes, values = statement.codes, statement.values
            if entry.further and (places := self._further.give(number, entry)):
                values = values | {"places": places}
            shape = (*codes, *values)
            group = groups.get(shape)
            if group is None:
                common = {name: value for name, value in self._empty.items() if value is not None and name not in values} | self._common
                group = groups[shape] = (common, [])
            self._repeated.written(entry, number)
            own = (number, next(self._next_version), next(self._references), statement.key, bytearray(statement.fingerprint))
            # To SQLite's driver a bytearray is at hand, while bytes are first offered to its adapters.
            group[1].append((*map(bytearray, codes.values()), *values.values(), *own, perceptual_key_of(codes), *group[0].values()))
        for shape, (common, rows) in groups.items():
            names = (*shape, "id", "version", "reference", "source_id", "fingerprint", "perceptual_key", *common)
            marks = self._database.marks(len(names))
            self._connection.exec_driver_sql(f"INSERT INTO records ({', '.join(names)}) VALUES ({marks})", rows)  # noqa: S608 - our own column names

    def _replaced(self, statement: Statement, row: Sequence[Any], entry: FileEntry) -> list[Any]:
        """Return a record's columns as its source describes it now, with what was decided here."""
        number = row[AT["id"]]
        codes = {name: code for name, code in statement.codes.items() if not self._repeated.is_aside(number, name, code)}
        values = self._empty | statement.values | codes
        values |= {name: row[AT[name]] for name in _KEPT}
        edited = set(str(row[AT["edited"]]).split(","))
        for name in LOCAL_FIELDS & edited:
            values[name] = row[AT[name]]
        if "review_ms" not in statement.values:  # the date set when it was taken in counts from then
            values["review_ms"] = row[AT["review_ms"]]
        values |= {
            "version": next(self._next_version),
            "changed_ms": self._now_ms,
            "perceptual_key": perceptual_key_of(statement.codes),
            "fingerprint": statement.fingerprint,
            "retraction_reason": "",
            "places": self._further.replace(number, row[AT["places"]], entry),
        }
        return [values.get(name) for name in COLUMNS]


def _entry(statement: Statement) -> FileEntry:
    further = [Code(_ALGORITHMS[name], code, kind) for name, code, kind in statement.further]
    return FileEntry(0, statement.codes, {}, further=further)


def _own(database: RecordDatabase, source: str, keys: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    condition, parameters = database.within("source_id", keys)
    # The empty keys are named because the index leaves them out.
    return f"{condition} AND source_id != '' AND source = {database.marks(1)}", (*parameters, source)
