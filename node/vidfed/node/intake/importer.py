"""Taking a file of hashes into the record store: recognised, read as a stream, written in one transaction, reported in full.

Interrupted, killed or broken, nothing has changed; run again, nothing is doubled.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vidfed.formats.recognise import open_hash_file
from vidfed.node.intake.reader import ReadProgress, read_batches
from vidfed.node.intake.report import ImportReport, ReportFile, open_private
from vidfed.node.intake.selection import Selection
from vidfed.node.records.upsert.transaction import Origin, UpsertTransaction
from vidfed.security.clock import DAY_MS, as_text
from vidfed.wire.values import MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import sqlalchemy as sa

    from vidfed.formats.recognise import HashFile
    from vidfed.node.intake.known_good import KnownGood
    from vidfed.node.intake.options import ImportOptions
    from vidfed.node.records.store import RecordStore


class _DryRun(Exception):  # noqa: N818 - no error: it undoes the transaction
    """Ends the transaction of a dry run."""


def import_files(
    store: RecordStore,
    paths: Sequence[Path],
    options: ImportOptions,
    *,
    now_ms: int,
    known_good: KnownGood | None = None,
    report_file: Path | None = None,
    on_progress: Callable[[int, int, int], None] = lambda _done, _total, _entries: None,
) -> list[ImportReport]:
    """Take files in, all of them in one transaction.

    Args:
        store: where to.
        paths: the files, in the order in which they are to be read.
        options: how.
        now_ms: time of the change.
        known_good: digests that must not become records.
        report_file: gets every skipped entry and every note, with the entry's number.
        on_progress: called with (bytes read, bytes in all, entries read) after each batch.

    Raises:
        FormatError, ImportFileError, StoreError: nothing was changed.
    """
    files = [open_hash_file(path, format_name=options.format_name, algorithm=options.algorithm) for path in paths]
    run = _ImportRun(store, options, now_ms, known_good, sum(file.source.size_bytes for file in files), on_progress)
    with contextlib.ExitStack() as stack:
        log = ReportFile(stack.enter_context(open_private(report_file)) if report_file else None)
        stack.enter_context(contextlib.suppress(_DryRun))
        connection = stack.enter_context(store.database.writing())
        for file in files:
            run.take(file, connection, log)
        if options.dry_run:
            raise _DryRun
    return run.reports


class _ImportRun:
    """What the files of one import share."""

    def __init__(
        self,
        store: RecordStore,
        options: ImportOptions,
        now_ms: int,
        known_good: KnownGood | None,
        total_bytes: int,
        on_progress: Callable[[int, int, int], None],
    ) -> None:
        self.reports: list[ImportReport] = []
        self._database = store.database
        self._options = options
        self._now_ms = now_ms
        self._known_good = known_good
        self._total_bytes = total_bytes
        self._done_bytes = self._done_entries = 0
        self._on_progress = on_progress

    def take(self, file: HashFile, connection: sa.Connection, log: ReportFile) -> None:
        """Take one file in."""
        options, source = self._options, file.source
        report = ImportReport(source.path.name)
        log.begin(report, as_text(self._now_ms), dry_run=options.dry_run)

        def note(number: int, text: str) -> None:
            report.note(number, text)
            log.line(number, text)

        defaults = dict(options.defaults)
        if options.review_after_days:
            defaults["review_ms"] = self._now_ms + options.review_after_days * DAY_MS
        transaction = UpsertTransaction(
            self._database,
            connection,
            now_ms=self._now_ms,
            origin=Origin(source.path.name[:MAX_TEXT], file.label),
            defaults=defaults,
            max_repeats=options.max_repeats,
            on_note=note,
            source_rules=file.format == "ncmec",
            overwrite=options.overwrite,
            source=options.source,
        )
        selection = Selection(options, self._known_good, report, log)
        progress = ReadProgress()
        for batch in read_batches(file, options.region, progress):
            report.entries += len(batch)
            transaction.take(selection.usable(batch))
            self._on_progress(self._done_bytes + progress.read_bytes, self._total_bytes, self._done_entries + report.entries)
        selection.check_notes(progress.notes)
        selection.check_exclusions()
        self._done_bytes += source.size_bytes
        self._done_entries += report.entries
        report.counts = transaction.finish(file_sha256=progress.sha256, format_name=progress.label, tool=progress.tool)
        report.format, report.file_sha256, report.notes = progress.label, progress.sha256.hex(), progress.notes
        log.end(report)
        self.reports.append(report)
