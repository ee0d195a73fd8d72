"""Looking up everything in a file or folder: through streams, in constant memory, going on where it was after whatever interruption.

What is read goes into the store of the result folder and is asked from there, at the same time: pictures are asked about while others are
still hashed. Each round asks every member for exactly what it has not answered; a round ends by itself after STREAM_S, or when the
connection breaks. A member that brought nothing in a round is left alone from then on, and said to be missing.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vidfed.federation.bulk.ranges import Range, plan
from vidfed.federation.lookup.errors import GatewayError
from vidfed.federation.lookup.items import item_of_picture
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item, Part, split
from vidfed.federation.output.json import hit_fields
from vidfed.formats.entries import FileEntry
from vidfed.formats.recognise import open_hash_file
from vidfed.index import Algorithm
from vidfed.wire.values import MAX_CODES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.federation.bulk.store import BulkStore

STREAM_S = 240.0  # a stream ends by itself before connections reach the age at which servers close them
RATE_WAIT_S = 61.0  # a node counts by the minute
RATE_TRIES = 5
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # between attempts to reach a gateway that is gone; one that restarts is back within these
_TOGETHER = 4  # streams at the same time, each to members that lack the same
_READ = 500  # entries taken into the store at a time
_FAR = 2**62  # the end, as long as nobody knows it


@dataclass(frozen=True, slots=True)
class NumberedPart(Part):
    """A part whose items have these numbers in the store."""

    numbers: tuple[int, ...]


class StreamAsk(Protocol):
    """Who asks: `FederationClient` with a justification."""

    async def __call__(
        self, parts: AsyncIterator[NumberedPart], ask: Sequence[str], on_node: Callable[[NumberedPart, NodeOutcome], None], /
    ) -> Mapping[str, NodeOutcome]:
        """Ask these members in one stream; return who left it, and why."""


@dataclass(frozen=True, slots=True)
class NodePart:
    """One member's part in a bulk lookup.

    Attributes:
        answered, unanswered: items.
        missing: where they are, as ranges of items.
        hits: records it knows.
        detail: why it did not answer, the last time.
    """

    answered: int
    unanswered: int
    missing: tuple[Range, ...]
    hits: int
    detail: str


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What is known after a bulk lookup.

    Attributes:
        asked: entries in all.
        different: different ones among them; each was asked once.
        known: entries with at least one hit.
        unseen: entries that every node asked says, signed, it does not know.
        open: entries without a hit that some node did not answer; what those nodes hold is not known.
        partial: entries, with or without a hit, that some node did not answer.
        skipped: what could not be asked about.
        nodes: by member.
    """

    asked: int
    different: int
    known: int
    unseen: int
    open: int
    partial: int
    skipped: int
    nodes: Mapping[str, NodePart]

    @property
    def complete(self) -> bool:
        """True if every node answered everything."""
        return self.asked > 0 and self.partial == 0


def result_of(store: BulkStore, members: Sequence[str], said: Mapping[str, NodeOutcome], *, skipped: int = 0) -> BulkResult:
    """Sum up what the store holds.

    Args:
        store: the answers.
        members: who was to answer.
        said: why members did not.
        skipped: what could not be asked about.
    """
    nodes = {}
    for member, ranges in store.answered(members).items():
        missing = tuple(ranges.missing(store.count))
        outcome = said.get(member)
        detail = f"{outcome.outcome.value} {outcome.detail}".strip() if outcome and missing else ""
        nodes[member] = NodePart(len(ranges), sum(each.size for each in missing), missing, store.hit_count(member), detail)
    asked = store.entry_count
    known, still_open, partial = store.counts(members)
    return BulkResult(asked, store.count, known, asked - known - still_open, still_open, partial, skipped, nodes)


class Reading:
    """The reading of the source into the store, in a thread, while others ask what is there already."""

    def __init__(self, read: Callable[[threading.Event, Callable[[], None]], None] | None) -> None:
        """Prepare.

        Args:
            read: reads everything; is given an event that asks it to stop, and what to call when there is more in the store. None if
                everything is there.
        """
        self._read = read
        self._stop = threading.Event()
        self._news = asyncio.Event()
        self.done = read is None

    async def run(self) -> None:
        """Read to the end."""
        if self._read is None:
            return
        loop = asyncio.get_running_loop()

        def say() -> None:
            loop.call_soon_threadsafe(self._news.set)

        try:
            await asyncio.to_thread(self._read, self._stop, say)
        finally:
            self._stop.set()
            self.done = True
            self._news.set()

    async def more(self) -> None:
        """Wait until there may be more, or the end."""
        await self._news.wait()
        if not self.done:
            self._news.clear()


