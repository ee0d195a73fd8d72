"""Taking a file of hashes into the record store: recognised, read as a stream, written in one transaction, reported in full.

Interrupted, killed or broken, nothing has changed; run again, nothing is doubled.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from vidfed.formats.entries import Entry
from vidfed.formats.recognise import open_hash_file
from vidfed.node.errors import ImportFileError
from vidfed.node.intake.reader import State, read_batches
from vidfed.node.records.upsert.bulk import MAX_REPEATS, Intake, Origin, UpsertReport
from vidfed.security.clock import DAY_MS, as_text
from vidfed.wire.values import MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import sqlalchemy as sa

    from vidfed.formats.entries import Skip
    from vidfed.formats.recognise import HashFile
    from vidfed.node.intake.known_good import KnownGood
    from vidfed.node.records.store import RecordStore

_SHOWN = 20  # skipped entries told on screen; all are in the report file
_PLAUSIBLE_SHARE = 0.5  # of a set of illegal material that a known-good set may contain before one of the two is taken for the wrong file
_PLAUSIBLE_MINIMUM = 20


class _DryRun(Exception):  # noqa: N818 - no error: it undoes the transaction
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to take a file in.

    Attributes:
        format_name, algorithm, region: where they are not to be recognised; see `open_hash_file` and `HashFile.entries`.
        values: said about every record of the file, over what the file says.
        defaults: true of a new record where neither file nor options say otherwise.
        scale: name of the category scale, over the format's own.
        leave_out: raw categories whose entries are not taken in.
        review_after_days: sets the review date of new records; 0: none.
        max_repeats: see `vidfed.node.records.upsert.bulk`.
        overwrite: the file's word overrules what was edited by hand.
        accept_exclusions: take the file in even if most of it is in the known-good set.
        dry_run: do everything, then undo it.
    """

    format_name: str | None = None
    algorithm: str | None = None
    region: str | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)
    scale: str | None = None
    leave_out: frozenset[str] = frozenset()
    review_after_days: int = 0
    max_repeats: int = MAX_REPEATS
    overwrite: bool = False
    accept_exclusions: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class ImportReport:
    """What became of one file's entries.

    Attributes:
        skipped: number of entries not taken in; their reasons: `skipped_first` here, all of them in the report file.
        notes: about the file as a whole; what was left out of single entries is in the report file.
    """

    file_name: str
    format: str = ""
    file_sha256: str = ""
    entries: int = 0
    skipped: int = 0
    noted: int = 0
    counts: UpsertReport = field(default_factory=UpsertReport)
    skipped_first: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_fields(self) -> dict[str, object]:
        """Return the JSON form."""
        counts = self.counts
        return {
            "file": self.file_name,
            "format": self.format,
            "sha256": self.file_sha256,
            "entries": self.entries,
            "new": counts.new,
            "updated": counts.updated,
            "unchanged": counts.unchanged,
            "repeated": counts.repeated,
            "disagreeing": counts.disagreeing,
            "kept_edits": counts.kept_edits,
            "retracted": counts.retracted,
            "kept_retracted": counts.kept_retracted,
            "refused_perceptual_hashes": counts.refused_codes,
            "skipped_count": self.skipped,
            "skipped": self.skipped_first,
            "reasons": self.reasons,
            "noted": self.noted,
            "notes": self.notes,
        }


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
    run = _Run(store, options, now_ms, known_good, sum(file.source.size_bytes for file in files), on_progress)
    with contextlib.ExitStack() as stack:
        log = _ReportFile(stack.enter_context(_private(report_file)) if report_file else None)
        stack.enter_context(contextlib.suppress(_DryRun))
        connection = stack.enter_context(store.database.writing())
        for file in files:
            run.take(file, connection, log)
        if options.dry_run:
            raise _DryRun
    return run.reports


