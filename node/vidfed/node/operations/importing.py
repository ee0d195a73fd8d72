"""Taking files of hashes in, with the log. What the command and the desk share."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vidfed.node.errors import MostlyKnownGoodError
from vidfed.node.intake.importer import import_files
from vidfed.node.intake.known_good import FOLDER, KnownGood
from vidfed.node.records.known import open_store
from vidfed.security.audit import Event, Operation
from vidfed.security.member.audit_log import logged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vidfed.node.intake.options import ImportOptions
    from vidfed.node.intake.report import ImportReport
    from vidfed.security.member.home import MemberHome


def take_files_in(
    home: MemberHome,
    files: Sequence[Path],
    options: ImportOptions,
    *,
    now_ms: int,
    known_good: Sequence[Path] = (),
    report_file: Path | None = None,
    on_progress: Callable[[int, int, int], None] = lambda _done, _total, _entries: None,
    take_the_rest: Callable[[str], bool] = lambda _said: False,
) -> list[ImportReport]:
    """Take files in by one transaction, and log it; a dry run changes nothing.

    Args:
        home: the member's folder.
        files: in the order in which they are read.
        options: how.
        now_ms: time of the change.
        known_good: files of digests that must not become records.
        report_file: gets every skipped entry and every note.
        on_progress: called with (bytes read, bytes in all, entries read) after each batch.
        take_the_rest: asks the operator, with what was found, whether to go on although most entries are in the known-good set.

    Raises:
        FormatError, NodeError: nothing was changed.
        AuditError: it cannot be logged; nothing was changed.
    """
    with ExitStack() as stack:
        store = stack.enter_context(open_store(home))
        good = stack.enter_context(KnownGood(known_good, lists=home.folder / FOLDER))
        if options.dry_run:  # it tells which of the files' hashes are known here
            done = stack.enter_context(logged(home, Operation.CONSULTATION, Event.RECORDS_READ, source="import --dry-run"))
        else:
            done = stack.enter_context(logged(home, Operation.COLLECTION, Event.RECORDS_ADDED, source="import"))
        take = partial(import_files, store, files, now_ms=now_ms, known_good=good, report_file=report_file, on_progress=on_progress)
        try:
            reports = take(options)
        except MostlyKnownGoodError as error:  # the transaction is over: nobody waits for the operator's answer
            if not take_the_rest(str(error)):
                raise
            reports = take(replace(options, accept_exclusions=True))
        done |= {name: sum(getattr(report.counts, name) for report in reports) for name in ("new", "updated", "unchanged")}
        done["skipped"] = sum(report.skipped for report in reports)
    return reports
