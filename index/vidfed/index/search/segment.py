"""A sealed segment: rows that no longer change, in a memory-mapped file, with the tables that find the near ones fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vidfed.index.search import compiled, plan
from vidfed.index.search.compiled import frozen
from vidfed.index.search.flat import FlatScan
from vidfed.index.search.hits import Hits
from vidfed.index.search.rows.bitmap import bits_at
from vidfed.index.search.rows.labels import CompactLabels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidfed.index.algorithms import Algorithm
    from vidfed.index.search.hits import Nearest
    from vidfed.index.search.manifest import FileEntry

_FIRST_ROOM, _MOST_ROOM = 1 << 10, 1 << 18
"""Hits made room for at first, and at most (6 MB) unless one query alone has more."""
_SCAN_ROOM = 1 << 16
"""Hits of a scan made room for, unless one query alone has more."""
_BUDGET_SHARE = 0.12
"""A query that turns out to cost more than this share of a scan (its buckets are crowded) is scanned instead: 1.12 scans in all."""
_OVERRUN = 1.5
"""A distance that is expected to cost more than that gets so much more than expected."""


class Segment:
    """Rows in ascending order of their labels; a row's number is its position."""

    def __init__(self, algorithm: Algorithm, entry: FileEntry, arrays: dict[str, NDArray[Any]]) -> None:
        """Use the arrays of `build`, usually mapped from the file that `entry` names."""
        self.entry = entry
        self.codes: NDArray[np.uint8] = arrays["codes"].reshape(-1, algorithm.code_bytes)
        self.rows = len(self.codes)
        self._algorithm = algorithm
        self._labels = CompactLabels(arrays)
        self._arrays = arrays
        self._flat: FlatScan | None = None
        self._layout = arrays.get("layout")
        self._kernels = compiled.kernels()[0] if self._layout is not None else None
        if self._layout is not None and self._kernels is not None:
            self._words = algorithm.code_bytes // 8
            self._tables = tuple(plan.Table(int(offset), int(prefix)) for offset, prefix, _ in self._layout.reshape(-1, 3))
            self._code_words = frozen(self.codes.view(np.uint64).reshape(-1))
            self._searched = tuple(frozen(arrays[key]) for key in ("layout", "directory", "filters", "row_numbers"))
            self._plans: dict[int, tuple[Any, ...] | None] = {}

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64[rows], ascending."""
        return self._labels.all()

    @property
    def lowest_label(self) -> int:
        """The label of the first row."""
        return self._labels.lowest

    def labels_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of some rows."""
        return self._labels.of(rows)

    def find(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of some labels, -1 where there is none."""
        return self._labels.find(labels)

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
