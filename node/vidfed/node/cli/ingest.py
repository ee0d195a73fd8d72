"""`vidfed node ingest`. Thin: parse, call, print."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidfed.cli.terminal import HOME, JSON, file_progress, note, print_json, say
from vidfed.node.cli.options import COMMAND, described, said

if TYPE_CHECKING:
    from vidfed.index.hashing.results import HashingResult
    from vidfed.node.intake.ledger import Ledger

MAX_FAILURES_LISTED = 1_000
"""Files that could not be hashed, named in the JSON form; all are on stderr."""


@click.command(cls=COMMAND)
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--full-size", is_flag=True, help="Decode every JPEG at its full size: slower, and PDQ is bit for bit that of `pdqhash`.")
@described
@JSON
@HOME
def ingest(pictures: tuple[Path, ...], home: Path, full_size: bool, as_json: bool, **options: str | None) -> None:
    """Hash PICTURES (files or folders) into records. No picture is kept.

    Of films the distinct frames are kept, two a second at most. What cannot be decoded (a document, a damaged file) becomes a record that
    is found by exact copies only. What is on a known-good list (`vidfed node known-good`) is left out.

    Records are written a few hundred at a time: interrupted or killed, the same command goes on where it was, and hashes no file again
    that it has taken in. Once it is done, given again it updates what is known already and doubles nothing.
    """
    from vidfed.node.config import StoreSection
    from vidfed.node.intake.ledger import Ledger
    from vidfed.security.clock import DAY_MS, system_clock
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    values: dict[str, Any] = {"case_contact": member_home.identity.contact} | said(options)
    with Ledger(member_home.state_file("serving").parent, pictures, values | {"full_size": full_size}) as ledger:
        if review_days := member_home.section("store", StoreSection).review_after_days:
            values.setdefault("review_ms", system_clock() + review_days * DAY_MS)
        if ledger.done_before:
            note(f"going on: {ledger.done_before} files were taken in before this command was interrupted")
        told = _Told()
        try:
            _take(member_home, pictures, values, ledger, told, full_size=full_size)
        except KeyboardInterrupt:
            raise click.ClickException("interrupted; what was hashed is kept, and the same command goes on") from None
        ledger.finish()
    counts = ledger.counts
    if as_json:
        print_json({"schema": "vidfed.intake/1", **counts, "skipped": told.failures, "skipped_count": told.failed})
    else:
        say(f"{counts['new']} new, {counts['updated']} updated, {counts['unchanged']} unchanged, {told.failed} not hashed")
        if counts["known_good"]:
            say(f"{counts['known_good']} left out as known good")
        if counts["exact_only"]:
            say(f"{counts['exact_only']} of them by exact copies only: they have no perceptual hash, for the reasons above")
    if told.failed:
        raise SystemExit(1)


def _take(member_home: Any, pictures: tuple[Path, ...], values: dict[str, Any], ledger: Ledger, told: _Told, *, full_size: bool) -> None:  # noqa: ANN401 - a MemberHome
    from contextlib import ExitStack

    from vidfed.index.find import count_files
    from vidfed.node.cli.repeats import find_shared
    from vidfed.node.intake.known_good import FOLDER, KnownGood
    from vidfed.node.intake.pictures import Intake
    from vidfed.node.records.known import open_store
    from vidfed.node.records.record import Record
    from vidfed.security.audit import Event, Operation
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import logged

    with ExitStack() as stack:
        good = stack.enter_context(KnownGood(lists=member_home.folder / FOLDER))
        store = stack.enter_context(open_store(member_home))
        done = stack.enter_context(logged(member_home, Operation.COLLECTION, Event.RECORDS_ADDED, source="pictures"))
        update = stack.enter_context(file_progress("hashing"))
        total, before = count_files(pictures), ledger.done_before
        intake = Intake(store, Record(hashes={}, **values), ledger, good, full_size)
        intake.take(pictures, clock=system_clock, on_file=told.tell, on_done=lambda count: update(count, total, max(count - before, 0)))
        done |= {name: ledger.counts[name] for name in ("new", "updated", "unchanged")} | {"skipped": told.failed}
    if told.films:
        with open_store(member_home) as store:
            find_shared(member_home, store)


@dataclass(slots=True)
class _Told:
    """What was said about single files."""

    failures: list[str] = field(default_factory=list)
    failed: int = 0
    films: int = 0

    def tell(self, file: HashingResult, known_on: str) -> None:
        """Say what there is to say about a file."""
        from vidfed.index.hashing.results import FileHashes, one_line
        from vidfed.node.intake.pictures import is_found_by_picture

        if not isinstance(file, FileHashes):
            self.failed += 1
            if len(self.failures) < MAX_FAILURES_LISTED:
                self.failures.append(str(file))
            note(str(file))
            return
        self.films += file.is_film
        if known_on:
            note(f"{one_line(file.path)}: known good, on {known_on}; left out")
        elif not is_found_by_picture(file):
            note(f"{one_line(file.path)}: {file.notes[0]}; found by exact copies only")
