"""Films in questions: searched frame by frame in the same index, judged whole. What is told of shares and stretches is matching.py's.

A film may agree with a record in thousands of pairs of frames, so it takes another way than a picture: the index says which records have a
frame near one of the film's, the records with the most such frames are read until enough of them may be told, and of each of those every
pair of frames is known, from what the index gave, or, where it left rows out, from the record's own codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from vidfed.index import Algorithm
from vidfed.index.search.flat import distances_to
from vidfed.node.records.schema import PLACE_BITS
from vidfed.node.search.matching import AskedFrames, RecordFrames, film_match
from vidfed.wire.values import Hit, Match

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from vidfed.index import SearchResult
    from vidfed.node.records.record import Record
    from vidfed.node.records.store import StoreReader
    from vidfed.node.search.query import SearchQuery
    from vidfed.node.search.stop_list import LeftOut
    from vidfed.wire.values import FilmMatch, FilmTimes, HashColumn

ROWS_A_CODE: Final = 128
"""So many rows near a frame the index is asked for at first; of a frame near more, their records are counted one frame after the other."""

MOST_CROWDED: Final = 512
"""Of so many frames of a film that are near more rows all records are counted; of further ones those of the nearest rows."""

_AT_ONCE: Final = 2_048  # codes searched together: 4 MB of rows at most
_READ: Final = 64  # records read at a time
_RECORD_BITS: Final = 63 - PLACE_BITS

SearchCodes: TypeAlias = "Callable[[NDArray[np.uint8], int, int | None], SearchResult | None]"
"""Searches PDQ codes within a distance for so many rows, or all: see `HashIndex.range_search`."""


@dataclass(frozen=True, slots=True, eq=False)
class AskedFilm:
    """A film taken out of a question.

    Attributes:
        item: its number.
        codes: uint8[n, 32], of its frames.
        places: int64[n], where they are in their column.
        frames: which frame each is of, and when that is shown.
        max_distance: inclusive.
    """

    item: int
    codes: NDArray[np.uint8]
    places: NDArray[np.int64]
    frames: AskedFrames
    max_distance: int

    @property
    def last_ms(self) -> int:
        """When its last frame ends."""
        return int(self.frames.until_ms.max())


class FilmHits(NamedTuple):
    """What was found for a film: the records told with how they match, most agreeing frames first; and whether there are more."""

    item: int
    records: tuple[Record, ...]
    matches: tuple[tuple[Match, FilmMatch], ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class TakenApart:
    """A question without the frames of its films, and those.

    Attributes:
        query: the rest, without the algorithm PDQ where nothing is left of it.
        films: in the order of their items.
        kept: where in the asked column each PDQ code of `query` is.
    """

    query: SearchQuery
    films: tuple[AskedFilm, ...]
    kept: NDArray[np.int64]

    def in_asked_column(self, hit: Hit) -> Hit:
        """Return a hit of the rest with its codes named as they were asked."""
        if not self.films:
            return hit
        moved = (replace(m, code=int(self.kept[m.code])) if m.algorithm is Algorithm.PDQ else m for m in hit.matches)
        return replace(hit, matches=tuple(moved))


def take_apart(query: SearchQuery, films: Sequence[FilmTimes], left_out: LeftOut) -> TakenApart:
    """Take the frames of films out of a question.

    Args:
        query: the question.
        films: its items that are films.
        left_out: which codes are of frames that are not searched.
    """
    column = next((each for each in query.columns if each.algorithm is Algorithm.PDQ), None)
    if not films or column is None:
        return TakenApart(query, (), np.empty(0, np.int64))
    asked = tuple(_asked(column, film, left_out) for film in films)
    rest = np.flatnonzero(~np.isin(column.items, [film.item for film in films]))
    left = replace(column, codes=column.codes[rest], items=column.items[rest])
    columns = tuple(left if each is column else each for each in query.columns)
    return TakenApart(replace(query, columns=tuple(each for each in columns if len(each.codes))), asked, rest)


def _asked(column: HashColumn, film: FilmTimes, left_out: LeftOut) -> AskedFilm:
    places = np.flatnonzero(column.items == film.item)
    frames = AskedFrames.of(film.from_ms, film.until_ms)
    if left_out.told:
        kept = ~left_out.codes[places]
        places, frames = places[kept], replace(frames, of_codes=frames.of_codes[kept])
    return AskedFilm(film.item, column.codes[places], places, frames, column.max_distance)


def find(film: AskedFilm, query: SearchQuery, store: StoreReader, search: SearchCodes) -> FilmHits:
    """Find the records that have frames near a film's.

    Args:
        film: asked.
        query: the question it is of: who may know what.
        store: the records, in the state searched.
        search: asks the index.
    """
    rows = _Rows(film, search)
    told: list[tuple[Record, Match, FilmMatch]] = []
    cap = query.max_hits_per_item
    for start in range(0, len(rows.records), _READ):
        some = rows.records[start : start + _READ].tolist()
        records = store.records(some)
        for number in some:
            if (
                number in records
                and query.shows(records[number])
                and (found := _compared(film, number, rows, store, query.told)) is not None
            ):
                match, whole = found
                told.append((records[number], query.told(match), whole))
                if len(told) > cap:
                    return _hits(film, told[:cap], truncated=True)
    return _hits(film, told, truncated=False)


def _hits(film: AskedFilm, told: Sequence[tuple[Record, Match, FilmMatch]], *, truncated: bool) -> FilmHits:
    return FilmHits(film.item, tuple(each[0] for each in told), tuple((each[1], each[2]) for each in told), truncated)


class _Rows:
    """What the index has near a film's codes.

    Attributes:
        records: those with a code near one of the film's, the most frames of the film first.
        crowded: positions of the film's codes of which the index gave not all rows.
    """

    def __init__(self, film: AskedFilm, search: SearchCodes) -> None:
        codes, labels, distances, crowded = [], [], [], []
        for start in range(0, len(film.codes), _AT_ONCE):
            found = search(film.codes[start : start + _AT_ONCE], film.max_distance, ROWS_A_CODE)
            if found is None:
                continue
            codes.append(start + np.repeat(np.arange(len(found.limits) - 1), np.diff(found.limits)))
            labels.append(found.labels)
            distances.append(found.distances.astype(np.int64))
            crowded.append(start + np.flatnonzero(found.truncated))
        self.crowded = np.concatenate(crowded) if crowded else np.empty(0, np.int64)
        self.records = np.empty(0, np.int64)
        if not codes:
            return
        self._codes, self._labels, self._distances = np.concatenate(codes), np.concatenate(labels), np.concatenate(distances)
        pairs = [np.unique(film.frames.of_codes[self._codes] << _RECORD_BITS | self._labels >> PLACE_BITS)]
        for code in self.crowded[:MOST_CROWDED].tolist():
            found = search(film.codes[code : code + 1], film.max_distance, None)
            if found is not None:
                pairs.append(film.frames.of_codes[code] << _RECORD_BITS | np.unique(found.labels >> PLACE_BITS))
        near = np.unique(np.concatenate(pairs)) & ((1 << _RECORD_BITS) - 1)
        records, counts = np.unique(near, return_counts=True)
        self.records = records[np.lexsort((records, -counts))]
        order = np.argsort(self._labels, kind="stable")
        self._codes, self._labels, self._distances = self._codes[order], self._labels[order], self._distances[order]

    def of_record(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return codes, labels and distances of the rows of one record, but for the crowded codes'."""
        first, end = np.searchsorted(self._labels, [number << PLACE_BITS, (number + 1) << PLACE_BITS])
        codes = self._codes[first:end]
        whole = ~np.isin(codes, self.crowded)
        return codes[whole], self._labels[first:end][whole], self._distances[first:end][whole]


