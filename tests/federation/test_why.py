"""Why a question is asked: said, usual for the kit, or asked at the terminal; never left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from vidfed.cli.terminal import say
from vidfed.federation.cli import why
from vidfed.federation.cli.why import USUAL_FILE, why_of

if TYPE_CHECKING:
    from pathlib import Path

PURPOSES = ("identification", "prosecution")


def asked(kit: Path, typed: str = "", case: str | None = None, purpose: str | None = None) -> str:
    @click.command()
    def command() -> None:
        say("/".join(why_of(kit, case, purpose, None, PURPOSES)))

    result = CliRunner().invoke(command, input=typed)
    return result.stdout if result.exit_code == 0 else f"{result.exit_code}: {result.stderr}"


def test_what_is_usual_for_a_kit_need_not_be_said_and_what_is_said_goes_before(tmp_path: Path) -> None:
    (tmp_path / USUAL_FILE).write_text('purpose = "identification"\nlegal_basis = "Police Data Act"\n')
    assert asked(tmp_path, case="1") == "1/identification/Police Data Act\n"
    assert asked(tmp_path, case="1", purpose="prosecution") == "1/prosecution/Police Data Act\n"


def test_a_case_is_never_usual(tmp_path: Path) -> None:
    (tmp_path / USUAL_FILE).write_text('purpose = "identification"\ncase = "1"\n')
    assert "'case' is unknown; known are purpose, legal_basis" in asked(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"), [('purpose = "fun"', "must be one of"), ("purpose = 1", "must be a text"), ("purpose", USUAL_FILE)]
)
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / USUAL_FILE).write_text(text)
    assert words in asked(tmp_path, case="1")


def test_a_script_is_told_what_is_missing(tmp_path: Path) -> None:
    assert asked(tmp_path, case="1").startswith("2: ")
    assert "--legal-basis" in asked(tmp_path, case="1")


def test_a_person_is_asked_for_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why, "_is_somebody_there", lambda: True)
    assert asked(tmp_path, "2026-17\nfun\nidentification\nPolice Data Act\n") == "2026-17/identification/Police Data Act\n"