@dataclass(slots=True)
class BulkLookup:
    """One run over a store.

    Attributes:
        store: what to ask and what was answered.
        members: who is asked.
        distances: maximum distance (inclusive) where it is not the algorithm's default.
        ask: asks.
        on_progress: called whenever something was answered.
        on_wait: called with a text when something makes us wait.
        sleep: waits so many seconds.
        said: the last thing each member said instead of an answer.
    """

    store: BulkStore
    members: Sequence[str]
    distances: Mapping[Algorithm, int]
    ask: StreamAsk
    on_progress: Callable[[], None] = lambda: None
    on_wait: Callable[[str], None] = lambda _: None
    sleep: Callable[[float], Any] = asyncio.sleep
    said: dict[str, NodeOutcome] = field(default_factory=dict)
    _limited: dict[str, int] = field(default_factory=dict)
    _pause: bool = False

    async def run(self, reading: Reading) -> None:
        """Ask until everybody has answered everything, or brings nothing any more.

        Raises:
            GatewayRefusedError: the gateway refuses.
            GatewayError: it cannot be reached, however often it was tried. What was answered before is in the store.
        """
        read = asyncio.create_task(reading.run())
        try:
            await self._rounds(reading)
            await read
        finally:
            read.cancel()
            await asyncio.gather(read, return_exceptions=True)

    async def _rounds(self, reading: Reading) -> None:
        members, troubles = list(self.members), 0
        while True:
            work = plan(self.store.answered(members), self.store.count if reading.done else _FAR)
            if not work:
                return
            before = self._progress(members)
            trouble = await self._round(work, reading)
            after = self._progress(members)
            if trouble is not None:
                troubles = 0 if after != before else troubles + 1
                if troubles > len(PAUSES_S):
                    raise trouble
                if troubles:
                    self.on_wait(f"{trouble}; trying again in {PAUSES_S[troubles - 1]:.0f} s")
                    await self.sleep(PAUSES_S[troubles - 1])
                continue
            troubles = 0
            asked = frozenset().union(*work)
            members = [m for m in members if m not in asked or after[m] > before[m] or 0 < self._limited.get(m, 0) <= RATE_TRIES]

    async def _round(self, work: Mapping[frozenset[str], list[Range]], reading: Reading) -> GatewayError | None:
        """Ask all of them for what they lack; return what was wrong with the gateway, if something was."""
        await self._wait_for_rates()
        room = asyncio.Semaphore(_TOGETHER)

        async def ask(names: frozenset[str], ranges: list[Range]) -> None:
            async with room:
                self.said |= await self.ask(self._parts(ranges, reading), sorted(names), self._keep)

        tasks = [asyncio.create_task(ask(names, ranges)) for names, ranges in work.items()]
        try:
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
        errors = [error for error in ended if isinstance(error, BaseException)]
        for error in errors:
            if not isinstance(error, GatewayError):
                raise error
        return next((error for error in errors if isinstance(error, GatewayError)), None)

    def _progress(self, members: Iterable[str]) -> dict[str, int]:
        return {member: len(ranges) for member, ranges in self.store.answered(members).items()}

    def _keep(self, part: NumberedPart, node: NodeOutcome) -> None:
        hits = ((part.numbers[hit.item], hit_fields(hit) | {"item": part.numbers[hit.item]}) for hit in node.hits)
        self.store.keep(node.member, part.numbers, hits, whole=node.outcome.answered)
        if node.outcome.answered:
            self._limited.pop(node.member, None)
        else:
            self.said[node.member] = node
            if node.outcome is Outcome.RATE_LIMITED:  # counted once for all chunks that were under way together
                tries = self._limited.setdefault(node.member, 0) + (not self._pause)
                self._limited[node.member] = max(tries, 1)
                self._pause = self._pause or tries <= RATE_TRIES
        self.on_progress()

    async def _parts(self, ranges: Sequence[Range], reading: Reading) -> AsyncIterator[NumberedPart]:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + STREAM_S
        items: list[Item] = []
        numbers: list[int] = []
        room = MAX_CODES
        async for number, item in self._items(ranges, reading):
            if item.code_count > room:
                yield self._part(items, numbers)
                items, numbers, room = [], [], MAX_CODES
                await self._wait_for_rates()
                if loop.time() > until_s:
                    return
            items.append(item)
            numbers.append(number)
            room -= item.code_count
        if items:
            yield self._part(items, numbers)

    def _part(self, items: Sequence[Item], numbers: Sequence[int]) -> NumberedPart:
        (part,) = split(items, self.distances)
        return NumberedPart(part.items, part.columns, tuple(numbers))

    async def _wait_for_rates(self) -> None:
        if self._pause:
            names = ", ".join(sorted(self._limited))
            self.on_wait(f"{names}: rate limit reached; going on in {RATE_WAIT_S:.0f} s")
            await self.sleep(RATE_WAIT_S)
            self._pause = False

    async def _items(self, ranges: Sequence[Range], reading: Reading) -> AsyncIterator[tuple[int, Item]]:
        for first, last in ranges:
            due = first
            while due <= last:
                ended = reading.done
                end = min(last, self.store.count)
                for numbered in self.store.items(due, end):
                    yield numbered
                due = max(due, end + 1)
                if ended and due > end:
                    break
                if due <= last:
                    await reading.more()


