"""The thread that merges segments: what it may not do on a machine harms neither queries nor the index's end."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.brute_force import TINY, Oracle, make_codes
from vidfed.index import Algorithm, HashIndex
from vidfed.index.search import hash_index, plan
from vidfed.index.search.merger import BackgroundMerger, Sizes, merge, most_rows_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidfed.index.search.snapshot import Sealed

ROWS = 400


def filled(path: Path) -> tuple[HashIndex, Oracle]:
    """An index of tiny segments, flushed often enough to be merged."""
    index = HashIndex.open(path, Algorithm.PDQ, sizes=TINY)
    oracle = Oracle(Algorithm.PDQ)
    codes = make_codes("clustered", ROWS, 32, seed=7)
    for start in range(0, ROWS, 40):
        labels = np.arange(start, start + 40)
        index.add(labels, codes[start : start + 40])
        oracle.add(labels, codes[start : start + 40])
        index.flush()
    return index, oracle


def assert_whole(index: HashIndex, oracle: Oracle) -> None:
    asked = make_codes("clustered", 20, 32, seed=7)
    oracle.assert_exact(index.range_search(asked, 31), asked, 31)


def test_merging_without_permission_to_be_nice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipped units forbid setpriority(): the merging thread died of it, and closing the index waited for ever."""

    def forbidden(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", forbidden)
    index, oracle = filled(tmp_path / "index")
    index.settle()
    assert index.stats().segments < ROWS // TINY.seal_rows // 2
    assert_whole(index, oracle)
    index.close()


def test_without_a_thread_to_merge_in_queries_go_on_and_closing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    index, oracle = filled(tmp_path / "index")
    assert "can't start new thread" in index.stats().trouble
    assert_whole(index, oracle)
    index.close()


def test_a_merge_that_ends_before_its_start_has_returned_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for one that goes on, and closing the index waited for ever."""
    begin = threading.Thread.start

    def at_once(thread: threading.Thread) -> None:
        begin(thread)
        thread.join()

    def nothing_to_merge() -> bool:
        merger.ended()
        return False

    merger = BackgroundMerger(tmp_path, threading.RLock(), nothing_to_merge)
    monkeypatch.setattr(threading.Thread, "start", at_once)
    merger.start()
    assert not merger.running
    merger.settle()


def test_a_segment_of_more_rows_than_three_bytes_number_is_searched_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_SHORT_ROWS", ROWS // 4)
    plan.tables_for.cache_clear()
    index, oracle = filled(tmp_path / "index")
    index.settle()
    with index:
        assert_whole(index, oracle)
    plan.tables_for.cache_clear()
    with HashIndex.open(tmp_path / "index", Algorithm.PDQ, read_only=True) as again:
        assert_whole(again, oracle)


@pytest.mark.parametrize(("gigabytes", "millions"), [(1, 16), (24, 92), (1024, 134)])
def test_how_many_rows_a_segment_has_follows_from_the_memory_there_is(gigabytes: int, millions: int) -> None:
    """Merging takes half of it at the most, unless there is too little for the smallest limit."""
    assert most_rows_for(gigabytes << 30) // 10**6 == millions


def test_a_row_moved_before_a_merge_survives_a_removal_during_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its old place is among the removed rows of its old segment; only what was removed during the merge may go."""
    codes = make_codes("clustered", 40, 32, seed=3)
    merges: list[int] = []

    def merge_and_remove(algorithm: Algorithm, parts: Sequence[Sealed], threads: int) -> object:
        merged = merge(algorithm, parts, threads)
        if not merges:
            index.remove([5])
        merges.append(1)
        return merged

    monkeypatch.setattr(hash_index, "merge", merge_and_remove)
    with HashIndex.open(tmp_path / "index", Algorithm.PDQ, sizes=Sizes(first_seal_rows=1, seal_rows=10, most_rows=1_000)) as index:
        index.add(np.arange(10), codes[:10])
        index.put([0, *range(10, 19)], codes[10:20])  # row 0 moves into the second segment
        for start in (20, 30):
            index.add(np.arange(start, start + 10), codes[start : start + 10])
        index.settle()
        assert merges
        found = index.range_search(codes[10:11], 0).labels.tolist()
        assert 0 in found
        assert len(index) == 38
