"""Real nodes, gateways and commands: a hit, a request, an officer's release, and the investigator who reads it."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import sqlite3
from importlib.resources import files
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tests.support.units import WHY, in_this_process, look_until, with_words
from vidfed.federation import (
    BlockingCaseworkClient,
    BlockingFederationClient,
    BlockingStandingClient,
    CaseworkClient,
    Justification,
    Kit,
    Purpose,
    StandingClient,
    cases_schema,
    find_hit,
    items_of_hashes,
    items_of_pictures,
    result_schema,
)
from vidfed.wire.casework_values import Ask, AskUrgency, Basis, Content, Detail, Withdraw

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.units import Units


DETAILS = """\
text = "Identified by her school's uniform"
legal_basis = "art. 17"
[victim]
names = "Anna-Example-Name"
nationality = "FR"
"""


@pytest.mark.slow
def test_from_a_hit_to_what_an_officer_releases(units: Units) -> None:
    assert "nl-8" in units.refused_without_deputy  # who had not made a key known
    assert "call duty-desk@fr.example" in units.refused_without_officer  # nobody at fr could read it yet
    ask = ("cases", "ask", units.reference, "--want", "victim-identity", "--deputy", "nl-8")
    written = units.run("nl-7", *ask, "--file", units.text("Secret-Facts: who is she?"), "--json").json()
    assert (written["schema"], written["kind"], written["waits_for_second_officer"]) == ("vidfed.written/1", "ask", False)

    asked = units.until("fr-1", "requests", lambda found: found["phase"] == "asked")
    assert (asked["basis"], asked["confirmed"], asked["urgency"]) == ("same-digest", True, "routine")
    shown = units.run("fr-1", "requests", "show", units.reference)
    assert "Secret-Facts: who is she?" in shown.out
    units.run("fr-1", "requests", "acknowledge", units.reference, "--file", units.text("+33 1 00"), "--json")
    units.until("nl-7", "cases", lambda found: found["phase"] == "acknowledged")

    release = ("requests", "release", units.reference, "--give", "victim-identity", "--handling", "h1", "--ground", "member-state")
    units.run("nl-8", *release, "--yes", "--file", units.text(DETAILS), status=1)
    units.run("fr-2", *release, "--yes", "--file", units.text(DETAILS))
    units.until("nl-7", "cases", lambda found: found["phase"] == "released")
    inbox = units.run("nl-8", "inbox", "--json").json()
    assert units.reference in [each["reference"] for each in inbox["conversations"]]
    for person in ("nl-7", "nl-8"):
        document = units.run(person, "cases", "show", units.reference, "--json").json()
        assert document["entries"][-1]["content"]["victim"]["names"] == "Anna-Example-Name"
    assert document["releases"][0]["handling_code"] == "h1"
    assert document["clock"]["overdue"] is False

    units.run("nl-7", "cases", "close", units.reference, "--disposition", "victim-identified", "--file", units.text("thank you"))
    units.until("nl-7", "cases", lambda found: found["phase"] == "closed")

    for member in ("nl", "fr"):
        for path in units.federation.places[member].folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not [text for text in (b"Secret-Facts", b"Anna-Example-Name", b"school's uniform") if text in content], path


@pytest.mark.slow
def test_two_units_with_one_unknown_child_find_each_other(units: Units) -> None:
    """What nobody knows becomes an open case of who asked, by the command that the lookup names; the next lookup finds it."""
    listed = units.base / "seized.csv"
    listed.write_text("md5\n" + "7" * 32 + "\n")
    asked = units.run("nl-7", "lookup", "--csv", listed, "--out", units.base / "out", *WHY)
    assert "vidfed node import unseen.csv --case CASE --contact DESK" in asked.out
    described = ["--case", "NL-OPEN-1", "--contact", "nl desk", "--victim-identified", "no"]
    home = ["--home", str(units.federation.places["nl"].folder)]
    units.federation.run(["node", "import", str(units.base / "out/unseen.csv"), *described, *home])
    (hit,) = units.run("fr-1", "lookup", "--hash", "md5:" + "7" * 32, *WHY, "--json").json()["hits"]
    assert (hit["member"], hit["case_reference"], hit["victim_identified"]) == ("nl", "NL-OPEN-1", "no")


@pytest.mark.slow
def test_watch_is_answered_by_all_and_what_is_found_can_be_asked_about(units: Units) -> None:
    known = units.base / "pictures" / "known.png"
    said = units.run("nl-8", "watch", "add", known, "--hash", "md5:" + "6c" * 16, *WHY, "--days", "5").out
    identity = re.search(r"[0-9a-f]{12}", said)
    assert identity
    found = look_until(lambda: units.run("nl-8", "watch", "hits", "--json").json()["found"])
    assert [(each["label"], each["hit"]["reference"]) for each in found] == [(str(known), units.reference)]
    listed = look_until(lambda: with_words(units.run("nl-8", "watch", "list").out, "watched until"))
    assert "by 1 of 1" in listed or "by 2 of 2" in listed
    units.run("nl-8", "cases", "ask", units.reference, "--want", "origin", "--deputy", "nl-7", "--file", units.text("from a watch"))
    renewed = units.run("nl-8", "watch", "renew", identity.group(), "--days", "6").out
    assert len(units.run("nl-8", "watch", "stop", "--case", "NL-1", "--json").json()["ended"]) == 1
    watches = units.run("nl-8", "watch", "list", "--json").json()["watches"]
    assert all(each["ended_ms"] for each in watches)
    assert renewed.startswith("Watching on for 6 days: ")


@pytest.mark.slow
def test_who_was_told_hears_that_the_record_was_taken_back(units: Units) -> None:
    home = ("--home", str(units.federation.places["fr"].folder))
    units.run("nl-8", "watch", "add", units.base / "pictures" / "known.png", *WHY)
    look_until(lambda: units.run("nl-8", "watch", "hits", "--json").json()["found"])
    units.federation.run(["node", "records", "retract", units.reference, "--reason", "wrong", *home])
    (news,) = look_until(lambda: units.run("nl-7", "inbox", "--json").json()["news"])
    assert (news["member"], news["reference"], news["changes"], news["to_be_relied_on"]) == ("fr", units.reference, ["retracted"], False)
    said = look_until(lambda: with_words(units.run("nl-8", "inbox").out, "retracted"))
    assert f"fr {units.reference}: retracted; do not rely on what you were told" in said
    hits = units.run("nl-8", "watch", "hits", "--json").json()["found"]
    assert all(each["hit"]["superseded"]["taken_back"] for each in hits)
    (hit,) = in_this_process("lookup", "--resume", units.lookup, "--kit", units.base / "nl-7", "--json").json()["hits"]
    assert (hit["superseded"]["changes"], hit["superseded"]["record"]) == (["retracted"], None)
    assert "Everybody who was told has confirmed" in in_this_process("node", "news", *home).err


@pytest.mark.slow
def test_exposure_names_what_a_member_was_told_and_what_was_written(units: Units) -> None:
    """For a compromise, and the notice within 72 hours: by the command, opened by an overseer, and logged."""
    home = units.home("fr")
    in_this_process("audit", "appoint", units.base / "dpo", "--name", "DPO FR", *home)
    listed = units.base / "exposed.csv"
    listed.write_text("md5\n" + "e4" * 16 + "\n")
    in_this_process("node", "import", listed, "--case", "FR-9", "--contact", "desk", *home)
    (hit,) = units.run("nl-7", "lookup", "--hash", "md5:" + "e4" * 16, *WHY, "--json").json()["hits"]
    reference = hit["reference"]
    units.run("nl-7", "cases", "ask", reference, "--want", "origin", "--deputy", "nl-8", "--file", units.text("Secret-Facts"))
    units.until("fr-1", "requests", lambda found: found["reference"] == reference)
    asked = ("audit", "exposure", "--member", "nl", "--since", "2020-01-01", "--as", units.base / "dpo", *home)
    found = in_this_process(*asked, "--json").json()
    told = found["told"][reference]
    assert (told["persons"], told["times"], found["member"], found["schema"]) == (["nl-7"], 1, "nl", "vidfed.exposure/1")
    assert ("ask (taken)", False, [reference]) in [(each["kind"], each["sent"], each["references"]) for each in found["casework"]]
    said = in_this_process(*asked).out
    assert f"told {reference}: 1 times" in said
    assert "Secret-Facts" not in said
    shown = in_this_process("audit", "show", "--as", units.base / "dpo", *home, "--last", "1000", "--json").json()["entries"]
    assert [each["details"]["what"] for each in shown if each["event"] == "log-read"][:1] == ["exposure"]


@pytest.mark.slow
def test_closing_the_last_conversation_of_a_case_ends_what_is_watched_for_it(units: Units) -> None:
    """Here at once; at the nodes too, which refuse the mandate from then on and keep its serial and end alone."""
    why = ("--case", "NL-CLOSES", *WHY[2:])
    listed = units.base / "closes.csv"
    listed.write_text("md5\n" + "c4" * 16 + "\n" + "c5" * 16 + "\n")
    in_this_process("node", "import", listed, "--case", "FR-9", "--contact", "desk", *units.home("fr"))
    hits = units.run("nl-7", "lookup", "--hash", "md5:" + "c4" * 16, "--hash", "md5:" + "c5" * 16, *why, "--json").json()["hits"]
    first, second = (hit["reference"] for hit in hits)
    for reference in (first, second):
        units.run("nl-7", "cases", "ask", reference, "--want", "origin", "--deputy", "nl-8", "--file", units.text("where?"))
    watch = units.run("nl-7", "watch", "add", "--hash", "md5:" + "9c" * 16, *why, "--json").json()["began"]
    elsewhere = units.run("nl-7", "watch", "add", "--hash", "md5:" + "9d" * 16, *WHY, "--json").json()["began"]
    close = ("cases", "close", "--disposition", "useful", "--file", units.text("done"))
    said = units.run("nl-7", *close, first).out
    assert "What is watched for case NL-CLOSES goes on: 1 of its conversations are open." in said
    assert units.run("nl-7", *close, second, "--json").json()["watches_ended"] == [watch]
    states = {own["watch"]: own["ended_ms"] for own in units.run("nl-7", "watch", "list", "--json").json()["watches"]}
    assert (bool(states[watch]), states[elsewhere]) == (True, None)
    path = units.federation.places["fr"].folder / "state" / "casework.db"
    kept = look_until(lambda: ended_at(path, bytes.fromhex(watch)))
    assert kept[0] == "nl"
    units.run("nl-7", "watch", "stop", elsewhere)


def ended_at(path: Path, serial: bytes) -> tuple[str, ...] | None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        found: tuple[str, ...] | None = database.execute(
            "SELECT member FROM casework_ended_mandates WHERE serial = ?", (serial,)
        ).fetchone()
        return found


def test_reference_that_no_answer_told(units: Units) -> None:
    ran = units.run("nl-7", "cases", "ask", "FR-unknown", "--want", "origin", "--deputy", "nl-8", "--file", units.text("x"), status=1)
    assert "look up again" in ran.err


def test_template_of_a_release_is_one_that_release_takes() -> None:
    import tomllib  # noqa: PLC0415

    fields = tomllib.loads(in_this_process("requests", "template").out)
    assert fields["victim"].keys() == {"names", "born", "nationality", "sex"}
    assert json.dumps(fields)


@pytest.mark.slow
def test_the_library_does_the_same_without_an_event_loop(units: Units) -> None:
    kit = Kit(units.base / "nl-7")
    items = list(items_of_hashes(["md5:" + "8d" * 16]))
    with BlockingStandingClient(kit) as standing:
        watch = standing.watch(items, Justification(Purpose.IDENTIFICATION, "test law", "NL-LIBRARY"), days=2)
        assert [own.id for own in standing.watches() if own.case_reference == "NL-LIBRARY"] == [watch]
        assert standing.stop_case("NL-LIBRARY") == [watch]
        assert standing.found() == []
    why = Justification(Purpose.IDENTIFICATION, "law", "NL-2")
    picture_items = items_of_pictures([units.base / "pictures" / "other.png"], failures={})
    with BlockingFederationClient(kit) as client:
        (hit, *_) = client.ask(picture_items, why).hits
    told = find_hit(kit, hit.record.reference)
    with BlockingCaseworkClient(kit) as casework:
        subject = (told.lookup_digest, told.answer_digest, hit.record.reference)
        identity = casework.begin(
            told.member, subject, "nl-8", Ask((Detail.ORIGIN,), AskUrgency.ROUTINE, Basis.SAME_DIGEST), Content(text="where?")
        )
        found, view = casework.find(hit.record.reference)
        assert found == identity
        assert [read.content.text for read in casework.read(view) if read.content] == ["where?"]
        casework.say(view, Withdraw(), Content(text="not needed"))
    with pytest.raises(RuntimeError, match="closed"):
        casework.conversations()


@pytest.mark.parametrize(("blocking", "asynchronous"), [(BlockingCaseworkClient, CaseworkClient), (BlockingStandingClient, StandingClient)])
def test_each_call_is_there_with_an_event_loop_and_without(blocking: type, asynchronous: type) -> None:
    calls = {name: call for name, call in inspect.getmembers(asynchronous, inspect.isfunction) if not name.startswith("_")}
    assert len(calls) >= 5
    for name, call in calls.items():
        assert list(inspect.signature(call).parameters) == list(inspect.signature(getattr(blocking, name)).parameters), name


def test_conversations_have_one_form_wherever_they_are_listed() -> None:
    listed = [cases_schema(name)["properties"]["conversations"] for name in ("cases-1", "inbox-1", "requests-1")]
    assert all(each == listed[0] for each in listed)
    hits = cases_schema("watch-hits-1")["$defs"]
    assert {name: result_schema()["$defs"][name] for name in hits} == hits


@pytest.mark.parametrize("name", sorted(path.name for path in (files("vidfed.federation.output") / "schemas").iterdir()))
def test_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(cases_schema(name.removesuffix(".schema.json")))
