"""Which files an unfinished taking in of pictures has in the store already, so that it goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Self

from vidfed.security.sqlite import connect, transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from vidfed.node.records.upsert.report import UpsertReport

COUNTS = ("new", "updated", "unchanged", "exact_only", "known_good")


class Ledger:
    """The files done, of one command on one set of paths. A file beside the store while the command is not finished; then it goes.

    It is written after the records, so what it names is in the store; of a run that was killed at most one batch is hashed again.
    """

    def __init__(self, folder: Path, paths: Sequence[Path], values: Mapping[str, object]) -> None:
        """Open the ledger of this command, with what an earlier run of it has done.

        Args:
            folder: of the member's state.
            paths: as named; with `values` they make it this command and no other.
            values: said about every record.
        """
        said = json.dumps([sorted(str(path.absolute()) for path in paths), sorted((name, str(value)) for name, value in values.items())])
        self._path = folder / f"ingest-{hashlib.sha256(said.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.db"
        self._database = connect(self._path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID")
        self.counts = dict.fromkeys(COUNTS, 0) | dict(self._database.execute("SELECT name, number FROM counts"))
        (self.done_before,) = self._database.execute("SELECT count(*) FROM files").fetchone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def has(self, path: Path) -> bool:
        """Return whether this file was taken in, and has not been changed since."""
        row = self._database.execute("SELECT size, mtime_ns FROM files WHERE path = ?", (_key(path),)).fetchone()
        return row is not None and row == _stamp(path)

    def add(self, paths: Iterable[Path], report: UpsertReport, **counts: int) -> None:
        """Note what is in the store now, and what came of it."""
        for name in ("new", "updated", "unchanged"):
            self.counts[name] += getattr(report, name)
        for name, number in counts.items():
            self.counts[name] += number
        with transaction(self._database):
            self._database.executemany("REPLACE INTO files VALUES (?, ?, ?)", ((_key(path), *_stamp(path)) for path in paths))
            self._database.executemany("REPLACE INTO counts VALUES (?, ?)", self.counts.items())

    def finish(self) -> None:
        """Forget everything: the command is done, and given again it begins anew."""
        self._database.close()
        self._path.unlink()


def _key(path: Path) -> bytes:
    return str(path.absolute()).encode("utf-8", "surrogateescape")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, 0  # hashing says why
    return status.st_size, status.st_mtime_ns
