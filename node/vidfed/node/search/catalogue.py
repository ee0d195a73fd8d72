"""What a node can search: the record store's digests, and one hash index for each perceptual algorithm that follows the store.

The store is the truth. A thread applies its changes to the indexes as they come; a search first makes sure the indexes equal
the store, and says so when they do not, so that being behind is never mistaken for "no hit".

Of several processes one keeps the indexes; the others map the same files and see what it has applied. An index that was emptied to be
rebuilt is told by a file beside it that only grows, so that a search that ran meanwhile, in any process, is not believed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vidfed.index import Algorithm, HashError, HashIndex, IndexCorruptError, IndexStorageError, SearchResult
from vidfed.node.errors import IndexBehindError, IndexBrokenError, NodeError
from vidfed.node.records.store import PERCEPTUAL
from vidfed.node.search.nearest import NOTHING_NEAR, Candidates, Near, Rows, choose, rows_wanted
from vidfed.wire.values import RECORD_BANDS, Hit, IndexState, Match, Searched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vidfed.node.records.record import Record
    from vidfed.node.records.store import Changes, Reading, RecordStore
    from vidfed.security.clock import Clock
    from vidfed.wire.values import HashColumn

_BATCH = 50_000  # changes applied between two flushes while catching up: some 20 MB, a second
_POLL_S = 0.25  # how soon an idle node notices changes by another process; a lookup in the keeping process notices at once
_NEAR_POLL_S = 0.01  # how soon another process notices that the keeping one has applied what a lookup waits for
_RENEWALS = "renewals"  # grows by a byte whenever an index is emptied
_STORAGE_RETRY_S = 60.0  # after the disk refused something that can wait
_COUNTING_SHARE = 100  # counting all records may take one part of so many of the follower's time
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One question to be searched.

    Attributes:
        columns: what is asked, checked.
        max_hits_per_item: of more, the nearest are kept and the item is named in `Found.truncated_items`.
        visible: says of each record whether the asker may know of it; one that it may not is as if it did not exist.
        told: gives what the asker may know of a match, by its algorithm and distance; records are ordered by that. What is farther must not
            look nearer.
    """

    columns: Sequence[HashColumn]
    max_hits_per_item: int
    visible: Callable[[Record], bool] = lambda _record: True
    told: Callable[[Match], Match] = lambda match: match

    @property
    def searched(self) -> tuple[Searched, ...]:
        """What the answer says about how it was searched."""
        return tuple(Searched(column.algorithm, column.max_distance) for column in self.columns)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave: the state searched, hits (`Hit.record` is a position in `records`), and items cut to the cap."""

    state: IndexState
    records: tuple[Record, ...]
    hits: tuple[Hit, ...]
    truncated_items: tuple[int, ...]

    def nearest(self, cap: int) -> Found:
        """Return this with at most `cap` records for each item, the nearest; items cut by it are named too."""
        kept: dict[int, list[Hit]] = {}
        for hit in self.hits:
            kept.setdefault(hit.item, []).append(hit)
        cut = {item for item, hits in kept.items() if len(hits) > cap}
        hits = [hit for found in kept.values() for hit in found[:cap]]
        order = {record: position for position, record in enumerate(dict.fromkeys(hit.record for hit in hits))}
        return Found(
            self.state,
            tuple(self.records[record] for record in order),
            tuple(replace(hit, record=order[hit.record]) for hit in hits),
            tuple(sorted(cut.union(self.truncated_items))),
        )


class Catalogue:
    """Searches one member's records. Safe from several threads and processes; one process at a time keeps the indexes."""

    def __init__(self, store: RecordStore, folder: Path, clock: Clock, *, keeper: bool = True) -> None:
        """Open the indexes below `folder`; a damaged one is made anew from the store.

        Args:
            store: the records.
            folder: of the indexes.
            clock: gives the time of searches.
            keeper: this process applies the store's changes to the indexes; without it, another one does.

        Raises:
            HashError: another process keeps the indexes already, they cannot be written, or (not the keeper) there are none yet.
            StoreError: the store cannot be read.
        """
        self._keeper = keeper
        self._store = store
        self._folder = folder
        self._clock = clock
        self._indexes = {algorithm: self._open(algorithm) for algorithm in PERCEPTUAL}
        self._follow_lock = threading.Lock()
        self._moved = threading.Condition()
        self._broken: str | None = None
        if keeper:
            self._renew_strangers()
        self._version = self._indexed_version()
        self._target = self._version
        self._band = 0
        self.records = 0  # when they were last counted
        self.changed_ms = 0  # when the records last changed, as of the last `check`
        self._counted = -1  # the change at which the records were counted
        self._count_after_s = 0.0
        self._merged_after_s = 0.0
        self._wake = threading.Event()
        self._stopping = False
        self._follower = threading.Thread(target=self._follow_forever, name="index-follower", daemon=True)

    def start(self) -> None:
        """Start following the store."""
        self._follower.start()

    def close(self) -> None:
        """Stop following and close the indexes."""
        self._stopping = True
        self._wake.set()
        if self._follower.ident is not None:
            self._follower.join()
        for index in self._indexes.values():
            index.close()

    def catch_up(self) -> None:
        """Bring the indexes up to the store now, in the caller's thread.

        Raises:
            StoreError, HashError: the store cannot be read, or an index not written.
        """
        while self._follow_once():
            pass

    def progress(self) -> tuple[int, int]:
        """Return (version the indexes have, version the store has)."""
        return self._version, max(self._target, self._version)

    def check(self) -> None:
        """Return if a search would be answered.

        Raises:
            IndexBehindError, IndexBrokenError: as `search`, without waiting.
            StoreError: the store cannot be read.
        """
        version, self.changed_ms = self._store.version()
        self._wait_until(version, 0.0)

    def search(self, wanted: Sequence[Wanted], *, patience_s: float = 2.0) -> list[Found]:
        """Find for each question every record within each of its columns' distances, all in one state of the store.

        Args:
            wanted: the questions.
            patience_s: how long to wait for the indexes to catch up with the store.

        Raises:
            IndexBehindError: the indexes did not catch up in time.
            IndexBrokenError: the indexes cannot be used.
            StoreError: the store cannot be read.
        """
        renewals = self._renewals()
        with self._store.reading() as store:
            version, changed_ms = store.version()
            self._wait_until(version, patience_s)
            candidates = [Candidates(question) for question in wanted]
            limit = rows_wanted(question.max_hits_per_item for question in wanted)
            for together in _same_searches(wanted):
                self._search_columns(together, store, limit, candidates)
            choose(candidates, store.records, functools.partial(self._search_code, store), limit)
            self._check_not_renewed(renewals, version)
        current_ms = self._clock()
        return [
            Found(IndexState(version, changed_ms, current_ms, question.searched, self._band), *each.told())
            for question, each in zip(wanted, candidates, strict=True)
        ]

    def _search_columns(
        self, together: Sequence[tuple[int, int, HashColumn]], store: Reading, limit: int, candidates: Sequence[Candidates]
    ) -> None:
        """Search columns of one algorithm and distance, each of the question and with the place in it said, and add what is near."""
        columns = [column for _, _, column in together]
        algorithm = columns[0].algorithm
        codes = columns[0].codes if len(columns) == 1 else np.concatenate([column.codes for column in columns])
        found = self._search_codes(algorithm, codes, columns[0].max_distance, store, limit)
        if found is None:
            return
        first = 0
        for number, place, column in together:
            end = first + len(column.codes)
            limits, cut = found.limits[first : end + 1], found.truncated[first:end]
            if limits[0] < limits[-1]:
                own = slice(limits[0], limits[-1])
                positions = np.repeat(np.arange(len(column.codes)), np.diff(limits))
                rows = Rows(positions, found.labels[own], found.distances[own])
                candidates[number].add(place, rows, np.flatnonzero(cut).tolist())
            first = end

    def _search_code(self, store: Reading, column: HashColumn, code: int, limit: int, bands: Sequence[int] | None) -> Near:
        found = self._search_codes(column.algorithm, column.codes[code : code + 1], column.max_distance, store, limit, bands)
        return Near(found.labels, found.distances, bool(found.truncated[0])) if found else NOTHING_NEAR

    def _search_codes(
        self,
        algorithm: Algorithm,
        codes: NDArray[np.uint8],
        max_distance: int,
        store: Reading,
        limit: int,
        bands: Sequence[int] | None = None,
    ) -> SearchResult | None:
        """Return what is near enough to each code, of an index's rows the nearest `limit`; None where there is nothing."""
        if algorithm.is_digest:
            return _equal(codes, store.find(algorithm, [code.tobytes() for code in codes]))
        try:
            found = self._indexes[algorithm].range_search(codes, max_distance, limit, bands)
        except IndexCorruptError as error:
            self._mark(algorithm).touch()
            self._wake.set()
            raise IndexBrokenError(f"{algorithm.label}: {error}") from error
        except (HashError, OSError, RuntimeError) as error:
            raise IndexBrokenError(f"{algorithm.label}: {error}") from error
        return found if found.labels.size else None

    def _check_not_renewed(self, renewals: int, version: int) -> None:
        """An index that was emptied, here or by the keeping process, may have been searched while it was empty."""
        try:
            held = version if self._keeper else self._indexed_version()
        except HashError as error:
            raise IndexBrokenError(str(error)) from error
        if self._renewals() != renewals or held < version:
            raise IndexBehindError("an index was renewed during the search")

    def _wait_until(self, version: int, patience_s: float) -> None:
        with self._moved:
            self._target = max(self._target, version)
            if self._version < version and self._broken is None:
                self._wake.set()
                self._moved.wait_for(lambda: self._version >= version or self._broken is not None, patience_s)
            if self._broken is not None:
                raise IndexBrokenError(self._broken)
            if self._version < version:
                raise IndexBehindError(f"index at change {self._version} of {version}")

    def _follow_forever(self) -> None:
        while not self._stopping:
            try:
                while self._follow_once():
                    pass
            except (NodeError, HashError, OSError, RuntimeError, ValueError) as error:
                if self._broken is None:  # it is tried again several times a second
                    _log.error("the search index cannot follow the record store: %s; lookups are refused until it can", error)
                self._report(broken=str(error))
            self._wake.wait(_POLL_S if self._keeper or self._version >= self._target else _NEAR_POLL_S)
            self._wake.clear()

    def _follow_once(self) -> bool:
        """Apply one batch of changes; return whether there may be more."""
        with self._follow_lock:
            if not self._keeper:
                with self._moved:
                    self._version = self._indexed_version()
                    self._broken = None
                    self._moved.notify_all()
                self._count()
                return False
            for algorithm in PERCEPTUAL:
                if self._mark(algorithm).exists():
                    self._renew(algorithm, "is damaged")
            self._renew_strangers()
            target, _ = self._store.version()
            changes = self._store.changes_after(self._version, limit=_BATCH)
            if not changes.versions:
                self._count()
                self._report(broken=None)
                self._keep_merged()
                return False
            reached = changes.versions[-1]
            for algorithm, index in self._indexes.items():
                if index.source_version < reached:
                    _apply(index, algorithm, changes)
                    index.flush(source_version=reached, source_mark=changes.mark)
            with self._moved:
                self._version = reached
                self._target = max(target, self._version)
                self._broken = None
                self._moved.notify_all()
            if target > self._version:
                _log.info("search index: %d of %d changes applied", self._version, target)
            return self._version < target and not self._stopping

    def _count(self) -> None:
        """Count the records for the band that answers tell: seconds with many millions, so not after every change."""
        started_s = time.monotonic()
        if self._counted == self._version or started_s < self._count_after_s:
            return
        self.records = self._store.state().records
        self._counted = self._version
        self._band = max(band for band in RECORD_BANDS if band <= self.records)
        finished_s = time.monotonic()
        self._count_after_s = finished_s + _COUNTING_SHARE * (finished_s - started_s)

    def _keep_merged(self) -> None:
        """Write down what was merged since the last change: other processes and the next start would search the many parts of before."""
        if time.monotonic() < self._merged_after_s:
            return
        for algorithm, index in self._indexes.items():
            try:
                index.flush()
            except IndexStorageError as error:  # what was flushed before holds, so lookups go on
                _log.warning("%s index: its merged parts cannot be written: %s", algorithm.label, error)
                self._merged_after_s = time.monotonic() + _STORAGE_RETRY_S

    def _report(self, *, broken: str | None) -> None:
        with self._moved:
            self._broken = broken
            self._moved.notify_all()

    def _open(self, algorithm: Algorithm) -> HashIndex:
        path = self._folder / algorithm.value
        if not self._keeper:
            return HashIndex.open(path, algorithm, read_only=True)
        try:
            return HashIndex.open(path, algorithm)
        except IndexCorruptError as error:
            _log.warning("%s index is damaged (%s); rebuilding it from the record store", algorithm.label, error)
            return self._emptied(algorithm)

    def _renew_strangers(self) -> None:
        """Start anew with every index that followed another history than the store has: an old copy was put back, or another store."""
        marks = {version: self._store.mark(version) for version in {index.source_version for index in self._indexes.values()}}
        for algorithm, index in list(self._indexes.items()):
            if marks[index.source_version] != index.source_mark:
                self._renew(algorithm, "followed another history than the record store has: was an old copy put back?")

    def _renew(self, algorithm: Algorithm, why: str) -> None:
        """Throw away an index and start again from an empty one."""
        _log.warning("%s index %s; rebuilding it from the record store", algorithm.label, why)
        with self._moved:
            self._version = self._target = 0  # until it is rebuilt, nothing can be said about what is not found
        with contextlib.suppress(HashError):
            self._indexes[algorithm].close()
        self._indexes[algorithm] = self._emptied(algorithm)
        self._mark(algorithm).unlink(missing_ok=True)

    def _emptied(self, algorithm: Algorithm) -> HashIndex:
        with (self._folder / _RENEWALS).open("ab") as file:  # before it is empty: who searched it meanwhile must see this
            file.write(b".")
        HashIndex.discard(self._folder / algorithm.value)
        return HashIndex.open(self._folder / algorithm.value, algorithm)

    def _renewals(self) -> int:
        """Return how often an index was emptied, by whichever process."""
        try:
            return (self._folder / _RENEWALS).stat().st_size
        except FileNotFoundError:
            return 0

    def _mark(self, algorithm: Algorithm) -> Path:
        """Return the file by which any process tells the keeping one that it found an index damaged."""
        return self._folder / f"{algorithm.value}.damaged"

    def _indexed_version(self) -> int:
        return min(index.source_version for index in self._indexes.values())


