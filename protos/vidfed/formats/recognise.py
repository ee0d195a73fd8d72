"""Which format a file is in, from its beginning; the name of the file says nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.lines_read import column_name, delimiter_of, header_line, read_csv, read_icse
from vidfed.formats.list_read import HASHDEEP_MARK, is_comment, is_hash_line, read_hashdeep, read_list
from vidfed.formats.ncmec_read import read_ncmec
from vidfed.formats.nsrl_read import read_nsrl
from vidfed.formats.source import Source
from vidfed.formats.vics_read import VicsAbout, VicsCopy, read_vics
from vidfed.formats.vpdq import is_vpdq, read_vpdq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LABELS = {
    "vics": "VICS JSON",
    "icse": "ICSE hash CSV",
    "csv": "CSV",
    "list": "list of hashes",
    "ncmec": "NCMEC Hash Sharing XML",
    "hashdeep": "list by hashdeep",
    "nsrl": "NSRL RDSv3 database",
    "vpdq": "vPDQ of films",
}
FORMATS = tuple(_LABELS)
_ICSE_MARKS = {"image id", "number of submissions", "file available", "is distributed"}


@dataclass(slots=True)
class HashFile:
    """A file of hashes whose format is known.

    Attributes:
        source: the file; its `read_bytes` tell how far reading is.
        format: one of FORMATS.
        notes: what the operator should know about the file as a whole; complete after reading.
        tool: that wrote it; known after reading has begun.
    """

    source: Source
    format: str
    algorithm: str | None = None
    notes: list[str] = field(default_factory=list)
    _vics: VicsAbout | None = None

    @property
    def label(self) -> str:
        """The format's name for people, with its version where the file told it."""
        version = f" {self._vics.version}" if self._vics and self._vics.version else ""
        return _LABELS[self.format] + version

    @property
    def tool(self) -> str:
        """The program that wrote the file, where it says so."""
        return self._vics.tool if self._vics else ""

    def entries(self, *, region: str | None = None, copy: VicsCopy | None = None) -> Iterator[FileEntry | Skip]:
        """Yield the entries, once.

        Args:
            region: of a VICS file's categories, where the file does not say.
            copy: writes a VICS file again, see `read_vics`.

        Raises:
            FormatError: the file cannot be used as a whole.
        """
        entries = self._entries(region, copy)
        yield from entries
        if self.source.lines_not_utf8:
            self.notes.append(f"{self.source.lines_not_utf8} lines are not UTF-8 and were read as Windows-1252; no hash is concerned")

    def _entries(self, region: str | None, copy: VicsCopy | None) -> Iterator[FileEntry | Skip]:
        if self.format == "vics":
            self._vics = VicsAbout("", region or "", "", self.notes)
            return read_vics(self.source, self._vics, copy=copy)
        if self.format == "csv":
            return read_csv(self.source, self.algorithm, self.notes)
        if self.format == "list":
            return read_list(self.source, self.algorithm)
        return _READERS[self.format](self.source, self.notes)


_READERS = {"ncmec": read_ncmec, "icse": read_icse, "hashdeep": read_hashdeep, "nsrl": read_nsrl, "vpdq": read_vpdq}


def open_hash_file(path: Path, *, format_name: str | None = None, algorithm: str | None = None) -> HashFile:
    """Open a file of hashes and recognise its format and encoding.

    Args:
        path: the file.
        format_name: one of FORMATS, where it is not to be recognised.
        algorithm: of a plain list.

    Raises:
        FormatError: the file cannot be read, or is of no known format.
    """
    source = Source(path)
    return HashFile(source, format_name or _recognise(source), algorithm)


def _recognise(source: Source) -> str:
    if source.is_database:
        return "nsrl"
    head = source.head.lstrip()
    if is_vpdq(head):
        return "vpdq"
    if head.startswith("{") and head[1:].lstrip()[:1] in {'"', "}", ""}:
        return "vics"
    if head.startswith("[") and head[1:].lstrip()[:1] in {"{", "]", ""}:
        return "vics"
    if head[:1_000].casefold().lstrip().startswith(("<!doctype html", "<html")):
        raise FormatError(f"{source.path}: a page of HTML, not a file of hashes: was it saved from a browser, or an error of a server?")
    if head.startswith("<"):
        return "ncmec"
    if head.startswith(HASHDEEP_MARK):
        return "hashdeep"
    header = header_line(source.head)
    cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter_of(header)), [])]
    names = {cell.casefold() for cell in cells}
    if {"md5", "photodna"} & names and len(_ICSE_MARKS & names) > 1:
        return "icse"
    if any(column_name(cell) for cell in cells):
        return "csv"
    if is_hash_line(next((line.strip() for line in source.head.splitlines() if not is_comment(line)), "")):
        return "list"
    known = ", ".join(_LABELS.values())
    raise FormatError(f"{source.path}: not recognised; known are {known}. A CSV file's first line must name its columns")
