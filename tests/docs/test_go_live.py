"""The go-live file: each statement stands beside a command that is there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from vidfed.cli.root import root

PAGES = sorted((Path(__file__).parents[2] / "docs/go-live").glob("*.md"))


def statements(page: Path) -> list[tuple[str, str]]:
    """The rows of tables whose last column says how they are proven, as (statement, proof)."""
    found, header = [], ""
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            header = ""
        elif not header:
            header = line
        elif header.rstrip(" |").endswith(("proven by", "done when", "with")) and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.append((cells[0], cells[-1]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_statement_names_a_command_that_proves_it(page: Path) -> None:
    rows = statements(page)
    assert len(rows) > 5
    for statement, proof in rows:
        commands = re.findall(r"`([^`]+)`", proof)
        assert commands or (page.stem == "breach-procedure" and proof in {"paper", "", "below", "[form]"}), statement
        for command in commands:
            assert is_there(command), f"{page.name}: {statement}: {command}"


def is_there(command: str) -> bool:
    words = command.split()
    if words[:2] == ["python", "-m"]:
        return find_spec(words[2]) is not None
    if words[0] != "vidfed":
        return words[0].startswith("-") or words[0] == "evidence"
    found: click.Command | None = root
    for word in words[1:]:
        if word.startswith("-"):
            return found is not None and any(word in parameter.opts for parameter in found.params)
        if not isinstance(found, click.Group):
            return False
        found = found.get_command(click.Context(found), word)
        if found is None:
            return False
    return not isinstance(found, click.Group) or found.invoke_without_command
