"""Ranges against sets of numbers, and the plan against asking for each number by itself."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from vidfed.federation.bulk.ranges import Range, Ranges, lacking, plan, ranges_of

PIECES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 8)).map(lambda drawn: Range(drawn[0], drawn[0] + drawn[1])), max_size=12)


def numbers(ranges: Ranges) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(PIECES)
def test_ranges_hold_what_was_put_in_and_touch_nowhere(pieces: list[Range]) -> None:
    ranges = Ranges(pieces)
    expected = {number for first, last in pieces for number in range(first, last + 1)}
    assert numbers(ranges) == expected
    assert len(ranges) == len(expected)
    whole = list(ranges)
    assert all(after.first > before.last + 1 for before, after in itertools.pairwise(whole))
    assert {n for first, last in ranges.missing(30) for n in range(first, last + 1)} == set(range(1, 31)) - expected


@given(st.sets(st.integers(1, 50)))
def test_numbers_become_ranges_and_numbers_again(drawn: set[int]) -> None:
    assert numbers(Ranges(ranges_of(sorted(drawn)))) == drawn


@given(st.dictionaries(st.sampled_from("abcd"), PIECES.map(Ranges)), st.integers(0, 45))
def test_the_plan_asks_everybody_exactly_for_what_it_lacks(done: dict[str, Ranges], end: int) -> None:
    asked: dict[str, list[int]] = {name: [] for name in done}
    for names, ranges in plan(done, end).items():
        assert names
        for name in names:
            asked[name] += [number for first, last in ranges for number in range(first, last + 1)]
    assert {name: sorted(own) for name, own in asked.items()} == {
        name: sorted(set(range(1, end + 1)) - numbers(ranges)) for name, ranges in done.items()
    }


def test_nodes_that_stopped_at_different_places_are_asked_together_from_the_last_of_them() -> None:
    done = {"nl": Ranges([Range(1, 9)]), "fr": Ranges([Range(1, 5)]), "br": Ranges()}
    assert lacking(done, 12) == [
        (Range(1, 5), frozenset({"br"})),
        (Range(6, 9), frozenset({"br", "fr"})),
        (Range(10, 12), frozenset({"br", "fr", "nl"})),
    ]
