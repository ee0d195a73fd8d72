"""Taking many records into the store: batches of entries are matched with what is known, merged, and written with few statements.

Rules:
 1. An entry speaks of a known record if the strongest digest both carry agrees (SHA-256, then SHA-1, then MD5: MD5 can be forged).
    An entry without any digest speaks of the record without digests that has the same strongest perceptual hash.
 2. What an entry does not say stays as it was: absent is unknown, not "no".
 3. Entries of one import about the same item are one record; what the first said stands, later ones add.
 4. A retracted record is not brought back by an import; the owner does that by hand.
 5. A perceptual hash found on many unrelated items of one import is a tool's filler: it is removed from all of them and remembered.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from vidfed.formats.entries import Entry
from vidfed.index import Algorithm
from vidfed.node import schema
from vidfed.node.records import Record
from vidfed.node.store import to_column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vidfed.node.database import Database

BATCH = 5_000  # entries matched and written together: a few MB
MAX_REPEATS = 100  # unrelated items of one import that may share one perceptual hash; a series of frames stays far below
_DIGESTS = ("sha256", "sha1", "md5")  # strongest first
_PERCEPTUAL = tuple(algorithm.value for algorithm in Algorithm if algorithm.is_perceptual)
_CODES = tuple(algorithm.value for algorithm in Algorithm)
_BY_SOURCE = "taken back by its source"
_COUNTER_BITS = 22  # 4 million counters of one byte: what spotting fillers costs in memory, whatever the size of the import

_COLUMNS = tuple(column.name for column in schema.records.c)
_AT = {name: position for position, name in enumerate(_COLUMNS)}
_ID, _VERSION, _REFERENCE = _AT["id"], _AT["version"], _AT["reference"]
_IMPORT, _CREATED, _CHANGED = _AT["import_id"], _AT["created_ms"], _AT["changed_ms"]
_LIKENESS, _RETRACTED = _AT["likeness"], _AT["retracted_ms"]
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1
_DIGEST_AT = tuple(_AT[name] for name in _DIGESTS)


@dataclass(slots=True)
class UpsertReport:
    """What entries did to the store.

    Attributes:
        new, updated, unchanged: records.
        repeated: entries about an item that an earlier entry of the same import was about.
        disagreeing: those of them that said something else; the first entry's word was kept.
        retracted: records taken back by the source.
        kept_retracted: entries about records that the owner has retracted; not brought back.
        refused_codes: perceptual hashes refused as fillers.
    """

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    repeated: int = 0
    disagreeing: int = 0
    retracted: int = 0
    kept_retracted: int = 0
    refused_codes: int = 0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where records come from: kept with each of them."""

    file_name: str
    format: str
    tool: str = ""


def _no_note(_number: int, _text: str) -> None:
    """Take a note nobody asked for."""


class _Row:
    """A record in the making: its columns, and what has to be done about it."""

    __slots__ = ("columns", "is_new", "is_touched")

    def __init__(self, columns: list[Any], *, is_new: bool) -> None:
        self.columns = columns
        self.is_new = is_new
        self.is_touched = False


@dataclass(slots=True)
class _Batch:
    """What is known of a batch's items: rows by digest, by likeness and by the source's number."""

    by_digest: tuple[dict[bytes, list[_Row]], ...] = field(default_factory=lambda: ({}, {}, {}))
    by_likeness: dict[bytes, _Row] = field(default_factory=dict)
    by_source: dict[str, _Row] = field(default_factory=dict)

    def add(self, row: _Row) -> None:
        columns = row.columns
        for position, rows in zip(_DIGEST_AT, self.by_digest, strict=True):
            if (code := columns[position]) is not None:
                known = rows.get(code)
                if known is None:
                    rows[code] = [row]
                elif row not in known:
                    known.append(row)
        if columns[_LIKENESS] is not None:
            self.by_likeness[columns[_LIKENESS]] = row
        if source := columns[_AT["source_id"]]:
            self.by_source[source] = row

    def match(self, entry: Entry, likeness: bytes | None) -> _Row | None:
        if (source := entry.values.get("source_id")) is not None and (row := self.by_source.get(str(source))) is not None:
            return row
        if likeness is not None:
            return self.by_likeness.get(likeness)
        codes = entry.codes
        for name, rows in zip(_DIGESTS, self.by_digest, strict=True):
            for row in rows.get(codes[name], ()) if name in codes else ():
                if _strongest_common_agrees(row.columns, entry.codes):
                    return row
        return None


