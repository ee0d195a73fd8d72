"""Sets of known-good digests: what is on them is no abuse material and must not become a record.

A set may hold hundreds of millions of digests, so it is kept in a temporary database file, not in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vidfed.formats.entries import FileEntry, FormatError
from vidfed.formats.recognise import open_hash_file
from vidfed.node.errors import ImportFileError
from vidfed.security.sqlite import connect, connect_read_only, transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vidfed.formats.entries import Skip

_DIGESTS = ("sha256", "sha1", "md5")
_SQLITE_MAGIC = b"SQLite format 3\0"
_ROWS = 10_000


class KnownGood:
    """A set of digests on disk. A context manager: the file goes with it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the sets.

        Args:
            paths: lists of digests in any format that can be imported, or NSRL RDSv3 databases (table or view FILE).

        Raises:
            ImportFileError, FormatError: one cannot be used.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="vidfed-known-good-")
        self._database = connect(Path(self._folder.name) / "digests.db", {"journal_mode": "OFF", "synchronous": "OFF"})
        try:
            self._database.execute("CREATE TABLE digests (digest BLOB PRIMARY KEY) WITHOUT ROWID")
            with transaction(self._database):
                for path in paths:
                    self._database.executemany("INSERT OR IGNORE INTO digests VALUES (?)", _digests(path))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._folder.cleanup()

    def among(self, entries: Iterable[FileEntry | Skip]) -> set[bytes]:
        """Return which of these entries' digests are known good."""
        wanted = [code for entry in entries if isinstance(entry, FileEntry) for name in _DIGESTS if (code := entry.codes.get(name))]
        found: set[bytes] = set()
        for start in range(0, len(wanted), _ROWS):
            part = wanted[start : start + _ROWS]
            marks = ",".join("?" * len(part))
            found.update(digest for (digest,) in self._database.execute(f"SELECT digest FROM digests WHERE digest IN ({marks})", part))  # noqa: S608 - only question marks
        return found


def _digests(path: Path) -> Iterator[tuple[bytes]]:
    try:
        with path.open("rb") as file:
            is_database = file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError as error:
        raise ImportFileError(f"{path}: {error.strerror}") from None
    if is_database:
        yield from _nsrl(path)
        return
    empty = True
    for entry in open_hash_file(path).entries():
        if isinstance(entry, FileEntry):
            for name in _DIGESTS:
                if name in entry.codes:
                    empty = False
                    yield (entry.codes[name],)
    if empty:
        raise FormatError(f"{path}: a known-good set without a single digest")


def _nsrl(path: Path) -> Iterator[tuple[bytes]]:
    """Yield the digests of an NSRL RDSv3 database, opened so that it cannot be changed."""
    try:
        with contextlib.closing(connect_read_only(path)) as nsrl:
            columns = {row[1].lower() for row in nsrl.execute("PRAGMA table_info(FILE)")} & set(_DIGESTS)
            if not columns:
                raise ImportFileError(f"{path}: a SQLite database without a table FILE of digests: not NSRL RDSv3")
            for column in sorted(columns):
                for (text,) in nsrl.execute(f"SELECT {column} FROM FILE"):  # noqa: S608 - one of three names
                    with contextlib.suppress(ValueError, TypeError):
                        yield (bytes.fromhex(text),)
    except sqlite3.Error as error:
        raise ImportFileError(f"{path}: {error}") from None
