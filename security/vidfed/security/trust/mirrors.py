"""Places to take the directory's files from. None of them is trusted: everything is verified by who reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient import FetcherInterface

from vidfed.security.trust.metadata_rules import PUBLISHED_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TIMESTAMP_NAME = "metadata/timestamp.json"
_CHUNK_BYTES = 64 * 1024
_NOT_FOUND = 404


class Mirror(Protocol):
    """One place. `name` is for people."""

    @property
    def name(self) -> str:
        """What to call it."""

    def open(self, path: str) -> Iterator[bytes]:
        """Yield a file's content in chunks; the caller stops reading when it has had enough.

        Raises:
            FileNotFoundError: it has no such file.
            OSError: it cannot be read right now.
        """

    def stamp(self) -> object:
        """Return something that changes when there is something new, at next to no cost; None if that cannot be told."""


@dataclass(frozen=True, slots=True)
class FolderMirror:
    """A folder: on a disk, a network share, a USB stick."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def open(self, path: str) -> Iterator[bytes]:
        """Yield the file's content; see `Mirror.open`."""
        if not PUBLISHED_NAME.fullmatch(path):
            raise FileNotFoundError(path)
        with (self.folder / path).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def stamp(self) -> object:
        """Return the timestamp file's identity and time."""
        try:
            status = os.stat(f"{self.folder}/{TIMESTAMP_NAME}")  # noqa: PTH116 - asked for every call; half the time of Path
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino


@dataclass(frozen=True, slots=True)
class OverlayMirror:
    """Files in memory over another place: what would be published, to be checked first."""

    below: Mirror
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The place below."""
        return self.below.name

    def open(self, path: str) -> Iterator[bytes]:
        """Yield the file's content; see `Mirror.open`."""
        if path in self.files:
            yield self.files[path]
        else:
            yield from self.below.open(path)

    def stamp(self) -> object:
        """Return None: it cannot be told."""
        return None


@dataclass(frozen=True, slots=True)
class FilesMirror:
    """Files in memory: a directory that came along inside another file."""

    name: str
    files: Mapping[str, bytes]

    def open(self, path: str) -> Iterator[bytes]:
        """Yield the file's content; see `Mirror.open`."""
        if path not in self.files:
            raise FileNotFoundError(path)
        yield self.files[path]

    def stamp(self) -> object:
        """Return None: they never change."""
        return None


class MirrorFetcher(FetcherInterface):
    """How python-tuf reads from a mirror. It bounds what it takes of each file by itself."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            chunks = self._mirror.open(url)
            first = next(chunks, b"")
        except FileNotFoundError:
            raise DownloadHTTPError(f"{self._mirror.name} has no {url}", _NOT_FOUND) from None
        except OSError as error:
            raise DownloadError(f"{self._mirror.name}: {error.strerror or error}") from None
        return self._rest(first, chunks)

    def _rest(self, first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield first
        try:
            yield from chunks
        except OSError as error:
            raise DownloadError(f"{self._mirror.name}: {error.strerror or error}") from None
