"""Where the log's and the witness's tables lie: a SQLite file, or a schema on a PostgreSQL server. Only what differs between the two.

Queries are written once, with `?` for values; `{bytes}` and the other names of `column_types` stand for types in them. One transaction
writes at a time, over all threads that hold its turn and all processes; it is durable once left.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vidfed.security.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

BUSY_S = 10.0  # how long to wait for another process of this member that is just writing
_RETRY_S = 0.0005  # SQLite's own waiting grows to 0.1 s between two looks, which loses the turn to others again and again
_WAL_PAGES = 10_000  # 40 MB of journal before it is copied into the file: copying each page once for many commits
_MAX_ROWS = 256  # in one statement, of 6 values each; SQLite takes 32,766
_FEW_ROWS = 48  # less than that at once, whatever the number: what lookups that are answered together write


class Transaction(Protocol):
    """What a writer can do; errors of the database itself become AuditError when the transaction is left."""

    def execute(self, query: str, values: Sequence[object] = ()) -> int:
        """Run a statement; return how many rows it changed."""

    def fetch(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Return a query's rows."""

    def insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert whole rows, columns in the table's order."""


class Database(Protocol):
    """An open database. Safe from several threads for reading; `writing` is for one thread at a time."""

    name: str
    column_types: Mapping[str, str]

    def writing(self) -> AbstractContextManager[Transaction]:
        """Give a transaction beside which nobody else writes.

        Raises:
            AuditError: nothing was written.
        """

    def fetch(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a query, as last committed by anybody.

        Raises:
            AuditError: the database fails.
        """

    def has_table(self, name: str) -> bool:
        """Tell whether there is such a table.

        Raises:
            AuditError: the database fails.
        """

    def size_bytes(self) -> int:
        """Return how much it takes where it is stored.

        Raises:
            AuditError: the database fails.
        """

    def forget_deleted(self) -> None:
        """Make what was dropped as hard to recover as this database can (not from backups).

        Raises:
            AuditError: it may still be recovered.
        """

    def close(self) -> None:
        """Close all connections."""


def open_database(location: Path | str, *, read_only: bool = False) -> Database:
    """Open a file, made with mode 0600 if absent, or a `postgresql://` URL.

    Raises:
        AuditError: it cannot be opened.
    """
    if isinstance(location, Path):
        return SqliteDatabase(location, read_only=read_only)
    try:
        from vidfed.security.audit.storage.postgresql import PostgresqlDatabase  # noqa: PLC0415 - the driver is an extra
    except ModuleNotFoundError:
        raise AuditError("PostgreSQL's driver is not installed: pip install 'vidfed[postgresql]'") from None
    return PostgresqlDatabase(location, read_only=read_only)


def create_tables(database: Database, statements: str) -> None:
    """Make tables from statements in which `column_types` are named in braces, apart by semicolons.

    Raises:
        AuditError: they cannot be made.
    """
    with database.writing() as transaction:
        for statement in filter(str.strip, statements.format_map(database.column_types).split(";")):
            transaction.execute(statement)


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
                path.touch(mode=0o600)
                self.writer = self._connect()
            self._reader = self._connect(read_only=True)
        except (sqlite3.Error, OSError) as error:
            raise AuditError(f"{path}: {error}") from None

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """See `Database.writing`."""
        writer = self.writer
        if writer is None:
            raise AuditError(f"{self.name}: opened for reading only")
        try:
            _begin(writer)
            try:
                yield _SqliteTransaction(writer)
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:  # some failures end it by themselves
                    writer.execute("ROLLBACK")
                raise
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

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            connection.execute("PRAGMA busy_timeout=0")  # `_begin` waits
        return connection


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


def _begin(writer: sqlite3.Connection) -> None:
    """Wait until no other process writes."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)
        else:
            return
