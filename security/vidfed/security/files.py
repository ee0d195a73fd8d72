"""Files that are written whole or not at all, and secret files that only their owner may read."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from vidfed.cli.system import mode_open_to_others, set_mode, sync_folder
from vidfed.security.errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def write_whole(path: Path, content: bytes, *, mode: int = PUBLIC_MODE) -> None:
    """Write `content` so that after a crash the file is either the old or the new one, and on disk.

    Raises:
        OSError: the folder is missing, not writable, or full; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, mode=mode) as file:
        file.write(content)


@contextmanager
def new_file(path: Path, *, mode: int = PRIVATE_MODE) -> Iterator[BinaryIO]:
    """Give a file to write that takes the name `path` only when all is written and on disk. The folder must exist.

    Raises:
        OSError: it cannot be written; what was at `path` is as it was.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            set_mode(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def new_text_file(path: Path, *, mode: int = PRIVATE_MODE) -> Iterator[TextIO]:
    """Give a UTF-8 file as `new_file` does; line ends are written as given.

    Half a surrogate pair, which JSON texts of other members may hold, is written as its escape instead of losing the whole file.

    Raises:
        OSError: as `new_file`.
    """
    with new_file(path, mode=mode) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", newline="")
        yield file
        file.flush()
        file.detach()


def write_private(path: Path, content: bytes) -> None:
    """Write a secret whole, readable by its owner only."""
    write_whole(path, content, mode=PRIVATE_MODE)


def read_private(path: Path) -> bytes:
    """Read a secret, refusing one that group or others could read.

    Raises:
        KeyFileError: the file is missing, unreadable, or its mode is wider than 0600.
    """
    try:
        mode = mode_open_to_others(path)
        if mode is not None:
            raise KeyFileError(f"{path}: mode {mode:04o} lets others read this secret; run: chmod 600 {path}")
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no such key file") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
