"""Frames that very many films share are found, set aside where the films are different, given back, and told as not searched."""

from __future__ import annotations

import random
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.node.search.test_films import NOW, ask, near
from vidfed.federation.lookup.films import not_searched_words
from vidfed.federation.lookup.outcome import Outcome, outcome_of_answer
from vidfed.federation.lookup.question import Item
from vidfed.formats.entries import FileEntry
from vidfed.index import Algorithm, Code
from vidfed.index.codes import frame_kind
from vidfed.node.records.lifecycle import RecordQuery, stored_records
from vidfed.node.records.record import Record
from vidfed.node.records.repeats import keep, refuse, repeats
from vidfed.node.records.shared_frames import find_shared_frames
from vidfed.node.records.store import RecordStore
from vidfed.node.records.upsert.transaction import Origin, UpsertTransaction
from vidfed.node.search.catalogue import Catalogue
from vidfed.wire.answers import read_answer, write_answer
from vidfed.wire.statuses import Status
from vidfed.wire.values import AnswerHeader, FramesNotSearched, LookupAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FILMS = 101


class Shown(NamedTuple):
    """A store of films that begin with one title and of copies of one film, and what is asked of it."""

    store: RecordStore
    catalogue: Catalogue
    title: bytes
    film: bytes


def record(rng: random.Random, codes: Sequence[bytes], series: str) -> Record:
    further = tuple(Code(Algorithm.PDQ, code, frame_kind(n * 1_000, n * 1_000 + 900), 90) for n, code in enumerate(codes))
    return Record({Algorithm.SHA256: rng.randbytes(32)}, further=further, series=series)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    rng = random.Random(3)
    title, film = rng.randbytes(32), [rng.randbytes(32) for _ in range(6)]
    titled = [record(rng, [near(title, 4, rng), *(rng.randbytes(32) for _ in range(5))], "titled") for _ in range(FILMS)]
    copies = [record(rng, [near(code, 4, rng) for code in film], "copy") for _ in range(FILMS)]
    with closing(RecordStore(tmp_path / "records.db")) as store:
        store.upsert([*titled, *copies], now_ms=NOW)
        with closing(Catalogue(store, tmp_path / "index", lambda: NOW)) as catalogue:
            yield Shown(store, catalogue, title, film[0])


def film_of(*codes: bytes) -> Item:
    return Item("film.mp4", {Algorithm.PDQ: codes}, times=tuple((n * 250, n * 250 + 200) for n in range(len(codes))))


def hits(shown: Shown, item: Item, visible: Sequence[str] | None = None) -> tuple[int, tuple[FramesNotSearched, ...]]:
    shown.catalogue.catch_up()
    found = ask(shown.catalogue, item, visible=visible, cap=1_000)
    return len(found.hits), found.frames_not_searched


def test_a_title_of_many_films_is_set_aside_and_a_film_saved_many_times_is_not(shown: Shown) -> None:
    found = find_shared_frames(shown.store, now_ms=NOW)
    assert sorted((each.films, each.is_aside) for each in found) == [(FILMS, False)] * 6 + [(FILMS, True)]
    assert {each.said.partition(":")[0] for each in found} == {"they are copies of one film", "they are different films"}
    assert sorted((each.is_frame, each.state) for each in repeats(shown.store)) == [(True, "kept")] * 6 + [(True, "set aside")]
    assert find_shared_frames(shown.store, now_ms=NOW) == [], "nothing is found twice"
    other = random.Random(9).randbytes(32)
    assert hits(shown, film_of(shown.title, other)) == (0, (FramesNotSearched(0, 1),))
    assert hits(shown, film_of(shown.film, other)) == (FILMS, ())


def test_what_was_set_aside_comes_back_and_what_is_refused_goes(shown: Shown) -> None:
    found = find_shared_frames(shown.store, now_ms=NOW)
    (title,) = (each.number for each in found if each.is_aside)
    assert keep(shown.store, title, "they are one maker's", now_ms=NOW) == FILMS
    assert hits(shown, film_of(shown.title)) == (FILMS, ())
    assert find_shared_frames(shown.store, now_ms=NOW) == [], "the operator's word holds"
    assert refuse(shown.store, title, "a test picture", now_ms=NOW) == FILMS
    assert hits(shown, film_of(shown.title)) == (0, (FramesNotSearched(0, 1),))


def test_a_film_that_comes_later_has_the_frame_set_aside_as_well(shown: Shown) -> None:
    find_shared_frames(shown.store, now_ms=NOW)
    rng = random.Random(5)
    frames = [
        Code(Algorithm.PDQ, near(shown.title, 3, rng), frame_kind(0, 900), 90),
        Code(Algorithm.PDQ, rng.randbytes(32), "second:1-2", 90),
    ]
    with shown.store.database.writing() as connection:
        transaction = UpsertTransaction(shown.store.database, connection, now_ms=NOW, origin=Origin("later.json", "vPDQ"))
        transaction.take_all([FileEntry(1, {"md5": rng.randbytes(16)}, {"series": "later"}, further=frames)])
        assert transaction.finish().repeats.left_out == 1
    (later,) = (each.record for each in stored_records(shown.store, RecordQuery()) if each.record.series == "later")
    assert later.further == (frames[1],)


def test_nothing_is_told_of_a_list_to_whom_none_of_its_films_may_be_told(shown: Shown) -> None:
    find_shared_frames(shown.store, now_ms=NOW)
    asked = film_of(shown.title, shown.film)
    references = {each.record.reference: each.record.series for each in stored_records(shown.store, RecordQuery())}
    copies = [reference for reference, series in references.items() if series == "copy"]
    assert hits(shown, asked, copies) == (FILMS, ()), "to this asker the frame is one that nobody has"
    one = next(reference for reference, series in references.items() if series == "titled")
    assert hits(shown, asked, [*copies, one]) == (FILMS, (FramesNotSearched(0, 1),))


def test_a_picture_that_is_such_a_frame_is_searched_but_the_answer_says_where_not(shown: Shown) -> None:
    find_shared_frames(shown.store, now_ms=NOW)
    shown.store.upsert([Record({Algorithm.PDQ: shown.title}, series="picture")], now_ms=NOW)
    assert hits(shown, Item("title.png", {Algorithm.PDQ: (shown.title,)})) == (1, (FramesNotSearched(0, 1),))


def test_an_officer_reads_what_was_not_searched() -> None:
    header = AnswerHeader("f", "nl", "de", bytes(32), "m", NOW, Status.ANSWERED)
    items = [Item("a.png", {Algorithm.PDQ: (b"\5" * 32,)}), film_of(b"\6" * 32, b"\7" * 32)]
    left_out = (FramesNotSearched(0, 1), FramesNotSearched(1, 1))
    answer = read_answer(write_answer(LookupAnswer(header, frames_not_searched=left_out)))
    assert answer.frames_not_searched == left_out
    said = outcome_of_answer("nl", answer, items, {})
    assert (said.outcome, said.detail) == (Outcome.PARTIAL, "by PDQ not searched among its films, as very many share it: a.png")
    assert [not_searched_words(each, items[each.item]) for each in said.frames_not_searched] == [
        "a.png was not searched among its films: very many of them share it",
        "1 of 2 frames of film.mp4 were not searched: very many of its films share them",
    ]
    part = outcome_of_answer("nl", LookupAnswer(header, frames_not_searched=left_out[1:]), items, {})
    assert part.outcome is Outcome.NO_MATCH
