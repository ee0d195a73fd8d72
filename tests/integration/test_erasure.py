"""An erased record is in no file of the member's folder: with a node that runs, and after a kill at any step of erasing."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner

from tests.support import tiny_segments
from tests.support.brute_force import TINY
from tests.support.patience import PATIENCE_S
from tests.support.sockets import SocketFederation
from vidfed.cli.root import root
from vidfed.index import Algorithm, Code, HashIndex
from vidfed.index.search import hash_index
from vidfed.node.operations.erasing import erase_record
from vidfed.node.operations.status import read_status
from vidfed.node.records.known import open_store
from vidfed.node.records.lifecycle import erase, stored_record
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.security.clock import system_clock
from vidfed.synthetic.federation import LocalFederation, Place, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.conftest import Ran
    from vidfed.security.member.home import MemberHome

MADE_A_SEGMENT = 65_536
"""Rows that make an index write a segment, unless it is told otherwise."""
NAME = "r77"


def record(number: int, pdq: bytes) -> Record:
    """With every kind of code, and two of further views."""
    random = np.random.default_rng(number)
    hashes: dict[Algorithm, bytes] = {each: random.bytes(each.code_bytes) for each in Algorithm}
    further = tuple(Code(Algorithm.PDQ, random.bytes(32), kind) for kind in ("frame:1", "frame:2"))
    return Record({**hashes, Algorithm.PDQ: pdq}, further=further, series="S", reference=f"r{number}")


def fill(home: MemberHome, count: int) -> list[bytes]:
    """Fill the store; return all codes of the record NAME."""
    random = np.random.default_rng(3)
    codes = [random.bytes(32) for _ in range(count)]
    special = {number: record(number, codes[number]) for number in range(70, 100)}
    with open_store(home) as store:
        plain = (Record({Algorithm.PDQ: code}, reference=f"r{number}") for number, code in enumerate(codes) if number not in special)
        store.upsert([*plain, *special.values()], now_ms=system_clock())
    wanted = special[77]
    return [*wanted.hashes.values(), *(code.code for code in wanted.further)]


def written(code: bytes) -> list[bytes]:
    """A code as it could stand in a file: as it is, which is also how the index packs it, in hex, in base64."""
    return [code, code.hex().encode(), code.hex().upper().encode(), base64.b64encode(code).rstrip(b"=")]


def holding(folder: Path, codes: Sequence[bytes]) -> list[str]:
    """Return the files that hold one of the codes. Read by another process: closing a file here would end SQLite's locks on it."""
    wanted = [form.hex() for code in codes for form in written(code)]
    program = (
        "import sys, pathlib\n"
        "wanted = [bytes.fromhex(each) for each in sys.stdin.read().split()]\n"
        "for path in pathlib.Path(sys.argv[1]).rglob('*'):\n"
        "    content = path.read_bytes() if path.is_file() else b''\n"
        "    if any(each in content for each in wanted): print(path.relative_to(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], input=" ".join(wanted), capture_output=True, text=True, check=True)
    return done.stdout.split()


def mapped(process: int) -> str:
    """What a process and its workers have mapped."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return "".join(Path(f"/proc/{each}/maps").read_text() for each in (process, *children))


def command(home: MemberHome, *arguments: str) -> str:
    result = CliRunner().invoke(root, [*arguments, "--home", str(home.folder)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def home(tmp_path: Path) -> MemberHome:
    return SocketFederation(tmp_path, "nl", "fr").homes["fr"]


@pytest.mark.parametrize("count", [200, pytest.param(66_000, marks=pytest.mark.exhaustive)])
def test_erased_code_is_in_no_file_of_the_folder(
    home: MemberHome, run: Callable[[Sequence[str | Path]], Ran], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """While a node of two processes serves; neither do these map a file any more that holds it."""
    if count < MADE_A_SEGMENT:
        monkeypatch.setenv("PYTHONPATH", str(Path(tiny_segments.__file__).parent))
    codes = fill(home, count)
    config = home.folder / "vidfed.toml"
    config.write_text(config.read_text().replace("\nworkers = 1\n", "\nworkers = 2\n"))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config.write_text(config.read_text().replace('listen = "127.0.0.1:0"', f'listen = "{address}"', 1))
    with LocalFederation(home.folder.parent, run) as local:
        local.places["fr"] = Place(home.folder, address, "")
        local.start("fr")
        process = local.process_id("fr")
        end_s = time.monotonic() + PATIENCE_S
        segments: list[str] = []
        while not segments:  # what is open becomes a segment beside the answers
            assert time.monotonic() < end_s
            before = holding(home.folder, codes)
            segments = [name for name in before if name.startswith("index/pdq/segment")]
        assert "store/records.db" in before
        while not all(name in mapped(process) for name in segments):
            assert time.monotonic() < end_s
            time.sleep(0.05)
        said = command(home, "node", "records", "erase", NAME, "--yes")
        assert f"record {NAME} is erased; its codes are in no file of this folder" in said
        assert holding(home.folder, codes) == []
        while any(name in mapped(process) for name in segments):
            assert time.monotonic() < end_s
            time.sleep(0.05)
        assert read_status(home).erased_left == ()
        with open_store(home, reads_only=True) as store:
            assert stored_record(store, NAME).state == "erased"


def test_a_retracted_record_keeps_its_codes_and_an_erased_one_does_not(home: MemberHome) -> None:
    codes = fill(home, 200)
    command(home, "node", "records", "retract", NAME, "--reason", "by mistake")
    assert holding(home.folder, codes) == ["store/records.db"]
    said = command(home, "node", "records", "erase", NAME, "--yes")
    assert "its codes are in no file of this folder" in said
    assert holding(home.folder, codes) == []


class _Stop:
    """Ends the process, as kill -9 does, at the n-th step that changes files."""

    EVENTS = frozenset({"os.rename", "os.remove", "sqlite3.connect", "os.truncate", "fcntl.flock"})
    WRITING = os.O_WRONLY | os.O_RDWR

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in self.EVENTS or (event == "open" and arguments[2] & self.WRITING):  # type: ignore[operator]  # its flags
            self._left -= 1
            if self._left < 0:
                os._exit(9)


def killed_at(home: MemberHome, step: int) -> bool:
    child = os.fork()
    if not child:
        sys.addaudithook(_Stop(step))
        with contextlib.suppress(BaseException):
            erase_record(home, NAME)
            os._exit(0)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 9}
    return status == 9


def served_once(home: MemberHome) -> None:
    """What a node does when it starts, as far as its records go."""
    with open_store(home) as store, contextlib.closing(Catalogue(store, home.folder / "index", system_clock)) as catalogue:
        catalogue.start()
        end_s = time.monotonic() + PATIENCE_S
        while read_status(home).erased_left or catalogue.progress()[0] < store.version()[0] or catalogue.erasing:
            assert time.monotonic() < end_s
            time.sleep(0.01)


@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.timeout(600)
def test_killed_at_every_step_of_erasing_the_next_start_finishes_it(
    home: MemberHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(hash_index, "Sizes", lambda: TINY)
    codes = fill(home, 200)
    with open_store(home) as store, contextlib.closing(Catalogue(store, home.folder / "index", system_clock)) as catalogue:
        catalogue.catch_up()
    with HashIndex.open(home.folder / "index/pdq", Algorithm.PDQ) as index:
        index.settle()
    whole = tmp_path / "whole"
    subprocess.run(["cp", "-a", home.folder, whole], check=True)
    assert "index/pdq/segment-00000001" in holding(home.folder, codes)
    step, erased = 0, 0
    while True:
        subprocess.run(["rm", "-rf", home.folder], check=True)
        subprocess.run(["cp", "-a", whole, home.folder], check=True)
        if not killed_at(home, step):
            break
        served_once(home)
        with open_store(home, reads_only=True) as store:
            gone = stored_record(store, NAME).state == "erased"
        assert holding(home.folder, codes) == [] or not gone, step
        erased += gone
        step += every
    assert holding(home.folder, codes) == []  # without a node
    assert read_status(home).erased_left == ()
    assert 0 < erased < step // every


def test_what_killed_backups_have_left_is_erased_and_a_running_one_is_told(home: MemberHome) -> None:
    codes = fill(home, 200)
    left = home.state_file(".backup-0011")
    left.mkdir()
    (left / "copy.db").write_bytes(codes[0])
    said = command(home, "node", "records", "erase", NAME, "--yes")
    assert "its codes are in no file of this folder" in said
    assert not left.exists()
    left.mkdir()
    descriptor = os.open(left, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    said = command(home, "node", "records", "erase", NAME, "--yes")
    os.close(descriptor)
    assert "still in what follows" in said
    assert "a backup that is being made now" in said


def test_what_is_not_the_record_s_but_holds_its_code_is_named(home: MemberHome, tmp_path: Path) -> None:
    codes = fill(home, 200)
    with open_store(home) as store:
        md5 = stored_record(store, NAME).record.hashes[Algorithm.MD5]
    assert md5 in codes
    listed = tmp_path / "harmless.csv"
    listed.write_text(f"md5\n{md5.hex()}\n")
    command(home, "node", "known-good", "add", "own", str(listed), "--version", "1")
    said = command(home, "node", "records", "erase", NAME, "--yes")
    assert "the list own 1 of known-good files" in said
    command(home, "node", "known-good", "remove", "own")
    assert holding(home.folder, codes) == []


def test_erased_on_postgresql_no_row_of_any_page_holds_the_code(postgresql_url: str) -> None:
    """Bytes may be left in a page's free space: that is said by the command, and in the guide."""
    code = bytes(range(32))
    with contextlib.closing(RecordStore(postgresql_url)) as store:
        store.upsert([Record({Algorithm.PDQ: code}, reference="r"), Record({Algorithm.PDQ: code[::-1]}, reference="s")], now_ms=1)
        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pageinspect")

            def rows(wanted: bytes) -> int:
                (pages,) = connection.execute("SELECT pg_relation_size('records') / 8192").fetchone() or (0,)
                query = "SELECT count(*) FROM heap_page_items(get_raw_page('records', %s)) WHERE position(%s IN t_data) > 0"
                return sum((connection.execute(query, (page, wanted)).fetchone() or (0,))[0] for page in range(pages))

            assert rows(code) == 1
            erase(store, "r", now_ms=2)
            assert rows(code) == 0
            assert rows(code[::-1]) == 1
