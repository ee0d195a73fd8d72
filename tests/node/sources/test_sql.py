"""Reading a unit's own database: one moment, all rows, each once, and nothing written."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from vidfed.node.sources.errors import SourceReadError, SourceSettingsError
from vidfed.node.sources.remote.process import read_messages
from vidfed.node.sources.remote.sql import Query, SqlReader, cursor_text, cursor_value

if TYPE_CHECKING:
    from pathlib import Path

    from tests.node.sources.conftest import Unit


def query(unit: Unit, **settings: Any) -> Query:  # noqa: ANN401 - settings of any type
    usual: dict[str, Any] = {"url": unit.url, "columns": ("id", "md5"), "key": ("id",), "table": "media", "page_rows": 3}
    return Query(**usual | settings)


def rows(unit: Unit, since: object = None, **settings: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - settings of any type
    with SqlReader(query(unit, **settings)) as reader:
        return [tuple(row) for page in reader.pages(since) for row in page]


def made(unit: Unit, count: int) -> None:
    unit.run("CREATE TABLE media (id INTEGER PRIMARY KEY, md5 VARCHAR(40), changed TIMESTAMP NULL)")
    if count:
        values = [{"id": number, "md5": f"{number:032x}"} for number in range(1, count + 1)]
        unit.run("INSERT INTO media (id, md5) VALUES (:id, :md5)", values=values)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
def test_every_row_comes_once_whatever_the_pages(unit: Unit, count: int) -> None:
    made(unit, count)
    assert [row[0] for row in rows(unit)] == list(range(1, count + 1))


def test_all_pages_are_of_one_moment(unit: Unit) -> None:
    made(unit, 7)
    with SqlReader(query(unit)) as reader:
        pages = reader.pages()
        first = next(pages)
        unit.run("DELETE FROM media WHERE id = 7", "UPDATE media SET md5 = 'x' WHERE id = 6", "INSERT INTO media (id, md5) VALUES (8, 'y')")
        read = [*first, *(row for page in pages for row in page)]
    assert [tuple(row) for row in read] == [(number, f"{number:032x}") for number in range(1, 8)]


def test_a_query_is_read_like_a_table(unit: Unit) -> None:
    made(unit, 5)
    assert [row[0] for row in rows(unit, table="", query="SELECT id, md5 FROM media WHERE id > 2")] == [3, 4, 5]


def test_a_query_that_would_write_changes_nothing(unit: Unit) -> None:
    made(unit, 2)
    with pytest.raises(SourceReadError):
        rows(unit, table="", query="DELETE FROM media")
    assert len(rows(unit)) == 2


def test_composite_keys_page_rightly(unit: Unit) -> None:
    unit.run("CREATE TABLE media (a INTEGER, b VARCHAR(10), md5 VARCHAR(40), PRIMARY KEY (a, b))")
    wanted = [(a, b) for a in range(3) for b in ("x", "y", "z", "zz")]
    unit.run("INSERT INTO media VALUES (:a, :b, 'h')", values=[{"a": a, "b": b} for a, b in wanted])
    assert [row[:2] for row in rows(unit, columns=("a", "b", "md5"), key=("a", "b"))] == wanted


def test_keys_that_the_database_takes_for_equal_are_all_read(unit: Unit) -> None:
    unit.run("CREATE TABLE media (id VARCHAR(10), md5 VARCHAR(40))")
    names = ["a", "A", "b", "B", "c", "C", "d"]
    unit.run("INSERT INTO media VALUES (:id, 'h')", values=[{"id": name} for name in names])
    assert sorted(row[0] for row in rows(unit)) == sorted(names)


def test_a_key_that_occurs_twice_on_the_border_of_two_pages_comes_twice(unit: Unit) -> None:
    unit.run("CREATE TABLE media (id INTEGER, md5 VARCHAR(40))")
    unit.run("INSERT INTO media VALUES (:id, 'h')", values=[{"id": number} for number in (1, 2, 3, 3, 4)])
    assert [row[0] for row in rows(unit)] == [1, 2, 3, 3, 4]


def test_a_key_that_is_none_is_said_to_be_none(unit: Unit) -> None:
    unit.run("CREATE TABLE media (id INTEGER, md5 VARCHAR(40))")
    unit.run("INSERT INTO media VALUES (1, 'h')", *["INSERT INTO media VALUES (2, 'h')"] * 9)
    with pytest.raises(SourceReadError, match="that is no key"):
        rows(unit)


def test_rows_without_a_key_are_counted(unit: Unit) -> None:
    unit.run(
        "CREATE TABLE media (id INTEGER, md5 VARCHAR(40))", "INSERT INTO media VALUES (1, 'h')", "INSERT INTO media VALUES (NULL, 'h')"
    )
    with SqlReader(query(unit)) as reader:
        assert [row[0] for page in reader.pages() for row in page] == [1]
        assert reader.rows_without_key == 1


def test_only_what_changed_is_read_again_with_an_overlap(unit: Unit) -> None:
    made(unit, 9)
    unit.run("UPDATE media SET changed = '2026-01-01 10:00:00'")
    unit.run("UPDATE media SET changed = '2026-01-01 10:05:00' WHERE id IN (2, 4, 5, 8)", "UPDATE media SET changed = NULL WHERE id = 9")
    with SqlReader(query(unit, changed="changed")) as reader:
        assert len([row for page in reader.pages() for row in page]) == 9
        newest = cursor_text(reader.cursor())
        assert reader.count_unchanging() == 1
    assert [row[0] for row in rows(unit, cursor_value(newest, 60.0), changed="changed")] == [2, 4, 5, 8]
    assert len(rows(unit, cursor_value(newest, 300.0), changed="changed")) == 8


def test_a_row_dated_into_the_future_hides_no_later_change(unit: Unit) -> None:
    made(unit, 2)
    unit.run("UPDATE media SET changed = '2037-01-01 00:00:00' WHERE id = 1", "UPDATE media SET changed = CURRENT_TIMESTAMP WHERE id = 2")
    with SqlReader(query(unit, changed="changed")) as reader:
        assert len(list(reader.pages())) == 1
        cursor = cursor_text(reader.cursor())
    unit.run("INSERT INTO media VALUES (3, 'h', CURRENT_TIMESTAMP)")
    assert {row[0] for row in rows(unit, cursor_value(cursor, 60.0), changed="changed")} == {1, 2, 3}


def test_a_number_that_grows_tells_changes_too(unit: Unit) -> None:
    unit.run("CREATE TABLE media (id INTEGER PRIMARY KEY, md5 VARCHAR(40), revision BIGINT)")
    unit.run("INSERT INTO media VALUES (:id, 'h', :revision)", values=[{"id": number, "revision": number * 10} for number in range(1, 8)])
    with SqlReader(query(unit, changed="revision")) as reader:
        list(reader.pages())
        cursor = cursor_text(reader.cursor())
    assert [row[0] for row in rows(unit, cursor_value(cursor, 20.0), changed="revision")] == [5, 6, 7]


def test_a_missing_column_is_named_with_those_that_are_there(unit: Unit) -> None:
    made(unit, 1)
    with pytest.raises(SourceSettingsError, match="no column 'sha1'; it has id, md5, changed"):
        rows(unit, columns=("id", "sha1"))


def test_a_missing_table_is_named(unit: Unit) -> None:
    with pytest.raises(SourceReadError, match="media"):
        rows(unit)


def test_a_missing_file_is_an_error_and_not_a_new_database(tmp_path: Path) -> None:
    with pytest.raises(SourceReadError):
        SqlReader(Query(f"sqlite:///{tmp_path}/none.db", ("id",), ("id",), table="media")).__enter__()
    assert not (tmp_path / "none.db").exists()


def test_no_error_tells_the_password() -> None:
    lost = Query("postgresql://reader@127.0.0.1:1/none", ("id",), ("id",), password="geheim", table="media", connect_s=1)
    with pytest.raises(SourceReadError) as found:
        SqlReader(lost).__enter__()
    assert "geheim" not in str(found.value)
    assert "127.0.0.1" in str(found.value)


def test_a_reader_may_not_write(unit: Unit) -> None:
    """What the transaction alone guarantees, whatever the rights of the user are."""
    made(unit, 1)
    with SqlReader(query(unit)) as reader, pytest.raises(Exception, match=r"(?i)read.?only|denied"):
        reader._connection.exec_driver_sql("INSERT INTO media (id) VALUES (9)")


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime.fromisoformat("2026-01-01T10:00"),
        dt.datetime(2026, 1, 1, 10, tzinfo=dt.UTC),
        77,
        b"\x00\x00\x00\x99",
        "2026-01-01 10:00:00",
        12.5,
    ],
)
def test_a_cursor_is_read_back_as_it_was(value: object) -> None:
    assert cursor_value(cursor_text(value), 0.0) == value


def test_an_overlap_goes_back_in_the_units_of_the_column() -> None:
    assert cursor_value("number:100", 30) == 70
    assert cursor_value("text:2026-01-01T10:00:00Z", 60.0) == "2026-01-01T09:59:00Z"
    assert cursor_value("bytes:00000010", 1.0) == b"\x00\x00\x00\x0f"


@pytest.mark.parametrize("value", [True, None, dt.timedelta(1)])
def test_a_column_that_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(SourceSettingsError, match="changed"):
        cursor_text(value)


def test_the_reading_process_says_all_of_it(unit: Unit) -> None:
    made(unit, 4)
    unit.run("UPDATE media SET md5 = 'broken' WHERE id = 2", "UPDATE media SET md5 = NULL WHERE id = 3")
    task = {
        "task": "sql",
        "mapping": {"columns": {"md5": ["md5"]}, "key": ["id"]},
        "query": {"url": unit.url, "columns": ["id", "md5"], "key": ["id"], "table": "media"},
    }
    messages = list(read_messages(task))
    (found,) = [message["rows"] for message in messages if "rows" in message]
    assert [(row[0], row[2]) for row in found] == [("1", 0), ("2", 2), ("3", 2), ("4", 0)]
    assert messages[-1] == {"end": {"without_key": 0, "cursor": ""}}


def test_the_reading_process_hands_errors_on(unit: Unit) -> None:
    task = {
        "task": "sql",
        "mapping": {"columns": {"md5": ["md5"]}, "key": ["id"]},
        "query": {"url": unit.url, "columns": ["id", "md5"], "key": ["id"], "table": "nothing"},
    }
    with pytest.raises(SourceReadError, match="nothing"):
        list(read_messages(task))


def test_a_reading_process_that_is_killed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    with pytest.raises(SourceReadError, match="by signal 9"):
        list(read_messages({"task": "sql"}))


def test_a_reading_process_that_falls_silent_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    with pytest.raises(SourceReadError, match="silent"):
        list(read_messages({"task": "sql"}, silence_s=0.2))


def test_the_reading_process_has_no_environment_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nenv >&2\necho "{\\"end\\": {\\"names\\": \\"$(env | cut -d= -f1 | sort | tr "\\n" " ")\\"}}"\n')
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere:1")
    monkeypatch.setenv("VIDFED_PASSPHRASE", "secret")
    (end,) = read_messages({"task": "sql"})
    assert set(end["end"]["names"].split()) <= {"PATH", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}
