"""Takes away what an investigator's computer may not have: POSIX modules, and the packages of the extra `node`.

Python imports this by itself where its folder is on PYTHONPATH, so it holds for every process that a process starts.
What Windows has instead of `fcntl` is imitated: `msvcrt.locking` over flock(2), with its habit of refusing at once; so are its missing
names in `os`, `select` and `socket`. What cannot be imitated here: paths with drive letters, its consoles, and that files in use cannot be
removed or replaced there.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import os
import select
import selectors  # noqa: F401 - loaded first, so that it has chosen what it waits with
import socket
import subprocess  # noqa: F401 - the same
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

POSIX_MODULES = frozenset({"fcntl", "grp", "pwd", "resource", "termios"})
NODE_MODULES = frozenset({"alembic", "faiss", "grpc_health", "numba", "prometheus_client", "sqlalchemy"})
_LOCK_EX_NB = 2 | 4  # flock(2)


class _Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, _path: Sequence[str] | None = None, _target: types.ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] in POSIX_MODULES | NODE_MODULES:
            raise ModuleNotFoundError(f"No module named {fullname!r} (taken away for this test)", name=fullname)
        return None


def _locking(descriptor: int, _mode: int, _count: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.flock(descriptor, _LOCK_EX_NB):
        raise PermissionError(13, "Permission denied")  # as Windows says it


def take_away() -> None:
    """Do so for this process."""
    for name in POSIX_MODULES & set(sys.modules):
        del sys.modules[name]
    sys.meta_path.insert(0, _Blocked())
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.__dict__.update(locking=_locking, LK_NBLCK=2)
    sys.modules["msvcrt"] = msvcrt
    for module, names in {
        os: ("O_CLOEXEC", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "fchmod", "memfd_create", "pread", "sched_getaffinity"),
        select: ("poll",),
        socket: ("recv_fds", "send_fds"),
    }.items():
        for name in names:
            delattr(module, name)


take_away()
