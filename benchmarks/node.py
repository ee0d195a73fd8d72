"""How much of the index's speed a node hands on, and what a single lookup costs: `python -m benchmarks.node [--quick] [--json]`.

A node as `vidfed node serve` runs it, in its own processes, over mutual TLS, both signatures verified, audit log and replay memory
on the disk; this process asks as a gateway does and verifies the answers. Beside it, in turn, A B A B: the same batches to the same index
files inside this process, and an echo (gRPC, mutual TLS, in a process of its own) that sends as many bytes back and does nothing.
All share this machine's processors.

Figures:
    bulk_share_of_index: hashes answered per second by LookupStream (chunks of 1,000 PDQ codes, distance 31, two streams at a time), as
        a share of what the index does when called with the same batches, with as many threads; one code in 100 is near a stored one
    single_share_of_echo: lookups of one picture (8 PDQ codes, a pHash, a dHash, three digests; one picture in 10 is known) per second, 64
        at a time over one connection, as a share of echoes over one connection by one process; single_share_of_echo_workers: the same over
        8 connections each, with as many worker processes and echoing processes as processors
    single_p50_ms_above_index: median time of one such lookup with nothing else going on, less the time of its search for the PDQ codes
    workers_gain: lookups per second with as many worker processes as processors over those with one, both over 8 connections. The
        processors are also those of this process, which asks
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from benchmarks.index import DISTANCE, processor_name, queries, random_codes, say
from tests.support.memory import call_of
from tests.support.simulated import HomeFederation
from tests.support.streams import AnswerOrder
from vidfed.federation.lookup.question import Part
from vidfed.federation.lookup.verification import SignedPart, verify_answer
from vidfed.index import Algorithm, HashIndex
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.rpc.channels import SERVER_OPTIONS, open_channel, server_credentials
from vidfed.security.clock import system_clock
from vidfed.security.member.home import MemberHome
from vidfed.synthetic.federation import LocalFederation
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.wire.envelope import from_message
from vidfed.wire.statuses import Status
from vidfed.wire.stream import ChunkChain
from vidfed.wire.values import MAX_ITEMS, MAX_UNANSWERED_CHUNKS, STREAM_METHOD, HashColumn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from numpy.typing import NDArray

    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import LookupAnswer, LookupRequest

Echo = Callable[..., Awaitable[bytes]]

STREAMS = 2
AT_ONCE = 64
CONNECTIONS = 8
_QUIET_S = 2.0
_POLICY = """\
[[rule]]
name = "measured"
members = ["nl"]
purposes = ["identification"]
lookups_per_minute = 1000000000
lookups_per_day = 1000000000
hashes_per_minute = 1000000000
hashes_per_day = 1000000000
"""


class Measured:
    """The node of fr in a federation of two, filled, and how nl asks it."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.local = LocalFederation(folder, _run)
        self.local.create({"nl": "Unit NL", "fr": "Unit FR"})
        self.folder = self.local.places["fr"].folder
        (self.folder / "policy.toml").write_text(_POLICY)
        self.homes = {member: MemberHome(place.folder) for member, place in self.local.places.items()}
        self.federation = HomeFederation(list(self.homes.values()))
        self.asker = self.federation.investigator("nl")
        self.fr = self.federation.current().member("fr")
        self.codes = random_codes(rows, seed=1)
        started = time.perf_counter()
        with contextlib.closing(RecordStore(self.folder / "store/records.db")) as store:
            store.upsert((Record({Algorithm.PDQ: code.tobytes()}, series="S") for code in self.codes), now_ms=system_clock())
        say(f"{rows:,} records taken in, {time.perf_counter() - started:.0f} s")

    def start(self, workers: int = 1) -> None:
        """Start the node with so many processes, and wait until it searches."""
        config = self.folder / "vidfed.toml"
        lines = config.read_text().splitlines(keepends=True)
        # Speed is measured without the grid on which answers leave; what the grid is for is measured by benchmarks.withheld.
        settings = {"workers": workers, "answer_grid_ms": 0.0}
        config.write_text(
            "".join(f"{name} = {settings[name]}\n" if (name := line.partition(" ")[0]) in settings else line for line in lines)
        )
        self.local.start("fr")
        asyncio.run(self._until_current())

    def stop(self) -> None:
        """Stop it."""
        if status := self.local.stop("fr"):
            raise SystemExit(f"the node ended with status {status}")

    async def _until_current(self) -> None:
        """Wait until the index has taken in all records and the compiled code is warm."""
        started = time.perf_counter()
        async with self.connections(1) as (stub,):
            while True:
                request = self.bulk_request(self.codes[:MAX_ITEMS])
                if self.judged(await stub.Lookup(self.call(request)), request).header.status is Status.ANSWERED:
                    break
                await asyncio.sleep(0.5)
        say(f"the node answers, {time.perf_counter() - started:.0f} s")
        await self._until_merged()
        say(f"its index is merged, {time.perf_counter() - started:.0f} s")

    async def _until_merged(self) -> None:
        """Wait until the index has had the same segments for a while: merging in the background would slow both sides down."""
        with HashIndex.open(self.folder / "index" / Algorithm.PDQ.value, Algorithm.PDQ, read_only=True) as index:
            seen, since = index.stats().segments, time.monotonic()
            while time.monotonic() - since < _QUIET_S:
                await asyncio.sleep(0.1)
                if index.stats().segments != seen:
                    seen, since = index.stats().segments, time.monotonic()

    @contextlib.asynccontextmanager
    async def connections(self, count: int) -> AsyncIterator[list[rpc.NodeServiceAsyncStub]]:
        """Open connections to the node."""
        own = self.homes["nl"].node_tls()
        async with contextlib.AsyncExitStack() as stack:
            channels = []
            for _ in range(count):
                channels.append(open_channel(self.fr.endpoint, own, self.federation.current(), self.fr))
                stack.push_async_callback(channels[-1].close)
            yield [rpc.NodeServiceStub(channel) for channel in channels]

    def bulk_request(self, codes: NDArray[np.uint8], **header: Any) -> LookupRequest:  # noqa: ANN401 - fields of the header
        """A question about bare PDQ hashes."""
        column = HashColumn(Algorithm.PDQ, codes, np.arange(len(codes), dtype=np.uint32), DISTANCE)
        return replace(self.federation.request(self.asker, (), "fr", **header), item_count=len(codes), columns=(column,))

    def picture_request(self, codes: NDArray[np.uint8]) -> LookupRequest:
        """A question about one picture; `codes` are its eight orientations."""
        salt = codes.tobytes()
        columns = [HashColumn(Algorithm.PDQ, codes, np.zeros(len(codes), np.uint32), DISTANCE)]
        for algorithm in (Algorithm.PHASH, Algorithm.DHASH, Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256):
            code = np.frombuffer(salt[: algorithm.code_bytes], np.uint8).reshape(1, -1)
            columns.append(HashColumn(algorithm, code, np.zeros(1, np.uint32), algorithm.default_distance))
        return replace(self.federation.request(self.asker, (), "fr"), item_count=1, columns=tuple(columns))

    def call(self, request: LookupRequest) -> LookupCall:
        """The signed call."""
        return call_of(self.asker.credential, self.federation.sign(request, self.asker))

    def judged(self, message: EnvelopeMessage, request: LookupRequest, digest: bytes | None = None) -> LookupAnswer:
        """The verified answer."""
        digest = digest or self.federation.sign(request, self.asker).digest
        asked = SignedPart(Part((), request.columns), request, digest)
        _, answer = verify_answer(from_message(message), member=self.fr, pending={digest: asked}, now_ms=system_clock())
        return answer


