"""`vidfed lookup --vics|--csv FILE --out FOLDER`, and `--out` for pictures and hashes. Thin: read, ask, write, print."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import file_progress, note, print_json, progress, say
from vidfed.federation.bulk.lookup import BulkLookup, NumberedPart
from vidfed.federation.bulk.result import result_of
from vidfed.federation.bulk.result_files import write_all
from vidfed.federation.bulk.sources import SourceReader, picture_reader, read_file
from vidfed.federation.bulk.store import BulkStore
from vidfed.federation.cli.results import INCOMPLETE, REFUSED
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
from vidfed.security.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.federation.bulk.result import BulkResult
    from vidfed.federation.lookup.question import Item, Justification
    from vidfed.index import Algorithm
    from vidfed.security.member.kit import Kit

_SHOWN = 20  # of things that could not be asked
_BARS = 12  # members with a progress bar of their own; of more, those that are furthest behind
_GONE = "it is no member any more"
_RANGES = 3  # stretches of missing items named for a member


@dataclass(frozen=True, slots=True)
class Bulk:
    """How to ask in bulk: what the command line said."""

    kit: Kit
    out: Path
    distances: Mapping[Algorithm, int]
    justification: Justification
    ask: Sequence[str]
    as_json: bool

    def file(self, path: Path, algorithm: str | None) -> int:
        """Look up every entry of a file of hashes and return the exit status."""
        skipped: list[str] = []
        status = path.stat()
        with BulkStore(self.out, self._scope(source=[path.name, status.st_size, status.st_mtime_ns])) as store:
            # Read whole before anybody is asked: a broken file is refused, and the progress has an end.
            with file_progress("reading") as bar:
                read_file(
                    store,
                    path,
                    algorithm=algorithm,
                    on_skip=lambda number, why: skipped.append(f"entry {number}: {why}"),
                    on_read=lambda done, entries: bar(done, status.st_size, entries),
                )
            _tell_skipped(skipped)
            return self._run(store, SourceReader(None), skipped=len(skipped), source=path)

    def pictures(self, paths: Sequence[Path], hashes: Sequence[Item], *, any_quality: bool) -> int:
        """Look up pictures while they are hashed, and bare hashes, and return the exit status."""
        with BulkStore(self.out, self._scope(hashes=[item.label for item in hashes])) as store:
            store.add(enumerate(hashes, 1))
            reading = SourceReader(None)
            if paths:
                from vidfed.index.hashing.find import find_files

                reading = picture_reader(store, find_files(paths), any_quality=any_quality)
            return self._run(store, reading, skipped=None, source=None)

    def _scope(self, *, source: Sequence[object] = (), hashes: Sequence[str] = ()) -> dict[str, object]:
        return {
            "source": list(source),
            "hashes": list(hashes),
            "case": self.justification.case_reference,
            "purpose": self.justification.purpose.code,
            "ask": sorted(self.ask),
            "distances": {algorithm.value: distance for algorithm, distance in self.distances.items()},
        }

    def _run(self, store: BulkStore, reading: SourceReader, *, skipped: int | None, source: Path | None) -> int:
        try:
            members, said = asyncio.run(self._ask(store, reading))
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted; run it again with --out {self.out} to go on") from None
        if skipped is None:
            skipped = len(failures := store.failures())
            _tell_skipped([f"{path}: {reason}" for path, reason in failures.items()])
        result = result_of(store, members, said, skipped=skipped)
        paths = write_all(self.out, store, members, result, self.justification, source=source, now_ms=system_clock())
        if self.as_json:
            print_json({"schema": "vidfed.bulk-summary/1", "complete": result.complete, "files": [str(p) for p in paths]})
        _print(result, paths, to_stderr=self.as_json)
        return _exit_status(result, said)

    async def _ask(self, store: BulkStore, reading: SourceReader) -> tuple[list[str], Mapping[str, NodeOutcome]]:
        async with FederationClient(self.kit) as client:
            directory = await client.refresh_directory()
            members = [directory.member(member).id for member in dict.fromkeys(self.ask)] or list(directory.full_members())

            async def ask(
                parts: AsyncIterator[NumberedPart], ask: Sequence[str], on_node: Callable[[NumberedPart, NodeOutcome], None]
            ) -> Mapping[str, NodeOutcome]:
                directory = await client.refresh_directory()  # for each stream: a case may take longer than a directory holds
                there = [member for member in ask if member in directory.members]
                left = await client.lookup_stream(parts, self.justification, ask=there, on_node=on_node) if there else {}
                return left | {member: NodeOutcome(member, Outcome.MISSING, _GONE) for member in ask if member not in there}

            if store.answered(members) and any(before := [len(ranges) for ranges in store.answered(members).values()]):
                note(f"going on: {min(before)} to {max(before)} of {store.count} items were answered before, by member")
            with _bars(store, members) as update:
                lookup = BulkLookup(store, members, self.distances, ask, on_progress=update, on_wait=note)
                await lookup.run(reading)
        return members, lookup.said


def _exit_status(result: BulkResult, said: Mapping[str, NodeOutcome]) -> int:
    if result.complete or not result.asked:
        return 1 if result.skipped or not result.asked else 0
    refused = all(not node.answered and member in said and said[member].outcome.refused for member, node in result.nodes.items())
    return REFUSED if refused else INCOMPLETE


@contextmanager
def _bars(store: BulkStore, members: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Show how far each member is, and all together; give what to call when that may have changed."""
    with progress() as bar:
        whole = bar.add_task("all members", total=None)
        rows = [bar.add_task("", total=None, visible=False) for _ in members[:_BARS]]

        def update() -> None:
            done = {member: len(ranges) for member, ranges in store.answered(members).items()}
            bar.update(whole, completed=sum(done.values()), total=store.count * len(members))
            behind = sorted(members, key=lambda member: done[member])[:_BARS] if len(members) > _BARS else members
            for row, member in zip(rows, behind, strict=False):
                bar.update(row, description=member, completed=done[member], total=store.count, visible=True)

        update()
        yield update


