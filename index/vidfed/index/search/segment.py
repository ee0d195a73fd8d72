"""A sealed segment: rows that no longer change, in a memory-mapped file, with the tables that find the near ones fast."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from vidfed.index.algorithms import Algorithm, DistanceKind
from vidfed.index.search import plan
from vidfed.index.search.flat import FlatScan
from vidfed.index.search.hits import Hits

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from numpy.typing import NDArray

    from vidfed.index.search.hits import Nearest
    from vidfed.index.search.manifest import FileEntry

_logger = logging.getLogger(__name__)
_FIRST_ROOM, _MOST_ROOM = 1 << 10, 1 << 18
"""Hits made room for at first, and at most (6 MB) unless one query alone has more."""
_SCAN_ROOM = 1 << 16
"""Hits of a scan made room for, unless one query alone has more."""
_BUDGET_SHARE = 0.12
"""A query that turns out to cost more than this share of a scan (its buckets are crowded) is scanned instead: 1.12 scans in all."""
_OVERRUN = 1.5
"""A distance that is expected to cost more than that gets so much more than expected."""
_NONE_REMOVED = np.empty(0, np.uint8)
_NONE_REMOVED.flags.writeable = False


@cache
def kernels() -> tuple[ModuleType | None, str]:
    """The compiled loops, or None and the reason why there are none. Takes a second, and several the first time on a machine."""
    try:
        from vidfed.index.search import kernels as module  # noqa: PLC0415 - needs a second to load, or a compiler
    except Exception as error:  # noqa: BLE001 - whatever a compiler fails with, the scan is right, only slower
        _logger.warning("compiled search not available, every query scans every row: %s: %s", type(error).__name__, error)
        return None, f"{type(error).__name__}: {error}"
    return module, ""


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A view nobody can write to: the type of array the compiled loops are compiled for."""
    view = array.view()
    view.flags.writeable = False
    return view


