"""The log's SQLite file: tables, and reading and writing rows. What the rows mean is for `log` and `merkle`."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.entries import SealedEntry
from vidfed.security.audit.merkle import leaf_hash
from vidfed.security.errors import AuditDamagedError, AuditError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SCHEMA_VERSION = 1
_BUSY_S = 10.0  # how long to wait for another process of this member that is just writing
_RETRY_S = 0.0005  # SQLite's own waiting grows to 0.1 s between two looks, which loses the turn to others again and again
_PAGE = 2_000  # entries fetched at a time while walking through the log: a few MB
_MAX_ROWS = 256  # in one statement, of 6 values each; SQLite takes 32,766
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (schema INTEGER NOT NULL, origin TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    position INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, commitment BLOB NOT NULL, salt BLOB, case_salt BLOB, body BLOB
);
CREATE INDEX IF NOT EXISTS entries_by_time ON entries (time_ms);
CREATE TABLE IF NOT EXISTS hashes (level INTEGER, position INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (size INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, note TEXT NOT NULL);
"""
# SQLite lets whoever edits the file put values of any type into a column; reading casts them back.
_COLUMNS = "CAST(time_ms AS INTEGER), " + ", ".join(f"CAST({name} AS BLOB)" for name in ("commitment", "salt", "case_salt", "body"))


def insert_rows(database: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows by statements of 256, 128, ... rows.

    Python lets go of its lock for every single step of SQLite, and waits for it again while other threads compute: with one row a step,
    as `executemany` does, a busy process spends more time on that than on writing.
    """
    start, height = 0, _MAX_ROWS
    while start < len(rows):
        while height > len(rows) - start:
            height //= 2
        marks = ", ".join(["(" + ", ".join("?" * len(rows[0])) + ")"] * height)
        database.execute(f"INSERT INTO {table} VALUES {marks}", [value for row in rows[start : start + height] for value in row])  # noqa: S608 - our own table, question marks
        start += height


class Storage:
    """One log file. A writing connection, whose user holds `writing()`, and a reading one; both safe from several threads."""

    def __init__(self, path: Path, origin: str, *, read_only: bool = False) -> None:
        """Open the file, making it with mode 0600 if absent.

        Raises:
            AuditError: it cannot be opened, or is another member's or version's log.
        """
        self.path = path
        self._reader_lock = threading.Lock()
        try:
            if read_only:
                self._writer = None
            else:
                path.touch(mode=0o600)
                self._writer = self._connect()
                with self.writing() as database:
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        database.execute(statement)
                    if database.execute("SELECT count(*) FROM about").fetchone() == (0,):
                        database.execute("INSERT INTO about VALUES (?, ?)", (SCHEMA_VERSION, origin))
            self._reader = self._connect(read_only=True)
            about = self._reader.execute("SELECT schema, origin FROM about").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise AuditError(f"{path}: {error}") from None
        if about != (SCHEMA_VERSION, origin):
            self.close()
            raise AuditError(f"{path}: a log of {about[1] if about else 'nobody'}, expected {origin} in schema {SCHEMA_VERSION}")

        self.about: tuple[int, str] = about

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the writing connection inside a transaction that no other process shares; durable once left.

        Raises:
            AuditError: nothing was written.
        """
        if self._writer is None:
            raise AuditError(f"{self.path}: opened for reading only")
        try:
            self._begin(self._writer)
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # some failures end it by themselves
                    self._writer.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise AuditError(f"audit log: {error}") from error

    def _begin(self, writer: sqlite3.Connection) -> None:
        """Wait until no other process writes."""
        until = time.monotonic() + _BUSY_S
        while True:
            try:
                writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(_RETRY_S)
            else:
                return

    def read_hashes(self, level: int, first: int, count: int) -> Sequence[bytes]:
        """Give stored hashes; see `merkle.ReadHashes`.

        Raises:
            AuditDamagedError: some are missing.
        """
        if not level:
            query = "SELECT CAST(commitment AS BLOB) FROM entries WHERE position >= ? AND position < ? ORDER BY position"
            found = [leaf_hash(row[0]) for row in self._fetch(query, (first, first + count))]
        else:
            query = "SELECT CAST(hash AS BLOB) FROM hashes WHERE level = ? AND position >= ? AND position < ? ORDER BY position"
            found = [row[0] for row in self._fetch(query, (level, first, first + count))]
        if len(found) != count:
            raise AuditDamagedError(f"{self.path}: of {count} hashes from {first} at level {level}, {len(found)} are left")
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
        rows = self._fetch(f"SELECT {_COLUMNS} FROM entries WHERE position = ?", (position,))  # noqa: S608 - constants
        if not rows:
            raise AuditError(f"the log has no entry {position}")
        return SealedEntry(*rows[0])

    def entries(self, first: int, end: int) -> Iterator[tuple[int, SealedEntry]]:
        """Yield the entries of [first, end) that are there, in order, with their positions."""
        query = f"SELECT position, {_COLUMNS} FROM entries WHERE position >= ? AND position < ? ORDER BY position LIMIT {_PAGE}"  # noqa: S608 - constants
        while rows := self._fetch(query, (first, end)):
            for position, *columns in rows:
                yield position, SealedEntry(*columns)
            first = rows[-1][0] + 1

    def positions(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Return the smallest range of positions [first, end) that holds all entries of a time [from_ms, to_ms); (0, 0) if none."""
        query = "SELECT min(position), max(position) FROM entries WHERE time_ms >= ? AND time_ms < ?"
        ((first, last),) = self._fetch(query, (from_ms, to_ms))
        return (0, 0) if first is None else (first, last + 1)

    def has_content_before(self, position: int) -> bool:
        """Tell whether an entry before this position still has its content."""
        return bool(self._fetch("SELECT 1 FROM entries WHERE position < ? AND body IS NOT NULL LIMIT 1", (position,)))

    def stored_hashes(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (level, position, hash) of all stored hashes above the leaves."""
        yield from self._fetch("SELECT level, position, CAST(hash AS BLOB) FROM hashes ORDER BY level, position")

    def latest_checkpoint(self) -> tuple[int, str] | None:
        """Return (time in ms, note) of the newest checkpoint."""
        rows = self._fetch("SELECT time_ms, CAST(note AS TEXT) FROM checkpoints ORDER BY size DESC LIMIT 1")
        return (rows[0][0], rows[0][1]) if rows else None

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return (time in ms, note) of all checkpoints, by size."""
        return [(time_ms, note) for time_ms, note in self._fetch("SELECT time_ms, CAST(note AS TEXT) FROM checkpoints ORDER BY size")]

    def forget_deleted(self) -> None:
        """Make what was dropped unrecoverable from this file and its journal (not from backups)."""
        if self._writer is not None:
            self._writer.execute(f"PRAGMA busy_timeout={int(_BUSY_S * 1000)}")
            try:
                (busy, *_) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._writer.execute("PRAGMA busy_timeout=0")
            if busy:
                raise AuditError(f"{self.path}: another process keeps reading; what was dropped is still in the journal beside the file")

    def close(self) -> None:
        """Close both connections."""
        for connection in (self._writer, getattr(self, "_reader", None)):
            if connection is not None:
                connection.close()

    def _fetch(self, query: str, values: Iterable[int] = ()) -> list[Any]:
        with self._reader_lock:
            try:
                return self._reader.execute(query, tuple(values)).fetchall()
            except sqlite3.Error as error:
                raise AuditError(f"{self.path}: {error}") from error

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA busy_timeout=0")  # `_begin` waits
        return connection
