"""Lists as other tools write them: recognised by the columns needed; what is passed over is named."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.recognise import open_hash_file

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
