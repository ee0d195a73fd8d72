"""Coarse records: found whenever they are near, told in the widest band, and by what their hashes' secret part says only."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vidfed.index import Algorithm, Code
from vidfed.index.codes import frame_kind
from vidfed.index.search.flat import distances_to
from vidfed.node.lookup.told import ToldCodes
from vidfed.node.policy.policy import Distances, Rule
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.coarse import compared_parts
from vidfed.node.search.query import SearchQuery
from vidfed.wire.values import FilmTimes, HashColumn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vidfed.node.search.query import Telling

NOW = 1_800_000_000_000
RULE = Rule("bands", frozenset(), frozenset(), distances=Distances.BANDS)
ASKED = (Algorithm.MD5, Algorithm.PDQ, Algorithm.PHASH, Algorithm.DHASH, Algorithm.PHOTODNA)
RECORDS, ITEMS = 40, 60


@dataclass
class SomeCoarse:
    """Bands for an asker of whom it is said which records are coarse."""

    codes: ToldCodes
    coarse: frozenset[str]
    counted: list[Telling] = field(default_factory=list)

    def count(self, tellings: Sequence[Telling]) -> frozenset[str]:
        self.counted += tellings
        return self.coarse

    def compared(self, algorithm: Algorithm, code: bytes) -> NDArray[np.uint8]:
        return self.codes.compared(algorithm, code)


@pytest.fixture
def codes(tmp_path: Path) -> Iterator[ToldCodes]:
    with closing(ToldCodes(tmp_path / "told.db")) as made:
        yield made


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with (
        closing(RecordStore(tmp_path / "records.db")) as store,
        closing(Catalogue(store, tmp_path / "index", lambda: NOW)) as made,
    ):
        made.start()
        yield made


def changed(random: np.random.Generator, algorithm: Algorithm, code: bytes) -> bytes:
    """Return a code up to about twice as far from another one as is usual; digests are the same or not at all."""
    if algorithm.is_digest:
        return code if random.random() < 0.5 else random.bytes(algorithm.code_bytes)
    if algorithm is Algorithm.PHOTODNA:
        step = random.integers(-25, 26, algorithm.code_bytes)
        return np.clip(np.frombuffer(code, np.uint8).astype(int) + step, 0, 255).astype(np.uint8).tobytes()
    bits = np.unpackbits(np.frombuffer(code, np.uint8))
    bits[random.choice(len(bits), random.integers(0, 2 * algorithm.default_distance + 2), replace=False)] ^= 1
    return np.packbits(bits).tobytes()


def test_what_is_near_is_told_whether_coarse_or_not_and_what_is_told_is_near_in_what_is_compared(
    catalogue: Catalogue, codes: ToldCodes
) -> None:
    random = np.random.default_rng(5)
    held = [
        Record({each: random.bytes(each.code_bytes) for each in ASKED}, reference=f"r{number}", series="hidden" if number < 4 else "")
        for number in range(RECORDS)
    ]
    further = [Code(Algorithm.PDQ, random.bytes(32), f"frame:{number}", 70) for number in range(2, 5)]
    held.append(Record({Algorithm.PDQ: random.bytes(32)}, further=tuple(further), reference="many"))
    catalogue.store.upsert(held, now_ms=NOW)
    sources = [int(random.integers(RECORDS)) for _ in range(ITEMS)]
    columns = []
    for algorithm in ASKED:
        asked = [changed(random, algorithm, held[source].hashes[algorithm]) for source in sources]
        asked += [changed(random, algorithm, further[1].code)] if algorithm is Algorithm.PDQ else []
        rows = np.frombuffer(b"".join(asked), np.uint8).reshape(len(asked), -1)
        columns.append(HashColumn(algorithm, rows, np.arange(len(asked), dtype=np.uint32), algorithm.default_distance))

    bands = SomeCoarse(codes, frozenset(record.reference for record in held))
    query = SearchQuery(columns, 20, lambda record: record.series != "hidden", RULE.tell, bands=bands)
    (coarse,) = catalogue.search([query], patience_s=5.0)
    told = {
        (hit.item, coarse.records[hit.record].reference, match.algorithm): (match.distance, match.slack, match.compared)
        for hit in coarse.hits
        for match in hit.matches
    }

    expected: dict[tuple[int, str, Algorithm], tuple[int, int, int]] = {}
    near = set()
    for record in held[4:]:
        for column in columns:
            own = [record.hashes.get(column.algorithm), *(each.code for each in record.further if each.algorithm is column.algorithm)]
            for code in filter(None, own):
                mask = codes.compared(column.algorithm, code) if column.algorithm.is_perceptual else np.uint8(255)
                part = distances_to(column.algorithm, column.codes & mask, bytes(np.frombuffer(code, np.uint8) & mask))
                whole = distances_to(column.algorithm, column.codes, code)
                edge = column.max_distance
                wanted = (edge, edge, compared_parts(column.algorithm)) if column.algorithm.is_perceptual else (0, 0, 0)
                expected |= {(item, record.reference, column.algorithm): wanted for item in np.flatnonzero(part <= edge).tolist()}
                near |= {(item, record.reference, column.algorithm) for item in np.flatnonzero(whole <= edge).tolist()}
    assert told == expected
    assert near < set(told)
    assert {telling.kind for telling in bands.counted} == {each.value for each in ASKED if each.is_perceptual}


def test_of_more_records_than_are_told_coarse_ones_are_the_last(catalogue: Catalogue, codes: ToldCodes) -> None:
    code = bytes(range(32))
    held = [Record({Algorithm.PDQ: bytes([number]) + code[1:]}, reference=name) for number, name in enumerate("abc")]
    catalogue.store.upsert(held, now_ms=NOW)
    column = HashColumn(Algorithm.PDQ, np.frombuffer(code, np.uint8)[None], np.zeros(1, np.uint32), 31)
    for cap, names in ((3, ["b", "c", "a"]), (2, ["b", "c"])):
        query = SearchQuery([column], cap, told=RULE.tell, bands=SomeCoarse(codes, frozenset({"a"})))
        (found,) = catalogue.search([query], patience_s=5.0)
        assert [found.records[hit.record].reference for hit in found.hits] == names
        assert found.truncated_items == ((0,) if cap == 2 else ())


@pytest.mark.parametrize("coarse", [False, True])
def test_of_films_it_is_told_about_how_much_agrees_and_in_which_minutes(catalogue: Catalogue, codes: ToldCodes, *, coarse: bool) -> None:
    random = np.random.default_rng(6)
    frames = [random.bytes(32) for _ in range(40)]
    shown = [(at * 10_000, at * 10_000 + 900) for at in range(40)]
    kinds = [frame_kind(from_ms, until_ms) for from_ms, until_ms in shown]
    further = tuple(Code(Algorithm.PDQ, code, kind, 90) for code, kind in zip(frames, kinds, strict=True))
    catalogue.store.upsert([Record({Algorithm.MD5: bytes(range(16))}, further=further, reference="film")], now_ms=NOW)
    clip = np.frombuffer(b"".join(frames[10:27]) + random.bytes(64), np.uint8).reshape(-1, 32)
    starts = np.arange(len(clip), dtype=np.uint32) * 10_000
    column = HashColumn(Algorithm.PDQ, clip, np.zeros(len(clip), np.uint32), 31)
    bands = SomeCoarse(codes, frozenset({"film"} if coarse else ()))
    query = SearchQuery([column], 20, told=RULE.tell, films=[FilmTimes(0, starts, starts + 900)], bands=bands)
    ((hit,),) = [found.hits for found in catalogue.search([query], patience_s=5.0)]
    assert hit.film is not None
    assert (hit.film.frames, hit.film.frames_agreeing, hit.film.record_frames, hit.film.record_frames_agreeing) == (19, 12, 40, 12)
    assert hit.film.coarse
    assert [tuple(stretch) for stretch in hit.film.stretches] == [(0, 180_000, 60_000, 300_000)]
    assert [(match.distance, match.compared) for match in hit.matches] == ([(31, 160)] if coarse else [(0, 0)])
    assert [telling.kind for telling in bands.counted] == ["film"]
