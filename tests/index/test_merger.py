"""The thread that merges segments: what it may not do on a machine harms neither queries nor the index's end."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from tests.support.brute_force import TINY, Oracle, make_codes
from vidfed.index import Algorithm, HashIndex
from vidfed.index.search.merger import BackgroundMerger

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

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
