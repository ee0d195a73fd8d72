"""Writing events as rows of a table of the unit's own, each once however often it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from vidfed.node.sources.errors import SourceReadError
from vidfed.node.sources.remote.engine import cause_of, engine_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COLUMNS = ("id", "happened", "event", "member", "document")
"""The table's columns, all texts: the event's id, when (UTC), what, the other member, and the whole event as JSON."""


@dataclass(frozen=True, slots=True)
class OutboxTable:
    """A table to write to.

    Attributes:
        url: without a password.
        table: its name, with its schema before a dot.
        password: or empty.
        connect_s, silence_s: seconds a connection, and an answer, may take.
    """

    url: str
    table: str
    password: str = ""
    connect_s: float = 10.0
    silence_s: float = 60.0

    def write(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Write events in one transaction; those whose id is there already stay as they are.

        Args:
            events: each with the values of COLUMNS.

        Raises:
            SourceSettingsError: the URL is of no known kind, or its driver is not installed.
            SourceReadError: the database refuses or cannot be reached; nothing of these was written.
        """
        schema, _, name = self.table.rpartition(".")
        columns: list[sa.ColumnClause[str]] = [sa.column(column, sa.String) for column in COLUMNS]
        table = sa.table(name, *columns, schema=schema or None)
        # A cast, for not every database knows of a parameter alone what it is; the document's is one that cuts nothing off.
        values = [sa.cast(sa.bindparam(f"said_{column}"), sa.Text if column == "document" else sa.String(200)) for column in COLUMNS]
        known = sa.select(sa.literal(1)).select_from(table).where(table.c.id == sa.bindparam("said_id")).exists()
        insert = table.insert().from_select(COLUMNS, sa.select(*values).where(~known))
        engine = engine_of(self, writes=True)
        try:
            with engine.begin() as connection:
                for event in events:
                    connection.execute(insert, {f"said_{column}": event[column] for column in COLUMNS})
        except sa.exc.SQLAlchemyError as error:
            raise SourceReadError(f"[outbox] {engine.url.render_as_string(hide_password=True)}: {cause_of(error)}") from None
        finally:
            engine.dispose()
