"""Whether a store's indexes of digests find what its table holds: a damaged one says "no match" about records that are there.

A database believes its indexes: one flipped bit in one hides a record from every question by that digest, and neither reading nor writing
tells. So an index is compared with its table, row by row, before it is believed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from vidfed.index import Algorithm
from vidfed.node.errors import StoreError
from vidfed.security.sqlite import connect_read_only

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.node.records.database import RecordDatabase

_CURE = "stop the node, keep the damaged store, and restore a backup: vidfed node restore"
_CHUNK = 1_000  # rows looked for at once
_DIGESTS = tuple(algorithm.value for algorithm in Algorithm if algorithm.is_digest)
_SCANS = ("indexscan", "indexonlyscan", "bitmapscan")
_INDEXED = (("records", "id", (*_DIGESTS, "id", "version", "reference")), ("codes", "label", ("label",)))
"""Tables, their keys, and the columns by whose indexes lookups, and who follows the changes, find rows."""


def check_soundness(database: RecordDatabase) -> None:
    """Return if all that a lookup by digest goes through is whole. Reads everything: about a minute for ten million records.

    Raises:
        StoreError: something is damaged, or cannot be read; the message says what to do.
    """
    if database.path is not None:
        check_sqlite(database.path, _CURE)
        return
    try:
        with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
            _check_postgresql(database.name, connection.connection.driver_connection)
    except (sa.exc.SQLAlchemyError, database.driver_error) as error:
        words = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(f"{database.name}: damaged: {words}: {_CURE}") from None


def _check_postgresql(name: str, driver: Any) -> None:  # noqa: ANN401 - psycopg's connection, an extra
    """Read the tables without their indexes, and look for each row through every index, as lookups and followers do; in one state."""
    for table, key, columns in _INDEXED:
        with driver.cursor(name="rows") as rows, driver.cursor() as looking:
            for without in _SCANS:
                looking.execute(f"SET LOCAL enable_{without} = off")
            looking.execute("SET LOCAL enable_seqscan = on")
            rows.execute(f"SELECT {key}, {', '.join(columns)} FROM {table}")  # noqa: S608 - our own names
            for without in _SCANS:
                looking.execute(f"SET LOCAL enable_{without} = on")
            looking.execute("SET LOCAL enable_seqscan = off")
            while chunk := rows.fetchmany(_CHUNK):
                for place, column in enumerate(columns, 1):
                    held = {row[0]: row[place] for row in chunk if row[place] is not None}
                    looking.execute(f"SELECT {key} FROM {table} WHERE {column} = ANY(%s)", (list(held.values()),))  # noqa: S608 - the same
                    if lost := held.keys() - {number for (number,) in looking}:
                        raise StoreError(f"{name}: the index of {table}.{column} does not find {len(lost)} rows that are there: {_CURE}")


def check_sqlite(path: Path, cure: str) -> None:
    """Return if a SQLite file is whole, its indexes equal to their tables.

    Raises:
        StoreError: it is not; the message ends with `cure`.
    """
    try:
        with contextlib.closing(connect_read_only(path)) as database:
            ((said,),) = database.execute("PRAGMA integrity_check(1)").fetchall()
    except (sqlite3.Error, ValueError) as error:
        raise StoreError(f"{path}: damaged: {error}: {cure}") from None
    if said != "ok":
        raise StoreError(f"{path}: damaged: {' '.join(str(said).split())}: {cure}")
