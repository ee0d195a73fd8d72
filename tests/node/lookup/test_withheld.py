"""What a member is not told looks exactly like no hit: in the answer, in the log, and in the work it takes."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from sqlalchemy import event

from tests.support.memory import ANSWERING, MemoryFederation, MemoryNode, call_of, columns_of
from tests.support.records import code
from vidfed.index import Algorithm, Code, Hash
from vidfed.node.policy.policy import Category, Distances, Limits, Policy, Rule
from vidfed.node.records.record import Record
from vidfed.node.search.nearest import Candidates
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, FilmTimes, HandlingCode, LookupAnswer, RecordView, Share, Urgency

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PDQ = Hash(Algorithm.PDQ, bytes(32))
NEAR = Hash(Algorithm.PDQ, bytes(31) + b"\x07")
SHA = Hash(Algorithm.SHA256, bytes(range(32)))
ASKED = [PDQ, SHA]
SECRET = Record(
    {PDQ.algorithm: PDQ.code, SHA.algorithm: SHA.code},
    series="Tulip",
    tags=("hold",),
    handling_code=HandlingCode.H2,
    category="1",
    category_scale="s",
)
KNOWN = Record({PDQ.algorithm: NEAR.code}, series="Rose")


class Told(NamedTuple):
    """All of an answer that could tell a withheld record from none, and what the node did for it."""

    records: tuple[RecordView, ...]
    hits: object
    truncated: tuple[int, ...]
    searched: object
    records_at_least: int
    statements: int
    logged: object


@pytest.fixture
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr")
    return made


@pytest.fixture
def node(federation: MemoryFederation, tmp_path: Path) -> Iterator[MemoryNode]:
    with MemoryNode(federation, "fr", tmp_path) as made:
        yield made


def answered(node: MemoryNode, federation: MemoryFederation, *, roles: tuple[str, ...] = (), **header: object) -> LookupAnswer:
    asker = federation.investigator("nl", roles=roles)
    request = federation.request(asker, ASKED, **header)
    envelope = node.ask(call_of(asker.credential, federation.sign(request, asker)), "nl")
    return read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))


def told(node: MemoryNode, federation: MemoryFederation) -> Told:
    statements: list[str] = []
    node.catalogue.catch_up()
    own = threading.get_ident()

    def count(*context: object) -> None:
        if threading.get_ident() == own:  # the index follows the store in a thread of its own
            statements.append(str(context[2]))

    event.listen(node.store.database.engine, "before_cursor_execute", count)
    answer = answered(node, federation)
    event.remove(node.store.database.engine, "before_cursor_execute", count)
    index, logged = answer.header.index, node.last_entry()
    assert index is not None
    quiet = {name: logged[name] for name in ("operation", "event", "outcome", "records")}
    # How many records carry a hash is told of all of them, as their number is: the same for every question, withheld or not.
    searched = tuple(replace(each, share=Share.FEW) for each in index.searched)
    return Told(answer.records, answer.hits, answer.truncated_items, searched, index.records_at_least, len(statements), quiet)


@pytest.mark.parametrize(
    ("rule", "secret"),
    [
        (replace(ANSWERING, withheld_series=frozenset({"tulip"})), SECRET),
        (replace(ANSWERING, withheld_tags=frozenset({"hold"})), SECRET),
        (replace(ANSWERING, handling_codes=frozenset({HandlingCode.H0})), SECRET),
        (replace(ANSWERING, categories=frozenset({Category("s", "", "2")}), without_category=True), SECRET),
        (ANSWERING, replace(SECRET, sharing="nobody")),
        (ANSWERING, replace(SECRET, sharing="only:br")),
        (ANSWERING, replace(SECRET, sharing="not:nl")),
    ],
)
@pytest.mark.parametrize("others", [(), (KNOWN,)])
def test_request_for_a_category_it_may_not_see(
    federation: MemoryFederation, tmp_path: Path, rule: Rule, secret: Record, others: tuple[Record, ...]
) -> None:
    """Every way to withhold, alone in the store and beside a record that is told, whose truncation a counted secret would change."""
    narrow = replace(rule, max_hits_per_item=1)
    with (
        MemoryNode(federation, "fr", tmp_path / "without", narrow) as without,
        MemoryNode(federation, "fr", tmp_path / "with", narrow) as kept,
    ):
        without.hold(*others)
        kept.hold(secret, *others)
        assert told(kept, federation) == told(without, federation)
        kept.policy.policy = Policy((ANSWERING,))
        kept.hold(replace(secret, sharing="only:nl"))
        assert len(told(kept, federation).records) == 1 + len(others)


FRAMES = tuple(code(Algorithm.PDQ, 70 + number) for number in range(6))
FILM = Record(
    {Algorithm.MD5: code(Algorithm.MD5, 70)},
    further=tuple(Code(Algorithm.PDQ, each, f"second:{number}-{number + 1}", 90) for number, each in enumerate(FRAMES)),
)


def about_film(node: MemoryNode, federation: MemoryFederation) -> LookupAnswer:
    """Ask about a film of these frames, each also mirrored."""
    codes = [each for frame in FRAMES for each in (frame, bytes(reversed(frame)))]
    (column,) = columns_of([Hash(Algorithm.PDQ, each) for each in codes])
    begins = np.repeat(np.arange(len(FRAMES), dtype=np.uint32) * 250, 2)
    asker = federation.investigator("nl")
    film = FilmTimes(0, begins, begins + np.uint32(200))
    column = replace(column, items=np.zeros(len(codes), np.uint32))
    request = replace(federation.request(asker, ASKED), item_count=1, columns=(column,), films=(film,))
    node.catalogue.catch_up()
    envelope = node.ask(call_of(asker.credential, federation.sign(request, asker)), "nl")
    return read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))


def test_a_withheld_film_looks_like_one_that_nobody_has(federation: MemoryFederation, tmp_path: Path) -> None:
    told = []
    for name, held in (("with", [replace(FILM, sharing="nobody")]), ("without", [])):
        with MemoryNode(federation, "fr", tmp_path / name) as node:
            node.hold(*held, KNOWN)
            answer, logged = about_film(node, federation), node.last_entry()
            told.append(
                (answer.records, answer.hits, answer.truncated_items, answer.frames_not_searched, logged["outcome"], logged["records"])
            )
    assert told[0] == told[1] == ((), (), (), (), told[0][4], told[0][5])
    with MemoryNode(federation, "fr", tmp_path / "told") as node:
        node.hold(FILM)
        (hit,) = about_film(node, federation).hits
    assert hit.film is not None
    assert hit.film.frames_agreeing == len(FRAMES)


def test_a_film_is_one_lookup_and_each_code_of_its_frames_one_hash(node: MemoryNode, federation: MemoryFederation) -> None:
    node.hold(FILM)
    codes = 2 * len(FRAMES)
    for limits, answers in (
        (Limits(lookups_per_minute=2, hashes_per_minute=10 * codes), 2),
        (Limits(lookups_per_minute=10, hashes_per_minute=3 * codes), 3),
        (Limits(lookups_per_minute=10, hashes_per_minute=codes - 1), 0),
    ):
        node.policy.policy = Policy((replace(ANSWERING, name=f"rule {limits.hashes_per_minute}", limits=limits),))
        said = [about_film(node, federation).header.status for _ in range(answers + 1)]
        assert said == [Status.ANSWERED] * answers + [Status.RATE_LIMITED]


def test_withheld_in_time_within_noise_with_one_code_asked_900_times(
    node: MemoryNode, federation: MemoryFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The structural half: a record is looked at once however often its code is asked, and the log says no time."""
    node.hold(replace(SECRET, sharing="nobody"))
    node.catalogue.catch_up()
    looked_at: list[int] = []
    ranked: list[int] = []
    judge, rank = Candidates.judge, Candidates.rank

    def judging(self: Candidates, wanted: Any, records: Any) -> list[int]:  # noqa: ANN401 - passed on
        looked_at.append(sum(len(some) for _, some in wanted))
        return judge(self, wanted, records)

    def ranking(self: Candidates) -> Any:  # noqa: ANN401 - passed on
        items = rank(self)
        ranked.append(len(items))
        return items

    monkeypatch.setattr(Candidates, "judge", judging)
    monkeypatch.setattr(Candidates, "rank", ranking)
    asker = federation.investigator("nl")
    for asked in ([PDQ], [PDQ] * 900, [SHA] * 900):
        request = federation.request(asker, asked)
        node.ask(call_of(asker.credential, federation.sign(request, asker)), "nl")
        assert "took_ms" not in node.last_entry()["details"]
    assert set(looked_at) == set(ranked) == {1}


