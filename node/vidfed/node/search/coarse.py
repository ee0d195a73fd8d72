"""What is told where distances are told in bands: one band for an item and a record, and of records asked for by many codes less.

A record that a member was told of by more than a few codes is coarse for it (`vidfed.node.policy.told`). The search leaves it out as if it
were withheld; here it is compared with everything that is asked, by a secret part of its hashes only. What is near by the whole hash is
near by a part of it, so nothing is missed; what is told depends on nothing but that part, however often and by whatever codes it is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from vidfed.index import Algorithm
from vidfed.index.algorithms import DistanceKind
from vidfed.index.codes import WHOLE
from vidfed.node.policy.told import FILM, Telling, compared_parts
from vidfed.node.records.further import View
from vidfed.node.records.schema import MAX_PLACES
from vidfed.node.search.matching import RecordFrames, coarsely, film_match
from vidfed.node.search.nearest import codes_of, nearness
from vidfed.wire.values import Hit, Match

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from vidfed.node.records.record import Record
    from vidfed.node.records.store import StoreReader
    from vidfed.node.search.films import AskedFilm
    from vidfed.node.search.query import Bands, Found, SearchQuery
    from vidfed.wire.values import FilmMatch, HashColumn

_REMEMBERED: Final = 4  # sets of coarse records, one for each member that asks again and again

_AT_ONCE: Final = 1 << 20
"""Pairs of codes compared at a time, of 32 bytes each: 32 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """A record's codes of one algorithm.

    Attributes:
        codes: uint8[n, bytes].
        masks: the same, with ones in what is compared.
        views: what each is the code of.
    """

    codes: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Coarse:
    """A record with all by which it is compared."""

    number: int
    record: Record
    codes: Mapping[Algorithm, _Codes]


class CoarseRecords:
    """Coarse records as they were read last, so that they are not read for every question. Safe from several threads."""

    def __init__(self) -> None:
        self._read: OrderedDict[tuple[int, frozenset[str]], list[_Coarse]] = OrderedDict()

    def read(self, bands: Bands, version: int, store: StoreReader) -> list[_Coarse]:
        """Return an asker's coarse records in a state of the store.

        Raises:
            StoreError: they cannot be read.
        """
        if not bands.coarse:
            return []
        key = version, bands.coarse
        known = self._read.get(key)
        if known is None:
            known = self._read[key] = read_coarse(bands.coarse, bands, store)
            while len(self._read) > _REMEMBERED:
                with contextlib.suppress(KeyError):  # another thread was first
                    self._read.popitem(last=False)
        return known


def read_coarse(references: Collection[str], bands: Bands, store: StoreReader) -> list[_Coarse]:
    """Read the coarse records that are still there.

    Raises:
        StoreError: they cannot be read.
    """
    numbers = store.numbers(sorted(references))
    records = store.records(sorted(numbers.values()))
    return [_Coarse(number, record, _codes_of_record(number, record, bands, store)) for number, record in sorted(records.items())]


def _codes_of_record(number: int, record: Record, bands: Bands, store: StoreReader) -> dict[Algorithm, _Codes]:
    every = {}
    for algorithm in Algorithm:
        labelled = codes_of(number, record, algorithm, store)
        if not labelled:
            continue
        further = store.views([label for label, _ in labelled if label & MAX_PLACES])
        own = View(WHOLE, record.pdq_quality if algorithm.is_perceptual else None)
        codes = [code for _, code in labelled]
        masks = [bands.compared(algorithm, code) for code in codes] if algorithm.is_perceptual else []
        every[algorithm] = _Codes(
            np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), algorithm.code_bytes),
            np.array(masks, np.uint8).reshape(len(masks), algorithm.code_bytes),
            tuple(further.get(label, own) for label, _ in labelled),
        )
    return every


def in_bands(
    found: Found, query: SearchQuery, bands: Bands, films: Sequence[AskedFilm], coarse: Sequence[_Coarse], store: StoreReader
) -> Found:
    """Return what is told of what was found, after counting it.

    Args:
        found: by the search, without coarse records; distances are in bands.
        query: as it was asked.
        bands: of the asker.
        films: of the question, with the frames that are searched.
        coarse: the records that are coarse for the asker, as far as they may be told here.
        store: the state searched.

    Raises:
        QuotasError: it cannot be counted; nothing may be told.
        StoreError: a record cannot be read.
    """
    of_items = {film.item: film for film in films}
    hits = [_one_band(hit, of_items) for hit in found.hits]
    compared = _compare(coarse, query, of_items)
    tellings = _tellings(hits, found.records, query, of_items) + _tellings(*_of_coarse(compared), query, of_items)
    known = {each.record.reference for each in coarse}
    new = bands.count(tellings) - known
    if new:
        compared += _compare(read_coarse(new, bands, store), query, of_items)
    if not compared:
        return replace(found, hits=tuple(hits))
    hits = [hit for hit in hits if found.records[hit.record].reference not in new]
    records = (*found.records, *(each.record for each, _ in compared))
    more = (replace(hit, record=place) for place, (_, some) in enumerate(compared, len(found.records)) for hit in some)
    return replace(found, records=records, hits=_ordered([*hits, *more], of_items)).nearest(query.max_hits_per_item)


def _one_band(hit: Hit, films: Mapping[int, AskedFilm]) -> Hit:
    """Of each algorithm tell the nearest band, by the first code that is in it; of a film no more than about how much of it agrees."""
    best: dict[Algorithm, Match] = {}
    for match in hit.matches:
        other = best.get(match.algorithm, match)
        best[match.algorithm] = min(match, other, key=lambda each: (each.distance, each.code))
    matches = sorted(best.values(), key=nearness)
    return Hit(hit.item, hit.record, tuple(matches), coarsely(hit.film, films[hit.item].last_ms) if hit.film else None)


