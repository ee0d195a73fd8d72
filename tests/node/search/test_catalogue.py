"""The catalogue: finds what the store holds, follows it, rebuilds its indexes, and never takes being behind for finding nothing."""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.memory import columns_of
from tests.support.patience import PATIENCE_S
from vidfed.index import Algorithm, Hash, HashIndex, IndexCorruptError, IndexLockedError, IndexStorageError
from vidfed.index.search import hash_index
from vidfed.index.search.merger import Sizes
from vidfed.node.errors import IndexBehindError, IndexBrokenError
from vidfed.node.policy.policy import Distances, Rule
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search import nearest
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.query import SearchQuery
from vidfed.wire.values import Match

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.node.search.query import Found

NOW = 1_800_000_000_000
PDQ = Hash(Algorithm.PDQ, bytes(range(32)))
SHA = Hash(Algorithm.SHA256, bytes(range(32)))


def clock() -> int:
    return NOW


def flipped(code: bytes, *bits: int) -> bytes:
    changed = bytearray(code)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    made = RecordStore(tmp_path / "records.db")
    yield made
    made.close()


@pytest.fixture
def catalogue(store: RecordStore, tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(store, tmp_path / "index", clock)
    made.start()
    yield made
    made.close()


def find(catalogue: Catalogue, *hashes: Hash, cap: int = 20, patience_s: float = PATIENCE_S, distance: int | None = None) -> Found:
    (found,) = catalogue.search([SearchQuery(columns_of(hashes, distance), cap)], patience_s=patience_s)
    return found


def test_an_empty_store_answers_that_it_has_nothing(catalogue: Catalogue) -> None:
    found = find(catalogue, PDQ, SHA)
    assert (found.hits, found.records, found.state.version, found.state.changed_ms) == ((), (), 0, 0)
    assert [(each.algorithm, each.max_distance) for each in found.state.searched] == [(Algorithm.PDQ, 31), (Algorithm.SHA256, 0)]


def test_a_new_record_is_found_by_the_next_search(catalogue: Catalogue, store: RecordStore) -> None:
    assert find(catalogue, PDQ).hits == ()
    for number in range(3):
        store.upsert([Record({Algorithm.PDQ: flipped(PDQ.code, number)}, series=str(number))], now_ms=NOW + number)
        found = find(catalogue, PDQ)
        assert len(found.hits) == number + 1
        assert (found.state.version, found.state.changed_ms) == (number + 1, NOW + number)


def test_exact_and_near_matches_of_one_record_are_one_hit(catalogue: Catalogue, store: RecordStore) -> None:
    store.upsert([Record({Algorithm.PDQ: flipped(PDQ.code, 0, 9, 77), Algorithm.SHA256: SHA.code})], now_ms=NOW)
    (one,), (other,) = find(catalogue, PDQ).hits, find(catalogue, SHA).hits
    assert [(m.algorithm, m.distance, m.code) for m in one.matches] == [(Algorithm.PDQ, 3, 0)]
    assert [(m.algorithm, m.distance, m.code) for m in other.matches] == [(Algorithm.SHA256, 0, 0)]


def test_the_distance_is_inclusive(catalogue: Catalogue, store: RecordStore) -> None:
    store.upsert([Record({Algorithm.PDQ: flipped(PDQ.code, *range(31))})], now_ms=NOW)
    assert len(find(catalogue, PDQ, distance=31).hits) == 1
    assert len(find(catalogue, PDQ, distance=30).hits) == 0


def test_of_more_records_than_are_told_the_nearest_are_kept_and_the_rest_announced(catalogue: Catalogue, store: RecordStore) -> None:
    store.upsert([Record({Algorithm.PDQ: flipped(PDQ.code, *range(count))}, series=str(count)) for count in range(6)], now_ms=NOW)
    found = find(catalogue, PDQ, Hash(Algorithm.PDQ, bytes(32)), cap=3)
    assert [found.records[hit.record].series for hit in found.hits] == ["0", "1", "2"]
    assert found.truncated_items == (0,)
    assert find(catalogue, PDQ, cap=6).truncated_items == ()


def test_questions_searched_together_get_what_each_gets_alone(catalogue: Catalogue, store: RecordStore) -> None:
    near = [Record({Algorithm.PDQ: flipped(PDQ.code, bit), Algorithm.SHA256: bytes([bit]) * 32}, series=str(bit)) for bit in range(6)]
    store.upsert([*near, Record({Algorithm.SHA256: SHA.code}, series="sha")], now_ms=NOW)
    other = Hash(Algorithm.PDQ, flipped(PDQ.code, *range(200)))
    wanted = [
        SearchQuery(columns_of([PDQ, SHA]), 3),
        SearchQuery(columns_of([other, PDQ, other]), 20, visible=lambda record: record.series != "1"),
        SearchQuery(columns_of([SHA, other]), 20),
        SearchQuery(columns_of([other, PDQ], 0), 20),
        SearchQuery(columns_of([other]), 20),
        SearchQuery(columns_of([PDQ]), 20, told=lambda match: replace(match, distance=31, slack=30)),
    ]
    together = catalogue.search(wanted, patience_s=PATIENCE_S)
    alone = [found for each in wanted for found in catalogue.search([each], patience_s=PATIENCE_S)]
    assert [(found.records, found.hits, found.truncated_items) for found in together] == [
        (found.records, found.hits, found.truncated_items) for found in alone
    ]
    assert [[(each.algorithm, each.max_distance) for each in found.state.searched] for found in together] == [
        [(each.algorithm, each.max_distance) for each in found.state.searched] for found in alone
    ]
    assert [len(found.hits) for found in together] == [4, 5, 1, 0, 0, 6]
    assert together[0].truncated_items == (0,)


@pytest.mark.parametrize("algorithms", [(Algorithm.PDQ,), (Algorithm.PDQ, Algorithm.SHA256, Algorithm.PHASH)])
def test_a_crowd_around_a_code_hides_nothing_that_may_be_told(
    catalogue: Catalogue, store: RecordStore, monkeypatch: pytest.MonkeyPatch, algorithms: tuple[Algorithm, ...]
) -> None:
    """Records ever farther from what is asked: first a crowd that is withheld, then five that may be told, then others."""
    monkeypatch.setattr(nearest, "FEWEST", 2)
    crowd = [
        Record(
            {Algorithm.PDQ: flipped(PDQ.code, *range(number // 4)), Algorithm.PHASH: bytes(8), Algorithm.MD5: number.to_bytes(16)},
            series=str(number) if number in range(70, 75) else "withheld",
        )
        for number in range(100)
    ]
    store.upsert(crowd, now_ms=NOW)
    asked = [hash_ for hash_ in (PDQ, SHA, Hash(Algorithm.PHASH, bytes(8))) if hash_.algorithm in algorithms]
    columns = columns_of(asked)
    for column in columns:
        column.items[:] = 0
    exact, bands = Rule("exact", frozenset(), frozenset()), Rule("bands", frozenset(), frozenset(), distances=Distances.BANDS)
    for cap, rule in itertools.product((1, 4, 5, 6), (exact, bands)):
        (found,) = catalogue.search(
            [SearchQuery(columns, cap, lambda record: record.series != "withheld", rule.tell)], patience_s=PATIENCE_S
        )
        assert [found.records[hit.record].series for hit in found.hits] == [str(number) for number in range(70, 75)][:cap]
        assert found.truncated_items == ((0,) if cap < 5 else ())
        told = {match.algorithm: match.distance for match in found.hits[0].matches}
        assert told == {
            algorithm: rule.tell(Match(algorithm, 17 if algorithm is Algorithm.PDQ else 0, 0)).distance
            for algorithm in algorithms
            if algorithm is not Algorithm.SHA256
        }


def test_an_exact_match_comes_before_any_near_one(catalogue: Catalogue, store: RecordStore) -> None:
    both = Record({Algorithm.PDQ: flipped(PDQ.code, *range(20)), Algorithm.SHA256: SHA.code}, series="exact")
    store.upsert([Record({Algorithm.PDQ: PDQ.code}, series="near"), both], now_ms=NOW)
    columns = columns_of([PDQ, SHA])
    for column in columns:
        column.items[:] = 0
    (found,) = catalogue.search([SearchQuery(columns, 1)], patience_s=PATIENCE_S)
    assert [found.records[hit.record].series for hit in found.hits] == ["exact"]


def test_a_changed_code_is_found_and_the_old_one_no_longer(catalogue: Catalogue, store: RecordStore) -> None:
    store.upsert([Record({Algorithm.SHA256: SHA.code, Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    other = Hash(Algorithm.PDQ, flipped(PDQ.code, *range(200)))
    store.upsert([Record({Algorithm.SHA256: SHA.code, Algorithm.PDQ: other.code})], now_ms=NOW)
    assert find(catalogue, PDQ).hits == ()
    assert len(find(catalogue, other).hits) == 1


def test_an_index_that_is_behind_says_so_whether_or_not_there_would_be_a_hit(store: RecordStore, tmp_path: Path) -> None:
    catalogue = Catalogue(store, tmp_path / "index", clock)  # not started: nothing follows
    store.upsert([Record({Algorithm.SHA256: SHA.code, Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    for asked in (PDQ, SHA, Hash(Algorithm.PDQ, bytes(32))):
        with pytest.raises(IndexBehindError, match="0 of 1"):
            find(catalogue, asked, patience_s=0.0)
    catalogue.close()


def reopened(store: RecordStore, folder: Path, code: bytes = PDQ.code) -> Found:
    catalogue = Catalogue(store, folder, clock)
    catalogue.start()
    try:
        return find(catalogue, Hash(Algorithm.PDQ, code))
    finally:
        catalogue.close()


def test_everything_is_there_after_a_restart(store: RecordStore, tmp_path: Path) -> None:
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    assert len(reopened(store, tmp_path / "index").hits) == 1
    store.upsert([Record({Algorithm.PDQ: flipped(PDQ.code, 1)})], now_ms=NOW)
    assert len(reopened(store, tmp_path / "index").hits) == 2


def test_an_index_whose_folder_was_deleted_is_rebuilt_from_the_store(store: RecordStore, tmp_path: Path) -> None:
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    reopened(store, tmp_path / "index")
    shutil.rmtree(tmp_path / "index")
    assert len(reopened(store, tmp_path / "index").hits) == 1


def test_one_algorithm_s_index_that_was_deleted_is_rebuilt_from_the_store(store: RecordStore, tmp_path: Path) -> None:
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    reopened(store, tmp_path / "index")
    shutil.rmtree(tmp_path / "index/pdq")
    assert len(reopened(store, tmp_path / "index").hits) == 1


@pytest.mark.parametrize("damage", ["torn", "altered", "emptied", "removed"])
def test_a_damaged_index_is_rebuilt_from_the_store_and_said_in_the_log(
    store: RecordStore, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    reopened(store, tmp_path / "index")
    largest = max((path for path in (tmp_path / "index/pdq").iterdir() if path.name != "MANIFEST"), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    match damage:
        case "torn":
            largest.write_bytes(content[: len(content) // 2])
        case "altered":
            largest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "emptied":
            largest.write_bytes(b"")
        case _:
            largest.unlink()
    with caplog.at_level(logging.WARNING):
        assert len(reopened(store, tmp_path / "index").hits) == 1
    assert "PDQ index is damaged" in caplog.text


def taken_in(folder: Path, *codes: bytes) -> RecordStore:
    """A store that got these one after the other."""
    made = RecordStore(folder / "records.db")
    for code in codes:
        made.upsert([Record({Algorithm.PDQ: code})], now_ms=NOW)
    return made


@pytest.mark.parametrize("refilled", [0, 1, 2], ids=["not refilled", "refilled to the same number of changes", "refilled beyond it"])
def test_a_store_put_back_by_hand_is_not_taken_for_the_one_the_index_followed(refilled: int, tmp_path: Path) -> None:
    first, lost, again, more = (flipped(PDQ.code, *range(start, start + 64)) for start in (0, 64, 128, 192))
    file = tmp_path / "records.db"
    taken_in(tmp_path, first).close()
    shutil.copyfile(file, tmp_path / "copy.db")
    newer = taken_in(tmp_path, lost)
    assert len(reopened(newer, tmp_path / "index", lost).hits) == 1
    newer.close()
    shutil.copyfile(tmp_path / "copy.db", file)
    put_back = taken_in(tmp_path, *(again, more)[:refilled])
    held = [first, again, more][: refilled + 1]
    for code in (first, lost, again, more):
        found = reopened(put_back, tmp_path / "index", code).records
        assert [record.hashes[Algorithm.PDQ] for record in found] == [code] * (code in held)
    put_back.close()


def test_an_index_found_damaged_by_a_search_is_emptied_before_the_eyes_of_all_and_filled_again(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, renewals = Catalogue(store, tmp_path / "index", clock), tmp_path / "index/renewals"
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    made.catch_up()
    assert find(made, PDQ).hits
    before = renewals.stat().st_size if renewals.exists() else 0

    def damaged(*_: object) -> None:
        raise IndexCorruptError("segment: checksum does not match")

    with monkeypatch.context() as patched:
        patched.setattr(HashIndex, "range_search", damaged)
        with pytest.raises(IndexBrokenError, match="checksum"):
            find(made, PDQ)
    made.catch_up()
    assert renewals.stat().st_size == before + 1
    assert find(made, PDQ).hits
    made.close()


def test_a_search_during_which_any_process_emptied_an_index_is_not_believed(
    catalogue: Catalogue, store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    assert find(catalogue, PDQ).hits
    search = HashIndex.range_search

    def emptied_meanwhile(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as it is
        with (tmp_path / "index/renewals").open("ab") as file:
            file.write(b".")
        return search(*arguments, **options)

    monkeypatch.setattr(HashIndex, "range_search", emptied_meanwhile)
    with pytest.raises(IndexBehindError, match="renewed during the search"):
        find(catalogue, PDQ)


def test_two_processes_cannot_keep_one_index(catalogue: Catalogue, store: RecordStore, tmp_path: Path) -> None:
    assert catalogue.progress() == (0, 0)
    with pytest.raises(IndexLockedError):
        Catalogue(store, tmp_path / "index", clock)


def test_a_follower_that_fails_closes_the_catalogue_and_recovers(
    catalogue: Catalogue, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_put = HashIndex.put

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HashIndex, "put", fail)
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    with pytest.raises(IndexBrokenError, match="No space"):
        find(catalogue, PDQ)
    monkeypatch.setattr(HashIndex, "put", true_put)
    catalogue._follower._wake.set()
    with catalogue._follower._moved:
        assert catalogue._follower._moved.wait_for(lambda: catalogue._follower._broken is None, PATIENCE_S)
    assert len(find(catalogue, PDQ).hits) == 1


def test_many_searches_at_once_agree(catalogue: Catalogue, store: RecordStore) -> None:
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(find(catalogue, PDQ).hits))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 8


def test_what_is_merged_is_merged_for_other_processes_too(store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Sizes(first_seal_rows=8, seal_rows=8, merged_together=2)
    monkeypatch.setattr(hash_index, "Sizes", lambda: tiny)
    catalogue = Catalogue(store, tmp_path / "index", clock)
    for part in range(4):
        store.upsert([Record({Algorithm.PDQ: bytes([part, bit]) * 16}) for bit in range(8)], now_ms=NOW + part)
        catalogue.catch_up()
    index = catalogue._follower.indexes[Algorithm.PDQ]
    index.settle()
    with HashIndex.open(tmp_path / "index/pdq", Algorithm.PDQ, read_only=True) as other:
        assert other.stats().segments > index.stats().segments == 1
        catalogue.catch_up()
        assert other.stats().segments == 1
        assert other.source_version == index.source_version == store.version()[0]
    catalogue.close()


def test_merged_parts_that_cannot_be_written_stop_no_lookup(
    catalogue: Catalogue, store: RecordStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.upsert([Record({Algorithm.PDQ: PDQ.code})], now_ms=NOW)
    assert len(find(catalogue, PDQ).hits) == 1

    def refuse(_index: HashIndex, source_version: int | None = None, source_mark: str | None = None) -> None:
        assert (source_version, source_mark) == (None, None)
        raise IndexStorageError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(HashIndex, "flush", refuse)
        catalogue.catch_up()
        catalogue.catch_up()
    assert len(find(catalogue, PDQ).hits) == 1
    assert caplog.text.count("its merged parts cannot be written") <= len(catalogue._follower.indexes)
    assert "no space left" in caplog.text


@pytest.mark.parametrize(("records", "band"), [(999, 0), (1000, 1000), (1001, 1000)])
def test_exactly_1000_records_are_in_the_band(store: RecordStore, tmp_path: Path, records: int, band: int) -> None:
    store.upsert([Record({Algorithm.SHA256: number.to_bytes(32)}) for number in range(1, records + 1)], now_ms=NOW)
    with closing(Catalogue(store, tmp_path / "index", clock)) as counted:
        counted.catch_up()
        assert find(counted, SHA).state.records_at_least == band
