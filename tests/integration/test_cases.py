"""Kinds of trouble that people who do this job have reported elsewhere, each end to end through the commands, by the name of its case."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.support.memory import MemoryNode, SettableClock, answer_to, sign_answer
from tests.support.simulated import HomeFederation
from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.cli.root import root
from vidfed.node.lookup.admission import Admission, AdmissionLimits
from vidfed.node.serving.server import NodeServicer
from vidfed.security.clock import system_clock
from vidfed.security.crypto.certificates import check_identity
from vidfed.security.files import write_private
from vidfed.security.member.home import MemberHome
from vidfed.synthetic.federation import free_ports
from vidfed.synthetic.pictures import picture
from vidfed.wire.envelope import read_call, to_message
from vidfed.wire.requests import read_request
from vidfed.wire.statuses import Status
from vidfed.wire.values import MAX_ITEMS, RecordView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from click.testing import Result

    from vidfed.security.member.kit import Kit
    from vidfed.v1 import lookup_pb2 as pb
    from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage

REASONS = ["--case", "T-1", "--purpose", "identification", "--legal-basis", "test law"]
CONTEXT = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/UK/$metadata#Media"
RULE = '\n[[rule]]\nname = "{}"\nmembers = ["{}"]\npurposes = ["identification"]\n'
UNKNOWN = f"sha256:{'ab' * 32}"


async def invoke(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, root, list(arguments))


async def look_up(kit: Kit, *arguments: str) -> Result:
    return await invoke("lookup", *arguments, "--kit", str(kit.folder), *REASONS)


def words(ran: Result) -> str:
    return " ".join(ran.output.split())


@pytest.fixture
async def federation(tmp_path: Path) -> AsyncIterator[SocketFederation]:
    async with SocketFederation(tmp_path, "nl", "fr", "se") as made:
        await made.start_honest("nl", "fr", "se")
        yield made


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


class _Off(SettableClock):
    """The real time and a little more or less."""

    def __init__(self, ahead_ms: int) -> None:
        super().__init__()
        self.ahead_ms = ahead_ms

    def __call__(self) -> int:
        return system_clock() + self.ahead_ms


async def start_off(federation: SocketFederation, stack: ExitStack, member: str, ahead_ms: int) -> None:
    """Start a true node of this member whose clock is off."""
    of_homes = HomeFederation(list(federation.homes.values()))
    of_homes.clock = _Off(ahead_ms)
    node = stack.enter_context(MemoryNode(of_homes, member, federation.folder / f"node-of-{member}"))
    threads = stack.enter_context(ThreadPoolExecutor(2))
    await federation.start_node(member, NodeServicer(node.pipeline, Admission(threads, node.pipeline.answer, AdmissionLimits())))


@pytest.fixture
def alone(tmp_path: Path) -> MemberHome:
    """A member whose node answers nobody yet, and can be started by itself."""
    return SocketFederation(tmp_path, "nl").homes["nl"]


@contextmanager
def started(home: MemberHome) -> Iterator[Callable[[], bytes]]:
    """Start the node; what is given waits for, and returns, its first line; none if it ended."""
    command = [sys.executable, "-m", "vidfed.cli", "node", "serve", "--home", str(home.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline
        finally:
            process.terminate()


# --- 11-clock ---


@pytest.mark.parametrize(("ahead_s", "which"), [(90, "ahead of"), pytest.param(-90, "behind", marks=pytest.mark.exhaustive)])
async def test_case_11_clock_a_node_that_is_off_has_an_outcome_that_says_whose_and_by_how_much(
    federation: SocketFederation, stack: ExitStack, ahead_s: int, which: str
) -> None:
    await start_off(federation, stack, "se", ahead_s * 1000)
    ran = await look_up(await federation.start_gateway("nl"), "--hash", UNKNOWN, "--deadline-s", "8")
    assert ran.exit_code == 3
    said = words(ran)
    assert "clock differs" in said
    assert any(f"its clock is {seconds} s {which} this machine's" in said for seconds in (89, 90, 91))
    assert "that is wrong, not this machine's, with which 2 agree: call the member" in said
    assert "bad signature" not in said


@pytest.mark.exhaustive
async def test_case_11_clock_of_this_machine_is_named_when_no_other_agrees_with_it(federation: SocketFederation, stack: ExitStack) -> None:
    for member in federation.homes:
        await start_off(federation, stack, member, 90_000)
    ran = await look_up(await federation.start_gateway("nl"), "--hash", UNKNOWN, "--deadline-s", "8")
    assert ran.exit_code == 3
    assert "no member's clock agrees with this machine's, which is wrong: set it" in words(ran)


async def test_case_11_clock_a_little_off_and_a_short_deadline_is_the_clock_s_fault(federation: SocketFederation, stack: ExitStack) -> None:
    """The node says that the question came too late, which is true by its clock only."""
    await start_off(federation, stack, "se", 40_000)
    ran = await look_up(await federation.start_gateway("nl"), "--hash", UNKNOWN, "--deadline-s", "8")
    said = words(ran)
    assert any(f"its clock is {seconds} s ahead of" in said for seconds in (39, 40, 41)), said


# --- 11-members ---


async def test_case_11_members_one_removed_during_a_bulk_lookup_stays_missing_in_the_second_run(
    federation: SocketFederation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who was asked belongs to the stored lookup: its items are not "unseen" because a member left."""
    monkeypatch.setattr("vidfed.federation.bulk.lookup.STREAM_S", 0.0)  # one chunk in each
    honest, gateway = federation.honest("se"), federation.gateway("nl")

    async def answer_and_leave(call: pb.LookupCall) -> EnvelopeMessage:
        federation.administrators.remove("se")
        gateway.core.source.current()
        return await honest(call)

    await federation.start_node("se", ScriptedNode(answer_and_leave))
    kit = await federation.start_gateway("nl", gateway)
    listed = tmp_path / "ask.csv"
    listed.write_text("sha256\n" + "".join(f"{number + 2**200:064x}\n" for number in range(MAX_ITEMS + 5)))
    for _ in range(2):
        ran = await look_up(kit, "--csv", str(listed), "--out", str(tmp_path / "out"))
        assert ran.exit_code == 3, ran.output
        said = words(ran)
        assert f"se: {MAX_ITEMS} answered, 0 hits; 5 NOT ANSWERED" in said
        assert "it is no member any more" in said
        assert "0 known, 400 unseen, 5 open" in said or f"0 known, {MAX_ITEMS} unseen, 5 open" in said
        assert "INCOMPLETE" in ran.output.splitlines()[-1]
        result = json.loads((tmp_path / "out/result.json").read_text())
        assert result["complete"] is False
        assert result["nodes"]["se"]["unanswered"] == 5