def read_file(
    store: BulkStore, path: Path, *, algorithm: str | None, on_skip: Callable[[int, str], None], on_read: Callable[[int, int], None]
) -> None:
    """Take every entry of a file of hashes, in any format that a node imports, into the store.

    Args:
        store: gets them.
        path: of the file.
        algorithm: what a plain list holds, where the length does not tell.
        on_skip: called with the number of an entry that cannot be asked about, and why.
        on_read: called with the number of bytes and of entries read so far.

    Raises:
        FormatError: the file cannot be used as a whole.
    """
    file = open_hash_file(path, algorithm=algorithm)
    batch: list[tuple[int, Item]] = []
    for count, entry in enumerate(file.entries(), 1):
        if isinstance(entry, FileEntry) and not entry.retracts:
            codes = {Algorithm(name): (code,) for name, code in entry.codes.items()}
            batch.append((entry.number, Item(f"entry {entry.number}", codes)))
        elif not isinstance(entry, FileEntry):
            on_skip(entry.number, entry.reason)
        if len(batch) >= _READ:
            store.add(batch)
            batch.clear()
            on_read(file.source.read_bytes, count)
    store.add(batch)


def read_pictures(
    store: BulkStore, paths: Iterable[Path], *, any_quality: bool, stop: threading.Event, on_read: Callable[[], None]
) -> None:
    """Hash pictures into the store, each with its eight PDQ orientations; those that did not change since they were taken are not hashed.

    Args:
        store: gets them.
        paths: files, as `find_pictures` finds them; taken as they are needed.
        any_quality: also ask the perceptual hashes of pictures too plain for them.
        stop: set when it is to end.
        on_read: called after each.
    """
    # A bare hash needs no imaging libraries.
    from vidfed.index.hashing.pictures import PictureHashes, hash_pictures  # noqa: PLC0415

    stamps: dict[Path, tuple[int, int]] = {}

    def wanted() -> Iterator[Path]:
        for path in paths:
            if stop.is_set():
                return
            stamps[path] = _stamp(path)
            if store.has_file(str(path), *stamps[path]):
                del stamps[path]
            else:
                yield path

    for result in hash_pictures(wanted(), orientations=True):
        outcome = item_of_picture(result, any_quality=any_quality) if isinstance(result, PictureHashes) else result.reason
        store.add_file(str(result.path), *stamps.pop(result.path), outcome)
        on_read()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, 0  # hashing will say why
    return status.st_size, status.st_mtime_ns


def picture_reader(store: BulkStore, paths: Iterable[Path], *, any_quality: bool) -> Reading:
    """Return the reading of pictures into the store."""

    def read(stop: threading.Event, on_read: Callable[[], None]) -> None:
        read_pictures(store, paths, any_quality=any_quality, stop=stop, on_read=on_read)

    return Reading(read)
