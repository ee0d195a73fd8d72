"""What every SQLite file of ours can rely on."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_S
from vidfed.security.sqlite import connect, connect_read_only, contended_transaction, transaction

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    with closing(connect(path, {"journal_mode": "WAL"})) as database:
        database.execute("CREATE TABLE numbers (number INTEGER CHECK (number > 0))")
    return path


def _numbers(path: Path) -> list[int]:
    with closing(connect_read_only(path)) as database:
        return [number for (number,) in database.execute("SELECT number FROM numbers ORDER BY number")]


def test_a_new_file_and_its_journal_are_readable_by_their_owner_alone(path: Path) -> None:
    with closing(connect(path)) as database, transaction(database):
        database.execute("INSERT INTO numbers VALUES (1)")
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes
    assert set(modes.values()) == {0o600}, modes


def test_pragmas_hold_on_the_connection(path: Path) -> None:
    with closing(connect(path, {"journal_mode": "WAL", "synchronous": "FULL", "foreign_keys": "ON"})) as database:
        found = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert found == ["wal", 2, 1]


def test_a_transaction_is_committed_at_its_end(path: Path) -> None:
    with closing(connect(path)) as database, transaction(database):
        database.execute("INSERT INTO numbers VALUES (1)")
        assert _numbers(path) == []
    assert _numbers(path) == [1]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, sqlite3.IntegrityError])
def test_whatever_ends_a_transaction_early_undoes_all_of_it_and_leaves_the_connection_usable(
    path: Path, failure: type[BaseException]
) -> None:
    def write(database: sqlite3.Connection) -> None:
        with transaction(database):
            database.execute("INSERT INTO numbers VALUES (1)")
            if failure is sqlite3.IntegrityError:
                database.execute("INSERT INTO numbers VALUES (-1)")
            raise failure

    with closing(connect(path)) as database:
        with pytest.raises(failure):
            write(database)
        assert _numbers(path) == []
        with transaction(database):
            database.execute("INSERT INTO numbers VALUES (2)")
    assert _numbers(path) == [2]


def test_a_failure_that_ended_the_transaction_by_itself_is_the_one_that_is_raised(path: Path) -> None:
    def write(database: sqlite3.Connection) -> None:
        with transaction(database):
            database.execute("ROLLBACK")  # as SQLite does on a full disk
            raise sqlite3.OperationalError("database or disk is full")

    with closing(connect(path)) as database, pytest.raises(sqlite3.OperationalError, match="disk is full"):
        write(database)


@pytest.mark.parametrize("contended", [False, True])
def test_a_writer_waits_no_longer_than_it_was_told(path: Path, contended: bool) -> None:
    with closing(connect(path)) as holder, closing(connect(path, busy_s=0.02)) as second, transaction(holder):
        waiting = contended_transaction(second, busy_s=0.02) if contended else transaction(second)
        with pytest.raises(sqlite3.OperationalError, match="locked"), waiting:
            pytest.fail("two writers at once")


def test_a_writer_goes_on_as_soon_as_the_other_has_committed(path: Path) -> None:
    begun = threading.Event()
    with closing(connect(path)) as holder, closing(connect(path, {"busy_timeout": 0})) as second:

        def write() -> None:
            begun.set()
            with contended_transaction(second, busy_s=30):
                second.execute("INSERT INTO numbers VALUES (2)")

        thread = threading.Thread(target=write)
        with transaction(holder):
            thread.start()
            assert begun.wait(PATIENCE_S)
            holder.execute("INSERT INTO numbers VALUES (1)")
        thread.join(PATIENCE_S)
    assert _numbers(path) == [1, 2]


def test_many_programs_may_open_a_new_file_at_the_same_moment(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    failures: list[BaseException] = []

    def open_it() -> None:
        together.wait(PATIENCE_S)
        try:
            connect(tmp_path / "new.db", {"journal_mode": "WAL"}).close()
        except sqlite3.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert failures == []


def test_what_is_opened_for_reading_cannot_be_written_and_is_not_made(path: Path, tmp_path: Path) -> None:
    with closing(connect_read_only(path)) as database, pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.execute("INSERT INTO numbers VALUES (1)")
    with pytest.raises(sqlite3.OperationalError, match="unable to open"), closing(connect_read_only(tmp_path / "absent.db")) as database:
        database.execute("SELECT 1")
    assert not (tmp_path / "absent.db").exists()
