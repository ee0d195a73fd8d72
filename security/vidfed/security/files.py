"""Files that are written whole or not at all, and secret files that only their owner may read."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from vidfed.security.errors import KeyFileError

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def write_whole(path: Path, content: bytes, *, mode: int = PUBLIC_MODE) -> None:
    """Write `content` so that after a crash the file is either the old or the new one, and on disk.

    Raises:
        OSError: the folder is missing, not writable, or full; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_private(path: Path, content: bytes) -> None:
    """Write a secret whole, readable by its owner only."""
    write_whole(path, content, mode=PRIVATE_MODE)


def read_private(path: Path) -> bytes:
    """Read a secret, refusing one that group or others could read.

    Raises:
        KeyFileError: the file is missing, unreadable, or its mode is wider than 0600.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise KeyFileError(f"{path}: mode {mode:04o} lets others read this secret; run: chmod 600 {path}")
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no such key file") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
