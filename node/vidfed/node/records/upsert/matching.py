"""What is known of a batch of items, and which of them an entry speaks of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidfed.node.records.upsert.columns import AT, COLUMNS, DIGESTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import sqlalchemy as sa

    from vidfed.formats.entries import FileEntry
    from vidfed.node.records.database import RecordDatabase

_DIGEST_AT = tuple(AT[name] for name in DIGESTS)
_PERCEPTUAL_KEY, _SOURCE = AT["perceptual_key"], AT["source_id"]


class Row:
    """A known record: its columns, and whether they have to be written."""

    __slots__ = ("columns", "is_new", "is_touched")

    def __init__(self, columns: list[Any], *, is_new: bool) -> None:
        self.columns = columns
        self.is_new = self.is_touched = is_new


@dataclass(slots=True)
class Known:
    """What is known of a batch's items: rows by digest, by perceptual_key and by the source's number."""

    by_digest: tuple[dict[bytes, list[Row]], ...] = field(default_factory=lambda: ({}, {}, {}))
    by_perceptual_key: dict[bytes, Row] = field(default_factory=dict)
    by_source: dict[str, Row] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Let later entries find this row."""
        columns = row.columns
        for position, rows in zip(_DIGEST_AT, self.by_digest, strict=True):
            if (code := columns[position]) is not None:
                known = rows.setdefault(code, [])
                if row not in known:
                    known.append(row)
        if columns[_PERCEPTUAL_KEY] is not None:
            self.by_perceptual_key[columns[_PERCEPTUAL_KEY]] = row
        if source := columns[_SOURCE]:
            self.by_source[source] = row

    def match(self, entry: FileEntry, perceptual_key: bytes | None) -> Row | None:
        """Return the row that an entry speaks of."""
        if (source := entry.values.get("source_id")) is not None and (row := self.by_source.get(str(source))) is not None:
            return row
        if perceptual_key is not None:
            return self.by_perceptual_key.get(perceptual_key)
        codes = entry.codes
        for name, rows in zip(DIGESTS, self.by_digest, strict=True):
            for row in rows.get(codes[name], ()) if name in codes else ():
                if _strongest_common_agrees(row.columns, codes):
                    return row
        return None


def known_digests(database: RecordDatabase, connection: sa.Connection, entries: Iterable[FileEntry], source: str = "") -> set[bytes]:
    """Return which of these entries' digests records of a source have; of different algorithms they differ in length."""
    known: set[bytes] = set()
    for name in DIGESTS:
        if codes := [code for entry in entries if (code := entry.codes.get(name)) is not None]:
            condition, parameters = _of_source(database, name, codes, source)
            known.update(connection.exec_driver_sql(f"SELECT {name} FROM records WHERE {condition}", parameters).scalars())  # noqa: S608 - our own names
    return known


def fetch_known(
    database: RecordDatabase,
    connection: sa.Connection,
    entries: Sequence[FileEntry],
    perceptual_keys: Sequence[bytes | None],
    source: str = "",
) -> Known:
    """Fetch the rows of a source that any of these entries may speak of."""
    wanted: dict[str, list[Any]] = {name: [code for entry in entries if (code := entry.codes.get(name)) is not None] for name in DIGESTS}
    wanted["perceptual_key"] = [perceptual_key for perceptual_key in perceptual_keys if perceptual_key is not None]
    wanted["source_id"] = [key for entry in entries if (key := entry.values.get("source_id"))]
    ids: set[int] = set()
    for column, values in wanted.items():
        if values:
            condition, parameters = _of_source(database, column, values, source)
            ids.update(connection.exec_driver_sql(f"SELECT id FROM records WHERE {condition}", parameters).scalars())  # noqa: S608 - our own names
    known = Known()
    if ids:
        condition, parameters = database.within("id", sorted(ids))
        rows = connection.exec_driver_sql(f"SELECT {', '.join(COLUMNS)} FROM records WHERE {condition} ORDER BY id", parameters)  # noqa: S608 - the same
        for columns in rows:
            known.add(Row(list(columns), is_new=False))
    return known


def _of_source(database: RecordDatabase, column: str, values: Sequence[Any], source: str) -> tuple[str, tuple[Any, ...]]:
    """Return a condition for a source's records with one of these values in a column."""
    condition, parameters = database.within(column, values)
    if column == "source_id":
        condition += " AND source_id != ''"  # or the index, which leaves the empty ones out, is not used
    return f"{condition} AND source = {database.marks(1)}", (*parameters, source)


def _strongest_common_agrees(columns: list[Any], codes: Mapping[str, bytes]) -> bool:
    for name, position in zip(DIGESTS, _DIGEST_AT, strict=True):
        stored, said = columns[position], codes.get(name)
        if stored is not None and said is not None:
            return bool(stored == said)
    return False
