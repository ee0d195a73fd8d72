"""Three real node processes, a real gateway, real commands: what an investigator sees when all is well and when it is not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_S
from vidfed.synthetic.federation import LocalFederation
from vidfed.synthetic.modifications import mirrored, resized, turned
from vidfed.synthetic.pictures import Family, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Ran

WHY = ("--case", "T-1", "--purpose", "identification", "--legal-basis", "test law")
MEMBERS = {"nl": "Unit NL", "fr": "Unit FR", "br": "Unit BR"}
UNKNOWN_PDQ = "pdq:" + "0123456789abcdef" * 4


class Desk:
    """An investigator of nl with a federation around it."""

    def __init__(self, base: Path, federation: LocalFederation, vidfed: Callable[..., Ran]) -> None:
        self.base = base
        self.federation = federation
        self._vidfed = vidfed

    def look_up(self, *arguments: str | Path) -> Ran:
        return self._vidfed("lookup", *arguments, "--kit", self.base / "kit", *WHY, "--json")

    def ingest(self, member: str, *arguments: str | Path) -> Ran:
        return self._vidfed("node", "ingest", *arguments, "--home", self.federation.places[member].folder)

    def outcomes(self, ran: Ran) -> dict[str, str]:
        return {node["member"]: node["outcome"] for node in ran.json()["nodes"]}


@pytest.fixture(scope="module")
def desk(
    tmp_path_factory: pytest.TempPathFactory, vidfed: Callable[..., Ran], run: Callable[[Sequence[str | Path]], Ran]
) -> Iterator[Desk]:
    base = tmp_path_factory.mktemp("federation")
    with LocalFederation(base, run) as federation:
        federation.create(MEMBERS)
        pictures = base / "pictures"
        pictures.mkdir()
        for seed in range(3):
            picture(seed).save(pictures / f"{seed}.png")
        nl = federation.places["nl"].folder
        described = ("--series", "S", "--case", "C-9", "--victim-identified", "yes", "--handling", "H1")
        run(["node", "ingest", str(pictures), "--home", str(nl), *described])
        federation.issue_kit("nl", base / "kit")
        federation.start(*MEMBERS)
        federation.start("nl", service="gateway")
        yield Desk(base, federation, vidfed)


@pytest.fixture
def without_br(desk: Desk) -> Iterator[Desk]:
    desk.federation.kill("br")
    yield desk
    desk.federation.start("br")


def test_an_exact_copy_is_found_with_everything_the_investigator_needs(desk: Desk) -> None:
    ran = desk.look_up(desk.base / "pictures/0.png")
    assert ran.status == 0
    (hit,) = ran.json()["hits"]
    assert (hit["member"], hit["evidence"], hit["series"], hit["victim_identified"]) == ("nl", "exact", "S", "yes")
    assert (hit["offender_identified"], hit["handling_code"], hit["case_reference"]) == ("unknown", "H1", "C-9")
    assert hit["case_contact"] == "duty-desk@nl.example"
    assert desk.outcomes(ran) == {"nl": "MATCH", "fr": "NO_MATCH", "br": "NO_MATCH"}
    assert ran.json()["complete"] is True


@pytest.mark.parametrize(
    ("name", "change"),
    [("mirrored", mirrored), ("turned", turned(90)), ("smaller", resized(60))],
)
def test_a_changed_copy_is_found_as_near(desk: Desk, tmp_path: Path, name: str, change: Callable) -> None:  # type: ignore[type-arg]
    path = tmp_path / f"{name}.jpg"
    change(picture(1)).save(path, quality=60)
    (hit,) = desk.look_up(path).json()["hits"]
    assert hit["evidence"] == "near"
    assert any(match["algorithm"] == "pdq" and match["distance"] <= 31 for match in hit["matches"])


def test_a_folder_is_asked_in_one_go_and_a_broken_file_in_it_is_named(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "seized"
    folder.mkdir()
    for seed in range(100, 180):
        picture(seed, Family.SHAPES, (256, 192)).save(folder / f"{seed}.jpg")
    picture(2).save(folder / "known.png")
    (folder / "broken.jpg").write_bytes((folder / "100.jpg").read_bytes()[:500])
    (folder / "empty.jpg").touch()
    ran = desk.look_up(folder)
    document = ran.json()
    assert ran.status == 5  # every member answered, for less than was named
    assert [document["items"][hit["item"]]["label"].rpartition("/")[2] for hit in document["hits"]] == ["known.png"]
    assert [failure["file"].rpartition("/")[2] for failure in document["failures"]] == ["empty.jpg"]
    (broken,) = (item for item in document["items"] if item["label"].endswith("broken.jpg"))
    assert broken["exact_only"]
    assert broken["notes"][0].startswith("damaged: nothing of it could be decoded")
    assert not document["complete"]


def test_a_killed_node_makes_the_result_incomplete_and_is_named(without_br: Desk) -> None:
    ran = without_br.look_up("--hash", UNKNOWN_PDQ)
    assert ran.status == 3
    assert without_br.outcomes(ran) == {"nl": "NO_MATCH", "fr": "NO_MATCH", "br": "UNREACHABLE"}
    assert not ran.json()["complete"]


def test_a_node_that_comes_back_answers_the_next_lookup(desk: Desk) -> None:
    assert desk.federation.stop("fr") == 0
    assert desk.outcomes(desk.look_up("--hash", UNKNOWN_PDQ))["fr"] == "UNREACHABLE"
    desk.federation.start("fr")
    assert desk.outcomes(desk.look_up("--hash", UNKNOWN_PDQ))["fr"] == "NO_MATCH"


def test_records_survive_a_killed_node(desk: Desk) -> None:
    desk.federation.kill("nl")
    desk.federation.start("nl")
    assert desk.outcomes(desk.look_up(desk.base / "pictures/1.png"))["nl"] == "MATCH"


def test_a_node_that_hangs_is_a_timeout_and_never_a_no_match(desk: Desk) -> None:
    os.kill(desk.federation.process_id("br"), signal.SIGSTOP)
    try:
        ran = desk.look_up("--hash", UNKNOWN_PDQ, "--deadline-s", "1.5")
    finally:
        os.kill(desk.federation.process_id("br"), signal.SIGCONT)
    assert ran.status == 3
    assert desk.outcomes(ran) == {"nl": "NO_MATCH", "fr": "NO_MATCH", "br": "TIMEOUT"}


def test_a_new_record_is_found_by_the_next_lookup_without_restart(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "new.png"
    picture(777).save(path)
    assert desk.look_up(path).json()["hits"] == []
    assert desk.ingest("fr", path, "--series", "late").status == 0
    assert [hit["series"] for hit in desk.look_up(path).json()["hits"]] == ["late"]


def test_ingesting_twice_changes_nothing(desk: Desk) -> None:
    described = ("--series", "S", "--case", "C-9", "--victim-identified", "yes", "--handling", "H1")
    ran = desk.ingest("nl", desk.base / "pictures", *described)
    assert ran.out == "0 new, 0 updated, 3 unchanged, 0 not hashed\n"


def test_a_member_removed_from_the_directory_is_out_at_once_and_back_when_added(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    home = desk.federation.places["nl"].folder
    desk.federation.remove("nl")
    removed = desk.look_up("--hash", UNKNOWN_PDQ)
    assert vidfed("node", "request", "--home", home).status == 0
    desk.federation.add("nl")
    assert (removed.status, removed.out) == (1, "")
    for _ in range(20):  # who is reading the new directory at this moment goes by the old one until it is verified
        back = desk.look_up("--hash", UNKNOWN_PDQ)
        if back.status == 0:
            break
    assert back.status == 0, back.out


def test_the_gateway_being_down_is_an_error_that_says_so(desk: Desk) -> None:
    desk.federation.stop("nl", "gateway")
    try:
        ran = desk.look_up("--hash", UNKNOWN_PDQ)
    finally:
        desk.federation.start("nl", service="gateway")
    assert ran.status == 1
    assert "cannot be reached: is it running" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pdq:abc", "3 characters, expected 64 hex digits"),
        ("pdq:" + "z" * 64, "not hex"),
        ("sha3:" + "0" * 64, "unknown algorithm"),
        ("0" * 64, "name the algorithm"),
        ("sha256:" + "0" * 63, "63 characters, expected 64"),
    ],
)
def test_a_hash_that_is_none_is_one_clear_line(desk: Desk, text: str, says: str) -> None:
    ran = desk.look_up("--hash", text)
    assert ran.status == 1
    assert says in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_distance_beyond_reason_is_refused_with_the_reason(desk: Desk) -> None:
    ran = desk.look_up("--hash", UNKNOWN_PDQ, "--distance", "pdq=200")
    assert ran.status == 1
    assert "beyond the maximum of 64" in ran.err


def test_a_lookup_without_a_reason_is_wrong_usage(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    assert vidfed("lookup", "--hash", UNKNOWN_PDQ, "--kit", desk.base / "kit", "--case", "T-1").status == 2


def test_asking_somebody_who_is_no_member_says_so(desk: Desk) -> None:
    ran = desk.look_up("--hash", UNKNOWN_PDQ, "--ask", "xx")
    assert ran.status == 1
    assert "'xx' is no member of federation demo" in ran.err


def test_status_tells_what_runs_and_what_it_holds(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    status = vidfed("node", "status", "--home", desk.federation.places["nl"].folder, "--json").json()
    assert status["serving"] is True
    assert status["records"] == 3
    assert status["index_version"] == status["store_version"]
    assert status["members"] == ["br", "fr", "nl"]


def test_the_protocol_of_an_accession_passes_on_a_sound_node(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    ran = vidfed("node", "check", "--home", desk.federation.places["nl"].folder, "--json")
    document = ran.json()
    assert ran.status == 0, ran.out
    points = [finding["point"] for finding in document["findings"]]
    assert points == ["directory", "clock", "keys", "permissions", "tls", "disk", "index", "node nl", "node br", "node fr"]
    assert document["passed"] is True


def test_the_protocol_names_a_node_that_is_not_reached(without_br: Desk, vidfed: Callable[..., Ran]) -> None:
    ran = vidfed("node", "check", "--home", without_br.federation.places["nl"].folder)
    assert ran.status == 1
    assert "failed   node br" in ran.out
    assert ran.out.endswith("NOT PASSED\n")


def test_a_member_in_quarantine_asks_and_answers_nothing_but_a_self_test(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    federation = desk.federation
    federation.run(["trust", "propose", "set-standing", str(federation.trust_folder), "fr", "quarantine", "--yes", *federation.signing])
    try:
        asked = desk.look_up("--hash", UNKNOWN_PDQ, "--ask", "fr")
        by_default = desk.look_up("--hash", UNKNOWN_PDQ)
        check = vidfed("node", "check", "--home", federation.places["fr"].folder)
    finally:
        federation.run(["trust", "propose", "set-standing", str(federation.trust_folder), "fr", "member", "--yes", *federation.signing])
    assert desk.outcomes(asked) == {"fr": "REFUSED", "nl": "NOT_CHOSEN", "br": "NOT_CHOSEN"}
    assert desk.outcomes(by_default) == {"nl": "NO_MATCH", "br": "NO_MATCH", "fr": "NOT_ASKED"}
    assert not by_default.json()["complete"]
    assert "lists fr, in quarantine" in check.out
    assert check.status == 0, check.out


def test_a_revoked_kit_is_refused_as_soon_as_it_is_published(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    home = desk.federation.places["nl"].folder
    other = desk.base / "kit-to-revoke"
    desk.federation.issue_kit("nl", other)
    issued = vidfed("trust", "investigators", "--home", home, "--json").json()["kits"][-1]
    assert vidfed("trust", "revoke-investigator", issued["serial"], "--home", home).status == 0
    assert vidfed("trust", "accept", desk.federation.trust_folder, home / "member.json").status == 0
    ran = vidfed("lookup", "--hash", UNKNOWN_PDQ, "--kit", other, *WHY, "--json")
    assert ran.status == 4
    assert "was revoked; ask your unit" in ran.err
    assert desk.look_up("--hash", UNKNOWN_PDQ).status == 0


def test_a_second_node_in_the_same_folder_is_refused(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    ran = vidfed("node", "serve", "--home", desk.federation.places["fr"].folder)
    place = desk.federation.places["fr"]
    assert ran.status == 1
    assert ran.err == f"Error: a node of {place.folder} runs already, on {place.node_address}: a folder has one; stop that one first\n"


def test_one_process_for_both_is_refused_while_one_of_them_runs(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    ran = vidfed("serve", "--home", desk.federation.places["br"].folder)
    assert ran.status == 1
    assert "a node of" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_second_gateway_in_the_same_folder_is_refused(desk: Desk, vidfed: Callable[..., Ran]) -> None:
    ran = vidfed("gateway", "serve", "--home", desk.federation.places["nl"].folder)
    assert ran.status == 1
    assert "runs already, on" in ran.err
    assert len(ran.err.splitlines()) == 1


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return open descriptors of the processes that a process has started, once there are any."""
    while process.poll() is None:
        tasks = Path(f"/proc/{process.pid}/task")
        ids = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        if ids:
            return [os.pidfd_open(child) for child in ids]
    raise AssertionError("the command ended before it started a worker")


@pytest.mark.parametrize("command", ["lookup", "ingest"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_command(desk: Desk, tmp_path: Path, command: str, end: signal.Signals) -> None:
    pictures = tmp_path / "many"
    pictures.mkdir()
    picture(1, size=(1600, 1200)).save(tmp_path / "one.png")
    for number in range(300):
        (pictures / f"{number}.png").hardlink_to(tmp_path / "one.png")
    options = {
        "lookup": ["lookup", "--kit", desk.base / "kit", *WHY],
        "ingest": ["node", "ingest", "--home", desk.federation.places["nl"].folder],
    }
    arguments = [sys.executable, "-m", "vidfed.cli", *map(str, options[command]), str(pictures)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers = children_of(process)

    process.send_signal(end)

    assert process.wait(PATIENCE_S) != 0
    for worker in workers:
        assert select.select([worker], [], [], 60)[0], "it has ended"
        os.close(worker)
