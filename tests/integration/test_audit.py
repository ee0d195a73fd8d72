"""Two real nodes, a gateway, and a forger who owns one of them: the audit log end to end."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from vidfed.node.serving.witnessing import Witnessing
from vidfed.security.audit.changes import Seen
from vidfed.security.audit.entries import commit
from vidfed.security.audit.storage.group_commit import PendingWrite
from vidfed.security.clock import system_clock
from vidfed.security.member.audit_log import open_log, open_storage, open_witness
from vidfed.security.member.home import MemberHome
from vidfed.synthetic.federation import LocalFederation
from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Ran

WHY = ("--case", "SECRET-CASE-7", "--purpose", "identification", "--legal-basis", "test law")


class World:
    """nl asks, fr answers; `vidfed` runs a command."""

    def __init__(self, base: Path, federation: LocalFederation, vidfed: Callable[..., Ran]) -> None:
        self.base = base
        self.federation = federation
        self.vidfed = vidfed
        self.kit = base / "kit"

    def home(self, member: str) -> MemberHome:
        return MemberHome(self.base / member)

    def audit(self, command: str, member: str, *arguments: str | Path) -> Ran:
        return self.vidfed("audit", command, *arguments, "--home", self.base / member)

    def look_up(self) -> Ran:
        return self.vidfed("lookup", self.base / "known.png", "--kit", self.kit, *WHY)

    def make_round(self, member: str) -> None:
        """Do now what the node does every minute."""
        home = self.home(member)
        with closing(open_log(home)) as log, closing(open_witness(home)) as witness:
            seen = Seen(home.state_file("seen.json"), member, log, system_clock)
            asyncio.run(Witnessing(member, log, witness, home.directory_source(), home.node_tls, seen).round())


@pytest.fixture(scope="module")
def world(
    vidfed: Callable[..., Ran], run: Callable[[Sequence[str | Path]], Ran], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    base = tmp_path_factory.mktemp("audited")
    picture(1).save(base / "known.png")
    with LocalFederation(base, run) as federation:
        federation.create({"nl": "NL", "fr": "FR"})
        run(["node", "ingest", str(base / "known.png"), "--home", str(base / "fr")])
        federation.issue_kit("nl", base / "kit")
        federation.start("nl", "fr")
        federation.start("nl", service="gateway")
        world = World(base, federation, vidfed)
        for member in ("nl", "fr"):
            ran = world.audit("appoint", member, base / f"dpo-{member}", "--name", f"DPO {member}")
            assert ran.status == 0, ran.err
        ran = world.look_up()
        assert ran.status == 0, ran.out + ran.err
        for member in ("nl", "fr"):
            world.make_round(member)
        yield world


def test_every_answer_leaves_a_receipt_that_the_nodes_bear_out(world: World) -> None:
    ran = world.vidfed("audit", "check-receipt", "--kit", world.kit)
    assert ran.status == 0, ran.out
    assert "of fr says the same" in ran.out
    assert "of nl says the same" in ran.out


def test_a_single_receipt_is_handed_on_as_a_file_that_anybody_checks(world: World, tmp_path: Path) -> None:
    names = [line.split()[1].rstrip(":") for line in world.vidfed("audit", "check-receipt", "--kit", world.kit).out.splitlines()]
    of_fr = next(name for name in names if name.endswith("-fr"))
    ran = world.vidfed("audit", "export-receipts", of_fr, "--to", tmp_path / "handed-on", "--kit", world.kit)
    assert (ran.status, ran.out) == (0, f"Wrote 1 receipts to {tmp_path / 'handed-on'}.\n")
    world.federation.issue_kit("nl", tmp_path / "kit-of-another")
    ran = world.vidfed("audit", "check-receipt", tmp_path / f"handed-on/{of_fr}.json", "--kit", tmp_path / "kit-of-another")
    assert ran.out.startswith(f"proven     {of_fr}: entry "), ran.err
    ran = world.vidfed("audit", "export-receipts", "of-nobody", "--to", tmp_path / "none", "--kit", world.kit)
    assert (ran.status, ran.out) == (1, "")
    assert "no receipt 'of-nobody'" in ran.err


def test_a_node_that_cannot_be_asked_for_its_proof_is_named_and_not_the_gateway(world: World) -> None:
    world.federation.stop("fr")
    try:
        ran = world.vidfed("audit", "check-receipt", "--kit", world.kit)
    finally:
        world.federation.start("fr")
    assert ran.status == 3
    (of_fr,) = {line.partition(": ")[2] for line in ran.out.splitlines() if line.startswith("not asked")}
    assert "fr: no connection to" in of_fr
    assert "cannot be reached: is it running" not in ran.out
    assert "of nl says the same" in ran.out


def test_each_has_the_others_log_cosigned(world: World) -> None:
    ran = world.audit("witnesses", "nl", "--json")
    assert ran.status == 0
    assert (set(ran.json()["cosigned_by"]), set(ran.json()["cosigned_of"]), ran.json()["evidence"]) == ({"fr"}, {"fr"}, [])


def test_the_logs_verify_against_what_the_other_holds_and_agree(world: World) -> None:
    for member, other in (("nl", "fr"), ("fr", "nl")):
        ran = world.audit("verify", member, "--ask")
        assert ran.status == 0, ran.out
        assert f"{other}, asked now" in ran.out
        exported = world.base / f"{member}.export"
        ran = world.audit("export", member, exported, "--as", world.base / f"dpo-{member}")
        assert ran.status == 0, ran.err
        ran = world.vidfed("audit", "verify", exported, cwd=world.base)
        assert ran.status == 0, ran.out
    ran = world.vidfed("audit", "compare", world.base / "nl.export", world.base / "fr.export")
    assert ran.status == 0, ran.out
    assert "The logs agree." in ran.out


def test_the_log_says_who_was_told_what_and_not_for_which_case(world: World) -> None:
    ran = world.audit("show", "fr", "--as", world.base / "dpo-fr", "--json")
    told = [entry for entry in ran.json()["entries"] if entry["event"] == "lookup-answered"][-1]
    assert (told["member"], told["operation"], told["purpose"], len(told["records"])) == ("nl", "disclosure", "identification", 1)
    assert "SECRET-CASE-7" not in ran.out
    for member in ("nl", "fr"):
        assert not [path for path in (world.base / member / "state").rglob("*.*") if b"SECRET-CASE-7" in path.read_bytes()]


def test_imports_policy_trust_and_readings_are_logged(world: World) -> None:
    world.audit("show", "fr", "--as", world.base / "dpo-fr")
    shown = world.audit("show", "fr", "--as", world.base / "dpo-fr", "--json", "--last", "1000").json()["entries"]
    assert {entry["event"] for entry in shown} >= {"records-added", "policy-changed", "trust-changed", "oversight-appointed", "log-read"}


def test_what_the_operator_does_is_logged(world: World) -> None:
    home = ("--home", world.base / "fr")
    kit = world.vidfed("trust", "issue-investigator", world.base / "kit-fr", *home, "--gateway", "localhost:1", "--no-passphrase")
    assert kit.status == 0, kit.err
    serial = world.vidfed("trust", "investigators", *home, "--json").json()["kits"][-1]["serial"]
    for command in (
        ("node", "records", "list"),
        ("node", "backup", world.base / "backup"),
        ("node", "rotate", "certificate"),
        ("trust", "revoke-investigator", serial),
    ):
        ran = world.vidfed(*command, *home)
        assert ran.status == 0, ran.err
    shown = world.audit("show", "fr", "--as", world.base / "dpo-fr", "--json", "--last", "1000").json()["entries"]
    done = {(entry["event"], entry["operation"]) for entry in shown if entry["outcome"] != "BEGUN"}
    assert done >= {
        ("kit-issued", "alteration"),
        ("kit-revoked", "alteration"),
        ("entry-changed", "alteration"),
        ("records-read", "consultation"),
        ("records-backed-up", "consultation"),
    }


def test_an_appointment_taken_back_opens_nothing_and_the_attempt_is_logged(world: World) -> None:
    folder = world.base / "dpo-gone"
    world.audit("appoint", "fr", folder, "--name", "Former DPO", "--days", "3")
    assert world.audit("show", "fr", "--as", folder).status == 0
    assert world.audit("revoke", "fr", "Former DPO").status == 0
    refused = world.audit("show", "fr", "--as", folder)
    assert (refused.status, refused.out) == (1, "")
    assert "was revoked" in refused.err
    listed = {one["name"]: one["state"] for one in world.audit("appointments", "fr", "--json").json()["appointments"]}
    assert (listed["Former DPO"], listed["DPO fr"]) == ("revoked", "holds")
    last = world.audit("show", "fr", "--as", world.base / "dpo-fr", "--json", "--last", "1").json()["entries"][0]
    assert (last["event"], last["pseudonym"], last["outcome"]) == ("log-read", "Former DPO", "REFUSED")


def test_without_an_appointment_nothing_is_shown(world: World) -> None:
    for command in ("show", "stats"):
        assert world.audit(command, "fr", "--as", world.base / "dpo-nl").status == 1
        assert world.audit(command, "fr", "--as", world.kit).status == 1


def test_a_report_and_the_sum_of_two(world: World) -> None:
    time = ("--from", "2020-01-01", "--to", "2100-01-01", "--draft")
    ran = world.audit("report", "nl", *time[:-1], "--out", world.base / "x", "--as", world.base / "dpo-nl")
    assert (ran.status, "whole months" in ran.err) == (2, True)
    for member in ("nl", "fr"):
        out = ("--out", world.base / f"{member}.report", "--html", world.base / f"{member}.html")
        ran = world.audit("report", member, *time, *out, "--as", world.base / f"dpo-{member}")
        assert ran.status == 0, ran.err
    both = [world.base / "nl.report", world.base / "fr.report"]
    ran = world.audit("combine", "nl", *both, "--out", world.base / "sum.report", "--html", world.base / "sum.html")
    assert ran.status == 0, ran.err
    ran = world.audit("verify", "fr", world.base / "sum.report")
    assert (ran.status, "about fr, nl, signed by nl" in ran.out) == (0, True)
    assert "<svg" in (world.base / "sum.html").read_text()


def test_a_node_that_cannot_log_refuses_and_signs_that(world: World) -> None:
    database = sqlite3.connect(world.home("fr").state_file("audit.db"))
    database.execute("CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
    database.commit()
    try:
        ran = world.look_up()
        assert ran.status == 3
        assert "AUDIT_UNAVAILABLE" in ran.out
        assert "bad signature" not in ran.out
    finally:
        database.execute("DROP TRIGGER full")
        database.commit()
        database.close()
    assert world.look_up().status == 0


def test_a_gateway_that_cannot_log_asks_nobody(world: World) -> None:
    before = world.audit("verify", "fr", "--json").json()["entries"]
    database = sqlite3.connect(world.home("nl").state_file("audit.db"))
    database.execute("CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
    database.commit()
    try:
        assert world.look_up().status != 0
    finally:
        database.execute("DROP TRIGGER full")
        database.commit()
        database.close()
    assert world.audit("verify", "fr", "--json").json()["entries"] == before


def test_a_forger_with_the_members_own_keys_is_caught_by_receipts_and_witnesses(world: World) -> None:
    """fr's operator rebuilds the whole log without one answer: true keys, true tree, fresh checkpoints."""
    world.look_up()
    world.make_round("fr")
    home = world.home("fr")
    folder = home.state_file("audit.db").parent
    assert world.federation.stop("fr") == 0
    kept = folder.with_name("state-before")
    shutil.copytree(folder, kept)
    with closing(open_storage(home)) as storage:
        entries = [entry for _, entry in storage.entries(0, 1 << 62)]
    last = max(at for at, entry in enumerate(entries) if b'"lookup-answered"' in (entry.body or b""))
    salt, body = entries[last].salt, (entries[last].body or b"").replace(b'"disclosure"', b'"consultation"')
    assert salt is not None
    entries[last] = entries[last]._replace(body=body, commitment=commit(salt, body))
    for path in folder.glob("audit.*"):
        path.unlink()
    with closing(open_log(home)) as log:
        log._write([PendingWrite(entries)])
    assert world.audit("verify", "fr").status == 1  # fr's own memory of what nl cosigned
    (folder / "witness.db").unlink()
    assert world.audit("verify", "fr").status == 0  # without it, fr alone looks clean
    world.federation.start("fr")
    try:
        ran = world.audit("verify", "fr", "--ask")
        assert ran.status == 1
        assert "nl, asked now" in ran.out
        ran = world.vidfed("audit", "check-receipt", "--kit", world.kit)
        assert ran.status == 1
        assert "CAUGHT" in ran.out
        world.make_round("fr")
        ran = world.audit("witnesses", "nl")
        assert ran.status == 1
        assert "EVIDENCE" in ran.out
        assert "of the log of fr" in ran.out
    finally:
        world.federation.stop("fr")
        shutil.rmtree(folder)
        kept.rename(folder)
        world.federation.start("fr")
