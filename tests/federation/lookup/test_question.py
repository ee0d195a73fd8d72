"""From what a person names to questions that fit into messages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidfed.federation.lookup.errors import QuestionError
from vidfed.federation.lookup.items import items_of_hashes, items_of_pictures, parse_distances
from vidfed.federation.lookup.question import Item, Justification, split
from vidfed.index import Algorithm
from vidfed.synthetic.pictures import picture
from vidfed.wire.values import MAX_CODES_OF_ITEM, MAX_ITEMS, MAX_TEXT, MAX_WORK, Purpose

if TYPE_CHECKING:
    from pathlib import Path

SHA = "0123456789abcdef" * 4


def item(codes: int, label: str = "x") -> Item:
    frames = ((0, 0),) * codes if codes > MAX_CODES_OF_ITEM else ()
    return Item(label, {Algorithm.PDQ: tuple(bytes([code % 256]) * 32 for code in range(codes))}, times=frames)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 400), max_size=12))
def test_every_code_of_every_item_is_asked_exactly_once_and_in_order(counts: list[int]) -> None:
    items = [item(count, str(number)) for number, count in enumerate(counts)]
    parts = list(split(items, {}))
    assert [each for part in parts for each in part.items] == items
    for part in parts:
        (column,) = part.columns
        assert len(column.codes) == len(column.items) <= MAX_WORK
        for number, each in enumerate(part.items):
            own = column.codes[column.items == number]
            assert tuple(code.tobytes() for code in own) == each.codes[Algorithm.PDQ]


def test_items_are_packed_as_tightly_as_they_fit() -> None:
    assert [len(part.items) for part in split([item(MAX_WORK), item(1), item(MAX_WORK - 1), item(1)], {})] == [1, 2, 1]


def test_many_small_items_are_cut_by_their_number() -> None:
    assert [len(part.items) for part in split([item(1)] * (MAX_ITEMS + 1), {})] == [MAX_ITEMS, 1]


def test_no_items_are_no_question() -> None:
    assert list(split([], {})) == []


@pytest.mark.parametrize("codes", [0, MAX_WORK + 1])
def test_an_item_without_a_hash_or_with_too_many_is_refused_by_name(codes: int) -> None:
    with pytest.raises(QuestionError, match=r"photo\.jpg"):
        list(split([item(codes, "photo.jpg")], {}))


def test_an_item_that_is_no_film_has_no_more_codes_than_a_file_can_have() -> None:
    many = replace(item(MAX_CODES_OF_ITEM + 1, "photo.jpg"), times=())
    with pytest.raises(QuestionError, match=r"photo\.jpg: 641 hashes of PDQ; at most 640"):
        list(split([many], {}))


def test_an_item_made_by_hand_with_a_code_of_the_wrong_length_is_refused_by_name() -> None:
    with pytest.raises(QuestionError, match=r"photo\.jpg: a code of MD5 has 16 bytes"):
        list(split([Item("photo.jpg", {Algorithm.MD5: (bytes(15),)})], {}))


def test_distances_are_the_algorithm_s_own_unless_somebody_says_otherwise() -> None:
    both = Item("x", {Algorithm.PDQ: (bytes(32),), Algorithm.PHASH: (bytes(8),)})
    (part,) = split([both], {Algorithm.PDQ: 7})
    assert [column.max_distance for column in part.columns] == [7, Algorithm.PHASH.default_distance]
    with pytest.raises(QuestionError, match="distance"):
        list(split([both], {Algorithm.PDQ: 65}))


def test_each_algorithm_has_one_column_with_its_own_items() -> None:
    (part,) = split([item(2), Item("y", {Algorithm.MD5: (bytes(16),), Algorithm.PDQ: (bytes(32),)})], {})
    assert {column.algorithm: column.items.tolist() for column in part.columns} == {Algorithm.PDQ: [0, 0, 1], Algorithm.MD5: [1]}
    assert all(column.codes.dtype == np.uint8 for column in part.columns)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("legal_basis", ""),
        ("case_reference", "  "),
        ("offence_type", "\t"),
        ("legal_basis", "x" * (MAX_TEXT + 1)),
        ("case_reference", "a\nb"),
    ],
)
def test_a_question_without_a_usable_reason_cannot_be_made(field: str, value: str) -> None:
    usable = Justification(Purpose.IDENTIFICATION, legal_basis="law", case_reference="C-1", offence_type="abuse")
    with pytest.raises(QuestionError, match=field.replace("_", " ")):
        replace(usable, **{field: value})  # type: ignore[arg-type]  # all of these fields are texts


def test_a_bare_hash_is_an_item_labelled_as_it_was_given() -> None:
    (made,) = items_of_hashes([f"SHA256:{SHA.upper()}"])
    assert (made.label, made.codes) == (f"sha256:{SHA}", {Algorithm.SHA256: (bytes.fromhex(SHA),)})


@pytest.mark.parametrize(
    "text", ["", SHA, "sha256:", f"sha256:{SHA[:-1]}", f"sha257:{SHA}", f"pdq:{'z' * 64}", ":", "photodna:AAAA", "md5:00"]
)
def test_a_wrong_hash_is_quoted(text: str) -> None:
    with pytest.raises(QuestionError, match=r"^hash "):
        items_of_hashes([text])


@pytest.mark.parametrize("text", ["pdq", "pdq=", "pdq=x", "=5", "abc=5", "pdq=1.5"])
def test_a_wrong_distance_is_quoted(text: str) -> None:
    with pytest.raises(QuestionError, match="write ALGORITHM=N"):
        parse_distances([text])


@pytest.mark.parametrize("text", ["pdq=65", "pdq=-1", "sha256=1"])
def test_a_distance_the_algorithm_does_not_allow_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(QuestionError, match="distance"):
        parse_distances([text])


def test_distances_are_read() -> None:
    assert parse_distances(["pdq=20", "PHASH = 4"]) == {Algorithm.PDQ: 20, Algorithm.PHASH: 4}


def test_a_picture_is_asked_in_its_eight_orientations_any_file_by_its_digests_and_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "empty.png").touch()
    failures: dict[str, str] = {}
    seen = []
    broken, good = items_of_pictures([tmp_path], any_quality=False, failures=failures, on_progress=lambda *n: seen.append(n))
    assert len(good.codes[Algorithm.PDQ]) == len(good.views[Algorithm.PDQ]) == 8
    assert set(broken.codes) == {Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256}
    assert (good.exact_only, broken.exact_only) == (False, True)
    assert broken.notes[0].startswith("damaged: nothing of it could be decoded")
    assert broken.notes[0].endswith("only exact copies were asked for")
    assert set(failures) == {str(tmp_path / "empty.png")}
    assert seen == [(1, 3), (2, 3), (3, 3)]
