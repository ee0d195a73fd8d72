"""Full scans: the definition of distance, and FAISS, by which few rows are searched, or all where there is no compiled search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidfed.index.algorithms import Algorithm, DistanceKind
from vidfed.index.search.hits import Hits

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

_ROOM = 1 << 20
"""Hits that may pile up before those not wanted are dropped: 32 MB."""


def distances_to(algorithm: Algorithm, codes: NDArray[np.uint8], code: bytes) -> NDArray[np.int64]:
    """Return how far each of `codes`, uint8[n, bytes], is from `code`. Digests are equal, distance 0, or farther than anybody may ask."""
    other = np.frombuffer(code, np.uint8)
    match algorithm.distance_kind:
        case DistanceKind.HAMMING:
            apart = np.bitwise_count(codes ^ other)
        case DistanceKind.SQUARED_EUCLIDEAN:
            apart = (codes.astype(np.int64) - other) ** 2
        case DistanceKind.EQUALITY:
            apart = (codes != other).any(axis=1, keepdims=True)
    total: NDArray[np.int64] = apart.sum(axis=1, dtype=np.int64)
    return total


class FlatScan:
    """A FAISS copy of some codes (of one algorithm, in row order) that is compared with every query in full."""

    def __init__(self, algorithm: Algorithm, codes: NDArray[np.uint8]) -> None:
        import faiss  # noqa: PLC0415 - 0.2 s that only searching should cost

        # One thread: the index spreads large batches itself, and OpenMP's own pool does not survive the fork of a server's workers.
        faiss.omp_set_num_threads(1)
        self._squared = algorithm.distance_kind is DistanceKind.SQUARED_EUCLIDEAN
        self._faiss: Any
        if self._squared:
            # Bytes are kept as they are (8 bits, direct) and compared as floats. Exact: 144 * 255**2 is below 2**24.
            self._faiss = faiss.IndexScalarQuantizer(algorithm.code_bytes, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2)
            self._faiss.add(codes.astype(np.float32))
        else:
            self._faiss = faiss.IndexBinaryFlat(algorithm.code_bytes * 8)
            self._faiss.add(codes)

    def range_search(self, codes: NDArray[np.uint8], max_distance: int, wanted: Callable[[Hits], Hits] | None = None) -> Hits:
        """Find all rows within `max_distance` (inclusive) of each of `codes`, uint8[q, bytes]; their numbers are the hits' labels.

        With `wanted` as many queries are searched at a time as cannot have more than `_ROOM` hits, or one, and what it returns of
        their hits is kept.
        """
        if wanted is None:
            return self._all_of(codes, max_distance, 0)
        step = max(1, _ROOM // max(1, self._faiss.ntotal))
        starts = range(0, len(codes), step)
        return Hits.join([wanted(self._all_of(codes[start : start + step], max_distance, start)) for start in starts])

    def _all_of(self, codes: NDArray[np.uint8], max_distance: int, first_query: int) -> Hits:
        import faiss  # noqa: PLC0415

        faiss.omp_set_num_threads(1)  # holds for the calling thread only, and costs nothing
        # FAISS's radius is exclusive, ours is not.
        if self._squared:
            limits, distances, rows = self._faiss.range_search(codes.astype(np.float32), float(max_distance + 1))
        else:
            limits, distances, rows = self._faiss.range_search(codes, max_distance + 1)
        queries = np.repeat(np.arange(first_query, first_query + len(codes)), np.diff(limits.astype(np.int64)))
        return Hits(queries, distances.astype(np.int32), rows.astype(np.int64, copy=False))
