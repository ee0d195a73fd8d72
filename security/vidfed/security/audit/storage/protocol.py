"""What the log and the witness ask of a database: a SQLite file (`sqlite`) or a schema on a PostgreSQL server (`postgresql`).

Queries are written once, with `?` for values; `{bytes}` and the other names of `column_types` stand for types in them. One transaction
writes at a time, over all threads and processes; it is durable once left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

BUSY_S = 10.0  # how long to wait for another process of this member that is just writing


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


def create_tables(database: Database, statements: str) -> None:
    """Make tables from statements in which `column_types` are named in braces, apart by semicolons.

    Raises:
        AuditError: they cannot be made.
    """
    with database.writing() as transaction:
        for statement in filter(str.strip, statements.format_map(database.column_types).split(";")):
            transaction.execute(statement)
