"""Films among the records and in questions: what is told of them is what comparing every frame with every frame gives."""

from __future__ import annotations

import json
import random
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.films import Films, make_films
from tests.support.patience import PATIENCE_S
from tests.wire.test_lookup_messages import good_request
from vidfed.federation.lookup.films import enough, film_words
from vidfed.federation.lookup.items import item_of_file
from vidfed.federation.lookup.question import Item, split
from vidfed.index import Algorithm, Code
from vidfed.index.codes import frame_kind
from vidfed.index.hashing.results import FileHashes
from vidfed.index.hashing.workers import hash_files
from vidfed.node.intake.pictures import record_of_file
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search import films as films_module
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.query import Found, SearchQuery
from vidfed.wire.requests import read_request, write_request
from vidfed.wire.statuses import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vidfed.wire.values import FilmMatch

NOW = 1_800_000_000_000
DISTANCE = Algorithm.PDQ.default_distance


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    return make_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def asked(films: Films) -> dict[str, Item]:
    """What is asked about each copy, and about the still."""
    paths = {**films.copies, "still": films.still}
    files = [file for file in hash_files(paths.values(), orientations=True) if isinstance(file, FileHashes)]
    return {name: item_of_file(file, any_quality=False) for name, file in zip(paths, files, strict=True)}


