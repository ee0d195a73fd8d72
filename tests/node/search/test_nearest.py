"""What is told is what it would be if every row near a code had been given by the index, and every record read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidfed.index import Algorithm, Code
from vidfed.index.codes import WHOLE
from vidfed.index.search.flat import distances_to
from vidfed.index.search.hits import Hits, Nearest
from vidfed.node.policy.policy import Distances, Rule
from vidfed.node.records.further import View
from vidfed.node.records.record import Record
from vidfed.node.records.schema import MAX_PLACES, PLACE_BITS
from vidfed.node.search import nearest
from vidfed.node.search.nearest import Candidates, Near, Rows, choose, nearness
from vidfed.node.search.query import SearchQuery
from vidfed.wire.values import HashColumn, Hit, Match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from random import Random

WITHHELD = "withheld"
EXACT = Rule("exact", frozenset(), frozenset())
BANDS = replace(EXACT, name="bands", distances=Distances.BANDS)
ALGORITHMS = (Algorithm.SHA256, Algorithm.PDQ, Algorithm.PHASH)


@dataclass
class Store:
    """A store and the indexes over it, as simple as they can be, that count what is asked of them."""

    records: Mapping[int, Record]
    read_so_far: list[int] = field(default_factory=list)
    searches: int = 0

    def near(self, column: HashColumn, code: int) -> list[tuple[int, int]]:
        """Return (distance, label) of every code of a record that is near enough."""
        found = []
        for number, record in self.records.items():
            own = [(number << PLACE_BITS, record.hashes[column.algorithm])] if column.algorithm in record.hashes else []
            for label, theirs in own + self.further(number, column.algorithm):
                distance = int(distances_to(column.algorithm, column.codes[code : code + 1], theirs)[0])
                if distance <= column.max_distance:
                    found.append((distance, label))
        return sorted(found)

    def further(self, record: int, algorithm: Algorithm) -> list[tuple[int, bytes]]:
        codes = enumerate(self.records[record].further, 1)
        return [(record << PLACE_BITS | place, each.code) for place, each in codes if each.algorithm is algorithm]

    def views(self, labels: Sequence[int]) -> dict[int, View]:
        assert all(label & MAX_PLACES for label in labels)  # of what a record's own row says nobody has to ask
        return {label: View(each.kind, each.quality) for label in labels for each in [self.code(label)]}

    def code(self, label: int) -> Code:
        return self.records[label >> PLACE_BITS].further[(label & MAX_PLACES) - 1]

    def search(self, column: HashColumn, code: int, limit: int, bands: Sequence[int] | None) -> Near:
        self.searches += 1
        rows = self.near(column, code)
        distances, numbers = np.array([row[0] for row in rows], np.int32), np.array([row[1] for row in rows], np.int64)
        hits = Hits(np.zeros(len(rows), np.int64), distances, numbers)
        if column.algorithm.is_perceptual:
            hits = Nearest(limit, None if bands is None else np.array(bands)).of(hits)
        return Near(hits.labels >> PLACE_BITS, hits.distances, more=len(rows) > len(hits.labels))

    def read(self, wanted: Sequence[int]) -> dict[int, Record]:
        self.read_so_far += wanted
        return {number: self.records[number] for number in wanted if number in self.records}

    def candidates(self, question: SearchQuery, limit: int) -> Candidates:
        made = Candidates(question)
        for place, column in enumerate(question.columns):
            self.searches += len(column.codes)
            near = [self.near(column, code) for code in range(len(column.codes))]
            first = [each[:limit] if column.algorithm.is_perceptual else each for each in near]
            if rows := [(code, label, distance) for code, each in enumerate(first) for distance, label in each]:
                codes, labels, distances = map(np.array, zip(*rows, strict=True))
                cut = [code for code, each in enumerate(near) if len(each) > len(first[code])]
                made.add(place, Rows(codes, labels, distances.astype(np.int32)), cut)
        return made


Told = tuple[tuple[Record, ...], tuple[Hit, ...], tuple[int, ...]]


def told(store: Store, questions: Sequence[SearchQuery], limit: int) -> list[Told]:
    candidates = [store.candidates(question, limit) for question in questions]
    choose(candidates, store.read, store.search, limit)
    return [each.told(store) for each in candidates]  # type: ignore[arg-type]  # as much of a StoreReader as is asked


def told_of_all(store: Store, question: SearchQuery) -> Told:
    """All that is near, all records; taken out what is withheld; ordered; cut."""
    items: dict[int, dict[int, list[tuple[int, Match]]]] = {}
    for column in question.columns:
        for code, item in enumerate(column.items.tolist()):
            by_record: dict[int, list[tuple[int, Match]]] = {}
            for distance, label in store.near(column, code):
                record = store.records[label >> PLACE_BITS]
                quality = record.pdq_quality if column.algorithm.is_perceptual else None
                view = store.views([label])[label] if label & MAX_PLACES else View(WHOLE, quality)
                match = question.told(Match(column.algorithm, distance, code, kind=view.kind, quality=view.quality))
                by_record.setdefault(label >> PLACE_BITS, []).append((label, match))
            for number, matches in by_record.items():
                if question.visible(store.records[number]):  # of its codes the nearest by what is told, of those the first
                    best = min(matches, key=lambda each: (nearness(each[1]), each[0]))
                    items.setdefault(item, {}).setdefault(number, []).append(best)
    order: dict[int, int] = {}
    hits, truncated = [], []
    for item, found in sorted(items.items()):
        ranked = sorted((min(nearness(match) for _, match in matches), number) for number, matches in found.items())
        if len(ranked) > question.max_hits_per_item:
            truncated.append(item)
        for _, number in ranked[: question.max_hits_per_item]:
            hits.append(Hit(item, order.setdefault(number, len(order)), _in_order(found[number])))
    return tuple(store.records[number] for number in order), tuple(hits), tuple(truncated)


def _in_order(matches: list[tuple[int, Match]]) -> tuple[Match, ...]:
    return tuple(match for _, match in sorted(matches, key=lambda each: (nearness(each[1]), each[0])))


def visible(record: Record) -> bool:
    return record.series != WITHHELD


def code_of(algorithm: Algorithm, cluster: int, distance: int) -> bytes:
    """Return a code so far from its cluster's centre; the clusters are farther apart than anybody may ask."""
    code = bytearray([255 * (cluster % 2)] * algorithm.code_bytes)
    for bit in range(distance):
        code[bit // 8] ^= 1 << bit % 8
    return bytes(code)


def codes(random: Random, most: int) -> dict[Algorithm, bytes]:
    cluster, apart = random.randrange(2), random.randrange(most + 1)
    return {algorithm: code_of(algorithm, cluster, min(apart, 10) if algorithm.is_perceptual else 0) for algorithm in ALGORITHMS}


def record(random: Random) -> Record:
    own = codes(random, 10)
    held = random.sample(ALGORITHMS, random.randint(1, 3))
    views = [codes(random, 10) for _ in range(random.choice([0, 0, 1, 6]))]
    further = tuple(
        Code(algorithm, view[algorithm], f"frame:{number}", random.choice([None, 70]))
        for number, view in enumerate(views, 2)
        for algorithm in random.sample([Algorithm.PDQ, Algorithm.PHASH], random.randint(1, 2))
    )
    hashes = {algorithm: own[algorithm] for algorithm in held}
    return Record(hashes, further=further, series=random.choice(["", "", WITHHELD]), pdq_quality=random.choice([None, 60]))


def question(random: Random) -> SearchQuery:
    columns = []
    for algorithm in random.sample(ALGORITHMS, random.randint(1, 3)):
        asked = [codes(random, 3)[algorithm] for _ in range(random.randint(1, 4))]
        rows = np.frombuffer(b"".join(asked), np.uint8).reshape(len(asked), -1)
        items = np.array([random.randrange(2) for _ in asked], np.uint32)
        columns.append(HashColumn(algorithm, rows, items, random.randint(algorithm.default_distance // 2, algorithm.maximum_distance)))
    rule = random.choice([EXACT, BANDS])
    columns = [*rule.limit(columns)]
    return SearchQuery(columns, random.randint(1, 9), random.choice([visible, lambda _record: True]), rule.tell)


@pytest.fixture(scope="module", autouse=True)
def small_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_DEEPER": 2, "_PILE": 5, "_MORE_READ": 2, "_MOST_READ": 5}.items():
            patch.setattr(nearest, name, value)
        yield


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 60), st.integers(1, 12))
def test_it_is_what_reading_everything_gives(random: Random, count: int, limit: int) -> None:
    store = Store({number: record(random) for number in range(1, count + 1)})
    asked = [question(random) for _ in range(random.randint(1, 3))]
    assert told(store, asked, limit) == [told_of_all(store, each) for each in asked]


def crowd(count: int, withheld: Callable[[int], bool]) -> Store:
    """Records around one code, each a little farther than the one before it but one."""
    held = {}
    for number in range(1, count + 1):
        code = code_of(Algorithm.PDQ, 0, number * 20 // count)
        held[number] = Record({Algorithm.PDQ: code}, series=WITHHELD if withheld(number) else str(number), reference=str(number))
    return Store(held)


def about(*items: int, rule: Rule = EXACT, cap: int = 3) -> SearchQuery:
    column = HashColumn(Algorithm.PDQ, np.zeros((len(items), 32), np.uint8), np.array(items, np.uint32), 31)
    return SearchQuery([column], cap, visible, rule.tell)


@pytest.mark.parametrize("rule", [EXACT, BANDS], ids=lambda rule: rule.name)
@pytest.mark.parametrize("first_visible", [1, 4, 5, 129, 2_000, 3_000, 3_001])
def test_no_withheld_crowd_hides_what_lies_behind_it(rule: Rule, first_visible: int) -> None:
    store = crowd(3_000, lambda number: number < first_visible)
    asked = about(0, 1, rule=rule)
    ((found, hits, truncated),) = told(store, [asked], nearest.FEWEST)
    left = list(range(first_visible, 3_001))
    assert [record.reference for record in found] == [str(number) for number in left[:3]]
    assert [hit.item for hit in hits] == [0] * len(left[:3]) + [1] * len(left[:3])
    assert truncated == ((0, 1) if len(left) > 3 else ())
    assert (found, hits, truncated) == told_of_all(store, asked)


def test_of_a_crowd_that_may_be_told_few_records_are_read_and_nothing_is_searched_again() -> None:
    store = crowd(3_000, lambda _number: False)
    asked = about(*range(10))
    assert told(store, [asked], nearest.FEWEST) == [told_of_all(store, asked)]
    assert (store.read_so_far, store.searches) == ([1, 2, 3, 4], 10)


def test_a_withheld_crowd_is_read_once_and_not_for_each_item() -> None:
    store = crowd(3_000, lambda _number: True)
    assert told(store, [about(*range(10))], nearest.FEWEST) == [((), (), ())]
    first, others = store.read_so_far[:4], store.read_so_far[4:]
    assert first == [1, 2, 3, 4]  # by all of them together
    assert sorted(others) == list(range(1, 3_001))


def test_a_record_that_changed_during_the_search_and_is_no_longer_near_is_not_told() -> None:
    store = crowd(300, lambda _number: False)
    candidates = store.candidates(about(0), nearest.FEWEST)
    gone = {Algorithm.PDQ: code_of(Algorithm.PDQ, 1, 0)}
    choose(
        [candidates],
        lambda wanted: {number: replace(store.records[number], hashes=gone) for number in wanted},
        store.search,
        nearest.FEWEST,
    )
    assert candidates.told(store)[:2] == ((), ())  # type: ignore[arg-type]  # as above
