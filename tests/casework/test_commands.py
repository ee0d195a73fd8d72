"""Real nodes, gateways and commands: a hit, a request, an officer's release, and the investigator who reads it."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, TypeVar

import jsonschema
import pytest
from click.testing import CliRunner

from tests.conftest import Ran
from vidfed.cli.root import root
from vidfed.federation.output.cases import cases_schema
from vidfed.synthetic.federation import LocalFederation
from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


Found = TypeVar("Found")
PATIENCE_S = 110
"""Just below the suite's own limit, so that what never comes is said."""
WHY = ("--case", "NL-1", "--purpose", "identification", "--legal-basis", "test law")
DETAILS = """\
text = "Identified by her school's uniform"
legal_basis = "art. 17"
[victim]
names = "Anna-Example-Name"
nationality = "FR"
"""


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

    def __init__(self, base: Path, federation: LocalFederation, vidfed: Callable[..., Ran]) -> None:
        self.base, self.federation, self.vidfed = base, federation, vidfed
        self.reference = self.lookup = self.refused_without_deputy = self.refused_without_officer = ""

    def kit(self, member: str, pseudonym: str, *roles: str) -> None:
        place = self.federation.places[member]
        options = ["--home", str(place.folder), "--gateway", place.gateway_address, "--no-passphrase", "--pseudonym", pseudonym]
        for role in roles:
            options += ["--role", role]
        self.federation.run(["trust", "issue-investigator", str(self.base / pseudonym), *options])

    def run(self, pseudonym: str, *arguments: str | Path, status: int = 0) -> Ran:
        """Run a command in this process: starting one for each takes longer than all they do."""
        result = CliRunner().invoke(root, [*map(str, arguments), "--kit", str(self.base / pseudonym)], prog_name="vidfed")
        assert result.exit_code == status, result.output
        return Ran(result.exit_code, result.stdout, result.stderr)

    def text(self, content: str) -> Path:
        path = self.base / "text"
        path.write_text(content)
        return path

    def until(self, pseudonym: str, command: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look until a conversation is as wanted."""

        def first() -> dict[str, Any] | None:
            return next(filter(wanted, self.run(pseudonym, command, "list", "--json").json()["conversations"]), None)

        return look_until(first)


@pytest.fixture(scope="module")
def units(
    tmp_path_factory: pytest.TempPathFactory, vidfed: Callable[..., Ran], run: Callable[[Sequence[str | Path]], Ran]
) -> Iterator[Units]:
    base = tmp_path_factory.mktemp("casework")
    with LocalFederation(base, run) as federation:
        federation.create({"nl": "Unit NL", "fr": "Unit FR"})
        pictures = base / "pictures"
        pictures.mkdir()
        picture(1).save(pictures / "known.png")
        run(["node", "ingest", str(pictures), "--home", str(federation.places["fr"].folder)])
        made = Units(base, federation, vidfed)
        for member, pseudonym, *roles in (
            ("nl", "nl-7"),
            ("nl", "nl-8"),
            ("fr", "fr-1", "release-officer"),
            ("fr", "fr-2", "release-officer"),
        ):
            made.kit(member, pseudonym, *roles)
        federation.start("nl", "fr", service="unit")
        document = vidfed("lookup", pictures / "known.png", "--kit", base / "nl-7", *WHY, "--json").json()
        made.reference, made.lookup = document["hits"][0]["reference"], document["lookup"]
        ask = ("cases", "ask", made.reference, "--want", "victim-identity", "--deputy", "nl-8", "--file", made.text("who is she?"))
        made.refused_without_deputy = made.run("nl-7", *ask, status=1).err
        made.run("nl-8", "inbox")
        made.refused_without_officer = made.run("nl-7", *ask, status=1).err
        for officer in ("fr-1", "fr-2"):
            made.run(officer, "inbox")
        yield made


@pytest.mark.slow
def test_from_a_hit_to_what_an_officer_releases(units: Units) -> None:
    assert "nl-8" in units.refused_without_deputy  # who had not made a key known
    assert "call duty-desk@fr.example" in units.refused_without_officer  # nobody at fr could read it yet
    ask = ("cases", "ask", units.reference, "--want", "victim-identity", "--deputy", "nl-8")
    units.run("nl-7", *ask, "--file", units.text("Secret-Facts: who is she?"))

    asked = units.until("fr-1", "requests", lambda found: found["phase"] == "asked")
    assert (asked["basis"], asked["confirmed"], asked["urgency"]) == ("same-digest", True, "routine")
    shown = units.run("fr-1", "requests", "show", units.reference)
    assert "Secret-Facts: who is she?" in shown.out
    units.run("fr-1", "requests", "acknowledge", units.reference, "--file", units.text("+33 1 00"))
    units.until("nl-7", "cases", lambda found: found["phase"] == "acknowledged")

    release = ("requests", "release", units.reference, "--give", "victim-identity", "--handling", "h1", "--ground", "member-state")
    units.run("nl-8", *release, "--yes", "--file", units.text(DETAILS), status=1)
    units.run("fr-2", *release, "--yes", "--file", units.text(DETAILS))
    units.until("nl-7", "cases", lambda found: found["phase"] == "released")
    assert units.reference in units.run("nl-8", "inbox").out
    for person in ("nl-7", "nl-8"):
        document = units.run(person, "cases", "show", units.reference, "--json").json()
        assert document["entries"][-1]["content"]["victim"]["names"] == "Anna-Example-Name"
        jsonschema.validate(document, cases_schema("case-1"))
    assert document["releases"][0]["handling_code"] == "h1"
    assert document["clock"]["overdue"] is False

    units.run("nl-7", "cases", "close", units.reference, "--disposition", "victim-identified", "--file", units.text("thank you"))
    closed = units.until("nl-7", "cases", lambda found: found["phase"] == "closed")
    jsonschema.validate({"schema": "vidfed.cases/1", "conversations": [closed], "problems": []}, cases_schema("cases-1"))

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
    assert "1 stopped" in units.run("nl-8", "watch", "stop", "--case", "NL-1").out
    watches = units.run("nl-8", "watch", "list", "--json").json()["watches"]
    assert all(each["ended_ms"] for each in watches)
    assert renewed.startswith("Watching on for 6 days: ")


@pytest.mark.slow
def test_who_was_told_hears_that_the_record_was_taken_back(units: Units) -> None:
    home = ("--home", str(units.federation.places["fr"].folder))
    units.federation.run(["node", "records", "retract", units.reference, "--reason", "wrong", *home])
    said = look_until(lambda: with_words(units.run("nl-7", "inbox").out, "retracted"))
    assert f"fr {units.reference}: retracted; do not rely on what you were told" in said
    (hit,) = units.vidfed("lookup", "--resume", units.lookup, "--kit", units.base / "nl-7", "--json").json()["hits"]
    assert (hit["superseded"]["changes"], hit["superseded"]["record"]) == (["retracted"], None)
    assert "Everybody who was told has confirmed" in units.vidfed("node", "news", *home).err


def test_reference_that_no_answer_told(units: Units) -> None:
    ran = units.run("nl-7", "cases", "ask", "FR-unknown", "--want", "origin", "--deputy", "nl-8", "--file", units.text("x"), status=1)
    assert "look up again" in ran.err


def test_template_of_a_release_is_one_that_release_takes(units: Units) -> None:
    import tomllib  # noqa: PLC0415

    fields = tomllib.loads(units.vidfed("requests", "template").out)
    assert fields["victim"].keys() == {"names", "born", "nationality", "sex"}
    assert json.dumps(fields)
