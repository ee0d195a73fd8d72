"""`vidfed demo` from beginning to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Ran

_STEPS = (
    "cases ask",
    "requests show",
    "requests release",
    "cases show",
    "watch add",
    "by 3 of 3",
    "fr-later",
    "watch hits",
    "unknown.png  near",
)
"""Of the part after the hit, in their order."""


def test_the_demo_tells_its_story_and_leaves_nothing_running(vidfed: Callable[..., Ran], tmp_path: Path) -> None:
    ran = vidfed("demo", "--folder", tmp_path / "demo")
    assert ran.status == 0, ran.err
    for told in (
        "exact (MD5, SHA-1, SHA-256)",
        "near: PDQ",
        "flipped left to right",
        "5 of 95 items known, 90 not known",
        "COMPLETE; answered 3, refused by policy 0, no answer 0; every answer verified.",
        # a hit, a request, an officer's release, the investigator reading it
        "an officer of br decides.",
        "asked routine; due",
        "To nl (nl-1, nl-2), about",
        "victim-identity. Basis: same-digest.",
        "br 1. release by br-1,",
        "victim: names Ana Exemplo (synthetic), born 2014-05-01, nationality BR",
        # a record that is added later, and a standing lookup that tells of it
        "by 3 of 3",
        "1 new, 0 updated, 0 unchanged, 0 not hashed",
        "unknown.png near: PDQ 6 + pHash 0 + dHash 0 victim identified: yes duty-desk@fr.example",
        "INCOMPLETE; answered 2, refused by policy 0, no answer 1 (br: unreachable)",
    ):
        assert told in " ".join((ran.out + ran.err).split())
    story = ran.out[ran.out.index("== 7.") :]
    assert [story.index(step) for step in _STEPS] == sorted(story.index(step) for step in _STEPS)
    assert "\\n" not in ran.out + ran.err, "a line break was made visible instead of made"
    assert vidfed("node", "status", "--home", tmp_path / "demo/nl", "--json").json()["serving"] is False


def test_the_demo_does_not_write_into_a_folder_in_use(vidfed: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert vidfed("demo", "--folder", tmp_path).status == 2


@pytest.mark.exhaustive
def test_a_demo_that_is_ended_by_sigterm_leaves_nothing_running(vidfed: Callable[..., Ran], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vidfed.cli", "demo", "--folder", str(tmp_path / "demo")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout
        told = ""
        while "== 1." not in told:
            line = demo.stdout.readline()
            assert line, told
            told += line
        assert vidfed("node", "status", "--home", tmp_path / "demo/nl", "--json").json()["serving"] is True
        demo.send_signal(signal.SIGTERM)
        demo.stdout.read()  # to its end, which comes when the last process that holds it has gone
    assert demo.returncode not in {0, -signal.SIGTERM}
    for member in ("nl", "fr", "br"):
        assert vidfed("node", "status", "--home", tmp_path / "demo" / member, "--json").json()["serving"] is False
