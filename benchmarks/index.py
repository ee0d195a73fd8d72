"""How fast, small and alive the hash index is, beside full scans by FAISS and the peers' own indexes.

    python -m benchmarks.index [--quick] [--json] [--rows N]

256-bit hashes, distance 31; half of the queries are random, half lie within 12 bits of a stored hash. Every ratio compares things measured
in turn, A B A B, in this run; the yardstick has the same data, threads and warm-up.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import platform
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from vidfed.index import Algorithm, HashIndex, SearchResult
from vidfed.index.search.merger import Sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DISTANCE = 31


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes: done within 50 s on two processors")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="only the speedup at N rows (100000000 needs 20 GB of memory and a quarter of an hour)"
    )
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="vidfed-benchmark-"))
    try:
        figures = only_speedup(folder, options.rows) if options.rows else all_figures(folder, quick=options.quick)
    finally:
        shutil.rmtree(folder)
    report = {
        "name": "index",
        "versions": {name: importlib.metadata.version(name) for name in ("faiss-cpu", "numba", "numpy")}
        | {"python": platform.python_version()},
        "cpu": processor_name(),
        "threads": 1,
        "figures": figures,
    }
    if options.json:
        print(json.dumps(report))
        return
    for name, value in figures.items():
        print(f"{name:32} {value:,.3f}" if isinstance(value, float) else f"{name:32} {value}")


def all_figures(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Everything that docs/index.md quotes."""
    one_million, ten_million = (500_000, 6_000_000) if quick else (1_000_000, 10_000_000)
    figures: dict[str, Any] = {"exact": True, "rows_1m": one_million, "rows_10m": ten_million}
    warm_up(folder)

    say(f"{one_million:,} rows: beside the scan and the peers")
    figures |= beside_the_peers(folder / "1m", one_million)
    say(f"{one_million:,} skewed rows")
    exact, figures["skew_over_scan"] = skewed(folder / "skew", one_million)
    figures["exact"] &= exact
    say(f"{one_million:,} rows: latency while segments are merged")
    figures["p99_merge_over_idle"] = merge_latency(folder / "merge", random_codes(one_million, seed=3))
    shutil.rmtree(folder / "merge")

    say(f"{ten_million:,} rows")
    return figures | large(folder / "10m", ten_million, figures)


def beside_the_peers(path: Path, rows: int) -> dict[str, Any]:
    """The figures at one million rows."""
    codes = random_codes(rows, seed=1)
    asked = queries(codes, 1_000)
    few = asked[:250]
    with HashIndex.open(path, Algorithm.PDQ, threads=1) as index:
        index.add(np.arange(rows), codes)
        scan = flat(codes)
        ours, scanned = in_turn(lambda: index.range_search(asked, DISTANCE), lambda: scan.range_search(few, DISTANCE + 1))
        exact = same(index.range_search(few, DISTANCE), scan.range_search(few, DISTANCE + 1))
    ours /= len(asked)
    exchange = threatexchange_time(codes, asked[:50])
    shutil.rmtree(path)
    return {
        "exact": exact,
        "speedup_1m": scanned / len(few) / ours,
        "us_per_query_1m": ours * 1e6,
        "speedup_over_multihash_1m": multihash_time(codes, asked[:100]) / ours,
        "speedup_over_threatexchange_1m": exchange and exchange / ours,
    }


def skewed(path: Path, rows: int) -> tuple[bool, float]:
    """Whether it is exact, and the time over a scan's, on crowded buckets."""
    codes = skewed_codes(rows)
    asked = queries(codes, 200)
    with HashIndex.open(path, Algorithm.PDQ, threads=1) as index:
        index.add(np.arange(rows), codes)
        scan = flat(codes)
        ours, scanned = in_turn(lambda: index.range_search(asked, DISTANCE), lambda: scan.range_search(asked, DISTANCE + 1))
        exact = same(index.range_search(asked, DISTANCE), scan.range_search(asked, DISTANCE + 1))
    shutil.rmtree(path)
    return exact, ours / scanned


