"""Files that are broken or hostile: a clear error with the place, nothing taken in, memory bounded."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.records import code
from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.json_stream import MAX_VALUE
from vidfed.formats.recognise import open_hash_file
from vidfed.formats.source import MAX_LINE
from vidfed.index import Algorithm

if TYPE_CHECKING:
    from pathlib import Path

MD5 = code(Algorithm.MD5, 1).hex()
HEAD = '{"@odata.context": "http://x/2.0.xml/US/$metadata#Media",\n "value": ['
NCMEC = '<queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2">'
_SIZES = {algorithm.value: algorithm.code_bytes for algorithm in Algorithm}
_FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def entries(folder: Path, content: str | bytes) -> list[FileEntry | Skip]:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(open_hash_file(path).entries())


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (HEAD + '{"MD5": "x",}]}', r"line 2, column 24: malformed JSON"),
        (HEAD + '{"MD5": "x"} {"MD5": "y"}]}', r"line 2, column 25: '\{' where ',' was expected, between two elements"),
        (HEAD + '{"MD5": "x"}]} trailing', r"line 2, column 27: more text after the end"),
        (HEAD + '{"MD5": "x", "MD5": "y"}]}', r"line 2, column 30: the key 'MD5' is given twice"),
        ('{"value": [], "value": []}', r"the key 'value' is given twice"),
        (HEAD + "[" * 100_000, r"nested too deeply"),
        ('{"value":' * 100_000, r"nested too deeply|expected"),
        ('{"value": 17}', r"no list `value` with media"),
        ("{}", r"no list `value` with media"),
        ('{"a": 1', r"the file ends .*truncated"),
        (NCMEC + "<images><image></images>", r"line 1, column \d+: mismatched tag"),
        ("<a/>", r"the root element is of namespace ''"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + NCMEC + "&b;</queryResult>", r"a document type or entity"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd">' + NCMEC + "</queryResult>", r"a document type or entity"),
        (NCMEC + "<a>" * 50, r"nested too deeply"),
        ("md5,series\n" + MD5 + ',"' + "x" * 9_000_000 + '"\n', r"line 2 is longer than|field larger than"),
        ("md5\n" + "a" * (MAX_LINE + 5), r"line 2 is longer than"),
        ("md5,MD5\n", r"the column md5 is named twice"),
        ("series,tags\n", r"no column names a hash algorithm"),
        ("ab" * 32, r"64 hex digits may be sha256 or pdq: say which with --algorithm"),
        ("what is this", r"not recognised; known are"),
        ("", r"the file is empty"),
        (b"PK\x03\x04abc", r"a ZIP archive"),
        (b"\x00\x01\x02\x03" * 100, r"not recognised"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path: Path, content: str | bytes, error: str) -> None:
    with pytest.raises(FormatError, match=error):
        entries(tmp_path, content)


def test_a_huge_value_on_one_line_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("w") as file:
        file.write(HEAD + '{"MD5": "')
        for _ in range(4 * MAX_VALUE >> 20):
            file.write("a" * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="longer than 16 MiB"):
            list(open_hash_file(path).entries())
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_VALUE
    finally:
        tracemalloc.stop()


def test_a_long_set_on_one_line_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    with path.open("w") as file:
        file.write(HEAD)
        file.write(",".join(json.dumps({"MD5": code(Algorithm.MD5, 1).hex(), "Comments": "x" * 700}) for _ in range(20_000)))
        file.write("]}")
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_hash_file(path).entries()) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_control_characters_and_path_tricks_stay_plain_text(tmp_path: Path) -> None:
    item = {"MD5": MD5, "Series": "a\x1b[31m\nb\x00c\ud800", "RelativeFilePath": "..\\..\\etc\\passwd", "Tags": "=cmd|x"}
    (entry,) = entries(tmp_path, HEAD + json.dumps(item) + "]}")
    assert isinstance(entry, FileEntry)
    assert entry.values == {"series": "a [31m b c", "tags": ("=cmd|x",)}


@_FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_end_in_entries_or_a_clear_error(tmp_path: Path, content: bytes) -> None:
    check(tmp_path, content)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([MD5, "true", "", "d" * 192]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from(
    ["MD5", "SHA1", "PhotoDNA", "Category", "MediaSize", "VictimIdentified", "Series", "Tags", "MediaFiles", "AlternativeHashes", "Media"]
)


@_FUZZ
@given(items=st.lists(st.dictionaries(_KEYS, _JSON, max_size=8) | _JSON, max_size=6), cut=st.integers(0, 40))
def test_any_vics_of_the_right_outline_ends_in_entries_or_a_clear_error(tmp_path: Path, items: list[object], cut: int) -> None:
    content = json.dumps({"@odata.context": "http://x/2.0.xml/US/$metadata#Cases", "value": items})
    check(tmp_path, content[: len(content) - cut].encode())


@_FUZZ
@given(rows=st.lists(st.lists(st.text(max_size=10) | st.sampled_from([MD5, "y", "n", '"', ";"]), max_size=13), max_size=5))
def test_any_ragged_icse_file_ends_in_entries_or_a_clear_error(tmp_path: Path, rows: list[list[str]]) -> None:
    header = "MD5;SHA1;PhotoDNA;Image ID;Is distributed;Victim identified;Offender identified;Series name"
    check(tmp_path, "\n".join([header, *(";".join(row) for row in rows)]).encode("utf-8", "surrogatepass"))


@_FUZZ
@given(
    parts=st.lists(st.sampled_from(["<images>", "<image>", "<id>1</id>", "</image>", "</images>", "<fingerprints>", "<md5>" + MD5, "&lt;"]))
)
def test_any_xml_of_the_right_elements_ends_in_entries_or_a_clear_error(tmp_path: Path, parts: list[str]) -> None:
    check(tmp_path, (NCMEC + "".join(parts) + "</queryResult>").encode())


def check(folder: Path, content: bytes) -> None:
    try:
        found = entries(folder, content)
    except FormatError:
        return
    for entry in found:
        if isinstance(entry, FileEntry):
            assert entry.codes or entry.retracts
            assert all(len(text) == _SIZES[name] for name, text in entry.codes.items())
