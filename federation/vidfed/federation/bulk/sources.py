"""From a file of hashes or a folder of pictures into the store, while what is there already is asked about."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from vidfed.federation.lookup.items import item_of_file, item_of_frames
from vidfed.federation.lookup.question import Item, Shortfall
from vidfed.formats.entries import FileEntry, FormatError
from vidfed.formats.recognise import open_hash_file
from vidfed.index import Algorithm
from vidfed.index.codes import frame_times
from vidfed.index.hashing.results import RELIABLE_PDQ_QUALITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from vidfed.federation.bulk.store import BulkStore

_BATCH = 500  # entries taken into the store at a time


class SourceReader:
    """The reading of the source into the store, in a thread, while others ask what is there already."""

    def __init__(self, read: Callable[[threading.Event, Callable[[], None]], None] | None) -> None:
        """Prepare.

        Args:
            read: reads everything; is given an event that asks it to stop, and what to call when there is more in the store. None if
                everything is there.
        """
        self._read = read
        self._stop = threading.Event()
        self._news = asyncio.Event()
        self.done = read is None

    async def run(self) -> None:
        """Read to the end."""
        if self._read is None:
            return
        loop = asyncio.get_running_loop()

        def say() -> None:
            loop.call_soon_threadsafe(self._news.set)

        try:
            await asyncio.to_thread(self._read, self._stop, say)
        finally:
            self._stop.set()
            self.done = True
            self._news.set()

    async def more(self) -> None:
        """Wait until there may be more, or the end."""
        await self._news.wait()
        if not self.done:
            self._news.clear()


def entry_label(number: int) -> str:
    """Return what an entry of a file of hashes is called."""
    return f"entry {number}"


def read_file(
    store: BulkStore,
    path: Path,
    *,
    algorithm: str | None,
    on_skip: Callable[[int, str], None],
    on_read: Callable[[int, int], None],
    strict: bool = False,
) -> list[str]:
    """Take every entry of a file of hashes, in any format that a node imports, into the store.

    Args:
        store: gets them.
        path: of the file.
        algorithm: what a plain list holds, where the length does not tell.
        on_skip: called with the number of an entry that cannot be asked about, and why.
        on_read: called with the number of bytes and of entries read so far.
        strict: refuse a file of which anything would be passed over.

    Returns:
        what there is to know about the file as a whole: columns that were passed over.

    Raises:
        FormatError: the file cannot be used as a whole, or `strict` and something of it would be passed over.
    """

    def passed_over(what: str) -> None:
        if strict:
            raise FormatError(f"{path}: {what}. Nobody was asked; without --strict it is passed over and named")

    file = open_hash_file(path, algorithm=algorithm)
    batch: list[tuple[int, Item]] = []
    for count, entry in enumerate(file.entries(), 1):
        if not isinstance(entry, FileEntry):
            passed_over(f"entry {entry.number}: {entry.reason}")
            on_skip(entry.number, entry.reason)
        elif not entry.retracts:
            for text in entry.notes:
                passed_over(f"entry {entry.number}: {text}")
            if (item := _item_of_entry(entry)).codes:
                batch.append((entry.number, item))
            else:
                on_skip(entry.number, "; ".join(item.notes))
        if len(batch) >= _BATCH:
            store.add(batch)
            batch.clear()
            on_read(file.source.read_bytes, count)
    for text in file.notes:
        passed_over(text)
    store.add(batch)
    return file.notes


def _item_of_entry(entry: FileEntry) -> Item:
    """Return what is asked about an entry. As of pictures, the perceptual hashes of what is too plain for them are not."""
    codes = {Algorithm(name): (code,) for name, code in entry.codes.items()}
    label = entry.file_name or entry_label(entry.number)
    if any(frame_times(each.kind) is not None for each in entry.further):
        return item_of_frames(label, codes, entry.further, entry.notes)
    quality = entry.values.get("pdq_quality")
    if not isinstance(quality, int) or quality >= RELIABLE_PDQ_QUALITY or all(algorithm.is_digest for algorithm in codes):
        return Item(label, codes, notes=tuple(entry.notes))
    note = f"too plain for perceptual hashes (PDQ quality {quality}, at least {RELIABLE_PDQ_QUALITY} is needed): not asked"
    digests = {algorithm: each for algorithm, each in codes.items() if algorithm.is_digest}
    return Item(label, digests, notes=(note, *entry.notes), shortfalls=(Shortfall.EXACT_ONLY,))


def read_pictures(
    store: BulkStore,
    paths: Iterable[Path],
    *,
    any_quality: bool,
    full_size: bool,
    stop: threading.Event,
    on_read: Callable[[], None],
) -> None:
    """Hash files into the store, each by its digests and what it shows; those that did not change since they were taken are not hashed.

    Args:
        store: gets them.
        paths: files, as `find_files` lists them; taken as they are needed.
        any_quality: also ask the perceptual hashes of pictures too plain for them.
        full_size: decode every JPEG at its full size.
        stop: set when it is to end.
        on_read: called after each.
    """
    # A bare hash needs no imaging libraries.
    from vidfed.index.hashing.results import FileHashes  # noqa: PLC0415
    from vidfed.index.hashing.workers import hash_files  # noqa: PLC0415

    stamps: dict[Path, tuple[int, int]] = {}

    def wanted() -> Iterator[Path]:
        for path in paths:
            if stop.is_set():
                return
            stamps[path] = _stamp(path)
            if store.has_file(_key(path), *stamps[path]):
                del stamps[path]
            else:
                yield path

    for result in hash_files(wanted(), orientations=True, full_size=full_size):
        outcome = item_of_file(result, any_quality=any_quality) if isinstance(result, FileHashes) else result.reason
        store.add_file(_key(result.path), *stamps.pop(result.path), outcome)
        on_read()


def _key(path: Path) -> str:
    """Return a path as the store keeps it: names from old Windows disks and archives hold bytes that are no text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, 0  # hashing will say why
    return status.st_size, status.st_mtime_ns


def picture_reader(store: BulkStore, paths: Iterable[Path], *, any_quality: bool, full_size: bool = False) -> SourceReader:
    """Return the reading of pictures into the store."""

    def read(stop: threading.Event, on_read: Callable[[], None]) -> None:
        read_pictures(store, paths, any_quality=any_quality, full_size=full_size, stop=stop, on_read=on_read)

    return SourceReader(read)