def large(path: Path, rows: int, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures at ten million rows."""
    codes = random_codes(rows, seed=2)
    asked = queries(codes, 3_000)
    keys = np.random.default_rng(5).integers(0, 2**63, rows, dtype=np.uint64)
    sorting = [timed(lambda: np.argsort(keys))]
    with HashIndex.open(path, Algorithm.PDQ, threads=1) as index:
        building = timed(lambda: index.add(np.arange(rows), codes))
        sorting.append(timed(lambda: np.argsort(keys)))
        flushing = timed(index.flush)
        scan = flat(codes)
        few = asked[:100]
        ours, scanned = in_turn(lambda: index.range_search(asked, DISTANCE), lambda: scan.range_search(few, DISTANCE + 1), rounds=3)
        exact = figures["exact"] and same(index.range_search(few, DISTANCE), scan.range_search(few, DISTANCE + 1))
        size = index.stats().size_bytes
        with HashIndex.open(path, Algorithm.PDQ, read_only=True, threads=2) as two:
            batch, single, doubled = in_turn(
                lambda: index.range_search(asked, DISTANCE),
                lambda: [index.range_search(asked[i : i + 1], DISTANCE) for i in range(len(asked))],
                lambda: two.range_search(asked, DISTANCE),
            )
    opening = timed(lambda: HashIndex.open(path, Algorithm.PDQ, read_only=True).close())
    return {
        "exact": exact,
        "speedup_10m": scanned * len(asked) / len(few) / ours,
        "single_over_batch_10m": single / batch,
        "two_thread_gain_10m": batch / doubled,
        "bytes_per_hash_10m": size / rows,
        "build_10m_over_argsort": building / median(sorting),
        "reopen_10m_s": opening,
        "flush_10m_s": flushing,
        "us_per_query_10m": ours / len(asked) * 1e6,
    }


def only_speedup(folder: Path, rows: int) -> dict[str, Any]:
    """Against the scan at any size, and against segments of at most 16.7 million rows; one index after the other, for the memory's sake."""
    warm_up(folder)
    small, _, asked = filled(folder / "small", rows, Sizes(most_rows=1 << 24, large_rows=1 << 62))
    with HashIndex.open(folder / "small", Algorithm.PDQ, read_only=True, threads=1) as index:
        (before,) = in_turn(lambda: index.range_search(asked, DISTANCE), rounds=3)
        segments = index.stats().segments
    shutil.rmtree(folder / "small")
    built, growth, _ = filled(folder / "index", rows, Sizes())
    scan = faiss.IndexBinaryFlat(256)
    for start in range(0, rows, _PART):
        scan.add(random_codes(min(_PART, rows - start), seed=start + 1))
    with HashIndex.open(folder / "index", Algorithm.PDQ, read_only=True, threads=1) as index:
        few = np.ascontiguousarray(asked[:: max(1, len(asked) // 40)])
        ours, scanned = in_turn(lambda: index.range_search(asked, DISTANCE), lambda: scan.range_search(few, DISTANCE + 1), rounds=3)
        return {
            "exact": same(index.range_search(few, DISTANCE), scan.range_search(few, DISTANCE + 1)),
            "rows": rows,
            "speedup": scanned / len(few) / (ours / len(asked)),
            "us_per_query": ours / len(asked) * 1e6,
            "scan_us_per_query": scanned / len(few) * 1e6,
            "bytes_per_hash": index.stats().size_bytes / rows,
            "segments": index.stats().segments,
            "segments_of_16m": segments,
            "time_over_segments_of_16m": ours / before,
            "built_s": built,
            "built_over_segments_of_16m": built / small,
            "last_part_over_first": growth,
        }


_PART = 10_000_000
"""Rows added at a time, so that memory holds the codes once beside the index."""


def filled(path: Path, rows: int, sizes: Sizes) -> tuple[float, float, NDArray[np.uint8]]:
    """Fill an index in parts: seconds until it is merged, the time the last whole part took over the first one's, and queries."""
    asked, times = np.empty((0, 32), np.uint8), []
    started = time.perf_counter()
    with HashIndex.open(path, Algorithm.PDQ, sizes=sizes) as index:
        for start in range(0, rows, _PART):
            codes = random_codes(min(_PART, rows - start), seed=start + 1)
            times.append(timed(partial(index.add, np.arange(start, start + len(codes)), codes)) / len(codes))
            asked = np.concatenate([asked, queries(codes, 200)])
            say(f"{start + len(codes):,} rows after {time.perf_counter() - started:.0f} s")
        del codes
        index.settle()
        return time.perf_counter() - started, times[-1] / times[0], asked


def merge_latency(path: Path, codes: NDArray[np.uint8]) -> float:
    """The 99th percentile of single queries while four segments become one, over the same before."""
    asked = queries(codes, 500)
    quarter = len(codes) // 4

    def latencies(go_on: Callable[[int], bool]) -> list[float]:
        measured: list[float] = []
        while go_on(len(measured)):
            code = asked[len(measured) % len(asked)][None]
            measured.append(timed(partial(index.range_search, code, DISTANCE)))
        return measured

    idle: list[float] = []
    merging: list[float] = []
    with HashIndex.open(path, Algorithm.PDQ, sizes=Sizes(first_seal_rows=quarter, seal_rows=quarter)) as index:
        for start in range(0, 4 * quarter, quarter):
            idle = latencies(lambda done: done < 3_000) if start else []
            index.add(np.arange(start, start + quarter), codes[start : start + quarter])
        merging = latencies(lambda _: index.stats().merging)
    before, during = float(np.percentile(idle, 99)), float(np.percentile(merging, 99))
    say(f"  {len(merging)} queries during the merge; p99 {before * 1e6:.0f} us idle, {during * 1e6:.0f} us merging")
    return during / before


def multihash_time(codes: NDArray[np.uint8], asked: NDArray[np.uint8]) -> float:
    """Seconds a query of FAISS's own multi-index."""
    index = faiss.IndexBinaryMultiHash(256, 16, 16)
    index.nflip = 1
    index.add(codes)
    return median(timed(lambda: index.range_search(asked, DISTANCE + 1)) for _ in range(3)) / len(asked)


def threatexchange_time(codes: NDArray[np.uint8], asked: NDArray[np.uint8]) -> float | None:
    """Seconds a query of the index of Meta's threatexchange, asked one by one as its interface has it; None if it is not installed."""
    try:
        peer = importlib.import_module("threatexchange.signal_type.pdq.pdq_index").PDQIndex
    except ImportError:
        return None
    index = peer.build((code.tobytes().hex(), number) for number, code in enumerate(codes))
    texts = [code.tobytes().hex() for code in asked]
    return median(timed(lambda: [index.query(text) for text in texts]) for _ in range(3)) / len(asked)


def random_codes(rows: int, seed: int) -> NDArray[np.uint8]:
    """Evenly spread codes."""
    return np.frombuffer(np.random.default_rng(seed).bytes(rows * 32), np.uint8).reshape(rows, 32)


def skewed_codes(rows: int) -> NDArray[np.uint8]:
    """Half of the rows share 32 zero bits and lie in clusters whose sizes follow Zipf's law, within 20 bits of their centres."""
    random = np.random.default_rng(4)
    codes = random_codes(rows, seed=4).copy()
    half = rows // 2
    centres = random.integers(0, 256, (half, 32), np.uint8)[np.minimum(random.zipf(1.3, half), half) - 1]
    for _ in range(20):
        centres[np.arange(half), random.integers(0, 32, half)] ^= np.left_shift(1, random.integers(0, 8, half)).astype(np.uint8)
    centres[:, 8:12] = 0
    codes[:half] = centres
    return codes


def queries(codes: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Half random, half near a stored code."""
    random = np.random.default_rng(9)
    asked = random.integers(0, 256, (count, 32), np.uint8)
    asked[::2] = codes[random.integers(0, len(codes), (count + 1) // 2)]
    for _ in range(12):
        asked[np.arange(0, count, 2), random.integers(0, 32, (count + 1) // 2)] ^= np.left_shift(
            1, random.integers(0, 8, (count + 1) // 2)
        ).astype(np.uint8)
    return asked


def warm_up(folder: Path) -> None:
    """Compile, where the machine code is not cached yet."""
    with HashIndex.open(folder / "warm", Algorithm.PDQ) as index:
        codes = random_codes(100_000, seed=0)
        index.add(np.arange(len(codes)), codes)
        index.range_search(codes[:300], DISTANCE)
    shutil.rmtree(folder / "warm")


def flat(codes: NDArray[np.uint8]) -> Any:  # noqa: ANN401 - FAISS is not typed
    """The yardstick."""
    index = faiss.IndexBinaryFlat(256)
    index.add(codes)
    return index


def same(ours: SearchResult, scan: Any) -> bool:  # noqa: ANN401 - FAISS is not typed
    """Whether each query has the same labels and distances."""
    limits, distances, labels = scan
    number = np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
    order = np.lexsort((labels, distances, number))
    return bool(
        np.array_equal(ours.limits, limits.astype(np.int64))
        and np.array_equal(ours.labels, labels[order])
        and np.array_equal(ours.distances, distances[order])
    )


def in_turn(*acts: Callable[[], object], rounds: int = 5) -> list[float]:
    """The median time of each act in seconds, all of them done in turn; a first round does not count."""
    times = [[timed(act) for act in acts] for _ in range(rounds + 1)][1:]
    return [median(column) for column in zip(*times, strict=True)]


def timed(act: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def processor_name() -> str:
    """As the system names it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def say(text: str) -> None:
    """What is going on, and after how much time of the processors, on stderr."""
    print(f"{time.process_time():5.1f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
