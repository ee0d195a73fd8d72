"""Whatever interrupts the writer, the index opens with the state last flushed; whatever damages a file is noticed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.brute_force import TINY, Oracle, flipped, make_codes
from vidfed.index import Algorithm, HashIndex, IndexCorruptError, IndexStorageError
from vidfed.index.search.manifest import MANIFEST, Disk

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PDQ = Algorithm.PDQ


class FilmedDisk(Disk):
    """A disk that keeps a picture of the folder before each operation: what a kill, and what a power cut, would leave at that moment."""

    def __init__(self, folder: Path, film: Path) -> None:
        self.folder = folder
        self.film = film
        self.frames: list[tuple[int, Path]] = []
        self.acts = 0
        """Flushes that had returned; the scenario counts them."""
        self._unsynced: set[str] = set()

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        self._take_picture()
        self._unsynced.add(path.name)

        def half_written() -> Iterable[bytes | memoryview]:
            for number, piece in enumerate(pieces):
                if number == 1:
                    self._take_picture()
                yield piece

        super().write(path, half_written())

    def sync(self, path: Path) -> None:
        self._take_picture()
        super().sync(path)
        self._unsynced.discard(path.name)

    def rename(self, source: Path, target: Path) -> None:
        self._take_picture()
        super().rename(source, target)
        self._unsynced.discard(target.name)
        if source.name in self._unsynced:
            self._unsynced.add(target.name)

    def unlink(self, path: Path) -> None:
        self._take_picture()
        super().unlink(path)

    def _take_picture(self) -> None:
        killed = self.film / f"{len(self.frames):05d}"
        shutil.copytree(self.folder, killed)
        self.frames.append((self.acts, killed))
        if self._unsynced:
            powerless = self.film / f"{len(self.frames):05d}"
            shutil.copytree(self.folder, powerless)
            for name in self._unsynced:  # of what was not synced, a power cut may leave half
                if (powerless / name).exists():
                    os.truncate(powerless / name, (powerless / name).stat().st_size // 2)
            self.frames.append((self.acts, powerless))


def test_stopped_between_any_two_file_operations_the_index_opens_as_last_flushed(tmp_path: Path) -> None:
    folder, film = tmp_path / "index", tmp_path / "film"
    folder.mkdir()
    disk = FilmedDisk(folder, film)
    random = np.random.default_rng(3)
    oracle = Oracle(PDQ)
    flushed = [(oracle.copy(), 0)]
    with HashIndex.open(folder, PDQ, sizes=TINY, disk=disk) as index:
        for act in range(1, 16):
            labels = np.arange(act * 100, act * 100 + random.integers(1, 30))
            codes = make_codes("clustered", labels.size, 32, seed=act % 3)
            index.add(labels, codes)
            oracle.add(labels, codes)
            gone = random.choice(list(oracle.rows), len(oracle.rows) // 5, replace=False)
            index.remove(gone)
            oracle.remove(gone)
            index.settle()
            flushed.append((oracle.copy(), act))
            index.flush(act)
            disk.acts = act
    assert len(disk.frames) > 150
    asked = make_codes("clustered", 3, 32, seed=1)
    for acts, frame in disk.frames:
        with HashIndex.open(frame, PDQ, sizes=TINY) as reopened:
            version = reopened.source_version
            assert version in {acts, acts + 1}, "the flush that had returned, or the one that was interrupted"
            expected, _ = flushed[version]
            assert len(reopened) == len(expected.rows)
            expected.assert_exact(reopened.range_search(asked, 31), asked, 31)
            reopened.add([10**6], asked[:1])
        shutil.rmtree(frame)


_WRITER = """
import sys, numpy as np
from pathlib import Path
from vidfed.index import Algorithm, HashIndex
from vidfed.index.search.merger import Sizes
index = HashIndex.open(sys.argv[1], Algorithm.PDQ, sizes=Sizes(first_seal_rows=24, seal_rows=12, most_rows=150, large_rows=60))
version = index.source_version
while True:
    version += 1
    index.add(np.arange(version * 7, version * 7 + 7), np.full((7, 32), version % 251, np.uint8))
    if version % 3 == 0:
        index.remove(np.arange((version - 2) * 7, (version - 2) * 7 + 7))
    index.flush(version)
    print(version, flush=True)
