"""The audit log's tables in a SQLite file. See `protocol.Database`."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.storage.protocol import BUSY_S
from vidfed.security.errors import AuditError
from vidfed.security.sqlite import connect, connect_read_only, contended_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.security.audit.storage.protocol import Transaction

_WAL_PAGES = 10_000  # 40 MB of journal before it is copied into the file: copying each page once for many commits
_MAX_ROWS = 256  # in one statement, of 6 values each; SQLite takes 32,766
_FEW_ROWS = 48  # less than that at once, whatever the number: what lookups that are answered together write
_PRAGMAS: dict[str, str | int] = {
    "journal_mode": "WAL",
    "synchronous": "FULL",
    "secure_delete": "ON",
    "wal_autocheckpoint": _WAL_PAGES,
    "busy_timeout": 0,  # `contended_transaction` waits
}


class SqliteDatabase:
    """A file in WAL mode; every commit is on disk before it returns."""

    column_types: Mapping[str, str] = {
        "bytes": "BLOB",
        "int": "INTEGER",
        "key": "INTEGER PRIMARY KEY",
        "counter": "INTEGER PRIMARY KEY",
        "clustered": "WITHOUT ROWID",
    }

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file; read-only, it must exist.

        Raises:
            AuditError: it cannot be opened.
        """
        self.path = path
        self.name = str(path)
        self._reader_lock = threading.Lock()
        self.writer: sqlite3.Connection | None = None
        try:
            if not read_only:
                self.writer = connect(path, _PRAGMAS, busy_s=BUSY_S)
            self._reader = connect_read_only(path, busy_s=BUSY_S)
        except (sqlite3.Error, OSError) as error:
            raise AuditError(f"{path}: {error}") from None

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """See `Database.writing`."""
        writer = self.writer
        if writer is None:
            raise AuditError(f"{self.name}: opened for reading only")
        try:
            with contended_transaction(writer, busy_s=BUSY_S):
                yield _SqliteTransaction(writer)
        except sqlite3.Error as error:
            raise AuditError(f"{self.name}: {error}") from error

    def fetch(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """See `Database.fetch`."""
        with self._reader_lock:
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise AuditError(f"{self.name}: {error}") from error

    def has_table(self, name: str) -> bool:
        """See `Database.has_table`."""
        return bool(self.fetch("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    def size_bytes(self) -> int:
        """See `Database.size_bytes`: the file and its journal."""
        journal = self.path.with_name(f"{self.path.name}-wal")
        return sum(path.stat().st_size for path in (self.path, journal) if path.exists())

    def forget_deleted(self) -> None:
        """See `Database.forget_deleted`: overwritten in the file (`secure_delete`) and in its journal."""
        if self.writer is None:
            return
        try:
            self.writer.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")
            try:
                (busy, *_) = self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self.writer.execute("PRAGMA busy_timeout=0")
        except sqlite3.Error as error:
            raise AuditError(f"{self.name}: {error}") from error
        if busy:
            raise AuditError(f"{self.name}: another process keeps reading; what was dropped is still in the journal beside the file")

    def close(self) -> None:
        """Close both connections; the writing one last, because the last one tidies the journal away if it can write."""
        self._reader.close()
        if self.writer is not None:
            self.writer.close()


class _SqliteTransaction:
    def __init__(self, writer: sqlite3.Connection) -> None:
        self._writer = writer

    def execute(self, query: str, values: Sequence[object] = ()) -> int:
        return self._writer.execute(query, values).rowcount

    def fetch(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        return self._writer.execute(query, values).fetchall()

    def insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        # By statements of 256, 128, 64 rows, and one for the rest. Python lets go of its lock for every single step of SQLite, and waits
        # for it again while other threads compute: with one row a step, as `executemany` does, a busy process spends more time on that
        # than on writing. Prepared statements are kept, so there may not be too many different ones.
        start, height = 0, _MAX_ROWS
        while start < len(rows):
            left = len(rows) - start
            while height > left > _FEW_ROWS:
                height //= 2
            height = min(height, left)
            marks = ", ".join(["(" + ", ".join("?" * len(rows[0])) + ")"] * height)
            values = [value for row in rows[start : start + height] for value in row]
            self._writer.execute(f"INSERT INTO {table} VALUES {marks}", values)  # noqa: S608 - our own table, question marks
            start += height
