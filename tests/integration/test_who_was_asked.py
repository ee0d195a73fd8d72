"""Whom a lookup did not ask, what it did not ask about, and from when its answers are: in the last line, every file and the exit status."""

from __future__ import annotations

import asyncio
import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.federation.bulk.result_files import ANNOTATION
from vidfed.federation.cli.lookup import lookup
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.closing import Limit, Verdict
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Item, Justification
from vidfed.index import Algorithm
from vidfed.index.hashing import workers
from vidfed.index.hashing.results import FileHashes, Note, Reason
from vidfed.index.hashing.workers import hash_files
from vidfed.security.trust.metadata_rules import Standing
from vidfed.synthetic.pictures import picture
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from click.testing import Result

    from vidfed.index.hashing.results import HashingResult
    from vidfed.security.member.kit import Kit

ITEMS = [Item("a.jpg", {Algorithm.SHA256: (bytes(32),)})]
WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
REASONS = ["--case", "T-1", "--purpose", "identification", "--legal-basis", "test law"]


@pytest.fixture
async def with_newcomer(tmp_path: Path) -> AsyncIterator[SocketFederation]:
    """Three members, of whom `se` is still in quarantine."""
    async with SocketFederation(tmp_path, "nl", "fr", "se") as made:
        await made.start_honest("nl", "fr", "se")
        made.administrators.sign_and_publish(made.administrators.folder.propose_standing("se", Standing.QUARANTINE))
        yield made


async def run(kit: Kit, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, lookup, [*arguments, "--kit", str(kit.folder), *REASONS])


def last_line(ran: Result) -> str:
    return " ".join(ran.output.split("COMPLETE", maxsplit=1)[1].split()) if "COMPLETE" in ran.output else ""


def case_folder(folder: Path) -> Path:
    """Return a folder with a picture, a plain one, an animation that is longer than is hashed, and a file without bytes."""
    folder.mkdir()
    picture(1).save(folder / "scene.png")
    Image.new("RGB", (200, 200), (90, 90, 90)).save(folder / "wall.png")
    (folder / "empty.jpg").touch()
    return folder


def member_is_named(document: dict[str, object], member: str) -> bool:
    nodes = document["nodes"]
    assert isinstance(nodes, list)
    return any((node["member"], node["outcome"], node["detail"]) == (member, "NOT_ASKED", "in quarantine") for node in nodes)


# --- members ---


async def test_member_left_out_makes_the_result_incomplete_by_name(with_newcomer: SocketFederation) -> None:
    kit = await with_newcomer.start_gateway("nl")
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        result = await client.ask(ITEMS, WHY)
        again = await client.resume(result.lookup)
    for said in (result, again):
        assert [(node.member, node.outcome, node.detail) for node in said.not_asked] == [("se", Outcome.NOT_ASKED, "in quarantine")]
        assert said.closing.verdict is Verdict.INCOMPLETE
    ran = await run(kit, "--hash", f"sha256:{'ab' * 32}")
    assert ran.exit_code == 3
    assert "left out 1 (se: in quarantine)" in " ".join(ran.output.split())
    as_json = await run(kit, "--hash", f"sha256:{'ab' * 32}", "--json")
    document = json.loads(as_json.stdout)
    assert (document["complete"], document["nodes_left_out"]) == (False, ["se"])
    assert member_is_named(document, "se")


async def test_a_member_left_out_is_named_in_every_file_of_a_case(with_newcomer: SocketFederation, tmp_path: Path) -> None:
    kit = await with_newcomer.start_gateway("nl")
    ran = await run(kit, "--hash", f"sha256:{'ab' * 32}", "--out", str(tmp_path / "out"))
    assert ran.exit_code == 3
    assert "left out 1 (se: in quarantine)" in ran.output.splitlines()[-1]
    assert json.loads((tmp_path / "out/result.json").read_text())["nodes_left_out"] == ["se"]
    assert "se: in quarantine" in (tmp_path / "out/report.html").read_text()


