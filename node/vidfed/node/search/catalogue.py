"""What a node can search: the record store's digests, and the indexes of perceptual hashes that follow it.

A search first makes sure that the indexes equal the store, and says so when they do not, so that being behind is never mistaken for
"no hit".
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np

from vidfed.index import Algorithm, SearchResult
from vidfed.node.errors import IndexBrokenError
from vidfed.node.records.schema import PLACE_BITS
from vidfed.node.records.source_states import Freshness
from vidfed.node.records.store import History
from vidfed.node.search.checked import CheckedStore
from vidfed.node.search.coarse import CoarseRecords, in_bands
from vidfed.node.search.distinct import distinct
from vidfed.node.search.films import find, merged, take_apart
from vidfed.node.search.follower import IndexFollower
from vidfed.node.search.nearest import NOTHING_NEAR, Candidates, Near, Rows, choose, rows_wanted
from vidfed.node.search.query import Found
from vidfed.node.search.recent import Recent, TooManyError
from vidfed.node.search.stop_list import frames_left_out
from vidfed.wire.values import IndexState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vidfed.node.records.record import Record
    from vidfed.node.records.store import RecordStore, StoreReader
    from vidfed.node.search.distinct import Distinct
    from vidfed.node.search.films import FilmHits, TakenApart
    from vidfed.node.search.query import SearchQuery
    from vidfed.node.search.stop_list import LeftOut
    from vidfed.security.clock import Clock
    from vidfed.wire.values import HashColumn, Hit


PATIENCE_S = 2.0
"""How long a lookup waits for the indexes to catch up with the store."""


class Catalogue:
    """Searches one member's records. Safe from several threads and processes; one process at a time keeps the indexes.

    Attributes:
        store: the records.
        changed_ms: when the records last changed, as of the last `check`; 0: never.
    """

    def __init__(self, store: RecordStore, folder: Path, clock: Clock, *, keeper: bool = True) -> None:
        """Open the indexes below `folder`; a damaged one is made anew from the store.

        Args:
            store: the records.
            folder: of the indexes.
            clock: gives the time of searches.
            keeper: this process applies the store's changes to the indexes; without it, another one does.

        Raises:
            HashError: another process keeps the indexes already, they cannot be written, or (not the keeper) there are none yet.
            StoreError: the store cannot be read.
        """
        self.store = store
        self._history = store.history()
        self._clock = clock
        self._follower = IndexFollower(store, folder, keeper=keeper)
        self._checked = CheckedStore(store, folder, self._follower.check)
        self._keeper = keeper
        self._coarse = CoarseRecords()
        self.changed_ms = 0

    @property
    def records(self) -> int:
        """How many records there were when they were last counted."""
        return self._follower.records

    def start(self) -> None:
        """Check the store, and start following it."""
        if self._keeper:
            self._checked.start()
        self._follower.start()

    def close(self) -> None:
        """Stop following and close the indexes."""
        self._checked.close()
        self._follower.close()

    def catch_up(self) -> None:
        """Bring the indexes up to the store now, in the caller's thread.

        Raises:
            StoreError, HashError: the store cannot be read, or an index not written.
        """
        self._follower.catch_up()

    def check_all(self) -> None:
        """Read all that is searched, as the keeper does again and again, and refuse what is damaged; see `CheckedStore`."""
        self._checked.check()

    @property
    def erasing(self) -> bool:
        """Whether something that was erased may be in the store's or the indexes' files still; known to the keeper."""
        return self._follower.erasing

    def progress(self) -> tuple[int, int]:
        """Return (version the indexes have, version the store has)."""
        return self._follower.progress()

    def check(self, *, patience_s: float = 0.0) -> None:
        """Return if a search would be answered.

        Args:
            patience_s: how long to wait for the indexes to catch up with the store.

        Raises:
            IndexBehindError, IndexBrokenError: as `search`.
            StoreError: the store cannot be read.
        """
        self._checked.require()
        with self.store.reading() as store:
            version, self.changed_ms = store.version()
            self._check_history(store, version)
        self._follower.wait_until(version, patience_s)

    def mark(self, version: int) -> str:
        """Return the mark of the store's history up to a version.

        Raises:
            StoreError: it cannot be read.
        """
        return self.store.mark(version)

    def search_recent(self, wanted: SearchQuery, version: int) -> Found:
        """Find for a question every record that changed after a version, within each column's distance, in one state of the store.

        Raises:
            IndexBehindError, IndexBrokenError, StoreError: as `search`.
        """
        self._checked.require()
        with self.store.reading() as store:
            left_out = frames_left_out(wanted, store)
            apart = take_apart(wanted, wanted.films, left_out)
            asked = distinct(apart.query)
            newest, changed_ms = store.version()
            self._check_history(store, newest)
            try:
                recent = Recent(store, version)
            except TooManyError:
                return self.search([wanted])[0]

            def search_codes(algorithm: Algorithm, codes: NDArray[np.uint8], max_distance: int, *_: object) -> SearchResult | None:
                return recent.search(algorithm, codes, max_distance)

            candidates = [Candidates(asked.query)]
            limit = rows_wanted([wanted.max_hits_per_item])
            for together in _same_searches([asked.query]):
                self._search_columns(together, store, limit, candidates, search_codes)
            choose(candidates, store.records, functools.partial(self._search_code, search_codes, store), limit)
            told = candidates[0].told(store)
            films = [find(film, wanted, store, functools.partial(search_codes, Algorithm.PDQ)) for film in apart.films]
            current_ms = self._clock()
            freshness = Freshness.of(store.source_states(), current_ms)
            searched = wanted.searched(self._follower.shares)
            state = IndexState(newest, changed_ms, current_ms, searched, self._follower.band, freshness.as_of_ms, freshness.behind)
            return self._told(_found(state, apart, asked, told, films, left_out), wanted, apart, store, recent.numbers)

    def touch_recent(self, wanted: SearchQuery, version: int | None) -> Found:
        """Tell of a question in outline whether a record that may be told and changed after a version could be near: no more than that.

        Args:
            wanted: with columns as `sketched` leaves them.
            version: records changed after it; None: it cannot be known which, so something could be.

        Returns:
            No hit. `truncated_items` is not empty if the question is to be asked whole.

        Raises:
            IndexBehindError, IndexBrokenError, StoreError: as `search`.
        """
        self._checked.require()
        with self.store.reading() as store:
            newest, changed_ms = store.version()
            self._check_history(store, newest)
            near = version is None or _touches(wanted, store, version)
            states = store.source_states()
        current_ms = self._clock()
        freshness = Freshness.of(states, current_ms)
        searched = wanted.searched(self._follower.shares)
        state = IndexState(newest, changed_ms, current_ms, searched, self._follower.band, freshness.as_of_ms, freshness.behind)
        return Found(state, (), (), (0,) if near else ())

    def search(self, wanted: Sequence[SearchQuery], *, patience_s: float = PATIENCE_S) -> list[Found]:
        """Find for each question every record within each of its columns' distances, all in one state of the store.

        Args:
            wanted: the questions.
            patience_s: how long to wait for the indexes to catch up with the store.

        Raises:
            IndexBehindError: the indexes did not catch up in time.
            IndexBrokenError: the indexes cannot be used.
            StoreError: the store cannot be read.
        """
        self._checked.require()
        whole = wanted
        renewals = self._follower.renewals()
        with self.store.reading() as store:
            left_out = [frames_left_out(question, store) for question in whole]
            apart = [take_apart(question, question.films, each) for question, each in zip(whole, left_out, strict=True)]
            asked = [distinct(each.query) for each in apart]
            wanted = [each.query for each in asked]
            version, changed_ms = store.version()
            states = store.source_states()
            self._check_history(store, version)
            self._follower.wait_until(version, patience_s)
            candidates = [Candidates(question) for question in wanted]
            limit = rows_wanted(question.max_hits_per_item for question in wanted)
            for together in _same_searches(wanted):
                self._search_columns(together, store, limit, candidates, self._search_codes)
            choose(candidates, store.records, functools.partial(self._search_code, self._search_codes, store), limit)
            told = [each.told(store) for each in candidates]
            films = [
                [find(film, question, store, self._search_frames) for film in each.films]
                for question, each in zip(whole, apart, strict=True)
            ]
            self._follower.check_not_renewed(renewals, version)
            current_ms = self._clock()
            freshness = Freshness.of(states, current_ms)
            state = (self._follower.band, freshness.as_of_ms, freshness.behind)
            shares = self._follower.shares
            searched = [IndexState(version, changed_ms, current_ms, question.searched(shares), *state) for question in whole]
            found = [_found(*each) for each in zip(searched, apart, asked, told, films, left_out, strict=True)]
            return [self._told(*each, store) for each in zip(found, whole, apart, strict=True)]

    def _told(self, found: Found, wanted: SearchQuery, apart: TakenApart, store: StoreReader, only: Collection[int] | None = None) -> Found:
        """Return what is told of what was found, where that is told in bands: coarse records are added, of them `only` these."""
        bands = wanted.bands
        if bands is None:
            return found
        coarse = self._coarse.read(bands, found.state.version, store)
        return in_bands(found, wanted, bands, apart.films, coarse, store, only)

    def _check_history(self, store: StoreReader, version: int) -> None:
        """Make sure that the store is the one of before: a volume or a database may have been exchanged under a running node.

        Raises:
            IndexBrokenError: it is another one, or an older copy.
        """
        known = self._history
        if version < known.version or store.mark(known.version) != known.mark:
            raise IndexBrokenError(
                f"the record store is not the one that this node began with, which was at change {known.version}: put that one back and "
                "start the node again"
            )
        if version > known.version:
            self._history = History(version, store.mark(version))

    def _search_columns(
        self,
        together: Sequence[tuple[int, int, HashColumn]],
        store: StoreReader,
        limit: int,
        candidates: Sequence[Candidates],
        search_codes: Callable[..., SearchResult | None],
    ) -> None:
        """Search columns of one algorithm and distance, each of the question and with the place in it said, and add what is near."""
        columns = [column for _, _, column in together]
        algorithm = columns[0].algorithm
        codes = columns[0].codes if len(columns) == 1 else np.concatenate([column.codes for column in columns])
        found = search_codes(algorithm, codes, columns[0].max_distance, store, limit)
        if found is None:
            return
        first = 0
        for number, place, column in together:
            end = first + len(column.codes)
            limits, cut = found.limits[first : end + 1], found.truncated[first:end]
            if limits[0] < limits[-1]:
                own = slice(limits[0], limits[-1])
                positions = np.repeat(np.arange(len(column.codes)), np.diff(limits))
                rows = Rows(positions, found.labels[own], found.distances[own])
                candidates[number].add(place, rows, np.flatnonzero(cut).tolist())
            first = end

    def _search_frames(self, codes: NDArray[np.uint8], max_distance: int, limit: int | None) -> SearchResult | None:
        return self._follower.search(Algorithm.PDQ, codes, max_distance, limit, None)

    @staticmethod
    def _search_code(
        search_codes: Callable[..., SearchResult | None],
        store: StoreReader,
        column: HashColumn,
        code: int,
        limit: int,
        bands: Sequence[int] | None,
    ) -> Near:
        found = search_codes(column.algorithm, column.codes[code : code + 1], column.max_distance, store, limit, bands)
        return Near(found.labels >> PLACE_BITS, found.distances, bool(found.truncated[0])) if found else NOTHING_NEAR

    def _search_codes(
        self,
        algorithm: Algorithm,
        codes: NDArray[np.uint8],
        max_distance: int,
        store: StoreReader,
        limit: int,
        bands: Sequence[int] | None = None,
    ) -> SearchResult | None:
        """Return what is near enough to each code, of an index's rows the nearest `limit`; None where there is nothing."""
        if algorithm.is_digest:
            return _equal(codes, store.find(algorithm, [code.tobytes() for code in codes]))
        return self._follower.search(algorithm, codes, max_distance, limit, bands)


