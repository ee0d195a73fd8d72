"""What a process that decodes hostile files may still do: compute, in bounded memory and time, and answer. Linux only, as all of vidfed.

Four walls, each of which stands where the kernel and its administrator allow it:

    limits      memory, processor time, open files, no files written, no core dumps (setrlimit: everywhere)
    namespace   a network of its own with nothing in it (user namespaces; containers often forbid them)
    landlock    no file opened but Python's own for reading; no TCP; no signals or abstract sockets to others (Linux 5.13; more since 6.12)
    seccomp     no sockets, no other programs, no looking into other processes

There is no well-kept Python library for the last two (the two for Landlock are pre-releases, `pyseccomp` is not maintained since 2021), so
the few system calls are made here.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MEMORY_BYTES: Final = 4 << 30
"""Address space of a worker: the largest picture decoded takes 2 GB."""

OPEN_FILES: Final = 64
"""File descriptors of a worker: its own and those of the few files it was handed."""

FILE_CPU_S: Final = 120
"""Processor time for what one file shows: the largest picture takes some 20 s."""

READING_CPU_S: Final = 86_400
"""Processor time for reading one file and its digests: some tens of terabytes."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWIPC: Final = 0x08000000

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """End this process when the thread that started it ends, whatever becomes of the rest.

    Args:
        parent: the process that started this one; if it is gone already, this one ends now.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def leave_network() -> bool:
    """Move this process, which must have one thread, to a network of its own; return whether the kernel allows it."""
    return bool(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0)


def seal() -> list[str]:
    """Put up the other walls, for good; return the names of those that stand."""
    standing = ["limits"]
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        if _landlock(_python_folders()):
            standing.append("landlock")
        if _seccomp():
            standing.append("seccomp")
    return standing


def seal_program(file: int, cpu_s: int) -> list[str]:
    """Put the walls up around a program that is about to be started in this process; return the names of those that stand.

    It may start, read its libraries and the one file at the descriptor `file`, write to what it was handed, and use `cpu_s` seconds of
    processor time.
    """
    standing = ["limits"]
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    allow_cpu(cpu_s)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        if _landlock(_PROGRAM_FOLDERS, file=file, rights=_LANDLOCK_READ | _LANDLOCK_EXECUTE):
            standing.append("landlock")
        if _seccomp(may_start=True):
            standing.append("seccomp")
    return standing


def allow_cpu(seconds: int) -> None:
    """Let this process use so many seconds of processor time from now on; the kernel ends it then."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until if hard == resource.RLIM_INFINITY else min(until, hard), hard))


