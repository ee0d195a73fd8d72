"""On a disk without any room, what only reads still works: a file system of its own, filled to the last byte."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_S
from vidfed.synthetic.federation import LocalFederation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Ran

ON_A_FULL_DISK = """
set -e
mount -t tmpfs -o size=16m tmpfs "$1"
cp -a "$2" "$1/nl"
dd if=/dev/zero of="$1/filler" bs=64k 2>/dev/null || true
dd if=/dev/zero of="$1/rest" bs=512 2>/dev/null || true
shift 2
exec "$@"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, run: Callable[[Sequence[str | Path]], Ran]) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("full")
    with LocalFederation(base, run) as made:
        made.create({"nl": "Unit NL"})
        (base / "hashes.csv").write_text("md5,series\n" + "5d" * 16 + ",Tulip\n")
        run(["node", "import", str(base / "hashes.csv"), "--home", str(made.places["nl"].folder)])
        made.start("nl")
        made.kill("nl")  # as it stands while it serves: with the files beside its databases
        yield made.places["nl"].folder


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (("audit", "verify"), 0, "as logged, 0 whose content"),
        (("node", "health"), 1, "no node runs here"),
        (("node", "status"), 0, "directory"),
        (("node", "records", "list"), 0, "Tulip"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_reading_commands_need_no_room(home: Path, tmp_path: Path, command: tuple[str, ...], status: int, said: str) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    vidfed = [sys.executable, "-m", "vidfed.cli", *command, "--home", str(place / "nl")]
    done = subprocess.run(
        [*unshare, "sh", "-c", ON_A_FULL_DISK, "sh", str(place), str(home), *vidfed],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert "no trust directory" not in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr
