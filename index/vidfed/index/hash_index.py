"""The index of one perceptual algorithm: every stored code within a distance, none missed, from memory-mapped files."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from vidfed.index.errors import (
    HashInputError,
    IndexClosedError,
    IndexCorruptError,
    IndexLockedError,
    IndexStorageError,
)
from vidfed.index.files import Disk, FileEntry, Folder
from vidfed.index.flat import FlatScan
from vidfed.index.hits import Hits, SearchResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from vidfed.index.algorithms import Algorithm

_FORMAT = 1
_BATCH = 64
"""Queries searched together: enough to share the reading of codes, few enough that what a limit will cut off is cut off before it piles up."""


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What an operator wants to know about an index."""

    algorithm: str
    rows: int
    open_rows: int
    segments: int
    size_bytes: int
    removed_share: float
    source_version: int
    flushed_at: float | None
    """Seconds since the epoch of the last flush; None where nothing was ever flushed."""
    plan: str


class _OpenRows:
    """The newest rows, searched in full. Never changed once made: a query keeps the one it began with."""

    def __init__(self, algorithm: Algorithm, labels: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        self.labels = labels
        self.codes = codes
        self._algorithm = algorithm
        self._scan: FlatScan | None = None

    def range_search(self, codes: NDArray[np.uint8], max_distance: int) -> Hits:
        if not self.labels.size:
            return Hits.none()
        scan = self._scan
        if scan is None:  # two threads may both build it; either is right
            self._scan = scan = FlatScan(self._algorithm, self.codes)
        queries, distances, rows = scan.range_search(codes, max_distance)
        return Hits(queries, distances, self.labels[rows])

    def with_added(self, labels: NDArray[np.int64], codes: NDArray[np.uint8]) -> _OpenRows:
        return _OpenRows(self._algorithm, np.concatenate([self.labels, labels]), np.concatenate([self.codes, codes]))

    def without(self, removed: NDArray[np.bool_]) -> _OpenRows:
        return _OpenRows(self._algorithm, self.labels[~removed], self.codes[~removed])


class HashIndex:
    """Rows of a label (an int64, not negative, the caller's own number for a record) and a code.

    Safe to use from several threads. One process writes; others may open the same folder with `read_only=True`, and see what the writer flushed from their next query on.
    Open one with `HashIndex.open`; it is also a context manager, that closes (and on success flushes) at its end.
    """

    def __init__(self, folder: Folder, algorithm: Algorithm, lock: int | None) -> None:
        """Use `HashIndex.open`."""
        self._folder = folder
        self._algorithm = algorithm
        self._lock_descriptor = lock
        self._read_only = lock is None
        self._writing = threading.RLock()
        self._closed = False
        self._open = _OpenRows(algorithm, np.empty(0, np.int64), np.empty((0, algorithm.code_bytes), np.uint8))
        self._open_entry: FileEntry | None = None
        self._flushed_open = self._open
        self._generation = 0
        self._source_version = 0
        self._flushed_at: float | None = None
        self._stamp = (0, 0, 0)

    @classmethod
    def open(cls, path: str | os.PathLike[str], algorithm: Algorithm, *, read_only: bool = False, disk: Disk | None = None) -> Self:
        """Open the index in folder `path`, creating it if there is none (unless `read_only`).

        Args:
            path: A folder that belongs to the index alone.
            algorithm: A perceptual one; digests are compared by equality, which any database does better.
            read_only: Look only, beside a writer in another process or none.
            disk: For tests that make it fail.

        Raises:
            HashInputError: the algorithm is a digest, or not the one the index was created for.
            IndexLockedError: another writer has the index open.
            IndexCorruptError: a file is missing or damaged: remove the folder's files with `HashIndex.discard` and fill a new index.
            IndexStorageError: the folder cannot be read or written, or `read_only` and there is no index.
        """
        if algorithm.is_digest:
            raise HashInputError(f"{algorithm.label} is a digest, compared by equality: keep it in the record store, not in a HashIndex")
        folder = Folder(Path(path), disk or Disk())
        lock = None if read_only else _lock(folder.path)
        try:
            index = cls(folder, algorithm, lock)
            index._load()
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        return index

    @staticmethod
    def discard(path: str | os.PathLike[str]) -> None:
        """Remove all files of the index in folder `path`, damaged or not, so that it can be created and filled anew.

        Raises:
            IndexLockedError: a writer has the index open.
            IndexStorageError: the folder cannot be written.
        """
        folder = Folder(Path(path), Disk())
        lock = _lock(folder.path)
        try:
            # The data first: a folder with files but no manifest is damage, one with a manifest but no files is too.
            folder.sweep(set())
            folder.remove_manifest()
        finally:
            os.close(lock)

    # --- asking ---

    def range_search(self, codes: NDArray[np.uint8], max_distance: int, limit: int | None = None) -> SearchResult:
        """Find every row within `max_distance` of each code.

        Args:
            codes: uint8[q, bytes], one code a row.
            max_distance: Inclusive; bits for Hamming algorithms, squared Euclidean for PhotoDNA.
            limit: Keep only the nearest so many of each query's hits (at equal distance those of the lowest labels), and say so in `truncated`.

        Raises:
            HashInputError: an argument of the wrong type, shape or value.
            DistanceError: the algorithm does not allow the distance; the message says why.
            IndexClosedError: the index was closed.
            IndexCorruptError: (read-only) the writer's newest files are damaged.
        """
        codes = self._checked_codes(codes)
        max_distance = self._algorithm.check_distance(_checked_integer(max_distance, "max_distance"))
        if limit is not None and (limit := _checked_integer(limit, "limit")) < 1:
            raise HashInputError(f"limit must be at least 1, or None for all hits; got {limit}")
        rows = self._current()
        results = []
        for start in range(0, max(len(codes), 1), _BATCH):
            batch = codes[start : start + _BATCH]
            results.append(SearchResult.of(len(batch), rows.range_search(batch, max_distance), limit))
        return SearchResult.chain(results)

    def __len__(self) -> int:
        return int(self._current().labels.size)

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm whose codes these are."""
        return self._algorithm

    @property
    def source_version(self) -> int:
        """The version of the record store that the last flush said it had caught up with; 0 before."""
        self._current()
        return self._source_version

    def stats(self) -> IndexStats:
        """Say how the index is doing."""
        rows = self._current()
        size_bytes = rows.labels.nbytes + rows.codes.nbytes
        return IndexStats(
            self._algorithm.value,
            rows.labels.size,
            rows.labels.size,
            0,
            size_bytes,
            0.0,
            self._source_version,
            self._flushed_at,
            "scan of all rows",
        )

    # --- changing ---

    def add(self, labels: NDArray[np.int64] | Sequence[int], codes: NDArray[np.uint8]) -> None:
        """Add rows, all of them or (on any error) none. The next query finds them; `flush` makes them durable.

        Args:
            labels: int64[n], not negative, none twice, none already in the index.
            codes: uint8[n, bytes].

        Raises:
            HashInputError: an argument of the wrong type, shape or value, or a label that is there already.
            IndexClosedError: the index was closed or is read-only.
        """
        labels, codes = _checked_labels(labels), self._checked_codes(codes)
        if len(labels) != len(codes):
            raise HashInputError(f"{len(labels)} labels for {len(codes)} codes")
        ordered = np.sort(labels)
        if (twice := ordered[1:][ordered[1:] == ordered[:-1]]).size:
            raise HashInputError(f"label {twice[0]} is given twice")
        with self._writing:
            self._check_writable()
            if (there := labels[np.isin(labels, self._open.labels)]).size:
                raise HashInputError(f"label {there[0]} is in the index already; remove it first to give it another code")
            self._open = self._open.with_added(labels, codes)

    def remove(self, labels: NDArray[np.int64] | Sequence[int]) -> int:
        """Remove rows; the next query no longer finds them, and `flush` makes that durable.

        Args:
            labels: int64[n], not negative. Labels that are not in the index are passed over.

        Returns:
            How many rows were removed.

        Raises:
            HashInputError: an argument of the wrong type, shape or value.
            IndexClosedError: the index was closed or is read-only.
        """
        labels = _checked_labels(labels)
        with self._writing:
            self._check_writable()
            removed = np.isin(self._open.labels, labels)
            if removed.any():
                self._open = self._open.without(removed)
            return int(removed.sum())

    def flush(self, source_version: int | None = None) -> None:
        """Return when everything added and removed so far is on the disk.

        Args:
            source_version: The version of the record store that the index has now caught up with; stored in the same step. None leaves it as it was.

        Raises:
            HashInputError: `source_version` is not an integer from 0 on.
            IndexClosedError: the index was closed or is read-only.
            IndexStorageError: the disk refused; the state flushed before is intact, and what was added since is still searched.
        """
        if source_version is not None and (source_version := _checked_integer(source_version, "source_version")) < 0:
            raise HashInputError(f"source_version cannot be negative, got {source_version}")
        with self._writing:
            self._check_writable()
            version = self._source_version if source_version is None else source_version
            if self._generation and self._open is self._flushed_open and version == self._source_version:
                return
            generation, unsynced, entry = self._generation + 1, [], self._open_entry
            if self._open is not self._flushed_open:
                arrays = {"labels": self._open.labels, "codes": self._open.codes}
                entry = self._folder.write_arrays(f"open-{generation:08d}", arrays)
                unsynced.append(entry)
            flushed_at = time.time()
            manifest = {
                "format": _FORMAT,
                "algorithm": self._algorithm.value,
                "generation": generation,
                "source_version": version,
                "flushed_at": flushed_at,
                "open": entry and entry.to_json(),
            }
            self._folder.commit(manifest, unsynced)
            self._generation, self._source_version, self._flushed_at = generation, version, flushed_at
            self._open_entry, self._flushed_open = entry, self._open
            self._folder.sweep({entry.name} if entry else set())

    def close(self) -> None:
        """Flush (a writer) and let go of all files. Closing twice is allowed.

        Raises:
            IndexStorageError: the last flush failed; the index is closed nevertheless.
        """
        with self._writing:
            if self._closed:
                return
            try:
                if not self._read_only:
                    self.flush()
            finally:
                self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:  # what the failed block left half done is not made durable
            self._release()

    # --- inside ---

    def _load(self) -> None:
        """Take over the state that the manifest names; a writer also creates it where there is none."""
        for attempt in range(8):
            self._stamp = self._folder.stamp() if self._read_only and (self._folder.path / "MANIFEST").exists() else (0, 0, 0)
            manifest = self._folder.read_manifest() if self._folder.path.is_dir() else None
            if manifest is None:
                if self._read_only:
                    raise IndexStorageError(f"{self._folder.path}: no index there")
                self.flush()
                return
            try:
                self._take(manifest)
            except IndexCorruptError:
                # A reader may have read the manifest just before the writer replaced it and swept the files it named.
                if not self._read_only or attempt == 7 or self._folder.stamp() == self._stamp:
                    raise
                continue
            break
        if not self._read_only:
            self._folder.sweep({self._open_entry.name} if self._open_entry else set())

    def _take(self, manifest: dict[str, Any]) -> None:
        if manifest["format"] != _FORMAT:
            raise IndexCorruptError(f"format {manifest['format']}, this version reads {_FORMAT}: rebuild the index from the record store")
        if manifest["algorithm"] != self._algorithm.value:
            raise HashInputError(f"the index holds {manifest['algorithm']}, not {self._algorithm.value}")
        entry = FileEntry.from_json(manifest["open"]) if manifest["open"] else None
        if entry and entry != self._open_entry:
            arrays = self._folder.read_arrays(entry)
            self._open = _OpenRows(self._algorithm, arrays["labels"], arrays["codes"].reshape(-1, self._algorithm.code_bytes))
        self._open_entry, self._flushed_open = entry, self._open
        self._generation, self._source_version, self._flushed_at = (
            manifest["generation"],
            manifest["source_version"],
            manifest["flushed_at"],
        )

    def _current(self) -> _OpenRows:
        """One consistent state to answer from; a reader first looks whether the writer flushed."""
        if self._closed:
            raise IndexClosedError("the index is closed")
        if self._read_only and self._folder.stamp() != self._stamp:
            with self._writing:
                if self._folder.stamp() != self._stamp:
                    self._load()
        return self._open

    def _check_writable(self) -> None:
        if self._closed:
            raise IndexClosedError("the index is closed")
        if self._read_only:
            raise IndexClosedError("the index is open for reading only")

    def _release(self) -> None:
        self._closed = True
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def _checked_codes(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        length = self._algorithm.code_bytes
        if not isinstance(codes, np.ndarray):
            raise HashInputError(f"codes must be a NumPy array of uint8, got {type(codes).__name__}")
        if codes.dtype != np.uint8:
            raise HashInputError(f"codes must be uint8, got {codes.dtype}")
        if codes.ndim != 2 or codes.shape[1] != length:  # noqa: PLR2004 - rows and bytes
            raise HashInputError(f"codes must be of shape (n, {length}) for {self._algorithm.label}, got {codes.shape}")
        return np.ascontiguousarray(codes)


def _checked_labels(labels: NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
    array = labels if isinstance(labels, np.ndarray) else np.asarray(labels)
    if array.size == 0 and not isinstance(labels, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype != np.int64:
        raise HashInputError(f"labels must be int64, got {array.dtype}")
    if array.ndim != 1:
        raise HashInputError(f"labels must be of one dimension, got shape {array.shape}")
    if array.size and (lowest := array.min()) < 0:
        raise HashInputError(f"labels cannot be negative, got {lowest}")
    return cast("NDArray[np.int64]", array)


def _checked_integer(value: int, name: str) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise HashInputError(f"{name} must be an integer, got {type(value).__name__}")
    return int(value)


def _lock(path: Path) -> int:
    """Become the folder's only writer, creating the folder if need be. The kernel lets go of the lock when the process ends, however it ends."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise IndexStorageError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise IndexLockedError(f"{path}: another writer has the index open") from None
    return descriptor
