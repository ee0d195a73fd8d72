"""The commands that the guides show do what they are shown for, on real nodes and gateways."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.units import WHY, in_this_process, look_until
from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from tests.conftest import Ran
    from tests.support.units import Units

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = "FR-3f9a01c2"
TYPED = "y\nSaid by a test.\n"


def shown_in(page: str) -> list[str]:
    """Return the commands of casework that a guide shows, in their order."""
    commands = r" {4,}vidfed (cases|requests|inbox|watch|node news|node import \S*unseen)\b"
    return [line.strip() for line in (DOCS / page).read_text().splitlines() if re.match(commands, line)]


class Guide:
    """Runs a guide's commands as one person: with the kit, the records and the files that stand in their place."""

    def __init__(self, units: Units, person: str, folder: Path) -> None:
        self.units, self.person, self.folder = units, person, folder
        self.watches: list[str] = []

    def told(self, count: int, first: int) -> list[str]:
        """Let nl-7 be told of so many more records of fr; return their references."""
        digests = [f"{number:032x}"[::-1].replace("0", "e") for number in range(first, first + count)]
        listed = self.folder / "more.csv"
        listed.write_text("md5\n" + "\n".join(digests) + "\n")
        described = ("--case", "FR-1", "--contact", "desk", "--victim-identified", "yes")
        in_this_process("node", "import", listed, *described, *self.units.home("fr"))
        asked = [part for digest in digests for part in ("--hash", f"md5:{digest}")]
        found = self.units.run("nl-7", "lookup", *asked, *WHY, "--json").json()["hits"]
        assert len(found) == count
        return [hit["reference"] for hit in found]

    def ask(self, references: list[str]) -> None:
        """Let nl-7 ask about records, and wait until fr's officers have it."""
        for reference in references:
            self.units.run("nl-7", "cases", "ask", reference, "--want", "origin", "--deputy", "nl-8", "--file", self.units.text("where?"))
        waiting = set(references)

        def came() -> bool:
            listed = self.units.run("fr-1", "requests", "list", "--json").json()["conversations"]
            return waiting <= {each["reference"] for each in listed}

        look_until(came)

    def run(self, line: str, reference: str = "", person: str = "") -> Ran:
        """Run a shown command."""
        command, _, target = line.partition(" > ")
        words = shlex.split(command.partition("  #")[0])[1:]
        places = {REFERENCE: reference, "3f9a01": self.watches[-1] if self.watches else "", "unseen/": str(self.folder / "unseen")}
        places |= {"details.toml": str(self.folder / "details.toml"), "results/unseen.csv": str(self.folder / "unseen.csv")}
        places["entry.json"] = str(self.folder / "entry.json")
        words = [places.get(word, word) for word in words]
        own: tuple[str | Path, ...] = () if words[1:2] == ["template"] else ("--kit", self.units.base / (person or self.person))
        if words[0] == "node":
            own = self.units.home("fr" if self.person == "fr" else "nl")
        typed = TYPED if words[1:2] in (["release"], ["sign"]) else TYPED.partition("\n")[2]
        ran = in_this_process(*words, *own, typed=typed)
        if target:
            (self.folder / target).write_text(ran.out)
        return ran


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "unseen").mkdir()
    return tmp_path


@pytest.mark.slow
def test_the_investigators_guide(units: Units, folder: Path) -> None:
    guide = Guide(units, "nl-7", folder)
    units.kit("nl", "nl-9")
    units.run("nl-9", "inbox")
    first, second, third = guide.told(3, 0x100)
    guide.ask([second, third])
    (folder / "unseen.csv").write_text("md5\n" + "5e" * 16 + "\n")
    picture(77).save(folder / "unseen" / "seized.png")
    lines = shown_in("investigator.md")
    assert len(lines) >= 18
    closed = False
    for line in lines:
        if line.startswith("vidfed watch stop 3f9a01"):
            guide.watches.append(units.run("nl-7", "watch", "add", folder / "unseen", *WHY, "--json").json()["began"])
        ran = guide.run(line, third if line.endswith("--file -") else second if closed else first)
        if line.startswith("vidfed watch add"):
            guide.watches.append(next(each["watch"] for each in units.run("nl-7", "watch", "list", "--json").json()["watches"]))
        closed = closed or line.startswith("vidfed cases close")
        assert ran.status == 0
    found = {each["reference"]: each for each in units.run("nl-9", "cases", "list", "--json").json()["conversations"]}
    assert found[second]["holder"] == "nl-9"


@pytest.mark.slow
def test_the_officers_guide(units: Units, folder: Path) -> None:
    guide = Guide(units, "fr-1", folder)
    answered, refused, waits, false, by_two = references = guide.told(5, 0x200)
    guide.ask(references)
    of_verb = {"refuse": refused, "wait": waits, "not-the-same": false, "sign": by_two}
    lines = shown_in("officer.md")
    assert len(lines) >= 12
    for line in lines:
        verb = line.split()[2]
        reference = by_two if "--with" in line else of_verb.get(verb, answered)
        guide.run(line, reference, "fr-2" if verb == "sign" else "")
    found = {each["reference"]: each for each in units.run("fr-1", "requests", "list", "--all", "--json").json()["conversations"]}
    assert [found[each]["phase"] for each in (answered, refused, waits, by_two)] == ["released", "refused", "waiting", "released"]
    assert found[answered]["releases"][0]["correction"] == "wrong"
    assert [match["side"] for match in found[false]["false_matches"]] == ["owner"]


@pytest.mark.slow
def test_the_units_guide_on_news(units: Units, folder: Path) -> None:
    guide = Guide(units, "fr", folder)
    (reference,) = guide.told(1, 0x300)
    lines = shown_in("national-unit.md")
    assert len(lines) >= 5
    for line in lines:
        guide.run(line, reference)
