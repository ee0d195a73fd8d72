"""Which format a file is in, from its beginning; the name of the file says nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.lines_read import column_name, delimiter_of, digests_of_line, header_line, read_csv, read_icse, read_list
from vidfed.formats.ncmec_read import read_ncmec
from vidfed.formats.source import Source
from vidfed.formats.values import algorithm_name
from vidfed.formats.vics_read import VicsAbout, VicsCopy, read_vics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMATS = ("vics", "icse", "csv", "list", "ncmec")
_LABELS = {"vics": "VICS JSON", "icse": "ICSE hash CSV", "csv": "CSV", "list": "list of hashes", "ncmec": "NCMEC Hash Sharing XML"}
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
        if self.format == "vics":
            self._vics = VicsAbout("", region or "", "", self.notes)
            return read_vics(self.source, self._vics, copy=copy)
        if self.format == "ncmec":
            return read_ncmec(self.source, self.notes)
        if self.format == "icse":
            return read_icse(self.source, self.notes)
        return read_csv(self.source, self.notes) if self.format == "csv" else read_list(self.source, self.algorithm)


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
    head = source.head.lstrip()
    if head.startswith(("{", "[")):
        return "vics"
    if head[:1_000].casefold().lstrip().startswith(("<!doctype html", "<html")):
        raise FormatError(f"{source.path}: a page of HTML, not a file of hashes: was it saved from a browser, or an error of a server?")
    if head.startswith("<"):
        return "ncmec"
    lines = [line for line in source.head.splitlines() if line.strip()]
    header = header_line(source.head)
    cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter_of(header)), [])]
    names = {cell.casefold() for cell in cells}
    if {"md5", "photodna"} & names and len(_ICSE_MARKS & names) > 1:
        return "icse"
    if any(column_name(cell) for cell in cells):
        return "csv"
    first = next((line.strip() for line in lines if not line.lstrip().startswith(("#", "//"))), "")
    if digests_of_line(first):
        return "list"
    prefix, colon, rest = first.partition(":")
    words = (rest if colon and algorithm_name(prefix) else first).split(None, 1)
    value = words[0].strip('\\",;*') if words else ""
    if len(value) in {16, 32, 40, 64, 192, 288} and value.isascii() and not set(value) - _HASH_CHARACTERS:
        return "list"
    known = ", ".join(_LABELS.values())
    raise FormatError(f"{source.path}: not recognised; known are {known}. A CSV file's first line must name its columns")


_HASH_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/=")
