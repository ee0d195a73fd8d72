"""A member that is told of a record in bands, and asks again and again to work out its hash."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from tests.node.lookup.test_standing import Watch
from tests.support.memory import ANSWERING, MemoryFederation, MemoryNode, call_of
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.told import MOST_CODES, ToldCodes
from vidfed.node.policy.policy import Distances
from vidfed.node.records.record import Record
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, MAX_CODES_OF_ITEM, FilmTimes, HashColumn, LookupAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vidfed.v1.lookup_pb2 import LookupCall

BITS = 256
CODES = 600
"""That the attacker has, in all."""
FRAME_MS = 10_000


@pytest.fixture
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr")
    return made


@pytest.fixture
def node(federation: MemoryFederation, tmp_path: Path) -> Iterator[MemoryNode]:
    ToldCodes(tmp_path / "told.db").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "told.db")) as database, database:
        database.execute("UPDATE key SET key = ?", (bytes(range(32)),))  # which part of hashes is secret is the same in every run
    with MemoryNode(federation, "fr", tmp_path, replace(ANSWERING, distances=Distances.BANDS)) as made:
        yield made


@pytest.fixture
def asker(node: MemoryNode, federation: MemoryFederation) -> Asker:
    return Asker(node, federation)


@dataclass
class Asker:
    """A member's people who ask with whatever codes they like."""

    node: MemoryNode
    federation: MemoryFederation
    spent: int = 0
    lookups: int = 0

    def ask(self, columns: Sequence[HashColumn], items: int, films: Sequence[FilmTimes] = ()) -> LookupAnswer:
        """Ask, each time as another person."""
        self.lookups += 1
        self.spent += sum(len(column.codes) for column in columns)
        person = self.federation.investigator("nl", f"person-{self.lookups % 3}")
        asked = self.federation.request(person, [Hash(Algorithm.PDQ, bytes(range(32)))])
        request = replace(asked, columns=tuple(columns), item_count=items, films=tuple(films))
        envelope = self.node.ask(call_of(person.credential, self.federation.sign(request, person)), "nl")
        return read_answer(envelope.verify(ANSWER_TYPE, self.node.member.entry.signing_keys))

    def stream(self, parts: Sequence[Sequence[Hash]], edge: int) -> list[set[int]]:
        """Ask in chunks, and return for each what is within an edge."""
        self.spent += sum(map(len, parts))
        person = self.federation.investigator("nl")
        signed = [envelope for _, envelope in self.federation.chunks(person, *parts)]

        async def chunks() -> AsyncIterator[LookupCall]:
            for envelope in signed:
                yield call_of(person.credential, envelope)

        async def answers() -> list[set[int]]:
            return [nearer(read_answer(each.payload), edge) async for each in self.node.stream(chunks(), "nl")]

        return asyncio.run(answers())


def column(codes: Sequence[NDArray[np.bool_]], items: Sequence[int], distance: int = 31) -> HashColumn:
    return HashColumn(Algorithm.PDQ, np.packbits(np.array(codes), axis=1), np.array(items, np.uint32), distance)


def nearer(answer: LookupAnswer, edge: int) -> set[int]:
    """Return the places of the codes that are told to be within an edge."""
    return {match.code for hit in answer.hits for match in hit.matches if match.distance <= edge}


Oracle: TypeAlias = "Callable[[Asker, list[NDArray[np.bool_]], int], list[bool]]"


def in_one_lookup(asker: Asker, codes: list[NDArray[np.bool_]], edge: int) -> list[bool]:
    """Each code an item of its own."""
    within = nearer(asker.ask([column(codes, range(len(codes)))], len(codes)), edge)
    return [place in within for place in range(len(codes))]


def by_the_distance_asked(asker: Asker, codes: list[NDArray[np.bool_]], edge: int) -> list[bool]:
    """What is found at all, at the distance that matters."""
    within = nearer(asker.ask([column(codes, range(len(codes)), edge)], len(codes)), edge)
    return [place in within for place in range(len(codes))]


def in_many_lookups(asker: Asker, codes: list[NDArray[np.bool_]], edge: int) -> list[bool]:
    """Ten codes at a time, by one person after the other."""
    return [within for start in range(0, len(codes), 10) for within in in_one_lookup(asker, codes[start : start + 10], edge)]


