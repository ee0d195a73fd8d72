"""Known-good lists and sources: what is harmless becomes no record, whichever door it comes by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.node.sources.test_commands import add, cases, home, run  # noqa: F401 - fixtures
from tests.support.https import Reply, serving
from vidfed.node.intake.known_good import FOLDER, stored_lists

if TYPE_CHECKING:
    from pathlib import Path

MD5 = f"{1:032x}"


def states(home: Path) -> dict[str, str]:  # noqa: F811 - the fixture's name says what it is
    listed = json.loads(run("records", "list", "--state", "all", "--json", "--home", home).stdout)["records"]
    return {each["source_id"]: each["state"] for each in listed}


@pytest.mark.usefixtures("cases")
def test_what_is_known_good_becomes_no_record_of_a_database_and_comes_back_when_the_list_goes(home: Path, tmp_path: Path) -> None:  # noqa: F811
    add(home, tmp_path)
    run("source", "sync", "cases", "--home", home)
    assert states(home)["1"] == "live"
    (tmp_path / "good.txt").write_text(f"{MD5}\n")
    run("known-good", "add", "harmless", tmp_path / "good.txt", "--version", "1", "--home", home)
    assert "1 retracted" in run("source", "sync", "cases", "--full", "--home", home).output
    assert states(home)["1"] == "retracted"
    report = max((home / "reports").glob("source-cases-*[0-9].txt")).read_text()
    assert "1: passed over: known good: on the list harmless 1" in report
    run("known-good", "remove", "harmless", "--home", home)
    run("source", "sync", "cases", "--full", "--home", home)
    assert states(home)["1"] == "live"


def test_what_is_known_good_is_not_taken_from_a_folder(home: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "good.txt").write_text(f"{MD5}\n")
    run("known-good", "add", "harmless", tmp_path / "good.txt", "--version", "1", "--home", home)
    (tmp_path / "in").mkdir()
    lines = "\n".join(f"{number:032x}" for number in range(1, 9))
    (tmp_path / "in/list.txt").write_text(f"{lines}\n")
    run("source", "add", "drop", "--kind", "folder", "--path", tmp_path / "in", "--set", "quiet_s=0", "--home", home)
    run("source", "sync", "drop", "--home", home)
    assert len(json.loads(run("records", "list", "--state", "all", "--json", "--home", home).stdout)["records"]) == 7


def test_a_known_good_list_is_followed_by_https_and_never_replaced_by_half_of_one(home: Path, tmp_path: Path) -> None:  # noqa: F811
    def listing(count: int) -> Reply:
        rows = "".join(f"{number:032x}\n" for number in range(1, count + 1))
        return Reply(f"md5\n{rows}".encode(), headers={"Content-Type": "text/csv"})

    answers = [listing(40), listing(10), listing(10), listing(0)]
    with serving(lambda _path: answers[0], tmp_path) as server:
        (home / "ca.pem").write_text(server.ca_pem)
        arguments = [
            "--kind",
            "known-good",
            "--url",
            f"{server.url}/good.csv",
            "--key",
            "md5",
            "--column",
            "md5=md5",
            "--set",
            "ca_file=ca.pem",
        ]
        run("source", "add", "good", *arguments, "--set", "ca_file=ca.pem", "--home", home)
        assert "40 items would be known good" in run("source", "sync", "good", "--dry-run", "--home", home).output
        assert stored_lists(home / FOLDER) == []
        assert "40 items are known good" in run("source", "sync", "good", "--home", home).output
        answers.pop(0)
        assert "10 items with a digest instead of 40" in run("source", "sync", "good", "--home", home, status=1).output
        assert "40 items that become no record" in run("source", "status", "--home", home).output
        assert "in place of 40" in run("source", "sync", "good", "--accept-losses", "--home", home).output
        answers[:] = [listing(0)]
        assert "0 items" in run("source", "sync", "good", "--accept-losses", "--home", home, status=1).output
    assert [each.items for each in stored_lists(home / FOLDER)] == [10]
    assert states(home) == {}