class Segment:
    """Rows in ascending order of their labels; a row's number is its position."""

    def __init__(self, algorithm: Algorithm, entry: FileEntry, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over the arrays of `build`, usually mapped from the file that `entry` names."""
        self.entry = entry
        self.codes: NDArray[np.uint8] = arrays["codes"].reshape(-1, algorithm.code_bytes)
        self.rows = len(self.codes)
        self._algorithm = algorithm
        self._label_base = int(arrays["label_base"][0])
        self._label_offsets = arrays["label_offsets"]
        self._arrays = arrays
        self._flat: FlatScan | None = None
        self._layout = arrays.get("layout")
        self._kernels = kernels()[0] if self._layout is not None else None
        if self._layout is not None and self._kernels is not None:
            self._words = algorithm.code_bytes // 8
            self._tables = tuple(plan.Table(int(offset), int(prefix)) for offset, prefix, _ in self._layout.reshape(-1, 3))
            self._code_words = frozen(self.codes.view(np.uint64).reshape(-1))
            self._searched = tuple(frozen(arrays[key]) for key in ("layout", "directory", "filters", "row_numbers"))
            self._plans: dict[int, tuple[Any, ...] | None] = {}

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64[rows], ascending."""
        return self._label_offsets.astype(np.int64) + self._label_base

    def labels_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of some rows."""
        return self._label_offsets[rows].astype(np.int64) + self._label_base

    def find(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of some labels, -1 where there is none."""
        offsets = labels - self._label_base
        most = np.iinfo(self._label_offsets.dtype).max
        possible = (offsets >= 0) & (offsets <= min(most, np.iinfo(np.int64).max))
        # Searched for in the type it is kept in: NumPy would convert all rows of the segment otherwise.
        offsets = np.where(possible, offsets, 0).astype(self._label_offsets.dtype)
        rows = np.minimum(np.searchsorted(self._label_offsets, offsets), self.rows - 1)
        return np.where(possible & (self._label_offsets[rows] == offsets), rows, -1)

    def describe(self, distance: int) -> str:
        """How a query for `distance` would be answered, for people."""
        if self._kernels is None:
            return f"{self.rows} rows: scan by FAISS"
        probes = plan.probes_for(self._tables, self.rows, distance)
        if probes is None:
            return f"{self.rows} rows: scan"
        return f"{self.rows} rows: {len(self._tables)} tables, {probes.masks.size} buckets a query"

    def range_search(self, codes: NDArray[np.uint8], max_distance: int, removed: NDArray[np.uint8], nearest: Nearest | None) -> Hits:
        """Find rows within `max_distance` (inclusive) of each of `codes`, except those set in `removed` (maybe empty).

        Rows are the hits' labels here; they are in the labels' order, so that the nearest by row are the nearest by label. With `nearest`
        the others are dropped after every call of the compiled loops: memory holds what is wanted, and the hits of one query more.
        """
        if self._kernels is None:
            return self._flat_search(codes, max_distance, removed, nearest)
        words = codes.view(np.uint64).reshape(-1)
        if not words.flags.aligned:
            words = words.copy()
        words.flags.writeable = False
        count = len(codes)
        planned = self._plan(max_distance)
        if planned is None:
            return self._scan(words, np.arange(count), max_distance, removed, nearest)
        parts: list[Hits] = []
        gave_up, given_up, first, room = np.zeros(count, np.uint8), 0, 0, _FIRST_ROOM
        while first < count:
            out = np.empty(3 * room, np.int64)
            found, done, more = self._kernels.search(
                words, self._words, first, count, self._code_words, *self._searched, removed, *planned, out, gave_up
            )
            given_up += more
            if found:
                parts.append(_kept(out, found, nearest))
            if room < _MOST_ROOM or done == first:  # more than that only where one query alone needs it
                room *= 4
            first = done
        if given_up:
            parts.append(self._scan(words, np.flatnonzero(gave_up), max_distance, removed, nearest))
        return Hits.join(parts)

    def _scan(
        self,
        words: NDArray[np.uint64],
        asked: NDArray[np.int64],
        max_distance: int,
        removed: NDArray[np.uint8],
        nearest: Nearest | None,
    ) -> Hits:
        """Compare every code with the queries numbered in `asked`; where their hits are too many, with half of them at a time."""
        assert self._kernels is not None  # noqa: S101 - the caller looked
        parts: list[Hits] = []
        waiting, room, crowded = [asked], _SCAN_ROOM, False
        while waiting:
            some = frozen(waiting.pop())
            out = np.empty(3 * room, np.int64)
            if crowded and nearest is not None:
                bands = frozen(nearest.bands(np.arange(max_distance + 1)).astype(np.int64))
                enough = min(nearest.count, self.rows)
                found = self._kernels.scan_crowd(words, self._words, some, self._code_words, removed, max_distance, bands, enough, out)
            else:
                found = self._kernels.scan(words, self._words, some, self._code_words, removed, max_distance, out)
            if found > 0:
                parts.append(_kept(out, found, nearest))
            elif found < 0 and not crowded:
                waiting, crowded = [asked], True
            elif found < 0:
                room *= 8 if some.size == 1 else 1
                waiting += np.array_split(some, min(2, some.size))
        return Hits.join(parts)

    def _plan(self, distance: int) -> tuple[Any, ...] | None:
        """The arguments of the compiled search that depend on the distance; None where a scan is cheaper."""
        if distance not in self._plans:
            probes = plan.probes_for(self._tables, self.rows, distance)
            if probes is None:
                self._plans[distance] = None
            else:
                budget = max(plan.scan_cost(self.rows) * _BUDGET_SHARE, probes.cost * _OVERRUN) / plan.ENTRY_COST
                limits = frozen(np.concatenate([probes.thresholds, probes.sums]))
                self._plans[distance] = probes.tables, probes.masks, probes.bounds, limits, distance, int(budget)
        return self._plans[distance]

    def _flat_search(self, codes: NDArray[np.uint8], max_distance: int, removed: NDArray[np.uint8], nearest: Nearest | None) -> Hits:
        if self._flat is None:
            self._flat = FlatScan(self._algorithm, self.codes)

        def wanted(hits: Hits) -> Hits:
            if removed.size:
                hits = hits.at(~bits_at(removed, hits.labels))
            return hits if nearest is None else nearest.of(hits)

        if nearest is None:
            return wanted(self._flat.range_search(codes, max_distance))
        return self._flat.range_search(codes, max_distance, wanted)


def _kept(out: NDArray[np.int64], found: int, nearest: Nearest | None) -> Hits:
    """What is wanted of the hits that a compiled loop wrote."""
    # A large room is not kept for few hits.
    rows = (out[: 3 * found] if out.size <= 3 * _FIRST_ROOM else out[: 3 * found].copy()).reshape(-1, 3)
    hits = Hits(rows[:, 0], rows[:, 1].astype(np.int32), rows[:, 2])
    return hits if nearest is None else nearest.of(hits)


def build(algorithm: Algorithm, labels: NDArray[np.int64], codes: NDArray[np.uint8], threads: int) -> dict[str, NDArray[Any]]:
    """Make a segment's arrays.

    Args:
        algorithm: Whose codes they are. PhotoDNA's have no tables: Euclidean distance cannot be cut into substrings.
        labels: int64[rows], ascending, none twice; at least one and at most `plan.MAX_SEGMENT_ROWS`.
        codes: uint8[rows, bytes].
        threads: How many tables to build at the same time.
    """
    base = int(labels[0])
    narrow = int(labels[-1]) - base <= np.iinfo(np.uint32).max
    offsets = (labels - base).astype(np.uint32 if narrow else np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "label_base": np.array([base]),
        "label_offsets": offsets,
        "codes": np.ascontiguousarray(codes).reshape(-1),
    }
    module = kernels()[0] if algorithm.distance_kind is DistanceKind.HAMMING else None
    if module is None:
        return arrays
    rows, words = len(codes), algorithm.code_bytes // 8
    tables = plan.tables_for(algorithm.code_bytes * 8, rows, algorithm.default_distance)
    starts = list(accumulate([0, *((1 << table.prefix) + 1 for table in tables)]))
    directory = np.empty(starts[-1], np.uint32)
    filters = np.zeros(len(tables) * rows + module.LANES, np.uint16)
    row_numbers = np.empty(len(tables) * rows * plan.ROW_NUMBER_BYTES, np.uint8)
    code_words = frozen(arrays["codes"].view(np.uint64))

    def fill(numbers: Iterable[int]) -> None:
        scratch = np.empty(rows, np.uint64)
        for number in numbers:
            table = tables[number]
            own = directory[starts[number] : starts[number + 1]]
            module.build_table(code_words, words, number, table.offset, table.prefix, scratch, own, filters, row_numbers)

    if threads > 1 and rows >= _MANY_ROWS:
        with ThreadPoolExecutor(threads, "vidfed-index-build") as pool:
            list(pool.map(fill, [range(first, len(tables), threads) for first in range(threads)]))
    else:
        fill(range(len(tables)))
    layout = np.array([(*table, start) for table, start in zip(tables, starts[:-1], strict=True)], np.int64).reshape(-1)
    return arrays | {"layout": layout, "directory": directory, "filters": filters, "row_numbers": row_numbers}


_MANY_ROWS = 1 << 20


def processor_count() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def no_bits() -> NDArray[np.uint8]:
    """The bitmap of a segment from which nothing was removed."""
    return _NONE_REMOVED


def with_bits(bitmap: NDArray[np.uint8], rows: NDArray[np.int64], row_count: int) -> NDArray[np.uint8]:
    """A new bitmap in which the bits of `rows` are set too."""
    changed = bitmap.copy() if bitmap.size else np.zeros((row_count + 7) // 8, np.uint8)
    np.bitwise_or.at(changed, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))
    changed.flags.writeable = False
    return changed


def bits_at(bitmap: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of `rows` are set; an empty bitmap has none."""
    if not bitmap.size:
        return np.zeros(rows.size, np.bool_)
    set_bits: NDArray[np.bool_] = (bitmap[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(np.bool_)
    return set_bits
