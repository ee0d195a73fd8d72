"""Bounds of what is signed that stand in no other message's tests: films, news, columns by themselves, and what ends mandates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.memory import MemoryFederation
from vidfed.index import Algorithm, Hash
from vidfed.index.codes import WHOLE
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.answers import read_answer, write_answer
from vidfed.wire.news import MAX_NEWS_ITEMS, Change, News, NewsItem, ToldHit, read_news, write_news
from vidfed.wire.requests import MandateEnd, read_columns, read_mandate_end, read_request, write_columns, write_mandate_end, write_request
from vidfed.wire.statuses import MalformedError, Status, TooLargeError
from vidfed.wire.values import (
    EPOCH_BYTES,
    MAX_ITEMS,
    MAX_WORK,
    AnswerHeader,
    FilmMatch,
    HashColumn,
    Hit,
    IndexState,
    LookupAnswer,
    Match,
    RecordView,
    Standing,
    Stretch,
)

STRETCHES = (Stretch(0, 10, 0, 10), Stretch(20, 30, 0, 10))
NOW = 1_800_000_000_000


def answered(film: FilmMatch) -> bytes:
    header = AnswerHeader("f", "nl", "fr", bytes(32), "m", 1, Status.ANSWERED, "d", IndexState(1, 1, 1))
    return write_answer(LookupAnswer(header, (RecordView("r"),), (Hit(0, 0, (Match(Algorithm.PDQ, 3, 0),), film),)))


@pytest.mark.parametrize("counts", [(5, 5, 5, 5), (5, 1, 5, 1)])
def test_a_film_comes_back_as_it_was(counts: tuple[int, int, int, int]) -> None:
    film = FilmMatch(*counts, STRETCHES, 3)
    assert read_answer(answered(film)).hits[0].film == film


@pytest.mark.parametrize("counts", [(5, 6, 5, 5), (5, 5, 5, 6), (5, 0, 5, 5), (5, 5, 5, 0)])
def test_a_film_of_which_more_agrees_than_there_is_or_nothing(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(MalformedError, match="more agrees"):
        read_answer(answered(FilmMatch(*counts, STRETCHES)))


@pytest.mark.parametrize("stretches", [STRETCHES[::-1], (Stretch(2, 1, 0, 0),), (Stretch(1, 2, 2, 1),), ()])
def test_stretches_of_a_film_that_cannot_be(stretches: tuple[Stretch, ...]) -> None:
    with pytest.raises(MalformedError, match="stretch"):
        read_answer(answered(FilmMatch(5, 5, 5, 5, stretches)))


def news_of(count: int) -> bytes:
    told = (ToldHit(bytes(32), bytes(32)),)
    items = tuple(NewsItem(f"r{number}", (min(Change, key=lambda change: change.value),), None, told) for number in range(count))
    return write_news(News("f", "nl", "fr", "nl-1", NOW, items))


def test_news_tell_of_some_records_and_not_of_more_than_is_read() -> None:
    assert [len(read_news(news_of(count)).items) for count in (1, MAX_NEWS_ITEMS)] == [1, MAX_NEWS_ITEMS]
    for count in (0, MAX_NEWS_ITEMS + 1):
        with pytest.raises(MalformedError, match=f"{count} records"):
            read_news(news_of(count))


@pytest.mark.parametrize("field", ["federation", "issuer", "audience"])
def test_every_text_of_what_ends_mandates_is_checked(field: str) -> None:
    message = pb.MandateEnd.FromString(write_mandate_end(MandateEnd("f", "nl", "fr", (bytes(16),), NOW)))
    assert read_mandate_end(message.SerializeToString()).issuer == "nl"
    setattr(message, field, "a\x1b[2J")
    with pytest.raises(MalformedError, match="control"):
        read_mandate_end(message.SerializeToString())


def column(codes: int, items: int, algorithm: Algorithm = Algorithm.PDQ) -> list[pb.HashColumn]:
    values = np.zeros((codes, algorithm.code_bytes), np.uint8)
    return write_columns([HashColumn(algorithm, values, np.arange(codes, dtype=np.uint32) * items // codes, 0)])


def test_columns_by_themselves_are_no_more_than_a_lookup() -> None:
    assert read_columns(column(MAX_ITEMS, MAX_ITEMS), MAX_ITEMS)
    assert read_columns(column(MAX_WORK // 16, MAX_ITEMS, Algorithm.PHOTODNA), MAX_ITEMS)
    with pytest.raises(TooLargeError):
        read_columns(column(MAX_ITEMS + 1, MAX_ITEMS + 1), MAX_ITEMS + 1)
    with pytest.raises(TooLargeError):
        read_columns(column(MAX_WORK // 16 + 1, MAX_ITEMS, Algorithm.PHOTODNA), MAX_ITEMS)


@pytest.mark.parametrize("kind", [WHOLE, "no kind\n"])
def test_a_match_by_a_code_of_no_known_kind_or_of_two_forms(kind: str) -> None:
    message = pb.LookupAnswer.FromString(answered(FilmMatch(5, 5, 5, 5, STRETCHES)))
    assert read_answer(message.SerializeToString()).hits[0].matches[0].kind == WHOLE
    message.hits[0].matches[0].kind = kind
    with pytest.raises(MalformedError, match="no known form of kind"):
        read_answer(message.SerializeToString())


@pytest.mark.parametrize("standing", [Standing(b"m" * 31), Standing(b"m" * 33), Standing(b"m" * 32, b"e"), Standing(b"m" * 32, b"e" * 121)])
def test_a_standing_question_names_its_mandate_and_epoch_whole(standing: Standing) -> None:
    federation = MemoryFederation()
    federation.add("nl")
    asked = federation.request(federation.investigator("nl"), [Hash(Algorithm.MD5, bytes(range(16)))])
    for whole in (Standing(b"m" * 32), Standing(b"m" * 32, b"e" * EPOCH_BYTES)):
        assert read_request(write_request(replace(asked, standing=whole))).standing == whole
    with pytest.raises(MalformedError, match="standing question"):
        read_request(write_request(replace(asked, standing=standing)))
