"""The commands that the guides show exist, with the options they are shown with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from vidfed.cli.root import root

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHOWN = [
    (page.name, line.strip())
    for page in (DOCS / "officer.md", DOCS / "investigator.md", DOCS / "national-unit.md")
    for line in page.read_text().splitlines()
    if re.match(r" {4,}vidfed (cases|requests|inbox|watch|node news)\b", line)
]


def test_the_guides_show_commands() -> None:
    assert len(SHOWN) >= 15


@pytest.mark.parametrize(("page", "line"), list(dict.fromkeys(SHOWN)), ids=[f"{page}: {line}" for page, line in dict.fromkeys(SHOWN)])
def test_command_shown_can_be_parsed(page: str, line: str) -> None:
    words = shlex.split(line.partition(" > ")[0])[1:]
    command: click.Command = root
    while isinstance(command, click.Group) and words and not (words[0].startswith("-") and command.invoke_without_command):
        context = click.Context(command)
        found = command.get_command(context, words[0])
        assert found is not None, (page, line)
        command, words = found, words[1:]
    command.make_context(command.name, _without_file(words))


def _without_file(words: list[str]) -> list[str]:
    """Leave out the file, which is not there."""
    place = words.index("--file") if "--file" in words else len(words)
    return words[:place] + words[place + 2 :]
