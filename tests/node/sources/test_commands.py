"""`vidfed node source ...` from the outside, and the schedule in the service."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from tests.support.administrators import Administrators
from vidfed.node.cli.node import node
from vidfed.node.operations.doctor import examine
from vidfed.node.operations.status import read_status
from vidfed.node.sources.rounds import SourceRounds
from vidfed.node.sources.settings import read_sources
from vidfed.security.clock import system_clock
from vidfed.security.member.audit_log import open_storage
from vidfed.security.member.home import MemberHome

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(node, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def home(tmp_path: Path) -> Path:
    anchor = tmp_path / "anchor.json"
    Administrators(tmp_path / "federation", "test").anchor.save(anchor)
    run("init", tmp_path / "nl", "--member", "nl", "--name", "NL", "--contact", "desk", "--anchor", anchor, "--endpoint", "localhost:1")
    return tmp_path / "nl"


@pytest.fixture
def cases(tmp_path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(tmp_path / "cases.db", isolation_level=None)
    database.execute("CREATE TABLE media (id INTEGER PRIMARY KEY, hash TEXT, kat TEXT, opfer TEXT)")
    for number in range(1, 31):
        database.execute("INSERT INTO media VALUES (?, ?, '1', 'J')", (number, f"{number:032x}"))
    database.execute("INSERT INTO media VALUES (31, 'broken', '9', 'vielleicht')")
    return database


def add(home: Path, tmp_path: Path, *more: str) -> None:
    arguments = ["--kind", "sql", "--url", f"sqlite:///{tmp_path}/cases.db", "--table", "media", "--key", "id", "--column", "md5=hash"]
    arguments += ["--column", "category=kat", "--column", "victim_identified=opfer", "--constant", "category_scale=national"]
    arguments += ["--value", "victim_identified:J=yes", "--value", "victim_identified:N=no", *more]
    run("source", "add", "cases", *arguments, "--home", home)


def test_a_source_is_added_previewed_followed_and_removed(home: Path, tmp_path: Path, cases: sqlite3.Connection) -> None:
    before = (home / "vidfed.toml").read_text()
    add(home, tmp_path)
    previewed = run("source", "preview", "cases", "--home", home).output
    assert "1: record: md5; category_scale=national, category=1, victim_identified=yes" in previewed
    assert "would be 30 new" in previewed
    assert "1 rows passed over" in previewed
    assert f"{1:032x}" not in previewed
    followed = run("source", "sync", "cases", "--home", home).output
    assert "31 rows read, compared in full" in followed
    assert "30 new" in followed
    assert "vielleicht" not in followed
    assert "31: passed over: no usable hash" in next((home / "reports").glob("source-cases-*[0-9].txt")).read_text()
    assert "30 records as of" in run("source", "status", "--home", home).output
    cases.execute("DELETE FROM media WHERE id > 3")
    assert "would be retracted" in run("source", "sync", "cases", "--home", home, status=1).output
    assert "waits for a decision" in run("source", "status", "--home", home).output
    run("source", "sync", "cases", "--accept-losses", "--home", home)
    run("source", "remove", "cases", "--home", home, status=2)
    assert "3 records were kept" in run("source", "remove", "cases", "--keep", "--home", home).output
    assert (home / "vidfed.toml").read_text().rstrip() == before.rstrip()
    kept = json.loads(run("records", "list", "--json", "--home", home).output)["records"]
    assert len(kept) == 3


def test_retracted_with_their_source_records_come_back_with_it(home: Path, tmp_path: Path, cases: sqlite3.Connection) -> None:
    del cases
    add(home, tmp_path)
    run("source", "sync", "--home", home)
    run("source", "remove", "cases", "--retract", "--home", home)
    assert read_status(MemberHome(home)).records == 0
    add(home, tmp_path)
    assert "30 of those changed were retracted and are back" in run("source", "sync", "--home", home).output


def test_each_run_is_in_the_log_without_a_hash(home: Path, tmp_path: Path, cases: sqlite3.Connection) -> None:
    del cases
    add(home, tmp_path)
    run("source", "sync", "--home", home)
    storage = open_storage(MemberHome(home))
    entries = [entry.fields() for _, entry in storage.entries(0, storage.size())]
    (begun, done) = [each for each in entries if each["details"].get("source") == "cases"]
    assert (begun["outcome"], done["outcome"], done["details"]["new"]) == ("BEGUN", "DONE", 30)
    assert f"{1:032x}" not in json.dumps(entries)


def test_a_source_that_was_never_read_or_is_behind_is_said_everywhere(home: Path, tmp_path: Path, cases: sqlite3.Connection) -> None:
    add(home, tmp_path, "--set", "every_s=30", "--set", "late_after_s=0.001")
    status = dict(read_status(MemberHome(home)).lines())["sources"]
    assert "NEVER READ" in status
    assert "BEHIND: cases" in status
    run("source", "sync", "--home", home)
    cases.execute("DROP TABLE media")
    run("source", "sync", "cases", "--home", home, status=1)
    said = {each.point: each for each in examine(MemberHome(home)).findings}["sources"]
    assert said.state.value == "warning"
    assert "behind its schedule" in said.said
    assert "no such table" in said.said


def test_a_source_taken_out_of_the_configuration_by_hand_is_missed(home: Path, tmp_path: Path, cases: sqlite3.Connection) -> None:
    del cases
    add(home, tmp_path)
    run("source", "sync", "--home", home)
    text = (home / "vidfed.toml").read_text()
    (home / "vidfed.toml").write_text(text[: text.index("[source.cases]")])
    assert "NOT in the configuration any more" in run("source", "status", "--home", home).output


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--column", "md6=x"], "no field of a record"),
        (["--url", "postgresql://u:geheim@h/d"], "must hold no password"),
        (["--set", "every_s=1"], "every_s must be at least 30"),
        (["--set", "evry_s=60"], "has no setting 'evry_s'"),
        (["--value", "category=A"], "is not FIELD:THEIRS=OURS"),
    ],
)
def test_what_makes_no_sense_is_not_added(home: Path, more: list[str], words: str) -> None:
    before = (home / "vidfed.toml").read_text()
    usual = ["--kind", "sql", "--url", "sqlite:////x.db", "--table", "t", "--key", "id", "--column", "md5=h"]
    result = CliRunner().invoke(node, ["source", "add", "x", *usual, *more, "--home", str(home)])
    assert result.exit_code != 0
    assert words in result.output
    assert (home / "vidfed.toml").read_text() == before


def test_an_unknown_name_is_answered_with_the_known_ones(home: Path) -> None:
    assert "there are: none" in run("source", "sync", "cases", "--home", home, status=1).output


async def test_the_service_follows_what_is_due_and_nothing_twice(home: Path, tmp_path: Path, cases: sqlite3.Connection) -> None:
    del cases
    add(home, tmp_path)
    member = MemberHome(home)
    rounds = SourceRounds(member, read_sources(member))
    assert rounds.due(10**13) == ["cases"]
    await rounds._follow("cases")
    assert read_status(MemberHome(home)).records == 30
    assert rounds.due(system_clock()) == []
    assert rounds.due(system_clock() + 1_000_000) == ["cases"]


async def test_a_run_that_fails_is_tried_again_later_and_not_at_once(home: Path, tmp_path: Path) -> None:
    add(home, tmp_path)
    member = MemberHome(home)
    rounds = SourceRounds(member, read_sources(member))
    await rounds._follow("cases")
    assert rounds.due(system_clock() + 50_000) == []
    assert rounds.due(system_clock() + 70_000) == ["cases"]


def fields(*arguments: object) -> Any:  # noqa: ANN401 - a JSON document
    return json.loads(run(*arguments, "--json").stdout)


def test_json_says_the_same(home: Path, tmp_path: Path, cases: sqlite3.Connection) -> None:
    del cases
    add(home, tmp_path)
    assert len(fields("source", "preview", "cases", "--quick", "--home", home)["rows"]) == 20
    (synced,) = fields("source", "sync", "--home", home)["sources"]
    assert (synced["counts"]["new"], synced["full"]) == (30, True)
    (status,) = fields("source", "status", "--home", home)["sources"]
    assert (status["live"], status["behind"]) == (30, False)
