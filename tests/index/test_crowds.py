"""Thousands of rows near one code: with a limit the answer is a full scan's, cut; and memory holds little more than the answer."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.brute_force import TINY, Oracle, flipped, make_codes
from vidfed.index import Algorithm, HashIndex, HashInputError
from vidfed.index.search import compiled
from vidfed.index.search import flat as flats
from vidfed.index.search import segment as segments
from vidfed.index.search.flat import distances_to
from vidfed.index.search.hits import Hits, Nearest
from vidfed.index.search.merger import Sizes

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

SEVERAL = Sizes(first_seal_rows=1_000, seal_rows=1_000, most_rows=2_000)
LIMITS = (1, 20, 1_999, None)
DISTANCES = {Algorithm.PDQ: (0, 12, 31), Algorithm.PHASH: (0, 3, 8), Algorithm.PHOTODNA: (0, 20_000, 40_000)}


@pytest.fixture(params=["much room", "little room"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hits overflow wherever they can, or nowhere."""
    if request.param == "little room":
        for name in ("_FIRST_ROOM", "_MOST_ROOM", "_SCAN_ROOM"):
            monkeypatch.setattr(segments, name, 2)
        monkeypatch.setattr(flats, "_ROOM", 1)


@pytest.fixture(params=["compiled", "no compiler"])
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no compiler":
        monkeypatch.setattr(compiled, "kernels", lambda: (None, "none here"))


@pytest.mark.usefixtures("room", "compiler")
@pytest.mark.parametrize("algorithm", DISTANCES, ids=lambda algorithm: algorithm.value)
def test_a_crowd_is_cut_as_a_full_scan_would_cut_it(tmp_path: Path, algorithm: Algorithm) -> None:
    """In one index: segments with removed rows, one that is all crowd, open rows in any order of labels, and strangers among them."""
    random = np.random.default_rng(3)
    centre = make_codes("uniform", 1, algorithm.code_bytes, seed=4)
    crowd = flipped(np.repeat(centre, 4_500, axis=0), 3, random)
    crowd[::9] = make_codes("uniform", 500, algorithm.code_bytes, seed=5)
    labels = random.permutation(9_000)[:4_500].astype(np.int64)
    oracle = Oracle(algorithm)
    oracle.add(labels, crowd)
    with HashIndex.open(tmp_path, algorithm, sizes=SEVERAL, threads=2) as index:
        for start in range(0, 4_500, 900):
            index.add(labels[start : start + 900], crowd[start : start + 900])
        index.settle()
        oracle.remove(labels[::7])
        index.remove(labels[::7])
        assert index.stats().segments > 1
        assert index.stats().open_rows
        asked = np.concatenate([flipped(np.repeat(centre, 5, axis=0), 2, random), crowd[:1], crowd[-2:]])
        for distance in DISTANCES[algorithm]:
            for limit in LIMITS:
                oracle.assert_exact(index.range_search(asked, distance, limit), asked, distance, limit)
        many = np.repeat(asked, 20, axis=0)  # more than one batch
        oracle.assert_exact(index.range_search(many, DISTANCES[algorithm][-1], 20), many, DISTANCES[algorithm][-1], 20)


