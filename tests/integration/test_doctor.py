"""`vidfed node doctor` on a real member: well while all is well, and each thing that breaks is named with what to do."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from vidfed.node.cli.node import node
from vidfed.node.operations.doctor import examine
from vidfed.node.operations.status import read_status
from vidfed.security.member.home import MemberHome
from vidfed.synthetic.federation import LocalFederation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Ran


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, run: Callable[[Sequence[str | Path]], Ran]) -> Iterator[LocalFederation]:
    base = tmp_path_factory.mktemp("doctor")
    with LocalFederation(base, run) as made:
        made.create({"nl": "Unit NL", "fr": "Unit FR"})
        (base / "hashes.csv").write_text("md5,series\n" + "5d" * 16 + ",Tulip\n")
        run(["node", "import", str(base / "hashes.csv"), "--home", str(made.places["nl"].folder)])
        made.issue_kit("nl", base / "kit")
        made.start("nl")
        home = MemberHome(made.places["nl"].folder)
        for _ in range(2_000):  # it answers, refusing, while its index still catches up
            status = read_status(home)
            if status.index_version == status.store_version:
                break
        yield made


@pytest.fixture
def home(federation: LocalFederation) -> Path:
    return federation.places["nl"].folder


def found(home: Path) -> dict[str, tuple[str, str]]:
    """Each point with how it stands and what is said."""
    return {each.point: (each.state.value, each.said) for each in examine(MemberHome(home)).findings}


def test_a_node_that_is_well_passes_and_a_peer_that_is_not_there_is_a_warning(home: Path) -> None:
    said = found(home)
    assert said.pop("node fr")[0] == said.pop("gateway")[0] == "warning"
    assert said.pop("witnesses")[0] == "warning"  # fr's node, the only other one, does not run
    assert said.pop("requests")[0] == "warning"  # no officer has a kit yet
    assert said.pop("duty")[0] == "warning"  # nor is there a rota
    assert [(point, *told) for point, told in said.items() if told[0] != "ok"] == []
    assert said.keys() > {"node nl", "records", "index", "policy", "audit log", "kits", "directory age", "clock", "ca", "state"}


def test_it_says_when_nobody_is_on_duty(home: Path) -> None:
    path, config = home / "duty.toml", home / "vidfed.toml"
    usual = config.read_text()
    days = '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]'
    always = f'[[shift]]\nmail = ["duty@nl.example"]\ndays = {days}\nfrom = "00:00"\nto = "00:00"\n'
    seen = [found(home)["duty"]]
    try:
        for rota in ('[[escalation]]\npeople = ["nl-1"]\nafter_minutes = 5\nlife_at_risk_minutes = 1\n', always):
            path.write_text(rota)
            seen.append(found(home)["duty"])
        config.write_text(
            usual.replace('mail_host = ""', 'mail_host = "localhost"').replace('mail_from = ""', 'mail_from = "vidfed@nl.example"')
        )
        for rota in (always, always.replace("mail", 'people = ["nl-9"]\nmail'), "[[shift]]\n"):
            path.write_text(rota)
            seen.append(found(home)["duty"])
    finally:
        path.unlink()
        config.write_text(usual)
    assert [state for state, _ in seen] == ["warning", "warning", "warning", "ok", "warning", "failed"]
    for words, (_, said) in zip(
        ("is not there", "no shift for this moment", "nothing calls anybody", "on duty", "names nl-9", "lacks 'days'"), seen, strict=True
    ):
        assert words in said


def test_the_command_prints_the_same_and_ends_with_its_status(home: Path) -> None:
    well = CliRunner().invoke(node, ["doctor", "--home", str(home), "--json"])
    assert well.exit_code == 0
    document = json.loads(well.stdout)
    assert (document["schema"], document["passed"], document["member"]) == ("vidfed.node-doctor/1", True, "nl")
    key = home / "keys/signing.key"
    key.chmod(0o644)
    try:
        ill = CliRunner().invoke(node, ["doctor", "--home", str(home)])
    finally:
        key.chmod(0o600)
    assert ill.exit_code == 1
    assert f"failed   permissions   {key} is open to others: chmod go= {key}" in ill.stdout
    assert ill.stdout.splitlines()[-1].startswith("NOT PASSED")


def test_a_wrong_policy_fails_and_an_empty_one_or_a_typo_is_a_warning(home: Path) -> None:
    path = home / "policy.toml"
    right = path.read_text()
    try:
        for text, state, said in (
            (right.replace("purposes", "porpoises"), "failed", "has no setting 'porpoises'"),
            ("", "warning", "nobody is answered"),
            (right + '\nwithheld_series = ["Tulpi"]\n', "warning", "no record is of the series 'tulpi'"),
        ):
            path.write_text(text)
            stands, sentence = found(home)["policy"]
            assert stands == state
            assert said in sentence
    finally:
        path.write_text(right)


def test_a_damaged_file_and_a_log_that_was_truncated_are_named(home: Path, federation: LocalFederation, tmp_path: Path) -> None:
    federation.stop("nl")
    shutil.copytree(home, tmp_path / "nl")
    replay = tmp_path / "nl/state/replay.db"
    replay.write_bytes(b"no database" * 1_000)
    with contextlib.closing(sqlite3.connect(tmp_path / "nl/state/audit.db")) as database, database:
        database.execute("DELETE FROM entries WHERE position > 0")
    said = found(tmp_path / "nl")
    federation.start("nl")
    assert said["state"][0] == said["audit log"][0] == "failed"
    assert str(replay) in said["state"][1]
    assert "vidfed audit verify" in said["audit log"][1]
    assert said["node"] == ("warning", f"does not run: vidfed node serve --home {tmp_path / 'nl'}")
    assert said["node nl"][0] == "failed"


def closed_copy(home: Path, folder: Path) -> Path:
    """Return a copy of a member's folder whose keys are closed."""
    copy = shutil.copytree(home, folder / "nl")
    MemberHome(copy).keys.close(b"four words drawn by lot")
    return copy


def test_closed_keys_are_told_once_and_not_by_every_point_that_needs_one(home: Path, tmp_path: Path) -> None:
    said = found(closed_copy(home, tmp_path))
    assert [point for point, (_, text) in said.items() if "VIDFED_PASSPHRASE_FILE" in text] == ["keys"]
    assert said["tls"][1].endswith("as for 'keys' above")


def test_starting_with_closed_keys_says_what_is_missing_and_nothing_else(home: Path, tmp_path: Path, vidfed: Callable[..., Ran]) -> None:
    copy = closed_copy(home, tmp_path)
    for service in ("node", "gateway"):
        ran = vidfed(service, "serve", "--home", copy)
        assert ran.status == 1
        assert "Traceback" not in ran.err
        assert ran.err.splitlines()[-1].startswith("Error: ")
        assert "VIDFED_PASSPHRASE_FILE" in ran.err


def test_a_node_whose_certificate_is_damaged_makes_a_new_one_and_starts(home: Path, federation: LocalFederation) -> None:
    federation.stop("nl")
    key = home / "keys/node.key"
    key.write_bytes(key.read_bytes()[:-200])
    federation.start("nl")
    assert found(home)["node nl"][0] == "ok"
    assert "making a new one" in (home / "node.log").read_text()