async def test_bulk_of_nobody_is_not_complete(federation: SocketFederation, tmp_path: Path) -> None:
    kit = await federation.start_gateway("nl")
    for member in ("nl", "fr"):
        federation.administrators.sign_and_publish(federation.administrators.folder.propose_standing(member, Standing.QUARANTINE))
    ran = await run(kit, "--hash", f"sha256:{'ab' * 32}", "--out", str(tmp_path / "out"))
    assert ran.exit_code == 3
    assert ran.output.splitlines()[-1].startswith("INCOMPLETE; nobody was asked; left out 2 (fr: in quarantine, nl: in quarantine)")
    document = json.loads((tmp_path / "out/result.json").read_text())
    assert (document["complete"], document["unseen"], document["open"]) == (False, 0, 1)
    assert document["items"][0]["status"] == "open", "nobody said that it does not know it"


async def test_who_asks_some_members_is_told_which_were_not(federation: SocketFederation, tmp_path: Path) -> None:
    kit = await federation.start_gateway("nl")
    one = await run(kit, "--hash", f"sha256:{'ab' * 32}", "--ask", "fr", "--json")
    document = json.loads(one.stdout)
    assert (one.exit_code, document["complete"], document["limits"]) == (5, False, ["members-chosen"])
    assert document["nodes_not_chosen"] == ["nl"]
    many = await run(kit, "--hash", f"sha256:{'ab' * 32}", "--ask", "fr", "--out", str(tmp_path / "out"))
    assert many.exit_code == 5
    assert "only fr was asked; 1 member was not (nl)" in many.output.splitlines()[-1]
    assert "only fr was asked" in (tmp_path / "out/report.html").read_text()


async def test_a_client_with_an_old_directory_is_told_by_the_answers(federation: SocketFederation) -> None:
    """Its gateway keeps it, too, on the old one: what members there are by now it cannot know."""
    await federation.start_node("fr", ScriptedNode(federation.honest("fr", directory_version=1_000)))
    async with FederationClient(await federation.start_gateway("nl")) as client:
        await client.refresh_directory()
        result = await client.ask(ITEMS, WHY)
    assert (result.closing.newer, result.complete) == (("fr",), False)
    assert "fr answered by a newer trust directory" in result.closing.line


async def test_an_honest_node_names_the_directory_by_which_it_answers(federation: SocketFederation) -> None:
    version = federation.administrators.directory().version
    await federation.start_node("fr", ScriptedNode(federation.honest("fr", directory_version=version)))
    async with FederationClient(await federation.start_gateway("nl")) as client:
        await client.refresh_directory()
        result = await client.ask(ITEMS, WHY)
    assert (result.closing.newer, result.complete) == ((), True)


# --- what was asked, and when it was answered ---


async def test_plain_pictures_are_told_in_every_result_file(federation: SocketFederation, tmp_path: Path) -> None:
    folder, out = case_folder(tmp_path / "case"), tmp_path / "out"
    ran = await run(await federation.start_gateway("nl"), str(folder), "--out", str(out))
    assert ran.exit_code == 5
    assert ran.output.splitlines()[-1].startswith("COMPLETE for 2 of 3 files; 1 not asked; ")
    assert "1 of 2 files by exact copies only" in ran.output.splitlines()[-1]
    plain = str(folder / "wall.png")

    document = json.loads((out / "result.json").read_text())
    (entry,) = (each for each in document["items"] if each["label"] == plain)
    assert (document["complete"], document["limits"]) == (False, ["not-asked", "exact-only"])
    assert (entry["asked_by"], entry["shortfalls"]) == ("exact copies only", ["exact-only"])
    assert [each["label"] for each in document["not_asked"]] == [str(folder / "empty.jpg")]

    rows = {row["label"]: row for row in csv.DictReader((out / "result.csv").read_text().splitlines())}
    assert (rows[plain]["asked_by"], bool(rows[plain]["notes"])) == ("exact copies only", True)
    assert rows[str(folder / "empty.jpg")]["status"] == "not asked"

    media = json.loads((out / "annotated.vics.json").read_text())["value"]
    (annotated,) = (each for each in media if each["MediaFiles"][0]["FileName"] == plain)
    assert annotated[ANNOTATION]["AskedBy"] == "exact copies only"
    assert annotated[ANNOTATION]["Notes"]

    report = (out / "report.html").read_text()
    assert "COMPLETE for 2 of 3 files" in report
    assert f"<bdi>{plain}</bdi>" in report
    assert f"<bdi>{folder / 'empty.jpg'}</bdi>" in report

    lists = {name: list(csv.DictReader((out / name).read_text().splitlines())) for name in ("unseen.csv", "unseen-in-part.csv")}
    assert [len(rows) for rows in lists.values()] == [1, 1], "what was asked by exact copies only is no list of what nobody knows"