@pytest.mark.usefixtures("tables_even_if_tiny", "room")
@pytest.mark.parametrize("limit", [1, 3, 20])
def test_a_crowd_found_through_the_tables_is_cut_too(tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_BUDGET_SHARE", 1e6)  # so that no query is given up for a scan
    codes = make_codes("clustered", 700, 32, seed=1)
    oracle = Oracle(Algorithm.PDQ)
    oracle.add(np.arange(700), codes)
    with HashIndex.open(tmp_path, Algorithm.PDQ, sizes=TINY) as index:
        index.add(np.arange(700), codes)
        oracle.assert_exact(index.range_search(codes[:40], 31, limit), codes[:40], 31, limit)


@pytest.mark.usefixtures("room", "compiler")
@pytest.mark.parametrize("bands", [[31], [0, 15, 31], [15], list(range(32))])
@pytest.mark.parametrize("limit", [1, 7, 400, 5_000])
def test_distances_in_one_band_are_equal_to_a_limit(tmp_path: Path, bands: list[int], limit: int) -> None:
    random = np.random.default_rng(6)
    centre = make_codes("uniform", 1, 32, seed=7)
    codes = flipped(np.repeat(centre, 2_600, axis=0), 24, random)
    labels = random.permutation(2_600).astype(np.int64)
    with HashIndex.open(tmp_path, Algorithm.PDQ, sizes=SEVERAL) as index:
        for start in (0, 1_300):
            index.add(labels[start : start + 1_300], codes[start : start + 1_300])
        index.add(labels[:0], codes[:0])
        result = index.range_search(centre, 31, limit, bands)
    distances = distances_to(Algorithm.PDQ, codes, centre.tobytes())
    near = [(int(distance), int(label)) for distance, label in zip(distances, labels, strict=True) if distance <= 31]
    kept = sorted(near, key=lambda hit: (int(np.searchsorted(bands, hit[0])), hit[1]))[:limit]
    assert list(zip(result.distances.tolist(), result.labels.tolist(), strict=True)) == sorted(kept)
    assert result.truncated.tolist() == [len(near) > limit]


@pytest.mark.usefixtures("room", "compiler")
@pytest.mark.parametrize("rows", [900, 1_500], ids=["open rows", "a segment"])
def test_a_single_hit_too_many_is_said(tmp_path: Path, rows: int) -> None:
    codes = make_codes("identical", rows, 32, seed=8)
    oracle = Oracle(Algorithm.PDQ)
    oracle.add(np.arange(rows), codes)
    with HashIndex.open(tmp_path, Algorithm.PDQ, sizes=SEVERAL) as index:
        index.add(np.arange(rows), codes)
        for limit in (1, 2, rows - 1, rows, rows + 1, 2**70):
            oracle.assert_exact(index.range_search(codes[:2], 31, limit), codes[:2], 31, limit)


def test_bands_must_rise(tmp_path: Path) -> None:
    with HashIndex.open(tmp_path, Algorithm.PDQ) as index, pytest.raises(HashInputError, match="rise"):
        index.range_search(np.zeros((1, 32), np.uint8), 31, 1, [5, 5])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=60),
    st.integers(1, 8),
    st.none() | st.sets(st.integers(0, 5), min_size=1),
    st.randoms(use_true_random=False),
)
def test_what_is_kept_of_hits_in_any_order_is_the_nearest(
    found: list[tuple[int, int]], count: int, edges: set[int] | None, random: Random
) -> None:
    labels = list(range(len(found)))
    random.shuffle(labels)
    hits = [(query, distance, label) for (query, distance), label in zip(found, labels, strict=True)]
    nearest = Nearest(count, None if edges is None else np.array(sorted(edges)))
    columns = (np.array([hit[place] for hit in hits], kind) for place, kind in enumerate((np.int64, np.int32, np.int64)))
    kept = nearest.of(Hits(*columns))

    def rank(hit: tuple[int, int, int]) -> tuple[int, int]:
        return (hit[1] if edges is None else sum(edge < hit[1] for edge in edges)), hit[2]

    expected = [hit for query in range(4) for hit in sorted((hit for hit in hits if hit[0] == query), key=rank)[:count]]
    assert sorted(zip(*(column.tolist() for column in kept), strict=True)) == sorted(expected)


_CROWDED = """
import resource, sys
import numpy as np
from vidfed.index import Algorithm, HashIndex
folder, rows, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
codes = np.full((rows, 32), 7, np.uint8)
codes[np.arange(rows), np.arange(rows) % 32] ^= 1
with HashIndex.open(folder, Algorithm.PDQ, threads=2) as index:
    index.add(np.arange(rows), codes)
    index.range_search(codes[:200], 0, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = index.range_search(np.repeat(codes[:1], 1_000, axis=0), 31, limit)
    assert len(result.labels) == 1_000 * limit, len(result.labels)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("rows", [65_000, 200_000], ids=["open rows", "a segment"])
def test_memory_holds_what_is_wanted_however_crowded_the_index_is(tmp_path: Path, rows: int) -> None:
    """All hits of 1,000 codes would be gigabytes: 24 bytes each, 128 codes at a time and in two threads."""
    command = [sys.executable, "-c", _CROWDED, str(tmp_path), str(rows), "20"]
    grown_mb = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_mb < 150