def _found(
    state: IndexState,
    apart: TakenApart,
    asked: Distinct,
    told: tuple[tuple[Record, ...], Sequence[Hit], Sequence[int]],
    films: Sequence[FilmHits],
    left_out: LeftOut,
) -> Found:
    records, some, more = told
    hits, truncated = asked.expand(some, more)
    if films:
        records, hits, truncated = merged(records, [apart.in_asked_column(hit) for hit in hits], truncated, films)
    return Found(state, records, hits, truncated, left_out.told)


def _same_searches(wanted: Sequence[SearchQuery]) -> Iterable[list[tuple[int, int, HashColumn]]]:
    """Put together what can be searched together: columns of one algorithm and distance, each with its question's number and its place."""
    together: dict[tuple[Algorithm, int], list[tuple[int, int, HashColumn]]] = {}
    for number, question in enumerate(wanted):
        for place, column in enumerate(question.columns):
            together.setdefault((column.algorithm, column.max_distance), []).append((number, place, column))
    return together.values()


def _equal(codes: NDArray[np.uint8], known: Mapping[bytes, Sequence[int]]) -> SearchResult | None:
    """Return the labels of the records that carry each of some digests."""
    if not known:
        return None
    found = [known.get(code.tobytes(), ()) for code in codes]
    labels = np.array([record for records in found for record in records], np.int64) << PLACE_BITS
    limits = np.array(list(itertools.accumulate(map(len, found), initial=0)))
    return SearchResult(limits, np.zeros(len(labels), np.int32), labels, np.zeros(len(codes), np.bool_))


def _touches(wanted: SearchQuery, store: StoreReader, version: int) -> bool:
    """Tell whether a record that may be told, of those that changed, is within a column's distance as far as the outline shows."""
    try:
        recent = Recent(store, version, masked=True)
    except TooManyError:
        return True
    labels: set[int] = set()
    for column in wanted.columns:
        found = recent.search(column.algorithm, column.codes, column.max_distance)
        if found is not None:
            labels.update(int(label) >> PLACE_BITS for label in found.labels)
    return any(wanted.visible(record) for record in store.records(sorted(labels)).values())
