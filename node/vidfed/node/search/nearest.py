"""Which records are told for each item: decisions over what the indexes found. Asking them, and the store, is catalogue.py's.

Thousands of rows may be near one code, and all but a few of them be withheld from the asker. So an index is asked for each code's nearest
rows only, and of those the nearest few records are read for each item. More are read only where too few of them may be told, and an index
is asked for more only where all that it gave was read. What is told, and in which order, is what it would be if everything had been read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import numpy as np

from vidfed.index.codes import WHOLE
from vidfed.index.hashing.results import RELIABLE_PDQ_QUALITY
from vidfed.index.search.flat import distances_to
from vidfed.node.records.further import View
from vidfed.node.records.schema import MAX_PLACES, PLACE_BITS
from vidfed.wire.values import Hit, Match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from vidfed.index import Algorithm
    from vidfed.node.records.record import Record
    from vidfed.node.records.store import StoreReader
    from vidfed.node.search.query import SearchQuery
    from vidfed.wire.values import HashColumn


FEWEST = 128
"""An index is asked for at least so many rows near each code."""
_DEEPER = 16
"""Where they do not suffice, for so many times more."""
_MORE_READ, _MOST_READ = 4, 1_024
"""Each time that an item needs more records, so many times more are read than before, up to so many."""
_PILE = 1 << 20
"""Rows of a single item's codes that pile up before each record is kept once only."""
_Number = TypeVar("_Number", bound=np.generic)
_CHANGED = View(WHOLE, None)
"""What is said of a code that was taken from its record during the search."""
_NO_RECORD = 0  # rows of the store are numbered from 1


class Rows(NamedTuple):
    """What an index, or the store, found near some codes of a column: three arrays of one length, nearest first for each code."""

    codes: NDArray[np.int64]
    """Positions in the column, rising."""
    labels: NDArray[np.int64]
    """Of records' codes: see `vidfed.node.records.schema`."""
    distances: NDArray[np.int32]


class Near(NamedTuple):
    """Records with a code near one code: the nearest, by bands if those were given, then by number; and whether more was left out.

    A record is there once for each of its codes that is near.
    """

    records: NDArray[np.int64]
    distances: NDArray[np.int32]
    more: bool


_NONE = np.empty(0, np.int64)
NOTHING_NEAR = Near(_NONE, np.empty(0, np.int32), more=False)
Read: TypeAlias = "Callable[[Sequence[int]], Mapping[int, Record]]"
Search: TypeAlias = "Callable[[HashColumn, int, int, Sequence[int] | None], Near]"
"""Searches a column for the code at a position, and for so many rows by bands: see `HashIndex.range_search`."""


class _Matched(NamedTuple):
    """That a code of a record is near to one of a question."""

    algorithm: Algorithm
    distance: int
    code: int
    label: int


class _Horizon(NamedTuple):
    """How far everything is known: what was left out lies beyond this nearness and record."""

    nearness: float
    record: int