def in_a_stream(asker: Asker, codes: list[NDArray[np.bool_]], edge: int) -> list[bool]:
    """Fifty at a time, as chunks of one stream; the stream's distance is the usual one."""
    parts = [[Hash(Algorithm.PDQ, np.packbits(code).tobytes()) for code in codes[start : start + 50]] for start in range(0, len(codes), 50)]
    return [place in within for part, within in zip(parts, asker.stream(parts, edge), strict=True) for place in range(len(part))]


def as_variants(asker: Asker, codes: list[NDArray[np.bool_]], edge: int) -> list[bool]:
    """Said to be variants of one picture, eight for each."""
    items = [place // 8 for place in range(len(codes))]
    within = nearer(asker.ask([column(codes, items)], items[-1] + 1), edge)
    return [place in within for place in range(len(codes))]


def as_frames(asker: Asker, codes: list[NDArray[np.bool_]], edge: int) -> list[bool]:
    """Said to be frames of a film, each long after the one before."""
    starts = np.arange(len(codes), dtype=np.uint32) * FRAME_MS
    answer = asker.ask([column(codes, [0] * len(codes), edge)], 1, [FilmTimes(0, starts, starts)])
    stretches = [each for hit in answer.hits if hit.film for each in hit.film.stretches]
    return [any(each.from_ms <= start <= each.until_ms for each in stretches) for start in starts.tolist()]


def worked_out(asker: Asker, ask: Oracle, own: NDArray[np.bool_], edge: int, random: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Return what an attacker may take for the record's hash: it goes to where a band ends, and there asks with each bit flipped, twice."""
    guesses = []
    while asker.spent + BITS + 10 <= CODES:
        away = random.permutation(BITS)

        def moved(steps: int, away: NDArray[np.int64] = away) -> NDArray[np.bool_]:
            code = own.copy()
            code[away[:steps]] ^= True
            return code

        inside, outside = (0, 128) if ask(asker, [own], edge)[0] else (None, 0)
        if inside is None:
            break
        while outside - inside > 1:
            middle = (inside + outside) // 2
            if ask(asker, [moved(middle)], edge)[0]:
                inside = middle
            else:
                outside = middle
        outer = moved(outside)  # one bit too far: each bit that is wrong in it brings it back
        back = np.array(ask(asker, [outer ^ (np.arange(BITS) == bit) for bit in range(BITS)], edge))
        guesses += [outer ^ back, np.where(back, ~outer, own)]
    return guesses


@pytest.mark.parametrize(
    ("ask", "edge"),
    [(in_one_lookup, 31), (by_the_distance_asked, 15), (in_many_lookups, 31), (in_a_stream, 31), (as_variants, 31), (as_frames, 31)],
)
def test_bands_do_not_give_a_hash_away_in_600_codes(node: MemoryNode, federation: MemoryFederation, ask: Oracle, edge: int) -> None:
    """However the codes are spread, of what the attacker does not know of the hash more than a quarter stays so."""
    random = np.random.default_rng(7)
    theirs = random.random(BITS) < 0.5
    own = theirs.copy()
    own[random.choice(BITS, edge - 3, replace=False)] ^= True
    node.hold(Record({Algorithm.PDQ: np.packbits(theirs).tobytes()}))
    asker = Asker(node, federation)
    guesses = worked_out(asker, ask, own, edge, random)
    wrong = [int((guess != theirs).sum()) for guess in guesses]
    assert BITS < asker.spent <= CODES
    assert min(wrong, default=BITS) > (edge - 3) / 4, wrong


def test_items_of_more_codes_than_a_file_can_have_are_refused_and_films_frames_are_none(asker: Asker) -> None:
    codes = [np.arange(BITS) == bit % BITS for bit in range(MAX_CODES_OF_ITEM + 1)]
    assert asker.ask([column(codes, [0] * len(codes))], 1).header.status is Status.TOO_LARGE
    assert asker.ask([column(codes[1:], [0] * MAX_CODES_OF_ITEM)], 1).header.status is Status.ANSWERED
    starts = np.arange(len(codes), dtype=np.uint32)
    assert asker.ask([column(codes, [0] * len(codes))], 1, [FilmTimes(0, starts, starts)]).header.status is Status.ANSWERED


def test_the_same_pictures_asked_again_and_again_are_told_as_before(asker: Asker, node: MemoryNode) -> None:
    code = np.arange(BITS) % 3 == 0
    node.hold(Record({Algorithm.PDQ: np.packbits(code).tobytes()}))
    pictures = [code ^ (np.arange(BITS) < bits) for bits in (0, 2, 9, 20)]
    assert len(pictures) == MOST_CODES
    first, *others = [asker.ask([column(pictures, range(4))], 4).hits for _ in range(3)]
    assert [[(match.distance, match.slack, match.compared) for match in hit.matches] for hit in first] == [
        [(0, 0, 0)],
        [(15, 14, 0)],
        [(15, 14, 0)],
        [(31, 15, 0)],
    ]
    assert others == [first, first]


def test_one_picture_more_is_told_of_in_the_widest_band_and_so_are_all_others_from_then_on(asker: Asker, node: MemoryNode) -> None:
    code = np.arange(BITS) % 3 == 0
    node.hold(Record({Algorithm.PDQ: np.packbits(code).tobytes(), Algorithm.MD5: b"0123456789abcdef"}))
    pictures = [code ^ (np.arange(BITS) < bits) for bits in (0, 2, 9, 20, 30)]
    for asked in (pictures, pictures[:1]):
        answer = asker.ask([column(asked, range(len(asked)))], len(asked))
        told = [(hit.item, match.distance, match.slack, match.compared) for hit in answer.hits for match in hit.matches]
        assert told == [(item, 31, 31, 160) for item in range(len(asked))]
    digest = HashColumn(Algorithm.MD5, np.frombuffer(b"0123456789abcdef", np.uint8)[None], np.zeros(1, np.uint32), 0)
    (hit,) = asker.ask([digest, column([~code], [0])], 1).hits
    assert [(match.algorithm, match.distance, match.compared) for match in hit.matches] == [(Algorithm.MD5, 0, 0)]


def test_an_item_and_a_record_have_one_band_whatever_variants_are_asked(asker: Asker, node: MemoryNode) -> None:
    code = np.arange(BITS) % 3 == 0
    node.hold(Record({Algorithm.PDQ: np.packbits(code).tobytes()}))
    variants = [code ^ (np.arange(BITS) < bits) for bits in (25, 9, 2, 20)]
    (hit,) = asker.ask([column(variants, [0] * 4)], 1).hits
    assert [(match.distance, match.slack, match.code) for match in hit.matches] == [(15, 14, 1)]


def test_nothing_is_remembered_of_what_hit_nothing_or_may_not_be_told(asker: Asker, node: MemoryNode, tmp_path: Path) -> None:
    code = np.arange(BITS) % 3 == 0
    node.hold(Record({Algorithm.PDQ: np.packbits(code).tobytes()}, sharing="nobody"))
    codes = [code, ~code, *(code ^ (np.arange(BITS) == bit) for bit in range(20))]
    asker.ask([column(codes, range(len(codes)))], len(codes))
    with contextlib.closing(sqlite3.connect(tmp_path / "told.db")) as database:
        assert [database.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("told", "coarse")] == [(0,), (0,)]
        node.hold(Record({Algorithm.PDQ: np.packbits(code ^ (np.arange(BITS) < 9)).tobytes()}))
        asker.ask([column(codes[:2], range(2))], 2)
        assert database.execute("SELECT kind, length(code) FROM told").fetchall() == [("pdq", 8)]
    assert np.packbits(code).tobytes() not in b"".join(path.read_bytes() for path in tmp_path.glob("told.db*"))


def test_what_cannot_be_counted_is_not_told(asker: Asker, node: MemoryNode) -> None:
    code = np.arange(BITS) % 3 == 0
    node.hold(Record({Algorithm.PDQ: np.packbits(code).tobytes()}))
    node.told_codes.close()
    answer = asker.ask([column([code], [0])], 1)
    assert (answer.header.status, answer.hits) == (Status.INTERNAL_ERROR, ())


def test_a_standing_question_tells_of_a_coarse_record_only_when_it_changed(node: MemoryNode) -> None:
    code = np.arange(BITS) % 3 == 0
    held = Record({Algorithm.PDQ: np.packbits(code).tobytes()}, reference="held")
    node.hold(held)
    pictures = tuple(Hash(Algorithm.PDQ, np.packbits(code ^ (np.arange(BITS) < bits)).tobytes()) for bits in range(6))
    watch = Watch(node, pictures)
    compared = []
    for change in (None, None, replace(held, series="Tulip")):
        if change:
            node.hold(change)
        compared.append([match.compared for hit in watch.ask().hits for match in hit.matches])
        watch.later()
    assert compared == [[160] * 6, [], [160] * 6]