def _compared(
    film: AskedFilm, number: int, rows: _Rows, store: StoreReader, told: Callable[[Match], Match]
) -> tuple[Match, FilmMatch] | None:
    """Compare a film with all that a record has; None if none of its codes is near any more: it changed during the search.

    Of pairs of frames that are told to be equally near the first is named.
    """
    record = store.views_of(number, Algorithm.PDQ)
    labels = np.fromiter(record, np.int64, len(record))
    frames = RecordFrames([view.kind for view, _ in record.values()])
    codes, own, distances = rows.of_record(number)
    places = np.searchsorted(labels, own)
    there = places < len(labels)
    there[there] = labels[places[there]] == own[there]
    pairs, apart = [np.stack([codes[there], places[there]], axis=1)], [distances[there]]
    for place, (_, code) in enumerate(record.values()) if len(rows.crowded) else ():
        near = distances_to(Algorithm.PDQ, film.codes[rows.crowded], code)
        within = near <= film.max_distance
        pairs.append(np.stack([rows.crowded[within], np.full(int(within.sum()), place)], axis=1))
        apart.append(near[within])
    every, every_apart = np.concatenate(pairs), np.concatenate(apart)
    whole = film_match(film.frames, frames, every, every_apart)
    if whole is None:
        return None
    distances_told = {apart: told(Match(Algorithm.PDQ, apart, 0)).distance for apart in set(every_apart.tolist())}
    as_told = np.array([distances_told[apart] for apart in every_apart.tolist()])
    nearest = int(np.lexsort((every[:, 1], every[:, 0], as_told))[0])
    code, place = every[nearest].tolist()
    view = record[int(labels[place])][0]
    return Match(Algorithm.PDQ, int(every_apart[nearest]), int(film.places[code]), kind=view.kind, quality=view.quality), whole


def merged(
    records: tuple[Record, ...], hits: Sequence[Hit], truncated: Sequence[int], films: Sequence[FilmHits]
) -> tuple[tuple[Record, ...], tuple[Hit, ...], tuple[int, ...]]:
    """Put what was found for films to the rest: a record that a digest found too is one hit with both."""
    every = list(records)
    positions: dict[str, int] = {record.reference: position for position, record in enumerate(every)}
    by_place: Mapping[tuple[int, int], Hit] = {(hit.item, hit.record): hit for hit in hits}
    found: dict[tuple[int, int], Hit] = dict(by_place)
    for film in films:
        for record, (match, whole) in zip(film.records, film.matches, strict=True):
            if record.reference not in positions:
                positions[record.reference] = len(every)
                every.append(record)
            key = film.item, positions[record.reference]
            before = found[key].matches if key in found else ()
            found[key] = Hit(*key, (*before, match), whole)
    more = sorted({*truncated, *(film.item for film in films if film.truncated)})
    return tuple(every), tuple(sorted(found.values(), key=lambda hit: hit.item)), tuple(more)
