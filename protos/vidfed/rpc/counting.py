"""Where the processes of one service count together, for `metrics`.

They write into files of one folder (prometheus_client's multiprocess mode), and the process that was started first reads all of them. The
folder is named in the environment, which prometheus_client reads when it is loaded: so a command calls this before it loads its service.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def counting_in(folder: Path, service: str) -> Iterator[None]:
    """Let this process and those it starts count in a folder of their own below `folder`: counters begin at 0 when a service starts."""
    for old in folder.glob(f"{service}-*"):
        if not runs(old.name.rpartition("-")[2]):
            shutil.rmtree(old, ignore_errors=True)
    own = folder / f"{service}-{os.getpid()}"
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[FOLDER_VARIABLE] = str(own)
    try:
        yield
    finally:
        del os.environ[FOLDER_VARIABLE]
        shutil.rmtree(own, ignore_errors=True)


def runs(pid: str) -> bool:
    """Tell whether there is a process with this number."""
    return Path(f"/proc/{pid}").exists()