def _of_coarse(compared: Iterable[tuple[_Coarse, Sequence[Hit]]]) -> tuple[list[Hit], list[Record]]:
    hits: list[Hit] = []
    records: list[Record] = []
    for each, some in compared:
        hits += [replace(hit, record=len(records)) for hit in some]
        records.append(each.record)
    return hits, records


def _tellings(hits: Iterable[Hit], records: Sequence[Record], query: SearchQuery, films: Mapping[int, AskedFilm]) -> list[Telling]:
    """Return what is counted of some hits: the code told for each item and algorithm, or the whole film; of digests nothing."""
    columns = {column.algorithm: column for column in query.columns}
    of_films: dict[int, bytes] = {}
    tellings = []
    for hit in hits:
        for match in hit.matches:
            column = columns[match.algorithm]
            reference = records[hit.record].reference
            if match.algorithm is Algorithm.PDQ and hit.item in films:
                if hit.item not in of_films:
                    of_films[hit.item] = hashlib.sha256(films[hit.item].codes.tobytes()).digest()
                tellings.append(Telling(reference, FILM, of_films[hit.item]))
            elif match.algorithm.is_perceptual:
                tellings.append(Telling(reference, match.algorithm.value, column.codes[match.code].tobytes()))
    return tellings


def _ordered(hits: Iterable[Hit], films: Mapping[int, AskedFilm]) -> tuple[Hit, ...]:
    """Order hits by item and by what is told of how near they are; those of films stay in their order, coarse ones last."""

    def key(hit: Hit) -> tuple[int, float]:
        return hit.item, 0.0 if hit.item in films else min(map(nearness, hit.matches))

    return tuple(sorted(hits, key=key))


def _compare(coarse: Iterable[_Coarse], query: SearchQuery, films: Mapping[int, AskedFilm]) -> list[tuple[_Coarse, list[Hit]]]:
    """Compare coarse records that the asker may know of with all that is asked. `Hit.record` is left 0."""
    return [(each, hits) for each in coarse if query.visible(each.record) and (hits := _hits(each, query, films))]


def _hits(coarse: _Coarse, query: SearchQuery, films: Mapping[int, AskedFilm]) -> list[Hit]:
    matches: dict[int, list[Match]] = {}
    agreeing: dict[int, FilmMatch] = {}
    for column in query.columns:
        theirs = coarse.codes.get(column.algorithm)
        if theirs is None:
            continue
        of_pictures = np.arange(len(column.codes))
        if films and column.algorithm is Algorithm.PDQ:
            of_pictures = np.flatnonzero(~np.isin(column.items, [*films]))
            for film in films.values():
                pairs = _near(column.algorithm, film.codes, film.max_distance, theirs)
                if (found := _film(film, theirs, pairs)) is not None:
                    agreeing[film.item] = found
                    code, place = pairs[0].tolist()
                    matches.setdefault(film.item, []).append(_match(column, int(film.places[code]), theirs.views[place]))
        pairs = _near(column.algorithm, column.codes[of_pictures], column.max_distance, theirs)
        firsts = np.unique(column.items[of_pictures[pairs[:, 0]]], return_index=True)
        for item, first in zip(firsts[0].tolist(), firsts[1].tolist(), strict=True):
            code, place = pairs[first].tolist()
            matches.setdefault(item, []).append(_match(column, int(of_pictures[code]), theirs.views[place]))
    return [Hit(item, 0, tuple(sorted(some, key=nearness)), agreeing.get(item)) for item, some in sorted(matches.items())]


def _match(column: HashColumn, code: int, view: View) -> Match:
    algorithm = column.algorithm
    if algorithm.is_digest:
        return Match(algorithm, 0, code)
    edge = column.max_distance
    return Match(algorithm, edge, code, edge, view.kind, view.quality, compared_parts(algorithm))


def _film(film: AskedFilm, theirs: _Codes, pairs: NDArray[np.int64]) -> FilmMatch | None:
    frames = RecordFrames([view.kind for view in theirs.views])
    whole = film_match(film.frames, frames, pairs, np.zeros(len(pairs), np.int64))
    return coarsely(whole, film.last_ms) if whole else None


def _near(algorithm: Algorithm, codes: NDArray[np.uint8], max_distance: int, theirs: _Codes) -> NDArray[np.int64]:
    """Return which codes are near by what is compared: int64[n, 2], places in `codes`, rising, and among the record's codes."""
    step = max(1, _AT_ONCE // len(theirs.codes))
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(codes), step):
        near = _apart(algorithm, codes[start : start + step], theirs) <= max_distance
        found.append(np.argwhere(near) + np.array((start, 0)))
    return np.concatenate(found)


def _apart(algorithm: Algorithm, codes: NDArray[np.uint8], theirs: _Codes) -> NDArray[np.int64]:
    """Return int64[codes, theirs]: how far apart they are in what is compared; of digests 0 or 1."""
    apart: NDArray[np.int64]
    match algorithm.distance_kind:
        case DistanceKind.EQUALITY:
            apart = (codes[:, None] != theirs.codes[None]).any(axis=2).astype(np.int64)
        case DistanceKind.HAMMING:
            ours, others, masks = (np.ascontiguousarray(each).view(np.uint64) for each in (codes, theirs.codes, theirs.masks))
            apart = np.bitwise_count((ours[:, None] ^ others[None]) & masks[None]).sum(axis=2, dtype=np.int64)
        case DistanceKind.SQUARED_EUCLIDEAN:
            squares = (codes[:, None].astype(np.int64) - theirs.codes[None]) ** 2
            apart = np.where(theirs.masks[None] > 0, squares, 0).sum(axis=2)
    return apart
