"""Full scans by FAISS: how few rows are searched, and the fallback where the compiled search is not to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidfed.index.algorithms import Algorithm, DistanceKind

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


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

    def range_search(self, codes: NDArray[np.uint8], max_distance: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        """Find all rows within `max_distance` (inclusive) of each of `codes`, uint8[q, bytes].

        Returns:
            The number of each hit's query, its distance, its row.
        """
        import faiss  # noqa: PLC0415

        faiss.omp_set_num_threads(1)  # holds for the calling thread only, and costs nothing
        # FAISS's radius is exclusive, ours is not.
        if self._squared:
            limits, distances, rows = self._faiss.range_search(codes.astype(np.float32), float(max_distance + 1))
        else:
            limits, distances, rows = self._faiss.range_search(codes, max_distance + 1)
        queries = np.repeat(np.arange(len(codes), dtype=np.int64), np.diff(limits.astype(np.int64)))
        return queries, distances.astype(np.int32), rows.astype(np.int64)