def _apply(index: HashIndex, algorithm: Algorithm, changes: Changes) -> None:
    """Bring one index from before these changes to after them. Applying them twice gives the same.

    A search meanwhile finds a changed record by its old code or its new one, never by neither.
    """
    column = changes.codes[algorithm]
    ids = np.array(changes.record_ids, dtype=np.int64)
    present = np.fromiter((code is not None for code in column), dtype=np.bool_, count=len(ids))
    if present.any():
        codes = np.frombuffer(b"".join(filter(None, column)), dtype=np.uint8).reshape(-1, algorithm.code_bytes)
        index.put(ids[present], codes)
    index.remove(ids[~present])


def _same_searches(wanted: Sequence[Wanted]) -> Iterable[list[tuple[int, int, HashColumn]]]:
    """Put together what can be searched together: columns of one algorithm and distance, each with its question's number and its place."""
    together: dict[tuple[Algorithm, int], list[tuple[int, int, HashColumn]]] = {}
    for number, question in enumerate(wanted):
        for place, column in enumerate(question.columns):
            together.setdefault((column.algorithm, column.max_distance), []).append((number, place, column))
    return together.values()


def _equal(codes: NDArray[np.uint8], known: Mapping[bytes, Sequence[int]]) -> SearchResult | None:
    """Return the records that carry each of some digests."""
    if not known:
        return None
    found = [known.get(code.tobytes(), ()) for code in codes]
    labels = np.array([record for records in found for record in records], np.int64)
    limits = np.array(list(itertools.accumulate(map(len, found), initial=0)))
    return SearchResult(limits, np.zeros(len(labels), np.int32), labels, np.zeros(len(codes), np.bool_))
