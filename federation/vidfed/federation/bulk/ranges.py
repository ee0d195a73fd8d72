"""Which numbers are done: sorted ranges without gaps inside, and what is left to ask of whom. Pure.

A bulk lookup numbers its items from 1. Each node answers them in order but for what broke off, so a few ranges for each node say all.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Range(NamedTuple):
    """The numbers from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many numbers."""
        return self.last - self.first + 1


class Ranges:
    """A set of numbers from 1, kept as ranges: as small as it has gaps."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for each in ranges:
            self.add(each)

    def __iter__(self) -> Iterator[Range]:
        return iter(self._ranges)

    def __len__(self) -> int:
        """How many numbers."""
        return sum(each.size for each in self._ranges)

    def add(self, new: Range) -> None:
        """Put these numbers in, joining what touches."""
        start = bisect.bisect_left(self._ranges, new.first - 1, key=lambda each: each.last)
        end = bisect.bisect_right(self._ranges, new.last + 1, key=lambda each: each.first)
        touched = self._ranges[start:end]
        if touched:
            new = Range(min(new.first, touched[0].first), max(new.last, touched[-1].last))
        self._ranges[start:end] = [new]

    def missing(self, end: int) -> list[Range]:
        """Return what is not in, of 1 to `end`."""
        gaps, due = [], 1
        for each in self._ranges:
            if each.first > end:
                break
            if each.first > due:
                gaps.append(Range(due, each.first - 1))
            due = each.last + 1
        if due <= end:
            gaps.append(Range(due, end))
        return gaps


def ranges_of(numbers: Iterable[int]) -> list[Range]:
    """Return rising numbers as ranges."""
    found: list[Range] = []
    for number in numbers:
        if found and found[-1].last == number - 1:
            found[-1] = Range(found[-1].first, number)
        else:
            found.append(Range(number, number))
    return found


def lacking(done: Mapping[str, Ranges], end: int) -> list[tuple[Range, frozenset[str]]]:
    """Return, in order, the stretches of 1 to `end` that somebody has not done, each with who has not.

    Args:
        done: by name.
        end: the highest number.
    """
    edges: dict[int, tuple[set[str], set[str]]] = {}
    for name, ranges in done.items():
        for first, last in ranges.missing(end):
            edges.setdefault(first, (set(), set()))[0].add(name)
            edges.setdefault(last + 1, (set(), set()))[1].add(name)
    found: list[tuple[Range, frozenset[str]]] = []
    names: set[str] = set()
    since = 0
    for number in sorted(edges):
        if names:
            found.append((Range(since, number - 1), frozenset(names)))
        begin, stop = edges[number]
        names = (names - stop) | begin
        since = number
    return found


def plan(done: Mapping[str, Ranges], end: int) -> dict[frozenset[str], list[Range]]:
    """Return what to ask of whom, so that nobody is asked for what it has done: ranges by the names that lack exactly these."""
    by_names: dict[frozenset[str], list[Range]] = {}
    for stretch, names in lacking(done, end):
        by_names.setdefault(names, []).append(stretch)
    return by_names
