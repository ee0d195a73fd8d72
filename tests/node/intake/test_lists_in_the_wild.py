"""Lists as other tools write them: recognised by the columns needed; what is passed over is named."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vidfed.federation.lookup.errors import QuestionError
from vidfed.federation.lookup.items import items_of_hashes
from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.recognise import open_hash_file
from vidfed.formats.values import guarded, unguarded
from vidfed.index import Algorithm
from vidfed.index.texts import read_code_text

if TYPE_CHECKING:
    from pathlib import Path

MD5, SHA1 = hashlib.md5(b"x").hexdigest(), hashlib.sha1(b"x").hexdigest()
BOTH = {"md5": bytes.fromhex(MD5), "sha1": bytes.fromhex(SHA1)}
ICSE = (
    "MD5;SHA1;ZZ40;PhotoDNA;Lace;Image ID;Is distributed;Victim identified;Offender identified;Series name;Investigation name;Agency;"
    "Number of submissions;File Available;Media Type;Baseline"
)


def read(path: Path, text: str) -> tuple[str, list[FileEntry | Skip], list[str]]:
    path.write_text(text, encoding="utf-8")
    file = open_hash_file(path)
    entries = list(file.entries())
    return file.format, entries, file.notes


def test_icse_with_columns_we_do_not_know_is_icse_and_they_are_named(tmp_path: Path) -> None:
    row = f"{MD5};{SHA1};A;;B;7;Y;N;N;Tulip;Inv;Ag;3;True;Image;Yes;\n"
    form, (entry,), notes = read(tmp_path / "a.csv", f"{ICSE}\n{row}")
    assert isinstance(entry, FileEntry)
    assert (form, entry.codes, entry.values["series"]) == ("icse", BOTH, "Tulip")
    assert notes == ["columns passed over: 'ZZ40', 'Lace', 'Investigation name', 'Agency'"]


@pytest.mark.parametrize(
    "text",
    [
        f'"SHA-1","FileName","MD5","CRC32"\n"{SHA1.upper()}","a,b.png","{MD5.upper()}","00"\n',
        f"sep=;\nmd5;sha1\n{MD5};{SHA1}\n",
        f"# made by a tool\n\nMD5 Hash,SHA1 Hash,\n{MD5},{SHA1},\n",
        f"{MD5},{SHA1}\n",
        f'"{SHA1}";"{MD5}"\n',
        f"{MD5}\t{SHA1}\n",
    ],
    ids=["nsrl", "sep", "comment", "headerless", "quoted", "tab"],
)
def test_lists_with_and_without_a_header_are_read(tmp_path: Path, text: str) -> None:
    _, (entry,), _ = read(tmp_path / "a.txt", text)
    assert isinstance(entry, FileEntry)
    assert entry.codes == BOTH


@pytest.mark.parametrize(
    "text", [f"MD5 (a (1) = b.jpg) = {MD5}\n", f"\\{MD5}  a\\nb.jpg\n", f"{MD5} *a.jpg\n"], ids=["bsd", "escaped", "binary"]
)
def test_what_programs_for_digests_print_is_read(tmp_path: Path, text: str) -> None:
    _, (entry,), _ = read(tmp_path / "a.txt", text)
    assert isinstance(entry, FileEntry)
    assert entry.codes == {"md5": BOTH["md5"]}


def test_an_open_quote_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"line 3: .*never closed"):
        read(tmp_path / "a.csv", f'md5,series\n{MD5},A\n{MD5},"B\n{MD5},C\n{MD5},D\n')


def test_a_page_of_html_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="HTML"):
        read(tmp_path / "a.xml", "<!DOCTYPE html><html><body>404</body></html>")


FORMS = {
    "upper": MD5.upper(),
    "braces": f"{{{MD5}}}",
    "0x": f"0x{MD5}",
    "uuid": f"{MD5[:8]}-{MD5[8:12]}-{MD5[12:16]}-{MD5[16:20]}-{MD5[20:]}",
    "spaces": bytes.fromhex(MD5).hex(" "),
    "colons": bytes.fromhex(MD5).hex(":"),
    "base64": base64.b64encode(bytes.fromhex(MD5)).decode(),
    "base64 of URLs": base64.urlsafe_b64encode(bytes.fromhex(MD5)).decode().rstrip("="),
    "decimals": str(list(bytes.fromhex(MD5))),
}
PHOTODNA = bytes(range(10, 154))


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_a_hash_is_read_in_every_form_at_every_door(tmp_path: Path, text: str) -> None:
    _, (of_csv,), _ = read(tmp_path / "a.csv", f'md5,series\n"{text}",A\n')
    _, (of_vics,), _ = read(tmp_path / "a.json", json.dumps({"value": [{"MediaID": 1, "MD5": text}]}))
    assert [each.codes for each in (of_csv, of_vics) if isinstance(each, FileEntry)] == [{"md5": BOTH["md5"]}] * 2
    (asked,) = items_of_hashes([f"md5:{text}"])
    assert asked.codes == {Algorithm.MD5: (BOTH["md5"],)}


@settings(deadline=None)
@given(st.sampled_from(list(Algorithm)), st.binary(min_size=144, max_size=144), st.sampled_from(["hex", "base64", ", ", ";", " "]))
def test_no_form_is_taken_for_another(algorithm: Algorithm, random: bytes, form: str) -> None:
    code = random[: algorithm.code_bytes]
    texts = {"hex": code.hex(), "base64": base64.b64encode(code).decode()}
    text = texts.get(form, form.join(map(str, code)))
    assume(form != " " or any(len(number) != 2 for number in text.split()))
    assert algorithm.parse(text) == code
    assert read_code_text(text, algorithm.code_bytes + 1) is None


@pytest.mark.parametrize("text", ["[" + ", ".join(map(str, PHOTODNA)) + "]", ",".join(map(str, PHOTODNA)), " ".join(map(str, PHOTODNA))])
def test_photodna_in_decimals_is_read_with_and_without_a_header(tmp_path: Path, text: str) -> None:
    quoted = text if "[" not in text else f'"{text}"'
    for content in (f"photodna\n{quoted}\n", f"{text}\n"):
        _, (entry,), _ = read(tmp_path / "a.csv", content)
        assert isinstance(entry, FileEntry)
        assert entry.codes == {"photodna": PHOTODNA}


@pytest.mark.parametrize("none", ["0", "0" * 32, "N/A", "null", "-"])
def test_what_stands_for_none_loses_no_row(tmp_path: Path, none: str) -> None:
    _, (entry,), _ = read(tmp_path / "a.csv", f"md5,sha1\n{none},{SHA1}\n")
    assert isinstance(entry, FileEntry)
    assert entry.codes == {"sha1": BOTH["sha1"]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pdq:" + "0" * 64, "all zeros"),
        ("md5:" + "0" * 32, "all zeros"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "empty file"),
        ("pdq:" + "0" * 63 + "3", "too plain"),
        ("pdq:" + "f" * 64, "too plain"),
        ("dhash:" + "0" * 15 + "1", "too plain"),
        ("photodna:" + "00" * 140 + "01020304", "too plain"),
    ],
)
def test_a_worthless_hash_is_refused_at_every_door(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(QuestionError, match=why):
        items_of_hashes([text])
    name, _, value = text.partition(":")
    _, (of_csv,), _ = read(tmp_path / "a.csv", f"{name}\n{value}\n")
    assert isinstance(of_csv, Skip)
    assert why in of_csv.reason


def test_a_plain_hash_is_asked_by_those_who_insist_and_what_matches_it_is_weak() -> None:
    (item,) = items_of_hashes(["pdq:" + "0" * 63 + "3"], any_quality=True)
    assert item.notes == ("pdq: too plain: nearly that of a blank picture, and so of anything",)


def test_hashdeep_is_read_with_commas_in_names(tmp_path: Path) -> None:
    head = "%%%% HASHDEEP-1.0\n%%%% size,md5,sha1,filename\n## Invoked from: /x\n##\n"
    form, (entry,), _ = read(tmp_path / "a.txt", f"{head}12,{MD5},{SHA1},/a/b, c.jpg\n")
    assert isinstance(entry, FileEntry)
    assert (form, entry.codes, entry.values) == ("hashdeep", BOTH, {"size_bytes": 12})


@pytest.mark.parametrize("header", ["Hash", "Hash Value", "File Hash"])
def test_a_column_of_hashes_without_an_algorithm_is_told_by_length(tmp_path: Path, header: str) -> None:
    form, entries, _ = read(tmp_path / "a.csv", f"{header},Category\n{MD5},1\n{SHA1},2\n")
    assert [each.codes for each in entries if isinstance(each, FileEntry)] == [{"md5": BOTH["md5"]}, {"sha1": BOTH["sha1"]}]
    assert form == "csv"
    with pytest.raises(FormatError, match=r"line 2: 64 hex digits may be sha256 or pdq"):
        read(tmp_path / "a.csv", f"{header}\n{'ab' * 32}\n")
    _, (told,), _ = read(tmp_path / "a.csv", f"{header},Algorithm\n{'ab' * 32},SHA-256\n")
    assert isinstance(told, FileEntry)
    assert told.codes == {"sha256": b"\xab" * 32}


def test_lines_may_end_in_cr_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"md5,series\r{MD5},A\r{MD5[::-1]},B\r".encode())
    assert len(list(open_hash_file(path).entries())) == 2


def test_what_is_not_utf_8_is_read_as_windows_wrote_it_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"md5,series\n{MD5},Z\xfcrich\n".encode("cp1252"))
    file = open_hash_file(path)
    (entry,) = file.entries()
    assert isinstance(entry, FileEntry)
    assert (entry.values["series"], file.notes) == (
        "Z\u00fcrich",
        ["1 lines are not UTF-8 and were read as Windows-1252; no hash is concerned"],
    )


def test_an_nsrl_database_is_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rds.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE METADATA (sha256 TEXT, sha1 TEXT, md5 TEXT, file_name TEXT, file_size INTEGER)")
        database.execute("INSERT INTO METADATA VALUES (NULL, ?, ?, 'a', 7), ('', 'short', '', 'b', 1)", (SHA1.upper(), MD5.upper()))
        database.execute("CREATE VIEW FILE AS SELECT * FROM METADATA")
        database.commit()
    file = open_hash_file(path)
    entry, skipped = file.entries()
    assert isinstance(entry, FileEntry)
    assert isinstance(skipped, Skip)
    assert (file.label, entry.codes, entry.values) == ("NSRL RDSv3 database", BOTH, {"size_bytes": 7})
    assert file.notes == ["columns passed over: 'file_name'"]


@given(st.text("=+-@'; ,|\t\nax\uff1d\uff1b", max_size=12))
def test_what_is_guarded_against_spreadsheets_is_read_back_as_it_was(text: str) -> None:
    safe = guarded(text)
    assert unguarded(safe) == text
    assert all(not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\uff1d")) for cell in re.split("[;,|\t\n\uff1b]", safe))
