"""How the index behaves towards its callers: precise errors, snapshots, threads, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import vidfed.index
from tests.support.brute_force import TINY, Oracle, make_codes
from vidfed.index import (
    Algorithm,
    DistanceError,
    HashIndex,
    HashInputError,
    IndexClosedError,
    IndexLockedError,
    IndexStorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PDQ = Algorithm.PDQ


@pytest.fixture
def index(tmp_path: Path) -> Iterator[HashIndex]:
    with HashIndex.open(tmp_path / "index", PDQ, sizes=TINY) as opened:
        opened.add(np.arange(100), make_codes("uniform", 100, 32, seed=1))
        yield opened


@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256])
def test_digests_are_refused_with_the_reason(tmp_path: Path, algorithm: Algorithm) -> None:
    with pytest.raises(HashInputError, match="compared by equality"):
        HashIndex.open(tmp_path, algorithm)


def test_an_index_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    HashIndex.open(tmp_path, Algorithm.PHASH).close()
    with pytest.raises(HashInputError, match="holds phash, not dhash"):
        HashIndex.open(tmp_path, Algorithm.DHASH)


@pytest.mark.parametrize(
    ("labels", "codes", "message"),
    [
        (np.array([1.0]), np.zeros((1, 32), np.uint8), "labels must be int64, got float64"),
        (np.array([np.nan]), np.zeros((1, 32), np.uint8), "labels must be int64, got float64"),
        (np.array([1], np.uint64), np.zeros((1, 32), np.uint8), "labels must be int64, got uint64"),
        (np.array([[1]]), np.zeros((1, 32), np.uint8), "labels must be of one dimension"),
        (np.array([-1]), np.zeros((1, 32), np.uint8), "labels cannot be negative, got -1"),
        (np.array([500, 501, 500]), np.zeros((3, 32), np.uint8), "label 500 is given twice"),
        (np.array([500, 7]), np.zeros((2, 32), np.uint8), "label 7 is in the index already"),
        (np.array([500]), np.zeros((2, 32), np.uint8), "1 labels for 2 codes"),
        (np.array([500]), np.zeros((1, 31), np.uint8), r"shape \(n, 32\) for PDQ, got \(1, 31\)"),
        (np.array([500]), np.zeros(32, np.uint8), r"shape \(n, 32\) for PDQ, got \(32,\)"),
        (np.array([500]), np.zeros((1, 32)), "codes must be uint8, got float64"),
        (np.array([500]), np.full((1, 32), np.nan), "codes must be uint8, got float64"),
        (np.array([500]), b"\0" * 32, "codes must be a NumPy array of uint8, got bytes"),
    ],
)
def test_what_cannot_be_added_is_refused_precisely_and_nothing_is_added(index: HashIndex, labels: Any, codes: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(HashInputError, match=message):
        index.add(labels, codes)
    assert len(index) == 100


@pytest.mark.parametrize(
    ("distance", "limit", "error", "message"),
    [
        (-1, None, DistanceError, "cannot be negative"),
        (65, None, DistanceError, "beyond the maximum of 64: .*random"),
        (31.0, None, HashInputError, "max_distance must be an integer, got float"),
        (float("nan"), None, HashInputError, "max_distance must be an integer, got float"),
        (True, None, HashInputError, "max_distance must be an integer, got bool"),
        (31, 0, HashInputError, "limit must be at least 1"),
        (31, 1.5, HashInputError, "limit must be an integer"),
    ],
)
def test_what_cannot_be_asked_is_refused_precisely(
    index: HashIndex,
    distance: Any,  # noqa: ANN401
    limit: Any,  # noqa: ANN401
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        index.range_search(np.zeros((1, 32), np.uint8), distance, limit)


def test_64_bit_hashes_are_refused_beyond_ten(tmp_path: Path) -> None:
    with HashIndex.open(tmp_path, Algorithm.PHASH) as index, pytest.raises(DistanceError, match="maximum of 10"):
        index.range_search(np.zeros((1, 8), np.uint8), 11)


def test_no_queries_have_no_results(index: HashIndex) -> None:
    result = index.range_search(np.empty((0, 32), np.uint8), 31)
    assert result.limits.tolist() == [0]
    assert result.truncated.size == result.labels.size == 0


def test_codes_may_be_any_view_of_memory(index: HashIndex) -> None:
    codes = make_codes("uniform", 100, 32, seed=1)
    wide = np.zeros((100, 67), np.uint8)
    wide[:, 3:67:2] = codes
    unaligned = np.frombuffer(b"x" + codes.tobytes(), np.uint8, offset=1).reshape(100, 32)
    backwards = codes[::-1].copy()[::-1]
    for view in (wide[:, 3:67:2], unaligned, backwards, np.asfortranarray(codes)):
        assert index.range_search(view, 0).labels.tolist() == list(range(100))
    codes.flags.writeable = False
    assert index.range_search(codes, 0).labels.tolist() == list(range(100))


def test_the_caller_may_change_its_arrays_afterwards(tmp_path: Path) -> None:
    codes, labels = make_codes("uniform", 5, 32, seed=1), np.arange(5)
    before = codes.copy()
    with HashIndex.open(tmp_path, PDQ) as index:
        index.add(labels, codes)
        codes[:], labels[:] = 0, 77
        assert index.range_search(before, 0).labels.tolist() == list(range(5))


def test_a_removed_row_is_not_found_and_its_label_may_be_used_again(index: HashIndex) -> None:
    codes = make_codes("uniform", 100, 32, seed=1)
    assert index.remove(np.array([5, 5, 99, 10_000])) == 2
    assert index.range_search(codes[[5, 99]], 31).labels.size == 0
    index.add([5], codes[99:])
    assert index.range_search(codes[99:], 31).labels.tolist() == [5]
    assert index.remove([]) == 0


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    index = HashIndex.open(tmp_path, PDQ)
    index.close()
    index.close()
    codes = np.zeros((1, 32), np.uint8)
    for act in (
        lambda: index.range_search(codes, 1),
        lambda: index.add([1], codes),
        lambda: index.remove([1]),
        index.flush,
        index.stats,
        lambda: len(index),
    ):
        with pytest.raises(IndexClosedError, match="closed"):
            act()


def test_a_second_writer_is_refused_and_a_reader_cannot_write(tmp_path: Path) -> None:
    with HashIndex.open(tmp_path, PDQ):
        with pytest.raises(IndexLockedError, match="another writer"):
            HashIndex.open(tmp_path, PDQ)
        with HashIndex.open(tmp_path, PDQ, read_only=True) as reader, pytest.raises(IndexClosedError, match="reading only"):
            reader.add([1], np.zeros((1, 32), np.uint8))
    HashIndex.open(tmp_path, PDQ).close()


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexStorageError, match="cannot be written"):
        HashIndex.open(tmp_path / "file" / "index", PDQ)


def test_statistics_tell_what_an_operator_needs(index: HashIndex) -> None:
    index.settle()
    index.remove(np.arange(10))
    index.add(np.arange(200, 205), make_codes("uniform", 5, 32, seed=9))
    index.flush(42)
    stats = index.stats()
    assert (stats.algorithm, stats.rows, stats.open_rows, stats.segments, stats.source_version) == ("pdq", 95, 5, 1, 42)
    assert stats.removed_share == 0.1
    assert stats.size_bytes > 100 * 32
    assert stats.flushed_at is not None
    assert "100 rows" in stats.plan
    assert stats.trouble == ""


def test_a_reader_in_another_process_sees_each_flush_at_its_next_query(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from vidfed.index import Algorithm, HashIndex\n"
        "index = HashIndex.open(sys.argv[1], Algorithm.PDQ, read_only=True)\n"
        "for line in sys.stdin:\n"
        "    asked = np.full((1, 32), 7, np.uint8)\n"
        "    print(len(index), index.source_version, index.range_search(asked, 0).labels.size, flush=True)\n"
    )
    with HashIndex.open(tmp_path, PDQ, sizes=TINY) as index:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", program, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            for version in range(1, 60):
                index.add(np.arange(version * 10, version * 10 + 5), np.full((5, 32), 7, np.uint8))
                index.flush(version)
                print("ask", file=reader.stdin, flush=True)
                assert reader.stdout.readline().split() == [str(5 * version), str(version), str(5 * version)]
            reader.stdin.close()


def test_many_threads_ask_while_one_adds_removes_and_flushes(tmp_path: Path) -> None:
    """Groups of rows are added, and removed, by one call each: a query that sees a part of a group saw no snapshot."""
    group, groups = 9, 150
    errors: list[str] = []
    done = threading.Event()
    with HashIndex.open(tmp_path, PDQ, sizes=TINY) as index:

        def ask() -> None:
            codes = np.repeat(np.arange(groups, dtype=np.uint8)[:, None], 32, axis=1)
            while not done.is_set():
                counts = np.diff(index.range_search(codes, 0).limits)
                if not np.isin(counts, [0, group]).all():
                    errors.append(f"parts of groups: {counts.tolist()}")
                if (gaps := np.flatnonzero(np.diff((counts > 0).astype(int)) == 1)).size > 1:
                    errors.append(f"groups missing in between: {gaps.tolist()}")

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(groups):
            index.add(np.arange(number * group, (number + 1) * group), np.full((group, 32), number, np.uint8))
            if number >= 100:
                first = (number - 100) * group
                assert index.remove(np.arange(first, first + group)) == group
            if number % 10 == 0:
                index.flush(number)
        done.set()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(index) == 100 * group


def test_large_batches_are_spread_over_threads_and_keep_their_order(tmp_path: Path) -> None:
    codes = make_codes("clustered", 600, 32, seed=4)
    oracle = Oracle(PDQ)
    oracle.add(np.arange(600), codes)
    with HashIndex.open(tmp_path, PDQ, sizes=TINY, threads=3) as index:
        index.add(np.arange(600), codes)
        index.settle()
        oracle.assert_exact(index.range_search(codes, 12, limit=7), codes, 12, limit=7)


def test_small_indexes_start_neither_a_compiler_nor_threads() -> None:
    program = (
        "import sys, tempfile, threading\n"
        "import vidfed.index\n"
        "assert not {'numpy', 'faiss', 'numba'} & set(sys.modules), 'imported too early'\n"
        "import numpy as np\n"
        "with tempfile.TemporaryDirectory() as path, vidfed.index.HashIndex.open(path, vidfed.index.Algorithm.PDQ) as index:\n"
        "    index.add(np.arange(50_000), np.random.default_rng(1).integers(0, 256, (50_000, 32), np.uint8))\n"
        "    index.range_search(np.zeros((300, 32), np.uint8), 31)\n"
        "    index.flush()\n"
        "    assert 'numba' not in sys.modules\n"
        "    assert threading.active_count() == 1\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_the_package_shows_what_it_means_to_show() -> None:
    for name in vidfed.index.__all__:
        assert getattr(vidfed.index, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = vidfed.index.Nonsense


def test_a_row_that_is_given_another_code_is_found_at_every_moment(tmp_path: Path) -> None:
    codes = make_codes("uniform", 2, 32, 1)
    with HashIndex.open(tmp_path / "index", Algorithm.PDQ, sizes=TINY) as index:
        index.put([7], codes[:1])

        def change() -> None:
            for turn in range(300):
                index.put([7], codes[turn % 2 : turn % 2 + 1])

        changer = threading.Thread(target=change)
        changer.start()
        while changer.is_alive():
            assert index.range_search(codes, 0).labels.tolist() == [7]
        changer.join()
