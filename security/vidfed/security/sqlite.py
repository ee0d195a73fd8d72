"""SQLite as every file of ours is opened: no transaction begun behind the caller's back, settings stated, waits bounded."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vidfed.security.files import PRIVATE_MODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BUSY_S = 5.0  # how long to wait for another process that is just writing; our transactions take milliseconds
_PRIMARY_CODE = 0xFF  # SQLite's extended error codes hold the primary one in their lowest byte
_RETRY_S = 0.0005  # SQLite's own waiting grows to 0.1 s between two looks, which loses to other processes again and again


def connect(path: Path, pragmas: Mapping[str, str | int] | None = None, *, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open a file for reading and writing, made with mode 0600 if absent. SQLite gives the files beside it the same mode.

    Args:
        path: the file; its folder must exist.
        pragmas: settings by name, applied in this order.
        busy_s: how long a statement waits for another connection's lock, in seconds.

    Returns:
        A connection in autocommit mode, usable from any thread, one at a time; see `transaction`.

    Raises:
        sqlite3.Error, OSError: it cannot be opened.
    """
    path.touch(mode=PRIVATE_MODE)
    connection = sqlite3.connect(path, timeout=busy_s, check_same_thread=False, isolation_level=None)
    try:
        for name, value in (pragmas or {}).items():
            _set_pragma(connection, name, value, busy_s)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(path: Path, *, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open an existing file so that it cannot be changed. Autocommit, any thread, as `connect`.

    Raises:
        sqlite3.Error: it cannot be opened; a missing file may be said by the first statement only.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=busy_s, check_same_thread=False, isolation_level=None)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Hold the write lock from the first statement on; commit at the end, roll back on any exception.

    Raises:
        sqlite3.Error: the lock was not free within the connection's timeout, or the commit failed; nothing was written.
    """
    connection.execute("BEGIN IMMEDIATE")
    with _ending(connection):
        yield connection


@contextmanager
def contended_transaction(connection: sqlite3.Connection, *, busy_s: float) -> Iterator[sqlite3.Connection]:
    """Do as `transaction`, asking for the lock twice a millisecond: for files that many processes write many times a second.

    The connection itself must not wait (`PRAGMA busy_timeout=0`).

    Raises:
        sqlite3.Error: as `transaction`, within `busy_s` seconds.
    """
    _retry_while_busy(connection, "BEGIN IMMEDIATE", busy_s)
    with _ending(connection):
        yield connection


@contextmanager
def _ending(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some failures, such as a full disk, end it by themselves
            connection.execute("ROLLBACK")
        raise


def _set_pragma(connection: sqlite3.Connection, name: str, value: str | int, busy_s: float) -> None:
    statement = f"PRAGMA {name}={value}"
    if name == "journal_mode":
        # Unlike all else, SQLite does not wait by itself here for another program that switches the same file now.
        _retry_while_busy(connection, statement, busy_s)
    else:
        connection.execute(statement)


def _retry_while_busy(connection: sqlite3.Connection, statement: str, busy_s: float) -> None:
    until_s = time.monotonic() + busy_s
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                raise
            time.sleep(_RETRY_S)
        else:
            return
