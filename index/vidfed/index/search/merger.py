"""Which segments to merge, and merging them: pure decisions, and the thread that carries them out in the background."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vidfed.index.errors import IndexStorageError
from vidfed.index.search import plan
from vidfed.index.search.arguments import ascending
from vidfed.index.search.builder import build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vidfed.index.algorithms import Algorithm
    from vidfed.index.search.snapshot import Sealed

_logger = logging.getLogger(__name__)
RETRY_S = 60.0
"""How long after merging failed it is tried again of itself, where rows were erased."""
_NICENESS = 15
"""Of the merging thread: it gets what processor time the queries leave."""


_MERGED_ROW_BYTES = 140
"""What building a segment of PDQ codes takes in memory for each row: the code, twelve tables, labels and the order of sorting."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """When rows are sealed and segments merged. Tests use tiny ones."""

    first_seal_rows: int = 65_536
    """An index with fewer rows has no segments: FAISS scans it in less time than it takes to load a compiler."""
    seal_rows: int = 16_384
    """From then on this many open rows become a segment: scanning them costs about as much as the segments of ten million rows."""
    most_rows: int = field(default_factory=lambda: most_rows_for(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    """Segments do not grow beyond this: merging needs the memory of what it merges once more."""
    merged_together: int = 4
    """So many segments of one size class become one of the next: each row is rebuilt once for each fourfold growth of the index."""
    large_rows: int = 1 << 23
    """Of segments with so many rows any two of one size become one: they are few, and each costs every query as much as the last."""
    removed_share: float = 0.25
    """A segment with more removed rows than this is rebuilt without them."""


def most_rows_for(memory_bytes: int) -> int:
    """How many rows a segment may have on a machine with so much memory, half of which a merge may need for a time."""
    return min(max(memory_bytes // 2 // _MERGED_ROW_BYTES, 1 << 24), plan.MAX_SEGMENT_ROWS)


def to_merge(parts: Sequence[Sealed], sizes: Sizes) -> list[Sealed]:
    """The segments to replace by one next, smallest first; none where all is well."""
    for part in parts:
        if part.holds_erased:
            return [part]
    for part in parts:
        if part.removed_rows > sizes.removed_share * part.segment.rows:
            return [part]
    classes: dict[tuple[bool, int], list[Sealed]] = {}
    for part in sorted(parts, key=lambda part: part.live_rows):
        large = part.live_rows >= sizes.large_rows
        size_class = (part.live_rows // sizes.seal_rows).bit_length()
        classes.setdefault((large, size_class if large else size_class // (sizes.merged_together.bit_length() - 1)), []).append(part)
    for (large, _), members in classes.items():
        if len(members) >= (2 if large else sizes.merged_together):
            chosen, rows = [], 0
            for part in members:
                rows += part.live_rows
                if rows > sizes.most_rows:
                    break
                chosen.append(part)
            if len(chosen) > 1:
                return chosen
    return []


def merge(algorithm: Algorithm, parts: Sequence[Sealed], threads: int) -> dict[str, NDArray[Any]] | None:
    """The arrays of one segment of all live rows of `parts`; None where there are none."""
    labels, codes = [], []
    for part in sorted(parts, key=lambda part: part.segment.lowest_label):  # rising labels need no sorting afterwards
        rows = part.live()
        labels.append(part.segment.labels_of(rows))
        # `take` lets other threads run Python meanwhile; indexing would not.
        codes.append(part.segment.codes.take(rows, axis=0))
    all_labels = np.concatenate(labels)
    if not all_labels.size:
        return None
    all_codes = np.concatenate(codes)
    del codes
    if not ascending(all_labels):
        order = np.argsort(all_labels, kind="stable")
        all_labels, all_codes = all_labels.take(order), all_codes.take(order, axis=0)
    return build(algorithm, all_labels, all_codes, threads)


def removed_meanwhile(before: Sequence[Sealed], now: Sequence[Sealed]) -> NDArray[np.int64]:
    """The labels of rows that were removed from the same segments between two states."""
    labels = [np.empty(0, np.int64)]
    for old, new in zip(before, now, strict=True):
        if new.removed is not old.removed:
            since = new.removed & ~old.removed if old.removed.size else new.removed
            rows = np.flatnonzero(np.unpackbits(since, count=new.segment.rows, bitorder="little"))
            labels.append(new.segment.labels_of(rows))
    return np.concatenate(labels)


class BackgroundMerger:
    """Merges in a thread of its own until nothing is left to merge. At most one thread at a time."""

    def __init__(self, path: Path, writing: threading.RLock, merge_once: Callable[[], bool]) -> None:
        """Merge for the index in folder `path`.

        Args:
            path: For the operator's log.
            writing: The lock under which the index changes; `start` and `ended` are called with it held.
            merge_once: Merges once and returns True, or calls `ended` and returns False where nothing is left to merge.
        """
        self.trouble = ""
        """Why merging last failed; empty where it did not."""
        self._path = path
        self._writing = writing
        self._merge_once = merge_once
        self._thread: threading.Thread | None = None
        self._again_after_s = 0.0

    @property
    def running(self) -> bool:
        """Whether a merge is running or due."""
        return self._thread is not None

    def start(self) -> None:
        """Start merging, unless a thread is at it."""
        if self._thread is None:
            # Known before it runs: it may have ended, and said so, before `start` returns.
            self._thread = threading.Thread(target=self._merge_all, name="vidfed-index-merge", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no more threads are to be had: the next change tries again
                self._thread = None
                self._failed(error)

    def may_try_again(self) -> bool:
        """Whether it has not failed just now: a full disk is not written to several times a second."""
        return time.monotonic() >= self._again_after_s

    def ended(self) -> None:
        """Say, with the lock held, that nothing is left to merge: whoever changes the index afterwards starts another thread."""
        self._thread = None

    def settle(self) -> None:
        """Return when no merge is running or due."""
        while (thread := self._thread) is not None:
            thread.join()

    def _merge_all(self) -> None:
        try:
            # To Linux a thread is a process with a priority of its own. A service's system-call filter may forbid the call.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
            while self._merge_once():
                self.trouble = ""
        except (IndexStorageError, MemoryError) as error:
            self._failed(error)
        finally:
            with self._writing:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _failed(self, error: Exception) -> None:
        self._again_after_s = time.monotonic() + RETRY_S
        self.trouble = f"merging failed, queries go on unmerged: {error}"
        _logger.warning("%s: %s", self._path, self.trouble)