@pytest.fixture(scope="module")
def known(films: Films, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """A node that has both films and the still."""
    folder = tmp_path_factory.mktemp("node")
    with closing(RecordStore(folder / "records.db")) as store:
        files = hash_files([films.known, films.other, films.still])
        records = [record_of_file(file, Record(hashes={}, series=file.path.stem)) for file in files if isinstance(file, FileHashes)]
        store.upsert(records, now_ms=NOW)
        with closing(Catalogue(store, folder / "index", lambda: NOW)) as catalogue:
            catalogue.start()
            yield catalogue


def ask(catalogue: Catalogue, *items: Item, visible: Sequence[str] | None = None, cap: int = 20) -> Found:
    (part,) = split(items, {})
    query = SearchQuery(part.columns, cap, films=part.films)
    if visible is not None:
        query = SearchQuery(part.columns, cap, lambda record: record.reference in visible, films=part.films)
    (found,) = catalogue.search([query], patience_s=PATIENCE_S)
    return found


def by_series(found: Found) -> dict[str, FilmMatch | None]:
    return {found.records[hit.record].series: hit.film for hit in found.hits}


def test_every_copy_of_a_film_is_found_and_no_other_film(asked: dict[str, Item], known: Catalogue) -> None:
    for name, item in asked.items():
        if name == "still":
            continue
        found = by_series(ask(known, item))
        film = found["known"]
        assert film is not None
        assert enough(film), name
        assert ("other" in found) == (name == "joined"), name
        if name not in {"clip", "logo"}:
            assert film.record_frames_agreeing >= 0.75 * film.record_frames, (name, film_words(film))


def test_a_clip_says_where_in_the_film_it_is(asked: dict[str, Item], known: Catalogue) -> None:
    film = by_series(ask(known, asked["clip"]))["known"]
    assert film is not None
    (stretch,) = film.stretches
    assert abs(stretch.record_from_ms - stretch.from_ms - 4_000) <= 1_000
    assert film.record_frames_agreeing < film.record_frames


def test_a_film_with_another_inside_says_when(asked: dict[str, Item], known: Catalogue) -> None:
    found = by_series(ask(known, asked["joined"]))
    first, second = found["other"], found["known"]
    assert first is not None
    assert second is not None
    assert first.stretches[0].from_ms < 1_000
    assert abs(second.stretches[0].from_ms - 6_000) <= 1_000


def test_a_still_finds_the_film_and_the_film_finds_the_still(asked: dict[str, Item], known: Catalogue) -> None:
    by_still = ask(known, asked["still"])
    kinds = {by_still.records[hit.record].series: {match.kind for match in hit.matches} for hit in by_still.hits}
    assert set(kinds) == {"known", "still"}
    assert {kind.partition(":")[0] for kind in kinds["known"]} <= {"second", "second-trimmed"}
    film = by_series(ask(known, asked["re-encoded"]))["still"]
    assert film is not None
    assert (film.record_frames, film.stretches[0].record_until_ms) == (1, 0)
    assert film.stretches[0].from_ms <= 6_500 <= film.stretches[-1].until_ms
    assert film_words(film).endswith("of yours is their picture")


def test_a_picture_and_a_film_are_asked_together(asked: dict[str, Item], known: Catalogue) -> None:
    items = [asked["still"], asked["grey"], asked["still"]]
    found = ask(known, *items)
    alone = ask(known, items[0])
    assert len([hit for hit in found.hits if hit.item == 0]) == len(alone.hits)
    assert {found.records[hit.record].series for hit in found.hits if hit.item == 1} == {"known", "still"}
    (part,) = split(items, {})
    pdq = next(column for column in part.columns if column.algorithm is Algorithm.PDQ)
    assert all(pdq.items[m.code] == hit.item for hit in found.hits for m in hit.matches if m.algorithm is Algorithm.PDQ)


def test_a_film_that_is_asked_travels_and_is_kept_unchanged(asked: dict[str, Item]) -> None:
    item = asked["clip"]
    assert Item.from_fields(item.label, item.codes, json.loads(json.dumps(item.to_fields()))) == item
    (part,) = split([asked["still"], item], {})
    request = replace(good_request(), item_count=2, columns=part.columns, films=part.films)
    (sent,), (read,) = part.films, read_request(write_request(request)).films
    assert (read.item, read.from_ms.tolist(), read.until_ms.tolist()) == (1, sent.from_ms.tolist(), sent.until_ms.tolist())
    for broken in (replace(sent, item=0), replace(sent, from_ms=sent.from_ms[1:]), replace(sent, from_ms=sent.until_ms + 1)):
        with pytest.raises(MalformedError):
            read_request(write_request(replace(request, films=(broken,))))


def near(code: bytes, bits: int, rng: random.Random) -> bytes:
    changed = int.from_bytes(code)
    for bit in rng.sample(range(256), bits):
        changed ^= 1 << bit
    return changed.to_bytes(32)


def drawn(rng: random.Random, centres: Sequence[bytes], frames: int) -> list[tuple[bytes, int, int]]:
    """Draw codes of a film's frames, one or two each, with when the frame is shown."""
    codes = []
    for number in range(frames):
        span = number * 1_000, number * 1_000 + rng.randint(0, 1_000)
        codes += [(near(rng.choice(centres), rng.randrange(30), rng), *span) for _ in range(rng.randint(1, 2))]
    return codes


def plainly(asked: Sequence[tuple[bytes, int, int]], record: Record) -> tuple[int, int, int, int]:
    """Count by comparing every code with every code."""
    theirs = [(code.code, code.kind.split(":")[1].split("-")[0]) for code in record.further]
    if Algorithm.PDQ in record.hashes:
        theirs.append((record.hashes[Algorithm.PDQ], "whole"))
    pairs = [
        (start, kind)
        for code, start, _ in asked
        for other, kind in theirs
        if (int.from_bytes(code) ^ int.from_bytes(other)).bit_count() <= DISTANCE
    ]
    return (
        len({start for _, start, _ in asked}),
        len({start for start, _ in pairs}),
        len({kind for _, kind in theirs}),
        len({kind for _, kind in pairs}),
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), rows=st.sampled_from([1, 2, 8, 128]), crowded=st.sampled_from([512]))
def test_shares_are_those_of_comparing_every_frame_with_every_frame(
    seed: int, rows: int, crowded: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(films_module, "ROWS_A_CODE", rows)
    monkeypatch.setattr(films_module, "MOST_CROWDED", crowded)
    folder = tmp_path_factory.mktemp("drawn")
    centres = [rng.randbytes(32) for _ in range(12)]
    records = []
    for number in range(8):
        frames = dict.fromkeys(drawn(rng, rng.sample(centres, 4), rng.randint(1, 12)))
        once = {code: (start, end) for code, start, end in frames}
        further = tuple(Code(Algorithm.PDQ, code, frame_kind(*span), 90) for code, span in once.items())
        records.append(Record({Algorithm.SHA256: rng.randbytes(32)}, further=further, reference=str(number)))
    records.append(Record({Algorithm.PDQ: near(centres[0], 5, rng)}, reference="still"))
    asked = drawn(rng, rng.sample(centres, 5), rng.randint(1, 10))
    item = Item("film", {Algorithm.PDQ: tuple(code for code, _, _ in asked)}, times=tuple((start, end) for _, start, end in asked))
    hidden = set(rng.sample([record.reference for record in records], 2))
    visible = [record.reference for record in records if record.reference not in hidden]
    with closing(RecordStore(folder / "records.db")) as store:
        store.upsert(records, now_ms=NOW)
        with closing(Catalogue(store, folder / "index", lambda: NOW)) as catalogue:
            catalogue.catch_up()
            found = ask(catalogue, item, visible=visible)
    told = {found.records[hit.record].reference: hit for hit in found.hits}
    expected = {record.reference: counts for record in records if (counts := plainly(asked, record))[1] and record.reference in visible}
    assert set(told) == set(expected)
    order = [expected[found.records[hit.record].reference][1] for hit in found.hits]
    assert order == sorted(order, reverse=True)
    for reference, hit in told.items():
        film = hit.film
        assert film is not None
        assert (film.frames, film.frames_agreeing, film.record_frames, film.record_frames_agreeing) == expected[reference]
        spans = [(stretch.from_ms, stretch.until_ms) for stretch in film.stretches]
        agreeing = {
            start
            for code, start, _ in asked
            if any(
                (int.from_bytes(code) ^ int.from_bytes(other)).bit_count() <= DISTANCE
                for record in records
                if record.reference == reference
                for other in [*(each.code for each in record.further), *record.hashes.values()]
                if len(other) == 32
            )
        }
        assert all(any(first <= start <= last for first, last in spans) for start in agreeing)
        (match,) = hit.matches
        assert match.distance == min(
            (int.from_bytes(code) ^ int.from_bytes(other)).bit_count()
            for record in records
            if record.reference == reference
            for other in [*(each.code for each in record.further), *(c for a, c in record.hashes.items() if a is Algorithm.PDQ)]
            for code, _, _ in asked
        )


def test_a_film_whose_frames_all_look_alike_is_compared_whole(tmp_path: Path) -> None:
    """Every frame is near every other: the index leaves rows out for each."""
    rng = random.Random(5)
    centre = rng.randbytes(32)
    codes = list(dict.fromkeys(near(centre, 14, rng) for _ in range(300)))
    further = tuple(Code(Algorithm.PDQ, code, frame_kind(n * 1000, n * 1000 + 1000), 90) for n, code in enumerate(codes))
    record = Record({Algorithm.SHA256: rng.randbytes(32)}, further=further)
    item = Item("film", {Algorithm.PDQ: tuple(codes)}, times=tuple((n * 1000, n * 1000 + 1000) for n in range(len(codes))))
    with closing(RecordStore(tmp_path / "records.db")) as store:
        store.upsert([record], now_ms=NOW)
        with closing(Catalogue(store, tmp_path / "index", lambda: NOW)) as catalogue:
            catalogue.catch_up()
            (hit,) = ask(catalogue, item).hits
    assert hit.film is not None
    assert hit.film.frames_agreeing == hit.film.record_frames_agreeing == len(codes)
    (stretch,) = hit.film.stretches
    assert stretch == (0, len(codes) * 1000, 0, len(codes) * 1000)
    assert np.all([hit.matches[0].distance == 0])
