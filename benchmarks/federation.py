"""The federation layer at 194 members: `python -m benchmarks.federation [--quick] [--json]`.

True nodes (signatures, mutual TLS, stores, indexes, logs) in two processes, each at a lognormal distance; a true gateway in a
third process; a true investigator's client in this one. Beside each lookup, the same calls are made without any layer: signed once, sent
to all nodes over open connections, nothing checked, logged or kept. All share this machine's processors.

Figures, of the honest federation where nothing else is said; "own" is the time between a lookup's coming and its answer's going at the
slowest node that answered honestly, distance included:
    overhead_ms, overhead_share: median of (last honest answer verified at the client - own), and the same as a share of own
    bare_overhead_ms: the same for the calls without a layer: what 194 encrypted calls cost on this machine anyway
    first_hit_*_ms, complete_*_ms: from asking to the first verified hit, to the end of the lookup
    cpu_ms_per_lookup: of the gateway's process; client_cpu_ms_per_lookup: of the client, verifying and keeping receipts
    rss_growth_mb: of the gateway's process, from the first lookups to the last
    steady: many lookups of all members one after the other. rss_growth_mb_per_100_lookups is a straight line through the gateway's resident
        memory after each lookup of the second half; not with --quick, whose few lookups would say nothing
    bulk: `vidfed lookup --csv` of so many different pictures (a SHA-256 and a PDQ each) and of four times as many, asking few members
        through a gateway started for it. Peaks of resident memory, and by how much that of four times as many is higher
    members: the same for fewer members asked: time grows with the slowest node, not with the number
    misbehaving: the same while 5 and 20 % are slow, closed, deaf, hanging, or lie in four ways. `complete_breakers_closed_ms` is the first
        lookup, which waits for those that hang until its deadline; the others come when the breakers know them. `believed` counts answers
        of liars that the client took for true, `lost` honest answers that it did not get: both must be 0
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import platform
import random
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import linear_regression, median
from typing import TYPE_CHECKING, Any

from tests.support.simulated import KNOWN, Behaviour, known_codes
from tests.support.simulation import Simulation
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.question import Item, Justification, split
from vidfed.index import Algorithm
from vidfed.rpc.channels import open_channel
from vidfed.security.clock import system_clock
from vidfed.security.crypto.envelope import Envelope
from vidfed.v1 import lookup_pb2 as pb
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.wire.envelope import to_message
from vidfed.wire.requests import write_request
from vidfed.wire.values import LOOKUP_METHOD, REQUEST_TYPE, LookupRequest, Purpose, RequestHeader, Urgency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import grpc

    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.question import Part
    from vidfed.security.member.kit import Kit

MEMBERS = 194
SHARES = (0.05, 0.20)
SUBSETS = (12, 48)
DEADLINE_S = 5.5  # long enough for the gateway to count silence as a failure
STORM = 5  # lookups at the same time, after which the breakers know who keeps failing
WHY = Justification(Purpose.IDENTIFICATION, "benchmark", "B-1")
BULK_ASKED = 4  # members; one of them knows some of the pictures
# Runs a command and tells its peak of resident memory in KiB: a process this small adds nothing to what the system counts for its child.
PEAK_OF = (
    "import resource, subprocess, sys; ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(ended.returncode)"
)
PARTS: tuple[Part, ...] = tuple(
    itertools.chain.from_iterable(
        split([Item(f"known {number}", {algorithm: (code,) for algorithm, code in known_codes(number).items()})], {})
        for number in range(KNOWN)
    )
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: lookups of all members, of fewer members, one after the other for memory (if any), and pictures in bulk."""

    lookups: int
    fewer: int
    steady: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """One lookup as the client saw it, in seconds from asking, and the slowest honest node's own time."""

    complete_s: float
    first_hit_s: float
    honest_s: float
    own_s: float

    @property
    def overhead_s(self) -> float:
        """What came on top of the slowest honest node's own time."""
        return self.honest_s - self.own_s


