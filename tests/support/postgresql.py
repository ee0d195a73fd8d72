"""A PostgreSQL server of the tests' own: Debian's package, a temporary folder, a free loopback port, gone at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_MINIMUM = 15


def programs() -> Path | None:
    """Return the folder with initdb and postgres, of the newest version found."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found and int(found[-1].parts[-3]) >= _MINIMUM:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run a server and give the URL of its database `postgres`.

    Without the programs the test fails in CI and is skipped elsewhere, naming the package.
    """
    found = programs()
    if found is None:
        missing = "PostgreSQL 15 or newer is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # PostgreSQL refuses to run as root: Debian's package comes with a user for it.
    import pwd  # noqa: PLC0415 - what needs no server is tested without the modules of POSIX too

    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with tempfile.TemporaryDirectory(prefix="vidfed-pg-") as name, socket.socket() as probe:
        folder = Path(name)
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off -c shared_buffers=32MB"

        def run(*command: str) -> None:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **who)  # type: ignore[call-overload]
            assert done.returncode == 0, done.stderr

        run(f"{found}/initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "vidfed", "-E", "UTF8", "--no-sync")
        run(f"{found}/pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql://vidfed@127.0.0.1:{port}/postgres"
        finally:
            run(f"{found}/pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")
