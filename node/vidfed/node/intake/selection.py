"""Which entries of a file are taken in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.formats.entries import FileEntry
from vidfed.formats.ncmec_read import FURTHER_PAGE
from vidfed.node.errors import ImportFileError, MostlyKnownGoodError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidfed.formats.entries import Skip
    from vidfed.node.intake.known_good import KnownGood
    from vidfed.node.intake.options import ImportOptions
    from vidfed.node.intake.report import ImportReport, ReportFile

_PLAUSIBLE_SHARE = 0.5  # of a set of illegal material that a known-good set may contain before one of the two is taken for the wrong file


class Selection:
    """Decides which entries of a file are taken in, and counts the others."""

    def __init__(self, options: ImportOptions, known_good: KnownGood | None, report: ImportReport, log: ReportFile) -> None:
        self._options = options
        self._known_good = known_good
        self._report = report
        self._log = log
        self._excluded = self._usable = 0

    def usable(self, batch: Iterable[FileEntry | Skip]) -> list[FileEntry]:
        """Return what of a batch is taken in, with what the options say about it."""
        options = self._options
        batch = list(batch)
        good = self._known_good.among(batch) if self._known_good else {}
        taken = []
        for entry in batch:
            if not isinstance(entry, FileEntry):
                self._refuse_if_strict(f"entry {entry.number}: {entry.reason}")
                self._skip(entry.number, entry.reason)
                continue
            for text in entry.notes:
                self._refuse_if_strict(f"entry {entry.number}: {text}")
                self._report.note(entry.number, text)
                self._log.line(entry.number, text)
            self._usable += not entry.retracts
            if not entry.retracts and (known_on := good.get(entry.number)):
                self._excluded += 1
                self._skip(entry.number, f"known good: on {known_on}")
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

    def check_notes(self, notes: Iterable[str]) -> None:
        """Refuse a file of which columns or the like were passed over, where that was asked for.

        Raises:
            ImportFileError: nothing was changed.
        """
        for text in notes:
            if text != FURTHER_PAGE:
                self._refuse_if_strict(text)

    def _refuse_if_strict(self, what: str) -> None:
        if self._options.strict:
            raise ImportFileError(f"{self._report.file_name}: {what}. Nothing was changed; without --strict it is passed over and named")

    def check_exclusions(self) -> None:
        """Refuse to go on where the known-good set swallows the file: one of the two is likely not what it is taken for."""
        if self._excluded > _PLAUSIBLE_SHARE * self._usable and not self._options.accept_exclusions:
            raise MostlyKnownGoodError(
                f"{self._report.file_name}: {self._excluded} of {self._usable} entries are known good: is that set the right file?"
                " A set of illegal hashes given as known good would hide them. Nothing was changed; --accept-exclusions takes the rest in"
            )

    def _skip(self, number: int, reason: str) -> None:
        self._report.skip(number, reason)
        self._log.line(number, f"skipped: {reason}")
