"""Formats with one item a line: CSV with a header, ICSE's hash CSV, plain lists."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from vidfed.formats import values as read
from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.fields import ALIASES, FIELDS, RESTRICTING, field_value
from vidfed.formats.list_read import algorithm_of
from vidfed.formats.source import MAX_LINE
from vidfed.index import Algorithm
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.formats.source import Source

_ICSE_FLAGS = {"is distributed": "distributed", "victim identified": "victim_identified", "offender identified": "offender_identified"}
_ICSE_CODES = {"md5": "md5", "sha1": "sha1", "photodna": "photodna"}
ICSE_COLUMNS = (
    *_ICSE_CODES,
    "image id",
    *_ICSE_FLAGS,
    "series name",
    "number of submissions",
    "file available",
    "media type",
    "baseline",
)
BASELINE_SCALE = "interpol-baseline"
_HASH_COLUMNS = {"hash", "hash_value", "hashvalue", "digest", "checksum", "file_hash", "filehash"}
_NAME_COLUMNS = {"hash_type", "hashtype", "hash_name", "hashname", "algorithm", "hash_algorithm"}
_FILE_NAME = "file_name"
_HASH, _NAME, _FURTHER = "a hash whose length tells its algorithm", "the algorithm of that hash", "further"
_ALGORITHMS = frozenset(algorithm.value for algorithm in Algorithm)


def _rows(source: Source, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, values), blank lines left out, and what stands before the header: comments, and Excel's `sep=;`."""
    csv.field_size_limit(MAX_LINE)
    rows = csv.reader(source.lines(), delimiter=delimiter, strict=True)
    begins, in_header = 1, True
    try:
        for row in rows:
            if any(value.strip() for value in row) and not (in_header and is_preamble(row[0])):
                in_header = False
                yield rows.line_num, row
            begins = rows.line_num + 1
    except csv.Error as error:
        words = "a quote that is opened here is never closed" if "unexpected end" in str(error) else str(error)
        raise FormatError(f"{source.path}: line {begins}: not a CSV file: {words}") from None


def is_preamble(line: str) -> bool:
    """Return whether a line before a header says nothing: blank, a comment, or Excel's `sep=;`."""
    text = line.strip()
    return not text or text.startswith(("#", "//")) or text.casefold().startswith("sep=")


def header_line(head: str) -> str:
    """Return the first line of a file that is no preamble; empty where there is none."""
    return next((line for line in head.splitlines() if not is_preamble(line)), "")


def delimiter_of(header: str) -> str:
    """Return what separates the columns of this header."""
    return max(",;\t|", key=header.count)


def column_name(header: str) -> str | None:
    """Return the algorithm or the record's field that a column's header names, or None."""
    plain = header.strip().strip('"').casefold().replace(" ", "_").replace("-", "_")
    for name in (plain, plain.removesuffix("_hash"), plain.removesuffix("_value").removesuffix("_hash")):
        if (algorithm := read.algorithm_name(name)) is not None:
            return algorithm
    if plain in FIELDS or plain == _FURTHER:
        return plain
    if plain in _HASH_COLUMNS:
        return _HASH
    if plain in {_FILE_NAME, "filename"}:
        return _FILE_NAME
    return _NAME if plain in _NAME_COLUMNS else ALIASES.get(plain)


def read_csv(source: Source, algorithm: str | None, notes: list[str]) -> Iterator[FileEntry | Skip]:
    """Yield the entries of a CSV file whose header names the columns: algorithms, and fields of a record. Others are passed over.

    Args:
        source: the file.
        algorithm: what a column `Hash` holds, where the length does not tell.
        notes: gets the columns that are passed over.

    Raises:
        FormatError: a column is named twice, none names an algorithm, or it is no CSV.
    """
    rows = _rows(source, delimiter_of(header_line(source.head)))
    at, header = next(rows, (1, []))
    columns: list[str | None] = []
    passed_over = []
    for text in header:
        name = column_name(text)
        if name is None and text.strip():
            passed_over.append(f"{text.strip()!r:.60}")
        if name is not None and name in columns:
            raise FormatError(f"{source.path}: line {at}: the column {name} is named twice")
        columns.append(name)
    if not (_ALGORITHMS | {_HASH}) & set(columns):
        raise FormatError(f"{source.path}: line {at}: no column names a hash algorithm: {', '.join(sorted(_ALGORITHMS))}, or hash")
    if passed_over:
        notes.append(f"columns passed over: {', '.join(passed_over)}")
    numbers = columns.index("photodna") if "photodna" in columns else -1
    for line, cells in rows:
        row = cells
        if numbers >= 0 and len(row) > len(columns):
            row = _with_numbers_joined(row, numbers, len(columns))
        if len(row) < len(columns) or any(value.strip() for value in row[len(columns) :]):
            yield Skip(line, f"{len(row)} values for {len(columns)} columns")
            continue
        try:
            yield _entry(line, {name: value for name, value in zip(columns, row, strict=False) if name is not None}, algorithm)
        except _AmbiguousError as error:
            raise FormatError(f"{source.path}: line {line}: {error}") from None


