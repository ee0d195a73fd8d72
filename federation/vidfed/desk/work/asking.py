"""What is about to be asked, and lookups under way: kept in memory, gone with the program.

What a lookup found can be fetched again as long as the gateway keeps it: `vidfed lookups`, and the page of earlier lookups.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vidfed.cli.printable import printable
from vidfed.desk.shell.errors import GoneError
from vidfed.federation.lookup.errors import FederationError
from vidfed.federation.lookup.items import item_of_file, items_of_hashes
from vidfed.federation.lookup.question import Justification
from vidfed.federation.lookup.result import LookupResult, shifted
from vidfed.index.hashing.results import FileHashes
from vidfed.security.clock import system_clock
from vidfed.security.errors import SecurityError
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.desk.shell.uploads import Uploads
    from vidfed.federation.client.client import FederationClient
    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.question import Item
    from vidfed.index import Algorithm

MAX_KEPT = 50
"""So many results stay at hand; the oldest goes. Each holds its items and hits in memory."""
MAX_ITEMS = 5_000
"""In one draft; more are a whole case."""


@dataclass(slots=True)
class Draft:
    """What is about to be asked.

    Attributes:
        items: with their hashes.
        failures: files that cannot be asked about, with the reason.
        waiting: dropped files that are not hashed yet, with their names.
    """

    items: list[Item] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    waiting: list[tuple[Path, str]] = field(default_factory=list)

    async def hash_waiting(self, uploads: Uploads, *, any_quality: bool) -> None:
        """Hash what was dropped, each by its digests and by what it shows, and remove the files."""
        waiting, self.waiting = self.waiting, []
        names = dict(waiting)
        try:
            for path, outcome in await asyncio.to_thread(_hash, list(names), any_quality=any_quality):
                if isinstance(outcome, str):
                    self.failures[names[path]] = outcome
                else:
                    self.items.append(replace(outcome, label=names[path]))
        finally:
            for path in names:
                uploads.remove(path)

    def add_unknown(self, result: LookupResult) -> int:
        """Take the items of an earlier lookup of which no member said anything, not even weakly; return how many."""
        told = result.known_items | result.weak_items
        unknown = [item for number, item in enumerate(result.items) if number not in told]
        self.items += unknown
        return len(unknown)

    def add_hashes(self, text: str) -> None:
        """Take pasted hashes, one a line as `algorithm:value`; digests may stand alone, their length tells which they are.

        Raises:
            QuestionError: a line is no hash; nothing is taken.
        """
        lines = [line.strip() for line in text.splitlines()]
        self.items += items_of_hashes(_named(line) for line in lines if line)


_LENGTHS = {32: "md5", 40: "sha1", 64: "sha256"}
"""Hex digits of the digests that other tools write without a name. Of 64 digits it may be a PDQ too: that has to be said."""


def _named(line: str) -> str:
    return line if ":" in line else f"{_LENGTHS.get(len(line), '?')}:{line}"


def _hash(paths: Sequence[Path], *, any_quality: bool) -> list[tuple[Path, Item | str]]:
    # Imaging libraries are loaded when there is a file to hash.
    from vidfed.index.hashing.workers import hash_files  # noqa: PLC0415

    return [
        (result.path, item_of_file(result, any_quality=any_quality) if isinstance(result, FileHashes) else result.reason)
        for result in hash_files(paths, orientations=True)
    ]


@dataclass(slots=True)
class Lookup:
    """One lookup, under way or done.

    Attributes:
        id: in the address of its page.
        justification: why it is asked.
        items: what is asked about.
        failures: files that are not asked about.
        begun_ms: when.
        nodes: what each member said so far, of all parts asked so far.
        members: who is asked.
        result: once all is known.
        error: why nothing is known.
    """

    id: str
    justification: Justification
    items: tuple[Item, ...]
    failures: Mapping[str, str]
    begun_ms: int
    members: tuple[str, ...] = ()
    nodes: dict[str, NodeOutcome] = field(default_factory=dict)
    result: LookupResult | None = None
    error: str = ""
    _done_items: int = 0

    @property
    def under_way(self) -> bool:
        """True until all is known, or nothing will be."""
        return self.result is None and not self.error

    @property
    def so_far(self) -> LookupResult:
        """What is known now. Its closing line is not to be shown before the end: who has not answered yet is not silent."""
        return self.result or LookupResult(self.items, tuple(self.nodes.values()))

    def hear(self, node: NodeOutcome) -> None:
        """Take what a member said about the part that is under way."""
        moved = shifted(node, self._done_items)
        before = self.nodes.get(node.member)
        self.nodes[node.member] = moved if before is None else replace(moved, hits=(*before.hits, *moved.hits))

    def next_part(self, count: int) -> None:
        """Take note that so many items are done."""
        self._done_items += count


class Lookups:
    """The lookups of this run of the desk."""

    def __init__(self) -> None:
        self._kept: dict[str, Lookup] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Lookup]:
        return reversed(self._kept.values())

    def get(self, named: str) -> Lookup:
        """Return one.

        Raises:
            GoneError: it is not here.
        """
        if named not in self._kept:
            raise GoneError("this lookup is not at hand any more: earlier lookups can be fetched again from the gateway")
        return self._kept[named]

    def begin(
        self,
        client: FederationClient,
        draft: Draft,
        justification: Justification,
        *,
        distances: Mapping[Algorithm, int],
        ask: Sequence[str],
        deadline_s: float,
    ) -> Lookup:
        """Ask; return at once."""
        lookup = Lookup(secrets.token_hex(8), justification, tuple(draft.items), dict(draft.failures), system_clock())
        self._keep(lookup)

        async def run() -> None:
            try:
                directory = await client.refresh_directory()
                lookup.members = tuple(dict.fromkeys(ask)) or directory.full_members()
                result = await client.ask(
                    lookup.items,
                    justification,
                    distances=distances,
                    ask=ask,
                    deadline_s=deadline_s,
                    on_node=lookup.hear,
                    on_part=lookup.next_part,
                )
                lookup.result = result.with_failures(lookup.failures)
            except (FederationError, SecurityError) as error:
                lookup.error = printable(error)
            except Exception:
                lookup.error = "The desk itself failed: nothing is known about what was asked; the terminal says more."
                raise

        self._start(run())
        return lookup

    async def fetch(self, client: FederationClient, named: str) -> Lookup:
        """Fetch an earlier lookup with what has come since, each answer verified again, and keep it at hand.

        Args:
            client: asks for the person.
            named: its id in the kit.

        Raises:
            FederationError, SecurityError: kit or gateway do not have it, or what they have is damaged.
        """
        await client.refresh_directory()
        result = await client.resume(named)
        past = await asyncio.to_thread(client.remembered, named)
        header = past.parts[0].asked.request.header
        why = Justification(
            header.purpose or Purpose.IDENTIFICATION, header.legal_basis, header.case_reference, header.offence_type, header.urgency
        )
        nodes = {node.member: node for node in result.nodes}
        lookup = Lookup(named, why, result.items, {}, past.asked_ms, tuple(nodes), nodes, result)
        self._keep(lookup)
        return lookup

    def _keep(self, lookup: Lookup) -> None:
        self._kept.pop(lookup.id, None)
        while len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[lookup.id] = lookup

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
