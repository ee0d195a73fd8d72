"""What differs between operating systems, in one place: locks on files, file modes, processors, limits of a process.

Everything else on an investigator's path is written against what Python offers everywhere. The Windows half is written after Microsoft's
and Python's documentation and tested here with the POSIX modules taken away and `msvcrt` imitated; it has not yet run on Windows.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from pathlib import Path

POSIX: Final = fcntl is not None
"""Whether files have owners and modes, and descriptors can be handed to other processes."""

_OTHERS: Final = 0o077  # the mode bits of group and others
_LOCKED_AT: Final = 1 << 30  # Windows keeps others from reading what is locked: a byte that no file of ours reaches
_LOOK_EVERY_S: Final = 0.02  # Windows has no waiting without end for a lock: how often it is looked at


def lock_file(descriptor: int, *, wait: bool = True, shared: bool = False) -> None:
    """Lock an open file until it is closed, however the process ends.

    Args:
        descriptor: of a file that is open for writing, or for reading if `shared`.
        wait: for whoever holds it.
        shared: only keep out those who want it alone. On Windows this excludes other shared locks too.

    Raises:
        BlockingIOError: another holds it, and this is not to wait.
    """
    if POSIX:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        return
    msvcrt = _msvcrt()
    while True:
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _LOCKED_AT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if not wait:
                raise BlockingIOError(*error.args) from None
        else:
            return
        finally:
            os.lseek(descriptor, at, os.SEEK_SET)
        time.sleep(_LOOK_EVERY_S)


def set_mode(descriptor: int, mode: int) -> None:
    """Give an open file this mode. On Windows a file has no mode: what its folder's access list says holds."""
    if POSIX:
        os.fchmod(descriptor, mode)


def mode_open_to_others(path: Path) -> int | None:
    """Return the mode of a file that group or others may use, None if its owner alone may; always None where there are no modes.

    Raises:
        OSError: the file cannot be looked at.
    """
    mode = path.stat().st_mode & 0o7777
    return mode if POSIX and mode & _OTHERS else None


def sync_folder(path: Path) -> None:
    """Put on disk which files a folder has. Windows cannot be asked for that, and does it by itself.

    Raises:
        OSError: the disk refuses.
    """
    if not POSIX:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def available_processors() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def forbid_core_files() -> None:
    """Have no core file of this process written. Windows writes none unless an administrator sets it up."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _msvcrt() -> Any:  # noqa: ANN401 - a module that only Windows has
    import importlib

    return importlib.import_module("msvcrt")