def _tell_skipped(skipped: Sequence[str]) -> None:
    for text in skipped[:_SHOWN]:
        note(f"not asked: {text}")
    if len(skipped) > _SHOWN:
        note(f"... and {len(skipped) - _SHOWN} more that cannot be asked about")


def _print(result: BulkResult, paths: Sequence[Path], *, to_stderr: bool) -> None:
    doubles = f" ({result.different} different, each asked once)" if result.different < result.asked else ""
    say(f"{result.asked} items asked{doubles}: {result.known} known, {result.unseen} unseen, {result.open} open", err=to_stderr)
    if result.exact_only:
        say(f"  {result.exact_only} of them by exact copies only: changed copies were not looked for", err=to_stderr)
    for name, node in result.nodes.items():
        line = f"  {name}: {node.answered} answered, {node.hits} hits"
        if node.unanswered:
            shown = ", ".join(f"{each.first}-{each.last}" if each.size > 1 else str(each.first) for each in node.missing[:_RANGES])
            more = ", ..." if len(node.missing) > _RANGES else ""
            line += f"; {node.unanswered} NOT ANSWERED (items {shown}{more}): {node.detail}"
        say(line, err=to_stderr)
    if not result.asked:
        say("NOTHING ASKED: there was nothing in it that could be asked about.", err=to_stderr)
    elif result.complete:
        say("COMPLETE: every node answered about every item, every answer verified.", err=to_stderr)
    else:
        what = f"{result.partial} items were not answered by every node; what those nodes hold is not known."
        say(f"INCOMPLETE: {what} Run the same command again to ask them again.", err=to_stderr)
    for path in paths:
        say(f"  {path}", err=to_stderr)
