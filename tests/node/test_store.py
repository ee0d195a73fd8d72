"""The record store: what changes, what stays, and in which order it is told to those who follow."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vidfed.index import Algorithm
from vidfed.node.errors import StoreError
from vidfed.node.records import Record
from vidfed.node.store import RecordStore, StoreState
from vidfed.wire.values import HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_800_000_000_000
FULL = Record(
    {Algorithm.SHA256: bytes(32), Algorithm.PDQ: bytes(range(32))},
    pdq_quality=90,
    size_bytes=2**40,
    mime_type="image/png",
    series="S",
    tags=("a", "ö"),
    victim_identified=Ternary.YES,
    offender_identified=Ternary.NO,
    distributed=Ternary.UNKNOWN,
    case_reference="C",
    case_contact="desk",
    handling_code=HandlingCode.H3,
    handling_note="ask",
    category="1",
    category_scale="scale",
    category_region="NL",
    source_grading="A",
    information_grading="1",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    made = RecordStore(tmp_path / "records.db")
    yield made
    made.close()


def only(store: RecordStore) -> Record:
    (found,) = store.records([1]).values()
    return found


def test_a_record_is_read_back_as_it_was_taken_in(store: RecordStore) -> None:
    assert store.upsert([FULL], now_ms=NOW).new == 1
    assert only(store) == FULL


def test_the_same_record_twice_changes_nothing(store: RecordStore) -> None:
    store.upsert([FULL], now_ms=NOW)
    before = store.state()
    report = store.upsert([replace(FULL, reference="other")], now_ms=NOW + 1)
    assert (report.new, report.updated, report.unchanged) == (0, 0, 1)
    assert store.state() == before
    assert only(store).reference == FULL.reference


def test_an_update_keeps_the_reference_and_the_hashes_it_does_not_carry(store: RecordStore) -> None:
    store.upsert([FULL], now_ms=NOW)
    update = Record({Algorithm.SHA256: bytes(32), Algorithm.MD5: bytes(16)}, series="T")
    assert store.upsert([update], now_ms=NOW + 1).updated == 1
    held = only(store)
    assert (held.reference, held.series) == (FULL.reference, "T")
    assert held.hashes == {**FULL.hashes, Algorithm.MD5: bytes(16)}
    assert store.state() == StoreState(2, NOW + 1, 1)


def test_the_same_record_twice_in_one_batch_is_one_record(store: RecordStore) -> None:
    report = store.upsert([FULL, replace(FULL, reference="other")], now_ms=NOW)
    assert (report.new, report.repeated, report.disagreeing) == (1, 1, 0)
    assert store.state().records == 1


def test_changes_are_told_in_order_and_from_where_one_stopped(store: RecordStore) -> None:
    store.upsert([Record({Algorithm.MD5: bytes([n]) * 16}) for n in range(5)], now_ms=NOW)
    assert [change.version for change in store.changes_after(0, limit=3)] == [1, 2, 3]
    (fourth, fifth) = store.changes_after(3, limit=100)
    assert (fourth.version, fourth.codes, fifth.record_id) == (4, {Algorithm.MD5: b"\x03" * 16}, 5)
    assert store.changes_after(5, limit=100) == []


def test_codes_are_found_exactly(store: RecordStore) -> None:
    store.upsert([FULL], now_ms=NOW)
    assert store.find(Algorithm.SHA256, [bytes(32), b"\x01" * 32]) == {bytes(32): [1]}
    assert store.find(Algorithm.MD5, [bytes(16)]) == {}


def test_more_codes_than_fit_into_one_statement_are_found(store: RecordStore) -> None:
    codes = [number.to_bytes(16) for number in range(1200)]
    store.upsert([Record({Algorithm.MD5: code}) for code in codes[::2]], now_ms=NOW)
    assert set(store.find(Algorithm.MD5, codes)) == set(codes[::2])


def test_a_batch_that_breaks_off_changes_nothing(store: RecordStore) -> None:
    def broken() -> Iterator[Record]:
        yield FULL
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.upsert(broken(), now_ms=NOW)
    assert store.state() == StoreState(0, 0, 0)


def test_everything_is_there_after_a_restart(store: RecordStore, tmp_path: Path) -> None:
    store.upsert([FULL], now_ms=NOW)
    store.close()
    reopened = RecordStore(tmp_path / "records.db")
    assert only(reopened) == FULL
    reopened.close()


def test_a_store_of_a_later_schema_is_refused(store: RecordStore, tmp_path: Path) -> None:
    store.close()
    with sqlite3.connect(tmp_path / "records.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(StoreError, match="9999"):
        RecordStore(tmp_path / "records.db")


def test_a_damaged_store_is_an_error_of_ours_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_bytes(b"this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(StoreError, match=r"records\.db"):
        RecordStore(tmp_path / "records.db")


def test_an_error_of_the_database_quotes_no_hash(store: RecordStore, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "records.db") as database:
        database.execute("DROP TABLE records")
    database.close()
    with pytest.raises(StoreError) as caught:
        store.upsert([FULL], now_ms=NOW)
    assert "0001020304" not in str(caught.value)
    assert "\\x00" not in str(caught.value)
    assert "INSERT" not in str(caught.value)


def test_the_store_is_private(store: RecordStore, tmp_path: Path) -> None:
    store.upsert([FULL], now_ms=NOW)
    for path in tmp_path.glob("records.db*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_what_is_told_of_a_record_holds_none_of_its_hashes() -> None:
    shown = repr(FULL.view())
    assert FULL.reference in shown
    assert not any(code.hex() in shown or repr(code) in shown for code in FULL.hashes.values())


def test_the_strongest_hash_says_which_item_it_is() -> None:
    assert FULL.identity == "sha256:" + "00" * 32
    assert Record({Algorithm.PDQ: bytes(32), Algorithm.MD5: bytes(16)}).identity == "md5:" + "00" * 16
