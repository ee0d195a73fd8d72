"""The record store's database: SQLite in WAL mode, or PostgreSQL; opening, creating, one writer at a time, errors in plain words.

A writing transaction excludes other writers for its whole length, so that changes become visible in the order of their numbers and whoever
follows them misses none. Readers never wait.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from vidfed.cli.parts import how_to_add
from vidfed.node.errors import StoreError
from vidfed.node.records.schema import REVISION, commits, metadata, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WRITES = "vidfed_writes"
_WRITER_CACHE_KIB = 160 * 1024  # pages a long import keeps; beyond it SQLite spills to the WAL, so memory stays bounded
_READER_CACHE_KIB = 8 * 1024  # for each connection: the upper pages of the indexes; the system's cache has the rest, once for all
_WAL_KEPT_BYTES = 64 * 1024 * 1024  # what is left of a long import's WAL file after its checkpoint
_BUSY_TIMEOUT_S = 30  # how long a short change waits for another writer
_POSTGRESQL_MINIMUM = 15
_NO_STORE = (
    "Is its volume mounted, is [store] right? Otherwise put a backup back: vidfed node restore. "
    "Only vidfed node init and adopt-store make one"
)
_CREATION_LOCK = 0x76696466  # any fixed number: that of the PostgreSQL advisory lock under which the tables are made


class RecordDatabase:
    """A connection pool and what differs between the two databases."""

    def __init__(self, location: Path | str) -> None:
        """Take a file's path or a `postgresql://` URL; connects only when used.

        Raises:
            StoreError: neither of the two.
        """
        self.path = location if isinstance(location, Path) else None
        if isinstance(location, Path):
            self.engine = sa.create_engine(f"sqlite:///{location}", creator=functools.partial(_open_sqlite, location), hide_parameters=True)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self.name = str(location)
        else:
            self.engine = _postgresql(location)
            self.name = self.engine.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        """True for a file, False for a server."""
        return self.path is not None

    def open(self, *, make: bool = True) -> None:
        """Check that the tables are of this program's form.

        Args:
            make: them if there are none. Otherwise there must be some: an empty database says "no match" to everything.

        Raises:
            StoreError: it cannot be opened, is of another form, or there are no tables; the message says what to do.
        """
        try:
            if self.path is not None and make:
                self.path.touch(mode=0o600)
            if self.path is not None and not self.path.exists():
                raise StoreError(f"{self.name}: there is no record store. {_NO_STORE}")
            found = self.revision()
            if found is None and not make:
                raise StoreError(f"{self.name}: a database without a record store in it. {_NO_STORE}")
            if found is None:
                with self.writing(tables_exist=False) as connection:
                    if self._revision(connection) is None:
                        metadata.create_all(connection)
                        connection.execute(sa.insert(commits).values(version=0, mark=secrets.token_hex(8)))
                        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
                        connection.execute(sa.text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISION})
                    found = self._revision(connection)
        except OSError as error:
            raise StoreError(f"{self.name}: {error.strerror}") from None
        if found != REVISION:
            advice = "run `vidfed node migrate`" if (found or "") < REVISION else "this program is older than its store: update it"
            raise StoreError(f"{self.name}: record store of form {found}, this program needs {REVISION}; {advice}")

    def revision(self) -> str | None:
        """Return the form of the tables: a migration's number, or None where there are no tables yet.

        Raises:
            StoreError: the database cannot be read.
        """
        with self.reading() as connection:
            return self._revision(connection)

    @staticmethod
    def _revision(connection: sa.Connection) -> str | None:
        if "alembic_version" not in sa.inspect(connection).get_table_names():
            return None
        return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection for reading.

        Raises:
            StoreError: the database fails.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"{self.name}: {_cause(error)}") from None

    @contextlib.contextmanager
    def driver(self) -> Iterator[sa.PoolProxiedConnection]:
        """Give the driver's own connection for reading: for lookups, where everything above it takes longer than the answer.

        Raises:
            StoreError: there is no connection. What the driver raises later is a `driver_error`.
        """
        try:
            connection = self.engine.raw_connection()
        except (sa.exc.SQLAlchemyError, self.driver_error) as error:
            raise StoreError(f"{self.name}: {_cause(error)}") from None
        try:
            yield connection
        finally:
            connection.close()

    @contextlib.contextmanager
    def writing(self, *, tables_exist: bool = True) -> Iterator[sa.Connection]:
        """Give the only writing connection; its transaction is committed at the end, and rolled back by any exception.

        Raises:
            StoreError: the database fails; nothing was changed.
        """
        try:
            with self.engine.connect() as plain, self._large_cache(plain):
                connection = plain.execution_options(**{_WRITES: True})
                if self.is_sqlite:  # what is edited or erased is overwritten, not only unlinked
                    connection.exec_driver_sql("PRAGMA secure_delete=ON")
                    connection.rollback()
                with connection.begin():
                    if not self.is_sqlite:
                        lock = "LOCK TABLE records IN SHARE ROW EXCLUSIVE MODE" if tables_exist else None
                        connection.exec_driver_sql(lock or f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})")
                    yield connection
                    if tables_exist:
                        _mark_history(connection)
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"{self.name}: {_cause(error)}; nothing was changed") from None

    @contextlib.contextmanager
    def _large_cache(self, connection: sa.Connection) -> Iterator[None]:
        """Let a connection keep more pages in memory while it writes, and give them back when it goes back to reading."""
        if not self.is_sqlite:
            yield
            return
        driver = connection.connection
        driver.cursor().execute(f"PRAGMA cache_size=-{_WRITER_CACHE_KIB}")
        try:
            yield
        finally:
            driver.cursor().execute(f"PRAGMA cache_size=-{_READER_CACHE_KIB}")

    @property
    def driver_error(self) -> type[Exception]:
        """Root of what the driver raises where it is used without SQLAlchemy."""
        return self.engine.dialect.loaded_dbapi.Error  # by PEP 249 every driver has one

    def marks(self, count: int) -> str:
        """Return `count` parameter marks of the driver, with commas."""
        return ", ".join(["?" if self.is_sqlite else "%s"] * count)

    def within(self, column: str, values: Sequence[object]) -> tuple[str, tuple[Any, ...]]:
        """Return a condition for `column` being one of `values`, with its parameters; built by hand because imports ask it all the time."""
        if self.is_sqlite:
            return f"{column} IN ({self.marks(len(values))})", tuple(values)
        return f"{column} = ANY(%s)", (list(values),)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _mark_history(connection: sa.Connection) -> None:
    """Give the versions that this transaction has given a mark of their own."""
    last = connection.execute(sa.select(sa.func.max(records.c.version))).scalar()
    marked = connection.execute(sa.select(sa.func.max(commits.c.version))).scalar()
    if last is not None and last != marked:
        connection.execute(sa.insert(commits).values(version=last, mark=secrets.token_hex(8)))


def _postgresql(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StoreError("[store] url is no database URL; write postgresql://USER@HOST/DATABASE, or leave it empty for SQLite") from None
    if parsed.get_backend_name() != "postgresql":
        raise StoreError(f"[store] url: {parsed.get_backend_name()} is not supported; write postgresql://USER@HOST/DATABASE")
    try:
        engine = sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError:
        raise StoreError(f"PostgreSQL's driver is not installed: {how_to_add('postgresql')}") from None
    event.listen(engine, "first_connect", _check_postgresql)
    return engine


def _check_postgresql(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the database driver gives
    version = connection.info.server_version // 10_000
    if version < _POSTGRESQL_MINIMUM:
        raise StoreError(f"PostgreSQL {version}; {_POSTGRESQL_MINIMUM} or newer is needed")


def _open_sqlite(path: Path) -> sqlite3.Connection:
    """Open an existing file: SQLite would make one where a volume is gone, and an empty one at that."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the database driver gives
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not guessed from statements by the driver
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"cache_size=-{_READER_CACHE_KIB}",
        f"journal_size_limit={_WAL_KEPT_BYTES}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _cause(error: Exception) -> str:
    """Return the database's own words without the statement, whose parameters may hold hashes."""
    words = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return "another import or change is still running" if words == "database is locked" else words
