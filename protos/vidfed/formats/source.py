"""A file on disk as a stream: counted, digested, decoded and cut into pieces of bounded size, whatever its length and its lines."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import re
from typing import TYPE_CHECKING

from vidfed.formats.entries import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed import WriteableBuffer

CHUNK = 1 << 20  # characters or bytes read at a time
MAX_LINE = 8 << 20  # characters: the longest line any format has is that of a film with all its frames in our own CSV
_HEAD_BYTES = 64 * 1024
_BINARY = {b"PK\x03\x04": "a ZIP archive: unpack it first", b"\x1f\x8b": "gzip-compressed: unpack it first"}
_BINARY |= {b"7z\xbc\xaf": "a 7-Zip archive: unpack it first"}
_SQLITE = b"SQLite format 3\0"
_NO_UTF8 = re.compile("[\udc80-\udcff]+")


class Source:
    """One file, read once from beginning to end."""

    def __init__(self, path: Path) -> None:
        """Look at the file's beginning.

        Raises:
            FormatError: it cannot be read, or is of a kind that holds no text.
        """
        self.path = path
        self.digest = hashlib.sha256()
        self.read_bytes = 0
        try:
            with path.open("rb") as file:
                self.size_bytes = file.seek(0, io.SEEK_END)
                file.seek(0)
                head = file.read(_HEAD_BYTES)
        except OSError as error:
            raise FormatError(f"{path}: {error.strerror}") from None
        for magic, words in _BINARY.items():
            if head.startswith(magic):
                raise FormatError(f"{path}: this is {words}")
        self.is_database = head.startswith(_SQLITE)
        self.lines_not_utf8 = 0
        self.encoding = _encoding(head)
        whole = len(head) & ~1 if self.encoding.startswith("utf-16") else len(head)
        self.head = head[:whole].decode(self.encoding, "replace")
        if not self.head.strip():
            raise FormatError(f"{path}: the file is empty")

    @contextlib.contextmanager
    def text(self, errors: str = "strict") -> Iterator[io.TextIOWrapper]:
        """Open the file as text.

        Args:
            errors: what becomes of bytes that are no text, as for `open`.

        Raises:
            FormatError: it cannot be read, or is not text of its encoding; the message says near which byte.
        """
        try:
            with self.bytes() as file, io.TextIOWrapper(file, encoding=self.encoding, errors=errors, newline="") as text:
                yield text
        except UnicodeDecodeError as error:
            what = "UTF-16" if "16" in self.encoding else "UTF-8"
            where = f"near byte {max(0, self.read_bytes - len(error.object) + error.start)}"
            raise FormatError(f"{self.path}: not {what} text ({where}); save it as UTF-8 and import it again") from None

    @contextlib.contextmanager
    def bytes(self) -> Iterator[io.BufferedReader[_Counting]]:
        """Open the file as it is.

        Raises:
            FormatError: it cannot be read.
        """
        try:
            with self.path.open("rb", buffering=0) as raw, io.BufferedReader(_Counting(raw, self), CHUNK) as file:
                yield file
        except OSError as error:
            raise FormatError(f"{self.path}: {error.strerror}") from None

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text, each with its end.

        Bytes that are not UTF-8 are read as Windows-1252, as in lists that old Windows programs wrote, and counted by line.

        Raises:
            FormatError: a line is longer than MAX_LINE.
        """
        number = 0
        errors = "surrogateescape" if self.encoding == "utf-8-sig" else "strict"
        with self.text(errors) as text:
            while line := text.readline(MAX_LINE):
                number += 1
                if not line.isascii() and _NO_UTF8.search(line):
                    self.lines_not_utf8 += 1
                    line = _NO_UTF8.sub(_of_windows, line)
                if len(line) == MAX_LINE:
                    raise FormatError(f"{self.path}: line {number} is longer than {MAX_LINE} characters: not a list of hashes")
                yield line


class _Counting(io.RawIOBase):
    """Passes on what a file gives, counting and digesting it."""

    def __init__(self, raw: io.FileIO, source: Source) -> None:
        self._raw = raw
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._raw.readinto(buffer) or 0
        self._source.digest.update(memoryview(buffer)[:count])
        self._source.read_bytes += count
        return count


def _of_windows(found: re.Match[str]) -> str:
    return found[0].encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _encoding(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head[1:2] == b"\0" and head[:1] != b"\0":
        return "utf-16-le"
    if head[:1] == b"\0" and head[1:2] != b"\0":
        return "utf-16-be"
    return "utf-8-sig"