class _AmbiguousError(Exception):
    """A hash whose length does not tell its algorithm."""


def _with_numbers_joined(row: list[str], at: int, columns: int) -> list[str]:
    """Return a row whose PhotoDNA was written as 144 numbers without quotes, so that each stands in a cell of its own."""
    cells = row[at : at + Algorithm.PHOTODNA.code_bytes]
    if len(row) < columns - 1 + len(cells) or not all(cell.strip().isdecimal() for cell in cells):
        return row
    return [*row[:at], ",".join(cells), *row[at + len(cells) :]]


def _entry(line: int, row: dict[str, str], algorithm: str | None) -> FileEntry | Skip:
    """Read a row. A value that cannot be read is named and left out, unless the record would be told to more than it should be."""
    entry = FileEntry(line, {}, {})
    for name, text in row.items():
        value = text.strip()
        if not value or name == _NAME:
            continue
        try:
            if name in _ALGORITHMS:
                entry.codes[name] = read.read_code(name, value)
            elif name == _HASH:
                _read_hash(entry, value, row.get(_NAME, ""), algorithm)
            elif name == _FURTHER:
                entry.further = read.read_further(value)
            elif name == _FILE_NAME:
                entry.file_name = read.unguarded(value)
            elif (said := field_value(name, read.unguarded(value))) is not Ternary.UNKNOWN:
                entry.values[name] = said
        except read.EmptyFileError as error:
            return Skip(line, str(error))
        except ValueError as error:
            if name in RESTRICTING:
                return Skip(line, str(error))
            entry.notes.append(f"{error}; left out")
    return entry if entry.codes or entry.further else Skip(line, "; ".join(["no usable hash", *entry.notes]))


def _read_hash(entry: FileEntry, value: str, said: str, algorithm: str | None) -> None:
    """Read the value of a column that says no more than `Hash`."""
    name = read.algorithm_name(said) if said.strip() else None
    try:
        name = name or algorithm_of(value, algorithm)
    except ValueError as error:
        raise _AmbiguousError(str(error)) from None
    if name is None:
        raise ValueError(f"hash: {len(value)} characters: the length of no hash")
    entry.codes.setdefault(name, read.read_code(name, value))


def read_icse(source: Source, notes: list[str]) -> Iterator[FileEntry | Skip]:
    """Yield the entries of an ICSE hash CSV: `;`-separated, flags in several spellings, ragged rows.

    A row with too many values had a `;` in its series: what stands before the series is sure and is taken.

    Raises:
        FormatError: it is no CSV.
    """
    rows = _rows(source, ";")
    _, header = next(rows)
    columns = [name.strip().casefold() for name in header]
    if passed_over := [f"{name.strip()!r:.60}" for name in header if name.strip() and name.strip().casefold() not in ICSE_COLUMNS]:
        notes.append(f"columns passed over: {', '.join(passed_over)}")
    for line, row in rows:
        entry = FileEntry(line, {}, {})
        used = columns
        if any(value.strip() for value in row[len(columns) :]):
            used = columns[: columns.index("series name")] if "series name" in columns else columns
            entry.notes.append(f"{len(row)} values for {len(columns)} columns; those after the flags were left out")
        try:
            _icse_row(entry, dict(zip(used, row, strict=False)))
        except read.EmptyFileError as error:
            yield Skip(line, str(error))
            continue
        yield entry if entry.codes else Skip(line, "; ".join(["no usable hash", *entry.notes]))


def _icse_row(entry: FileEntry, row: dict[str, str]) -> None:
    for name, text in row.items():
        value = text.strip()
        if not value:
            continue
        try:
            if name in _ICSE_CODES:
                entry.codes[name] = read.read_code(name, value)
            elif name in _ICSE_FLAGS:
                if (said := read.ternary(value)) is not Ternary.UNKNOWN:
                    entry.values[_ICSE_FLAGS[name]] = said
            elif name == "series name":
                entry.values["series"] = read.text(value)
            elif name == "media type":
                entry.values["mime_type"] = read.text(value)
            elif name == "image id":
                entry.values["case_reference"] = read.text(f"ICSE {value}")
            elif name == "baseline" and (said := read.ternary(value)) is not Ternary.UNKNOWN:
                entry.values |= {"category": said.code, "category_scale": BASELINE_SCALE}
        except read.EmptyFileError:
            raise
        except ValueError as error:
            entry.notes.append(f"{name}: {error}; left out")
