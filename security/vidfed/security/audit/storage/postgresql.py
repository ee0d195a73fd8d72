"""The log's tables on a PostgreSQL server, in a schema of their own beside the record store's tables. See `protocol.Database`."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from vidfed.security.audit.storage.protocol import BUSY_S
from vidfed.security.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vidfed.security.audit.storage.protocol import Transaction

_SCHEMA = "vidfed_audit"
_LOCK = "BEGIN; SELECT pg_advisory_xact_lock(1986618470, 1)"  # any two fixed numbers: no table's lock, which vacuuming would wait for
_BUSY_MS = int(BUSY_S * 1000)
# A writer that stops in the middle of a transaction must not keep the others waiting for ever, wherever it runs.
_OPTIONS = f"-c search_path={_SCHEMA} -c lock_timeout={_BUSY_MS} -c idle_in_transaction_session_timeout={3 * _BUSY_MS}"


class PostgresqlDatabase:
    """A writing and a reading connection, made anew after the server was gone."""

    column_types: Mapping[str, str] = {
        "bytes": "BYTEA",
        "int": "BIGINT",
        "key": "BIGINT PRIMARY KEY",
        "counter": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "clustered": "",
    }

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Connect.

        Raises:
            AuditError: that fails.
        """
        self._url = url
        self._read_only = read_only
        self._reader_lock = threading.Lock()
        self._writer: psycopg.Connection[Any] | None = None
        try:
            parts = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            raise AuditError("[store] url is no database URL; write postgresql://USER@HOST/DATABASE") from None
        self.name = f"audit log on PostgreSQL, database {parts.get('dbname')} at {parts.get('host')}"
        with self._errors():
            self._reader = self._connect(read_only=True)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """See `Database.writing`."""
        if self._read_only:
            raise AuditError(f"{self.name}: opened for reading only")
        with self._errors():
            writer = self._begin()
            try:
                yield _PostgresqlTransaction(writer)
                writer.execute("COMMIT")
            except BaseException:
                if not writer.closed:
                    writer.execute("ROLLBACK")
                raise

    def fetch(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """See `Database.fetch`."""
        with self._reader_lock, self._errors():
            try:
                return self._reader.execute(_marked(query), values).fetchall()
            except psycopg.OperationalError:
                if not self._reader.closed:
                    raise
            self._reader = self._connect(read_only=True)
            return self._reader.execute(_marked(query), values).fetchall()

    def has_table(self, name: str) -> bool:
        """See `Database.has_table`."""
        return bool(self.fetch("SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = ?", (_SCHEMA, name)))

    def size_bytes(self) -> int:
        """See `Database.size_bytes`: all tables with their indexes."""
        tables = "pg_class WHERE relkind = 'r' AND relnamespace = ?::regnamespace"
        query = f"SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM {tables}"  # noqa: S608 - constants
        return int(self.fetch(query, (_SCHEMA,))[0][0])

    def forget_deleted(self) -> None:
        """See `Database.forget_deleted`: vacuumed at once, so that its place is written over by what comes next."""
        with self._errors(), self._connect() as connection:
            connection.execute("VACUUM")

    def close(self) -> None:
        """Close both connections."""
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()

    def _begin(self) -> psycopg.Connection[Any]:
        """Wait until nobody else writes; connect if that was lost, which is known only now."""
        if self._writer is not None and not self._writer.closed:
            try:
                self._writer.execute(_LOCK)
            except psycopg.OperationalError:
                if not self._writer.closed:
                    self._writer.execute("ROLLBACK")
                    raise
            else:
                return self._writer
        self._writer = self._connect()
        self._writer.execute(_LOCK)
        return self._writer

    def _connect(self, *, read_only: bool = False) -> psycopg.Connection[Any]:
        options = f"{_OPTIONS} -c default_transaction_read_only={'on' if read_only else 'off'}"
        connection = psycopg.connect(self._url, autocommit=True, options=options, connect_timeout=int(BUSY_S))
        if not read_only:
            # A server may be set to answer before a commit is on disk; a log entry is not written until it is.
            connection.execute("SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
            if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (_SCHEMA,)).fetchone():
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}".encode())
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            words = str(error).strip() or type(error).__name__
            raise AuditError(f"{self.name}: {words.splitlines()[0]}") from error


class _PostgresqlTransaction:
    def __init__(self, writer: psycopg.Connection[Any]) -> None:
        self._writer = writer

    def execute(self, query: str, values: Sequence[object] = ()) -> int:
        return self._writer.execute(_marked(query), values).rowcount

    def fetch(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        return self._writer.execute(_marked(query), values).fetchall()

    def insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            with self._writer.cursor() as cursor:
                cursor.executemany(_marked(f"INSERT INTO {table} VALUES ({marks})"), rows)  # noqa: S608 - our own table, question marks


def _marked(query: str) -> bytes:
    """Return a query with the driver's marks for values; as bytes, which the driver takes as they are."""
    return query.replace("?", "%s").encode()
