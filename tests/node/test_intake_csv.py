"""Hashes from a CSV file: good rows become records, bad rows are named by line, a bad file is refused whole."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidfed.index import Algorithm
from vidfed.node.errors import ImportFileError
from vidfed.node.intake import Skipped, parse_ternary, read_csv
from vidfed.node.records import Record
from vidfed.wire.values import HandlingCode, Ternary

if TYPE_CHECKING:
    from pathlib import Path

MD5 = "0123456789abcdef" * 2
SHA = "0123456789abcdef" * 4


def read(tmp_path: Path, content: str | bytes, template: Record | None = None) -> tuple[list[Record], list[str]]:
    path = tmp_path / "hashes.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    skipped = Skipped()
    return list(read_csv(path, template or Record({}), skipped, lambda _: None)), skipped.lines


def test_a_row_becomes_a_record(tmp_path: Path) -> None:
    header = "md5,sha256,pdq_quality,size_bytes,victim_identified,handling_code,tags,series,case_reference\n"
    (record,), skipped = read(tmp_path, f'{header}{MD5},{SHA.upper()},80,1000,YES,h2,"a, b",Tulip,C-1\n')
    assert skipped == []
    assert record.hashes == {Algorithm.MD5: bytes.fromhex(MD5), Algorithm.SHA256: bytes.fromhex(SHA)}
    assert (record.pdq_quality, record.size_bytes, record.victim_identified) == (80, 1000, Ternary.YES)
    assert (record.handling_code, record.tags, record.series, record.case_reference) == (HandlingCode.H2, ("a", "b"), "Tulip", "C-1")


def test_what_the_file_does_not_say_comes_from_the_template(tmp_path: Path) -> None:
    template = Record({}, series="default", case_contact="desk")
    (one, other), _ = read(tmp_path, f"md5,series\n{MD5},\n{MD5[::-1]},own\n", template)
    assert (one.series, one.case_contact, other.series) == ("default", "desk", "own")
    assert one.reference != other.reference


@pytest.mark.parametrize("content", [f"md5;series\r\n{MD5};S\r\n", f"\ufeffMD5, Series\n{MD5},S\n", f'"md5","series"\n"{MD5}","S"'])
def test_other_dialects_are_read(tmp_path: Path, content: str) -> None:
    (record,), skipped = read(tmp_path, content)
    assert (record.series, skipped) == ("S", [])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"{MD5[:-1]},,,,", "line 3: MD5: 31 characters, expected 32 hex digits"),
        (f"{'g' * 32},,,,", "line 3: MD5: not hex"),
        (",,,,", "line 3: no hash"),
        (f"{MD5},,maybe,,", "line 3: 'maybe' is not yes, no or unknown"),
        (f"{MD5},,,H9,", "line 3: handling_code must be one of H0, H1, H2, H3"),
        (f"{MD5},,,,101", "line 3: pdq_quality must be a whole number from 0 to 100"),
        (f"{MD5},,,,-1", "line 3: pdq_quality"),
        (f"{MD5},,,,\N{SUPERSCRIPT TWO}", "line 3: pdq_quality"),
        (f"{MD5},x\x1b[2J,,,", "line 3: series must be at most 500 printable characters"),
        (f"{MD5},{'x' * 501},,,", "line 3: series must be at most"),
        ("d41d8cd98f00b204e9800998ecf8427e,,,,", "line 3: the digest of an empty file"),
        (f"{MD5},a", "line 3: 2 values for 5 columns"),
        (f"{MD5},a,b,c,d,e,f", "line 3: 7 values for 5 columns"),
    ],
)
def test_a_bad_row_is_named_by_line_and_the_others_are_taken(tmp_path: Path, row: str, said: str) -> None:
    content = f"md5,series,victim_identified,handling_code,pdq_quality\n{MD5},,,,\n{row}\n{MD5[::-1]},,,,\n"
    records, skipped = read(tmp_path, content)
    assert len(records) == 2
    assert len(skipped) == 1
    assert skipped[0].startswith(said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no column"),
        ("series\nx\n", "no column names a hash algorithm"),
        ("md5,md5\n", "named twice"),
        ("md5,colour\n", "'colour' is no column"),
        (b"md5\n\xff\xfe\n", "not UTF-8"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not UTF-8"),
        ('md5\n"' + "x" * 200_000, "not a CSV file"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_whole(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(ImportFileError, match=said):
        read(tmp_path, content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match=r"none\.csv: No such file"):
        list(read_csv(tmp_path / "none.csv", Record({}), Skipped(), lambda _: None))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_import_errors(tmp_path: Path, content: bytes) -> None:
    for body in (content, b"md5,series\n" + content):
        with contextlib.suppress(ImportFileError):
            read(tmp_path, body)


@pytest.mark.parametrize(("text", "value"), [("Y", Ternary.YES), (" no ", Ternary.NO), ("", Ternary.UNKNOWN), ("FALSE", Ternary.NO)])
def test_yes_no_and_unknown_have_many_spellings(text: str, value: Ternary) -> None:
    assert parse_ternary(text) is value
