"""The table of formats in docs/import-export.md: every example is read, and every column is named there."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from vidfed.formats.entries import FileEntry
from vidfed.formats.fields import ALIASES, FIELDS
from vidfed.formats.lines_read import column_name
from vidfed.formats.recognise import FORMATS, open_hash_file
from vidfed.index import Algorithm

TEXT = (Path(__file__).parents[2] / "docs/import-export.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| ([^|]+) \| [^\n]+ \| `([^`\n]+)` \|$", TEXT.split("A line of example")[1].split("`tests/docs")[0], re.MULTILINE)
MD5 = bytes.fromhex("9e107d9d372bb6826bd81d3542a419d6")


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_of_the_table_is_read_whole(tmp_path: Path, name: str, example: str) -> None:
    path = tmp_path / "example"
    if example == "SQLite format 3":
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE FILE (md5 TEXT)")
            database.execute("INSERT INTO FILE VALUES (?)", (MD5.hex(),))
            database.commit()
    else:
        path.write_text(example.replace("\u23ce", "\n") + "\n", encoding="utf-8")
    entries = list(open_hash_file(path).entries())
    assert entries, name
    assert all(isinstance(entry, FileEntry) and (entry.codes or entry.further) and not entry.notes for entry in entries), name
    if "9e107d9d" in example.casefold():
        assert any(isinstance(entry, FileEntry) and entry.codes.get("md5") == MD5 for entry in entries), name


def test_every_format_has_an_example(tmp_path: Path) -> None:
    read = set()
    for _, example in EXAMPLES:
        (tmp_path / "example").write_text(example.replace("\u23ce", "\n"), encoding="utf-8")
        read.add("nsrl" if example.startswith("SQLite") else open_hash_file(tmp_path / "example").format)
    assert read == set(FORMATS)


def test_every_column_is_named_and_every_name_is_a_column() -> None:
    table = TEXT.split("| What | Names |")[1].split("Other columns are passed over")[0]
    named = set(re.findall(r"`([^`]+)`", table))
    assert {algorithm.value for algorithm in Algorithm} | set(FIELDS) | set(ALIASES) <= named
    assert [name for name in named if column_name(name) is None] == []
