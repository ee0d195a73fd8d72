"""A desk for each role of the practice federation: what `vidfed demo --stay` opens."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_STOP_S = 20.0


class Place(NamedTuple):
    """What a desk is opened with: `--kit` or `--home`, and where that is."""

    option: str
    folder: Path


@contextlib.contextmanager
def open_desks(places: Mapping[str, Place]) -> Iterator[dict[str, str]]:
    """Run a desk for each role; give the addresses that open them once, empty where one did not start."""
    with contextlib.ExitStack() as stack:
        running = {}
        for role, place in places.items():
            command = [sys.executable, "-m", "vidfed.cli", "desk", "--no-open", "--practice", place.option, str(place.folder)]
            running[role] = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603 - our own command
            )
            stack.callback(_end, running[role])
        yield {role: process.stdout.readline().strip() for role, process in running.items() if process.stdout is not None}


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
