"""What SQLite's pages hold beside their rows: overwritten, because it may be what was erased.

With `secure_delete` SQLite overwrites a row that is deleted. When it moves rows to another page, to balance its trees, it leaves the old
bytes in the free space of the page they came from: of 300 erased records of a store of 40,000 six had left a digest there. Vacuuming makes
the whole file anew, which takes minutes, and as much space once more; overwriting the free space takes one reading of the file.

The file format is documented and kept stable by its authors (sqlite.org/fileformat.html). Nothing but free space is written, so that an
interruption, or a reader of the same page, meets no difference.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from typing import TYPE_CHECKING

from vidfed.node.errors import JournalBusyError, StoreError
from vidfed.security.sqlite import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INNER, _LEAVES = frozenset({2, 5}), frozenset({10, 13})
_FIRST_HEADER = 100
_CHUNK_BYTES = 1 << 24
_MOST_PAGES = 1 << 25
"""Up to so many pages (134 GB) a page's first byte tells a tree's page from one that begins with another page's number."""
_BUSY_S = 30.0
_ATTEMPTS = 5
_ZEROS = bytes(1 << 16)
_opened: dict[tuple[int, int], int] = {}


def overwrite_free_space(path: Path) -> int:
    """Overwrite with zeros what is free in the pages of a SQLite file in WAL mode; return how many pages had something there.

    Other connections may read meanwhile; writers wait, some seconds for ten gigabytes.

    Raises:
        JournalBusyError: somebody keeps reading an older state of it, so that the journal cannot be emptied.
        StoreError: it cannot be read or written, or is too large to be treated so.
    """
    try:
        with contextlib.closing(connect(path, {"secure_delete": "ON"}, busy_s=_BUSY_S)) as database:
            (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
            _begin_without_journal(path, database)
            with _rolled_back(database):
                changed = _overwrite(path, page_bytes)
                # A commit, so that no other connection goes on with, and writes back, the pages that it has in memory.
                (version,) = database.execute("PRAGMA user_version").fetchone()
                database.execute(f"PRAGMA user_version = {(version + 1) % 2**31}")
                database.execute("COMMIT")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: what is free in it could not be overwritten: {error}") from None
    return changed


def _begin_without_journal(path: Path, database: sqlite3.Connection) -> None:
    """Keep writers out in a moment when all that was written is in the file itself."""
    journal = path.with_name(f"{path.name}-wal")
    for _ in range(_ATTEMPTS):
        (busy, *_) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            break
        database.execute("BEGIN IMMEDIATE")
        if not journal.exists() or not journal.stat().st_size:
            return
        database.execute("ROLLBACK")  # somebody wrote in between
    raise JournalBusyError(
        f"{path}: its journal, because another program keeps reading or writing (an export, a backup, an import?); the node, or erasing "
        "the same record once more, takes it out when that has ended"
    )


@contextlib.contextmanager
def _rolled_back(database: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _overwrite(path: Path, page_bytes: int) -> int:
    descriptor = _descriptor(path)
    size = os.fstat(descriptor).st_size
    if size > _MOST_PAGES * page_bytes:
        raise StoreError(f"{path}: too large to have its free space overwritten: stop the node, and VACUUM it with the sqlite3 program")
    changed = 0
    for start in range(0, size, _CHUNK_BYTES):
        chunk = os.pread(descriptor, _CHUNK_BYTES, start)
        for at in range(0, len(chunk) - page_bytes + 1, page_bytes):
            page = chunk[at : at + page_bytes]
            free = _free(page, _FIRST_HEADER if start + at == 0 else 0)
            dirty = [(first, end) for first, end in free if page[first:end] != _ZEROS[: end - first]]
            for first, end in dirty:
                os.pwrite(descriptor, bytes(end - first), start + at + first)
            changed += bool(dirty)
    if changed:
        os.fsync(descriptor)
    return changed


def _free(page: bytes, header: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a page that hold neither a row nor what leads to one; none of a page that is not of a tree."""
    kind = page[header]
    if kind not in _INNER and kind not in _LEAVES:
        return
    block, cells, content = struct.unpack_from(">HHH", page, header + 1)
    content = content or 1 << 16
    rows = header + (8 if kind in _LEAVES else 12) + 2 * cells
    if not rows <= content <= len(page):
        return  # no page of a tree, or a damaged one
    yield rows, content
    while block:
        following, size = struct.unpack_from(">HH", page, block)
        if block < content or size < 4 or block + size > len(page) or 0 < following <= block:  # noqa: PLR2004 - its own header
            return
        yield block + 4, block + size
        block = following


def _descriptor(path: Path) -> int:
    """Open a file once and for all: closing any of a process's descriptors of it would end the locks that SQLite has on it."""
    status = path.stat()
    key = status.st_dev, status.st_ino
    if key not in _opened:
        _opened[key] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    return _opened[key]
