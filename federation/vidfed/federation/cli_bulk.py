"""`vidfed lookup --vics|--csv FILE --out FOLDER`, and `--out` for pictures. Thin: call, print."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import note, print_json, progress
from vidfed.federation.bulk import BulkResult, Journal, ask_all, items_of_file
from vidfed.federation.client import FederationClient
from vidfed.federation.result_files import write_all
from vidfed.security.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from vidfed.federation.question import Item, Justification
    from vidfed.index import Algorithm
    from vidfed.security.kit import Kit

_INCOMPLETE = 3
_SHOWN = 20


def lookup_file(
    kit: Kit,
    path: Path,
    out: Path,
    distances: Mapping[Algorithm, int],
    justification: Justification,
    *,
    algorithm: str | None,
    ask: Sequence[str],
    deadline_s: float,
    as_json: bool,
) -> int:
    """Look up every item of a file of hashes and return the exit status."""
    skipped: list[str] = []
    # One walk that asks nothing: a broken file is refused before anybody is asked, and the progress has an end.
    total = sum(1 for _ in items_of_file(path, algorithm=algorithm, on_skip=lambda number, why: skipped.append(f"entry {number}: {why}")))
    for text in skipped[:_SHOWN]:
        note(f"not asked: {text}")
    if len(skipped) > _SHOWN:
        note(f"... and {len(skipped) - _SHOWN} more entries that cannot be asked about")

    def items() -> Iterable[tuple[int, Item]]:
        return items_of_file(path, algorithm=algorithm, on_skip=lambda _number, _why: None)

    return _run(kit, items, total, out, distances, justification, ask, deadline_s, source=path, skipped=len(skipped), as_json=as_json)


def lookup_items(
    kit: Kit,
    given: Sequence[Item],
    out: Path,
    distances: Mapping[Algorithm, int],
    justification: Justification,
    *,
    ask: Sequence[str],
    deadline_s: float,
    as_json: bool,
) -> int:
    """Look up items at hand, writing the results as files, and return the exit status."""

    def items() -> Iterable[tuple[int, Item]]:
        return enumerate(given, 1)

    return _run(kit, items, len(given), out, distances, justification, ask, deadline_s, source=None, skipped=0, as_json=as_json)


def _run(
    kit: Kit,
    items: Callable[[], Iterable[tuple[int, Item]]],
    total: int,
    out: Path,
    distances: Mapping[Algorithm, int],
    justification: Justification,
    ask: Sequence[str],
    deadline_s: float,
    *,
    source: Path | None,
    skipped: int,
    as_json: bool,
) -> int:
    question = {
        "source": source.name if source else "",
        "case": justification.case_reference,
        "purpose": justification.purpose.code,
        "ask": sorted(ask),
        "distances": {algorithm.value: distance for algorithm, distance in distances.items()},
    }
    with Journal(out, question) as journal:
        before = len(journal.answers)
        if before:
            note(f"going on: {before} items were answered before")
        try:
            result = asyncio.run(_ask(kit, items, total, distances, justification, journal, ask, deadline_s))
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted; run it again with --out {out} to go on") from None
        result.skipped = skipped
        paths = write_all(out, items, journal, result, justification, source=source, now_ms=system_clock())
    if as_json:
        print_json({"schema": "vidfed.bulk-summary/1", "complete": result.complete, "files": [str(p) for p in paths]})
    _print(result, paths, to_stderr=as_json)
    return 0 if result.complete else _INCOMPLETE


async def _ask(
    kit: Kit,
    items: Callable[[], Iterable[tuple[int, Item]]],
    total: int,
    distances: Mapping[Algorithm, int],
    justification: Justification,
    journal: Journal,
    ask: Sequence[str],
    deadline_s: float,
) -> BulkResult:
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        with progress() as bar:
            task = bar.add_task("asking", total=total)
            return await ask_all(
                client,
                (item for _, item in itertools.chain(items())),
                distances,
                justification,
                journal,
                ask=ask,
                deadline_s=deadline_s,
                on_progress=lambda done: bar.update(task, completed=done),
                on_wait=note,
            )


def _print(result: BulkResult, paths: Sequence[Path], *, to_stderr: bool) -> None:
    click.echo(f"{result.asked} items asked: {result.known} known, {result.unseen} unseen, {result.open} open", err=to_stderr)
    for name, node in result.nodes.items():
        if node["unanswered"]:
            parts = node["answered"] + node["unanswered"]
            click.echo(f"  {name}: {node['unanswered']} of {parts} parts not answered: {node['detail']}", err=to_stderr)
    if result.complete:
        click.echo("COMPLETE: every node answered about every item, every answer verified.", err=to_stderr)
    else:
        what = f"{result.partial} items were not answered by every node; what those nodes hold is not known."
        click.echo(f"INCOMPLETE: {what} Run the same command again to ask them again.", err=to_stderr)
    for path in paths:
        click.echo(f"  {path}", err=to_stderr)
