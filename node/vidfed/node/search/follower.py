"""Keeps one hash index for each perceptual algorithm equal to the record store, which is the truth.

A thread applies the store's changes to the indexes as they come. Of several processes one keeps the indexes; the others map the same files
and see what it has applied. An index that was emptied to be rebuilt is told by a file beside it that only grows, so that a search that ran
meanwhile, in any process, is not believed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from vidfed.index import Algorithm, HashError, HashIndex, IndexClosedError, IndexCorruptError, IndexStorageError
from vidfed.node.errors import IndexBehindError, IndexBrokenError, NodeError, StoreError
from vidfed.node.records.lifecycle import finish_erasures
from vidfed.node.records.schema import PLACE_BITS
from vidfed.node.records.store import PERCEPTUAL
from vidfed.security.clock import system_clock
from vidfed.wire.values import RECORD_BANDS, Share

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vidfed.index import SearchResult
    from vidfed.node.records.store import Changes, RecordStore

_BATCH = 50_000  # changes applied between two flushes while catching up: some 20 MB, a second
_POLL_S = 0.25  # how soon an idle node notices changes by another process; a lookup in the keeping process notices at once
_NEAR_POLL_S = 0.01  # how soon another process notices that the keeping one has applied what a lookup waits for
_RENEWALS = "renewals"  # grows by a byte whenever an index is emptied
_STORAGE_RETRY_S = 60.0  # after the disk refused something that can wait
_COUNTING_SHARE = 100  # counting all records may take one part of so many of the follower's time
_log = logging.getLogger(__name__)


class IndexFollower:
    """The indexes of one member's records, and the thread that follows the store. Safe from several threads.

    Attributes:
        records: how many there were when they were last counted.
        band: the largest of RECORD_BANDS that `records` reaches: what answers say of their number.
    """

    def __init__(self, store: RecordStore, folder: Path, *, keeper: bool) -> None:
        """Open the indexes below `folder`; a damaged one is made anew from the store.

        Args:
            store: the records.
            folder: of the indexes.
            keeper: this process applies the store's changes to the indexes; without it, another one does.

        Raises:
            HashError: another process keeps the indexes already, they cannot be written, or (not the keeper) there are none yet.
            StoreError: the store cannot be read.
        """
        self._keeper = keeper
        self._store = store
        self._folder = folder
        self.indexes = {algorithm: self._open(algorithm) for algorithm in PERCEPTUAL}
        self._follow_lock = threading.Lock()
        self._moved = threading.Condition()
        self._broken: str | None = None
        if keeper:
            self._renew_strangers()
        self._version = self._indexed_version()
        self._target = self._version
        self.records = self.band = 0
        self._shares: dict[Algorithm, Share] = {}
        self._counted = -1  # the change at which the records were counted
        self._count_after_s = 0.0
        self._merged_after_s = 0.0
        self._erases = keeper and store.last_erasure() > 0  # an erasure may have been interrupted
        self._erase_after_s = 0.0
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._follow_forever, name="index-follower", daemon=True)

    @property
    def shares(self) -> dict[Algorithm, Share]:
        """How many of the records carry a hash of each algorithm, when they were last counted; empty where that says nothing of those now.

        A store that was empty when it was counted lacked nothing, which must not be said of the first import.
        """
        if not self._version:
            return dict.fromkeys(Algorithm, Share.NEARLY_ALL)
        return self._shares if self.records or self._counted == self._version else {}

    @property
    def erasing(self) -> bool:
        """Whether something that was erased may be in a file still; of the keeper."""
        return self._erases or any(index.holds_erased for index in self.indexes.values())

    def start(self) -> None:
        """Start following the store."""
        self._thread.start()

    def close(self) -> None:
        """Stop following and close the indexes."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        for index in self.indexes.values():
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

    def wait_until(self, version: int, patience_s: float) -> None:
        """Return once the indexes have this version of the store.

        Args:
            version: of the store.
            patience_s: how long to wait at most.

        Raises:
            IndexBehindError: they did not catch up in time.
            IndexBrokenError: they cannot be used.
        """
        with self._moved:
            self._target = max(self._target, version)
            if self._version < version and self._broken is None:
                self._wake.set()
                self._moved.wait_for(lambda: self._version >= version or self._broken is not None, patience_s)
            if self._broken is not None:
                raise IndexBrokenError(self._broken)
            if self._version < version:
                raise IndexBehindError(f"index at change {self._version} of {version}")

    def search(
        self, algorithm: Algorithm, codes: NDArray[np.uint8], max_distance: int, limit: int | None, bands: Sequence[int] | None
    ) -> SearchResult | None:
        """Return what is near enough to each code, of an index's rows the nearest `limit`, all without one; None where there is nothing.

        Raises:
            IndexBrokenError: the index is damaged, which the keeping process is told, or cannot be read.
        """
        try:
            found = self.indexes[algorithm].range_search(codes, max_distance, limit, bands)
        except IndexCorruptError as error:
            self._mark(algorithm).touch()
            self._wake.set()
            raise IndexBrokenError(f"{algorithm.label}: {error}") from error
        except (HashError, OSError, RuntimeError) as error:
            raise IndexBrokenError(f"{algorithm.label}: {error}") from error
        return found if found.labels.size else None

    def check(self, pause: Callable[[int], None]) -> str:
        """Read every byte of the indexes, and have a damaged one made anew, during which nothing is answered; return what was found.

        Args:
            pause: as `HashIndex.check` takes it.
        """
        found = []
        for algorithm, index in list(self.indexes.items()):
            try:
                index.check(pause)
            except IndexCorruptError as error:
                self._mark(algorithm).touch()
                self._wake.set()
                found.append(f"the {algorithm.label} index was damaged ({error})")
            except IndexClosedError:
                continue  # it was made anew meanwhile
            except HashError as error:
                found.append(f"the {algorithm.label} index cannot be read ({error})")
        return "; ".join(found)

    def renewals(self) -> int:
        """Return how often an index was emptied, by whichever process."""
        try:
            return (self._folder / _RENEWALS).stat().st_size
        except FileNotFoundError:
            return 0

    def check_not_renewed(self, renewals: int, version: int) -> None:
        """Make sure that no index was emptied, here or by the keeping process, while it was searched.

        Args:
            renewals: as they were before the search.
            version: of the store that was searched.

        Raises:
            IndexBehindError: one was.
            IndexBrokenError: it cannot be known.
        """
        try:
            held = version if self._keeper else self._indexed_version()
        except HashError as error:
            raise IndexBrokenError(str(error)) from error
        if self.renewals() != renewals or held < version:
            raise IndexBehindError("an index was renewed during the search")

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
                self._finish_erasures()
                return False
            reached = changes.versions[-1]
            self._erases = self._erases or any(changes.erased)
            for algorithm, index in self.indexes.items():
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
            if self._version >= target:
                self._count()
            return self._version < target and not self._stopping

    def _count(self) -> None:
        """Count the records for the band that answers tell: seconds with many millions, so not after every change."""
        started_s = time.monotonic()
        if self._counted == self._version or (self.records and started_s < self._count_after_s):
            return
        self.records, carrying = self._store.carrying()
        self._shares = {algorithm: Share.of(count, self.records) for algorithm, count in carrying.items()}
        self._counted = self._version
        self.band = max(band for band in RECORD_BANDS if band <= self.records)
        finished_s = time.monotonic()
        self._count_after_s = finished_s + _COUNTING_SHARE * (finished_s - started_s)

    def _keep_merged(self) -> None:
        """Write down what was merged since the last change: other processes and the next start would search the many parts of before."""
        if time.monotonic() < self._merged_after_s:
            return
        for algorithm, index in self.indexes.items():
            try:
                index.flush()
            except IndexStorageError as error:  # what was flushed before holds, so lookups go on
                _log.warning("%s index: its merged parts cannot be written: %s", algorithm.label, error)
                self._merged_after_s = time.monotonic() + _STORAGE_RETRY_S

    def _finish_erasures(self) -> None:
        """Take what was erased out of the database's own files: whoever erased it may have been stopped before that."""
        if not self._erases or time.monotonic() < self._erase_after_s:
            return
        try:
            finish_erasures(self._store, now_ms=system_clock())
        except StoreError as error:
            _log.warning("what was erased is not out of every file yet: %s", error)
            self._erase_after_s = time.monotonic() + _STORAGE_RETRY_S
        else:
            self._erases = False

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
        marks = {version: self._store.mark(version) for version in {index.source_version for index in self.indexes.values()}}
        for algorithm, index in list(self.indexes.items()):
            if index.source_version and marks[index.source_version] != index.source_mark:  # an empty one has followed none yet
                self._renew(algorithm, "followed another history than the record store has: was an old copy put back?")

    def _renew(self, algorithm: Algorithm, why: str) -> None:
        """Throw away an index and start again from an empty one."""
        _log.warning("%s index %s; rebuilding it from the record store", algorithm.label, why)
        with self._moved:
            self._version = self._target = 0  # until it is rebuilt, nothing can be said about what is not found
        with contextlib.suppress(HashError):
            self.indexes[algorithm].close()
        self.indexes[algorithm] = self._emptied(algorithm)
        self._mark(algorithm).unlink(missing_ok=True)

    def _emptied(self, algorithm: Algorithm) -> HashIndex:
        with (self._folder / _RENEWALS).open("ab") as file:  # before it is empty: who searched it meanwhile must see this
            file.write(b".")
        HashIndex.discard(self._folder / algorithm.value)
        return HashIndex.open(self._folder / algorithm.value, algorithm)

    def _mark(self, algorithm: Algorithm) -> Path:
        """Return the file by which any process tells the keeping one that it found an index damaged."""
        return self._folder / f"{algorithm.value}.damaged"

    def _indexed_version(self) -> int:
        return min(index.source_version for index in self.indexes.values())


