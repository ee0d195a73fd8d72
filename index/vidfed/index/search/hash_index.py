"""The index of one perceptual algorithm: every stored code within a distance, none missed, from memory-mapped files."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from vidfed.index.errors import HashInputError, IndexClosedError, IndexCorruptError, IndexStorageError
from vidfed.index.search import compiled
from vidfed.index.search.arguments import ascending, checked_bands, checked_codes, checked_integer, checked_labels, checked_rows
from vidfed.index.search.builder import build
from vidfed.index.search.hits import Nearest, SearchResult
from vidfed.index.search.manifest import Disk, Folder
from vidfed.index.search.merger import BackgroundMerger, Sizes, merge, removed_meanwhile, to_merge
from vidfed.index.search.snapshot import OpenRows, Sealed, Snapshot
from vidfed.index.search.storage import Flushed, Storage, holds_erased

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from vidfed.index.algorithms import Algorithm

_BATCH, _LARGE_BATCH = 128, 1_024
"""Queries searched together, by one thread: as many as each thread gets, but without a limit few, because their hits pile up."""
_ATTEMPTS = 8
"""How often a reader that meets a writer's sweep starts again; once is rare."""


@dataclass(frozen=True, slots=True)
class IndexGlance:
    """What an index's manifest says, without its files having been read or checked."""

    erased_version: int
    """Whatever the record store had erased up to this version was told to the index."""
    holds_erased: bool
    """Rows of that may be in some file still."""


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What an operator wants to know about an index."""

    algorithm: str
    rows: int
    """Rows that a query can find."""
    open_rows: int
    """Those of them that are not in a segment yet and are scanned."""
    segments: int
    size_bytes: int
    """Of all segments, bitmaps and open rows: what should stay in memory."""
    removed_share: float
    """Of the segments' rows, until a merge drops them."""
    source_version: int
    flushed_at: float | None
    """Seconds since the epoch of the last flush; None where nothing was ever flushed."""
    plan: str
    """How the largest segment answers a query for the algorithm's default distance."""
    merging: bool
    holds_erased: bool
    """Rows that were erased are still in some file, which is being rewritten."""
    trouble: str
    """Why merging last failed, or why there is no compiled search; empty where all is well."""