def _limit(which: int, most: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(which, (most, most))


# --- Landlock ---

# The same numbers on every architecture since Linux 5.13.
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_VERSION: Final = 1
_LANDLOCK_PATH_BENEATH: Final = 1
# The rights to files that each version of the kernel's interface knows, as bits: 13 in the first.
_LANDLOCK_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_LANDLOCK_EXECUTE: Final = 0b1
_LANDLOCK_READ_FILE: Final = 0b100
_LANDLOCK_READ: Final = 0b1100  # read a file, list a folder
_LANDLOCK_TCP: Final = 0b11  # bind, connect: version 4
_LANDLOCK_SCOPES: Final = 0b11  # abstract sockets, signals: version 6
_LANDLOCK_TCP_VERSION: Final = 4
_LANDLOCK_SCOPE_VERSION: Final = 6


# A program's libraries and what their loader and they look up; no folder of anybody's files.
_PROGRAM_FOLDERS: Final = tuple(Path(f) for f in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives", "/dev/null"))


def _landlock(readable: Iterable[Path], *, file: int | None = None, rights: int = _LANDLOCK_READ) -> bool:
    """Forbid all files but those below these folders, to which there are these rights, and one open file, which may be read."""
    version = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return False
    handled = (1 << _LANDLOCK_FILE_RIGHTS.get(version, max(_LANDLOCK_FILE_RIGHTS.values()))) - 1
    attributes = struct.pack("=Q", handled)
    if version >= _LANDLOCK_TCP_VERSION:
        attributes += struct.pack("=Q", _LANDLOCK_TCP)
    if version >= _LANDLOCK_SCOPE_VERSION:
        attributes += struct.pack("=Q", _LANDLOCK_SCOPES)
    ruleset = _libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        for folder in readable:
            with suppress(OSError):
                descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
                within = rights if folder.is_dir() else rights & (_LANDLOCK_READ_FILE | _LANDLOCK_EXECUTE)
                _libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, struct.pack("=Qi", within, descriptor), 0)
                os.close(descriptor)
        if file is not None:
            _libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, struct.pack("=Qi", _LANDLOCK_READ_FILE, file), 0)
        return bool(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _python_folders() -> set[Path]:
    """Return where Python and its packages are, for what is imported late."""
    named = {sys.prefix, sys.base_prefix, "/usr/lib", "/lib", "/lib64", *(entry for entry in sys.path if entry)}
    return {Path(folder) for folder in named}


# --- seccomp: a program of the kernel's packet filter that looks at the number of each system call ---

_FORBIDDEN: Final = {
    "x86_64": (
        0xC000003E,
        # socket connect accept bind listen socketpair accept4 | fork vfork execve execveat | ptrace process_vm_readv process_vm_writev
        (41, 42, 43, 49, 50, 53, 288, 57, 58, 59, 322, 101, 310, 311),
        # add_key request_key keyctl | unshare setns mount umount2 pivot_root |
        # perf_event_open bpf userfaultfd io_uring_setup open_by_handle_at
        (248, 249, 250, 272, 308, 165, 166, 155, 298, 321, 323, 425, 304),
    ),
    "aarch64": (
        0xC00000B7,
        (198, 203, 202, 200, 201, 199, 242, 221, 281, 117, 270, 271),
        (217, 218, 219, 97, 268, 40, 39, 41, 241, 280, 282, 425, 265),
    ),
}
_LOAD: Final = 0x20  # a word of the description of the call
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050001  # the call fails with EPERM
_KILL: Final = 0x80000000
_OTHER_NUMBERING: Final = 0x40000000  # calls of the x32 interface begin here
_AT_NUMBER: Final = 0
_AT_ARCHITECTURE: Final = 4


_STARTING: Final = {"x86_64": {59}, "aarch64": {221}}  # execve, which a process that becomes another program needs


def _seccomp(*, may_start: bool = False) -> bool:
    """Forbid what decoding never needs and an intruder would; `may_start`, but not to become another program."""
    if platform.machine() not in _FORBIDDEN or sys.maxsize < 2**32:
        return False
    architecture, *groups = _FORBIDDEN[platform.machine()]
    allowed = _STARTING[platform.machine()] if may_start else set()
    numbers = [number for group in groups for number in group if number not in allowed]
    steps = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_JUMP_IF_AT_LEAST, len(numbers) + 1, 0, _OTHER_NUMBERING),
        *((_JUMP_IF_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    description = struct.pack("@HP", len(steps), ctypes.addressof(program))
    return bool(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, description, 0, 0) == 0)


# --- a program inside the walls ---

CANNOT_START: Final = 111
"""Exit status where the program could not be started."""


def become_program(arguments: list[str]) -> None:
    """Put the walls up and become another program: no network, no file but the one handed over and its own libraries, none to write.

    This file is run as a script for it, by `film.programs`: it needs nothing but Python's own modules, and starts quickly.

    Args:
        arguments: the parent's process id, the descriptor of the file, seconds of processor time, the program, and its arguments.
    """
    parent, descriptor, cpu_s, program, *others = arguments
    die_with_parent(int(parent))
    leave_network()
    seal_program(int(descriptor), int(cpu_s))
    try:
        os.execv(program, [program, *others])  # noqa: S606 - that is the point
    except OSError as error:
        os.write(2, f"{program}: {error.strerror}\n".encode())
        os._exit(CANNOT_START)


if __name__ == "__main__":
    become_program(sys.argv[1:])
