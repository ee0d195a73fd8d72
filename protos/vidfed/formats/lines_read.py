"""Formats with one item a line: CSV with a header, ICSE's hash CSV, plain lists."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from vidfed.formats import values as read
from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.fields import ALIASES, FIELDS, field_value
from vidfed.index import Algorithm
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
_BSD = re.compile(r"\\?([A-Za-z0-9-]+) ?\(.*\) ?= ?([0-9A-Fa-f]+)")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_SEPARATORS = re.compile(r"[,;\t]")
_UNAMBIGUOUS = {32: "md5", 40: "sha1", 192: "photodna", 288: "photodna"}  # characters


def _rows(source: Source, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, values), blank lines left out, and what stands before the header: comments, and Excel's `sep=;`."""
    csv.field_size_limit(1 << 20)
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
    if plain in FIELDS:
        return plain
    return ALIASES.get(plain)


def read_csv(source: Source, notes: list[str]) -> Iterator[FileEntry | Skip]:
    """Yield the entries of a CSV file whose header names the columns: algorithms, and fields of a record. Others are passed over.

    Args:
        source: the file.
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
    algorithms = {algorithm.value for algorithm in Algorithm}
    if not algorithms & set(columns):
        raise FormatError(f"{source.path}: line {at}: no column names a hash algorithm: {', '.join(algorithms)}")
    if passed_over:
        notes.append(f"columns passed over: {', '.join(passed_over)}")
    for line, row in rows:
        if len(row) < len(columns) or any(value.strip() for value in row[len(columns) :]):
            yield Skip(line, f"{len(row)} values for {len(columns)} columns")
            continue
        yield _entry(line, {name: value for name, value in zip(columns, row, strict=False) if name is not None}, algorithms)


def _entry(line: int, row: dict[str, str], algorithms: set[str]) -> FileEntry | Skip:
    """Read a row strictly: such a file was made for us, so what cannot be read is a mistake."""
    entry = FileEntry(line, {}, {})
    try:
        for name, text in row.items():
            value = text.strip()
            if not value:
                continue
            if name in algorithms:
                entry.codes[name] = read.read_code(name, value)
            elif (said := field_value(name, value)) is not Ternary.UNKNOWN:
                entry.values[name] = said
    except ValueError as error:
        return Skip(line, str(error))
    return entry if entry.codes else Skip(line, "no hash")


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


def read_list(source: Source, algorithm: str | None) -> Iterator[FileEntry | Skip]:
    """Yield the entries of a list: one hash a line, or `algorithm:hash`; what follows a hash after a space is passed over.

    Args:
        source: the file.
        algorithm: name of the algorithm; None: told by the length, where that tells it.

    Raises:
        FormatError: the length does not tell the algorithm.
    """
    for line, text in enumerate(source.lines(), 1):
        stripped = text.strip()
        if not stripped or stripped.startswith(("#", "//", ";")):
            continue
        if several := digests_of_line(stripped):
            yield _entry(line, several, set(several))
            continue
        prefix, colon, rest = stripped.partition(":")
        named = read.algorithm_name(prefix) if colon else None
        value = _first(rest if named else stripped)
        name = named or algorithm or _UNAMBIGUOUS.get(len(value))
        if name is None and len(value) in {16, 64} and not set(value.casefold()) - set("0123456789abcdef"):
            choice = "sha256 or pdq" if len(value) == 64 else "phash, dhash, ahash or whash"  # noqa: PLR2004 - 32 bytes in hex
            raise FormatError(f"{source.path}: line {line}: {len(value)} hex digits may be {choice}: say which with --algorithm")
        if name is None:
            yield Skip(line, f"{len(value)} characters: the length of no hash")
            continue
        try:
            yield FileEntry(line, {name: read.read_code(name, value)}, {})
        except ValueError as error:
            yield Skip(line, str(error))


def digests_of_line(text: str) -> dict[str, str]:
    """Return the digests of a line of BSD's `MD5 (file) = digest` or of `md5,sha1` without a header; empty if it is neither."""
    if (said := _BSD.fullmatch(text)) is not None:
        name = read.algorithm_name(said[1])
        return {name: said[2]} if name else {}
    cells = [cell.strip(' "') for cell in _SEPARATORS.split(text)]
    lengths = [len(cell) for cell in cells if _HEX.fullmatch(cell)]
    if len(cells) < 2 or lengths not in ([32, 40], [40, 32]) or len(lengths) != len(cells):  # noqa: PLR2004 - MD5 and SHA-1 in hex
        return {}
    return {_UNAMBIGUOUS[len(cell)]: cell for cell in cells}


def _first(text: str) -> str:
    words: Sequence[str] = text.strip().split(None, 1)
    return words[0].strip('\\",;*') if words else ""
