"""From the first form of the store to the present one."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from tests.support.records import NOW, code, record
from vidfed.index import Algorithm
from vidfed.node.errors import StoreError
from vidfed.node.records import schema
from vidfed.node.records.database import RecordDatabase
from vidfed.node.records.migrations import migrate
from vidfed.node.records.store import RecordStore
from vidfed.wire.values import HandlingCode, Ternary

if TYPE_CHECKING:
    from pathlib import Path


def config(connection: sa.Connection) -> Config:
    made = Config()
    made.set_main_option("script_location", "vidfed.node.records:migrations")
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


@pytest.fixture
def old(location: Path | str) -> Path | str:
    """A store of the first form with two records, the first changed once."""
    texts = "mime_type, series, case_reference, case_contact, handling_note, category, category_scale, category_region, source_grading"
    with closing(RecordDatabase(location)) as database, database.writing(tables_exist=False) as connection:
        command.upgrade(config(connection), "0001")
        connection.execute(sa.text("DROP TABLE alembic_version"))  # the first form did not have it
        connection.execute(sa.text('INSERT INTO "schema" VALUES (1)'))
        for number, identity in ((1, "sha1:x"), (2, "pdq:y")):
            connection.execute(
                sa.text(
                    f"INSERT INTO records (id, reference, identity, pdq_quality, {texts}, information_grading, tags,"
                    " victim_identified, offender_identified, distributed, handling_code, created_ms, changed_ms) VALUES (:id, :reference,"
                    " :identity, 66, 'image/png', 'Série', 'case', 'us', '', '1', 'VICS', 'UK', 'B', '2', '[\"t\"]',"
                    " 'YES', 'NO', 'UNKNOWN', 'H2', 5, 6)"
                ),
                {"id": number, "reference": f"ref{number}", "identity": identity},
            )
        for number, algorithm in ((1, Algorithm.MD5), (1, Algorithm.SHA1), (1, Algorithm.PHOTODNA), (2, Algorithm.PDQ)):
            values = {"id": number, "algorithm": algorithm.name, "code": code(algorithm, number)}
            connection.execute(sa.text("INSERT INTO hashes VALUES (:id, :algorithm, :code)"), values)
        for version, number in ((1, 1), (2, 2), (3, 1)):
            connection.execute(sa.text("INSERT INTO changes VALUES (:version, :id, 7)"), {"version": version, "id": number})
    return location


def test_an_old_store_is_not_opened_but_its_migration_is_named(old: Path | str) -> None:
    with pytest.raises(StoreError, match=r"form 0001.*run `vidfed node migrate`"):
        RecordStore(old)


def test_migration_loses_nothing_and_keeps_the_index_valid(old: Path | str) -> None:
    with closing(RecordDatabase(old)) as database:
        assert migrate(database) == ("0001", schema.REVISION)
        assert migrate(database) == (schema.REVISION, schema.REVISION)
    with closing(RecordStore(old)) as store:
        first = store.records([1])[1]
        assert first.hashes == {algorithm: code(algorithm, 1) for algorithm in (Algorithm.MD5, Algorithm.SHA1, Algorithm.PHOTODNA)}
        assert (first.reference, first.series, first.tags, first.category_region) == ("ref1", "Série", ("t",), "UK")
        assert (first.victim_identified, first.offender_identified, first.distributed) == (Ternary.YES, Ternary.NO, Ternary.UNKNOWN)
        assert first.handling_code is HandlingCode.H2
        changes = store.changes_after(0, limit=9)
        assert (changes.versions, changes.record_ids) == ((2, 3), (2, 1))
        assert store.version()[0] == 3
        assert store.upsert([record(2, (Algorithm.PDQ,))], now_ms=NOW).new == 0


def test_a_failed_migration_changes_nothing(old: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreError("the power fails")

    with closing(RecordDatabase(old)) as database:
        with monkeypatch.context() as patch:
            patch.setattr("alembic.operations.Operations.drop_table", fail)
            with pytest.raises(StoreError):
                migrate(database)
        assert database.revision() == "0001"
        assert migrate(database) == ("0001", schema.REVISION)


def test_migrating_gives_the_same_tables_as_making_them(old: Path | str, tmp_path: Path) -> None:
    with closing(RecordDatabase(old)) as database:
        migrate(database)
        with database.reading() as connection:
            context = MigrationContext.configure(connection, opts={"include_name": lambda name, _kind, _parents: name != "alembic_version"})
            assert compare_metadata(context, schema.metadata) == []
    with closing(RecordStore(tmp_path / "new.db")) as store:
        assert store.database.revision() == schema.REVISION
