"""What earlier releases left behind is read by this version: their messages, their members' folders, a federation that goes on."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.released.record import KNOWN, MEMBERS, PORTS, WHY, vidfed
from vidfed.synthetic.federation import LocalFederation, Place
from vidfed.wire.answers import read_answer, write_answer
from vidfed.wire.casework import read_content, read_entry, read_receipt, write_entry, write_receipt
from vidfed.wire.requests import read_request, write_request

if TYPE_CHECKING:
    from collections.abc import Callable

RELEASES = sorted(path for path in Path(__file__).parent.iterdir() if (path / "federation.tar.xz").exists())
EACH = pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
READ: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes] | None]] = {
    "request": (read_request, write_request),
    "answer": (read_answer, write_answer),
    "entry": (read_entry, write_entry),
    "content": (read_content, None),  # its bytes are what its author committed to, and are never written again
    "receipt": (read_receipt, write_receipt),
}


def unpacked(release: Path, folder: Path) -> Path:
    """Unpack a release's federation, with the paths in its files made those of today."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress((release / "federation.tar.xz").read_bytes()))) as archive:
        archive.extractall(folder, filter="data")
    base = folder / "released"
    before = (base / "where").read_text()
    for path in base.rglob("*"):
        if path.suffix in {".toml", ".json"} and path.is_file() and before in (text := path.read_text()):
            path.write_text(text.replace(before, str(base)))
    return base


def test_a_release_was_recorded() -> None:
    assert RELEASES


@EACH
def test_messages_of_a_release_are_read_and_written_again_as_they_were(release: Path) -> None:
    messages = json.loads((release / "messages.json").read_text())
    assert messages.keys() == READ.keys()
    for kind, (read, write) in READ.items():
        for each in map(bytes.fromhex, messages[kind]):
            said = read(each)
            assert write is None or write(said) == each, kind


@EACH
def test_members_of_a_release_are_read_without_being_changed_by_hand(release: Path, tmp_path: Path) -> None:
    base = unpacked(release, tmp_path)
    for member in MEMBERS:
        home = base / member
        assert len(json.loads(vidfed(["node", "records", "list", "--home", home, "--json"]))["records"]) == 1
        assert "The log holds" in vidfed(["audit", "verify", "--home", home])


@pytest.mark.exhaustive
@EACH
def test_a_federation_of_a_release_goes_on_one_member_after_the_other(release: Path, tmp_path: Path) -> None:
    """Its timestamp, certificates and kits may have ended since: the administrators renew it, services renew, persons enrol again."""
    base = unpacked(release, tmp_path)
    with LocalFederation(base, vidfed) as federation:
        addresses = [f"127.0.0.1:{port}" for port in PORTS]
        for number, member in enumerate(MEMBERS):
            federation.places[member] = Place(base / member, *addresses[2 * number : 2 * number + 2])
        vidfed(["trust", "propose", "renew", federation.trust_folder, "--yes", *federation.signing])
        federation.issue_kit("nl", base / "new-kit")
        federation.start("nl", service="gateway")
        for number, member in enumerate(MEMBERS, 1):
            federation.start(member)
            status = 0 if number == len(MEMBERS) else 3
            asked = vidfed(["lookup", "--hash", f"md5:{KNOWN}", "--kit", base / "new-kit", *WHY, "--json"], status=status)
            result = json.loads(asked)
            assert (result["nodes_answered"], len(result["hits"])) == (number, int("fr" in list(MEMBERS)[:number]))
