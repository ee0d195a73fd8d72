"""A file's bytes, read once: the digests of all of them, and the bytes themselves where they may be a picture."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vidfed.index.algorithms import Algorithm, Hash
from vidfed.index.hashing.results import Note, Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_PICTURE_BYTES: Final = 1 << 30
"""Files larger than this are digested but not decoded: an uncompressed picture of as many pixels as are decoded is smaller, and what is
decoded is held in memory."""

DIGESTS: Final = (Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256)
HEAD_BYTES: Final = 4096
"""How much of a file's beginning tells what it is."""

_READ_BYTES: Final = 1 << 20

_OPEN: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_NOCTTY", "O_BINARY", "O_NOINHERIT", "O_SEQUENTIAL")
)
"""Without waiting for ever for somebody to write into a named pipe, and without following a link. Each system knows some of these."""


class UnreadableError(Exception):
    """Not even the digests of a path can be had; its note says why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.note = Note(reason, text)


@dataclass(frozen=True, slots=True)
class FileBytes:
    """What was read of a regular file.

    Attributes:
        digests: MD5, SHA-1, SHA-256, in this order, of the very bytes in `content`, even if somebody wrote to the file meanwhile.
        size_bytes: how many bytes they are of.
        head: the first `HEAD_BYTES`.
        content: all bytes if `wanted` said so and they are at most `MAX_PICTURE_BYTES`, else None.
    """

    digests: tuple[Hash, ...]
    size_bytes: int
    head: bytes
    content: bytearray | None


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor, to be closed by the caller.

    Raises:
        UnreadableError: it is no regular file, or cannot be opened.
    """
    try:
        if not hasattr(os, "O_NOFOLLOW") and not stat.S_ISREG(path.lstat().st_mode):  # Windows cannot say it when opening
            raise UnreadableError(Reason.NOT_A_FILE, _what_it_is(path, path.lstat().st_mode))
        descriptor = os.open(path, _OPEN)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        kind = os.fstat(descriptor)
        if not stat.S_ISREG(kind.st_mode):
            raise UnreadableError(Reason.NOT_A_FILE, _what_it_is(path, kind.st_mode))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_once(descriptor: int, wanted: Callable[[bytes], bool]) -> FileBytes:
    """Read an open file to its end.

    Args:
        descriptor: of a regular file, at its beginning.
        wanted: told the first `HEAD_BYTES`, says whether all bytes are to be kept.

    Raises:
        UnreadableError: it is empty, or reading it fails.
    """
    hashers = [(algorithm, hashlib.new(algorithm.value, usedforsecurity=False)) for algorithm in DIGESTS]
    content: bytearray | None = bytearray()
    head, size = b"", 0
    try:
        expected = os.fstat(descriptor).st_size
        while chunk := os.read(descriptor, _READ_BYTES):
            for _, hasher in hashers:
                hasher.update(chunk)
            if not size:
                head = chunk[:HEAD_BYTES]
                if max(expected, len(chunk)) > MAX_PICTURE_BYTES or not wanted(head):
                    content = None
            size += len(chunk)
            if content is not None:
                content += chunk
                if size > MAX_PICTURE_BYTES:  # it grew while it was read
                    content = None
    except OSError as error:
        raise UnreadableError(Reason.UNREADABLE, f"cannot be read to its end: {error.strerror or error}") from None
    if not size:
        raise UnreadableError(Reason.EMPTY, "an empty file: its digests are those of every empty file")
    return FileBytes(tuple(Hash(algorithm, hasher.digest()) for algorithm, hasher in hashers), size, head, content)


def _unreadable(path: Path, error: OSError) -> UnreadableError:
    if isinstance(error, FileNotFoundError):
        return UnreadableError(Reason.UNREADABLE, "no such file")
    try:
        mode = path.lstat().st_mode
    except OSError:
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode) and not (stat.S_ISDIR(mode) and isinstance(error, PermissionError)):
        return UnreadableError(Reason.NOT_A_FILE, _what_it_is(path, mode))
    if isinstance(error, PermissionError):
        return UnreadableError(Reason.UNREADABLE, "cannot be read: permission denied")
    return UnreadableError(Reason.UNREADABLE, f"cannot be read: {error.strerror or error}")


def _what_it_is(path: Path, mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder, not a file" if any(path.iterdir()) else "an empty folder"
    if stat.S_ISLNK(mode):
        return f"a symbolic link to {str(path.readlink())!a}: links found in folders are not followed"
    names = {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return f"{names.get(stat.S_IFMT(mode), 'no regular file')}, not a regular file"