# --- 13-rollback, 14b-removed-member ---


async def test_case_13_rollback_of_the_published_directory_does_not_bring_a_removed_member_back(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    published = federation.administrators.published
    older = published.with_name("older")
    shutil.copytree(published, older)
    federation.administrators.remove("se")
    before = await look_up(kit, "--hash", UNKNOWN)
    assert "se" not in words(before).split("Searched", maxsplit=1)[0].split()
    shutil.rmtree(published)
    older.rename(published)
    after = await look_up(kit, "--hash", UNKNOWN)
    assert "se" not in words(after).split("Searched", maxsplit=1)[0].split()
    status = await invoke("node", "status", "--home", str(federation.homes["fr"].folder))
    assert status.exit_code == 0, status.output


def test_case_14b_removed_member_that_the_policy_names_does_not_stop_the_node(alone: MemberHome) -> None:
    """Of a member that left, and of one that was never seen, which may be a mistake: each is named, and the node starts."""
    policy = alone.folder / "policy.toml"
    policy.write_text(RULE.format("left", "se") + RULE.format("never seen", "zz"))
    with started(alone) as said:
        assert said()
    checked = CliRunner().invoke(root, ["node", "status", "--home", str(alone.folder)])
    assert "not in the trust directory: se, zz" in " ".join(checked.output.split())


# --- 14c-half-renewed ---


@pytest.mark.exhaustive
def test_case_14c_half_renewed_certificate_is_renewed_at_start(alone: MemberHome) -> None:
    """A key of before with the certificate of now, as a crash between two files would leave it: here they are one file."""
    path = alone.folder / "keys/node.key"
    old, begin, certificate = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    assert CliRunner().invoke(root, ["node", "rotate", "certificate", "--home", str(alone.folder)]).exit_code == 0
    new = path.read_bytes()
    assert not (alone.folder / "tls/node.crt").exists()
    assert new != old + begin + certificate
    write_private(path, old + begin + new.partition(begin)[2])
    with started(alone) as said:
        assert said()
    check_identity(MemberHome(alone.folder).node_tls())


# --- 15b-separators ---

FORMULAS = ["x;=1+cmd|/C calc!A0", "x\uff1b=1", "\uff1d1+1", "x|=1+1", "a b;@SUM(1)", "=1", "-1+1", "\t=1", "x\n=1"]


async def test_case_15b_separators_no_cell_of_a_result_or_an_export_is_a_formula(federation: SocketFederation, tmp_path: Path) -> None:
    """Whatever separator a spreadsheet splits by; an import undoes it."""
    home = str(federation.homes["fr"].folder)
    digest = {text: hashlib.md5(text.encode()).hexdigest() for text in FORMULAS}
    media = [{"MediaID": number, "MD5": digest[text], "Series": text} for number, text in enumerate(FORMULAS)]
    vics = tmp_path / "sep.json"
    vics.write_text(json.dumps({"@odata.context": CONTEXT, "value": media}))
    assert (await invoke("node", "import", str(vics), "--home", home)).exit_code == 0
    exported = tmp_path / "e.csv"
    assert (await invoke("node", "export", str(exported), "--home", home)).exit_code == 0
    assert formulas(exported.read_text(encoding="utf-8-sig")) == []
    taken = json.loads((await invoke("node", "records", "list", "--json", "--home", home)).stdout)["records"]
    other = str(federation.homes["nl"].folder)
    assert (await invoke("node", "import", str(exported), "--home", other)).exit_code == 0
    again = json.loads((await invoke("node", "records", "list", "--json", "--home", other)).stdout)["records"]
    assert sorted(each["series"] for each in again) == sorted(each["series"] for each in taken)

    view = RecordView("r", series=FORMULAS[0], tags=(FORMULAS[1], FORMULAS[4]), case_contact=FORMULAS[3])
    await federation.start_node("se", ScriptedNode(federation.knowing("se", view)))
    ran = await look_up(await federation.start_gateway("nl"), "--hash", f"pdq:{'0f3c' * 16}", "--out", str(tmp_path / "out"))
    assert ran.exit_code == 0, ran.output
    for path in (tmp_path / "out").glob("*.csv"):
        assert formulas(path.read_text(encoding="utf-8-sig")) == [], path.name


def formulas(text: str) -> list[str]:
    """Return what some spreadsheet would take for a formula, whichever separator it splits by."""
    cells = (cell.strip().strip('"').strip() for cell in re.split(r"[\n\r,;|\t\uff1b\uff0c]", text))
    return [cell for cell in cells if cell[:1] in {*"=+-@\uff1d\uff0b\uff0d\uff20"} and len(cell) > 1]


# --- 16-names-out ---


async def test_case_16_names_out_a_file_name_that_is_no_utf_8_is_looked_up_and_shown_escaped(
    federation: SocketFederation, tmp_path: Path
) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    shutil.copy(folder / "a.png", folder / os.fsdecode(b"\xff\xfe-latin.png"))
    ran = await look_up(await federation.start_gateway("nl"), str(folder), "--out", str(tmp_path / "out"))
    assert ran.exit_code in {0, 5}, ran.output
    assert "2 items" in ran.output or "2 files" in ran.output
    assert "\\udcff\\udcfe-latin.png" in (tmp_path / "out/result.csv").read_text(encoding="utf-8-sig")


# --- also seen, below the table ---


async def test_case_resume_after_the_owner_withdrew_the_record_shows_that(federation: SocketFederation) -> None:
    """As far as its owner said so: news is kept in the kit, and a kept reply says from when it is."""
    kit = await federation.start_gateway("nl")
    view = RecordView("r-1", series="Tulip")
    await federation.start_node("se", ScriptedNode(federation.knowing("se", view)))
    first = await look_up(kit, "--hash", f"pdq:{'0f3c' * 16}", "--json")
    lookup = json.loads(first.stdout)["lookup"]
    resumed = await invoke("lookup", "--resume", lookup, "--kit", str(kit.folder))
    assert re.search(r"answered on \d{4}-\d\d-\d\d", words(resumed)), resumed.output


async def test_case_files_that_could_not_be_hashed_stand_in_every_result_file(federation: SocketFederation, tmp_path: Path) -> None:
    folder = tmp_path / "case"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "empty.png").touch()
    ran = await look_up(await federation.start_gateway("nl"), str(folder), "--out", str(tmp_path / "out"))
    assert ran.exit_code in {3, 5}
    for name in ("result.json", "report.html", "result.csv"):
        assert "empty.png" in (tmp_path / "out" / name).read_text(encoding="utf-8-sig"), name


