"""A command under the system-call filter of one of our systemd units, without systemd running: `unit_filter.py UNIT COMMAND...`.

The groups a unit names are read from `systemd-analyze syscall-filter`; libseccomp, which comes with it, makes the filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM  # as SystemCallErrorNumber=EPERM


def allowed_calls(unit: Path) -> set[str]:
    """Return the names of the system calls that the unit's SystemCallFilter lines leave, as systemd.exec(5) reads them."""
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(), flags=re.MULTILINE):
        calls = {call for name in line.removeprefix("~").split() for call in _calls_of(name)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def _calls_of(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    members = [line.strip() for line in listed.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return {call for member in members for call in _calls_of(member)}


def confine(calls: set[str]) -> None:
    """Let this process and its children make these system calls only.

    Raises:
        OSError: the filter cannot be made or installed.
    """
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_REFUSE)))
    # What systemd's newer lists name and this kernel's library does not know cannot be called either.
    numbers = [library.seccomp_syscall_resolve_name(name.encode()) for name in sorted(calls)]
    failed = [number for number in numbers if number >= 0 and library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)]
    if not context.value or failed or library.seccomp_load(context):
        raise OSError(ctypes.get_errno(), "the system-call filter cannot be installed")


if __name__ == "__main__":
    confine(allowed_calls(Path(sys.argv[1])))
    os.execvp(sys.argv[2], sys.argv[2:])
