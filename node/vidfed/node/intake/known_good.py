"""Sets of known-good digests: what is on them is no abuse material and must not become a record.

A set may hold hundreds of millions of digests, so it is kept in a database file, not in memory. Lists with a name are kept in the member's
folder and hold for every import; the newer list of a name replaces the older. Others are given for one import.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vidfed.formats.entries import FileEntry, FormatError
from vidfed.formats.recognise import open_hash_file
from vidfed.node.errors import ImportFileError
from vidfed.security.sqlite import connect, connect_read_only, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from vidfed.formats.entries import Skip

FOLDER = "known-good"
"""Of the lists with a name, in the member's folder."""

_DIGESTS = ("sha256", "sha1", "md5")  # the strongest first
_ROWS = 10_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
_BUILDING = {"journal_mode": "OFF", "synchronous": "OFF"}
# `rows`: one bit for each combination of stronger digests that an item with this digest has on the list, see `_stronger`.
_SCHEMA = (
    "CREATE TABLE digests (digest BLOB PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE list (version TEXT NOT NULL, added_ms INTEGER NOT NULL, items INTEGER NOT NULL)",
)
_ADD = "INSERT INTO digests VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET rows = rows | excluded.rows"


@dataclass(frozen=True, slots=True)
class KnownGoodList:
    """One list with a name.

    Attributes:
        name: by which a newer one replaces it.
        version: as its publisher calls it.
        added_ms: when it was taken in.
        items: on it, those named twice counted twice.
    """

    name: str
    version: str
    added_ms: int
    items: int

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{self.name} {self.version}".rstrip()


class KnownGood:
    """All sets that hold for one import. A context manager: those given for it alone go with it."""

    def __init__(self, paths: Sequence[Path] = (), *, lists: Path | None = None) -> None:
        """Open and read the sets.

        Args:
            paths: sets for this import alone, in any format that can be imported.
            lists: folder of the lists with a name; they hold as well.

        Raises:
            ImportFileError, FormatError: one cannot be used.
        """
        self._stack = contextlib.ExitStack()
        self._sets: dict[str, sqlite3.Connection] = {}
        try:
            for known in stored_lists(lists) if lists else ():
                database = connect_read_only(lists / f"{known.name}.db") if lists else None
                if database is not None:
                    self._sets[f"the list {known.title}"] = self._stack.enter_context(contextlib.closing(database))
            if paths:
                folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vidfed-known-good-"))
                database = connect(Path(folder) / "digests.db", _BUILDING)
                self._sets["the exclusion list"] = self._stack.enter_context(contextlib.closing(database))
                _fill(database, _entries_of(paths), version="", now_ms=0)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __bool__(self) -> bool:
        return bool(self._sets)

    def among(self, entries: Iterable[FileEntry | Skip]) -> dict[int, str]:
        """Return the numbers of the entries that are known good, and which set says so.

        The strongest digest that an entry and an item of the set share decides: the same MD5 with another SHA-1 is another file.
        """
        items = [entry for entry in entries if isinstance(entry, FileEntry)]
        wanted = list({code for entry in items for name in _DIGESTS if (code := entry.codes.get(name))})
        good: dict[int, str] = {}
        for title, database in self._sets.items():
            found: dict[bytes, int] = {}
            for start in range(0, len(wanted), _ROWS):
                part = wanted[start : start + _ROWS]
                marks = ",".join("?" * len(part))
                found.update(database.execute(f"SELECT digest, rows FROM digests WHERE digest IN ({marks})", part))  # noqa: S608 - only question marks
            for entry in items if found else ():
                if _is_on(entry.codes, found):
                    good.setdefault(entry.number, title)
        return good


def stored_lists(folder: Path) -> list[KnownGoodList]:
    """Return the lists with a name that are kept in a folder, by name.

    Raises:
        ImportFileError: one cannot be read.
    """
    lists = []
    for path in sorted(folder.glob("*.db")):
        try:
            with contextlib.closing(connect_read_only(path)) as database:
                lists.append(KnownGoodList(path.stem, *database.execute("SELECT version, added_ms, items FROM list").fetchone()))
        except (sqlite3.Error, TypeError) as error:
            raise ImportFileError(f"{path}: not a known-good list: {error}; remove it and add it again") from None
    return lists


