"""Labels of a segment, kept in four bytes each where they are near enough to each other."""

from __future__ import annotations

import numpy as np
import pytest

from vidfed.index.search.rows.labels import CompactLabels, compact


@pytest.mark.parametrize(
    ("rows", "gap", "bytes_each"), [(1, 1, 4), (255, 9, 4), (256, 1, 4), (257, 70_000, 4), (5_000, 1 << 24, 4), (5_000, 1 << 30, 8)]
)
def test_labels_with_gaps_are_kept_and_found(rows: int, gap: int, bytes_each: int) -> None:
    labels = np.cumsum(np.random.default_rng(rows).integers(1, gap + 1, rows)).astype(np.int64) + (1 << 40)
    arrays = compact(labels)
    kept = CompactLabels(arrays)
    assert arrays["label_offsets"].itemsize == bytes_each
    assert (kept.all() == labels).all()
    some = np.random.default_rng(1).integers(0, rows, 100)
    assert (kept.of(some) == labels[some]).all()
    where = {label: row for row, label in enumerate(labels.tolist())}
    asked = np.concatenate([labels, labels + 1, labels - 1, [0, 1 << 62]])
    assert kept.find(asked).tolist() == [where.get(label, -1) for label in asked.tolist()]


def test_a_record_of_one_code_costs_no_more_than_a_label_without_gaps() -> None:
    dense, spread = (sum(a.nbytes for a in compact(np.arange(1, 100_001, dtype=np.int64) << bits).values()) for bits in (0, 16))
    assert dense == spread


def test_labels_beyond_those_of_a_segment_are_not_looked_up_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filling an index with rising labels looked every new one up in every segment, so that the whole grew with the square."""
    kept = CompactLabels(compact(np.arange(1_000, 2_000)))

    def looked_up(*_: object) -> None:
        raise AssertionError("looked up")

    with monkeypatch.context() as patched:
        patched.setattr(CompactLabels, "_rows_of", looked_up)
        assert kept.find(np.array([0, 999, 2_000, 1 << 40])).tolist() == [-1] * 4
    assert kept.find(np.array([999, 1_000, 1_999, 2_000])).tolist() == [-1, 0, 999, -1]
