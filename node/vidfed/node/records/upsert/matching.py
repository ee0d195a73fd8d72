"""What is known of a batch of items, and which of them an entry speaks of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from vidfed.index import Algorithm
from vidfed.node.records import schema
from vidfed.node.records.record import Record, to_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import sqlalchemy as sa

    from vidfed.formats.entries import Entry
    from vidfed.node.records.database import Database

DIGESTS = ("sha256", "sha1", "md5")  # strongest first
PERCEPTUAL = tuple(algorithm.value for algorithm in Algorithm if algorithm.is_perceptual)
COLUMNS = tuple(column.name for column in schema.records.c)
AT = {name: position for position, name in enumerate(COLUMNS)}
_DIGEST_AT = tuple(AT[name] for name in DIGESTS)
_LIKENESS, _SOURCE = AT["likeness"], AT["source_id"]
DEFAULTS = {each.name: each.default for each in fields(Record) if each.name not in {"hashes", "reference"}}


class Row:
    """A known record: its columns, and whether they have to be written."""

    __slots__ = ("columns", "is_new", "is_touched")

    def __init__(self, columns: list[Any], *, is_new: bool) -> None:
        self.columns = columns
        self.is_new = self.is_touched = is_new


@dataclass(slots=True)
class Known:
    """What is known of a batch's items: rows by digest, by likeness and by the source's number."""

    by_digest: tuple[dict[bytes, list[Row]], ...] = field(default_factory=lambda: ({}, {}, {}))
    by_likeness: dict[bytes, Row] = field(default_factory=dict)
    by_source: dict[str, Row] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Let later entries find this row."""
        columns = row.columns
        for position, rows in zip(_DIGEST_AT, self.by_digest, strict=True):
            if (code := columns[position]) is not None:
                known = rows.setdefault(code, [])
                if row not in known:
                    known.append(row)
        if columns[_LIKENESS] is not None:
            self.by_likeness[columns[_LIKENESS]] = row
        if source := columns[_SOURCE]:
            self.by_source[source] = row

    def match(self, entry: Entry, likeness: bytes | None) -> Row | None:
        """Return the row that an entry speaks of."""
        if (source := entry.values.get("source_id")) is not None and (row := self.by_source.get(str(source))) is not None:
            return row
        if likeness is not None:
            return self.by_likeness.get(likeness)
        codes = entry.codes
        for name, rows in zip(DIGESTS, self.by_digest, strict=True):
            for row in rows.get(codes[name], ()) if name in codes else ():
                if _strongest_common_agrees(row.columns, codes):
                    return row
        return None


class Spoken:
    """Remembers digests in 32 MiB, whatever their number.

    It never forgets one. Of new ones it takes some for known, the more the more it holds: with two million, one in 130.
    """

    _BITS = 28

    def __init__(self) -> None:
        self._bits = bytearray(1 << (self._BITS - 3))

    def add(self, digests: Iterable[bytes]) -> bool:
        """Remember these digests and return whether any of them may have been there."""
        bits, found = self._bits, False
        for digest in digests:
            slot = hash(digest) & ((1 << self._BITS) - 1)
            bit = 1 << (slot & 7)
            if bits[slot >> 3] & bit:
                found = True
            else:
                bits[slot >> 3] |= bit
        return found


def known_digests(database: Database, connection: sa.Connection, entries: Iterable[Entry]) -> set[bytes]:
    """Return which of these entries' digests are in the store; of different algorithms they differ in length."""
    known: set[bytes] = set()
    for name in DIGESTS:
        if codes := [code for entry in entries if (code := entry.codes.get(name)) is not None]:
            condition, parameters = database.within(name, codes)
            known.update(connection.exec_driver_sql(f"SELECT {name} FROM records WHERE {condition}", parameters).scalars())  # noqa: S608 - our own names
    return known


def fetch_known(database: Database, connection: sa.Connection, entries: Sequence[Entry], likenesses: Sequence[bytes | None]) -> Known:
    """Fetch the rows that any of these entries may speak of."""
    wanted: dict[str, list[Any]] = {name: [code for entry in entries if (code := entry.codes.get(name)) is not None] for name in DIGESTS}
    wanted["likeness"] = [likeness for likeness in likenesses if likeness is not None]
    wanted["source_id"] = [source for entry in entries if (source := entry.values.get("source_id"))]
    ids: set[int] = set()
    for column, values in wanted.items():
        if values:
            condition, parameters = database.within(column, values)
            ids.update(connection.exec_driver_sql(f"SELECT id FROM records WHERE {condition}", parameters).scalars())  # noqa: S608 - our own names
    known = Known()
    if ids:
        condition, parameters = database.within("id", sorted(ids))
        rows = connection.exec_driver_sql(f"SELECT {', '.join(COLUMNS)} FROM records WHERE {condition} ORDER BY id", parameters)  # noqa: S608 - the same
        for columns in rows:
            known.add(Row(list(columns), is_new=False))
    return known


def likeness_of(codes: Mapping[str, bytes]) -> bytes | None:
    """Return by what an item without any digest is recognised; None for one with a digest."""
    if "md5" in codes or "sha1" in codes or "sha256" in codes:
        return None
    for name in PERCEPTUAL:
        if (code := codes.get(name)) is not None:
            return hashlib.blake2b(name.encode() + code, digest_size=16).digest()
    return None


def empty_columns() -> dict[str, object]:
    """Return what the columns that describe a record hold when nothing is known; neither reference nor codes nor times."""
    record = Record(hashes={})
    return {name: to_column(getattr(record, name)) for name in DEFAULTS} | {"retraction_reason": "", "edited": ""}


def _strongest_common_agrees(columns: list[Any], codes: Mapping[str, bytes]) -> bool:
    for name, position in zip(DIGESTS, _DIGEST_AT, strict=True):
        stored, said = columns[position], codes.get(name)
        if stored is not None and said is not None:
            return bool(stored == said)
    return False
