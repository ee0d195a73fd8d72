"""Ways into the record store: a folder of pictures, or a CSV file of hashes. No picture is kept."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Protocol, TextIO

from vidfed.index import Algorithm, HashTextError
from vidfed.node.errors import ImportFileError
from vidfed.node.records import Record
from vidfed.wire.values import MAX_TEXT, HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vidfed.index.hashing import PictureHashes

_TERNARY = {"yes": Ternary.YES, "y": Ternary.YES, "true": Ternary.YES, "t": Ternary.YES, "1": Ternary.YES}
_TERNARY |= {"no": Ternary.NO, "n": Ternary.NO, "false": Ternary.NO, "f": Ternary.NO, "0": Ternary.NO}
_TERNARY |= {"unknown": Ternary.UNKNOWN, "": Ternary.UNKNOWN}
_TERNARY_FIELDS = ("victim_identified", "offender_identified", "distributed")
_NUMBER_FIELDS = {"pdq_quality": 100, "size_bytes": 2**63 - 1}
_TEXT_FIELDS = tuple(field.name for field in fields(Record) if field.type == "str" and field.name != "reference")
CSV_COLUMNS = (*(a.value for a in Algorithm), *_NUMBER_FIELDS, *_TERNARY_FIELDS, "handling_code", "tags", *_TEXT_FIELDS)
_EMPTY_FILE = {Algorithm.MD5: "d41d8cd98f00b204e9800998ecf8427e"}
_EMPTY_FILE |= {Algorithm.SHA1: "da39a3ee5e6b4b0d3255bfef95601890afd80709"}
_EMPTY_FILE |= {Algorithm.SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}


class _Rows(Protocol):
    """What csv.reader gives, whose own type has no public name."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


@dataclass(slots=True)
class Skipped:
    """Rows that were left out, each as `line N: why`."""

    lines: list[str] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        """Note one row."""
        self.lines.append(f"line {line}: {reason}")


def record_of_picture(picture: PictureHashes, template: Record) -> Record:
    """Return `template` with a picture's hashes: what is known of the case, and what was measured on the file."""
    return replace(
        template,
        hashes={each.algorithm: each.code for each in picture.hashes},
        pdq_quality=picture.pdq_quality,
        size_bytes=picture.size_bytes,
        mime_type=picture.mime_type,
        reference=Record(hashes={}).reference,
    )


def read_csv(path: Path, template: Record, skipped: Skipped, on_line: Callable[[int], None]) -> Iterator[Record]:
    """Yield the records of a CSV file with a header that names its columns from CSV_COLUMNS; comma or semicolon, UTF-8.

    A row that cannot be used is noted in `skipped`; a value the file does not give is taken from `template`.

    Args:
        path: the file.
        template: defaults for all rows.
        skipped: gets the rows left out.
        on_line: called with the line number after each row.

    Raises:
        ImportFileError: the file as a whole cannot be read; nothing of it may be used.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows, columns = _open_csv(path, file)
            for row in rows:
                try:
                    yield _record_of_row(dict(zip(columns, row, strict=True)), template)
                except (HashTextError, ValueError) as error:
                    skipped.add(rows.line_num, _reason(error, columns, row))
                on_line(rows.line_num)
    except UnicodeDecodeError as error:
        raise ImportFileError(f"{path}: not UTF-8 text (byte {error.start}); export it as UTF-8") from None
    except csv.Error as error:
        raise ImportFileError(f"{path}: not a CSV file: {error}") from None
    except OSError as error:
        raise ImportFileError(f"{path}: {error.strerror}") from None


def parse_ternary(text: str) -> Ternary:
    """Read yes, no or unknown in the spellings in use; empty is unknown.

    Raises:
        ValueError: something else.
    """
    try:
        return _TERNARY[text.strip().lower()]
    except KeyError:
        raise ValueError(f"{text!r:.40} is not yes, no or unknown") from None


def _open_csv(path: Path, file: TextIO) -> tuple[_Rows, list[str]]:
    header = file.readline()
    delimiter = ";" if header.count(";") > header.count(",") else ","
    columns = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if unknown := [name for name in columns if name not in CSV_COLUMNS]:
        known = ", ".join(CSV_COLUMNS)
        raise ImportFileError(f"{path}: line 1: {unknown[0]!r:.60} is no column; the first line must name the columns, from: {known}")
    if not {algorithm.value for algorithm in Algorithm} & set(columns):
        raise ImportFileError(f"{path}: line 1: no column names a hash algorithm")
    if len(set(columns)) != len(columns):
        raise ImportFileError(f"{path}: line 1: a column is named twice")
    file.seek(0)
    rows = csv.reader(file, delimiter=delimiter)
    next(rows)
    return rows, columns


def _record_of_row(row: dict[str, str], template: Record) -> Record:
    hashes = {}
    for algorithm in Algorithm:
        if text := row.get(algorithm.value, "").strip():
            hashes[algorithm] = algorithm.parse(text)
            if text.lower() == _EMPTY_FILE.get(algorithm):
                raise ValueError("the digest of an empty file says nothing about a picture")
    if not hashes:
        raise ValueError("no hash")
    values: dict[str, object] = {"hashes": hashes, "reference": Record(hashes={}).reference}
    for name, text in row.items():
        stripped = text.strip()
        if not stripped:
            continue
        if name in _TERNARY_FIELDS:
            values[name] = parse_ternary(stripped)
        elif name in _NUMBER_FIELDS:
            values[name] = _number(name, stripped)
        elif name == "handling_code":
            values[name] = _handling(stripped)
        elif name == "tags":
            values[name] = tuple(tag.strip() for tag in _text(name, stripped).split(",") if tag.strip())
        elif name in _TEXT_FIELDS:
            values[name] = _text(name, stripped)
    return replace(template, **values)  # type: ignore[arg-type]  # each value was made for its field above


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > _NUMBER_FIELDS[name]:
        raise ValueError(f"{name} must be a whole number from 0 to {_NUMBER_FIELDS[name]}")
    return int(text)


def _handling(text: str) -> HandlingCode:
    try:
        return HandlingCode[text.upper()]
    except KeyError:
        raise ValueError(f"handling_code must be one of {', '.join(code.name for code in HandlingCode)}") from None


def _text(name: str, text: str) -> str:
    if len(text) > MAX_TEXT or not text.isprintable():
        raise ValueError(f"{name} must be at most {MAX_TEXT} printable characters")
    return text


def _reason(error: Exception, columns: list[str], row: list[str]) -> str:
    if len(columns) != len(row):
        return f"{len(row)} values for {len(columns)} columns"
    return str(error)
