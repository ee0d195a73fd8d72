"""A Debian as small as debootstrap makes it, and commands that run in it without any network."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

SUITE = "bookworm"
PACKAGES = ("openssl", "python3")
_MIRROR = "http://deb.debian.org/debian"
PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap, chroot and network namespaces need root")


class Said(NamedTuple):
    """How a command in the fresh system ended, and what it printed."""

    status: int
    text: str


def _mirror() -> str:
    """Return the mirror that this machine's own packages come from."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        text = path.read_text() if path.is_file() else ""
        if found := re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(https?://\S+/debian)/?\s", text, flags=re.MULTILINE):
            return found.group(1)
    return _MIRROR


def unpack_fresh_system(into: Path, packages: tuple[str, ...] = PACKAGES) -> None:
    """Lay out a fresh system in the folder `into`. It is fetched once on a machine and kept beside its temporary files."""
    kept = Path(tempfile.gettempdir(), f"vidfed-tests-{os.geteuid()}-{SUITE}-{'-'.join(packages)}.tar")
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory() as work:
                command = ("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, f"{work}/root", _mirror())
                made = subprocess.run(command, capture_output=True, text=True, check=False)
                assert made.returncode == 0, made.stdout[-2000:] + made.stderr
                half = kept.with_suffix(".half")
                subprocess.run(("tar", "-C", f"{work}/root", "-cf", str(half), "."), check=True)
                half.replace(kept)
    subprocess.run(("tar", "-C", str(into), "-xf", str(kept)), check=True)


def run_inside(root: Path, command: str, timeout: float = 300) -> Said:
    """Run a shell's `command` in the system below `root`: a network of its own that holds only loopback, processes of its own."""
    inside = (
        f'mount -t proc proc {root}/proc && mount -t tmpfs shm {root}/dev/shm && ip link set lo up && exec chroot {root} /bin/bash -c "$1"'
    )
    ran = subprocess.run(
        ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", inside, "bash", command),
        env={"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout,
    )
    return Said(ran.returncode, ran.stdout)
