"""The forms of the store: so far there is one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from vidfed.node.errors import StoreError
from vidfed.node.records import schema
from vidfed.node.records.database import RecordDatabase
from vidfed.node.records.migrations import migrate
from vidfed.node.records.store import RecordStore


def test_a_store_of_another_form_is_not_opened(location: Path | str) -> None:
    with closing(RecordStore(location)) as store, store.database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"form 9999.*older than its store"):
        RecordStore(location)


def test_migrating_gives_the_same_tables_as_making_them(location: Path | str) -> None:
    if isinstance(location, Path):
        location.touch()  # an empty database is there; what is not there is made by init alone
    with closing(RecordDatabase(location)) as database:
        assert migrate(database) == (None, schema.REVISION)
        assert migrate(database) == (schema.REVISION, schema.REVISION)
        with database.reading() as connection:
            context = MigrationContext.configure(connection, opts={"include_name": lambda name, _kind, _parents: name != "alembic_version"})
            assert compare_metadata(context, schema.metadata) == []
    with closing(RecordStore(location)) as store:
        assert store.version() == (0, 0)
