"""Perceptual hashes that one import has on many different files: one picture in many encodings, or a tool's filler."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.records import NOW, code
from vidfed.formats.entries import FileEntry
from vidfed.index import Algorithm, Code
from vidfed.node.errors import StoreError
from vidfed.node.records.lifecycle import RecordQuery, erase, stored_records
from vidfed.node.records.repeats import keep, refuse, repeats
from vidfed.node.records.store import RecordStore
from vidfed.node.records.upsert.repeated import Repeats
from vidfed.node.records.upsert.transaction import Origin, UpsertTransaction

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.node.records.upsert.report import UpsertReport

SAME = code(Algorithm.PDQ, 7)
MANY = 101


def entries(count: int = MANY, start: int = 0, *, pdq: bytes = SAME, sizes: tuple[int, ...] = (), **others: list[bytes]) -> list[FileEntry]:
    """Return entries about different files with one PDQ."""
    found = []
    for number in range(count):
        codes = {"md5": code(Algorithm.MD5, start + number), "pdq": pdq} | {name: each[number % len(each)] for name, each in others.items()}
        found.append(FileEntry(number + 1, codes, {"size_bytes": sizes[number % len(sizes)]} if sizes else {}))
    return found


def take_in(store: RecordStore, given: list[FileEntry], notes: list[str] | None = None) -> UpsertReport:
    with store.database.writing() as connection:
        note = (lambda _number, text: notes.append(text)) if notes is not None else (lambda _number, _text: None)
        transaction = UpsertTransaction(store.database, connection, now_ms=NOW, origin=Origin("set.csv", "CSV"), on_note=note)
        transaction.take_all(given)
        return transaction.finish()


def with_pdq(store: RecordStore) -> int:
    return sum(Algorithm.PDQ in each.record.hashes for each in stored_records(store, RecordQuery(state="all")))


def different(count: int, algorithm: Algorithm = Algorithm.PHASH) -> list[bytes]:
    return [code(algorithm, 1000 + number) for number in range(count)]


def alike(algorithm: Algorithm = Algorithm.PHASH) -> list[bytes]:
    """Return hashes that differ by a bit or two, as those of one picture's encodings do."""
    one = code(algorithm, 5)
    return [bytes([one[0] ^ 1 << bit, *one[1:]]) for bit in range(8)]


def test_101_re_encodings_of_one_picture_stay_found(store: RecordStore) -> None:
    notes: list[str] = []
    report = take_in(store, entries(), notes)
    assert (report.repeats, with_pdq(store)) == (Repeats(kept=1, undecided=1), MANY)
    assert len(store.changes_after(0, limit=200).codes[Algorithm.PDQ]) == MANY
    assert "hash is on 101 items of this import with different files and is kept: nothing else is known" in notes[0]
    assert [(each.state, each.records, each.origin) for each in repeats(store)] == [("undecided", MANY, "set.csv")]


@pytest.mark.parametrize(
    ("what", "repeated"),
    [
        (entries(phash=alike()), Repeats(kept=1)),
        (entries(phash=alike(), sizes=(4_000, 90_000, 2_000_000)), Repeats(kept=1)),
        (entries(sizes=(4_000, 90_000, 2_000_000)), Repeats(kept=1, undecided=1)),
        (entries(phash=different(MANY)), Repeats(set_aside=1)),
        (entries(photodna=different(MANY, Algorithm.PHOTODNA)), Repeats(set_aside=1)),
        (entries(sizes=(1_000, 2_000_000_000)), Repeats(set_aside=1)),
        (entries(pdq=b"\0" * 31 + b"\1"), Repeats(set_aside=1)),
        (entries(100, phash=different(100)), Repeats()),
    ],
    ids=["hashes agree", "and sizes", "sizes alone", "hashes differ", "PhotoDNA differs", "sizes differ", "too regular", "not so many"],
)
def test_a_filler_is_told_from_one_picture_by_what_else_is_known(store: RecordStore, what: list[FileEntry], repeated: Repeats) -> None:
    assert take_in(store, what).repeats == repeated
    assert with_pdq(store) == (0 if repeated.set_aside else len(what))


def test_a_supplied_file_takes_a_hash_from_no_record_but_its_own(store: RecordStore) -> None:
    take_in(store, entries(1, start=500))
    take_in(store, entries(phash=different(MANY)))
    take_in(store, entries(1, start=600))
    assert with_pdq(store) == 2
    assert take_in(store, entries(phash=different(MANY))).unchanged == MANY, "the same file again does not bring it back"
    assert with_pdq(store) == 2


def test_what_was_set_aside_comes_back_and_stays(store: RecordStore) -> None:
    take_in(store, entries(phash=different(MANY)))
    version = store.version()[0]
    assert keep(store, 1, "looked at", now_ms=NOW) == MANY
    assert with_pdq(store) == MANY
    assert len(store.changes_after(version, limit=500).versions) == MANY, "the index follows"
    later = take_in(store, entries(start=2000, phash=different(MANY)))
    assert (later.repeats, with_pdq(store)) == (Repeats(), 2 * MANY), "the operator's word holds for imports to come"


def test_what_is_refused_leaves_every_record_and_comes_back_when_that_is_undone(store: RecordStore) -> None:
    take_in(store, entries())
    take_in(store, entries(1, start=500))
    frame = FileEntry(1, {"md5": code(Algorithm.MD5, 700)}, {}, further=[Code(Algorithm.PDQ, SAME, "frame:3", 80)])
    take_in(store, [frame])
    only = FileEntry(1, {"pdq": SAME}, {})  # nothing else is known of it: without the hash there is no record
    take_in(store, [only])
    assert refuse(store, 1, "all black", now_ms=NOW) == MANY + 2
    assert with_pdq(store) == 1
    later = take_in(store, entries(3, start=800))
    assert (later.new, later.repeats) == (3, Repeats(left_out=3))
    assert keep(store, 1, "it was no filler", now_ms=NOW) == MANY + 5
    assert with_pdq(store) == MANY + 5
    (film,) = (each.record for each in stored_records(store, RecordQuery()) if each.record.further)
    assert film.further == (Code(Algorithm.PDQ, SAME, "frame:3", 80),)


def test_refusing_twice_and_what_is_not_there(store: RecordStore) -> None:
    take_in(store, entries(phash=different(MANY)))
    assert refuse(store, 1, "a filler", now_ms=NOW) == 0
    assert refuse(store, 1, "a filler", now_ms=NOW) == 0
    assert keep(store, 1, "no", now_ms=NOW) == MANY
    with pytest.raises(StoreError, match="no repeated hash has the number 9"):
        keep(store, 9, "", now_ms=NOW)


def test_an_erased_record_leaves_nothing_of_what_was_set_aside_from_it(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    with closing(RecordStore(path)) as store:
        take_in(store, entries(phash=different(MANY)))
        for each in list(itertools.islice(stored_records(store, RecordQuery()), MANY)):
            erase(store, each.record.reference, now_ms=NOW)
        assert keep(store, 1, "nothing is left", now_ms=NOW) == 0
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not any(SAME in each.read_bytes() for each in tmp_path.iterdir())
