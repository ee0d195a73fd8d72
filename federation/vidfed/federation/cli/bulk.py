"""`vidfed lookup --vics|--csv FILE --out FOLDER`, and `--out` for pictures and hashes. Thin: read, ask, write, print."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import file_progress, note, print_json, progress, say
from vidfed.federation.bulk.sources import SourceReader, entry_label, picture_reader, read_file
from vidfed.federation.bulk.store import BulkStore
from vidfed.federation.cli.conversations import after_a_lookup
from vidfed.federation.cli.results import EXIT_STATUS
from vidfed.federation.lookup.closing import Limit
from vidfed.federation.output.json import closing_fields
from vidfed.wire.values import Share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.federation.bulk.result import BulkResult
    from vidfed.federation.bulk.run import BulkRun, Heard
    from vidfed.federation.lookup.question import Item

_SHOWN = 20  # of things that could not be asked
_BARS = 12  # members with a progress bar of their own; of more, those that are furthest behind
_OPEN_CASE = (
    "Nobody who answered knows the unseen ones. Another unit with the same child finds you if your node holds them: read unseen.csv, then",
    "  vidfed node import unseen.csv --case CASE --contact DESK --victim-identified no --dry-run     (without --dry-run to do it)",
    "and be told when somebody learns of them: vidfed watch add.",
)
_RANGES = 3  # stretches of missing items named for a member


@dataclass(frozen=True, slots=True)
class Bulk:
    """How to ask in bulk: what the command line said."""

    run: BulkRun
    out: Path
    as_json: bool

    def file(self, path: Path, algorithm: str | None, *, strict: bool = False) -> int:
        """Look up every entry of a file of hashes and return the exit status; `strict`: refuse one of which anything is passed over."""
        skipped: dict[str, str] = {}
        status = path.stat()
        with BulkStore(self.out, self.run.scope(source=[path.name, status.st_size, status.st_mtime_ns], algorithm=algorithm)) as store:
            # Read whole before anybody is asked: a broken file is refused, and the progress has an end.
            with file_progress("reading") as bar:
                notes = read_file(
                    store,
                    path,
                    algorithm=algorithm,
                    strict=strict,
                    on_skip=lambda number, why: skipped.update({entry_label(number): why}),
                    on_read=lambda done, entries: bar(done, status.st_size, entries),
                )
            for text in notes:
                note(f"{path.name}: {text}")
            _tell_skipped(skipped)
            return self._run(store, SourceReader(None), skipped=skipped, source=path)

    def pictures(self, paths: Sequence[Path], hashes: Sequence[Item], *, any_quality: bool, full_size: bool = False) -> int:
        """Look up pictures while they are hashed, and bare hashes, and return the exit status."""
        scope = self.run.scope(hashes=[item.label for item in hashes], any_quality=any_quality) | {"full_size": full_size}
        with BulkStore(self.out, scope) as store:
            store.add(enumerate(hashes, 1))
            reading = SourceReader(None)
            if paths:
                from vidfed.index.find import find_files

                reading = picture_reader(store, find_files(paths), any_quality=any_quality, full_size=full_size)
            return self._run(store, reading, skipped=None, source=None)

    def _run(self, store: BulkStore, reading: SourceReader, *, skipped: Mapping[str, str] | None, source: Path | None) -> int:
        try:
            heard = asyncio.run(self._ask(store, reading))
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted; run it again with --out {self.out} to go on") from None
        if skipped is None:
            _tell_skipped(store.failures())
        waiting = after_a_lookup(self.run.kit)
        result, paths = self.run.finish(self.out, store, heard, skipped=skipped, source=source)
        if self.as_json:
            print_json({"schema": "vidfed.bulk-summary/1", **closing_fields(result.closing), "files": [str(p) for p in paths]})
        _print(result, paths, to_stderr=self.as_json)
        if waiting:
            note(f"{waiting} new message{'s' if waiting > 1 else ''}: vidfed inbox")
        return EXIT_STATUS[result.closing.verdict]

    async def _ask(self, store: BulkStore, reading: SourceReader) -> Heard:
        with ExitStack() as stack:
            bars: list[Callable[[], None]] = []

            def update() -> None:
                bars[-1]()  # there is one since the members are known

            def begin(members: Sequence[str]) -> None:
                if store.answered(members) and any(before := [len(ranges) for ranges in store.answered(members).values()]):
                    note(f"going on: {min(before)} to {max(before)} of {store.count} items were answered before, by member")
                bars.append(stack.enter_context(_bars(store, members)))

            return await self.run.go(store, reading, on_members=begin, on_progress=update, on_wait=note)


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


def _tell_skipped(skipped: Mapping[str, str]) -> None:
    for label, why in itertools.islice(skipped.items(), _SHOWN):
        note(f"not asked: {label}: {why}")
    if len(skipped) > _SHOWN:
        note(f"... and {len(skipped) - _SHOWN} more that cannot be asked about")


def _print(result: BulkResult, paths: Sequence[Path], *, to_stderr: bool) -> None:
    doubles = f" ({result.different} different, each asked once)" if result.different < result.asked else ""
    weak = f" {result.weak} with weak hits only," if result.weak else ""
    say(f"{result.asked} items asked{doubles}: {result.known} known,{weak} {result.unseen} unseen, {result.open} open", err=to_stderr)
    if result.weak:
        say("  weak hits are no identifications; their items are neither known nor unseen: see weak.csv", err=to_stderr)
    if result.exact_only:
        say(f"  {result.exact_only} of them by exact copies only: changed copies were not looked for", err=to_stderr)
    for name, node in result.nodes.items():
        line = f"  {name}: {node.answered} answered, {node.hits} hits" + (f" and {node.weak_hits} weak ones" if node.weak_hits else "")
        line += "".join(f"; {label}: {Share.FEW.text}" for label in node.few)
        line += f"; holds more records than it tells of {node.more} items" if node.more else ""
        if node.unanswered:
            shown = ", ".join(f"{each.first}-{each.last}" if each.size > 1 else str(each.first) for each in node.missing[:_RANGES])
            more = ", ..." if len(node.missing) > _RANGES else ""
            line += f"; {node.unanswered} NOT ANSWERED (items {shown}{more}): {node.detail}"
        say(line, err=to_stderr)
    for path in paths:
        say(f"  {path}", err=to_stderr)
    if not result.asked:
        say("There was nothing in it that could be asked about.", err=to_stderr)
    elif result.closing.worth_asking_again:
        say("Run the same command again to ask again those that did not answer.", err=to_stderr)
    elif result.closing.answered_at is not None and Limit.EARLIER in result.closing.limits:
        say("Nobody was asked anew: name another --out for answers of today.", err=to_stderr)
    if result.unseen:
        for line in _OPEN_CASE:
            say(line, err=to_stderr)
    say(result.closing.line, err=to_stderr)
