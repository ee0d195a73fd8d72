"""NSRL's Reference Data Set, version 3: a SQLite database with a table or view FILE of digests."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from vidfed.formats import values as read
from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.source import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.formats.source import Source

_DIGESTS = ("sha256", "sha1", "md5")


def read_nsrl(source: Source, notes: list[str]) -> Iterator[FileEntry | Skip]:
    """Yield the entries of a database, opened so that it cannot be changed.

    Raises:
        FormatError: it is damaged, or has no table FILE of digests.
    """
    with source.bytes() as file:
        while file.read(CHUNK):
            pass  # for the digest of the file, which an import keeps
    try:
        uri = f"{source.path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
            database.execute("PRAGMA trusted_schema = OFF")  # a view in it may call what it likes
            present = [row[1].lower() for row in database.execute("PRAGMA table_info(FILE)")]
            columns = [name for name in (*_DIGESTS, "file_size") if name in present]
            if not set(_DIGESTS) & set(columns):
                raise FormatError(f"{source.path}: a SQLite database without a table FILE of digests: not NSRL RDSv3")
            if passed_over := [name for name in present if name not in columns]:
                notes.append(f"columns passed over: {', '.join(f'{name!r:.60}' for name in passed_over)}")
            rows = database.execute(f"SELECT {', '.join(columns)} FROM FILE")  # noqa: S608 - of four names
            for number, row in enumerate(rows, 1):
                yield _entry(number, dict(zip(columns, row, strict=True)))
    except sqlite3.Error as error:
        raise FormatError(f"{source.path}: {error}") from None


def _entry(number: int, row: dict[str, object]) -> FileEntry | Skip:
    entry = FileEntry(number, {}, {})
    for name, value in row.items():
        if value is None or value == "":
            continue
        try:
            if name in _DIGESTS:
                entry.codes[name] = read.read_code(name, value)
            else:
                entry.values["size_bytes"] = read.whole_number(value)
        except read.EmptyFileError as error:
            return Skip(number, str(error))
        except ValueError as error:
            entry.notes.append(f"{error}; left out")
    return entry if entry.codes else Skip(number, "; ".join(["no usable hash", *entry.notes]))