class HashIndex:
    """Rows of a label (an int64, not negative, the caller's own number for a record) and a code.

    Safe to use from several threads. One process writes; others may open the same folder with `read_only=True`, and see what the writer
    flushed from their next query on. Open one with `HashIndex.open`; it is also a context manager, that closes (and on success flushes) at
    its end.
    """

    def __init__(self, folder: Folder, algorithm: Algorithm, lock: int | None, sizes: Sizes, threads: int) -> None:
        """Use `HashIndex.open`."""
        self._folder = folder
        self._algorithm = algorithm
        self._lock_descriptor = lock
        self._read_only = lock is None
        self._sizes = sizes
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._writing = threading.RLock()
        self._closing = self._closed = False
        self._storage = Storage(folder, algorithm)
        self._merger = BackgroundMerger(folder.path, self._writing, self._merge_once)
        self._merge_name = ""
        # Queries read this one attribute, once; changes replace it under the lock.
        self._snapshot = Snapshot((), OpenRows.none(algorithm))
        self._flushed = Flushed(self._snapshot)
        self._stamp = (0, 0, 0)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        algorithm: Algorithm,
        *,
        read_only: bool = False,
        threads: int | None = None,
        sizes: Sizes | None = None,
        disk: Disk | None = None,
    ) -> Self:
        """Open the index in folder `path`, creating it if there is none (unless `read_only`).

        Args:
            path: A folder that belongs to the index alone.
            algorithm: A perceptual one; digests are compared by equality, which any database does better.
            read_only: Look only, beside a writer in another process or none.
            threads: How many may search one large batch, or build one segment, at the same time; None for as many as there are processors.
            sizes: When rows are sealed and segments merged; tests use tiny ones.
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
        lock = None if read_only else folder.lock()
        try:
            index = cls(folder, algorithm, lock, sizes or Sizes(), threads or len(os.sched_getaffinity(0)))
            index._load()
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        return index

    @staticmethod
    def glance(path: str | os.PathLike[str]) -> IndexGlance | None:
        """Look at an index's manifest and the names of its files, whoever has it open; None where there is no index.

        Raises:
            IndexCorruptError: the manifest is damaged.
            IndexStorageError: the folder cannot be read.
        """
        folder = Folder(Path(path), Disk())
        try:
            if not folder.path.is_dir() or (manifest := folder.read_manifest()) is None:
                return None
            return IndexGlance(manifest["erased_version"], holds_erased=holds_erased(folder, manifest))
        except OSError as error:
            raise IndexStorageError(f"{path}: cannot be read: {error.strerror}") from error

    @staticmethod
    def discard(path: str | os.PathLike[str]) -> None:
        """Remove all files of the index in folder `path`, damaged or not, so that it can be created and filled anew.

        Raises:
            IndexLockedError: a writer has the index open.
            IndexStorageError: the folder cannot be written.
        """
        folder = Folder(Path(path), Disk())
        lock = folder.lock()
        try:
            # The data first: a folder with files but no manifest is damage, one with a manifest but no files is too.
            folder.sweep(set())
            folder.remove_manifest()
        finally:
            os.close(lock)

    # --- asking ---

    def range_search(
        self, codes: NDArray[np.uint8], max_distance: int, limit: int | None = None, bands: Sequence[int] | None = None
    ) -> SearchResult:
        """Find every row within `max_distance` of each code.

        With a limit, memory holds what it lets through and the hits of one code more, however crowded the index is.

        Args:
            codes: uint8[q, bytes], one code a row.
            max_distance: Inclusive; bits for Hamming algorithms, squared Euclidean for PhotoDNA.
            limit: Keep only the nearest so many of each query's hits (at equal distance the lowest labels), and say so in `truncated`.
            bands: The largest distance of each band, rising: for the limit, distances in one band are equal.

        Raises:
            HashInputError: an argument of the wrong type, shape or value.
            DistanceError: the algorithm does not allow the distance; the message says why.
            IndexClosedError: the index was closed.
            IndexCorruptError: (read-only) the writer's newest files are damaged.
        """
        codes = checked_codes(self._algorithm, codes)
        max_distance = self._algorithm.check_distance(checked_integer(max_distance, "max_distance"))
        if limit is not None and (limit := checked_integer(limit, "limit")) < 1:
            raise HashInputError(f"limit must be at least 1, or None for all hits; got {limit}")
        nearest = Nearest(limit, checked_bands(bands)) if limit is not None else None
        one_more = nearest.more() if nearest is not None else None
        snapshot = self._current()

        size = _BATCH if limit is None else min(max(_BATCH, -(-len(codes) // self._threads)), _LARGE_BATCH)

        def search(start: int) -> SearchResult:
            batch = codes[start : start + size]
            return SearchResult.of(len(batch), snapshot.range_search(batch, max_distance, one_more), nearest)

        if len(codes) <= size:
            return search(0)
        starts = range(0, len(codes), size)
        # Threads pay where the compiled loops do the work; a small index is answered sooner than they start.
        spread = self._spread() if snapshot.sealed and self._threads > 1 else map
        return SearchResult.chain(spread(search, starts))

    def __len__(self) -> int:
        return self._current().rows

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm whose codes these are."""
        return self._algorithm

    @property
    def source_version(self) -> int:
        """The version of the record store that the last flush said it had caught up with; 0 before."""
        self._current()
        return self._flushed.source_version

    @property
    def source_mark(self) -> str:
        """What the last flush gave to tell this history of the record store from others; empty before."""
        self._current()
        return self._flushed.source_mark

    def check(self, pause: Callable[[int], None] = lambda _bytes: None) -> None:
        """Return if every byte that queries read, and the next start reads, is as it was written. Queries and changes go on meanwhile.

        Args:
            pause: called after each piece that was read with its length in bytes, to leave the disk to others.

        Raises:
            IndexClosedError: the index was closed.
            IndexCorruptError: a file is damaged; make the index anew.
            IndexStorageError: one cannot be read.
        """
        self._current()
        self._folder.read_manifest()
        for entry in self._flushed.snapshot.entries():
            try:
                self._folder.check_file(entry, pause)
            except IndexCorruptError:
                if entry.name in self._flushed.snapshot.file_names():  # or it was replaced meanwhile
                    raise

    @property
    def holds_erased(self) -> bool:
        """Whether rows that were erased are still in a file: of the state last flushed, or one that could not be removed yet."""
        return self._snapshot.holds_erased or self._flushed.snapshot.holds_erased or bool(self._unswept())

    def stats(self) -> IndexStats:
        """Say how the index is doing."""
        snapshot = self._current()
        largest = max(snapshot.sealed, key=lambda part: part.segment.rows, default=None)
        described = largest.segment.describe(self._algorithm.default_distance) if largest else f"{snapshot.rows} rows: scan by FAISS"
        sealed_rows = sum(part.segment.rows for part in snapshot.sealed)
        return IndexStats(
            algorithm=self._algorithm.value,
            rows=snapshot.rows,
            open_rows=snapshot.open.labels.size,
            segments=len(snapshot.sealed),
            size_bytes=snapshot.size_bytes,
            removed_share=sum(part.removed_rows for part in snapshot.sealed) / sealed_rows if sealed_rows else 0.0,
            source_version=self._flushed.source_version,
            flushed_at=self._flushed.flushed_at,
            plan=described,
            merging=self._merger.running,
            holds_erased=self.holds_erased,
            trouble=self._merger.trouble or (compiled.kernels()[1] if snapshot.sealed else ""),
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
        labels, codes = checked_rows(self._algorithm, labels, codes)
        with self._writing:
            self._check_writable()
            if (there := self._snapshot.any_of(labels)).size:
                raise HashInputError(f"label {there[0]} is in the index already; `put` gives it another code")
            if labels.size:
                self._snapshot = self._with_added(self._snapshot, labels, codes)
                self._start_merging()

    def put(self, labels: NDArray[np.int64] | Sequence[int], codes: NDArray[np.uint8]) -> None:
        """Add rows, and give those that are there already another code. A query meanwhile sees all of them as they were or as they are now.

        Args:
            labels: int64[n], not negative, none twice.
            codes: uint8[n, bytes].

        Raises:
            HashInputError: an argument of the wrong type, shape or value.
            IndexClosedError: the index was closed or is read-only.
        """
        labels, codes = checked_rows(self._algorithm, labels, codes)
        with self._writing:
            self._check_writable()
            if labels.size:
                there = np.unique(self._snapshot.any_of(labels))
                before = self._snapshot.without(there) if there.size else self._snapshot
                self._snapshot = self._with_added(before, labels, codes)
                self._start_merging()

    def remove(self, labels: NDArray[np.int64] | Sequence[int], *, erase: bool = False) -> int:
        """Remove rows; the next query no longer finds them, and `flush` makes that durable.

        Args:
            labels: int64[n], not negative. Labels that are not in the index are passed over.
            erase: Their codes, also those that these labels had before, are to be in no file any more. Segments that hold them are
                rewritten in the background, from the next flush on also after a restart; `holds_erased` says when, after one more flush,
                that is done.

        Returns:
            How many rows were removed.

        Raises:
            HashInputError: an argument of the wrong type, shape or value.
            IndexClosedError: the index was closed or is read-only.
        """
        labels = checked_labels(labels)
        with self._writing:
            self._check_writable()
            before = self._snapshot.rows
            there = np.unique(self._snapshot.any_of(labels))
            if there.size:
                self._snapshot = self._snapshot.without(there)
            if erase:
                self._snapshot = self._snapshot.with_erased(labels)
            if there.size or erase:
                self._start_merging()
            return before - self._snapshot.rows

    def flush(self, source_version: int | None = None, source_mark: str | None = None, erased_version: int = 0) -> None:
        """Return when everything added and removed so far is on the disk.

        Args:
            source_version: The version of the record store that the index has now caught up with, stored in the same step. None keeps it.
            source_mark: Of the store's history up to that version; the same. None keeps it.
            erased_version: The version of the record store up to which all that it erased was erased here, if that is later.

        Raises:
            HashInputError: `source_version` is not an integer from 0 on.
            IndexClosedError: the index was closed or is read-only.
            IndexStorageError: the disk refused; the state flushed before is intact, and what was added since is still searched.
        """
        if source_version is not None and (source_version := checked_integer(source_version, "source_version")) < 0:
            raise HashInputError(f"source_version cannot be negative, got {source_version}")
        with self._writing:
            self._check_writable()
            before = self._flushed
            version = before.source_version if source_version is None else source_version
            mark = before.source_mark if source_mark is None else source_mark
            erased = max(version, erased_version, before.erased_version)
            said = (before.source_version, before.source_mark, before.erased_version)
            unchanged = self._snapshot is before.snapshot and (version, mark, erased) == said
            if before.generation and unchanged:
                if self._unswept():
                    self._sweep()
                if self._snapshot.holds_erased and self._merger.may_try_again():
                    self._start_merging()
                return
            self._snapshot = self._storage.written(self._snapshot)
            flushed = Flushed(self._snapshot, before.generation + 1, version, mark, erased, time.time())
            self._storage.commit(flushed)
            self._flushed = flushed
            self._sweep()

    def settle(self) -> None:
        """Return when no merge is running or due. Queries and changes need not wait for it; tests and benchmarks do."""
        self._merger.settle()

    def close(self) -> None:
        """Flush (a writer) and let go of all files. Closing twice is allowed.

        Raises:
            IndexStorageError: the last flush failed; the index is closed nevertheless.
        """
        self._close(flush=not self._read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # What a failed block left half done is not made durable.
        self._close(flush=kind is None and not self._read_only)

    # --- inside: changing ---

    def _with_added(self, before: Snapshot, labels: NDArray[np.int64], codes: NDArray[np.uint8]) -> Snapshot:
        rows = before.open.labels.size + labels.size
        if rows < self._sizes.seal_rows or before.rows + labels.size < self._sizes.first_seal_rows:
            return replace(before, open=before.open.with_added(labels, codes))
        if before.open.labels.size:
            opened = before.open.with_added(labels, codes)
            labels, codes = opened.labels, opened.codes
        if not ascending(labels):
            order = np.argsort(labels, kind="stable")
            labels, codes = labels.take(order), codes.take(order, axis=0)
        sealed = []
        for start in range(0, rows, self._sizes.most_rows):
            part = slice(start, start + self._sizes.most_rows)
            arrays = build(self._algorithm, labels[part], codes[part], self._threads)
            sealed.append(Sealed(self._storage.write_segment(self._storage.new_name("segment"), arrays)))
        self._storage.sync_later(sealed)
        return Snapshot((*before.sealed, *sealed), OpenRows.none(self._algorithm))

    def _sweep(self) -> None:
        """Remove files that neither the flushed state nor the present one needs."""
        self._folder.sweep(self._needed())

    def _unswept(self) -> list[Path]:
        """Files that no state needs any more; of a reader none, because only the writer knows."""
        return [] if self._read_only else self._folder.litter(self._needed())

    def _needed(self) -> set[str]:
        return self._flushed.snapshot.file_names() | self._snapshot.file_names() | {self._merge_name}

    # --- inside: merging ---

    def _start_merging(self) -> None:
        if not self._merger.running and not self._closing and to_merge(self._snapshot.sealed, self._sizes):
            self._merger.start()

    def _merge_once(self) -> bool:
        """Replace some segments by one, and return whether there were any to replace.

        Only the present state changes; the next flush makes it durable, and until then the old files stay.
        """
        with self._writing:
            before = [] if self._closing else to_merge(self._snapshot.sealed, self._sizes)
            if not before:
                self._merger.ended()
                return False
            # Not swept up meanwhile.
            self._merge_name = self._storage.new_name("segment")
        try:
            # One thread: the other processors are for queries.
            arrays = merge(self._algorithm, before, threads=1)
            merged = [Sealed(self._storage.write_segment(self._merge_name, arrays))] if arrays else []
            with self._writing:
                self._replace_merged(before, merged)
        finally:
            with self._writing:
                self._merge_name = ""
        return True

    def _replace_merged(self, before: Sequence[Sealed], merged: Sequence[Sealed]) -> None:
        replaced = {id(part.segment) for part in before}
        now = {id(part.segment): part for part in self._snapshot.sealed}
        gone = removed_meanwhile(before, [now[id(part.segment)] for part in before])
        if gone.size:
            erased = any(now[id(part.segment)].holds_erased for part in before)
            merged = [replace(part.without(part.find(gone)), holds_erased=erased) for part in merged]
        kept = tuple(part for part in self._snapshot.sealed if id(part.segment) not in replaced)
        self._snapshot = replace(self._snapshot, sealed=(*kept, *merged))
        self._storage.sync_later(merged)

    # --- inside: opening ---

    def _load(self) -> None:
        """Take over the state that the manifest names; a writer also creates it where there is none."""
        for attempt in range(_ATTEMPTS):
            manifest = self._folder.read_manifest() if self._folder.path.is_dir() else None
            if manifest is None:
                if self._read_only:
                    raise IndexStorageError(f"{self._folder.path}: no index there")
                self.flush()
                return
            try:
                stamp = self._folder.stamp()
                flushed = self._storage.read(manifest, self._snapshot)
            except IndexCorruptError:
                # A reader may have read the manifest just before the writer replaced it and swept the files it named.
                if not self._read_only or attempt + 1 == _ATTEMPTS or self._folder.read_manifest() == manifest:
                    raise
                continue
            self._snapshot, self._flushed, self._stamp = flushed.snapshot, flushed, stamp
            break
        if not self._read_only:
            self._sweep()
            self._start_merging()

    def _current(self) -> Snapshot:
        """One consistent state to answer from; a reader first looks whether the writer flushed."""
        if self._closed:
            raise IndexClosedError("the index is closed")
        if self._read_only and self._folder.stamp() != self._stamp:
            with self._writing:
                if self._folder.stamp() != self._stamp:
                    self._load()
        return self._snapshot

    def _spread(self) -> Callable[..., Iterable[SearchResult]]:
        with self._writing if self._pool is None else nullcontext():
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, "vidfed-index-search")
        return self._pool.map

    def _check_writable(self) -> None:
        if self._closed:
            raise IndexClosedError("the index is closed")
        if self._read_only:
            raise IndexClosedError("the index is open for reading only")

    def _close(self, *, flush: bool) -> None:
        # A merge in progress is waited for: it must not write a file when another process may be the writer.
        self._closing = True
        self.settle()
        with self._writing:
            if self._closed:
                return
            try:
                if flush:
                    self.flush()
            finally:
                self._closed = True
                if self._pool is not None:
                    self._pool.shutdown(wait=False)
                if self._lock_descriptor is not None:
                    os.close(self._lock_descriptor)
