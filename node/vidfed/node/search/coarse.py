"""What is told where distances are told in bands: one band for an item and a record, and of records asked for by many codes less.

A record that a member was told of by more than a few codes is coarse for it (`vidfed.node.lookup.told`). The search leaves it out as if it
were withheld; here it is compared with everything that is asked, by a secret part of its hashes only. What is near by the whole hash is
near by a part of it, so nothing is missed; what is told depends on nothing but that part, however often and by whatever codes it is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from vidfed.index import Algorithm
from vidfed.index.algorithms import DistanceKind
from vidfed.index.codes import WHOLE
from vidfed.node.records.further import View
from vidfed.node.records.schema import MAX_PLACES
from vidfed.node.search.matching import RecordFrames, coarsely, film_match
from vidfed.node.search.nearest import codes_of, nearness
from vidfed.node.search.query import FILM, Telling
from vidfed.wire.values import Hit, Match

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from vidfed.node.records.record import Record
    from vidfed.node.records.store import StoreReader
    from vidfed.node.search.films import AskedFilm
    from vidfed.node.search.query import Bands, Found, SearchQuery
    from vidfed.wire.values import FilmMatch, HashColumn

_COMPARED: Final = (5, 8)  # of a hash's parts
_COMPARED_OF_SHORT: Final = (7, 8)  # of 64-bit hashes: by less of them, unrelated pictures would be found
_REMEMBERED: Final = 4  # sets of coarse records, one for each member that asks again and again

_AT_ONCE: Final = 1 << 17
"""Pairs of codes compared at a time: what a processor's cache holds."""


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """All codes of one algorithm that some records have.

    Attributes:
        codes: uint8[n, bytes].
        masks: the same, with ones in what is compared; empty for digests.
        owners: int64[n], rising: places of their records.
        views: what each is the code of.
    """

    codes: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    owners: NDArray[np.int64]
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Coarse:
    """Records, with their numbers and all by which they are compared."""

    records: tuple[tuple[int, Record], ...] = ()
    codes: Mapping[Algorithm, _Codes] = field(default_factory=dict)


def compared_parts(algorithm: Algorithm) -> int:
    """Return how many of a hash's parts are compared where its record is coarse."""
    share, of = _COMPARED_OF_SHORT if algorithm.is_weak_alone else _COMPARED
    return algorithm.parts * share // of


class CoarseRecords:
    """Coarse records as they were read last, so that they are not read for every question. Safe from several threads."""

    def __init__(self) -> None:
        self._read: OrderedDict[tuple[int, frozenset[str]], _Coarse] = OrderedDict()

    def read(self, bands: Bands, version: int, store: StoreReader) -> _Coarse:
        """Return an asker's coarse records in a state of the store.

        Raises:
            StoreError: they cannot be read.
        """
        if not bands.coarse:
            return _Coarse()
        key = version, bands.coarse
        known = self._read.get(key)
        if known is None:
            known = self._read[key] = read_coarse(bands.coarse, bands, store)
            while len(self._read) > _REMEMBERED:
                with contextlib.suppress(KeyError):  # another thread was first
                    self._read.popitem(last=False)
        return known


def read_coarse(references: Collection[str], bands: Bands, store: StoreReader) -> _Coarse:
    """Read the coarse records that are still there.

    Raises:
        StoreError: they cannot be read.
    """
    numbers = store.numbers(sorted(references))
    records = tuple(sorted(store.records(sorted(numbers.values())).items()))
    return _Coarse(records, {each: codes for each in Algorithm if (codes := _read_codes(records, each, bands, store)) is not None})


def _read_codes(records: Sequence[tuple[int, Record]], algorithm: Algorithm, bands: Bands, store: StoreReader) -> _Codes | None:
    every: list[tuple[int, bytes, View]] = []
    for owner, (number, record) in enumerate(records):
        labelled = codes_of(number, record, algorithm, store)
        further = [label for label, _ in labelled if label & MAX_PLACES]
        views = store.views(further) if further else {}
        own = View(WHOLE, record.pdq_quality if algorithm.is_perceptual else None)
        every += [(owner, code, views.get(label, own)) for label, code in labelled]
    if not every:
        return None
    masks = [bands.compared(algorithm, code) for _, code, _ in every] if algorithm.is_perceptual else []
    return _Codes(
        np.frombuffer(b"".join(code for _, code, _ in every), np.uint8).reshape(len(every), algorithm.code_bytes),
        np.array(masks, np.uint8).reshape(len(masks), algorithm.code_bytes),
        np.array([owner for owner, _, _ in every], np.int64),
        tuple(view for _, _, view in every),
    )


def in_bands(
    found: Found,
    query: SearchQuery,
    bands: Bands,
    films: Sequence[AskedFilm],
    coarse: _Coarse,
    store: StoreReader,
    only: Collection[int] | None,
) -> Found:
    """Return what is told of what was found, after counting it.

    Args:
        found: by the search, without coarse records; distances are in bands.
        query: as it was asked.
        bands: of the asker.
        films: of the question, with the frames that are searched.
        coarse: the records that are coarse for the asker.
        store: the state searched.
        only: numbers of the records that are asked about; None: all.

    Raises:
        QuotasError: it cannot be counted; nothing may be told.
        StoreError: a record cannot be read.
    """
    of_items = {film.item: film for film in films}
    hits = [_one_band(hit, of_items) for hit in found.hits]
    compared = _compare(coarse, query, of_items, only)
    tellings = _tellings(hits, found.records, query, of_items) + _tellings(*_of_coarse(compared), query, of_items)
    new = bands.count(tellings) - {record.reference for _, record in coarse.records}
    if new:
        compared += _compare(read_coarse(new, bands, store), query, of_items, only)
    if not compared:
        return replace(found, hits=tuple(hits))
    hits = [hit for hit in hits if found.records[hit.record].reference not in new]
    records = (*found.records, *(record for record, _ in compared))
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


