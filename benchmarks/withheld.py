"""Whether a withheld record can be told from an unknown one by time: `python -m benchmarks.withheld [--quick] [--json]`.

One member's real node over a real store, index and audit log, over mutual TLS on the loopback, its answers on the time grid that nodes have
by default. Questions about a code that is on a withheld record and about a code that is on none are asked in turn, in random order; the
asker's clock takes the time of each.

Figures:
    auc_single: area under the curve of telling the two apart by time, questions of one item; 0.5 is a guess. The mean of all algorithms
        and of PDQ asked with the eight orientations of a picture: one of them withheld, or none
    auc_900: the same, one item asked 900 times in one question, with orientations 112 times
    auc_single_worst, auc_900_worst: of the algorithm farthest from 0.5, which chance alone takes away from it, the farther the fewer pairs
    pairs, pairs_900: how many of each were compared, all algorithms together
    grid_ms: the time grid
    auc_single_without_grid, auc_900_without_grid: the same where answers leave at once
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np

from tests.support.memory import ANSWERING, MemoryFederation, MemoryNode, call_of
from tests.support.sockets import serve_node
from vidfed.index import Algorithm, Hash
from vidfed.node.config import NodeSection
from vidfed.node.records.record import Record
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status

if TYPE_CHECKING:
    from tests.support.memory import MemoryInvestigator
    from vidfed.v1 import lookup_pb2_grpc as rpc

GRID_MS = NodeSection(listen="127.0.0.1:0").answer_grid_ms
MANY = 900
_PAIRS, _QUICK_PAIRS = 20_000, 400
_MANY_SHARE = 4  # of so many pairs one is asked as 900 items too
_FILLED, _QUICK_FILLED = 100_000, 5_000
_NO_LIMIT = 10**9
_SECRETS = 20  # withheld records
_ORIENTATIONS = 8  # codes of one picture as it is asked for: turned and mirrored


def auc(withheld: list[float], unknown: list[float]) -> float:
    """Return the share of pairs in which the withheld one took longer, ties counting half."""
    both = np.array(withheld + unknown)
    order = both.argsort(kind="stable")
    ranks = np.empty(len(both))
    ranks[order] = np.arange(1, len(both) + 1)
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.bincount(inverse, ranks) / counts)[inverse]
    n, m = len(withheld), len(unknown)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def codes(algorithm: Algorithm, count: int, seed: int) -> list[Hash]:
    """Return random codes."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, algorithm.code_bytes), dtype=np.uint8)
    return [Hash(algorithm, row.tobytes()) for row in drawn]


async def time_of(stub: rpc.NodeServiceAsyncStub, node: MemoryNode, asker: MemoryInvestigator, asked: list[Hash], an_item: int) -> float:
    """Return how long one question takes, in seconds."""
    request = node.federation.request(asker, asked)
    column = replace(request.columns[0], items=np.arange(len(asked), dtype=np.uint32) // np.uint32(an_item))
    request = replace(request, item_count=len(asked) // an_item, columns=(column,))
    call = call_of(asker.credential, node.federation.sign(request, asker))
    began_s = time.perf_counter()
    answer = await stub.Lookup(call)
    took_s = time.perf_counter() - began_s
    if read_answer(answer.payload).header.status is not Status.ANSWERED:
        raise SystemExit("a question was refused: its time says nothing")
    return took_s


async def compared(
    node: MemoryNode, grid_ms: float, withheld: list[list[Hash]], unknown: list[list[Hash]], times: int, pairs: int
) -> float:
    """Return the area under the curve for one kind of item, each with its codes, asked so many times in one question."""
    asker, took = node.federation.investigator("nl"), {True: [0.0][:0], False: [0.0][:0]}
    async with serve_node(node, grid_ms=grid_ms) as served, served.asked_by("nl") as stub:
        for number in range(pairs):
            kinds = [True, False]
            random.shuffle(kinds)
            for kind in kinds:
                asked = (withheld if kind else unknown)[number % len(withheld)]
                node.federation.clock.now_ms = int(time.time() * 1000)
                took[kind].append(await time_of(stub, node, asker, asked * times, len(asked)))
    return auc(took[True], took[False])


def _off(area: float) -> float:
    return abs(area - 0.5)


async def measure(folder: Path, *, quick: bool) -> dict[str, float | int]:
    """Ask and compare."""
    federation = MemoryFederation()
    federation.add("nl", "fr")
    pairs = _QUICK_PAIRS if quick else _PAIRS
    algorithms = tuple(Algorithm) if not quick else (Algorithm.SHA256, Algorithm.PDQ)
    each = max(pairs // (len(algorithms) + 1), 1)
    found: dict[str, list[float]] = {}
    limits = replace(ANSWERING.limits, hashes_per_minute=_NO_LIMIT, hashes_per_day=_NO_LIMIT, lookups_per_minute=_NO_LIMIT)
    with MemoryNode(federation, "fr", folder, replace(ANSWERING, limits=limits)) as node:
        filled = _QUICK_FILLED if quick else _FILLED
        node.hold(*(Record({Algorithm.PDQ: code.code}) for code in codes(Algorithm.PDQ, filled, 1)))
        secret = {algorithm: codes(algorithm, _SECRETS, 2) for algorithm in algorithms}
        node.hold(*(Record({a: secret[a][number].code for a in algorithms}, sharing="nobody") for number in range(_SECRETS)))
        node.catalogue.catch_up()
        for algorithm, orientations in (*((each, 1) for each in algorithms), (Algorithm.PDQ, _ORIENTATIONS)):
            others = codes(algorithm, _SECRETS * orientations, 3)
            unknown = [others[at : at + orientations] for at in range(0, len(others), orientations)]
            withheld = [[secret[algorithm][number], *unknown[number][1:]] for number in range(_SECRETS)]
            for name, times, count in (("auc_single", 1, each), ("auc_900", MANY // orientations, max(each // _MANY_SHARE, 1))):
                for suffix, grid_ms in (("", GRID_MS), ("_without_grid", 0.0)):
                    share = count if not suffix else max(count // 4, 1)
                    one = await compared(node, grid_ms, withheld, unknown, times, share)
                    found.setdefault(name + suffix, []).append(one)
                    print(f"{algorithm.label} x {orientations}: {name}{suffix} {one:.4f} over {share} pairs", file=sys.stderr, flush=True)
    figures: dict[str, float | int] = {name: round(sum(some) / len(some), 4) for name, some in found.items()}
    for name in ("auc_single", "auc_900"):
        worst: float = max(found[name], key=_off)
        figures[f"{name}_worst"] = round(worst, 4)
    kinds = len(found["auc_single"])
    return figures | {"pairs": each * kinds, "pairs_900": max(each // _MANY_SHARE, 1) * kinds, "grid_ms": GRID_MS}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs and algorithms; under 50 s")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-withheld-") as folder:
        figures = asyncio.run(measure(Path(folder), quick=arguments.quick))
    if arguments.json:
        versions = {"python": platform.python_version(), "grpcio": grpc.__version__}
        document = {"name": "withheld", "versions": versions, "cpu": platform.processor() or platform.machine(), "threads": 1}
        print(json.dumps(document | {"figures": figures}, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:<28} {value:>12,}")


if __name__ == "__main__":
    main()
