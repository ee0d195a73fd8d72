"""From older forms of the record store to the present one, with alembic. `vidfed node migrate` calls `migrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.node.records.schema import REVISION

if TYPE_CHECKING:
    from vidfed.node.records.database import RecordDatabase


def migrate(database: RecordDatabase) -> tuple[str | None, str]:
    """Bring the tables to the present form in one transaction, and return (form before, form now).

    Raises:
        StoreError: it cannot be done; nothing was changed.
    """
    from alembic import command  # noqa: PLC0415 - only this needs alembic
    from alembic.config import Config  # noqa: PLC0415

    before = database.revision()
    if before == REVISION:
        return before, REVISION
    config = Config()
    config.set_main_option("script_location", "vidfed.node.records:migrations")
    config.set_main_option("path_separator", "os")
    with database.writing(tables_exist=False) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, REVISION)
    return before, REVISION
