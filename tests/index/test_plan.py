"""The cut and the thresholds: sums that must hold for nothing to be missed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.index.search import plan

SIZES = (1, 100, 16_384, 1_000_000, 10_000_000, 1 << 24, (1 << 24) + 1, plan.MAX_SEGMENT_ROWS)


@pytest.mark.parametrize("bits", [64, 256])
@pytest.mark.parametrize("rows", SIZES)
def test_buckets_and_filters_stay_within_a_substring_and_its_neighbour(bits: int, rows: int) -> None:
    tables = plan.tables_for(bits, rows, 8 if bits == 64 else 31)
    ends = [*(table.offset for table in tables[1:]), bits]
    widths = [end - table.offset for table, end in zip(tables, ends, strict=True)]
    assert tables[0].offset == 0
    assert min(widths) >= plan.FILTER_BITS
    for table, width in zip(tables, widths, strict=True):
        assert 0 < table.prefix <= width
        assert table.prefix <= 24


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("distance", [0, 1, 5, 31, 40])
def test_thresholds_add_up_to_the_distance_the_pigeonhole_principle_asks_for(rows: int, distance: int) -> None:
    tables = plan.tables_for(256, rows, 31)
    probes = plan.probes_for(tables, rows, distance)
    if probes is None:
        assert rows <= 16_384 or distance > 31
        return
    count = len(tables)
    assert probes.thresholds.min() >= -1
    assert probes.thresholds.sum() == distance - count + 1
    assert probes.sums.tolist() == [probes.thresholds[j] + probes.thresholds[(j + 1) % count] + 1 for j in range(count)]
    assert len(probes.tables) == len(probes.masks) == len(probes.bounds)
    assert len(set(zip(probes.tables.tolist(), probes.masks.tolist(), strict=True))) == probes.masks.size, "no bucket is looked into twice"
    flips = np.bitwise_count(probes.masks)
    assert (flips <= probes.thresholds[probes.tables]).all()


@given(st.lists(st.integers(0, 6), min_size=2, max_size=16), st.data())
def test_some_substring_always_satisfies_both_conditions(differences: list[int], data: st.DataObject) -> None:
    """The claim of the module's first lines, on arbitrary differences and arbitrary thresholds."""
    count, distance = len(differences), sum(differences)
    cuts = sorted(data.draw(st.lists(st.integers(0, distance + 1), min_size=count - 1, max_size=count - 1)))
    thresholds = [b - a - 1 for a, b in pairwise([0, *cuts, distance + 1])]
    assert sum(thresholds) == distance - count + 1
    assert any(
        differences[j] <= thresholds[j] and differences[j] + differences[j - count + 1] <= thresholds[j] + thresholds[j - count + 1] + 1
        for j in range(count)
    )


@pytest.mark.parametrize("rows", [10_000_000, 1 << 24, 1 << 25, plan.MAX_SEGMENT_ROWS])
def test_a_row_of_a_large_index_takes_no_more_than_the_bytes_allowed(rows: int) -> None:
    tables = plan.tables_for(256, rows, 31)
    directory = sum((1 << table.prefix) + 1 for table in tables) * 4 / rows
    assert len(tables) * (2 + plan.row_number_bytes(rows)) + 32 + 4 + directory < 113
