"""What is said about each node and about all of them: complete is said only when it is."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest

from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome, outcome_of_answer
from vidfed.federation.lookup.question import Item, split
from vidfed.federation.lookup.result import LookupResult, merge
from vidfed.index import Algorithm
from vidfed.wire.statuses import Status
from vidfed.wire.values import AnswerHeader, Hit, IndexState, LookupAnswer, Match, RecordView, Searched, Ternary

if TYPE_CHECKING:
    from collections.abc import Collection

NOW = 1_800_000_000_000
ITEM = Item("a.jpg", {Algorithm.SHA256: (bytes(32),), Algorithm.PDQ: (bytes(32), b"\x0f" * 32)}, {Algorithm.PDQ: ("as it is", "mirrored")})
BARE = Item("pdq:00", {Algorithm.PDQ: (bytes(32),)})
ASKED = {Algorithm.SHA256: 0, Algorithm.PDQ: 31}
WHOLE = [Outcome.MATCH, Outcome.WEAK_MATCH, Outcome.NO_MATCH]


def header(status: Status = Status.ANSWERED, searched: Collection[Algorithm] | None = ASKED, detail: str = "") -> AnswerHeader:
    index = None if searched is None else IndexState(1, NOW, NOW, tuple(Searched(each, ASKED.get(each, 0)) for each in searched))
    return AnswerHeader("f", "fr", "nl", bytes(32), "m", NOW, status, detail, index)


def hit(member: str = "fr", item: int = 0, distance: int = 0, algorithm: Algorithm = Algorithm.PDQ, **record: object) -> FoundHit:
    return FoundHit(item, member, RecordView("r", **record), (FoundMatch(algorithm, distance),))  # type: ignore[arg-type]


def result(*outcomes: Outcome, items: int = 1) -> LookupResult:
    nodes = tuple(NodeOutcome(f"m{number}", outcome) for number, outcome in enumerate(outcomes))
    return LookupResult((ITEM,) * items, nodes)


# --- one answer ---


def test_an_answer_without_hits_to_the_whole_question_is_no_match() -> None:
    assert outcome_of_answer("fr", LookupAnswer(header()), [ITEM], ASKED).outcome is Outcome.NO_MATCH


def test_an_answer_with_hits_is_a_match_and_tells_how_the_picture_was_turned() -> None:
    hits = (Hit(0, 0, (Match(Algorithm.PDQ, 3, 1), Match(Algorithm.SHA256, 0, 0))),)
    said = outcome_of_answer("fr", LookupAnswer(header(), (RecordView("r"),), hits), [ITEM], ASKED)
    assert said.outcome is Outcome.MATCH
    assert said.hits[0].matches == (FoundMatch(Algorithm.PDQ, 3, "mirrored"), FoundMatch(Algorithm.SHA256, 0, ""))


def test_codes_of_later_items_are_counted_from_their_own_first() -> None:
    hits = (Hit(2, 0, (Match(Algorithm.PDQ, 3, 4),)),)
    said = outcome_of_answer("fr", LookupAnswer(header(), (RecordView("r"),), hits), [ITEM, BARE, ITEM], ASKED)
    assert said.hits[0].matches[0].orientation == "mirrored"


@pytest.mark.parametrize("searched", [None, (), (Algorithm.SHA256,), (Algorithm.PDQ,), (Algorithm.MD5, Algorithm.PHASH)])
def test_an_answer_that_did_not_search_all_that_was_asked_is_never_no_match(searched: tuple[Algorithm, ...] | None) -> None:
    said = outcome_of_answer("fr", LookupAnswer(header(searched=searched)), [ITEM], ASKED)
    assert said.outcome is Outcome.PARTIAL
    assert said.detail.startswith("not searched: ")


def test_an_answer_that_was_searched_less_far_than_asked_is_never_no_match() -> None:
    index = IndexState(1, NOW, NOW, (Searched(Algorithm.SHA256, 0), Searched(Algorithm.PDQ, 15)))
    said = outcome_of_answer("fr", LookupAnswer(replace(header(), index=index)), [ITEM], ASKED)
    assert said.outcome is Outcome.PARTIAL
    assert said.detail == "PDQ only up to 15 of 31"
    assert not said.outcome.answered


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ANSWERED])
def test_no_refusal_is_ever_an_answer(status: Status) -> None:
    said = outcome_of_answer("fr", LookupAnswer(header(status, None, "because")), [ITEM], ASKED)
    assert not said.outcome.answered
    assert said.detail.startswith(f"{status.name}: because; ")
    assert said.hits == ()
    assert said.code == status.name
    assert said.outcome.verified
    assert said.said == (f"refused: {status.name}" if said.outcome is Outcome.REFUSED else said.outcome.value)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (Status.RATE_LIMITED, Outcome.RATE_LIMITED),
        (Status.STALE_INDEX, Outcome.STALE_INDEX),
        (Status.INDEX_UNAVAILABLE, Outcome.INDEX_UNAVAILABLE),
        (Status.VERSION_UNSUPPORTED, Outcome.VERSION_UNSUPPORTED),
        (Status.OUTSIDE_TIME_WINDOW, Outcome.EXPIRED),
        (Status.NOT_PERMITTED, Outcome.REFUSED),
        (Status.AUDIT_UNAVAILABLE, Outcome.REFUSED),
        (Status.DIRECTORY_UNAVAILABLE, Outcome.REFUSED),
        (Status.INTERNAL_ERROR, Outcome.REFUSED),
    ],
)
def test_a_refusal_says_of_which_kind_it_is(status: Status, outcome: Outcome) -> None:
    assert outcome_of_answer("fr", LookupAnswer(header(status, None)), [ITEM], ASKED).outcome is outcome


# --- all nodes ---


def test_exactly_three_outcomes_are_answers() -> None:
    assert [outcome for outcome in Outcome if outcome.answered] == WHOLE


def test_what_is_verified_is_exactly_what_a_node_signed() -> None:
    unsigned = {"TIMEOUT", "UNREACHABLE", "BREAKER_OPEN", "PROTOCOL_ERROR", "BAD_SIGNATURE", "CLOCK", "MISSING", "NOT_ASKED"}
    unsigned.add("NOT_CHOSEN")
    assert {outcome.name for outcome in Outcome if not outcome.verified} == unsigned
    assert all(outcome.verified for outcome in Outcome if outcome.answered or outcome.refused)


@pytest.mark.parametrize(("one", "other"), list(product(Outcome, Outcome)))
def test_asked_answered_and_verified_are_counted(one: Outcome, other: Outcome) -> None:
    said = result(one, other)
    counts = (said.asked_count, said.answered_count, said.verified_count)
    assert counts == (one.asked + other.asked, one.answered + other.answered, one.verified + other.verified)
    assert said.answered_count <= said.verified_count <= said.asked_count


@pytest.mark.parametrize(("one", "other"), list(product(Outcome, Outcome)))
def test_a_result_is_complete_only_if_every_node_answered(one: Outcome, other: Outcome) -> None:
    said = result(one, other)
    assert said.complete is (one in WHOLE and other in WHOLE)
    assert {node.outcome for node in said.unanswered} == {one, other} - set(WHOLE)


def test_nobody_asked_is_not_complete_and_not_refused() -> None:
    assert not result().complete
    assert not result().refused
    assert not merge([]).complete


def test_refused_means_that_every_node_refused() -> None:
    assert result(Outcome.REFUSED, Outcome.RATE_LIMITED).refused
    assert not result(Outcome.REFUSED, Outcome.TIMEOUT).refused
    assert not result(Outcome.REFUSED, Outcome.NO_MATCH).refused


def test_hits_are_ordered_by_item_then_identified_then_exact_then_near() -> None:
    found = [
        hit(distance=20, series="far"),
        hit(distance=2, series="near"),
        hit(distance=3, series="identified", victim_identified=Ternary.YES),
        hit(distance=30, series="identified, and whom to call", victim_identified=Ternary.YES, case_contact="desk"),
        hit(algorithm=Algorithm.SHA256, series="exact"),
    ]
    later = hit(item=1, algorithm=Algorithm.SHA256, series="other item", victim_identified=Ternary.YES)
    said = LookupResult((ITEM, ITEM), (NodeOutcome("fr", Outcome.MATCH, hits=(later, *found)),))
    assert [each.record.series for each in said.hits] == [
        "identified, and whom to call",
        "identified",
        "exact",
        "near",
        "far",
        "other item",
    ]


# --- parts ---


def test_parts_are_joined_with_their_items_in_order() -> None:
    one = LookupResult((ITEM, BARE), (NodeOutcome("fr", Outcome.MATCH, hits=(hit(item=1),), truncated_items=(1,)),))
    other = LookupResult((BARE,), (NodeOutcome("fr", Outcome.MATCH, hits=(hit(item=0),), truncated_items=(0,)),))
    said = merge([one, other])
    assert said.items == (ITEM, BARE, BARE)
    (node,) = said.nodes
    assert [each.item for each in node.hits] == [1, 2]
    assert node.truncated_items == (1, 2)
    assert said.complete


def test_a_match_in_any_part_is_a_match() -> None:
    for first, second in ((Outcome.MATCH, Outcome.NO_MATCH), (Outcome.NO_MATCH, Outcome.MATCH)):
        assert merge([result(first), result(second)]).nodes[0].outcome is Outcome.MATCH


@pytest.mark.parametrize("bad", [outcome for outcome in Outcome if not outcome.answered])
@pytest.mark.parametrize("good", WHOLE)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_node_that_failed_in_one_part_has_not_answered(bad: Outcome, good: Outcome, position: int) -> None:
    outcomes = [good, good]
    outcomes.insert(position, bad)
    said = merge([result(outcome) for outcome in outcomes])
    assert said.nodes[0].outcome is bad
    assert said.nodes[0].detail == "1 of 3 parts unanswered"
    assert not said.complete


def test_hits_of_the_parts_that_were_answered_are_kept() -> None:
    answered = LookupResult((ITEM,), (NodeOutcome("fr", Outcome.MATCH, hits=(hit(),)),))
    failed = LookupResult((ITEM,), (NodeOutcome("fr", Outcome.TIMEOUT),))
    assert len(merge([answered, failed]).hits) == 1
    assert len(merge([failed, answered]).hits) == 1


@pytest.mark.parametrize("turn", [1, -1])
def test_a_node_that_was_not_asked_about_every_part_has_not_answered(turn: int) -> None:
    """The directory changed between the parts: a member came, or went."""
    parts = [result(Outcome.NO_MATCH), result(Outcome.NO_MATCH, Outcome.NO_MATCH)][::turn]
    said = merge(parts)
    assert [node.outcome for node in said.nodes] == [Outcome.NO_MATCH, Outcome.MISSING]
    assert said.nodes[1].detail == "1 of 2 parts unanswered: not asked"
    assert not said.complete


def test_real_parts_of_a_question_join_to_the_whole() -> None:
    items = [Item(str(number), {Algorithm.PDQ: (bytes(32),) * 8}) for number in range(300)]
    parts = list(split(items, {}))
    said = merge([LookupResult(part.items, (NodeOutcome("fr", Outcome.NO_MATCH),)) for part in parts])
    assert (said.items, said.complete) == (tuple(items), True)


SAID = {
    Status.RATE_LIMITED: Outcome.RATE_LIMITED,
    Status.BUSY: Outcome.RATE_LIMITED,
    Status.STALE_INDEX: Outcome.STALE_INDEX,
    Status.INDEX_UNAVAILABLE: Outcome.INDEX_UNAVAILABLE,
    Status.NOT_YET: Outcome.INDEX_UNAVAILABLE,
    Status.VERSION_UNSUPPORTED: Outcome.VERSION_UNSUPPORTED,
    Status.OUTSIDE_TIME_WINDOW: Outcome.EXPIRED,
}


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ANSWERED])
def test_busy_is_rate_limited(status: Status) -> None:
    """And every other status is what it says."""
    said = outcome_of_answer("fr", LookupAnswer(header(status, searched=None, detail="why")), [ITEM], ASKED)
    assert (said.outcome, said.code, said.outcome.answered) == (SAID.get(status, Outcome.REFUSED), status.name, False)
