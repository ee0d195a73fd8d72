"""Where the tables are: a SQLite file of their own, or a PostgreSQL database. Errors in plain words.

A file of its own, because an import holds the record store's write lock for minutes, and an ask about a child in danger cannot wait for it.
One writer at a time in both databases: conversations are small, and whoever follows the numbers of changes misses none.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from vidfed.casework.errors import CaseworkStoreError
from vidfed.casework.storage.schema import FORM, form, metadata
from vidfed.security.files import PRIVATE_MODE

if TYPE_CHECKING:
    from collections.abc import Iterator

_WRITES = "vidfed_casework_writes"
_BUSY_S = 10.0  # how long a change waits for another writer; each takes milliseconds
_LOCK = 0x63617365  # any fixed number: that of the PostgreSQL advisory lock that writers hold


class CaseworkDatabase:
    """A connection pool. Safe from several threads and processes."""

    def __init__(self, location: Path | str) -> None:
        """Take a file's path or a `postgresql://` URL.

        Raises:
            CaseworkStoreError: neither of the two, or PostgreSQL's driver is missing.
        """
        if isinstance(location, Path):
            self.name = str(location)
            self._path: Path | None = location
            self._engine = sa.create_engine(f"sqlite:///{location}", connect_args={"timeout": _BUSY_S}, hide_parameters=True)
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            self._path = None
            try:
                url = sa.make_url(location).set(drivername="postgresql+psycopg")
                self._engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
            except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
                raise CaseworkStoreError(f"the database for conversations cannot be used: {error}") from None
            self.name = url.render_as_string(hide_password=True)

    def open(self) -> None:
        """Make the tables if there are none, and check that they are of this program's form.

        Raises:
            CaseworkStoreError: it cannot be opened, or is of another form.
        """
        try:
            if self._path is not None:
                self._path.touch(mode=PRIVATE_MODE)
        except OSError as error:
            raise CaseworkStoreError(f"{self.name}: {error.strerror}") from None
        with self.writing() as connection:
            metadata.create_all(connection)
            found = connection.execute(sa.select(form.c.form)).scalar()
            if found is None:
                connection.execute(sa.insert(form).values(form=FORM))
            elif found != FORM:
                raise CaseworkStoreError(f"{self.name}: conversations of form {found}, this program needs {FORM}: update the older program")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection for reading one consistent state.

        Raises:
            CaseworkStoreError: the database fails.
        """
        try:
            with self._engine.connect() as plain:
                level = {} if self._path is not None else {"isolation_level": "REPEATABLE READ"}
                connection = plain.execution_options(**level)
                with connection.begin():
                    yield connection
        except sa.exc.SQLAlchemyError as error:
            raise CaseworkStoreError(f"{self.name}: {_cause(error)}") from None

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give the only writing connection; committed at the end, rolled back by any exception.

        Raises:
            CaseworkStoreError: the database fails; nothing was changed.
        """
        try:
            with self._engine.connect() as plain:
                connection = plain.execution_options(**{_WRITES: True})
                with connection.begin():
                    if self._path is None:
                        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                    yield connection
        except sa.exc.SQLAlchemyError as error:
            raise CaseworkStoreError(f"{self.name}: {_cause(error)}; nothing was changed") from None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver gives
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not guessed from statements by the driver
    cursor = connection.cursor()
    # What is deleted is overwritten: contents have an end.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _cause(error: Exception) -> str:
    """Return the database's own words without the statement."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
