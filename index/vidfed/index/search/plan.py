"""How a segment's codes are cut, and which buckets a query must look into: pure arithmetic, and the argument why nothing is missed.

A code is cut into `m` substrings that lie on a ring (after the last comes the first). Let d_j be the number of bits in which a stored code
and the query differ in substring j, D their sum, r the distance asked for, and choose thresholds t_j >= -1 with sum(t_j) = r - m + 1. If
D <= r, then

    sum(d_j - t_j - 1) = D - (r - m + 1) - m <= -1,

and a sequence on a ring whose sum is negative has a starting point from which every partial sum is negative. So there is a j with

    d_j <= t_j   and   d_j + d_(j+1) <= t_j + t_(j+1) + 1.

The first condition is the pigeonhole principle of multi-index hashing: look into the buckets of all values within t_j flips of the query's
substring j, where t_j = -1 means none. The second is the start of the "pigeonring" (Qin and Xiao, VLDB 2018): beside each row in a bucket
lie the 16 bits of its code that follow the bucket's own, and a row goes further only if flips and differing bits together are within
t_j + t_(j+1) + 1. Random rows almost never are, so whole codes are fetched for a handful of rows only.

Both conditions stay necessary when fewer bits are looked at. So a bucket may be addressed by the first p_j <= w_j bits of its substring
(small segments: fewer buckets), as long as the 16 bits after them end within the next substring.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate, combinations
from math import comb
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILTER_BITS = 16
MAX_SEGMENT_ROWS = 1 << 27
"""Few large segments are searched faster than many small ones: a query looks into the same number of buckets in each."""
_SHORT_ROWS = 1 << 24
"""Up to so many rows a row's number takes three bytes, beyond four."""
_BYTES_PER_ROW = 104
"""Codes, tables and row numbers may take this much where rows are many; with labels, buckets and bitmap it stays below 113."""
_MANY_ROWS = 1 << 22
_ROWS_PER_BUCKET = 8
"""At least so many on average: 32 of them are compared at once, and a bucket costs two cache misses however few it holds."""

_WORTH_TRYING = 0.6
"""A plan expected to cost more than this share of a scan is not worth its risk."""

# Costs in tenths of a nanosecond, measured: they choose a plan, they never decide what is found.
_PROBE, ENTRY_COST, _SCANNED_ROW = 250, 3, 14


class Table(NamedTuple):
    """One table of a segment: buckets by `prefix` bits of the codes from bit `offset`."""

    offset: int
    prefix: int


@dataclass(frozen=True, slots=True)
class Probes:
    """What to look into for one distance: for every query value the same flips, table after table. One entry for each bucket."""

    tables: NDArray[np.uint8]
    masks: NDArray[np.uint32]
    """The flips."""
    bounds: NDArray[np.uint16]
    """In how many of the 16 filter bits a row may differ."""
    thresholds: NDArray[np.int64]
    """int64[m]: t_j."""
    sums: NDArray[np.int64]
    """int64[m]: t_j + t_(j+1) + 1."""
    cost: float
    """Of one query, in tenths of a nanosecond, on evenly spread codes."""


def row_number_bytes(rows: int) -> int:
    """How many bytes a row's number takes in a segment of so many rows."""
    return 3 if rows <= _SHORT_ROWS else 4


@lru_cache(maxsize=256)
def tables_for(bits: int, rows: int, distance: int) -> tuple[Table, ...]:
    """Choose the cut that makes a query for `distance` cheapest on `rows` evenly spread codes, within the bytes a row may take."""
    best: tuple[float, tuple[Table, ...]] | None = None
    for count in range(1, bits // FILTER_BITS + 1):
        if rows >= _MANY_ROWS and count * (2 + row_number_bytes(rows)) + bits // 8 > _BYTES_PER_ROW:
            break
        tables = _cut(bits, count, rows)
        cost = sum(comb(table.prefix, flips) * _bucket_cost(table, rows) for table, flips in _flips(tables, rows, distance))
        if best is None or cost < best[0]:
            best = cost, tables
    assert best is not None  # noqa: S101 - every code has 64 bits or more
    return best[1]


@lru_cache(maxsize=64)
def probes_for(tables: tuple[Table, ...], rows: int, distance: int) -> Probes | None:
    """List the buckets to look into; None where scanning every code is likely cheaper (few rows, or a distance far beyond the cut's)."""
    thresholds = [-1] * len(tables)
    cost = 0.0
    most = scan_cost(rows) * _WORTH_TRYING
    for table, flips in _flips(tables, rows, distance):
        cost += comb(table.prefix, flips) * _bucket_cost(table, rows)
        if cost > most:
            return None
        position = tables.index(table)
        thresholds[position] = flips
    sums = [t + thresholds[(j + 1) % len(tables)] + 1 for j, t in enumerate(thresholds)]
    parts = []
    for j, (table, threshold) in enumerate(zip(tables, thresholds, strict=True)):
        for flips in range(threshold + 1):
            masks = _masks(table.prefix, flips)
            parts.append((np.full(masks.size, j, np.uint8), masks, np.full(masks.size, min(sums[j] - flips, FILTER_BITS), np.uint16)))
    numbers, masks, bounds = (np.concatenate(column) for column in zip(*parts, strict=True))
    probes = Probes(numbers, masks, bounds, np.array(thresholds), np.array(sums), cost)
    for array in (probes.tables, probes.masks, probes.bounds, probes.thresholds, probes.sums):
        array.flags.writeable = False
    return probes


def scan_cost(rows: int) -> int:
    """What comparing every code with one query costs, in tenths of a nanosecond."""
    return rows * _SCANNED_ROW


def _cut(bits: int, count: int, rows: int) -> tuple[Table, ...]:
    """`count` substrings of nearly equal length, each with the bits that address its buckets."""
    widths = [bits // count + (j < bits % count) for j in range(count)]
    most = max(8, (rows // _ROWS_PER_BUCKET).bit_length() - 1)
    # The 16 bits after the prefix must not reach beyond the next substring; that one has 16 bits or more, so any prefix would do.
    return tuple(Table(offset, min(width, most)) for offset, width in zip(accumulate([0, *widths[:-1]]), widths, strict=True))


def _flips(tables: tuple[Table, ...], rows: int, distance: int) -> list[tuple[Table, int]]:
    """Raise the thresholds from -1 by r + 1 steps in all, each time the one whose next flip adds the least cost.

    That is the best there is: each next flip of a table costs more than its last.
    """
    thresholds = dict.fromkeys(tables, -1)
    steps = []
    for _ in range(distance + 1):
        open_tables = [table for table in tables if thresholds[table] < table.prefix]
        if not open_tables:
            break  # every bucket of every table: more than a scan
        table = min(open_tables, key=lambda table: comb(table.prefix, thresholds[table] + 1) * _bucket_cost(table, rows))
        thresholds[table] += 1
        steps.append((table, thresholds[table]))
    return steps


def _bucket_cost(table: Table, rows: int) -> float:
    return _PROBE + ENTRY_COST * (rows / (1 << table.prefix))


@cache
def _masks(width: int, flips: int) -> NDArray[np.uint32]:
    """All numbers of `width` bits of which `flips` are set. The low bits change fastest: neighbours share cache lines of the directory."""
    return np.array([sum(bits) for bits in combinations([1 << bit for bit in reversed(range(width))], flips)], np.uint32)