def add_list(folder: Path, name: str, files: Sequence[Path], *, version: str, now_ms: int) -> tuple[KnownGoodList, KnownGoodList | None]:
    """Keep a list under a name, in the place of the older one of that name; whole, or not at all.

    Args:
        folder: of the lists; made where it is missing.
        name: lower-case letters, digits, `.`, `_`, `-`.
        files: of the list, in any format that can be imported.
        version: as its publisher calls it.
        now_ms: time of the change.

    Returns:
        The list, and the one that it replaced.

    Raises:
        ImportFileError, FormatError: nothing was changed.
    """
    return replace_list(folder, name, _entries_of(files), version=version, now_ms=now_ms)


def replace_list(
    folder: Path,
    name: str,
    entries: Iterable[FileEntry | Skip],
    *,
    version: str,
    now_ms: int,
    check: Callable[[KnownGoodList, KnownGoodList | None], bool] = lambda _new, _old: True,
) -> tuple[KnownGoodList, KnownGoodList | None]:
    """Keep entries as a list under a name, in the place of the older one of that name; whole, or not at all.

    Args:
        folder: of the lists; made where it is missing.
        name: as for `add_list`.
        entries: of the list.
        version: as its publisher calls it.
        now_ms: time of the change.
        check: called with the new list and the one it would replace; may raise, and what returns False replaces nothing.

    Returns:
        The list, and the one that it replaced, or would.

    Raises:
        ImportFileError: nothing was changed.
    """
    if not _NAME.fullmatch(name):
        raise ImportFileError(f"{name!r:.80}: a list's name is of lower-case letters, digits, '.', '_' and '-', at most 60")
    folder.mkdir(mode=0o700, exist_ok=True)
    before = next((each for each in stored_lists(folder) if each.name == name), None)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=folder) as made:
        path = Path(made) / "list.db"
        with contextlib.closing(connect(path, _BUILDING)) as database:
            items = _fill(database, entries, version=version, now_ms=now_ms)
        new = KnownGoodList(name, version, now_ms, items)
        if check(new, before):
            path.replace(folder / f"{name}.db")
    return new, before


def remove_list(folder: Path, name: str) -> KnownGoodList:
    """Remove a list.

    Raises:
        ImportFileError: there is none of this name.
    """
    for each in stored_lists(folder):
        if each.name == name:
            (folder / f"{name}.db").unlink()
            return each
    raise ImportFileError(f"there is no known-good list {name!r:.80}; `vidfed node known-good list` shows them")


def _entries_of(files: Iterable[Path]) -> Iterator[FileEntry | Skip]:
    """Yield the entries of files; one without a single digest is another file than was meant."""
    for path in files:
        some = False
        for entry in open_hash_file(path).entries():
            some = some or (isinstance(entry, FileEntry) and any(name in entry.codes for name in _DIGESTS))
            yield entry
        if not some:
            raise FormatError(f"{path}: a known-good set without a single digest")


def _fill(database: sqlite3.Connection, entries: Iterable[FileEntry | Skip], *, version: str, now_ms: int) -> int:
    items = 0
    for statement in _SCHEMA:
        database.execute(statement)

    def digests() -> Iterator[tuple[bytes, int]]:
        nonlocal items
        for entry in entries:
            if isinstance(entry, FileEntry) and not entry.retracts:
                of_entry = [(entry.codes[name], 1 << _stronger(entry.codes, name)) for name in _DIGESTS if name in entry.codes]
                items += bool(of_entry)
                yield from of_entry

    with transaction(database):
        database.executemany(_ADD, digests())
        database.execute("INSERT INTO list VALUES (?, ?, ?)", (version, now_ms, items))
    return items


def _stronger(codes: Mapping[str, bytes], name: str) -> int:
    """Return which digests stronger than this one an item has, as a number: 1 for SHA-1, 2 for SHA-256."""
    return ("sha256" in codes) * 2 * (name != "sha256") + ("sha1" in codes) * (name == "md5")


def _is_on(codes: Mapping[str, bytes], found: Mapping[bytes, int]) -> bool:
    """Return whether an item is on a list: by a digest of which the list has an item that shares no stronger one with it."""
    for name in _DIGESTS:
        rows = found.get(codes.get(name, b""), 0)
        own = _stronger(codes, name)
        if any(rows >> theirs & 1 and not theirs & own for theirs in range(4)):
            return True
    return False
