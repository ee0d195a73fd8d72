"""Looking up everything in a file or folder: through streams, in constant memory, going on where it was after whatever interruption.

What is read goes into the store of the result folder and is asked from there, at the same time: pictures are asked about while others are
still hashed. Each round asks every member for exactly what it has not answered; a round ends by itself after STREAM_S, or when the
connection breaks. A member that brought nothing in a round is left alone from then on, and said to be missing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vidfed.federation.bulk.ranges import Range, plan
from vidfed.federation.lookup.errors import GatewayError
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome, asked_without_frames
from vidfed.federation.lookup.question import Part, split
from vidfed.federation.output.json import hit_fields
from vidfed.wire.values import MAX_ITEMS, MAX_WORK, Share

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from vidfed.federation.bulk.sources import SourceReader
    from vidfed.federation.bulk.store import BulkStore
    from vidfed.federation.lookup.question import Item
    from vidfed.index import Algorithm

STREAM_S = 240.0  # a stream ends by itself before connections reach the age at which servers close them
RATE_WAIT_S = 61.0  # a node counts by the minute
RATE_TRIES = 5
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # between attempts to reach a gateway that is gone; one that restarts is back within these
_TOGETHER = 4  # streams at the same time, each to members that lack the same
_FAR = 2**62  # the end, as long as nobody knows it


@dataclass(frozen=True, slots=True)
class NumberedPart(Part):
    """A part whose items have these numbers in the store; of films it may ask the digests alone."""

    numbers: tuple[int, ...]
    lacks_frames: bool = False


class StreamAsk(Protocol):
    """Who asks: `FederationClient` with a justification."""

    async def __call__(
        self, parts: AsyncIterator[NumberedPart], ask: Sequence[str], on_node: Callable[[NumberedPart, NodeOutcome], None], /
    ) -> Mapping[str, NodeOutcome]:
        """Ask these members in one stream; return who left it, and why."""


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
        without_frames: members that are asked about films by their digests alone.
    """

    store: BulkStore
    members: Sequence[str]
    distances: Mapping[Algorithm, int]
    ask: StreamAsk
    on_progress: Callable[[], None] = lambda: None
    on_wait: Callable[[str], None] = lambda _: None
    sleep: Callable[[float], Any] = asyncio.sleep
    said: dict[str, NodeOutcome] = field(default_factory=dict)
    without_frames: frozenset[str] = frozenset()
    _limited: dict[str, int] = field(default_factory=dict)
    _pause: bool = False

    async def run(self, reading: SourceReader) -> None:
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

    async def _rounds(self, reading: SourceReader) -> None:
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

    async def _round(self, work: Mapping[frozenset[str], list[Range]], reading: SourceReader) -> GatewayError | None:
        """Ask all of them for what they lack; return what was wrong with the gateway, if something was."""
        await self._wait_for_rates()
        room, older = asyncio.Semaphore(_TOGETHER), self.without_frames

        async def ask(names: frozenset[str], ranges: list[Range]) -> None:
            async with room:
                self.said |= await self.ask(self._parts(ranges, reading, older=names <= older), sorted(names), self._keep)

        groups = [(part, ranges) for names, ranges in work.items() for part in (names - older, names & older) if part]
        tasks = [asyncio.create_task(ask(names, ranges)) for names, ranges in groups]
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

    def _keep(self, part: NumberedPart, said: NodeOutcome) -> None:
        node = asked_without_frames(said) if part.lacks_frames else said
        hits = ((part.numbers[hit.item], hit_fields(hit) | {"item": part.numbers[hit.item]}) for hit in node.hits)
        searched = node.index.searched if node.index else ()
        few = [each.algorithm for each in searched if each.share is Share.FEW and each.algorithm.is_perceptual]
        more = [part.numbers[item] for item in node.truncated_items]
        self.store.keep(node.member, part.numbers, hits, whole=node.outcome.answered, directory=node.directory, few=few, more=more)
        if node.outcome.answered:
            self._limited.pop(node.member, None)
        else:
            self.said[node.member] = node
            if node.outcome is Outcome.RATE_LIMITED:  # counted once for all chunks that were under way together
                tries = self._limited.setdefault(node.member, 0) + (not self._pause)
                self._limited[node.member] = max(tries, 1)
                self._pause = self._pause or tries <= RATE_TRIES
        self.on_progress()

    async def _parts(self, ranges: Sequence[Range], reading: SourceReader, *, older: bool) -> AsyncIterator[NumberedPart]:
        async for part in self._whole_parts(ranges, reading):
            if not older or not part.films:
                yield part
            elif (without := part.without_frames()).columns:
                yield NumberedPart(without.items, without.columns, part.numbers, lacks_frames=True)

    async def _whole_parts(self, ranges: Sequence[Range], reading: SourceReader) -> AsyncIterator[NumberedPart]:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + STREAM_S
        items: list[Item] = []
        numbers: list[int] = []
        room = MAX_WORK
        async for number, item in self._items(ranges, reading):
            if item.work > room or len(items) == MAX_ITEMS:
                yield self._part(items, numbers)
                items, numbers, room = [], [], MAX_WORK
                await self._wait_for_rates()
                if loop.time() > until_s:
                    return
            items.append(item)
            numbers.append(number)
            room -= item.work
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

    async def _items(self, ranges: Sequence[Range], reading: SourceReader) -> AsyncIterator[tuple[int, Item]]:
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
