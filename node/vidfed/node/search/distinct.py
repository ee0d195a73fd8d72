"""Items of one question with the same codes are searched once: what is asked again and again costs, and takes, what it does once.

One code asked as 900 items would otherwise be 900 times the work where it is near a record, told or withheld, and none where it is not:
long enough to be measured from outside, and so a way to tell a withheld record from an unknown one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vidfed.wire.values import Hit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vidfed.index import Algorithm
    from vidfed.node.search.query import SearchQuery
    from vidfed.wire.values import HashColumn, Match


@dataclass(frozen=True, slots=True)
class Distinct:
    """A question without its repetitions.

    Attributes:
        query: about the first item of each group of items with equal codes.
        alike: the others, by the first one.
        positions: for each algorithm where in the asked column each item's codes are, by item; empty where nothing is repeated.
        kept: for each algorithm where in the asked column each code of `query` is.
    """

    query: SearchQuery
    alike: Mapping[int, Sequence[int]]
    positions: Mapping[Algorithm, Mapping[int, Sequence[int]]]
    kept: Mapping[Algorithm, NDArray[np.int64]]

    def expand(self, hits: Sequence[Hit], truncated: Sequence[int]) -> tuple[tuple[Hit, ...], tuple[int, ...]]:
        """Return what was found as it is for the question as it was asked: for every item, with its own codes named."""
        if not self.alike:
            return tuple(hits), tuple(truncated)
        every: list[Hit] = []
        for hit in hits:
            first = replace(hit, matches=tuple(replace(match, code=int(self.kept[match.algorithm][match.code])) for match in hit.matches))
            every.append(first)
            others = self.alike.get(hit.item, ())
            every += [Hit(item, hit.record, tuple(self._of(item, hit.item, match) for match in first.matches)) for item in others]
        every.sort(key=lambda hit: hit.item)  # stable: each item's records stay nearest first
        more = [item for first in truncated for item in (first, *self.alike.get(first, ()))]
        return tuple(every), tuple(sorted(more))

    def _of(self, item: int, first: int, match: Match) -> Match:
        places = self.positions[match.algorithm]
        return replace(match, code=places[item][places[first].index(match.code)])


def distinct(query: SearchQuery) -> Distinct:
    """Take the repetitions out of a question; most have none, and that is found out in a moment."""
    if not any(_repeats(column.codes) for column in query.columns):
        return Distinct(query, {}, {}, {})
    positions: dict[Algorithm, dict[int, list[int]]] = {}
    keys: dict[int, list[tuple[int, bytes]]] = {}
    for number, column in enumerate(query.columns):
        own = positions.setdefault(column.algorithm, {})
        for place, (item, code) in enumerate(zip(column.items.tolist(), map(bytes, column.codes), strict=True)):
            own.setdefault(item, []).append(place)
            keys.setdefault(item, []).append((number, code))
    firsts: dict[tuple[tuple[int, bytes], ...], int] = {}
    alike: dict[int, list[int]] = {}
    for item in sorted(keys):
        first = firsts.setdefault(tuple(keys[item]), item)
        if first != item:
            alike.setdefault(first, []).append(item)
    if not alike:
        return Distinct(query, {}, {}, {})
    wanted = np.array(sorted(firsts.values()))
    kept = {column.algorithm: np.flatnonzero(np.isin(column.items, wanted)) for column in query.columns}
    columns = tuple(_only(column, kept[column.algorithm]) for column in query.columns)
    return Distinct(replace(query, columns=columns), alike, positions, kept)


def _only(column: HashColumn, places: NDArray[np.int64]) -> HashColumn:
    return replace(column, codes=column.codes[places], items=column.items[places])


def _repeats(codes: NDArray[np.uint8]) -> bool:
    rows = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1]))).reshape(-1)
    return len(set(rows.tolist())) < len(rows)