def _apply(index: HashIndex, algorithm: Algorithm, changes: Changes) -> None:
    """Bring one index from before these changes to after them. Applying them twice gives the same.

    A search meanwhile finds a changed record by its old code or its new one, never by neither.
    """
    column = changes.codes[algorithm]
    own = np.array(changes.record_ids, dtype=np.int64) << PLACE_BITS
    present = np.fromiter((code is not None for code in column), dtype=np.bool_, count=len(own))
    if present.any():
        codes = np.frombuffer(b"".join(filter(None, column)), dtype=np.uint8).reshape(-1, algorithm.code_bytes)
        index.put(own[present], codes)
    erased = np.array(changes.erased, dtype=np.bool_)
    gone, to_erase = [own[~present & ~erased]], [own[erased]]
    if any(changes.places):
        labels, further = changes.further.get(algorithm, ((), ()))
        kept = np.array(labels, dtype=np.int64)
        if further:
            index.put(kept, np.frombuffer(b"".join(further), dtype=np.uint8).reshape(-1, algorithm.code_bytes))
        places = np.array(changes.places, dtype=np.int64)
        # Every place that these records have ever had, one after the other: those without a code now may have one in the index.
        first = np.repeat(np.cumsum(places) - places, places)
        had = np.repeat(own, places) + np.arange(1, len(first) + 1) - first
        of_erased = np.repeat(erased, places)
        gone.append(np.setdiff1d(had[~of_erased], kept, assume_unique=True))
        to_erase.append(had[of_erased])
    index.remove(np.concatenate(gone))
    if erased.any():
        index.remove(np.concatenate(to_erase), erase=True)