@pytest.mark.parametrize("cap", [1, 20])
def test_what_is_asked_twice_is_answered_as_if_it_were_asked_alone(node: MemoryNode, federation: MemoryFederation, cap: int) -> None:
    node.hold(KNOWN, Record({PDQ.algorithm: PDQ.code, SHA.algorithm: SHA.code}, series="Iris"))
    node.policy.policy = Policy((replace(ANSWERING, max_hits_per_item=cap),))
    other = Hash(Algorithm.PDQ, bytes([255]) * 32)
    items = [(PDQ, SHA), (other,), (SHA,), (PDQ, SHA), (NEAR, PDQ), (PDQ, NEAR), (SHA,), (other,), (PDQ, SHA)]

    def asked(items: list[tuple[Hash, ...]]) -> LookupAnswer:
        asker = federation.investigator("nl")
        columns = []
        for algorithm in (Algorithm.PDQ, Algorithm.SHA256):
            numbered = [(number, each) for number, item in enumerate(items) for each in item if each.algorithm is algorithm]
            if numbered:
                (column,) = columns_of([each for _, each in numbered])
                columns.append(replace(column, items=np.array([number for number, _ in numbered], np.uint32)))
        request = replace(federation.request(asker, ASKED), item_count=len(items), columns=tuple(columns))
        envelope = node.ask(call_of(asker.credential, federation.sign(request, asker)), "nl")
        answer = read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))
        items_of = {column.algorithm: column.items for column in columns}
        assert all(items_of[match.algorithm][match.code] == hit.item for hit in answer.hits for match in hit.matches)
        return answer

    def told_of(answer: LookupAnswer, item: int) -> list[object]:
        own = [hit for hit in answer.hits if hit.item == item]
        return [(answer.records[hit.record].series, [(match.algorithm, match.distance) for match in hit.matches]) for hit in own]

    together = asked(items)
    for number, item in enumerate(items):
        alone = asked([item])
        assert told_of(together, number) == told_of(alone, 0)
        assert (number in together.truncated_items) == bool(alone.truncated_items)


