"""Perceptual hashes that a tool writes on everything: found while importing, removed from all the import's records, and remembered.

A constant PhotoDNA on every item of a set was seen in the field; it would make every lookup a hit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.index import Algorithm
from vidfed.node.records import schema
from vidfed.node.records.upsert.columns import DIGESTS, PERCEPTUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vidfed.formats.entries import FileEntry
    from vidfed.node.records.database import RecordDatabase

_COUNTED = ("pdq", "photodna")
_COUNTER_BITS = 22  # 4 million counters of one byte: what spotting placeholders costs in memory, whatever the size of the import
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1


class Placeholders:
    """One import's watch for placeholders."""

    def __init__(self, database: RecordDatabase, connection: sa.Connection, max_repeats: int) -> None:
        """Begin.

        Args:
            database: the store's.
            connection: that writes.
            max_repeats: unrelated new items, at most 255, that may share one hash.
        """
        self._database = database
        self._connection = connection
        self._max_repeats = min(max_repeats, 255)
        refused = connection.execute(sa.select(schema.refused_codes.c.algorithm, schema.refused_codes.c.code))
        self._refused = {(algorithm, code) for algorithm, code in refused}
        self._suspects: set[tuple[str, bytes]] = set()
        self._counters = {name: bytearray(1 << _COUNTER_BITS) for name in _COUNTED}

    def drop(self, entries: Iterable[FileEntry]) -> None:
        """Take from entries with a digest what an earlier import found to be a placeholder."""
        if not self._refused:
            return
        for entry in entries:
            for name in PERCEPTUAL:
                code = entry.codes.get(name)
                if code is not None and (name, code) in self._refused and any(digest in entry.codes for digest in DIGESTS):
                    del entry.codes[name]
            if entry.further:
                entry.further = [each for each in entry.further if (each.algorithm.value, each.code) not in self._refused]

    def count(self, entries: Iterable[FileEntry]) -> None:
        """Count new records' hashes. A counter shared by two codes can only be too high; `remove` counts exactly."""
        most = self._max_repeats
        for name, counters in self._counters.items():
            for entry in entries:
                if (code := entry.codes.get(name)) is not None:
                    slot = hash(code) & _COUNTER_MASK
                    if counters[slot] >= most:
                        self._suspects.add((name, code))
                    else:
                        counters[slot] += 1

    def remove(self, import_id: int, versions: Iterator[int], now_ms: int, on_note: Callable[[int, str], None]) -> int:
        """Find out which of the suspects are placeholders, remove them from the import's records, and return how many hashes they are.

        Args:
            import_id: of the records concerned.
            versions: numbers of changes to come.
            now_ms: time of the change.
            on_note: gets a text for each placeholder.
        """
        table = schema.records
        confirmed = 0
        for name, code in self._suspects:
            mine = sa.and_(table.c[name] == code, table.c.import_id == import_id, table.c.perceptual_key.is_(None))
            ids = list(self._connection.execute(sa.select(table.c.id).where(mine)).scalars())
            if len(ids) <= self._max_repeats:
                continue
            confirmed += 1
            mark = self._database.marks(1)
            statement = f"UPDATE records SET {name} = NULL, version = {mark} WHERE id = {mark}"  # noqa: S608 - our own column names
            self._connection.exec_driver_sql(statement, [(next(versions), record_id) for record_id in ids])
            self._connection.execute(sa.insert(schema.refused_codes).values(algorithm=name, code=code, refused_ms=now_ms))
            on_note(0, f"one {Algorithm(name).label} hash is on {len(ids)} unrelated items: a placeholder, removed from all of them")
        return confirmed
