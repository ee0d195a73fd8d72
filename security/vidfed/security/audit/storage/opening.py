"""Opening the database that a location names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidfed.cli.parts import how_to_add
from vidfed.security.audit.storage.sqlite import SqliteDatabase
from vidfed.security.errors import AuditError

if TYPE_CHECKING:
    from vidfed.security.audit.storage.protocol import Database


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
        raise AuditError(f"PostgreSQL's driver is not installed: {how_to_add('postgresql')}") from None
    return PostgresqlDatabase(location, read_only=read_only)