"""


@pytest.mark.exhaustive
def test_killed_at_random_moments_the_index_opens_as_last_flushed(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    said = 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=_environment()) as writer:
            assert writer.stdout is not None
            for _ in range(random.integers(2, 60)):
                said = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            left = writer.stdout.read().split()
            said = int(left[-1]) if left and left[-1].isdigit() else said
        with HashIndex.open(tmp_path, PDQ, sizes=TINY) as index:
            version = index.source_version
            assert said <= version <= said + 1
            assert len(index) == 7 * (version - version // 3)
            asked = np.full((1, 32), version % 251, np.uint8)
            assert set(range(version * 7, version * 7 + 7)) <= set(index.range_search(asked, 0).labels.tolist())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def _filled(path: Path) -> None:
    with HashIndex.open(path, PDQ, sizes=TINY) as index:
        for start in range(0, 90, 30):
            index.add(np.arange(start, start + 30), make_codes("uniform", 30, 32, seed=start))
        index.remove([3, 4, 70])
        index.add([1000], make_codes("uniform", 1, 32, seed=7))
        index.settle()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_flipped_byte_anywhere_is_reported_as_corruption(tmp_path: Path, read_only: bool) -> None:
    _filled(tmp_path / "good")
    files = sorted(path.name for path in (tmp_path / "good").iterdir() if path.name != "LOCK")
    assert {name.partition("-")[0] for name in files} == {MANIFEST, "open", "segment", "removed"}
    for name in files:
        size = (tmp_path / "good" / name).stat().st_size
        for position in {0, 1, size // 3, size // 2, size - 1} | set(np.random.default_rng(1).integers(0, size, 12).tolist()):
            bad = tmp_path / "bad"
            shutil.copytree(tmp_path / "good", bad)
            with (bad / name).open("r+b") as file:
                file.seek(position)
                byte = file.read(1)[0]
                file.seek(position)
                file.write(bytes([byte ^ 0x10]))
            with pytest.raises(IndexCorruptError, match=name):
                HashIndex.open(bad, PDQ, read_only=read_only)
            shutil.rmtree(bad)


def test_a_missing_shortened_or_lengthened_file_is_reported_as_corruption(tmp_path: Path) -> None:
    _filled(tmp_path / "good")
    for path in (tmp_path / "good").iterdir():
        if path.name == "LOCK":
            continue
        size = path.stat().st_size
        for change in (os.unlink, partial(os.truncate, length=size - 1), partial(os.truncate, length=size + 1)):
            bad = tmp_path / "bad"
            shutil.copytree(tmp_path / "good", bad)
            change(bad / path.name)
            with pytest.raises(IndexCorruptError, match=path.name):
                HashIndex.open(bad, PDQ)
            shutil.rmtree(bad)


def test_a_damaged_index_can_be_discarded_and_filled_anew(tmp_path: Path) -> None:
    _filled(tmp_path)
    (tmp_path / MANIFEST).write_bytes(b"nonsense")
    with pytest.raises(IndexCorruptError):
        HashIndex.open(tmp_path, PDQ)
    HashIndex.discard(tmp_path)
    with HashIndex.open(tmp_path, PDQ) as index:
        assert len(index) == 0
        assert index.source_version == 0


class FullDisk(Disk):
    """A disk that is full from the n-th write on."""

    def __init__(self) -> None:
        self.writes_left = 10**9

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        self.writes_left -= 1
        if self.writes_left < 0:
            path.write_bytes(b"the beginning")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(path, pieces)


@pytest.mark.parametrize("writes", range(6))
def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path, writes: int) -> None:
    disk = FullDisk()
    codes = make_codes("uniform", 100, 32, seed=1)
    oracle = Oracle(PDQ)
    index = HashIndex.open(tmp_path, PDQ, sizes=TINY, disk=disk)
    index.add(np.arange(40), codes[:40])
    index.flush(1)
    oracle.add(np.arange(40), codes[:40])
    flushed = oracle.copy()
    disk.writes_left = writes
    failures = 0
    for start in range(40, 100, 10):
        labels = np.arange(start, start + 10)
        try:
            index.add(labels, codes[labels])
            oracle.add(labels, codes[labels])
            index.remove(labels[:1] - 15)
            oracle.remove(labels[:1] - 15)
            index.flush(2)
            flushed = oracle.copy()
        except IndexStorageError as error:
            failures += 1
            assert "No space left on device" in str(error)  # noqa: PT017
        index.settle()
        oracle.assert_exact(index.range_search(codes, 31), codes, 31)
    assert failures
    with HashIndex.open(tmp_path, PDQ, read_only=True) as reader:
        flushed.assert_exact(reader.range_search(codes, 31), codes, 31)
    disk.writes_left = 10**9
    index.close()
    with HashIndex.open(tmp_path, PDQ) as reopened:
        oracle.assert_exact(reopened.range_search(codes, 31), codes, 31)


@pytest.mark.usefixtures("tables_even_if_tiny")
@pytest.mark.parametrize("near", [0, 3])
def test_any_number_of_identical_or_nearly_identical_hashes_survives_saving(tmp_path: Path, near: int) -> None:
    """FAISS's IndexBinaryMultiHash loses buckets of 1, 2, 4, 8, 16... rows when it is written and read."""
    for count in range(1, 65):
        codes = flipped(make_codes("identical", count, 32, seed=count), near, np.random.default_rng(count))
        path = tmp_path / str(count)
        with HashIndex.open(path, PDQ, sizes=TINY) as index:
            index.add(np.arange(count), codes)
        with HashIndex.open(path, PDQ, read_only=True) as index:
            result = index.range_search(codes[:1], 31)
            assert sorted(result.labels.tolist()) == list(range(count))


def test_files_are_private_to_the_node(tmp_path: Path) -> None:
    _filled(tmp_path / "index")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "index").iterdir()} == {0o600}
    assert (tmp_path / "index").stat().st_mode & 0o777 == 0o700


def test_nothing_but_named_files_is_left_behind(tmp_path: Path) -> None:
    with HashIndex.open(tmp_path, PDQ, sizes=TINY) as index:
        for start in range(0, 2000, 10):
            index.add(np.arange(start, start + 10), make_codes("uniform", 10, 32, seed=start))
            index.remove([start])
            if start % 50 == 0:
                index.flush()
        index.settle()
        index.flush()
        segments = index.stats().segments
        names = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
        assert names.count("segment") == segments
        assert names.count("removed") <= segments
        assert names.count("open") <= 1
        assert len(names) == names.count("segment") + names.count("removed") + names.count("open") + 2


def test_a_mark_alone_is_flushed(tmp_path: Path) -> None:
    """Nothing was added and the version is the same: the store's history is another all the same."""
    with HashIndex.open(tmp_path / "index", Algorithm.PDQ) as index:
        index.flush(source_version=7, source_mark="one")
        index.flush(source_version=7, source_mark="other")
        with HashIndex.open(tmp_path / "index", Algorithm.PDQ, read_only=True) as reader:
            assert (reader.source_version, reader.source_mark) == (7, "other")
