"""The library as other programs use it: the guide is a session that is run, the example runs, and the public names are a promise."""

from __future__ import annotations

import asyncio
import doctest
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vidfed.federation
from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.federation import BlockingFederationClient, Kit
from vidfed.security.errors import SecurityError
from vidfed.synthetic.pictures import picture
from vidfed.wire.values import RecordView, Ternary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder as the guide has it: a kit, a picture, a broken picture; and a federation behind the kit."""
    async with SocketFederation(tmp_path / "federation", "nl", "fr", "se") as federation:
        await federation.start_honest("nl")
        for member, identified in (("fr", Ternary.NO), ("se", Ternary.YES)):
            record = RecordView(f"ref-{member}", "Tulip", victim_identified=identified, case_contact=f"desk@{member}.example")
            await federation.start_node(member, ScriptedNode(federation.knowing(member, record)))
        kit = await federation.start_gateway("nl")
        place = tmp_path / "place"
        place.mkdir()
        kit.folder.rename(place / "kit")
        picture(7).save(place / "photo.jpg")
        (place / "empty.jpg").touch()
        (place / "case").mkdir()
        for name in ("photo.jpg", "empty.jpg"):
            (place / "case" / name).hardlink_to(place / name)
        yield place


async def test_the_guide_is_a_session_that_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    done = await asyncio.to_thread(doctest.testfile, str(ROOT / "docs/library.md"), module_relative=False)
    assert done.failed == 0
    assert done.attempted > 20


async def test_the_example_runs(place: Path) -> None:
    command = [sys.executable, str(ROOT / "examples/case_folder.py"), "kit", "case", "NL-2026-9"]
    done = await asyncio.to_thread(subprocess.run, command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "not asked: case/empty.jpg" in done.stdout
    assert "photo.jpg: known to se (victim identified); call desk@se.example, quote ref-se" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("COMPLETE for 1 of 2 files; 1 not asked; answered 3, ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "case_folder.py KIT FOLDER CASE"), (("no-kit", "case", "C-1"), "Error: "), (("kit", "empty", "C-1"), "nothing to ask")],
)
async def test_the_example_says_what_it_lacks(place: Path, arguments: tuple[str, ...], said: str) -> None:
    (place / "empty").mkdir()
    command = [sys.executable, str(ROOT / "examples/case_folder.py"), *arguments]
    done = await asyncio.to_thread(subprocess.run, command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


async def test_a_blocking_client_that_fails_leaves_no_thread_behind(place: Path) -> None:
    (place / "kit/anchor.json").unlink()

    def use() -> None:
        with BlockingFederationClient(Kit(place / "kit")):
            raise AssertionError

    with pytest.raises(SecurityError):
        await asyncio.to_thread(use)
    assert not [thread for thread in threading.enumerate() if thread.name == "vidfed-client"]


async def test_a_closed_client_says_so(place: Path) -> None:
    def use() -> None:
        client = BlockingFederationClient(Kit(place / "kit"))
        client.close()
        client.close()
        client.history()

    with pytest.raises(RuntimeError, match="closed"):
        await asyncio.to_thread(use)


def test_the_public_names_are_these_and_all_are_there() -> None:
    assert sorted(vidfed.federation.__all__) == vidfed.federation.__all__ == dir(vidfed.federation)
    for name in vidfed.federation.__all__:
        assert getattr(vidfed.federation, name).__doc__, name
    with pytest.raises(AttributeError):
        vidfed.federation.nothing_of_this_name  # noqa: B018 - asking is the test


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, vidfed.federation; sys.exit(any(m in sys.modules for m in ('grpc', 'numpy', 'PIL', 'nacl')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
