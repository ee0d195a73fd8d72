"""The log's tables, and reading and writing rows. What the rows mean is for `log` and `merkle`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidfed.security.audit.entries import SealedEntry
from vidfed.security.audit.merkle import leaf_hash
from vidfed.security.audit.storage.opening import open_database
from vidfed.security.audit.storage.protocol import create_tables
from vidfed.security.clock import DAY_MS, HOUR_MS
from vidfed.security.errors import AuditDamagedError, AuditError, NoLogError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from vidfed.security.audit.storage.protocol import Transaction

SCHEMA_VERSION = 1
_LAST_POSITION = (1 << 63) - 1  # of a database's integer
_PAGE = 2_000  # entries fetched at a time while walking through the log: a few MB
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (schema {int} NOT NULL, origin TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    position {key}, time_ms {int} NOT NULL, commitment {bytes} NOT NULL, salt {bytes}, case_salt {bytes}, body {bytes}
);
CREATE INDEX IF NOT EXISTS entries_by_time ON entries (time_ms);
CREATE TABLE IF NOT EXISTS hashes (level {int}, position {int}, hash {bytes} NOT NULL, PRIMARY KEY (level, position)) {clustered};
CREATE TABLE IF NOT EXISTS checkpoints (size {key}, time_ms {int} NOT NULL, note TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS appointments (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, not_before_ms {int} NOT NULL, not_after_ms {int} NOT NULL, revoked_ms {int}
);
CREATE TABLE IF NOT EXISTS epochs (epoch {key}, began_ms {int} NOT NULL, announcement TEXT NOT NULL);
"""


def thin_checkpoints(transaction: Transaction, now_ms: int) -> None:
    """Drop old checkpoints: of those older than a day the last of each hour stays, of those older than a month the last of each day.

    Nothing is lost by that: a later checkpoint covers all entries an earlier one covers, and whoever holds an earlier one (a receipt, a
    witness) is shown by a consistency proof, computed from the entries, that the log still continues it. Those that stay tell when.
    """
    for older_than_ms, one_in_ms in ((DAY_MS, HOUR_MS), (30 * DAY_MS, DAY_MS)):
        before = (now_ms - older_than_ms) // one_in_ms * one_in_ms
        transaction.execute(
            "DELETE FROM checkpoints WHERE time_ms < ? AND size NOT IN "
            "(SELECT max(size) FROM checkpoints WHERE time_ms < ? GROUP BY time_ms / ?)",
            (before, before, one_in_ms),
        )


