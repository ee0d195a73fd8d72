"""What a process that holds keys asks of the kernel, and what it keeps a library from saying."""

from __future__ import annotations

import contextlib
import ctypes
import os

from vidfed.cli.system import forbid_core_files

_PR_SET_DUMPABLE = 4  # prctl(2)


def keep_grpc_silent() -> None:
    """Have gRPC write nothing to stderr by itself, unless GRPC_VERBOSITY asks for it. To be called before it is loaded.

    It quotes what strangers send, line breaks and all: whoever reaches the port could write lines into a service's log.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def keep_memory_private() -> None:
    """Have no core file written and no other process of this user look into this one's memory (ptrace, /proc/PID/mem).

    As far as Python allows: what root does, what is swapped out, and copies that the interpreter leaves in freed memory are out of reach.
    Systems without prctl(2) get the first half, Windows neither.
    """
    forbid_core_files()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
