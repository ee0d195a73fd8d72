"""A MariaDB server of the tests' own: Debian's package, a temporary folder, a free loopback port, gone at the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run a server and give the URL of its empty database `cases`, with users `reader` (read only), `secured` (the same,
    with the password `geheim`) and `writer`.

    Without the programs the test fails in CI and is skipped elsewhere, naming the package.
    """
    daemon = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    install = shutil.which("mariadb-install-db")
    client = shutil.which("mariadb")
    if not daemon or not install or not client:
        missing = "MariaDB is not installed (Debian: apt-get install mariadb-server)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    user = pwd.getpwnam("mysql") if os.geteuid() == 0 else None
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with tempfile.TemporaryDirectory(prefix="vidfed-maria-") as name, socket.socket() as probe:
        folder = Path(name)
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        data, pipe = f"--datadir={folder}/data", f"--socket={folder}/s"

        def run(*command: str, text: str = "") -> None:
            done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=False, **who)  # type: ignore[call-overload]
            assert done.returncode == 0, done.stderr

        run(install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db")
        options = [data, pipe, f"--port={port}", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"]
        options += ["--innodb-buffer-pool-size=32M", f"--pid-file={folder}/pid", f"--log-error={folder}/log", "--performance-schema=OFF"]
        process = subprocess.Popen([daemon, "--no-defaults", *options], cwd=folder, **who)  # type: ignore[call-overload]
        try:
            end_s = time.monotonic() + PATIENCE_S
            while not (folder / "s").exists():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end_s, "MariaDB did not start"
                time.sleep(0.05)
            users = "CREATE USER reader@'127.0.0.1'; GRANT SELECT ON cases.* TO reader@'127.0.0.1';"
            users += "CREATE USER secured@'127.0.0.1' IDENTIFIED BY 'geheim'; GRANT SELECT ON cases.* TO secured@'127.0.0.1';"
            users += "CREATE USER writer@'127.0.0.1'; GRANT ALL ON cases.* TO writer@'127.0.0.1';"
            run(client, "--no-defaults", f"--socket={folder}/s", "-u", "root", text=f"CREATE DATABASE cases CHARACTER SET utf8mb4; {users}")
            yield f"mysql://reader@127.0.0.1:{port}/cases"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