def _of_coarse(compared: Iterable[tuple[Record, Sequence[Hit]]]) -> tuple[list[Hit], list[Record]]:
    hits: list[Hit] = []
    records: list[Record] = []
    for record, some in compared:
        hits += [replace(hit, record=len(records)) for hit in some]
        records.append(record)
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


def _compare(
    coarse: _Coarse, query: SearchQuery, films: Mapping[int, AskedFilm], only: Collection[int] | None
) -> list[tuple[Record, list[Hit]]]:
    """Compare coarse records that the asker may know of with all that is asked. `Hit.record` is left 0."""
    found: dict[int, _Found] = defaultdict(_Found)
    for column in query.columns:
        theirs = coarse.codes.get(column.algorithm)
        if theirs is None:
            continue
        of_pictures = np.arange(len(column.codes))
        if films and column.algorithm is Algorithm.PDQ:
            of_pictures = np.flatnonzero(~np.isin(column.items, [*films]))
            for film in films.values():
                _compare_film(film, column, theirs, found)
        pairs = _near(column.algorithm, column.codes[of_pictures], column.max_distance, theirs)
        codes, owners = of_pictures[pairs[:, 0]], theirs.owners[pairs[:, 1]]
        _, firsts = np.unique(np.stack([owners, column.items[codes]], axis=1), axis=0, return_index=True)
        for first in firsts.tolist():
            match = _match(column, int(codes[first]), theirs.views[int(pairs[first, 1])])
            found[int(owners[first])].matches[int(column.items[codes[first]])].append(match)
    told = []
    for owner, each in sorted(found.items()):
        number, record = coarse.records[owner]
        if query.visible(record) and (only is None or number in only):
            told.append((record, each.hits()))
    return told


@dataclass(slots=True, eq=False)
class _Found:
    """How one record matches, by item."""

    matches: dict[int, list[Match]] = field(default_factory=lambda: defaultdict(list))
    films: dict[int, FilmMatch] = field(default_factory=dict)

    def hits(self) -> list[Hit]:
        """Return it as hits of record 0."""
        return [Hit(item, 0, tuple(sorted(some, key=nearness)), self.films.get(item)) for item, some in sorted(self.matches.items())]


def _compare_film(film: AskedFilm, column: HashColumn, theirs: _Codes, found: Mapping[int, _Found]) -> None:
    pairs = _near(Algorithm.PDQ, film.codes, film.max_distance, theirs)
    owners = theirs.owners[pairs[:, 1]]
    for owner in np.unique(owners).tolist():
        begin, end = np.searchsorted(theirs.owners, [owner, owner + 1]).tolist()
        own = pairs[owners == owner] - np.array((0, begin))
        frames = RecordFrames([view.kind for view in theirs.views[begin:end]])
        whole = film_match(film.frames, frames, own, np.zeros(len(own), np.int64))
        if whole is None:
            continue
        code, place = own[0].tolist()
        found[owner].films[film.item] = coarsely(whole, film.last_ms)
        found[owner].matches[film.item].append(_match(column, int(film.places[code]), theirs.views[begin + place]))


def _match(column: HashColumn, code: int, view: View) -> Match:
    algorithm = column.algorithm
    if algorithm.is_digest:
        return Match(algorithm, 0, code)
    edge = column.max_distance
    return Match(algorithm, edge, code, edge, view.kind, view.quality, compared_parts(algorithm))


def _near(algorithm: Algorithm, codes: NDArray[np.uint8], max_distance: int, theirs: _Codes) -> NDArray[np.int64]:
    """Return which codes are near by what is compared: int64[n, 2], places in `codes`, rising, and among the record's codes."""
    if algorithm.is_digest:
        return _equal(codes, theirs.codes)
    step = max(1, _AT_ONCE // len(theirs.codes))
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(codes), step):
        near = _apart(algorithm, codes[start : start + step], theirs) <= max_distance
        found.append(np.argwhere(near) + np.array((start, 0)))
    return np.concatenate(found)


def _equal(codes: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> NDArray[np.int64]:
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, code in enumerate(map(bytes, theirs)):
        places[code].append(place)
    pairs = [(number, place) for number, code in enumerate(map(bytes, codes)) for place in places.get(code, ())]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _apart(algorithm: Algorithm, codes: NDArray[np.uint8], theirs: _Codes) -> NDArray[np.int64]:
    """Return int64[codes, theirs]: how far apart they are in what is compared."""
    apart = np.zeros((len(codes), len(theirs.codes)), np.int64)
    if algorithm.distance_kind is DistanceKind.HAMMING:
        ours, others, masks = (np.ascontiguousarray(each).view(np.uint64) for each in (codes, theirs.codes, theirs.masks))
        for word in range(ours.shape[1]):  # one after the other: several times quicker than a sum over an axis
            apart += np.bitwise_count((ours[:, word, None] ^ others[None, :, word]) & masks[None, :, word])
    else:
        for number in range(algorithm.code_bytes):
            apart += np.where(
                theirs.masks[None, :, number] > 0, (codes[:, number, None].astype(np.int64) - theirs.codes[None, :, number]) ** 2, 0
            )
    return apart
