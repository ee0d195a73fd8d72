"""Taking pictures in: a batch at a time, going on after a kill, without what is known good."""

from __future__ import annotations

import hashlib
import os
import signal
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.records import NOW
from vidfed.index import Algorithm
from vidfed.index.hashing.results import FileHashes
from vidfed.node.intake import pictures
from vidfed.node.intake.known_good import KnownGood, add_list
from vidfed.node.intake.ledger import Ledger
from vidfed.node.intake.pictures import Intake
from vidfed.node.records.lifecycle import RecordQuery, stored_records
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.index.hashing.results import HashingResult

FILES = 25


@pytest.fixture
def seized(tmp_path: Path) -> Path:
    folder = tmp_path / "seized"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:02}.bin").write_bytes(b"file %d" % number)
    return folder


def take(folder: Path, seized: Path, *, kill_after: int = 0, series: str = "A") -> tuple[int, dict[str, int], int]:
    """Return how many files were hashed, the counts, and how many an earlier run had done."""
    hashed = 0

    def on_done(_count: int) -> None:
        if kill_after and hashed >= kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_file(result: HashingResult, _known_on: str) -> None:
        nonlocal hashed
        hashed += isinstance(result, FileHashes)

    good = folder / "known-good"
    with (
        closing(RecordStore(folder / "records.db")) as store,
        Ledger(folder, [seized], {"series": series}) as ledger,
        KnownGood(lists=good) as known,
    ):
        before = ledger.done_before
        Intake(store, Record(hashes={}, series=series), ledger, known).take([seized], clock=lambda: NOW, on_file=on_file, on_done=on_done)
        counts = dict(ledger.counts)
        ledger.finish()
    return hashed, counts, before


def test_a_killed_intake_goes_on_and_hashes_nothing_twice(tmp_path: Path, seized: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "BATCH", 5)
    child = os.fork()
    if not child:
        take(tmp_path, seized, kill_after=10)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (seized / "03.bin").write_bytes(b"changed")
    hashed, counts, before = take(tmp_path, seized)
    assert (before, hashed) == (10, FILES - 10 + 1), "the changed one is hashed again"
    assert (counts["new"], counts["exact_only"]) == (FILES + 1, FILES + 1)
    with closing(RecordStore(tmp_path / "records.db")) as store:
        found = {kept.record.hashes[Algorithm.MD5] for kept in stored_records(store, RecordQuery())}
    assert len(found) == FILES + 1
    assert not list(tmp_path.glob("ingest-*")), "what is done is forgotten"


def test_another_command_on_the_same_files_begins_anew(tmp_path: Path, seized: Path) -> None:
    assert take(tmp_path, seized)[1]["new"] == FILES
    hashed, counts, before = take(tmp_path, seized, series="B")
    assert (before, hashed, counts["new"], counts["updated"]) == (0, FILES, 0, FILES)


def test_what_is_known_good_is_left_out(tmp_path: Path, seized: Path) -> None:
    listed = tmp_path / "good.txt"
    listed.write_text(hashlib.sha1(b"file 7", usedforsecurity=False).hexdigest() + "\n")
    add_list(tmp_path / "known-good", "own", [listed], version="1", now_ms=NOW)
    _, counts, _ = take(tmp_path, seized)
    assert (counts["new"], counts["known_good"]) == (FILES - 1, 1)