def test_a_search_that_was_cut_short_by_the_policy_says_so(node: MemoryNode, federation: MemoryFederation) -> None:
    node.hold(KNOWN)
    node.policy.policy = Policy((replace(ANSWERING, algorithms=frozenset({Algorithm.PDQ}), max_distance={Algorithm.PDQ: 2}),))
    answer = answered(node, federation)
    assert answer.header.index is not None
    # How many records carry it is counted beside, and told as few until it is.
    assert [(each.algorithm, each.max_distance) for each in answer.header.index.searched] == [(Algorithm.PDQ, 2)]
    assert answer.hits == ()
    node.policy.policy = Policy((replace(ANSWERING, algorithms=frozenset({Algorithm.MD5})),))
    assert answered(node, federation).header.status is Status.NOT_PERMITTED


def test_hill_climbing_on_distances_meets_bands(node: MemoryNode, federation: MemoryFederation) -> None:
    """A member that asks the same again at every distance learns the band and no more."""
    node.hold(KNOWN)
    node.policy.policy = Policy((replace(ANSWERING, distances=Distances.BANDS),))
    asker = federation.investigator("nl")
    seen = set()
    for distance in range(Algorithm.PDQ.maximum_distance + 1):
        request = replace(federation.request(asker, [PDQ]), columns=columns_of([PDQ], distance))
        envelope = node.ask(call_of(asker.credential, federation.sign(request, asker)), "nl")
        answer = read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))
        seen.add((distance >= 15, tuple((match.distance, match.slack) for hit in answer.hits for match in hit.matches)))
    assert seen == {(False, ()), (True, ((15, 14),))}


def test_a_rule_for_a_role_holds_for_persons_whose_credential_carries_it(node: MemoryNode, federation: MemoryFederation) -> None:
    node.policy.policy = Policy((replace(ANSWERING, roles=frozenset({"analyst"})),))
    assert answered(node, federation, roles=("investigator", "analyst")).header.status is Status.ANSWERED
    assert answered(node, federation, roles=("investigator",)).header.status is Status.NOT_PERMITTED
    assert answered(node, federation).header.status is Status.NOT_PERMITTED


def test_a_life_at_risk_is_answered_from_its_own_budget_and_logged_as_urgent(node: MemoryNode, federation: MemoryFederation) -> None:
    node.policy.policy = Policy((replace(ANSWERING, limits=Limits(lookups_per_minute=1, urgent_lookups_per_day=1)),))
    assert answered(node, federation).header.status is Status.ANSWERED
    assert answered(node, federation).header.status is Status.RATE_LIMITED
    assert answered(node, federation, urgency=Urgency.LIFE_AT_RISK).header.status is Status.ANSWERED
    details = node.last_entry()["details"]
    assert (details["urgency"], details["budget"]) == ("life-at-risk", "urgent")
    assert answered(node, federation, urgency=Urgency.LIFE_AT_RISK).header.status is Status.RATE_LIMITED


def test_the_number_of_records_is_told_in_bands_only(node: MemoryNode, federation: MemoryFederation) -> None:
    node.hold(*(Record({Algorithm.MD5: number.to_bytes(16)}) for number in range(999)))
    node.catalogue.catch_up()
    few = answered(node, federation).header.index
    assert few is not None
    assert few.records_at_least == 0
