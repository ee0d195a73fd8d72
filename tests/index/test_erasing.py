"""What is erased is in no file of an index: segments that hold it are rewritten, also after a kill at any step of that."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import numpy as np

from tests.index.test_durability import FilmedDisk
from tests.support.brute_force import TINY, Oracle, make_codes
from vidfed.index import Algorithm, HashIndex
from vidfed.index.search.builder import build
from vidfed.index.search.manifest import Disk

if TYPE_CHECKING:
    from pathlib import Path

PDQ = Algorithm.PDQ
ROWS = 100
ERASED = [3, 40, 41, 99]
MOVED = 7  # has had another code before
RETRACTED = 50  # was removed before it is erased


def filled(folder: Path, disk: Disk | None = None) -> tuple[HashIndex, np.ndarray]:
    """An index of one segment and some open rows, one of them moved there from the segment, one removed."""
    codes = make_codes("random", ROWS + 1, 32, seed=5)
    index = HashIndex.open(folder, PDQ, sizes=TINY, disk=disk)
    index.add(np.arange(ROWS - 5), codes[: ROWS - 5])
    index.add(np.arange(ROWS - 5, ROWS), codes[ROWS - 5 : ROWS])
    index.put([MOVED], codes[ROWS:])
    index.remove([RETRACTED])
    index.settle()
    index.flush(1)
    return index, codes


def holding(folder: Path, codes: np.ndarray) -> list[str]:
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    return [name for name, each in content.items() if any(code.tobytes() in each for code in codes)]


def held(index: HashIndex) -> bool:
    return index.holds_erased


def test_erased_rows_leave_every_file_whenever_they_were_moved_or_removed(tmp_path: Path) -> None:
    index, codes = filled(tmp_path)
    with index:
        gone = [*ERASED, MOVED, RETRACTED]
        erased = codes[[*gone, ROWS]]
        assert holding(tmp_path, erased)
        index.remove(gone, erase=True)
        assert held(index)
        index.flush(2)
        index.settle()
        index.flush()
        assert not held(index)
        assert holding(tmp_path, erased) == []
        kept = [label for label in range(ROWS) if label not in gone]
        oracle = Oracle(PDQ)
        oracle.add(np.array(kept), codes[kept])
        oracle.assert_exact(index.range_search(codes, 31), codes, 31)
        # Also what tables tell of a code, by the bucket its row is in, is as if it had never been there.
        (part,) = index._snapshot.sealed
        made = build(PDQ, part.segment.labels, part.segment.codes, 1)
        assert all(np.array_equal(made[name], part.segment._arrays[name]) for name in made)


def test_removed_rows_alone_cause_no_rewriting(tmp_path: Path) -> None:
    index, codes = filled(tmp_path)
    with index:
        index.remove(ERASED)
        index.flush(2)
        index.settle()
        index.flush()
        assert not held(index)
        assert holding(tmp_path, codes[ERASED])  # a retracted record's tombstone keeps its codes: nothing is gained by rewriting


def test_stopped_between_any_two_file_operations_the_next_start_takes_it_out(tmp_path: Path) -> None:
    folder, film = tmp_path / "index", tmp_path / "film"
    folder.mkdir()
    index, codes = filled(folder)
    index.close()
    disk = FilmedDisk(folder, film)
    with HashIndex.open(folder, PDQ, sizes=TINY, disk=disk) as index:
        index.remove(ERASED, erase=True)
        index.flush(2)
        index.settle()
        index.flush()
    assert len(disk.frames) > 15
    for _, frame in disk.frames:
        with HashIndex.open(frame, PDQ, sizes=TINY) as reopened:
            if reopened.source_version < 2:
                reopened.remove(ERASED, erase=True)  # as a follower does, whose index does not know of the erasure
                reopened.flush(2)
            reopened.settle()
            reopened.flush()
            assert not held(reopened)
            assert holding(frame, codes[ERASED]) == []
            assert len(reopened) == ROWS - len(ERASED) - 1
        glance = HashIndex.glance(frame)
        assert glance is not None
        assert (glance.erased_version, glance.holds_erased) == (2, False)
        shutil.rmtree(frame)


def test_a_file_that_cannot_be_removed_is_told_and_tried_again(tmp_path: Path) -> None:
    class Held(Disk):
        held = True

        def unlink(self, path: Path) -> None:
            if self.held:
                raise PermissionError(13, "held")
            super().unlink(path)

    disk = Held()
    index, codes = filled(tmp_path, disk)
    with index:
        index.remove(ERASED, erase=True)
        index.flush(2)
        index.settle()
        index.flush()
        assert held(index)
        assert holding(tmp_path, codes[ERASED])
        disk.held = False
        index.flush()
        assert not held(index)
        assert holding(tmp_path, codes[ERASED]) == []


def test_erased_while_a_merge_runs(tmp_path: Path) -> None:
    """The merge has read the row before it was erased, and writes it: what it wrote is rewritten."""
    codes = make_codes("random", 200, 32, seed=5)
    index: HashIndex

    class Slow(Disk):
        erases = False

        def write(self, path: Path, pieces: object) -> None:
            super().write(path, pieces)  # type: ignore[arg-type]
            if self.erases and threading.current_thread().name == "vidfed-index-merge":
                self.erases = False
                index.remove(ERASED, erase=True)

    disk = Slow()
    index = HashIndex.open(tmp_path, PDQ, sizes=TINY, disk=disk)
    with index:
        for start in range(0, 90, 30):
            index.add(np.arange(start, start + 30), codes[start : start + 30])
        index.settle()
        disk.erases = True
        index.add(np.arange(90, 120), codes[90:120])
        index.settle()
        assert not disk.erases
        index.flush()
        index.settle()
        index.flush()
        assert not held(index)
        assert holding(tmp_path, codes[ERASED]) == []
        assert len(index) == 120 - len(ERASED)
