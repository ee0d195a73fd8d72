"""Texts by others on a terminal, in a log and in JSON."""

from __future__ import annotations

import io
import json
import logging
import unicodedata

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from vidfed.cli.printable import json_text, printable, visible, visible_lines
from vidfed.cli.terminal import console, note, print_json, reporting, say
from vidfed.security.member.logs import ConsoleFormatter, JsonFormatter

HOSTILE = "[/x]\x1b[2K\r\nwords \u202e\x9b\ud800\u2028[bold]:smile:"


def obeyed(text: str) -> list[str]:
    """Return what of a text a terminal would obey, or not show."""
    return [char for char in text if not char.isprintable()]


@given(st.text(st.characters(codec=None)))
def test_whatever_a_text_holds_one_line_that_hides_nothing_comes_out(text: str) -> None:
    for shown in (visible(text), printable(text), printable(text, 20)):
        assert obeyed(shown) == []
    assert len(printable(text, 20)) <= 20
    assert obeyed("".join(visible_lines(text).split("\n"))) == []


@given(st.text(st.characters(codec=None)))
def test_a_text_made_visible_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@given(st.text(st.characters(codec=None)))
def test_json_says_the_same_and_hides_nothing(text: str) -> None:
    written = json_text({"a": [text]}, indent=1)
    assert json.loads(written) == {"a": [text]}
    assert obeyed(written.replace("\n", "")) == []


@pytest.mark.parametrize("text", ["Straße", "Žižkov", "Łódź 7", "中央警察", "Ελλάδα", unicodedata.normalize("NFD", "ếế")])
def test_names_of_all_languages_stay_as_they_are(text: str) -> None:
    assert printable(text) == visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\x00", r"a\tb\x00"),
        ("\u200fabc", r"\u200fabc"),
        ("\u3164", r"\u3164"),
        ("a" + "\u0301" * 4, "a" + "\u0301" * 2 + r"\u0301\u0301"),
        ("\u0301a", r"\u0301a"),
        ("  a    b ", "a b"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_what_a_terminal_would_obey_is_written_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


class OwnError(Exception):
    pass


@click.command(cls=reporting(OwnError))
@click.option("--how", required=True)
def speak(how: str) -> None:
    if how == "error":
        raise OwnError(HOSTILE)
    if how == "exception":
        raise click.ClickException(HOSTILE)
    if how == "file":
        raise FileNotFoundError(2, "no", HOSTILE)
    if how == "json":
        print_json({"a": HOSTILE})
    else:
        say(HOSTILE, err=how == "note")


def test_a_note_goes_to_stderr() -> None:
    runner = CliRunner()
    with runner.isolation() as (out, err, _):
        note("a\nb")
    assert (out.getvalue(), err.getvalue()) == (b"", b"a\\nb\n")


@pytest.mark.parametrize("how", ["say", "note", "json", "error", "exception", "file"])
def test_nothing_a_command_prints_is_obeyed(how: str) -> None:
    result = CliRunner().invoke(speak, ["--how", how])
    assert isinstance(result.exception, SystemExit | None)
    lines = result.output.split("\n")
    assert len(lines) == (4 if how == "json" else 2)
    assert obeyed("".join(lines)) == []
    assert "[/x]" in result.output


def test_a_table_takes_no_text_for_markup_and_passes_on_no_control(monkeypatch: pytest.MonkeyPatch) -> None:
    made, out = console(), io.StringIO()
    monkeypatch.setattr(made, "file", out)
    table = Table()
    table.add_column("Person")
    table.add_row(HOSTILE)
    made.print(table)
    made.print(HOSTILE)
    assert obeyed(out.getvalue().replace("\n", "")) == []
    assert out.getvalue().count("[/x]") == out.getvalue().count("[bold]:smile:") == 2


@pytest.mark.parametrize("formatter", [ConsoleFormatter(), JsonFormatter(service="node")])
def test_a_line_of_the_log_is_one_line(formatter: logging.Formatter) -> None:
    record = logging.LogRecord("a", logging.WARNING, "f", 1, "refused %s", (HOSTILE,), None)
    line = formatter.format(record)
    assert obeyed(line) == []
    try:
        raise OwnError(HOSTILE)
    except OwnError as error:
        record.exc_info = (OwnError, error, error.__traceback__)
    assert obeyed(formatter.format(record).replace("\n", "")) == []
