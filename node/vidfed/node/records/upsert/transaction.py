"""Taking many records into the store: batches of entries are matched with what is known, merged, and written with few statements.

Rules:
 1. An entry speaks of a known record if the strongest digest both carry agrees (SHA-256, then SHA-1, then MD5: MD5 can be forged).
    An entry without any digest speaks of the record without digests that has the same strongest perceptual hash.
 2. What an entry does not say stays as it was: absent is unknown, not "no".
 3. Entries of one import about the same item are one record; what the first said stands, later ones add.
 4. A retracted record is not brought back by an import; the owner does that by hand. What was edited by hand stays too.
 5. A perceptual hash on many unrelated items of one import is written down, and set aside if it is a tool's filler (`repeated`).
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from vidfed.formats.entries import FileEntry
from vidfed.node.records import schema
from vidfed.node.records.further import FurtherCodes
from vidfed.node.records.record import to_column
from vidfed.node.records.upsert.columns import AT, COLUMNS, DEFAULTS, DIGESTS, PERCEPTUAL, empty_columns, perceptual_key_of
from vidfed.node.records.upsert.digest_filter import DigestFilter
from vidfed.node.records.upsert.matching import Row, fetch_known, known_digests
from vidfed.node.records.upsert.repeated import RepeatedCodes
from vidfed.node.records.upsert.report import UpsertReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from vidfed.node.records.database import RecordDatabase
    from vidfed.node.records.record import Record

BATCH = 2_000  # entries matched and written together: about 1 MB
MAX_REPEATS = 100  # unrelated items of one import that may share one perceptual hash; a series of frames stays far below
_BY_SOURCE = "taken back by its source"
_ID, _VERSION, _REFERENCE, _EDITED = AT["id"], AT["version"], AT["reference"], AT["edited"]
_PLACES = AT["places"]
_CHANGED, _PERCEPTUAL_KEY, _RETRACTED, _REASON = AT["changed_ms"], AT["perceptual_key"], AT["retracted_ms"], AT["retraction_reason"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where records come from: kept with each of them."""

    file_name: str
    format: str
    tool: str = ""


def _no_note(_number: int, _text: str) -> None:
    """Take a note nobody asked for."""