def asked(codes: NDArray[np.uint8], count: int, seed: int, *, known: int) -> NDArray[np.uint8]:
    """Random codes, of which the first so many are near stored ones."""
    made = np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)
    made[:known] = queries(codes[seed % (len(codes) // 2) :], 2 * known)[::2]
    return made


async def bulk(measured: Measured, stub: rpc.NodeServiceAsyncStub, batches: Sequence[NDArray[np.uint8]]) -> int:
    """Ask one stream about all batches, and return the number of hits, each answer verified."""
    chain, order, hits = ChunkChain(), AnswerOrder(), 0
    room = asyncio.Semaphore(MAX_UNANSWERED_CHUNKS)
    asked: list[tuple[LookupRequest, bytes]] = []
    signers = (measured.asker.signer, measured.homes["nl"].signer)

    async def chunks() -> AsyncIterator[LookupCall]:
        for number, codes in enumerate(batches, 1):
            await room.acquire()
            request, envelope = chain.sign(measured.bulk_request(codes, method=STREAM_METHOD), *signers, last=number == len(batches))
            asked.append((request, envelope.digest))
            yield call_of(measured.asker.credential, envelope)

    async for message in stub.LookupStream(chunks()):
        room.release()
        request, digest = asked[order.due]
        answer = measured.judged(message, request, digest)
        order.accept(answer.header, from_message(message).digest)
        if answer.header.status is not Status.ANSWERED:
            raise SystemExit(f"a chunk was refused: {answer.header}")
        hits += len(answer.hits)
    order.finish()
    return hits


def bulk_share(measured: Measured, index: HashIndex, *, chunks: int, rounds: int) -> dict[str, float]:
    """Streams and the bare index in turn."""
    per_stream = [
        [asked(measured.codes, MAX_ITEMS, number, known=MAX_ITEMS // 100) for number in range(one, chunks, STREAMS)]
        for one in range(STREAMS)
    ]

    async def streams() -> int:
        async with measured.connections(STREAMS) as stubs:
            return sum(await asyncio.gather(*(bulk(measured, stub, batches) for stub, batches in zip(stubs, per_stream, strict=True))))

    def searched() -> int:
        return sum(len(index.range_search(batch, DISTANCE).labels) for batch in itertools.chain(*per_stream))

    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        answered = asyncio.run(streams())
        middle = time.perf_counter()
        if answered != searched():
            raise SystemExit("the node did not find what the index finds")
        times.append((middle - started, time.perf_counter() - middle))
    node_s, index_s = (median(column) for column in zip(*times[1:], strict=True))
    return {
        "bulk_share_of_index": round(median(index / node for node, index in times[1:]), 3),
        "bulk_hashes_per_s": round(chunks * MAX_ITEMS / node_s),
        "index_hashes_per_s": round(chunks * MAX_ITEMS / index_s),
    }


async def rate(calls: Sequence[Any], ask: Sequence[Callable[[Any], Any]]) -> tuple[float, list[Any]]:
    """Calls per second with AT_ONCE under way, and what came back."""
    waiting = iter(enumerate(calls))
    replies: list[Any] = [None] * len(calls)

    async def lane(asking: Callable[[Any], Any]) -> None:
        for number, call in waiting:
            replies[number] = await asking(call)

    started = time.perf_counter()
    await asyncio.gather(*(lane(ask[number % len(ask)]) for number in range(AT_ONCE)))
    return len(calls) / (time.perf_counter() - started), replies


async def singles(measured: Measured, stubs: Sequence[rpc.NodeServiceAsyncStub], count: int) -> tuple[float, list[EnvelopeMessage]]:
    """Lookups of one picture per second; all answered, all verified afterwards."""
    requests = [measured.picture_request(asked(measured.codes, 8, number, known=number % 10 == 0)) for number in range(count)]
    calls = [measured.call(request) for request in requests]
    per_s, replies = await rate(calls, [stub.Lookup for stub in stubs])
    for request, reply in zip(requests, replies, strict=True):
        if measured.judged(reply, request).header.status is not Status.ANSWERED:
            raise SystemExit("a lookup was refused")
    return per_s, replies


@contextlib.asynccontextmanager
async def echoing(measured: Measured, address: str, connections: int) -> AsyncIterator[list[Echo]]:
    """Open connections to an echo, as to the node; what they give sends a lookup's bytes and gets as many back as an answer has."""
    own, directory = measured.homes["nl"].node_tls(), measured.federation.current()
    async with measured.connections(1) as stubs, contextlib.AsyncExitStack() as stack:
        _, replies = await singles(measured, stubs, 200)
        wanted = int(median(reply.ByteSize() for reply in replies))
        sent = measured.call(measured.picture_request(asked(measured.codes, 8, 1, known=0))).SerializeToString()
        body = wanted.to_bytes(4, "big") + sent[4:]
        echoes: list[Echo] = []
        for _ in range(connections):
            channel = open_channel(address, own, directory, measured.fr)
            stack.push_async_callback(channel.close)
            call = channel.unary_unary("/bench/Echo", request_serializer=lambda body: body, response_deserializer=lambda body: body)
            echoes.append(functools.partial(_echo_once, call, body))
            if len(await echoes[-1]()) != wanted:
                raise SystemExit("the echo is not one")
        yield echoes


async def _echo_once(call: Any, body: bytes, _: object = None) -> bytes:  # noqa: ANN401 - a call of gRPC's
    reply: bytes = await call(body)
    return reply


async def against_echoes(measured: Measured, echo: str, *, connections: int, count: int, rounds: int) -> tuple[float, float, float]:
    """Single lookups and echoes of the same sizes over as many connections in turn: (share, lookups per second, echoes per second)."""
    rates = []
    async with echoing(measured, echo, connections) as echoes, measured.connections(connections) as stubs:
        for _ in range(rounds + 1):
            ours, _ = await singles(measured, stubs, count)
            theirs, _ = await rate([None] * (count * 2), echoes)
            rates.append((ours / theirs, ours, theirs))
    share, ours, theirs = (median(column) for column in zip(*rates[1:], strict=True))
    return share, ours, theirs


async def latency(measured: Measured, index: HashIndex, echo: str, *, count: int) -> dict[str, float]:
    """One lookup, one search and one echo after the other, nothing else going on."""
    latencies, searches, echo_latencies = [], [], []
    async with echoing(measured, echo, 1) as (echo_once,), measured.connections(1) as (stub,):
        for number in range(count):
            codes = asked(measured.codes, 8, number, known=number % 10 == 0)
            latencies.append(await _timed(stub.Lookup(measured.call(measured.picture_request(codes)))))
            started = time.perf_counter()
            index.range_search(codes, DISTANCE)
            searches.append(time.perf_counter() - started)
            echo_latencies.append(await _timed(echo_once()))
    return {
        "single_p50_ms_above_index": round((median(latencies) - median(searches)) * 1000, 2),
        "single_p99_ms": round(sorted(latencies)[int(len(latencies) * 0.99)] * 1000, 2),
        "echo_p50_ms": round(median(echo_latencies) * 1000, 2),
        "index_p50_ms": round(median(searches) * 1000, 2),
    }


async def _timed(reply: Any) -> float:  # noqa: ANN401 - any call
    started = time.perf_counter()
    await reply
    return time.perf_counter() - started


async def many_connections(measured: Measured, *, count: int, rounds: int) -> float:
    """Lookups per second over several connections."""
    async with measured.connections(CONNECTIONS) as stubs:
        return median([(await singles(measured, stubs, count))[0] for _ in range(rounds + 1)][1:])


def measure(folder: Path, *, quick: bool, rows: int) -> dict[str, float]:
    """Return all figures."""
    rounds, count = (2, 800) if quick else (5, 3_000)
    processors = os.cpu_count() or 1
    measured = Measured(folder, rows)
    with measured.local:
        measured.start()
        with HashIndex.open(measured.folder / "index" / Algorithm.PDQ.value, Algorithm.PDQ, read_only=True) as index:
            figures = bulk_share(measured, index, chunks=40 if quick else 200, rounds=rounds)
            say("bulk measured")
            with echo_servers(measured.folder, 1) as echo:
                figures |= asyncio.run(latency(measured, index, echo, count=count // 2))
                one_share, one, echoes = asyncio.run(against_echoes(measured, echo, connections=1, count=count, rounds=rounds))
        say("single lookups measured with one worker")
        spread = asyncio.run(many_connections(measured, count=count, rounds=rounds))
        measured.stop()
        measured.start(workers=processors)
        with echo_servers(measured.folder, processors) as echo:
            share, all_workers, all_echoes = asyncio.run(
                against_echoes(measured, echo, connections=CONNECTIONS, count=count, rounds=rounds)
            )
        measured.stop()
    return figures | {
        "single_share_of_echo": round(one_share, 3),
        "single_lookups_per_s": round(one),
        "echoes_per_s": round(echoes),
        "single_share_of_echo_workers": round(share, 3),
        "workers_gain": round(all_workers / spread, 2),
        "workers": processors,
        "lookups_per_s_workers": round(all_workers),
        "echoes_per_s_processes": round(all_echoes),
    }


@contextlib.contextmanager
def echo_servers(home: Path, count: int) -> Iterator[str]:
    """So many processes that echo at one address, with the node's certificate; gives the address."""
    with contextlib.ExitStack() as stack:
        address = "127.0.0.1:0"
        for _ in range(count):
            command = [sys.executable, "-m", "benchmarks.node", "--echo", str(home), address]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            address = (process.stdout.readline() if process.stdout else "").strip()
        yield address


async def echo(home: MemberHome, address: str) -> None:
    """Serve one: the first four bytes say how many are wanted back."""

    async def reply(body: bytes, _context: object) -> bytes:
        return bytes(int.from_bytes(body[:4], "big"))

    handler = grpc.method_handlers_generic_handler("bench", {"Echo": grpc.unary_unary_rpc_method_handler(reply)})
    server = grpc.aio.server(options=list((dict(SERVER_OPTIONS) | {"grpc.so_reuseport": 1}).items()))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_secure_port(address, server_credentials(home.node_tls, home.directory_source()))
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def _run(arguments: Sequence[str]) -> None:
    subprocess.run([sys.executable, "-m", "vidfed.cli", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer records and rounds; under 50 s")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, help="records of the node  [default: 1,000,000; 400,000 with --quick]")
    parser.add_argument("--echo", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        home, address = options.echo
        asyncio.run(echo(MemberHome(Path(home)), address))
        return
    rows = options.rows or (400_000 if options.quick else 1_000_000)
    with tempfile.TemporaryDirectory(prefix="bench-node-") as folder:
        figures = measure(Path(folder), quick=options.quick, rows=rows)
    versions = {name: version(name) for name in ("grpcio", "protobuf", "pynacl", "numba")} | {"python": platform.python_version()}
    if options.json:
        report = {
            "name": "node",
            "versions": versions,
            "cpu": processor_name(),
            "threads": os.cpu_count(),
            "rows": rows,
            "figures": figures,
        }
        print(json.dumps(report, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:<28} {value:>14,}")


if __name__ == "__main__":
    main()