@dataclass(slots=True)
class Run:
    """Lookups under the same circumstances.

    Attributes:
        lookups: through the gateway.
        bare: overhead in seconds of the same calls without a layer.
        rss_bytes: of the gateway after each lookup.
        gateway_cpu_s, client_cpu_s: used by all of `lookups`.
        believed, lost: see the module.
    """

    lookups: list[Lookup] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)
    gateway_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    believed: int = 0
    lost: int = 0

    def figures(self) -> dict[str, float]:
        """Return the figures of this run."""
        count = len(self.lookups)
        own_s = median(lookup.own_s for lookup in self.lookups)
        overhead_s = median(lookup.overhead_s for lookup in self.lookups)
        figures = {
            "lookups": count,
            "own_p50_ms": _ms(own_s),
            "overhead_ms": _ms(overhead_s),
            "overhead_p95_ms": _ms(percentile([lookup.overhead_s for lookup in self.lookups], 95)),
            "overhead_share": round(median(lookup.overhead_s / lookup.own_s for lookup in self.lookups), 3),
            "believed": self.believed,
            "lost": self.lost,
        }
        for name in ("first_hit", "complete"):
            seconds = [getattr(lookup, f"{name}_s") for lookup in self.lookups]
            figures |= {f"{name}_p{rank}_ms": _ms(percentile(seconds, rank)) for rank in (50, 95, 99)}
        figures["cpu_ms_per_lookup"] = _ms(self.gateway_cpu_s / count)
        figures["client_cpu_ms_per_lookup"] = _ms(self.client_cpu_s / count)
        if self.bare:
            figures["bare_overhead_ms"] = _ms(median(self.bare))
        return figures


class Bench:
    """A running federation with an investigator before it."""

    def __init__(self, simulation: Simulation, kit: Kit, client: FederationClient) -> None:
        self._simulation = simulation
        self._kit = kit
        self._client = client
        self._parts = itertools.cycle(PARTS)
        self._home = simulation.federation.homes[kit.member]
        self._directory = self._home.directory_source().current()
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def measure(self, count: int, members: Sequence[str] = (), *, bare: bool = False) -> Run:
        """Do `count` lookups, one after the other, of some members or all."""
        run = Run()
        liars = {member for member, behaviour in self._simulation.behaviours.items() if not behaviour.honest}
        for _ in range(count):
            before, before_s = self._simulation.gateway_usage(), time.process_time()
            run.lookups.append(await self._look_up(run, members, liars))
            after = self._simulation.gateway_usage()
            run.gateway_cpu_s += after.cpu_s - before.cpu_s
            run.rss_bytes.append(after.rss_bytes)
            run.client_cpu_s += time.process_time() - before_s
            if bare:
                run.bare.append(await self._bare(members))
        return run

    async def storm(self) -> float:
        """Let the breakers learn who keeps failing. Return how many seconds a lookup of all takes meanwhile."""
        failing = [member for member, behaviour in self._simulation.behaviours.items() if behaviour is not Behaviour.HONEST]
        others = [
            asyncio.create_task(self._client.lookup(next(self._parts), WHY, ask=failing, deadline_s=DEADLINE_S)) for _ in range(STORM - 1)
        ]
        began_s = time.perf_counter()
        await self._client.lookup(next(self._parts), WHY, deadline_s=DEADLINE_S)
        took_s = time.perf_counter() - began_s
        await asyncio.gather(*others)
        await self._simulation.own_times()
        return took_s

    async def _look_up(self, run: Run, members: Sequence[str], liars: set[str]) -> Lookup:
        seen: dict[str, tuple[float, NodeOutcome]] = {}
        began_s = time.perf_counter()

        def note(node: NodeOutcome) -> None:
            seen[node.member] = time.perf_counter() - began_s, node

        await self._client.lookup(next(self._parts), WHY, ask=members, deadline_s=DEADLINE_S, on_node=note)
        complete_s = time.perf_counter() - began_s
        times = await self._simulation.own_times()
        own = {answered.member: answered.took_s for answered in times if answered.came_s >= began_s}  # others came too late before
        verified = {member: at_s for member, (at_s, node) in seen.items() if node.outcome.answered}
        run.believed += len(verified.keys() & liars)
        run.lost += len(own.keys() - verified.keys())
        first_hit_s = min((at_s for at_s, node in seen.values() if node.hits), default=complete_s)
        return Lookup(complete_s, first_hit_s, max(verified[member] for member in own.keys() & verified.keys()), max(own.values()))

    async def _bare(self, members: Sequence[str]) -> float:
        """Make the same calls without a layer; return what came on top of the slowest honest node's own time, in seconds."""
        for member in self._directory.members.values():
            if member.id not in self._channels:
                self._channels[member.id] = open_channel(member.endpoint, self._home.node_tls(), self._directory, member)
                await self._channels[member.id].channel_ready()
        asked = list(members or self._directory.members)
        began_s = time.perf_counter()
        request = Envelope(REQUEST_TYPE, write_request(self._request(next(self._parts), asked)))
        call = pb.LookupCall(
            credential=to_message(self._kit.credential), request=to_message(request.signed_by(self._kit.signer, self._home.signer))
        )
        await asyncio.gather(*(rpc.NodeServiceStub(self._channels[member]).Lookup(call, timeout=DEADLINE_S) for member in asked))
        took_s = time.perf_counter() - began_s
        return took_s - max(answered.took_s for answered in await self._simulation.own_times())

    def _request(self, part: Part, asked: Sequence[str]) -> LookupRequest:
        now_ms = system_clock()
        header = RequestHeader(
            federation=self._kit.federation,
            issuer=self._kit.member,
            audience=tuple(asked),
            message_id=secrets.token_bytes(16),
            issued_ms=now_ms,
            expires_ms=now_ms + 30_000,
            method=LOOKUP_METHOD,
            directory_version=1,
            purpose=WHY.purpose,
            legal_basis=WHY.legal_basis,
            offence_type=WHY.offence_type,
            case_reference=WHY.case_reference,
            pseudonym=self._kit.pseudonym,
            urgency=Urgency.ROUTINE,
        )
        return LookupRequest(header, len(part.items), part.columns)

    async def close(self) -> None:
        """Close the bare calls' connections."""
        for channel in self._channels.values():
            await channel.close()


