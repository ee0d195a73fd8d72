"""Two units with real nodes and gateways, whose persons run real commands: nl asks, fr knows."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, TypeVar

import jsonschema
from click.testing import CliRunner

from tests.conftest import Ran
from tests.support.patience import PATIENCE_S
from vidfed.cli.root import root
from vidfed.federation import cases_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vidfed.synthetic.federation import LocalFederation

Found = TypeVar("Found")
"""Just below the suite's own limit, so that what never comes is said."""
WITH_SCHEMA = {"cases", "requests", "inbox", "watch", "lookup", "news", "exposure"}
"""Commands of which every output is held against its schema."""
WHY = ("--case", "NL-1", "--purpose", "identification", "--legal-basis", "test law")


def look_until(look: Callable[[], Found | None]) -> Found:
    """Look again and again, as people do, until there is something."""
    end = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)
    return found


def with_words(text: str, words: str) -> str | None:
    return text if words in text else None


class Units:
    """nl asks, fr knows; each person has a kit."""

    def __init__(self, base: Path, federation: LocalFederation) -> None:
        self.base, self.federation = base, federation
        self.reference = self.lookup = self.refused_without_deputy = self.refused_without_officer = ""

    def kit(self, member: str, pseudonym: str, *roles: str) -> None:
        self.federation.issue_kit(member, self.base / pseudonym, pseudonym, roles)

    def run(self, pseudonym: str, *arguments: str | Path, status: int = 0) -> Ran:
        """Run a command as a person."""
        return in_this_process(*arguments, "--kit", self.base / pseudonym, status=status)

    def home(self, member: str) -> tuple[str, Path]:
        return "--home", self.federation.places[member].folder

    def text(self, content: str) -> Path:
        path = self.base / "text"
        path.write_text(content)
        return path

    def until(self, pseudonym: str, command: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look until a conversation is as wanted."""

        def first() -> dict[str, Any] | None:
            return next(filter(wanted, self.run(pseudonym, command, "list", "--json").json()["conversations"]), None)

        return look_until(first)


def in_this_process(*arguments: str | Path, status: int = 0, typed: str = "") -> Ran:
    """Run a command in this process: starting one for each takes longer than all they do."""
    result = CliRunner().invoke(root, list(map(str, arguments)), prog_name="vidfed", input=typed)
    assert result.exit_code == status, result.output
    if "--json" in arguments and not status and WITH_SCHEMA & {*map(str, arguments[:2])}:
        document = json.loads(result.stdout)
        jsonschema.validate(document, cases_schema(document["schema"].removeprefix("vidfed.").replace("/", "-")))
    return Ran(result.exit_code, result.stdout, result.stderr)
