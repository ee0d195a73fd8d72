"""Runs the ```console blocks of a document in one shell, and compares what is shown with what is printed.

A line `$ COMMAND` is typed; the lines below it are what it shows. A command ending in `&` is left running; the next one is typed when all
its shown lines have appeared. Numbers, keys, words of fingerprints, references and the width of columns may differ from run to run, so
lines are compared without them. `python -m tests.support.console FILE...` rewrites the shown lines with what is printed now.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.patience import PATIENCE_S
from vidfed.synthetic.modifications import resized
from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Iterator

_DONE = "__done__"
_VOLATILE = re.compile(r"\b[0-9a-f]{8,}\b|\b[a-z]{5}(?:-[a-z]{5}){5}\b|\d+|─+")

# A case as an examiner's program writes it, with what such files bring: an empty file, a broken digest, an item named twice.
_CASE = {
    "@odata.context": "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/UK/$metadata#Cases",
    "value": [
        {
            "CaseNumber": "2026-17",
            "ContactName": "desk@nl.example",
            "SourceApplicationName": "Examiner",
            "Media": [
                {"MediaID": 1, "Category": 1, "MD5": "AB" * 16, "Series": "Blue", "VictimIdentified": "false"},
                {"MediaID": 2, "Category": 1, "MD5": "D41D8CD98F00B204E9800998ECF8427E"},
                {"MediaID": 3, "Category": 1, "MD5": "AB"},
                {"MediaID": 4, "Category": 2, "MD5": "AB" * 16},
                {"MediaID": 5, "Category": None, "MD5": "CD" * 16, "Comments": "not known to anybody"},
            ],
        }
    ],
}


@dataclass
class Step:
    """One command of a document: where it stands, what is typed, what is shown below it."""

    line: int
    command: str
    shown: list[str]

    @property
    def stays(self) -> bool:
        return self.command.endswith("&")


def steps_of(document: Path) -> list[Step]:
    """Return the commands in a document's console blocks."""
    steps: list[Step] = []
    inside = False
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            steps.append(Step(number, line[2:], []))
        elif inside and steps and steps[-1].command.endswith("\\"):
            steps[-1].command += "\n" + line
        elif inside:
            steps[-1].shown.append(line)
    return steps


def plain(line: str) -> str:
    """Return a line without what differs from run to run."""
    return " ".join(_VOLATILE.sub("#", line).split())


class Shell:
    """A bash in a folder of its own, with pictures to ask about."""

    def __init__(self, folder: Path) -> None:
        pictures = folder / "pictures"
        pictures.mkdir()
        for seed in range(3):
            picture(seed).save(pictures / f"{seed}.png")
        resized(60)(picture(1)).save(folder / "photo.jpg", quality=70)
        (folder / "hashes.csv").write_text("sha256,series,victim_identified\n" + "ab" * 32 + ",Tulip,yes\n")
        (folder / "case.json").write_text(json.dumps(_CASE))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VIDFED_")}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._type("kill $(jobs -p) 2>/dev/null; wait; exit")
        self._bash.wait(PATIENCE_S)
        for pipe in (self._bash.stdin, self._bash.stdout):
            if pipe is not None:
                pipe.close()

    def run(self, step: Step) -> list[str]:
        """Type a command and return the lines it printed."""
        self._seen = ""
        self._type(step.command if step.stays else f"{step.command}\necho {_DONE}")
        awaited = [line for line in step.shown if line.strip()] if step.stays else [_DONE]
        for _ in self._read():
            lines = self._seen.splitlines()
            if self._seen.endswith("\n") and all(plain(line) in map(plain, lines) for line in awaited):
                return [line.rstrip() for line in lines if line != _DONE]
        raise AssertionError(f"line {step.line}: {step.command}\ndid not end; so far it printed\n{self._seen}")

    def _type(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{text}\n".encode())
        self._bash.stdin.flush()

    def _read(self) -> Iterator[None]:
        assert self._bash.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._bash.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and selector.select(left):
                self._seen += os.read(self._bash.stdout.fileno(), 65536).decode()
                yield


def rewrite(document: Path) -> None:
    """Replace the shown lines of a document with what its commands print now. Lines of commands left running stay."""
    lines = document.read_text().splitlines()
    steps = steps_of(document)
    with tempfile.TemporaryDirectory() as folder, Shell(Path(folder)) as shell:
        printed = [step.shown if step.stays else shell.run(step) for step in steps if not step.stays or shell.run(step) is not None]
    for step, shown in reversed(list(zip(steps, printed, strict=True))):
        start = step.line + step.command.count("\n")
        lines[start : start + len(step.shown)] = [line for line in shown if line.strip()]
    document.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        rewrite(Path(name))
