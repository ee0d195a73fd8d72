"""Files dropped on the desk: one request a file, its bytes as they are, into a private file that lives until it is hashed.

No form with parts: a body that is the file needs no parser that a hostile one could confuse.
"""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.requests import ClientDisconnect

from vidfed.desk.shell.errors import DiskError, TooMuchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MAX_FILE_BYTES = 2 << 30
"""Of one dropped file. A larger one is a disk image or a film: it is asked about where it lies, by its folder's path."""
MAX_TOGETHER_BYTES = 8 << 30
"""Of all files that lie here unhashed."""
MAX_FILES = 2_000
"""Dropped at a time; more are a seizure, which is asked about where it lies."""
MAX_NAME_CHARS = 400
_PRIVATE = 0o700


class Uploads:
    """The private folder in which dropped files lie for as long as it takes to hash them. Emptied when the desk starts and ends."""

    def __init__(self, folder: Path) -> None:
        """Use a folder; what an earlier run left in it is removed."""
        self._folder = folder
        self._sizes: dict[Path, int] = {}
        self.close()
        folder.mkdir(mode=_PRIVATE, parents=True)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def take(self, body: AsyncIterator[bytes], announced_bytes: int | None) -> Path:
        """Write a body into a new private file and return its path. What was cut in the middle leaves nothing behind.

        Args:
            body: pieces of the file, as they come.
            announced_bytes: how long it is said to be, None if that is not said.

        Raises:
            TooMuchError: it is larger than is taken, or there are too many.
            DiskError: the disk is full.
            ClientDisconnect: it was cut.
        """
        if announced_bytes is not None and announced_bytes > MAX_FILE_BYTES:
            raise TooMuchError(f"{MAX_FILE_BYTES >> 30} GiB")
        if len(self._sizes) >= MAX_FILES:
            raise TooMuchError(f"{MAX_FILES:,}")
        path = self._folder / secrets.token_hex(16)
        self._sizes[path] = 0
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                async for piece in body:
                    self._sizes[path] += len(piece)
                    if self._sizes[path] > MAX_FILE_BYTES or sum(self._sizes.values()) > MAX_TOGETHER_BYTES:
                        raise TooMuchError(f"{MAX_FILE_BYTES >> 30} GiB")
                    file.write(piece)
            if announced_bytes is not None and self._sizes[path] != announced_bytes:
                raise ClientDisconnect
        except OSError as error:
            self.remove(path)
            raise DiskError("It could not be kept while it is hashed: %(why)s.", why=os.strerror(error.errno or 0)) from None
        except BaseException:
            self.remove(path)
            raise
        return path

    def remove(self, path: Path) -> None:
        """Remove one file."""
        self._sizes.pop(path, None)
        path.unlink(missing_ok=True)

    @property
    def count(self) -> int:
        """How many files lie here."""
        return len(self._sizes)


def file_name(header: str | None) -> str:
    """Return the name of a dropped file as its page says it, percent-encoded; at most MAX_NAME_CHARS characters of it."""
    return unquote(header or "", errors="replace")[-MAX_NAME_CHARS:] or "file"
