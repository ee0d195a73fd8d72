"""Every answer equals a full scan in plain NumPy: whatever the data, the size, the distance, and what was done to the index before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.brute_force import KINDS, TINY, Oracle, flipped, make_codes
from vidfed.index import Algorithm, HashIndex, IndexStorageError
from vidfed.index.search import compiled, plan
from vidfed.index.search import segment as segments

HAMMING = [Algorithm.PDQ, Algorithm.PHASH]
SEARCHED = [*HAMMING, Algorithm.PHOTODNA]


@pytest.mark.usefixtures("tables_even_if_tiny")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", SEARCHED, ids=lambda a: a.value)
@pytest.mark.parametrize("count", [0, 1, 2, 23, 24, 25, 63, 64, 65, 700])
def test_every_size_and_kind_of_data_is_searched_exactly(tmp_path: Path, algorithm: Algorithm, kind: str, count: int) -> None:
    random = np.random.default_rng(count)
    oracle = Oracle(algorithm)
    codes = make_codes(kind, count, algorithm.code_bytes, seed=count)
    labels = random.permutation(10 * count)[:count].astype(np.int64)
    asked = np.concatenate([flipped(codes[:6], 12, random), codes[:2], make_codes(kind, 3, algorithm.code_bytes, seed=99)])
    with HashIndex.open(tmp_path, algorithm, sizes=TINY) as index:
        for start in range(0, count, 100):
            index.add(labels[start : start + 100], codes[start : start + 100])
        oracle.add(labels, codes)
        index.settle()
        distances = {0, 1, algorithm.default_distance, algorithm.maximum_distance}
        for distance in distances:
            oracle.assert_exact(index.range_search(asked, distance), asked, distance)
        oracle.assert_exact(index.range_search(asked, algorithm.default_distance, limit=3), asked, algorithm.default_distance, limit=3)


@pytest.mark.usefixtures("tables_even_if_tiny")
@pytest.mark.parametrize("algorithm", HAMMING, ids=lambda a: a.value)
def test_every_distance_allowed_is_searched_exactly(tmp_path: Path, algorithm: Algorithm) -> None:
    random = np.random.default_rng(5)
    centres = random.integers(0, 256, (4, algorithm.code_bytes), np.uint8)
    codes = flipped(centres[random.integers(0, 4, 140)], min(70, algorithm.code_bytes * 8), random)
    oracle = Oracle(algorithm)
    oracle.add(np.arange(140), codes)
    with HashIndex.open(tmp_path, algorithm, sizes=TINY) as index:
        index.add(np.arange(140), codes)
        assert index.stats().open_rows == 0
        largest = (
            40 if algorithm is Algorithm.PDQ else algorithm.maximum_distance
        )  # beyond, a plan has millions of buckets and is never chosen
        for distance in range(largest + 1):
            oracle.assert_exact(index.range_search(centres, distance), centres, distance)


def test_crowded_buckets_make_a_query_fall_back_to_the_scan_and_stay_exact(tmp_path: Path) -> None:
    codes = make_codes("skewed", 70_000, 32, seed=1)
    codes[:40_000, 4:24] = 0
    oracle = Oracle(Algorithm.PDQ)
    oracle.add(np.arange(70_000), codes)
    asked = np.concatenate([codes[:3], codes[-3:], flipped(codes[:3], 20, np.random.default_rng(1))])
    with HashIndex.open(tmp_path, Algorithm.PDQ) as index:
        index.add(np.arange(70_000), codes)
        assert "tables" in index.stats().plan
        oracle.assert_exact(index.range_search(asked, 31), asked, 31)


@pytest.mark.usefixtures("tables_even_if_tiny")
def test_a_query_given_up_at_any_moment_is_still_answered_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = make_codes("clustered", 150, 32, seed=1)
    oracle = Oracle(Algorithm.PDQ)
    oracle.add(np.arange(150), codes)
    asked = codes[::20]
    with HashIndex.open(tmp_path, Algorithm.PDQ, sizes=TINY) as index:
        index.add(np.arange(150), codes)
        monkeypatch.setattr(segments, "_OVERRUN", 0)
        for budget in (*range(0, 60_000, 450), 100_000, 400_000):
            monkeypatch.setattr(segments, "_BUDGET_SHARE", budget * plan.ENTRY_COST / plan.scan_cost(150))
            for part in index._snapshot.sealed:
                part.segment._plans.clear()
            oracle.assert_exact(index.range_search(asked, 31), asked, 31)


def test_more_hits_than_were_made_room_for_are_all_found(tmp_path: Path) -> None:
    codes = np.concatenate([make_codes("identical", 6_000, 32, seed=1), make_codes("uniform", 64_000, 32, seed=2)])
    with HashIndex.open(tmp_path, Algorithm.PDQ) as index:
        index.add(np.arange(70_000), codes)
        result = index.range_search(np.concatenate([codes[-1:], codes[:2], codes[-2:-1]]), 31)
        assert np.diff(result.limits).tolist() == [1, 6_000, 6_000, 1]
        assert result.labels[1:6_001].tolist() == list(range(6_000))


def test_without_a_compiler_the_scan_answers_and_the_statistics_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = make_codes("clustered", 300, 32, seed=1)
    oracle = Oracle(Algorithm.PDQ)
    oracle.add(np.arange(300), codes)
    with HashIndex.open(tmp_path, Algorithm.PDQ, sizes=TINY) as index:
        index.add(np.arange(150), codes[:150])
    monkeypatch.setattr(compiled, "kernels", lambda: (None, "ImportError: no compiler here"))
    with HashIndex.open(tmp_path, Algorithm.PDQ, sizes=TINY) as index:
        index.add(np.arange(150, 300), codes[150:])
        index.settle()
        index.remove([7])
        oracle.remove(np.array([7]))
        oracle.assert_exact(index.range_search(codes[:20], 31), codes[:20], 31)
        assert index.stats().trouble == "ImportError: no compiler here"
        assert "FAISS" in index.stats().plan


class _AnyHistory(RuleBasedStateMachine):
    """Do anything in any order; ask; compare."""

    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="vidfed-test-"))
        self.index: HashIndex | None = None
        self.reader: HashIndex | None = None

    @initialize(algorithm=st.sampled_from(SEARCHED))
    def begin(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.oracle = Oracle(algorithm)
        self.flushed = self.oracle.copy()
        self.version = self.flushed_version = 0
        self.index = HashIndex.open(self.path, algorithm, sizes=TINY)
        self.reader = HashIndex.open(self.path, algorithm, read_only=True)

    @property
    def writer(self) -> HashIndex:
        assert self.index is not None
        return self.index

    @rule(
        target=known,
        kind=st.sampled_from(KINDS),
        count=st.integers(1, 40),
        seed=st.integers(0, 5),
        start=st.integers(0, 300),
        huge=st.booleans(),
    )
    def add(self, kind: str, count: int, seed: int, start: int, huge: bool) -> Any:  # noqa: ANN401
        codes = make_codes(kind, count, self.algorithm.code_bytes, seed)
        labels = np.arange(start, start + 3 * count, 3) + (2**62 if huge else 0)
        new = ~np.isin(labels, list(self.oracle.rows))
        self.writer.add(labels[new], codes[new])
        self.oracle.add(labels[new], codes[new])
        return codes[:2]

    @rule(target=known, count=st.integers(1, 40), seed=st.integers(0, 5), start=st.integers(0, 300))
    def put(self, count: int, seed: int, start: int) -> Any:  # noqa: ANN401
        codes = make_codes("uniform", count, self.algorithm.code_bytes, seed)
        labels = np.arange(start, start + 2 * count, 2)
        self.writer.put(labels, codes)
        self.oracle.remove(labels)
        self.oracle.add(labels, codes)
        return codes[:2]

    @rule(start=st.integers(0, 300), count=st.integers(1, 200), step=st.integers(1, 3))
    def remove(self, start: int, count: int, step: int) -> None:
        labels = np.arange(start, start + count * step, step)
        assert self.writer.remove(labels) == self.oracle.remove(labels)

    @rule()
    def flush(self) -> None:
        self.version += 1
        self.writer.flush(self.version)
        self.flushed, self.flushed_version = self.oracle.copy(), self.version

    @rule()
    def close_and_open_again(self) -> None:
        self.writer.close()
        self.flushed = self.oracle.copy()
        self.index = HashIndex.open(self.path, self.algorithm, sizes=TINY)

    @rule()
    def fail_and_open_again(self) -> None:
        with pytest.raises(ZeroDivisionError), self.writer:
            raise ZeroDivisionError
        self.oracle, self.version = self.flushed.copy(), self.flushed_version
        self.index = HashIndex.open(self.path, self.algorithm, sizes=TINY)

    @rule()
    def wait_for_merges(self) -> None:
        self.writer.settle()

    @rule(
        code=known,
        near=st.integers(0, 20),
        seed=st.integers(0, 99),
        share=st.sampled_from([0, 0.5, 1]),
        limit=st.none() | st.integers(1, 5),
    )
    def ask(self, code: Any, near: int, seed: int, share: float, limit: int | None) -> None:  # noqa: ANN401
        codes = flipped(code, near, np.random.default_rng(seed))
        distance = int(share * self.algorithm.default_distance)
        self.oracle.assert_exact(self.writer.range_search(codes, distance, limit), codes, distance, limit)
        assert self.reader is not None
        self.flushed.assert_exact(self.reader.range_search(codes, distance, limit), codes, distance, limit)

    @precondition(lambda self: self.index is not None)
    @invariant()
    def rows_and_versions_agree(self) -> None:
        assert len(self.writer) == len(self.oracle.rows)
        assert self.reader is not None
        assert len(self.reader) == len(self.flushed.rows)
        assert self.reader.source_version == self.flushed_version

    def teardown(self) -> None:
        for index in (self.reader, self.index):
            if index is not None:
                index.close()
        shutil.rmtree(self.path)


@pytest.mark.usefixtures("tables_even_if_tiny")
class TestAnyHistory(_AnyHistory.TestCase):  # type: ignore[valid-type,misc]
    settings = settings(
        max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )


def test_a_reader_needs_an_index(tmp_path: Path) -> None:
    with pytest.raises(IndexStorageError, match="no index there"):
        HashIndex.open(tmp_path, Algorithm.PDQ, read_only=True)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_where_machine_code_cannot_be_kept_it_is_compiled_at_each_start() -> None:
    """As with a read-only installation and no home folder: Numba alone would refuse to compile at all."""
    program = (
        "import sys, numba.core.caching\n"
        "numba.core.caching.CacheImpl._locator_classes = []\n"
        "from vidfed.index.search import compiled, kernels\n"
        "module, reason = compiled.kernels()\n"
        "assert module is kernels and not reason, reason\n"
        "assert not kernels.KEPT\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