class Intake:
    """One transaction's taking in. Give it batches, then `finish`; the caller's transaction makes it all or nothing."""

    def __init__(
        self,
        database: Database,
        connection: sa.Connection,
        *,
        now_ms: int,
        origin: Origin | None = None,
        defaults: dict[str, object] | None = None,
        max_repeats: int = MAX_REPEATS,
        on_note: Callable[[int, str], None] = _no_note,
        source_rules: bool = False,
    ) -> None:
        """Begin.

        Args:
            database: the store's.
            connection: from `database.writing()`.
            now_ms: time of the change.
            origin: where the entries come from.
            defaults: what is true of every new record where its entry does not say otherwise; known records keep theirs.
            max_repeats: see rule 5.
            on_note: called with an entry's number and what the operator should know about it.
            source_rules: the file is a journal of its source: later entries correct earlier ones, and what it took back it may give again.
        """
        self.report = UpsertReport()
        if database.is_sqlite:  # overwriting what moves between pages would cost a third of the time; changes by hand do overwrite
            connection.exec_driver_sql("PRAGMA secure_delete=OFF")
        self._database = database
        self._connection = connection
        self._now_ms = now_ms
        self._on_note = on_note
        self._source_rules = source_rules
        self._max_repeats = min(max_repeats, 255)
        table = schema.records
        (last_id, last_version) = connection.execute(sa.select(sa.func.max(table.c.id), sa.func.max(table.c.version))).one()
        self._next_id = itertools.count((last_id or 0) + 1)
        self._next_version = itertools.count((last_version or 0) + 1)
        self._random: list[str] = []
        self._seen = bytearray((last_id or 0) // 8 + 1)  # one bit a record: which of them this import has spoken of
        self._import_id = self._begin_import(origin)
        self._empty_row = _empty_row({name: to_column(value) for name, value in (defaults or {}).items()})
        refused = connection.execute(sa.select(schema.refused_codes.c.algorithm, schema.refused_codes.c.code))
        self._refused = {(algorithm, code) for algorithm, code in refused}
        self._fillers: set[tuple[str, bytes]] = set()
        self._counters = {name: bytearray(1 << _COUNTER_BITS) for name in ("pdq", "photodna")} if origin else {}
        names, marks = ", ".join(_COLUMNS), database.marks(len(_COLUMNS))
        self._insert = f"INSERT INTO records ({names}) VALUES ({marks})"  # noqa: S608 - our own column names
        mark = database.marks(1)
        self._update = f"UPDATE records SET {', '.join(f'{name} = {mark}' for name in _COLUMNS)} WHERE id = {mark}"  # noqa: S608 - the same

    def take_all(self, entries: Iterable[Entry]) -> None:
        """Take entries in, a batch at a time."""
        remaining = iter(entries)
        while batch := list(itertools.islice(remaining, BATCH)):
            self.take(batch)

    def take(self, entries: Sequence[Entry]) -> None:
        """Take one batch in."""
        if self._refused:
            for entry in entries:
                self._drop_refused(entry)
        likenesses = [_likeness(entry.codes) for entry in entries]
        batch = self._known(entries, likenesses)
        touched: list[_Row] = []
        for entry, likeness in zip(entries, likenesses, strict=True):
            row = batch.match(entry, likeness)
            if entry.retracts:
                self._retract(entry, row, touched)
                continue
            if not entry.codes:
                continue
            if row is None:
                row = self._new_row(entry, likeness)
                touched.append(row)
                batch.add(row)
                if self._counters:
                    self._count(entry)
                continue
            self._merge(entry, row, touched)
            if row.is_touched:
                batch.add(row)
        self._write(touched)

    def finish(self, *, file_sha256: bytes | None = None, format_name: str = "", tool: str = "") -> UpsertReport:
        """Do what can only be done at the end, and return the report.

        Args:
            file_sha256: of the file, 32 bytes.
            format_name: as the file itself told it.
            tool: that wrote the file.
        """
        if self._fillers:
            self._remove_fillers()
        if file_sha256 is not None:
            imports = schema.imports
            self._connection.execute(
                sa.update(imports).where(imports.c.id == self._import_id).values(file_sha256=file_sha256, format=format_name, tool=tool)
            )
        self.report.refused_codes = len(self._fillers)
        return self.report

    def _begin_import(self, origin: Origin | None) -> int | None:
        if origin is None:
            return None
        imports = schema.imports
        last = self._connection.execute(sa.select(sa.func.max(imports.c.id))).scalar_one()
        values = {"file_name": origin.file_name, "format": origin.format, "tool": origin.tool, "imported_ms": self._now_ms}
        self._connection.execute(sa.insert(imports).values(id=(last or 0) + 1, **values))
        return int(last or 0) + 1

    def _known(self, entries: Sequence[Entry], likenesses: Sequence[bytes | None]) -> _Batch:
        """Fetch the rows that any of these entries may speak of."""
        wanted: dict[str, list[object]] = {}
        for name in _DIGESTS:
            if codes := [code for entry in entries if (code := entry.codes.get(name)) is not None]:
                wanted[name] = list(codes)
        if present := [likeness for likeness in likenesses if likeness is not None]:
            wanted["likeness"] = list(present)
        if sources := [source for entry in entries if (source := entry.values.get("source_id"))]:
            wanted["source_id"] = list(sources)
        ids: set[int] = set()
        for column, values in wanted.items():
            condition, parameters = self._database.within(column, values)
            found = self._connection.exec_driver_sql(f"SELECT id FROM records WHERE {condition}", parameters)  # noqa: S608 - our own names
            ids.update(found.scalars())
        batch = _Batch()
        if ids:
            condition, parameters = self._database.within("id", sorted(ids))
            names = ", ".join(_COLUMNS)
            rows = self._connection.exec_driver_sql(f"SELECT {names} FROM records WHERE {condition} ORDER BY id", parameters)  # noqa: S608
            for columns in rows:
                batch.add(_Row(list(columns), is_new=False))
        return batch

    def _new_row(self, entry: Entry, likeness: bytes | None) -> _Row:
        columns = self._empty_row.copy()
        for name, code in entry.codes.items():
            columns[_AT[name]] = code
        for name, value in entry.values.items():
            columns[_AT[name]] = to_column(value)
        record_id = next(self._next_id)
        columns[_ID] = record_id
        if not columns[_REFERENCE]:
            columns[_REFERENCE] = self._new_reference()
        columns[_LIKENESS] = likeness
        columns[_IMPORT] = self._import_id
        columns[_CREATED] = self._now_ms
        self._see(record_id)
        self.report.new += 1
        row = _Row(columns, is_new=True)
        row.is_touched = True
        return row

    def _new_reference(self) -> str:
        """Return 8 random bytes in hex; the system's generator is asked for many at a time."""
        if not self._random:
            digits = secrets.token_hex(8 * BATCH)
            self._random = [digits[start : start + 16] for start in range(0, len(digits), 16)]
        return self._random.pop()

    def _merge(self, entry: Entry, row: _Row, touched: list[_Row]) -> None:
        columns = row.columns
        was_retracted = columns[_RETRACTED] is not None
        if was_retracted and self._source_rules and columns[_AT["retraction_reason"]] == _BY_SOURCE:
            columns[_RETRACTED] = None
            columns[_AT["retraction_reason"]] = ""
        elif was_retracted:
            self.report.kept_retracted += 1
            self._on_note(entry.number, f"record {columns[_REFERENCE]} was retracted by its owner and stays so")
            return
        again = self._is_seen(columns[_ID])
        changed, disagrees = self._overlay(entry, columns, again=again and not self._source_rules)
        changed = changed or was_retracted
        if columns[_LIKENESS] is not None and entry.codes.keys() & set(_DIGESTS):  # recognised by its source's number, now by its digest
            columns[_LIKENESS] = None
        if again:
            self.report.repeated += 1
            if disagrees:
                self.report.disagreeing += 1
                self._on_note(entry.number, f"says otherwise than an earlier entry about the same item (record {columns[_REFERENCE]})")
        else:
            self._see(columns[_ID])
            if changed:
                self.report.updated += 1
            else:
                self.report.unchanged += 1
        if changed and not row.is_touched:
            row.is_touched = True
            touched.append(row)

    def _overlay(self, entry: Entry, columns: list[Any], *, again: bool) -> tuple[bool, bool]:
        """Write what an entry says over a record's columns; return whether that changed it, and whether it contradicts an earlier entry."""
        changed = disagrees = False
        for name, code in entry.codes.items():
            at = _AT[name]
            if columns[at] is None or (columns[at] != code and not again):
                columns[at] = code
                changed = True
        for name, value in entry.values.items():
            at, stored = _AT[name], to_column(value)
            if columns[at] == stored or name == "reference":
                continue
            if again and columns[at] != self._empty_row[at]:
                disagrees = True
                continue
            columns[at] = stored
            changed = True
        return changed, disagrees

    def _retract(self, entry: Entry, row: _Row | None, touched: list[_Row]) -> None:
        if row is None:
            self._on_note(entry.number, "the source takes back an item that is not known here")
        elif row.columns[_RETRACTED] is None:
            row.columns[_RETRACTED] = self._now_ms
            row.columns[_AT["retraction_reason"]] = _BY_SOURCE
            self.report.retracted += 1
            if not row.is_touched:
                row.is_touched = True
                touched.append(row)

    def _write(self, rows: Sequence[_Row]) -> None:
        """Number the changes and write them, each kind with one statement."""
        for row in rows:
            row.columns[_VERSION] = next(self._next_version)
            row.columns[_CHANGED] = self._now_ms
        if new := [tuple(row.columns) for row in rows if row.is_new]:
            self._connection.exec_driver_sql(self._insert, new)
        if old := [(*row.columns, row.columns[_ID]) for row in rows if not row.is_new]:
            self._connection.exec_driver_sql(self._update, old)
        for row in rows:
            row.is_touched = row.is_new = False

    def _see(self, record_id: int) -> None:
        byte = record_id >> 3
        if byte >= len(self._seen):
            self._seen.extend(bytes(max(byte + 1 - len(self._seen), 1 << 16)))
        self._seen[byte] |= 1 << (record_id & 7)

    def _is_seen(self, record_id: int) -> bool:
        return (record_id >> 3) < len(self._seen) and bool(self._seen[record_id >> 3] & (1 << (record_id & 7)))

    def _count(self, entry: Entry) -> None:
        """Count a new record's perceptual hashes. A counter shared by two codes can only be too high; the end counts exactly."""
        for name, counters in self._counters.items():
            if (code := entry.codes.get(name)) is None:
                continue
            slot = hash(code) & _COUNTER_MASK
            if counters[slot] >= self._max_repeats:
                self._fillers.add((name, code))
            else:
                counters[slot] += 1

    def _remove_fillers(self) -> None:
        """Find out which of the suspects are fillers, remove them from this import's records, and remember them."""
        table = schema.records
        confirmed = set()
        for name, code in self._fillers:
            column = table.c[name]
            mine = sa.and_(column == code, table.c.import_id == self._import_id, table.c.likeness.is_(None))
            ids = list(self._connection.execute(sa.select(table.c.id).where(mine)).scalars())
            if len(ids) <= self._max_repeats:
                continue
            confirmed.add((name, code))
            versions = [(None, next(self._next_version), record_id) for record_id in ids]
            mark = self._database.marks(1)
            statement = f"UPDATE records SET {name} = {mark}, version = {mark} WHERE id = {mark}"  # noqa: S608 - our own column names
            self._connection.exec_driver_sql(statement, versions)
            row = {"algorithm": name, "code": code, "refused_ms": self._now_ms}
            self._connection.execute(sa.insert(schema.refused_codes).values(row))
            self._on_note(0, f"one {Algorithm(name).label} hash is on {len(ids)} unrelated items: a filler, removed from all of them")
        self._fillers = confirmed

    def _drop_refused(self, entry: Entry) -> None:
        for name in _PERCEPTUAL:
            code = entry.codes.get(name)
            if code is not None and (name, code) in self._refused and any(digest in entry.codes for digest in _DIGESTS):
                del entry.codes[name]


_DEFAULTS = {each.name: each.default for each in fields(Record) if each.name not in {"hashes", "reference"}}


def entries_of_records(records: Iterable[Record]) -> Iterator[Entry]:
    """Yield each record as an entry: what is not at its default is what it says."""
    for number, record in enumerate(records, 1):
        said = {name: value for name, default in _DEFAULTS.items() if (value := getattr(record, name)) != default}
        codes = {algorithm.value: code for algorithm, code in record.hashes.items()}
        yield Entry(number, codes, said | {"reference": record.reference})


def empty_columns() -> dict[str, object]:
    """Return what the columns that describe a record hold when nothing is known; neither reference nor codes nor times."""
    record = Record(hashes={})
    return {name: to_column(getattr(record, name)) for name in _DEFAULTS} | {"retraction_reason": ""}


def _empty_row(defaults: dict[str, object]) -> list[Any]:
    """Return the columns of a record of which nothing is known but these defaults."""
    values: dict[str, object] = empty_columns() | {"reference": ""} | defaults
    return [values.get(name) for name in _COLUMNS]


def _strongest_common_agrees(columns: list[Any], codes: dict[str, bytes]) -> bool:
    for name, position in zip(_DIGESTS, _DIGEST_AT, strict=True):
        stored, said = columns[position], codes.get(name)
        if stored is not None and said is not None:
            return bool(stored == said)
    return False


def _likeness(codes: dict[str, bytes]) -> bytes | None:
    """Return by what an item without any digest is recognised; None for one with a digest."""
    if "md5" in codes or "sha1" in codes or "sha256" in codes:
        return None
    for name in _PERCEPTUAL:
        if (code := codes.get(name)) is not None:
            return hashlib.blake2b(name.encode() + code, digest_size=16).digest()
    return None