def percentile(values: Sequence[float], rank: int) -> float:
    """Return the smallest value that at least `rank` percent of the values do not exceed."""
    return sorted(values)[math.ceil(len(values) * rank / 100) - 1]


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


async def figures(folder: Path, *, quick: bool, members: int) -> dict[str, Any]:
    """Measure everything."""
    sizes = Sizes(3, 1, 0, 500) if quick else Sizes(60, 20, 400, 25_000)
    _say(f"making {members} members")
    async with Simulation(folder, members, processes=2) as simulation:
        kit = simulation.start_gateway()
        async with FederationClient(kit) as client:
            await client.refresh_directory()
            bench = Bench(simulation, kit, client)
            result = await _all(bench, simulation, sizes)
        result["bulk"] = await _bulk(simulation, kit, folder, sizes.pictures)
        return result


async def _all(bench: Bench, simulation: Simulation, sizes: Sizes) -> dict[str, Any]:
    members = len(simulation.members)
    _say("connecting")
    await bench.measure(1, bare=True)
    before = simulation.gateway_usage()
    _say(f"{sizes.lookups} lookups of all members, each followed by the same calls without a layer")
    honest = await bench.measure(sizes.lookups, bare=True)
    result: dict[str, Any] = {"nodes": members, **honest.figures()}
    result["members"] = {str(members): _brief(honest)}
    for subset in (subset for subset in SUBSETS if subset < members):
        _say(f"{sizes.fewer} lookups of {subset} members")
        result["members"][str(subset)] = _brief(await bench.measure(sizes.fewer, simulation.members[:subset]))
    await bench.close()
    if sizes.steady:
        _say(f"{sizes.steady} lookups of all members")
        steady = await bench.measure(sizes.steady)
        growth = slope(steady.rss_bytes[len(steady.rss_bytes) // 2 :])
        result["steady"] = {**_brief(steady), "lookups": sizes.steady, "rss_growth_mb_per_100_lookups": round(100 * growth / 1e6, 2)}
    result["misbehaving"] = {}
    for share in SHARES:
        count = max(sizes.fewer, sizes.lookups // 2)
        _say(f"{share:.0%} misbehave: {STORM} lookups until the breakers know them, then {count}")
        await simulation.behave(simulation.misbehaving(share))
        first_s = await bench.storm()
        run = await bench.measure(count)
        bad = sum(behaviour is not Behaviour.HONEST for behaviour in simulation.behaviours.values())
        result["misbehaving"][f"{share:.0%}"] = {"nodes": bad, "complete_breakers_closed_ms": _ms(first_s), **run.figures()}
    result["rss_growth_mb"] = round((simulation.gateway_usage().rss_bytes - before.rss_bytes) / 1e6, 1)
    return result


async def _bulk(simulation: Simulation, kit: Kit, folder: Path, pictures: int) -> dict[str, float]:
    await simulation.behave(dict.fromkeys(simulation.members, Behaviour.HONEST))
    asked = (*simulation.knowing[:1], *(member for member in simulation.members if member not in simulation.knowing))[:BULK_ASKED]
    peaks = []
    for count in (pictures, 4 * pictures):
        _say(f"{count} pictures in bulk")
        simulation.restart_gateway()
        began_s = time.perf_counter()
        client_bytes = await asyncio.to_thread(_look_up_file, kit, folder / f"bulk-{count}", count, asked)
        took_s = time.perf_counter() - began_s
        peaks.append((client_bytes, simulation.gateway_usage().peak_rss_bytes))
    figures: dict[str, float] = {"members": len(asked), "pictures": 4 * pictures, "pictures_per_s": round(4 * pictures / took_s)}
    for name, few, many in zip(("client", "gateway"), *peaks, strict=True):
        figures |= {f"{name}_peak_rss_mb": round(many / 1e6, 1), f"{name}_peak_rss_growth_mb": round((many - few) / 1e6, 1)}
    return figures


def _look_up_file(kit: Kit, folder: Path, count: int, asked: Sequence[str]) -> int:
    """Look up a file of pictures, every fiftieth of them known to somebody; return the peak of the command's resident memory in bytes."""
    folder.mkdir()
    drawn = random.Random(count)
    with (folder / "pictures.csv").open("w") as file:
        file.write("sha256,pdq\n")
        for number in range(count):
            known = known_codes(number // 50 % KNOWN)
            digest, near = (drawn.randbytes(32), drawn.randbytes(32)) if number % 50 else (drawn.randbytes(32), known[Algorithm.PDQ])
            file.write(f"{digest.hex()},{near.hex()}\n")
    command = [sys.executable, "-c", PEAK_OF, sys.executable, "-m", "vidfed.cli", "lookup", "--kit", str(kit.folder)]
    command += ["--csv", str(folder / "pictures.csv"), "--out", str(folder / "out"), "--case", WHY.case_reference]
    command += ["--purpose", WHY.purpose.code, "--legal-basis", WHY.legal_basis, *(f"--ask={member}" for member in asked)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in {0, 5}:  # 5: all answered; few of their records carry what was asked
        raise RuntimeError(f"the bulk lookup ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return int(ended.stdout) * 1024


def slope(values: Sequence[float]) -> float:
    """Return by how much the values grow from one to the next, by the straight line nearest to them."""
    return linear_regression(range(len(values)), values).slope


def _brief(run: Run) -> dict[str, float]:
    names = ("own_p50_ms", "overhead_ms", "first_hit_p50_ms", "complete_p50_ms", "cpu_ms_per_lookup")
    return {name: value for name, value in run.figures().items() if name in names}


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _print(fields: Mapping[str, Any], indent: str = "") -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            _print(value, indent + "    ")
        else:
            print(f"{indent}{name:<{36 - len(indent)}} {value:>12,}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.federation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer lookups; under 50 s")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--members", type=int, default=MEMBERS, help="how many members  [default: %(default)s]")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to be measured  [default: the current folder]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-federation-") as folder:
        measured = asyncio.run(figures(Path(folder).absolute(), quick=arguments.quick, members=arguments.members))
    report = {
        "name": "federation",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("grpcio", "protobuf", "pynacl")}},
        "cpu": platform.processor() or platform.machine(),
        "threads": os.cpu_count(),
        "figures": measured,
    }
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        _print(measured)


if __name__ == "__main__":
    main()