class _Run:
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

    def take(self, file: HashFile, connection: sa.Connection, log: _ReportFile) -> None:
        """Take one file in."""
        options, source = self._options, file.source
        report = ImportReport(source.path.name)
        log.begin(report, as_text(self._now_ms), dry_run=options.dry_run)

        def note(number: int, text: str) -> None:
            report.noted += 1
            log.line(number, text)

        defaults = dict(options.defaults)
        if options.review_after_days:
            defaults["review_ms"] = self._now_ms + options.review_after_days * DAY_MS
        intake = Intake(
            self._database,
            connection,
            now_ms=self._now_ms,
            origin=Origin(source.path.name[:MAX_TEXT], file.label),
            defaults=defaults,
            max_repeats=options.max_repeats,
            on_note=note,
            source_rules=file.format == "ncmec",
            overwrite=options.overwrite,
        )
        chosen = _Filter(options, self._known_good, report, log)
        state = State()
        for batch in read_batches(file, options.region, state):
            report.entries += len(batch)
            intake.take(chosen.usable(batch))
            self._on_progress(self._done_bytes + state.read_bytes, self._total_bytes, self._done_entries + report.entries)
        chosen.check_exclusions()
        self._done_bytes += source.size_bytes
        self._done_entries += report.entries
        report.counts = intake.finish(file_sha256=state.sha256, format_name=state.label, tool=state.tool)
        report.format, report.file_sha256, report.notes = state.label, state.sha256.hex(), state.notes
        log.end(report)
        self.reports.append(report)


class _Filter:
    """Decides which entries of a file are taken in, and counts the others."""

    def __init__(self, options: ImportOptions, known_good: KnownGood | None, report: ImportReport, log: _ReportFile) -> None:
        self._options = options
        self._known_good = known_good
        self._report = report
        self._log = log
        self._excluded = 0

    def usable(self, batch: Iterable[Entry | Skip]) -> list[Entry]:
        options = self._options
        batch = list(batch)
        good = self._known_good.among(batch) if self._known_good else frozenset[bytes]()
        taken = []
        for entry in batch:
            if not isinstance(entry, Entry):
                self._skip(entry.number, entry.reason)
                continue
            for text in entry.notes:
                self._report.noted += 1
                self._log.line(entry.number, text)
            if good and not entry.retracts and any(code in good for code in entry.codes.values()):
                self._excluded += 1
                self._skip(entry.number, "known good: on the exclusion list")
                continue
            values = entry.values
            if options.leave_out and values.get("category") in options.leave_out:
                self._skip(entry.number, f"category {values['category']} is left out")
                continue
            if options.scale and "category" in values:
                values["category_scale"] = options.scale
            if options.region and "category" in values:
                values["category_region"] = options.region
            if options.values:
                values.update(options.values)
            taken.append(entry)
        return taken

    def check_exclusions(self) -> None:
        """Refuse to go on where the known-good set swallows the file: one of the two is likely not what it is taken for."""
        entries = self._report.entries
        if self._excluded >= max(_PLAUSIBLE_MINIMUM, _PLAUSIBLE_SHARE * entries) and not self._options.accept_exclusions:
            raise ImportFileError(
                f"{self._report.file_name}: {self._excluded} of {entries} entries are in the known-good set: is that set the right file?"
                " A set of illegal hashes given as known good would hide them. Nothing was changed; --accept-exclusions takes the rest in"
            )

    def _skip(self, number: int, reason: str) -> None:
        report = self._report
        report.skipped += 1
        kind = _NUMBERS.sub("N", _QUOTED.sub("...", reason))
        if kind in report.reasons or len(report.reasons) < _SHOWN:
            report.reasons[kind] = report.reasons.get(kind, 0) + 1
        if len(report.skipped_first) < _SHOWN:
            report.skipped_first.append(f"entry {number}: {reason}")
        self._log.line(number, f"skipped: {reason}")


_NUMBERS = re.compile(r"\d+")
_QUOTED = re.compile(r"'[^']*'")


def _private(path: Path) -> IO[str]:
    """Open a new file for writing that only its owner can read: it names entries of a case."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")


class _ReportFile:
    """The full report, a line for each entry that was not taken in as it was. No hash is in it."""

    def __init__(self, file: IO[str] | None) -> None:
        self._write = file.write if file else lambda _text: 0

    def begin(self, report: ImportReport, moment: str, *, dry_run: bool) -> None:
        self._write(f"{report.file_name}, {'tried' if dry_run else 'imported'} {moment}\n")

    def line(self, number: int, text: str) -> None:
        self._write(f"  entry {number}: {text}\n" if number else f"  {text}\n")

    def end(self, report: ImportReport) -> None:
        for name, value in report.to_fields().items():
            if name not in {"skipped", "file", "notes", "reasons"}:
                self._write(f"  {name}: {value}\n")
        for text in report.notes:
            self._write(f"  note: {text}\n")
