"""The record store, on both databases."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests.support.records import NOW, code, full_record, record
from vidfed.index import Algorithm
from vidfed.node.errors import StoreError
from vidfed.node.records.store import RecordStore
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.node.records.record import Record


def test_a_record_comes_back_with_every_field(store: RecordStore) -> None:
    given = full_record()
    store.upsert([given], now_ms=NOW)
    assert store.records([1]) == {1: given}


def test_an_empty_store_is_at_version_zero(store: RecordStore) -> None:
    assert store.version() == (0, 0)
    assert store.state().records == 0
    assert store.changes_after(0, limit=10).versions == ()
    assert store.mark(0), "its history begins with a mark of its own, by which it is told from any other empty store"


def test_taking_the_same_records_again_changes_nothing(store: RecordStore) -> None:
    records = [record(seed, series="s") for seed in range(20)]
    store.upsert(records, now_ms=NOW)
    before = store.state()
    report = store.upsert([replace(each, reference="0123456789abcdef") for each in records], now_ms=NOW + 5)
    assert (report.new, report.updated, report.unchanged) == (0, 0, 20)
    assert store.state() == before


def test_a_changed_record_keeps_its_number_and_reference_and_gets_a_new_version(store: RecordStore) -> None:
    first = record(1, series="old")
    store.upsert([first, record(2)], now_ms=NOW)
    report = store.upsert([record(1, series="new")], now_ms=NOW + 5)
    assert report.updated == 1
    assert store.records([1])[1] == replace(first, series="new")
    assert store.version() == (3, NOW + 5)
    changes = store.changes_after(0, limit=10)
    assert (changes.versions, changes.record_ids) == ((2, 3), (2, 1))


def test_the_same_item_twice_in_one_batch_is_one_record(store: RecordStore) -> None:
    report = store.upsert([full_record(), full_record()], now_ms=NOW)
    assert (report.new, report.repeated, report.disagreeing) == (1, 1, 0)
    assert store.state().records == 1


def test_what_a_new_row_leaves_open_stays_known(store: RecordStore) -> None:
    store.upsert([full_record()], now_ms=NOW)
    report = store.upsert([record(1, (Algorithm.MD5,))], now_ms=NOW)
    assert report.unchanged == 1
    assert store.records([1])[1].victim_identified is Ternary.YES


def test_an_item_known_by_md5_alone_learns_its_stronger_digests(store: RecordStore) -> None:
    store.upsert([record(1, (Algorithm.MD5,))], now_ms=NOW)
    store.upsert([record(1, (Algorithm.MD5, Algorithm.SHA1))], now_ms=NOW)
    store.upsert([record(1, (Algorithm.SHA1, Algorithm.SHA256))], now_ms=NOW)
    assert store.state().records == 1
    assert store.records([1])[1].hashes.keys() == {Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256}


def test_a_forged_md5_does_not_join_two_items(store: RecordStore) -> None:
    md5 = {Algorithm.MD5: code(Algorithm.MD5, 1)}
    twins = [replace(record(seed), hashes=md5 | {Algorithm.SHA1: code(Algorithm.SHA1, seed)}) for seed in (1, 2)]
    store.upsert(twins, now_ms=NOW)
    assert store.find(Algorithm.MD5, [md5[Algorithm.MD5]]) == {md5[Algorithm.MD5]: [1, 2]}
    assert store.upsert(twins, now_ms=NOW).unchanged == 2


def test_items_known_by_perceptual_hash_alone_are_recognised_by_it(store: RecordStore) -> None:
    bare = record(1, (Algorithm.PDQ,))
    store.upsert([bare], now_ms=NOW)
    assert store.upsert([replace(bare, reference="x")], now_ms=NOW).unchanged == 1
    assert store.upsert([record(1)], now_ms=NOW).new == 1, "a file with the same PDQ hash is another item: near is not equal"


def test_digests_are_found_and_unknown_ones_left_out(store: RecordStore) -> None:
    store.upsert([record(seed) for seed in range(1200)], now_ms=NOW)
    wanted = [code(Algorithm.SHA1, seed) for seed in (*range(1200), 5000)]
    found = store.find(Algorithm.SHA1, wanted)
    assert found == {wanted[seed]: [seed + 1] for seed in range(1200)}


def test_changes_come_in_order_and_in_portions(store: RecordStore) -> None:
    store.upsert([record(seed) for seed in range(30)], now_ms=NOW)
    first = store.changes_after(0, limit=20)
    second = store.changes_after(first.versions[-1], limit=20)
    assert [*first.versions, *second.versions] == list(range(1, 31))
    assert list(first.codes[Algorithm.PDQ]) == [code(Algorithm.PDQ, seed) for seed in range(20)]
    assert set(first.codes[Algorithm.PHASH]) == {None}
    assert store.changes_after(30, limit=20).versions == ()


def test_a_failed_batch_changes_nothing(store: RecordStore) -> None:
    def failing() -> Iterator[Record]:
        yield from (record(seed) for seed in range(6000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.upsert(failing(), now_ms=NOW)
    assert store.state().records == 0
    assert store.version() == (0, 0)


def test_writers_wait_for_each_other_and_every_version_is_given_once(store: RecordStore) -> None:
    def write(part: int) -> None:
        for seed in range(10):
            store.upsert([record(part * 100 + seed)], now_ms=NOW)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert list(store.changes_after(0, limit=100).versions) == list(range(1, 41))


def test_a_second_process_sees_the_first_ones_changes(location: Path | str) -> None:
    with closing(RecordStore(location)) as first, closing(RecordStore(location)) as second:
        first.upsert([record(1)], now_ms=NOW)
        assert second.version() == (1, NOW)
        second.upsert([record(2)], now_ms=NOW)
        assert first.changes_after(1, limit=5).record_ids == (2,)


def test_public_references_are_random(store: RecordStore) -> None:
    store.upsert([record(seed) for seed in range(100)], now_ms=NOW)
    references = {each.reference for each in store.records(range(1, 101)).values()}
    assert len(references) == 100
    assert all(len(reference) == 16 for reference in references)


def test_a_store_of_a_newer_program_is_refused(location: Path | str) -> None:
    with closing(RecordStore(location)) as store, store.database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="older than its store: update it"):
        RecordStore(location)


def test_a_damaged_store_is_an_error_of_ours_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_bytes(b"this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(StoreError, match=r"records\.db"):
        RecordStore(tmp_path / "records.db")


def test_an_error_of_the_database_quotes_no_hash(store: RecordStore) -> None:
    with store.database.writing(tables_exist=False) as connection:
        connection.execute(sa.text("ALTER TABLE records DROP COLUMN series"))
    with pytest.raises(StoreError, match="series") as raised:
        store.upsert([full_record()], now_ms=NOW)
    hashes = [each for held in full_record().hashes.values() for each in (held.hex()[:8], repr(held)[2:10])]
    assert not any(each in str(raised.value) for each in (*hashes, "INSERT"))


def test_what_is_told_of_a_record_holds_none_of_its_hashes() -> None:
    given = full_record()
    shown = repr(given.view())
    assert given.reference in shown
    assert not any(held.hex() in shown or repr(held) in shown for held in given.hashes.values())


def test_only_its_owner_can_read_the_store_file(tmp_path: Path) -> None:
    with closing(RecordStore(tmp_path / "records.db")) as store:
        store.upsert([record(1)], now_ms=NOW)
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_another_kind_of_database_is_refused_without_showing_its_password() -> None:
    with pytest.raises(StoreError, match="mysql is not supported") as raised:
        RecordStore("mysql://user:secret@host/name")
    assert "secret" not in str(raised.value)


def test_a_server_that_is_not_there_is_named_without_its_password(postgresql_server: str) -> None:
    nowhere = postgresql_server.replace("vidfed@", "vidfed:secret@").rpartition("/")[0] + "/absent"
    with pytest.raises(StoreError, match="absent") as raised:
        RecordStore(nowhere)
    assert "secret" not in str(raised.value)