async def test_any_quality_is_part_of_the_question(federation: SocketFederation, tmp_path: Path) -> None:
    kit = await federation.start_gateway("nl")
    folder, out = case_folder(tmp_path / "case"), str(tmp_path / "out")
    await run(kit, str(folder), "--out", out)
    ran = await run(kit, str(folder), "--out", out, "--any-quality")
    assert ran.exit_code == 1
    assert "holds the results of another question (another any quality)" in " ".join(ran.output.split())


async def test_second_run_says_when_it_was_answered(federation: SocketFederation, tmp_path: Path) -> None:
    kit = await federation.start_gateway("nl")
    arguments = ["--hash", f"sha256:{'ab' * 32}", "--out", str(tmp_path / "out")]
    first = await run(kit, *arguments)
    assert (first.exit_code, "answered on" in first.output) == (0, False)
    for member in ("nl", "fr"):
        await federation.start_node(member, ScriptedNode(federation.honest(member, answered_ms=0)))  # nobody would be believed now
    await asyncio.sleep(0.002)
    second = await run(kit, *arguments)
    assert second.exit_code == 5
    assert "; answered on 20" in second.output.splitlines()[-1] or "; answered from 20" in second.output.splitlines()[-1]
    document = json.loads((tmp_path / "out/result.json").read_text())
    assert (document["complete"], document["limits"]) == (False, [Limit.EARLIER.value])
    assert document["answered_from_ms"] <= document["answered_to_ms"]
    report = (tmp_path / "out/report.html").read_text()
    assert "answered on 20" in report or "answered from 20" in report


async def test_further_frames_are_noted(federation: SocketFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "case", tmp_path / "out"
    folder.mkdir()
    picture(1).save(folder / "long.png")

    def cut(*arguments: Any, **options: Any) -> Iterator[HashingResult]:  # noqa: ANN401 - whatever the true one takes
        """Hash, and say as of an animation longer than is hashed: a true one takes a thousand frames."""
        for result in hash_files(*arguments, **options):
            assert isinstance(result, FileHashes)
            yield replace(result, notes=(Note(Reason.FRAMES_CUT, "frames 1001 to 1200 were not hashed"),))

    monkeypatch.setattr(workers, "hash_files", cut)
    ran = await run(await federation.start_gateway("nl"), str(folder), "--out", str(out))
    assert ran.exit_code == 5
    assert "1 without their further frames" in ran.output.splitlines()[-1]
    document = json.loads((out / "result.json").read_text())
    assert document["limits"] == ["frames-cut"]
    assert document["items"][0]["asked_by"] == "exact and near copies without further frames"
    assert "not hashed" in document["items"][0]["notes"][0]
    assert "were not hashed" in (out / "report.html").read_text()
    (row,) = csv.DictReader((out / "result.csv").read_text().splitlines())
    assert row["asked_by"] == "exact and near copies without further frames"
