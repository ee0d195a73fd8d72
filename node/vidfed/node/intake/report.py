"""What became of a file's entries: counts for the screen, and a line for each entry in the report file."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING

from vidfed.node.records.upsert.report import UpsertReport

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN = 20  # skipped entries told on screen; all are in the report file
_NUMBERS = re.compile(r"\d+")
_QUOTED = re.compile(r"'[^']*'")


@dataclass(slots=True)
class ImportReport:
    """What became of one file's entries.

    Attributes:
        skipped: number of entries not taken in; their reasons: `skipped_first` here, all of them in the report file.
        noted: number of things to know about single entries that were taken in, such as values left out; the first are in `noted_first`.
        notes: about the file as a whole.
    """

    file_name: str
    format: str = ""
    file_sha256: str = ""
    entries: int = 0
    skipped: int = 0
    noted: int = 0
    counts: UpsertReport = field(default_factory=UpsertReport)
    skipped_first: list[str] = field(default_factory=list)
    noted_first: list[str] = field(default_factory=list)
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
            "unknown_retracted": counts.unknown_retracted,
            "kept_retracted": counts.kept_retracted,
            "repeated_perceptual_hashes": asdict(counts.repeats),
            "skipped_count": self.skipped,
            "skipped": self.skipped_first,
            "reasons": self.reasons,
            "noted_count": self.noted,
            "noted": self.noted_first,
            "notes": self.notes,
        }

    def note(self, number: int, text: str) -> None:
        """Count something to know about an entry; number 0 speaks of the file as a whole."""
        self.noted += 1
        if len(self.noted_first) < _SHOWN:
            self.noted_first.append(f"entry {number}: {text}" if number else text)

    def skip(self, number: int, reason: str) -> None:
        """Count an entry that is not taken in; the reasons are counted without the numbers and values in them."""
        self.skipped += 1
        kind = _NUMBERS.sub("N", _QUOTED.sub("...", reason))
        if kind in self.reasons or len(self.reasons) < _SHOWN:
            self.reasons[kind] = self.reasons.get(kind, 0) + 1
        if len(self.skipped_first) < _SHOWN:
            self.skipped_first.append(f"entry {number}: {reason}")


def open_private(path: Path) -> IO[str]:
    """Open a new file for writing that only its owner can read: it names entries of a case."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")


class ReportFile:
    """The full report, a line for each entry that was not taken in as it was. No hash is in it."""

    def __init__(self, file: IO[str] | None) -> None:
        self._write = file.write if file else lambda _text: 0

    def begin(self, report: ImportReport, moment: str, *, dry_run: bool) -> None:
        """Write the heading of one imported file."""
        self._write(f"{report.file_name}, {'tried' if dry_run else 'imported'} {moment}\n")

    def line(self, number: int, text: str) -> None:
        """Write what became of one entry; number 0 speaks of the file as a whole."""
        self._write(f"  entry {number}: {text}\n" if number else f"  {text}\n")

    def end(self, report: ImportReport) -> None:
        """Write the counts."""
        for name, value in report.to_fields().items():
            if name not in {"skipped", "noted", "file", "notes", "reasons"}:
                self._write(f"  {name}: {value}\n")
        for text in report.notes:
            self._write(f"  note: {text}\n")
