"""A record with many codes: found by any of them, exactly, and followed when they change."""

from __future__ import annotations

import random
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.memory import columns_of
from tests.support.patience import PATIENCE_S
from vidfed.index import Algorithm, Code, Hash
from vidfed.index.codes import WHOLE
from vidfed.index.search.flat import distances_to
from vidfed.node.records import schema
from vidfed.node.records.lifecycle import RecordQuery, erase, reinstate, retract, stored_record, stored_records
from vidfed.node.records.record import Record
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.query import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.node.records.store import RecordStore

NOW = 1_800_000_000_000
DISTANCE = Algorithm.PDQ.default_distance


@pytest.fixture
def catalogue(store: RecordStore, tmp_path: Path) -> Iterator[Catalogue]:
    with closing(Catalogue(store, tmp_path / "index", lambda: NOW)) as made:
        made.start()
        yield made


def near(code: bytes, bits: int, rng: random.Random) -> bytes:
    changed = int.from_bytes(code)
    for bit in rng.sample(range(256), bits):
        changed ^= 1 << bit
    return changed.to_bytes(32)


def film(seed: int, frames: int) -> Record:
    rng = random.Random(seed)
    first, *others = (rng.randbytes(32) for _ in range(frames + 1))
    further = [Code(Algorithm.PDQ, code, f"second:{number}", 50 + number % 50) for number, code in enumerate(others, 1)]
    hashes = {Algorithm.SHA256: rng.randbytes(32), Algorithm.PDQ: first}
    return Record(hashes, further=tuple(further), pdq_quality=90, reference=f"film{seed}")


def found(catalogue: Catalogue, code: bytes) -> list[tuple[str, str, int, int | None]]:
    (said,) = catalogue.search([SearchQuery(columns_of([Hash(Algorithm.PDQ, code)]), 20)], patience_s=PATIENCE_S)
    return [(said.records[hit.record].reference, m.kind, m.distance, m.quality) for hit in said.hits for m in hit.matches]


def test_a_record_is_found_by_each_of_its_codes_and_the_hit_says_by_which(store: RecordStore, catalogue: Catalogue) -> None:
    store.upsert([film(1, 40), film(2, 0)], now_ms=NOW)
    record = film(1, 40)
    assert found(catalogue, record.hashes[Algorithm.PDQ]) == [("film1", WHOLE, 0, 90)]
    for each in record.further:
        assert found(catalogue, near(each.code, 9, random.Random(3))) == [("film1", each.kind, 9, each.quality)]
    assert [kept.record.further for kept in stored_records(store, RecordQuery())] == [record.further, ()]


def test_a_plain_view_is_found_by_pdq_and_by_no_64_bit_hash(store: RecordStore, catalogue: Catalogue) -> None:
    rng = random.Random(5)
    plain, clear = rng.randbytes(8), rng.randbytes(8)
    further = (
        Code(Algorithm.PHASH, plain, "frame:2", 49),
        Code(Algorithm.PHASH, clear, "frame:3", 50),
        Code(Algorithm.PDQ, bytes(32), "frame:2", 49),
    )
    store.upsert([Record({Algorithm.MD5: rng.randbytes(16)}, further=further)], now_ms=NOW)
    asked = [Hash(Algorithm.PHASH, plain), Hash(Algorithm.PHASH, clear), Hash(Algorithm.PDQ, bytes(32))]
    told = [catalogue.search([SearchQuery(columns_of([each]), 20)], patience_s=PATIENCE_S)[0] for each in asked]
    assert [[match.kind for hit in each.hits for match in hit.matches] for each in told] == [[], ["frame:3"], ["frame:2"]]


def test_what_is_found_is_what_comparing_every_code_finds(store: RecordStore, catalogue: Catalogue) -> None:
    rng = random.Random(11)
    centres = [rng.randbytes(32) for _ in range(5)]
    records = []
    for number in range(60):
        codes = list(dict.fromkeys(near(rng.choice(centres), rng.randrange(25), rng) for _ in range(rng.randint(1, 12))))
        further = tuple(Code(Algorithm.PDQ, code, f"frame:{place}", 60) for place, code in enumerate(codes[1:], 2))
        records.append(Record({Algorithm.PDQ: codes[0]}, further=further, reference=str(number)))
    store.upsert(records, now_ms=NOW)
    for centre in centres:
        (said,) = catalogue.search([SearchQuery(columns_of([Hash(Algorithm.PDQ, centre)]), 1_000)], patience_s=PATIENCE_S)
        told = {said.records[hit.record].reference: (hit.matches[0].distance, hit.matches[0].kind) for hit in said.hits}
        expected = {}
        for record in records:
            own = [(record.hashes[Algorithm.PDQ], WHOLE), *((each.code, each.kind) for each in record.further)]
            asked = np.frombuffer(b"".join(code for code, _ in own), np.uint8).reshape(-1, 32)
            distances = distances_to(Algorithm.PDQ, asked, centre).tolist()
            nearest = min(distances)
            if nearest <= DISTANCE:
                expected[record.reference] = (nearest, own[distances.index(nearest)][1])
        assert told == expected
        assert len(told) > 20


def test_codes_are_added_never_twice_and_gone_when_the_record_is_retracted_or_erased(store: RecordStore, catalogue: Catalogue) -> None:
    whole = film(5, 6)
    some = Record(whole.hashes, further=whole.further[:2], reference="film5")
    store.upsert([some], now_ms=NOW)
    last = whole.further[-1]
    assert found(catalogue, last.code) == []
    assert store.upsert([whole], now_ms=NOW + 1).updated == 1
    assert store.upsert([whole], now_ms=NOW + 2).unchanged == 1
    assert found(catalogue, last.code) == [("film5", last.kind, 0, last.quality)]
    assert stored_record(store, "film5").record.further == whole.further
    retract(store, "film5", "test", now_ms=NOW + 3)
    assert found(catalogue, last.code) == []
    reinstate(store, "film5", now_ms=NOW + 4)
    assert found(catalogue, last.code) == [("film5", last.kind, 0, last.quality)]
    erase(store, "film5", now_ms=NOW + 5)
    assert [found(catalogue, each.code) for each in whole.further] == [[]] * 6
    with store.database.reading() as connection:
        assert connection.execute(schema.codes.select()).all() == []


def test_records_of_many_codes_reach_the_index_a_few_at_a_time(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidfed.node.records.store._MOST_FURTHER", 10)
    store.upsert([film(seed, 6) for seed in range(1, 5)], now_ms=NOW)
    sizes, version = [], 0
    while (changes := store.changes_after(version, limit=100)).versions:
        sizes.append(len(changes.versions))
        version = changes.versions[-1]
    assert sizes == [1, 1, 1, 1]


def test_a_record_is_listed_by_any_of_its_codes(store: RecordStore) -> None:
    record = film(7, 3)
    store.upsert([record, film(8, 3)], now_ms=NOW)
    for code in (record.hashes[Algorithm.PDQ], record.further[2].code):
        wanted = RecordQuery(hash=Hash(Algorithm.PDQ, code))
        assert [kept.record.reference for kept in stored_records(store, wanted)] == ["film7"]