class UpsertTransaction:
    """One transaction's taking in. Give it batches, then `finish`; the caller's transaction makes it all or nothing."""

    def __init__(
        self,
        database: RecordDatabase,
        connection: sa.Connection,
        *,
        now_ms: int,
        origin: Origin | None = None,
        defaults: Mapping[str, object] | None = None,
        max_repeats: int = MAX_REPEATS,
        on_note: Callable[[int, str], None] = _no_note,
        source_rules: bool = False,
        overwrite: bool = False,
        source: str = "",
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
            overwrite: entries overrule what was edited by hand.
            source: name of the source that is in charge of the records; entries speak of its records alone, and new ones are its own.
                Empty: of those that belong to no source. What two sources say about one file stays two statements.
        """
        self.report = UpsertReport()
        self._database = database
        self._connection = connection
        self._now_ms = now_ms
        self._on_note = on_note
        self._source_rules = source_rules
        self._overwrite = overwrite
        self._source = source
        table = schema.records
        (last_id, last_version) = connection.execute(sa.select(sa.func.max(table.c.id), sa.func.max(table.c.version))).one()
        self._known_before = last_id or 0
        self._digest_filter = None if self._known_before else DigestFilter()
        self._next_id = itertools.count(self._known_before + 1)
        self._next_version = itertools.count((last_version or 0) + 1)
        self._references = random_references()
        self._seen = bytearray(self._known_before // 8 + 1)  # one bit a record known before: which of them this import has spoken of
        self._import_id = self._begin_import(origin)
        self._further = FurtherCodes(database, connection)
        self._repeated = RepeatedCodes(database, connection, max_repeats)
        self._empty: dict[str, object] = empty_columns()
        self._empty |= {name: to_column(value) for name, value in (defaults or {}).items()}
        self._empty |= {"source": source, "import_id": self._import_id, "created_ms": now_ms, "changed_ms": now_ms}
        mark = database.marks(1)
        self._update = f"UPDATE records SET {', '.join(f'{name} = {mark}' for name in COLUMNS)} WHERE id = {mark}"  # noqa: S608 - our own column names

    def take_all(self, entries: Iterable[FileEntry]) -> None:
        """Take entries in, a batch at a time."""
        remaining = iter(entries)
        while batch := list(itertools.islice(remaining, BATCH)):
            self.take(batch)

    def take(self, entries: Sequence[FileEntry]) -> None:
        """Take one batch in: first the items nobody has spoken of, then what speaks of items known by then."""
        self._repeated.leave_out(entries)
        fresh: list[FileEntry] = []
        others: list[FileEntry] = []
        # A store that was empty knows what this import has spoken of; others have to be asked.
        spoken_of = known_digests(self._database, self._connection, entries, self._source) if self._known_before else set()
        for entry in entries:
            codes = entry.codes
            digests = [codes[name] for name in DIGESTS if name in codes]
            may_be_known = not spoken_of.isdisjoint(digests) if self._digest_filter is None else self._digest_filter.add(digests)
            spoken_of.update(digests)
            if digests and not may_be_known and not entry.retracts and "source_id" not in entry.values:
                fresh.append(entry)
            else:
                others.append(entry)
        self._insert(fresh)
        if others:
            self._merge_all(others)
        self._further.write()

    def finish(self, *, file_sha256: bytes | None = None, format_name: str = "", tool: str = "") -> UpsertReport:
        """Do what can only be done at the end, and return the report.

        Args:
            file_sha256: of the file, 32 bytes.
            format_name: as the file itself told it.
            tool: that wrote the file.
        """
        if self._import_id is not None:
            first = self._known_before + 1
            self.report.repeats = self._repeated.judge(self._import_id, first, self._next_version, self._now_ms, self._on_note)
            imports = schema.imports
            values = {"file_sha256": file_sha256, "format": format_name, "tool": tool}
            self._connection.execute(sa.update(imports).where(imports.c.id == self._import_id).values(values))
        return self.report

    def _begin_import(self, origin: Origin | None) -> int | None:
        if origin is None:
            return None
        imports = schema.imports
        last = self._connection.execute(sa.select(sa.func.max(imports.c.id))).scalar_one()
        values = {"file_name": origin.file_name, "format": origin.format, "tool": origin.tool, "imported_ms": self._now_ms}
        self._connection.execute(sa.insert(imports).values(id=(last or 0) + 1, **values))
        return int(last or 0) + 1

    def _insert(self, entries: Sequence[FileEntry]) -> None:
        """Write new records. Those with the same fields share a statement without the columns that stay empty: binding a NULL is dear."""
        groups: dict[tuple[str, ...], tuple[dict[str, object], list[tuple[object, ...]]]] = {}
        for entry in entries:
            codes, values = entry.codes, entry.values
            reference = values.pop("reference", None) or next(self._references)
            shape = (*codes, *values)
            group = groups.get(shape)
            if group is None:
                said = {"places", *values}
                common = {name: value for name, value in self._empty.items() if value is not None and name not in said}
                group = groups[shape] = (common, [])
            number = next(self._next_id)
            places = self._further.give(number, entry) if entry.further else 0
            self._repeated.written(entry, number)
            numbers = (number, next(self._next_version), reference, places)
            # To SQLite's driver a bytearray is at hand, while bytes are first offered to its adapters.
            group[1].append((*map(bytearray, codes.values()), *map(to_column, values.values()), *numbers, *group[0].values()))
        for shape, (common, rows) in groups.items():
            self._insert_rows((*shape, "id", "version", "reference", "places", *common), rows)
        self.report.new += len(entries)
        if self._import_id is not None:
            self._repeated.count(entries)

    def _insert_rows(self, names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
        statement = f"INSERT INTO records ({', '.join(names)}) VALUES ({self._database.marks(len(names))})"  # noqa: S608 - our own column names
        self._connection.exec_driver_sql(statement, list(rows))

    def _merge_all(self, entries: Sequence[FileEntry]) -> None:
        """Take in entries that may speak of known records, one after the other."""
        perceptual_keys = [perceptual_key_of(entry.codes, entry.further) for entry in entries]
        known = fetch_known(self._database, self._connection, entries, perceptual_keys, self._source)
        touched: list[Row] = []
        for entry, perceptual_key in zip(entries, perceptual_keys, strict=True):
            row = known.match(entry, perceptual_key)
            if entry.retracts:
                self._retract(entry, row, touched)
            elif not entry.codes and not entry.further:
                continue
            elif row is None:
                touched.append(row := self._new_row(entry, perceptual_key))
                known.add(row)
            else:
                self._merge(entry, row, touched)
                if row.is_touched:
                    known.add(row)
        self._write(touched)

    def _new_row(self, entry: FileEntry, perceptual_key: bytes | None) -> Row:
        values = self._empty | entry.codes | {name: to_column(value) for name, value in entry.values.items()}
        number = next(self._next_id)
        values |= {
            "id": number,
            "places": self._further.give(number, entry) if entry.further else 0,
            "perceptual_key": perceptual_key,
            "reference": values.get("reference") or next(self._references),
        }
        self._repeated.written(entry, number)
        self.report.new += 1
        if self._import_id is not None:
            self._repeated.count([entry])
        return Row([values.get(name) for name in COLUMNS], is_new=True)

    def _merge(self, entry: FileEntry, row: Row, touched: list[Row]) -> None:
        columns = row.columns
        was_retracted = columns[_RETRACTED] is not None
        if was_retracted and self._source_rules and columns[_REASON] == _BY_SOURCE:
            columns[_RETRACTED] = None
            columns[_REASON] = ""
        elif was_retracted:
            self.report.kept_retracted += 1
            self._on_note(entry.number, f"record {columns[_REFERENCE]} was retracted by its owner and stays so")
            return
        self._repeated.written(entry, columns[_ID])
        again = self._is_seen(columns[_ID])
        changed, disagrees = self._overlay(entry, columns, again=again and not self._source_rules)
        if entry.further and (added := self._add_further(entry, columns)):
            columns[_PLACES] += added
            changed = True
        changed = changed or was_retracted
        if columns[_PERCEPTUAL_KEY] is not None and entry.codes.keys() & set(
            DIGESTS
        ):  # recognised by its source's number, now by its digest
            columns[_PERCEPTUAL_KEY] = None
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

    def _add_further(self, entry: FileEntry, columns: list[Any]) -> int:
        """Give a known record the further codes that it does not have; return how many."""
        own = [(name, code) for name in PERCEPTUAL if (code := columns[AT[name]]) is not None]
        return self._further.add(columns[_ID], columns[_PLACES], own, entry)

    def _overlay(self, entry: FileEntry, columns: list[Any], *, again: bool) -> tuple[bool, bool]:
        """Write what an entry says over a record's columns; return whether that changed it, and whether it contradicts an earlier entry."""
        changed = disagrees = False
        for name, code in entry.codes.items():
            at = AT[name]
            differs = columns[at] is None or (columns[at] != code and not again)
            if differs and not self._repeated.is_aside(columns[_ID], name, code):
                columns[at] = code
                changed = True
        edited = set(columns[_EDITED].split(",")) if columns[_EDITED] else set()
        kept = []
        for name, value in entry.values.items():
            at, stored = AT[name], to_column(value)
            if columns[at] == stored or name == "reference":
                continue
            if name in edited and not self._overwrite:
                kept.append(name)
                continue
            if again and columns[at] != self._empty.get(name):
                disagrees = True
                continue
            columns[at] = stored
            edited.discard(name)
            changed = True
        if kept:
            self.report.kept_edits += 1
            verbs = ("were", "stay") if len(kept) > 1 else ("was", "stays")
            words = f"{', '.join(kept)} of record {columns[_REFERENCE]} {verbs[0]} edited by hand and {verbs[1]} so"
            self._on_note(entry.number, words)
        columns[_EDITED] = ",".join(sorted(edited))
        return changed, disagrees

    def _retract(self, entry: FileEntry, row: Row | None, touched: list[Row]) -> None:
        if row is None:
            self.report.unknown_retracted += 1
            self._on_note(entry.number, "the source takes back an item that is not known here")
        elif row.columns[_RETRACTED] is None:
            row.columns[_RETRACTED] = self._now_ms
            row.columns[_REASON] = _BY_SOURCE
            self.report.retracted += 1
            if not row.is_touched:
                row.is_touched = True
                touched.append(row)

    def _write(self, rows: Sequence[Row]) -> None:
        """Number the changes and write them."""
        groups: dict[tuple[str, ...], list[tuple[object, ...]]] = {}
        updates = []
        for row in rows:
            columns = row.columns
            columns[_VERSION], columns[_CHANGED] = next(self._next_version), self._now_ms
            if row.is_new:
                present = {name: value for name, value in zip(COLUMNS, columns, strict=True) if value is not None}
                groups.setdefault(tuple(present), []).append(tuple(present.values()))
            else:
                updates.append((*columns, columns[_ID]))
        for names, values in groups.items():
            self._insert_rows(names, values)
        if updates:
            self._connection.exec_driver_sql(self._update, updates)

    def _see(self, record_id: int) -> None:
        if record_id <= self._known_before:
            self._seen[record_id >> 3] |= 1 << (record_id & 7)

    def _is_seen(self, record_id: int) -> bool:
        """True if an entry of this import has spoken of the record, or made it."""
        return record_id > self._known_before or bool(self._seen[record_id >> 3] & (1 << (record_id & 7)))


def entries_of_records(records: Iterable[Record]) -> Iterator[FileEntry]:
    """Yield each record as an entry: what is not at its default is what it says."""
    for number, record in enumerate(records, 1):
        said = {name: value for name, default in DEFAULTS.items() if (value := getattr(record, name)) != default}
        codes = {algorithm.value: code for algorithm, code in record.hashes.items()}
        yield FileEntry(number, codes, said | {"reference": record.reference}, further=record.further)


def random_references() -> Iterator[str]:
    """Yield 8 random bytes in hex, again and again; the system's generator is asked for many at a time."""
    while True:
        digits = secrets.token_hex(8 * BATCH)
        for start in range(0, len(digits), 16):
            yield digits[start : start + 16]
