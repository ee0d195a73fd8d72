"""An import that was begun at the desk: one at a time, with its progress and its report."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vidfed.cli.printable import printable
from vidfed.desk.shell.errors import FormError
from vidfed.formats.entries import FormatError
from vidfed.node.config import StoreSection
from vidfed.node.errors import NodeError
from vidfed.node.intake.options import ImportOptions
from vidfed.node.operations.importing import take_files_in
from vidfed.security.clock import system_clock
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from vidfed.node.intake.report import ImportReport
    from vidfed.security.member.home import MemberHome


@dataclass(slots=True)
class DeskImport:
    """The last one.

    Attributes:
        home: the member's folder.
        file: what is taken in.
        dry_run: True if nothing is changed.
        done_bytes, total_bytes, entries: how far it is.
        report: once it is done.
        error: why nothing was changed.
    """

    home: MemberHome
    file: str = ""
    dry_run: bool = False
    done_bytes: int = 0
    total_bytes: int = 0
    entries: int = 0
    report: ImportReport | None = None
    error: str = ""
    _task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def under_way(self) -> bool:
        """True while it runs."""
        return self._task is not None and not self._task.done()

    def begin(self, file: str, *, dry_run: bool) -> None:
        """Begin one.

        Raises:
            FormError: another one runs, or there is no such file.
        """
        path = Path(file).expanduser()
        if self.under_way:
            raise FormError("An import is under way: wait for its end.")
        if not path.is_absolute() or not path.is_file():
            raise FormError("There is no such file on this machine: write its whole path.")
        self.file, self.dry_run, self.report, self.error = str(path), dry_run, None, ""
        self.done_bytes = self.total_bytes = self.entries = 0
        self._task = asyncio.create_task(self._run(path))

    async def wait(self) -> None:
        """Wait for its end: it is one transaction, and not to be cut."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, path: Path) -> None:
        now_ms = system_clock()
        options = ImportOptions(
            defaults={"case_contact": self.home.identity.contact},
            review_after_days=self.home.section("store", StoreSection).review_after_days,
            dry_run=self.dry_run,
        )
        reports = self.home.folder / "reports"
        reports.mkdir(mode=0o700, exist_ok=True)
        file = reports / f"import-{now_ms}{'-dry-run' if self.dry_run else ''}.txt"
        work = asyncio.to_thread(take_files_in, self.home, [path], options, now_ms=now_ms, report_file=file, on_progress=self._progress)
        try:
            (self.report,) = await work
        except (FormatError, NodeError, SecurityError, OSError) as error:
            self.error = printable(error)

    def _progress(self, done_bytes: int, total_bytes: int, entries: int) -> None:
        self.done_bytes, self.total_bytes, self.entries = done_bytes, total_bytes, entries
