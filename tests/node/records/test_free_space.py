"""What SQLite leaves of moved rows in the free space of its pages is overwritten, and nothing else is."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vidfed.node.errors import JournalBusyError
from vidfed.node.records.free_space import overwrite_free_space
from vidfed.security.sqlite import connect

if TYPE_CHECKING:
    import sqlite3

ROWS = 3_000


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A table whose index was filled in no order, and every third of whose rows was deleted."""
    path = tmp_path / "some.db"
    with contextlib.closing(opened(path)) as database:
        database.execute("CREATE TABLE some (number INTEGER PRIMARY KEY, digest BLOB, words TEXT)")
        database.execute("CREATE INDEX some_digest ON some (digest)")
        for number in range(ROWS):
            database.execute("INSERT INTO some VALUES (?, ?, ?)", (number, digest(number), "x" * (number % 90)))
            if number % 10 == 0:
                database.execute("UPDATE some SET words = ? WHERE number = ?", ("y" * 900, number // 2))
        database.execute("DELETE FROM some WHERE number % 3 = 0")
    return path


def opened(path: Path) -> sqlite3.Connection:
    return connect(path, {"journal_mode": "WAL", "synchronous": "OFF", "secure_delete": "ON"})


def left_of_deleted(path: Path) -> int:
    content = b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
    return sum(digest(number) in content for number in range(0, ROWS, 3))


def test_nothing_of_a_deleted_row_is_left_and_all_others_are_as_they_were(path: Path) -> None:
    assert left_of_deleted(path)  # or SQLite does it by itself by now
    assert overwrite_free_space(path)
    assert left_of_deleted(path) == 0
    with contextlib.closing(opened(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kept = database.execute("SELECT number, digest FROM some ORDER BY number").fetchall()
    assert kept == [(number, digest(number)) for number in range(ROWS) if number % 3]
    assert overwrite_free_space(path) == 0


def test_a_connection_that_has_old_pages_in_memory_does_not_write_them_back(path: Path) -> None:
    with contextlib.closing(opened(path)) as other:
        other.execute("SELECT sum(length(digest)) FROM some").fetchone()
        overwrite_free_space(path)
        for number in range(1, ROWS, 3):
            other.execute("UPDATE some SET words = 'z' WHERE number = ?", (number,))
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert left_of_deleted(path) == 0


def test_what_somebody_still_reads_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidfed.node.records.free_space._BUSY_S", 0.0)
    with contextlib.closing(opened(path)) as reader, contextlib.closing(opened(path)) as writer:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM some").fetchone()
        writer.execute("DELETE FROM some WHERE number = 1")
        with pytest.raises(JournalBusyError, match=r"some\.db: its journal"):
            overwrite_free_space(path)
    assert overwrite_free_space(path) >= 0


def test_the_locks_of_this_process_stay(path: Path) -> None:
    """Closing a descriptor of the file would end them: another process could then take the journal away under an open connection."""
    with contextlib.closing(opened(path)) as open_one:
        open_one.execute("SELECT 1 FROM some").fetchone()
        overwrite_free_space(path)
        status = path.stat()
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        assert [each for each in held if str(os.getpid()) in each and each[5].endswith(f":{status.st_ino}")]