async def test_case_holds_more_than_it_tells_is_said_in_bulk_too(federation: SocketFederation, tmp_path: Path) -> None:
    home = federation.homes["se"]

    async def reply(call: pb.LookupCall) -> EnvelopeMessage:
        envelope = read_call(call)[1]
        request = read_request(envelope.payload)
        place: dict[str, object] = {"method": request.header.method}
        place |= {"sequence": request.stream.number, "last": request.stream.last} if request.stream else {}
        answer = answer_to(request, envelope.digest, "se", home.audit_signer, Status.ANSWERED, system_clock(), **place)
        return to_message(sign_answer(replace(answer, truncated_items=(0,)), home.signer))

    await federation.start_node("se", ScriptedNode(reply))
    ran = await look_up(await federation.start_gateway("nl"), "--hash", UNKNOWN, "--out", str(tmp_path / "out"))
    assert "se: 1 answered, 0 hits; holds more records than it tells of 1 items" in words(ran)
    for name in ("result.json", "report.html", "result.csv", "annotated.vics.json"):
        assert "se holds more records than it tells" in (tmp_path / "out" / name).read_text(encoding="utf-8-sig"), name


@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "status", "--json"],
        pytest.param(["hash", "--help"], marks=pytest.mark.exhaustive),
        pytest.param(["node", "records", "list", "--json"], marks=pytest.mark.exhaustive),
    ],
)
def test_case_output_to_a_full_device_is_an_error_and_no_traceback(alone: MemberHome, arguments: list[str]) -> None:
    options = [] if "--help" in arguments else ["--home", str(alone.folder)]
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run([sys.executable, "-m", "vidfed.cli", *arguments, *options], stdout=full, stderr=subprocess.PIPE, check=False)
    assert ran.returncode == 1
    assert b"Traceback" not in ran.stderr
    assert b"No space left on device" in ran.stderr


@pytest.mark.exhaustive
def test_case_workers_from_1_to_2_and_back_at_an_immediate_restart(alone: MemberHome) -> None:
    config = alone.folder / "vidfed.toml"
    address = f'"127.0.0.1:{free_ports(1)[0]}"'
    config.write_text(config.read_text().replace('"127.0.0.1:0"', address, 1))
    for workers in (1, 2, 1):
        config.write_text(re.sub(r"\nworkers = \d", f"\nworkers = {workers}", config.read_text()))
        with started(alone) as said:
            assert said()
