"""The commands for files and records, from the outside."""

from __future__ import annotations

import json
import random
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner, Result

from tests.support.administrators import Administrators
from tests.support.disk import full_disk
from tests.support.records import code
from vidfed.index import Algorithm, Code
from vidfed.node.cli.node import node
from vidfed.node.records.known import open_store
from vidfed.node.records.record import Record
from vidfed.node.records.schema import REVISION
from vidfed.node.records.store import RecordStore
from vidfed.security.audit import Operation
from vidfed.security.audit.log import AuditLog
from vidfed.security.member.audit_log import open_storage
from vidfed.security.member.home import MemberHome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.security.audit.entries import AuditEntry

MD5 = [code(Algorithm.MD5, seed).hex() for seed in range(3)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    anchor = tmp_path / "anchor.json"
    Administrators(tmp_path / "federation", "test").anchor.save(anchor)
    folder = tmp_path / "nl"
    run("init", folder, "--member", "nl", "--name", "NL", "--contact", "desk", "--anchor", anchor, "--endpoint", "localhost:1")
    return folder


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(node, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def fields(*arguments: object, status: int = 0) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run(*arguments, "--json", status=status).stdout)
    return result


def first_reference(home: Path) -> str:
    reference: str = fields("records", "list", "--home", home)["records"][0]["reference"]
    return reference


def test_an_import_says_what_it_did_and_where_the_full_report_is(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join([*MD5, "broken"]))
    result = run("import", tmp_path / "list.txt", "--home", home, "--series", "Blue", status=1)
    assert "3 new, 0 updated, 0 unchanged, 1 skipped" in result.stdout
    (report,) = (home / "reports").iterdir()
    assert str(report) in result.stderr
    assert "entry 4: skipped: 6 characters: the length of no hash" in report.read_text()
    again = fields("import", tmp_path / "list.txt", "--home", home, "--series", "Blue", status=1)["files"][0]
    assert (again["unchanged"], again["skipped_count"]) == (3, 1)


def test_a_dry_run_leaves_the_store_as_it_was(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(MD5[0])
    assert "would be 1 new" in run("import", tmp_path / "list.txt", "--home", home, "--dry-run").stdout
    assert fields("records", "list", "--home", home)["records"] == []


def test_a_broken_file_ends_in_one_line_with_the_place(home: Path, tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text('{"value": [\n{"MD5": "')
    assert run("import", tmp_path / "set.json", "--home", home, status=1).stderr.endswith(
        "set.json: line 2, column 9: the file ends inside a value: is it truncated?\n"
    )


def test_a_record_is_shown_edited_retracted_and_erased(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(MD5))
    run("import", tmp_path / "list.txt", "--home", home, "--review", "2020-01-01")
    reference = first_reference(home)
    assert MD5[0] not in run("records", "show", reference, "--home", home).stdout
    assert MD5[0] in run("records", "show", reference, "--hashes", "--home", home).stdout
    assert "list.txt" in fields("records", "show", reference, "--home", home)["origin"]
    assert len(fields("records", "due", "--home", home)["records"]) == 3
    edited = fields("records", "edit", reference, "--victim-identified", "yes", "--clear", "review_ms", "--home", home)
    assert (edited["victim_identified"], edited["review"]) == ("yes", "")
    assert len(fields("records", "due", "--home", home)["records"]) == 2
    assert fields("records", "retract", reference, "--reason", "wrong", "--home", home)["state"] == "retracted"
    assert fields("records", "reinstate", reference, "--home", home)["state"] == "live"
    run("records", "erase", reference, "--yes", "--home", home)
    assert fields("records", "show", reference, "--home", home)["hashes"] == []


READINGS = (
    ("import", "--dry-run", "{list}"),
    ("export", "{folder}/out.csv"),
    ("backup", "{folder}/copy"),
    ("records", "list"),
    ("records", "due"),
    ("records", "show", "{reference}"),
    ("repeats", "list"),
    ("policy", "check"),
    ("policy", "explain", "--member", "fr", "--record", "{reference}"),
    ("policy", "apply", "{folder}/policy.toml", "--dry-run"),
    ("source", "preview", "lists"),
    ("source", "sync", "lists", "--dry-run"),
)
"""Commands by which an operator learns of a record, or whether there is one."""
CHANGES = {
    *("records edit", "records retract", "records reinstate", "records erase", "repeats keep", "repeats refuse", "repeats find", "restore"),
    *("adopt-store", "import", "source sync", "source add", "source remove", "news confirm", "news narrow"),
}
"""Commands that log what they change."""
NO_RECORDS = {
    *("init", "serve", "ingest", "status", "health", "doctor", "check", "migrate", "scales", "source status", "news"),
    *("request", "rotate", "submit", "passphrase", "backup-key", "known-good add", "known-good remove", "known-good list"),
}
"""Commands that tell counts of records at most; what news was sent of is casework, logged when it was sent."""


def test_every_reading_of_records_is_logged(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(MD5))
    (tmp_path / "watched").mkdir()
    run("import", tmp_path / "list.txt", "--home", home)
    run("source", "add", "lists", "--kind", "folder", "--path", tmp_path / "watched", "--home", home)
    for folder in (home, tmp_path):
        (folder / "policy.toml").write_text('[[rule]]\nname = "all"\nmembers = ["*"]\npurposes = ["identification"]\n')
    reference = first_reference(home)
    for reading in READINGS:
        arguments = [part.format(list=tmp_path / "list.txt", folder=tmp_path, reference=reference) for part in reading]
        before = len(consultations(home))
        run(*arguments, "--home", home)
        assert len(consultations(home)) > before, reading


def test_no_command_reads_records_without_having_been_looked_at() -> None:
    def names(command: click.Command, path: str) -> Iterator[str]:
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from names(inner, f"{path} {name}".strip())
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield path

    known = {" ".join(part for part in each if part.isalpha()).removesuffix(" lists").removesuffix(" fr") for each in READINGS}
    assert set(names(node, "")) - known - CHANGES - NO_RECORDS == set(), "a new command: put it where it belongs"


def consultations(home: Path) -> list[str]:
    with closing(open_storage(MemberHome(home))) as storage:
        entries = [entry.fields() for _, entry in storage.entries(0, storage.size())]
    return [entry["event"] for entry in entries if entry["operation"] == Operation.CONSULTATION.value]


def test_a_frame_that_very_many_films_share_is_looked_for_shown_and_given_back(home: Path) -> None:
    assert "no frame that more than 100 films share is new" in run("repeats", "find", "--home", home).output
    rng = random.Random(4)
    title = Code(Algorithm.PDQ, rng.randbytes(32), "second:0-1", 90)
    with open_store(MemberHome(home)) as store:
        others = [[Code(Algorithm.PDQ, rng.randbytes(32), f"second:{n}-{n + 1}", 90) for n in range(1, 5)] for _ in range(101)]
        films = (Record({Algorithm.MD5: rng.randbytes(16)}, further=(title, *own)) for own in others)
        store.upsert(films, now_ms=1)
    assert "one frame is in 101 films and is set aside from them: they are different films" in run("repeats", "find", "--home", home).stderr
    listed = run("repeats", "list", "--home", home).output
    assert "1. frame of films, set aside\n   in 101 films" in listed
    assert "set aside from 101 records" in listed
    assert "hash 1: back on 101 records" in run("repeats", "keep", "1", "--reason", "one maker", "--home", home).output


def test_lists_say_how_to_go_on(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(MD5))
    run("import", tmp_path / "list.txt", "--home", home)
    assert "--after 2" in run("records", "list", "--limit", "2", "--home", home).stderr
    assert [each["number"] for each in fields("records", "list", "--after", "2", "--home", home)["records"]] == [3]


def test_what_was_exported_can_be_imported(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(MD5))
    run("import", tmp_path / "list.txt", "--home", home)
    for name in ("out.json", "out.csv"):
        assert "3 records" in run("export", tmp_path / name, "--home", home).stdout
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert fields("import", tmp_path / name, "--home", home)["files"][0]["unchanged"] == 3
    assert "exists" in run("export", tmp_path / "out.csv", "--home", home, status=1).stderr


def test_a_backup_is_put_back(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(MD5))
    run("import", tmp_path / "list.txt", "--home", home)
    run("backup", tmp_path / "copy", "--home", home)
    run("import", "--series", "S", tmp_path / "list.txt", "--home", home)
    run("records", "erase", first_reference(home), "--yes", "--home", home)
    assert "1 records that were erased or retracted since that backup" in run("restore", tmp_path / "copy", "--home", home).stdout
    assert len(fields("records", "list", "--home", home)["records"]) == 2
    assert not fields("records", "list", "--series", "S", "--home", home)["records"]


def test_a_node_whose_store_is_gone_never_answers(home: Path, tmp_path: Path) -> None:
    """The volume with the store is not mounted: no command makes an empty one, each names the cure; so does what is put in its place."""
    (tmp_path / "list.txt").write_text("\n".join(MD5))
    run("import", tmp_path / "list.txt", "--home", home)
    run("backup", tmp_path / "copy", "--home", home)
    store = home / "store/records.db"
    store.rename(tmp_path / "away")
    commands = (("status",), ("export", tmp_path / "out.csv"), ("import", tmp_path / "list.txt"), ("records", "list"))
    for command in commands:
        assert "vidfed node restore" in run(*command, "--home", home, status=1).stderr
        assert list(store.parent.glob("records.db*")) == []
    doctor = {each["point"]: each for each in json.loads(run("doctor", "--json", "--home", home, status=1).stdout)["findings"]}
    assert doctor["records"]["state"] == "failed"
    assert "vidfed node restore" in doctor["records"]["said"]
    RecordStore(store).close()
    for command in commands:
        assert "not the record store that this node had" in run(*command, "--home", home, status=1).stderr
    run("restore", tmp_path / "copy", "--home", home)
    assert len(fields("records", "list", "--home", home)["records"]) == 3


def test_another_store_is_taken_when_an_operator_says_so(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(MD5[0])
    run("import", tmp_path / "list.txt", "--home", home)
    (home / "store/records.db").unlink()
    assert "there is no record store" in run("adopt-store", "--reason", "moved", "--home", home, status=1).stderr
    run("adopt-store", "--make", "--reason", "moved", "--home", home)
    assert fields("records", "list", "--home", home)["records"] == []


def test_a_store_needs_no_migration_twice(home: Path) -> None:
    assert f"is of form {REVISION} already" in run("migrate", "--home", home).stdout


def test_shipped_scales_are_shown_with_their_source(home: Path) -> None:
    assert "Sentencing Council" in run("scales", "--home", home).stdout


@pytest.mark.parametrize("option", [("--sharing", "everybody"), ("--review", "soon"), ("--series", "x" * 501)])
def test_a_description_that_makes_no_sense_is_refused(home: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    (tmp_path / "list.txt").write_text(MD5[0])
    run("import", tmp_path / "list.txt", *option, "--home", home, status=2)


def test_import_says_what_was_taken_in_when_the_log_is_full(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It said "Error" and nothing else, and everything had been taken in."""
    append = AuditLog.append

    def full_at_the_end(log: AuditLog, entry: AuditEntry) -> object:
        with full_disk() if entry.outcome == "DONE" else nullcontext():
            return append(log, entry)

    (tmp_path / "list.txt").write_text("\n".join(MD5))
    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append", full_at_the_end)
        ran = run("import", tmp_path / "list.txt", "--home", home, status=1)
    assert "this was done all the same (" in ran.stderr
    assert "new 3" in ran.stderr
    assert len(fields("records", "list", "--home", home)["records"]) == 3


def test_import_begins_nothing_whose_end_could_not_be_logged(home: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(MD5))
    with full_disk(1_000_000):
        ran = run("import", tmp_path / "list.txt", "--home", home, status=1)
    assert "no room for what must be logged at the end, so nothing was done" in ran.stderr
    assert fields("records", "list", "--home", home)["records"] == []
