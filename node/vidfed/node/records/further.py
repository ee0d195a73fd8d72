"""A record's further codes: rows of the table `codes`, found by their labels (see `schema`)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from vidfed.index import Algorithm, Code
from vidfed.node.records.schema import MAX_PLACES, PLACE_BITS, codes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vidfed.formats.entries import FileEntry
    from vidfed.index import Hash
    from vidfed.node.records.database import RecordDatabase

_CHUNK = 200  # records asked for in one statement: SQLite takes conditions nested to 1,000
_ALGORITHMS = {algorithm.value: algorithm for algorithm in Algorithm}

RowOfCode = tuple[int, str, bytes, str, int | None]
"""A row of the table: label, algorithm, code, kind, quality."""


class View(NamedTuple):
    """What a code is the code of, and the PDQ quality of that, None where it is not known. Kinds as `vidfed.index.Code`'s."""

    kind: str
    quality: int | None


def label_of(record: int, place: int) -> int:
    """Return the label of a record's code in the indexes; place 0 is what its own row holds."""
    return record << PLACE_BITS | place


def labels_of(record: int) -> tuple[int, int]:
    """Return the first and the last label that a record's further codes can have."""
    return label_of(record, 1), label_of(record, MAX_PLACES)


def of_record(record: int) -> sa.ColumnElement[bool]:
    """Return a condition for the further codes of one record."""
    return codes.c.label.between(*labels_of(record))


def labels_with(wanted: Hash) -> sa.Select[tuple[int]]:
    """Return a query for the numbers of the records that have this further code."""
    same = sa.and_(codes.c.algorithm == wanted.algorithm.value, codes.c.code == wanted.code)
    return sa.select(codes.c.label // (1 << PLACE_BITS)).where(same)


def further_codes(connection: sa.Connection, numbers: Sequence[int]) -> Mapping[int, tuple[Code, ...]]:
    """Return the further codes of these records, in the order of their places; records without any are left out."""
    found: dict[int, list[Code]] = defaultdict(list)
    for start in range(0, len(numbers), _CHUNK):
        ranges = sa.or_(*map(of_record, numbers[start : start + _CHUNK]))
        for label, algorithm, code, kind, quality in connection.execute(sa.select(codes).where(ranges).order_by(codes.c.label)):
            found[label >> PLACE_BITS].append(Code(_ALGORITHMS[algorithm], code, kind, quality))
    return {number: tuple(some) for number, some in found.items()}


def new_rows(record: int, places: int, known: Iterable[tuple[str, bytes]], wanted: Iterable[Code]) -> list[RowOfCode]:
    """Return the rows by which a record gets codes that it does not have.

    Args:
        record: its number.
        places: given to its codes so far.
        known: what it has, algorithm and code.
        wanted: what it is to have; of what does not fit into `MAX_PLACES` the last are left out.
    """
    there = set(known)
    rows: list[RowOfCode] = []
    for each in wanted:
        key = (each.algorithm.value, each.code)
        if key not in there and places + len(rows) < MAX_PLACES:
            there.add(key)
            rows.append((label_of(record, places + len(rows) + 1), *key, each.kind, each.quality))
    return rows


class FurtherCodes:
    """Writes further codes in the transaction of an import."""

    def __init__(self, database: RecordDatabase, connection: sa.Connection) -> None:
        self._connection = connection
        self._insert = f"INSERT INTO codes (label, algorithm, code, kind, quality) VALUES ({database.marks(5)})"  # noqa: S608 - only marks
        self._rows: list[RowOfCode] = []

    def give(self, record: int, entry: FileEntry) -> int:
        """Give a new record what its entry says; return how many places that took."""
        rows = new_rows(record, 0, entry.codes.items(), entry.further)
        self._rows += rows
        return len(rows)

    def add(self, record: int, places: int, own: Iterable[tuple[str, bytes]], entry: FileEntry) -> int:
        """Give a known record, whose own row holds the codes `own`, what it does not have; return how many places that took."""
        self.write()
        select = sa.select(codes.c.algorithm, codes.c.code).where(of_record(record))
        known = [(row.algorithm, row.code) for row in self._connection.execute(select)]
        rows = new_rows(record, places, [*own, *known], entry.further)
        self._rows += rows
        return len(rows)

    def replace(self, record: int, places: int, entry: FileEntry) -> int:
        """Give a known record what its entry says in place of what it had; return how many places it has had so far at most."""
        if places:
            self.write()
            self._connection.execute(sa.delete(codes).where(of_record(record)))
        # Places are never taken back: an index takes out as many labels as there are places before it puts in what is there now.
        return max(places, self.give(record, entry)) if entry.further else places

    def write(self) -> None:
        """Write what was given so far."""
        if self._rows:
            self._connection.exec_driver_sql(self._insert, self._rows)
            self._rows = []
