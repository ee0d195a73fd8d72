"""A folder into which somebody's tool puts files of hashes: each is imported once when it is whole, and moved away with its report.

A file is one delivery, no full statement: what it does not name stays. A folder that is not there is an alarm, never a deletion.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vidfed.formats.entries import FormatError
from vidfed.node.errors import ImportFileError
from vidfed.node.intake.importer import import_files
from vidfed.node.intake.options import ImportOptions
from vidfed.node.records.record import Record
from vidfed.node.records.source_states import register_source, source_state, update_source
from vidfed.node.sources.errors import SourceReadError
from vidfed.security.clock import as_text
from vidfed.security.files import write_private

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vidfed.node.intake.known_good import KnownGood
    from vidfed.node.intake.report import ImportReport
    from vidfed.node.records.store import RecordStore
    from vidfed.node.sources.settings import FolderSection, SourceSettings

DONE, FAILED = "done", "failed"
REPORT_SUFFIX = ".report.txt"
MOST_FILES = 1_000
"""Looked at in one run: the rest waits for the next; a folder with more is not one a tool fills."""
_UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".swp", ".lock", ".download")
_RECORD_DEFAULTS = frozenset(Record.__dataclass_fields__)


@dataclass(slots=True)
class FolderReport:
    """What one look found.

    Attributes:
        imported: reports of the files taken in.
        failed: names of those that could not be, with the reason.
        waiting: names of those not yet whole.
        not_current: why the records cannot be called current though the folder was looked at; empty: they can.
    """

    imported: list[ImportReport] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    not_current: str = ""


class FolderRun:
    """One watched folder."""

    def __init__(
        self,
        store: RecordStore,
        settings: SourceSettings,
        section: FolderSection,
        folder: Path,
        state_folder: Path,
        *,
        known_good: KnownGood | None = None,
        on_progress: Callable[[int, int, int], None] = lambda _done, _total, _entries: None,
    ) -> None:
        """Prepare.

        Args:
            store: where to.
            settings: the source's.
            section: the same, as a folder's.
            folder: the member's, to which the path is relative.
            state_folder: for what was seen of files that are not yet whole.
            known_good: digests that must not become records.
            on_progress: as of `import_files`.
        """
        self._store = store
        self._settings = settings
        self._section = section
        self._path = folder / section.path
        self._seen_file = state_folder / f"{settings.name}.seen.json"
        self._known_good = known_good
        self._on_progress = on_progress

    def run(self, *, now_ms: int, defaults: Mapping[str, object], values: Mapping[str, object], dry_run: bool = False) -> FolderReport:
        """Look once, and take in what is whole.

        Args:
            now_ms: this machine's time.
            defaults: true of new records where neither file nor settings say otherwise, each of its field's type.
            values: the source's constants, each of its field's type.
            dry_run: take in nothing and move nothing.

        Raises:
            SourceReadError: the folder is not there, or what was taken in cannot be moved away.
            StoreError: the store fails; nothing of the file at hand was changed.
        """
        self._check_there(dry_run=dry_run)
        report = FolderReport()
        seen = self._read_seen()
        found = self._found()
        now_seen: dict[str, list[int]] = {}
        for path, state in found:
            known = seen.get(path.name)
            mark = [state.st_size, state.st_mtime_ns, known[2] if known and known[:2] == [state.st_size, state.st_mtime_ns] else now_ms]
            if self._section.complete == "quiet" and now_ms - mark[2] < self._section.quiet_s * 1000:
                now_seen[path.name] = mark
                report.waiting.append(path.name)
                continue
            self._take(path, report, now_ms=now_ms, defaults=defaults, values=values, dry_run=dry_run)
        if dry_run:
            return report
        write_private(self._seen_file, json.dumps(now_seen).encode())
        report.not_current = self._not_current()
        self._note_state(report, now_ms)
        return report

    def _check_there(self, *, dry_run: bool) -> None:
        """An unmounted share looks like an empty folder: one that was followed before is told by its subfolder."""
        with self._store.database.reading() as connection:
            followed = (state := source_state(connection, self._settings.name)) is not None and state.as_of_ms > 0
        if not self._path.is_dir() or (followed and not (self._path / DONE).is_dir()):
            missing = self._path / DONE if self._path.is_dir() else self._path
            raise SourceReadError(f"{missing} is not there: is the share mounted? Nothing was changed")
        if not dry_run:
            try:
                for name in (DONE, FAILED):
                    (self._path / name).mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise SourceReadError(f"{self._path}: {error.strerror}: files could not be moved away when they are taken in") from None

    def _found(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        try:
            for path in sorted(self._path.iterdir()):
                name = path.name
                hidden = name.startswith((".", "~")) or name.casefold().endswith(_UNFINISHED)
                if hidden or not fnmatch.fnmatch(name, self._section.pattern):
                    continue
                state = path.lstat()
                if stat.S_ISREG(state.st_mode):  # a link could lead to any file this user can read
                    found.append((path, state))
        except OSError as error:
            raise SourceReadError(f"{self._path}: {error.strerror}: is the share mounted? Nothing was changed") from None
        return found[:MOST_FILES]

    def _take(
        self, path: Path, report: FolderReport, *, now_ms: int, defaults: Mapping[str, object], values: Mapping[str, object], dry_run: bool
    ) -> None:
        section = self._section
        options = ImportOptions(
            format_name=section.format or None,
            algorithm=section.algorithm or None,
            region=section.region or None,
            scale=section.scale or None,
            values=values,
            defaults={name: value for name, value in defaults.items() if name in _RECORD_DEFAULTS},
            dry_run=dry_run,
            source=self._settings.name,
        )
        report_file = None if dry_run else self._free(DONE, path.name + REPORT_SUFFIX)
        try:
            taken = import_files(
                self._store,
                [path],
                options,
                now_ms=now_ms,
                known_good=self._known_good,
                report_file=report_file,
                on_progress=self._on_progress,
            )
        except (FormatError, ImportFileError) as error:
            report.failed[path.name] = str(error)
            if report_file is not None:
                report_file.unlink(missing_ok=True)
                self._move(path, FAILED)
                words = f"{path.name}, {as_text(now_ms)}: not taken in: {error}\n"
                write_private(self._free(FAILED, path.name + REPORT_SUFFIX), words.encode())
            return
        report.imported += taken
        if not dry_run:
            self._move(path, DONE)
            self._settle(path.name)

    def _settle(self, name: str) -> None:
        """An earlier delivery of this name that failed is made good by one that did not."""
        for earlier in (name, name + REPORT_SUFFIX):
            if (self._path / FAILED / earlier).exists():
                with contextlib.suppress(OSError):
                    (self._path / FAILED / earlier).rename(self._free(DONE, f"{earlier}.failed"))

    def _move(self, path: Path, to: str) -> None:
        try:
            path.rename(self._free(to, path.name))
        except OSError as error:
            raise SourceReadError(f"{path}: cannot be moved to {to}: {error.strerror}; it would be taken in again at every look") from None

    def _free(self, folder: str, name: str) -> Path:
        """Return a path that is not taken: deliveries of one name follow each other every night."""
        path = self._path / folder / name
        number = 1
        while path.exists():
            number += 1
            path = self._path / folder / f"{name}.{number}"
        return path

    def _not_current(self) -> str:
        left = sorted(path.name for path in (self._path / FAILED).iterdir() if REPORT_SUFFIX not in path.name)
        if left:
            return f"{len(left)} deliveries could not be taken in, the first is {left[0]!r}: see its report in {self._path / FAILED}"
        return ""

    def _note_state(self, report: FolderReport, now_ms: int) -> None:
        section = self._section
        with self._store.database.writing() as connection:
            late_after_ms = round(section.behind_after_s * 1000)
            state = register_source(connection, name=self._settings.name, kind=section.kind, late_after_ms=late_after_ms, now_ms=now_ms)
            news = bool(report.imported) or not section.expect_every_s
            if not report.not_current and news:
                state = replace(state, as_of_ms=now_ms, compared_ms=now_ms)
            live = state.live + sum(each.counts.new - each.counts.retracted for each in report.imported)
            update_source(connection, replace(state, live=max(0, live)))

    def _read_seen(self) -> dict[str, list[int]]:
        try:
            seen = json.loads(self._seen_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return seen if isinstance(seen, dict) else {}
