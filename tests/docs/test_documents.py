"""Every command shown in a document works, and shows what the document says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.console import Shell, plain, steps_of

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
WITH_COMMANDS = [document for document in DOCUMENTS if steps_of(document)]
LONG = frozenset({"administrator.md", "import-export.md", "national-unit.md", "oversight.md", "recovery.md"})
"""Guides on real servers that take about a minute each; first-federation.md and investigator.md walk the same path."""


@pytest.mark.parametrize(
    "document",
    [pytest.param(path, marks=pytest.mark.exhaustive) if path.name in LONG else path for path in WITH_COMMANDS],
    ids=lambda path: path.name,
)
def test_every_command_shown_prints_what_is_shown(document: Path, tmp_path: Path) -> None:
    with Shell(tmp_path) as shell:
        for step in steps_of(document):
            printed = [plain(line) for line in shell.run(step)]
            missing = [line for line in step.shown if plain(line) not in printed]
            assert not missing, f"{document.name}:{step.line}: $ {step.command}\nprinted\n" + "\n".join(printed)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_the_way_to_a_first_federation_is_run() -> None:
    assert ROOT / "docs/first-federation.md" in WITH_COMMANDS
