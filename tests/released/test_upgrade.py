"""A federation is upgraded from the last release while it is asked, one member at a time, and taken back: nobody is told anything wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.released.record import KNOWN, MEMBERS, WHY, vidfed
from tests.released.test_released import RELEASES
from vidfed.synthetic.federation import LocalFederation

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
PARTS = ("federation", "index", "node", "protos", "security", "synthetic_fixtures")


@pytest.fixture
def old(tmp_path: Path) -> dict[str, str]:
    """The environment in which `python -m vidfed.cli` is the program of the last release, taken out of the history."""
    commit = (RELEASES[-1] / "commit").read_text().strip()
    packed = subprocess.run(["git", "archive", commit, *PARTS], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the release's commit {commit} is not in this clone: fetch the whole history")
        pytest.skip(f"the release's commit {commit} is not in this clone; what it left behind is read by test_released.py")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(str(tmp_path / "old" / part) for part in PARTS), "PYTHONNOUSERSITE": "1"}


class Asking:
    """Looks up without a pause, and keeps every result."""

    def __init__(self, kit: Path) -> None:
        self.results: list[dict[str, Any]] = []
        self._kit = kit
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> list[dict[str, Any]]:
        self._thread.start()
        return self.results

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _ask(self) -> None:
        command = [sys.executable, "-m", "vidfed.cli", "lookup", "--hash", f"md5:{KNOWN}", "--kit", str(self._kit), *WHY, "--json"]
        while not self._end.is_set():
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.results.append(json.loads(done.stdout) if done.stdout else {"error": done.stderr})


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_a_federation_is_upgraded_while_it_is_asked_and_taken_back(old: dict[str, str], tmp_path: Path) -> None:
    def run_old(arguments: Sequence[str | Path]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "vidfed.cli", *map(str, arguments)], capture_output=True, text=True, check=False, env=old
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with LocalFederation(tmp_path, run_old) as federation:
        federation.create(MEMBERS)
        (tmp_path / "list.csv").write_text(f"md5\n{KNOWN}\n")
        for place in federation.places.values():
            run_old(["node", "import", tmp_path / "list.csv", "--home", place.folder])
        federation.issue_kit("nl", tmp_path / "kit")
        federation.environment = old
        federation.start(*MEMBERS)
        federation.start("nl", service="gateway")
        with Asking(tmp_path / "kit") as results:
            for environment in (None, old):
                federation.environment = environment
                for member in MEMBERS:
                    asked = len(results)
                    federation.stop(member)
                    federation.start(member)
                    while len(results) < asked + 2:
                        federation.process_id(member)  # a lookup that began after it came back has ended
    assert [each["error"] for each in results if "error" in each] == []
    for each in results:
        missing = {*each["nodes_without_answer"]}
        assert {hit["member"] for hit in each["hits"]} == MEMBERS.keys() - missing, "whoever answers knows it; nobody says no"
        assert each["complete"] == (not missing)
        assert len(missing) <= 1
    assert results[-1]["complete"]
    for place in federation.places.values():
        assert "The log holds" in vidfed(["audit", "verify", "--home", place.folder])
