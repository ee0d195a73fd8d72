"""Builds a segment's arrays: its rows, and the tables that find the near ones fast."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from vidfed.index.algorithms import Algorithm, DistanceKind
from vidfed.index.search import compiled, plan
from vidfed.index.search.compiled import frozen
from vidfed.index.search.rows.labels import compact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_MANY_ROWS = 1 << 20
"""From so many rows on tables are built in several threads; below, starting them costs more than they save."""


def build(algorithm: Algorithm, labels: NDArray[np.int64], codes: NDArray[np.uint8], threads: int) -> dict[str, NDArray[Any]]:
    """Make a segment's arrays.

    Args:
        algorithm: Whose codes they are. PhotoDNA's have no tables: Euclidean distance cannot be cut into substrings.
        labels: int64[rows], ascending, none twice; at least one and at most `plan.MAX_SEGMENT_ROWS`.
        codes: uint8[rows, bytes].
        threads: How many tables to build at the same time.
    """
    arrays: dict[str, NDArray[Any]] = {
        **compact(labels),
        "codes": np.ascontiguousarray(codes).reshape(-1),
    }
    module = compiled.kernels()[0] if algorithm.distance_kind is DistanceKind.HAMMING else None
    if module is None:
        return arrays
    rows, words = len(codes), algorithm.code_bytes // 8
    tables = plan.tables_for(algorithm.code_bytes * 8, rows, algorithm.default_distance)
    starts = list(accumulate([0, *((1 << table.prefix) + 1 for table in tables)]))
    directory = np.empty(starts[-1], np.uint32)
    filters = np.zeros(len(tables) * rows + module.LANES, np.uint16)
    row_numbers = np.empty(len(tables) * rows * plan.row_number_bytes(rows), np.uint8)
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