class _Hidden:
    """Records known to be withheld from the asker, so that a crowd of them is read once and not for each item of a question.

    A byte for each record's number, up to the largest of them.
    """

    def __init__(self) -> None:
        self._known = np.zeros(0, np.bool_)

    def add(self, records: Sequence[int]) -> None:
        """Remember these too."""
        if not records:
            return
        if (needed := max(records) + 1) > len(self._known):
            grown = np.zeros(max(needed, 2 * len(self._known)), np.bool_)  # what nobody touches costs nothing
            grown[: len(self._known)] = self._known
            self._known = grown
        self._known[records] = True

    def among(self, records: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of these are known to be withheld."""
        within = records < len(self._known)
        within[within] = self._known[records[within]]
        return within


@dataclass(slots=True, eq=False)
class ItemCandidates:
    """One item on its way to the records that are told for it."""

    number: int
    cap: int
    records: NDArray[np.int64]
    """Not looked at yet: each once, nearest first; none that was left out is nearer."""
    complete: bool
    """None was left out."""
    rows: slice | None
    """Where in `Candidates` its rows are, if they are all."""
    told: dict[int, Record] = field(default_factory=dict)
    _read: int = 0

    @property
    def lacking(self) -> bool:
        """Whether another record could make a difference."""
        return len(self.told) <= self.cap

    def next_records(self) -> list[int]:
        """Return which records to look at next: each time more, none where there are none."""
        if not self._read:
            self._read = self.cap + 1
        elif self._read < _MOST_READ:
            self._read *= _MORE_READ
        wanted: list[int] = self.records[: self._read].tolist()
        self.records = self.records[self._read :]
        return wanted

    def take(self, wanted: Iterable[int], visible: Mapping[int, Record]) -> None:
        """Take what of `wanted` is visible, until there is one more than is told."""
        for record in wanted:
            if record in visible and self.lacking:
                self.told[record] = visible[record]

    def begin_again(self, records: NDArray[np.int64], *, complete: bool) -> None:
        """Go through more records, from the nearest on: the index may have changed meanwhile."""
        self.records, self.complete, self.rows = records, complete, None
        self.told, self._read = {}, 0


class Candidates:
    """What was found for one question, and what of it is told."""

    def __init__(self, asked: SearchQuery) -> None:
        self._asked = asked
        self._parts: list[tuple[int, Rows]] = []
        self._horizons: dict[int, _Horizon] = {}
        self._hidden = _Hidden()
        self._edges: dict[Algorithm, Sequence[int] | None] = {}
        self.items: list[ItemCandidates] = []

    def add(self, number: int, rows: Rows, cut: Iterable[int]) -> None:
        """Add what was found for column `number`; of the codes at the positions `cut` the index left out rows that are less near."""
        column = self._asked.columns[number]
        self._parts.append((number, rows))
        for code in cut:
            end = int(np.searchsorted(rows.codes, code, side="right"))
            horizon = self._horizon(column, int(rows.distances[end - 1]), int(rows.labels[end - 1]) >> PLACE_BITS)
            item = int(column.items[code])
            self._horizons[item] = min(horizon, self._horizons.get(item, horizon))

    def rank(self) -> list[ItemCandidates]:
        """Put each item's records in order, after everything was added."""
        if not self._parts:
            return self.items
        columns = [self._asked.columns[number] for number, _ in self._parts]
        found = [rows for _, rows in self._parts]
        items = _joined([column.items[rows.codes] for column, rows in zip(columns, found, strict=True)])
        nearness = _joined([self._nearness(column.algorithm, rows.distances) for column, rows in zip(columns, found, strict=True)])
        labels = _joined([rows.labels for rows in found])
        # Stable: what is equally near to one code of a record stays in the order of columns and codes.
        order = np.lexsort((labels, nearness, items))
        items, nearness, labels = items[order], nearness[order], labels[order]
        records = labels >> PLACE_BITS
        numbers = _joined([np.full(len(rows.codes), number) for number, rows in self._parts])
        codes, distances = _joined([rows.codes for rows in found]), _joined([rows.distances for rows in found])
        self._rows = labels, numbers[order], codes[order], distances[order]
        starts = np.flatnonzero(_differs(items))
        for item, start, end in zip(items[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(items)], strict=True):
            rows, horizon = slice(start, end), self._horizons.get(item)
            own = records[rows]
            if horizon is not None:
                own = own[_within(horizon, nearness[rows], own)]
            complete, cap = horizon is None, self._asked.max_hits_per_item
            once = np.array([*dict.fromkeys(own.tolist())], np.int64)
            self.items.append(ItemCandidates(item, cap, once, complete, rows if complete else None))
        return self.items

    def judge(self, wanted: Sequence[tuple[ItemCandidates, Sequence[int]]], records: Mapping[int, Record]) -> list[int]:
        """Let items take what may be told of the records that they wanted, as far as those are still there. Return the others."""
        asked = dict.fromkeys(record for _, some in wanted for record in some)
        visible = {record: records[record] for record in asked if record in records and self._asked.shows(records[record])}
        for item, some in wanted:
            item.take(some, visible)
        return [record for record in asked if record not in visible]

    def go_on(self, item: ItemCandidates, read: Read, search: Search, limit: int) -> None:
        """Read further records of one item, and search for further ones, until it is certain what is told."""
        if item.complete and not len(item.records):
            return
        item.records = item.records[~self._hidden.among(item.records)]
        while item.lacking:
            if some := item.next_records():
                self._hidden.add(self.judge([(item, some)], read(some)))
            elif item.complete:
                break
            else:
                limit *= _DEEPER
                self._search_deeper(item, limit, search)
        item.records = _NONE  # a crowd's: the next item needs the memory

    def _search_deeper(self, item: ItemCandidates, limit: int, search: Search) -> None:
        """Rank an item's records again, after searching each of its codes alone for more rows, the nearest by what is told of them."""
        pile = _Pile(self._hidden)
        for column in self._asked.columns:
            for code in np.flatnonzero(column.items == item.number).tolist():
                near = search(column, code, limit, self._bands(column))
                pile.add(self._nearness(column.algorithm, near.distances), near.records, more=near.more)
        item.begin_again(pile.ranked(), complete=pile.horizon is None)

    def told(self, store: StoreReader) -> tuple[tuple[Record, ...], tuple[Hit, ...], tuple[int, ...]]:
        """Return the records told, their hits, and the items that had more.

        Args:
            store: names the codes of the records told.
        """
        order: dict[int, int] = {}
        records: list[Record] = []
        matched: list[tuple[int, int, list[_Matched]]] = []
        truncated: list[int] = []
        for item in self.items:
            if not item.lacking:
                truncated.append(item.number)
                item.told.popitem()
            for number, matches in self._matches(item, store).items():
                if not matches:
                    continue  # its code is no longer near: it changed during the search
                if number not in order:
                    order[number] = len(order)
                    records.append(item.told[number])
                matched.append((item.number, order[number], matches))
        further = sorted({each.label for _, _, matches in matched for each in matches if each.label & MAX_PLACES})
        views = store.views(further) if further else {}
        hits = [
            Hit(item, record, tuple(self._match(each, records[record], views) for each in matches)) for item, record, matches in matched
        ]
        return tuple(records), tuple(hits), tuple(truncated)

    def _match(self, matched: _Matched, record: Record, views: Mapping[int, View]) -> Match:
        """Return what may be told of a match, with what the record's code is the code of."""
        algorithm = matched.algorithm
        if matched.label & MAX_PLACES:
            kind, quality = views.get(matched.label, _CHANGED)
        else:
            kind, quality = WHOLE, record.pdq_quality if algorithm.is_perceptual else None
        return self._asked.told(Match(algorithm, matched.distance, matched.code, kind=kind, quality=quality))

    def _matches(self, item: ItemCandidates, store: StoreReader) -> dict[int, list[_Matched]]:
        """Return how each record told matched: for each code that is near enough the nearest of the record's, nearest first."""
        matches: dict[int, list[_Matched]] = {record: [] for record in item.told}
        if item.rows is not None:
            labels, *others = (column[item.rows] for column in self._rows)
            several = bool((labels & MAX_PLACES).any())
            for label, number, code, distance in zip(labels.tolist(), *(each.tolist() for each in others), strict=True):
                if (own := matches.get(label >> PLACE_BITS)) is not None:
                    own.append(_Matched(self._asked.columns[number].algorithm, distance, code, label))
            return {record: _nearest_of_each(own) for record, own in matches.items()} if several else matches
        # The index left rows out, perhaps some of these records; their own hashes say how near they are to each code.
        for number, record in item.told.items():
            found: list[tuple[tuple[float, int], _Matched]] = []
            for column in self._asked.columns:
                codes = np.flatnonzero(column.items == item.number)
                for label, theirs in codes_of(number, record, column.algorithm, store):
                    distances = distances_to(column.algorithm, column.codes[codes], theirs)
                    near = distances <= column.max_distance
                    for code, distance in zip(codes[near].tolist(), distances[near].tolist(), strict=True):
                        key = self._nearness_of(column.algorithm, distance), label
                        found.append((key, _Matched(column.algorithm, distance, code, label)))
            found.sort(key=lambda each: each[0])
            matches[number] = _nearest_of_each([each for _, each in found])
        return matches

    def _nearness(self, algorithm: Algorithm, distances: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the nearness of what is told of each distance."""
        if not distances.size:
            return np.empty(0)
        table = np.empty(int(distances.max()) + 1)
        for distance in np.flatnonzero(np.bincount(distances)).tolist():
            table[distance] = self._nearness_of(algorithm, distance)
        return table[distances]

    def _nearness_of(self, algorithm: Algorithm, distance: int) -> float:
        return nearness(self._asked.told(Match(algorithm, distance, 0)))

    def _horizon(self, column: HashColumn, distance: int, record: int) -> _Horizon:
        """Return how far everything is known where the index gave all rows up to this distance, and at it up to this record."""
        known = self._nearness_of(column.algorithm, distance)
        if distance < column.max_distance and self._nearness_of(column.algorithm, distance + 1) == known:
            return _Horizon(known, _NO_RECORD)  # others, of whatever number, look as near as the last ones
        return _Horizon(known, record)

    def _bands(self, column: HashColumn) -> Sequence[int] | None:
        """Return the largest distances of the bands in which the column's distances are told; None if they are told as they are."""
        if column.algorithm not in self._edges:
            shown = [self._nearness_of(column.algorithm, distance) for distance in range(column.max_distance + 1)]
            edges = [at for at, near in enumerate(shown) if at == column.max_distance or shown[at + 1] != near]
            self._edges[column.algorithm] = edges if len(edges) < len(shown) else None
        return self._edges[column.algorithm]


def codes_of(number: int, record: Record, algorithm: Algorithm, store: StoreReader) -> list[tuple[int, bytes]]:
    """Return label and code of each code of one algorithm by which a record is found."""
    plain = algorithm.is_weak_alone and record.pdq_quality is not None and record.pdq_quality < RELIABLE_PDQ_QUALITY
    own = [(number << PLACE_BITS, code)] if (code := record.hashes.get(algorithm)) and not plain else []
    return own if algorithm.is_digest else own + store.further(number, algorithm)


def _nearest_of_each(matches: Sequence[_Matched]) -> list[_Matched]:
    """Return the first match of each code of a question: many codes of one record may be near to it."""
    first: dict[tuple[Algorithm, int], _Matched] = {}
    for each in matches:
        first.setdefault((each.algorithm, each.code), each)
    return list(first.values())


class _Pile:
    """The rows of an item's codes, each record once, but for those known to be withheld."""

    def __init__(self, hidden: _Hidden) -> None:
        self._hidden = hidden
        self.horizon: _Horizon | None = None
        self._nearness: list[NDArray[np.float64]] = []
        self._records: list[NDArray[np.int64]] = []
        self._fresh = 0

    def add(self, nearness: NDArray[np.float64], records: NDArray[np.int64], *, more: bool) -> None:
        """Add the rows of one code."""
        if more:
            farthest = nearness.max()
            horizon = _Horizon(float(farthest), int(records[nearness == farthest].max()))
            self.horizon = min(horizon, self.horizon or horizon)
        unknown = ~self._hidden.among(records)
        self._nearness.append(nearness[unknown])
        self._records.append(records[unknown])
        self._fresh += len(self._records[-1])
        if self._fresh > _PILE:
            self._press()

    def ranked(self) -> NDArray[np.int64]:
        """Return the records up to the horizon, nearest first."""
        self._press()
        return self._records[0]

    def _press(self) -> None:
        nearness, records = np.concatenate(self._nearness), np.concatenate(self._records)
        if self.horizon is not None:
            within = _within(self.horizon, nearness, records)
            nearness, records = nearness[within], records[within]
        order = np.lexsort((records, nearness))
        order = order[np.sort(np.unique(records[order], return_index=True)[1])]
        self._nearness, self._records, self._fresh = [nearness[order]], [records[order]], 0


def choose(asked: Sequence[Candidates], read: Read, search: Search, limit: int) -> None:
    """Look at records until it is certain for each item of each question what is told.

    Args:
        asked: the questions, with everything that the first search found.
        read: returns those of some records that the store still has.
        search: for an item that needs more rows than the first search gave.
        limit: how many rows that one gave for each code.
    """
    wanted = [[(item, item.next_records()) for item in candidates.rank()] for candidates in asked]
    # Asked even for no record at all: what is withheld must not show by a question that took one reading more.
    records = read(sorted({record for each in wanted for _, some in each for record in some}) or [_NO_RECORD])
    for candidates, each in zip(asked, wanted, strict=True):
        candidates.judge(each, records)
    del records, wanted
    for candidates in asked:
        for item in candidates.items:  # one after the other, so that memory holds what one of them needs
            candidates.go_on(item, read, search, limit)


def rows_wanted(caps: Iterable[int]) -> int:
    """Return for how many rows near each code to ask an index, where questions may be told so many records for each item."""
    return max(2 * max(caps, default=0), FEWEST)


def nearness(match: Match) -> float:
    """Order matches: digests first, then by distance as a share of what the algorithm allows."""
    return match.distance / match.algorithm.maximum_distance if match.algorithm.is_perceptual else -1.0


def _within(horizon: _Horizon, nearness: NDArray[np.float64], records: NDArray[np.int64]) -> NDArray[np.bool_]:
    within: NDArray[np.bool_] = (nearness < horizon.nearness) | ((nearness == horizon.nearness) & (records <= horizon.record))
    return within


def _differs(column: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which entries are not like the one before."""
    differs = np.ones(len(column), np.bool_)
    np.not_equal(column[1:], column[:-1], out=differs[1:])
    return differs


def _joined(columns: Sequence[NDArray[_Number]]) -> NDArray[_Number]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)
