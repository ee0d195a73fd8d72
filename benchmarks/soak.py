"""A node under many clients for a long time: `python -m benchmarks.soak [--minutes 10] [--clients 500] [--workers 1] [--json]`.

A node as `vidfed node serve` runs it, asked by one member's gateway over 16 connections by as many clients at once, each with a new signed
lookup of one picture as soon as it has its answer; an answer BUSY makes its client wait half a second. Every answer is verified. Told are
lookups, statuses, errors by kind (there should be none), and the memory of the node's processes.
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
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc

from benchmarks.index import processor_name, queries
from benchmarks.node import Measured
from vidfed.federation.lookup.errors import AnswerError
from vidfed.wire.statuses import Status, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.v1 import lookup_pb2_grpc as rpc

CONNECTIONS = 16
DEADLINE_S = 30.0
LOOK_S = 5.0
BUSY_S = 0.5


class Tally:
    """What came of it so far."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.times_s: list[float] = []
        self.memory_mb: list[float] = []


async def client(measured: Measured, stub: rpc.NodeServiceAsyncStub, number: int, until_s: float, tally: Tally) -> None:
    """One client, asking again and again."""
    draw = random.Random(number)
    while time.monotonic() < until_s:
        request = measured.picture_request(queries(measured.codes[draw.randrange(len(measured.codes) - 8) :], 8))
        started = time.perf_counter()
        outcome = await _ask(measured, stub, request)
        tally.outcomes[outcome] += 1
        if outcome == Status.BUSY.name:
            await asyncio.sleep(BUSY_S * (0.5 + draw.random()))
        elif outcome == Status.ANSWERED.name:
            tally.times_s.append(time.perf_counter() - started)


async def _ask(measured: Measured, stub: rpc.NodeServiceAsyncStub, request: Any) -> str:  # noqa: ANN401 - a LookupRequest
    try:
        reply = await stub.Lookup(measured.call(request), timeout=DEADLINE_S)
        return measured.judged(reply, request).header.status.name
    except grpc.aio.AioRpcError as error:
        return f"error {error.code().name}"
    except (AnswerError, WireError) as error:
        return f"error {error}"


async def watch(measured: Measured, until_s: float, tally: Tally) -> None:
    """Look at the node's memory, and say how it goes."""
    while time.monotonic() < until_s:
        tally.memory_mb.append(sum(map(resident_mb, processes_of(measured.local.process_id("fr")))))
        said = ", ".join(f"{count} {name}" for name, count in tally.outcomes.most_common())
        print(f"{until_s - time.monotonic():5.0f} s left  {tally.memory_mb[-1]:6.0f} MB  {said}", file=sys.stderr, flush=True)
        await asyncio.sleep(LOOK_S)


def processes_of(process: int) -> Iterator[int]:
    """The process and those it started."""
    yield process
    for child in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split():
        yield from processes_of(int(child))


def resident_mb(process: int) -> float:
    """Memory that is the process's own; the mapped index is shared and not counted."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


async def soak(measured: Measured, *, clients: int, minutes: float) -> dict[str, Any]:
    """Return the figures."""
    tally, until_s = Tally(), time.monotonic() + 60 * minutes
    async with measured.connections(CONNECTIONS) as stubs:
        asking = (client(measured, stubs[number % len(stubs)], number, until_s, tally) for number in range(clients))
        await asyncio.gather(watch(measured, until_s, tally), *asking)
    tenth = max(1, len(tally.memory_mb) // 10)
    return {
        "minutes": minutes,
        "clients": clients,
        "lookups": sum(tally.outcomes.values()),
        "answered_per_s": round(tally.outcomes[Status.ANSWERED.name] / (60 * minutes), 1),
        "answered_p50_ms": round(median(tally.times_s) * 1000),
        "answered_p99_ms": round(sorted(tally.times_s)[int(len(tally.times_s) * 0.99)] * 1000),
        "outcomes": dict(tally.outcomes.most_common()),
        "errors": sum(count for name, count in tally.outcomes.items() if name.startswith("error")),
        "memory_mb_early": round(median(tally.memory_mb[tenth : 2 * tenth] or tally.memory_mb)),
        "memory_mb_late": round(median(tally.memory_mb[-tenth:])),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        measured = Measured(Path(folder), options.rows)
        with measured.local:
            measured.start(options.workers)
            figures = asyncio.run(soak(measured, clients=options.clients, minutes=options.minutes)) | {"workers": options.workers}
            measured.stop()
    if options.json:
        versions = {name: version(name) for name in ("grpcio", "protobuf", "pynacl")} | {"python": platform.python_version()}
        print(json.dumps({"name": "soak", "versions": versions, "cpu": processor_name(), "figures": figures}, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:<20} {value}")


if __name__ == "__main__":
    main()