class Storage:
    """One log's tables."""

    def __init__(self, location: Path | str, origin: str, *, read_only: bool = False) -> None:
        """Open them, making them if absent.

        Args:
            location: a SQLite file or a `postgresql://` URL.
            origin: whose log it is, by the name of its first epoch.
            read_only: they must exist.

        Raises:
            NoLogError: there are none, and they are only to be read.
            AuditError: it cannot be opened, or is another member's or version's log.
        """
        if read_only and not isinstance(location, str) and not location.exists():
            raise NoLogError(str(location))
        self.database = open_database(location, read_only=read_only)
        self.name = self.database.name
        self.first_origin = origin
        try:
            if not self.database.has_table("about"):
                if read_only:
                    raise NoLogError(self.name)
                create_tables(self.database, _SCHEMA)
            # SQLite lets whoever edits the file put values of any type into a column; reading casts them back.
            self._bytes = "CAST({} AS " + self.database.column_types["bytes"] + ")"
            columns = (self._bytes.format(name) for name in ("commitment", "salt", "case_salt", "body"))
            self._columns = ", ".join(("CAST(time_ms AS BIGINT)", *columns))
            self.about: tuple[int, str] = self._about(origin)
        except BaseException:
            self.close()
            raise

    def _about(self, origin: str) -> tuple[int, str]:
        query = "SELECT schema, origin FROM about"
        found: list[Any] = self.database.fetch(query)
        if not found:
            with self.writing() as transaction:
                if not transaction.fetch(query):  # another process may be making it too
                    transaction.insert("about", [(SCHEMA_VERSION, origin)])
            found = self.database.fetch(query)
        schema, present = found[0]
        if schema != SCHEMA_VERSION or (present != origin and not str(present).startswith(f"{origin}/")):
            raise AuditError(f"{self.name}: a log of {present}, expected {origin} in schema {SCHEMA_VERSION}")
        return SCHEMA_VERSION, str(present)

    def writing(self) -> AbstractContextManager[Transaction]:
        """Give a transaction that no other process shares; durable once left. See `Database.writing`."""
        return self.database.writing()

    def read_hashes(self, level: int, first: int, count: int) -> Sequence[bytes]:
        """Give stored hashes; see `merkle.ReadHashes`.

        Raises:
            AuditDamagedError: some are missing.
        """
        if not level:
            query = f"SELECT {self._bytes.format('commitment')} FROM entries WHERE position >= ? AND position < ? ORDER BY position"  # noqa: S608 - constants
            found = [leaf_hash(row[0]) for row in self._fetch(query, (first, first + count))]
        else:
            wanted = "level = ? AND position >= ? AND position < ? ORDER BY position"
            query = f"SELECT {self._bytes.format('hash')} FROM hashes WHERE {wanted}"  # noqa: S608 - constants
            found = [row[0] for row in self._fetch(query, (level, first, first + count))]
        if len(found) != count:
            raise AuditDamagedError(f"{self.name}: of {count} hashes from {first} at level {level}, {len(found)} are left")
        return found

    def size(self) -> int:
        """Return the number of entries."""
        ((last,),) = self._fetch("SELECT max(position) FROM entries")
        return 0 if last is None else int(last) + 1

    def entry(self, position: int) -> SealedEntry:
        """Return one entry.

        Raises:
            AuditError: there is none.
        """
        known = 0 <= position <= _LAST_POSITION  # a peer may ask for any: a larger number is none that a database takes
        rows = self._fetch(f"SELECT {self._columns} FROM entries WHERE position = ?", (position,)) if known else ()  # noqa: S608 - constants
        if not rows:
            raise AuditError(f"the log has no entry {position}")
        return SealedEntry(*rows[0])

    def entries(self, first: int, end: int) -> Iterator[tuple[int, SealedEntry]]:
        """Yield the entries of [first, end) that are there, in order, with their positions."""
        query = f"SELECT position, {self._columns} FROM entries WHERE position >= ? AND position < ? ORDER BY position LIMIT {_PAGE}"  # noqa: S608 - constants
        while rows := self._fetch(query, (first, end)):
            for position, *columns in rows:
                yield position, SealedEntry(*columns)
            first = rows[-1][0] + 1

    def positions(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Return the smallest range of positions [first, end) that holds all entries of a time [from_ms, to_ms); (0, 0) if none."""
        query = "SELECT min(position), max(position) FROM entries WHERE time_ms >= ? AND time_ms < ?"
        ((first, last),) = self._fetch(query, (from_ms, to_ms))
        return (0, 0) if first is None else (first, last + 1)

    def first_after(self, time_ms: int) -> int:
        """Return the position of the first entry dated after a time, the number of entries if there is none."""
        ((first,),) = self._fetch("SELECT min(position) FROM entries WHERE time_ms > ?", (time_ms,))
        return self.size() if first is None else int(first)

    def has_content_before(self, position: int) -> bool:
        """Tell whether an entry before this position still has its content."""
        return bool(self._fetch("SELECT 1 FROM entries WHERE position < ? AND body IS NOT NULL LIMIT 1", (position,)))

    def stored_hashes(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (level, position, hash) of all stored hashes above the leaves."""
        yield from self._fetch(f"SELECT level, position, {self._bytes.format('hash')} FROM hashes ORDER BY level, position")  # noqa: S608 - constants

    def latest_checkpoint(self) -> tuple[int, str] | None:
        """Return (time in ms, note) of the newest checkpoint."""
        rows = self._fetch("SELECT time_ms, CAST(note AS TEXT) FROM checkpoints ORDER BY size DESC LIMIT 1")
        return (rows[0][0], rows[0][1]) if rows else None

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return (time in ms, note) of all checkpoints, by size."""
        return [(time_ms, note) for time_ms, note in self._fetch("SELECT time_ms, CAST(note AS TEXT) FROM checkpoints ORDER BY size")]

    def epochs(self) -> list[str]:
        """Return the announcements of this log's epochs after the first, in order."""
        return [text for (text,) in self._fetch("SELECT CAST(announcement AS TEXT) FROM epochs ORDER BY epoch")]

    def forget_deleted(self) -> None:
        """Make what was dropped unrecoverable as far as the database can; see `Database.forget_deleted`."""
        self.database.forget_deleted()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _fetch(self, query: str, values: Sequence[int] = ()) -> list[Any]:
        return self.database.fetch(query, values)
