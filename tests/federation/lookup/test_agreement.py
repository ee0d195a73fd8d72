"""What several members say together: the same series pointed out, contradictions shown and not resolved."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.federation.lookup.agreement import QUESTIONS, SeriesTable, Statement, conflicts, series_key
from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item
from vidfed.federation.lookup.result import LookupResult
from vidfed.federation.output.json import hit_fields
from vidfed.index import Algorithm
from vidfed.wire.values import RecordView, Ternary

ANSWERS = ("yes", "no", "unknown")


def said(member: str, series: str = "Tulip", victim: str = "unknown", offender: str = "unknown", *, item: int = 0) -> Statement:
    return Statement(item, member, series, (victim, offender, "unknown"))


def test_a_series_of_several_members_is_pointed_out_with_who_identified_the_victim() -> None:
    (series,) = SeriesTable([said("se", victim="yes"), said("br"), said("fr", victim="no")]).shared()
    assert series.text == "Series Tulip: 3 members hold it (br, fr, se); victim identified by se, not identified by fr."


def test_a_series_nobody_identified_says_so() -> None:
    (series,) = SeriesTable([said("se"), said("br")]).shared()
    assert series.text == "Series Tulip: 2 members hold it (br, se); victim identified by none of them."


def test_a_series_of_one_member_is_not_shared_however_often_it_is_hit() -> None:
    assert SeriesTable([said("se"), said("se", item=1), said("fr", "Rose"), said("br", "")]).shared() == []


def test_records_without_a_series_share_none() -> None:
    assert SeriesTable([said("se", ""), said("fr", " "), said("br", "")]).shared() == []


@pytest.mark.parametrize("other", ["tulip", " TULIP ", "Tulip\u00a0", "\uff34ulip"])
def test_the_same_name_is_recognised_whatever_its_case_and_spacing(other: str) -> None:
    assert series_key(other) == series_key("Tulip")
    assert len(SeriesTable([said("se"), said("fr", other)]).shared()) == 1


def test_series_are_ordered_by_what_helps_most() -> None:
    statements = [said(m, "A many") for m in ("br", "fr", "se")]
    statements += [said("br", "B identified", "yes"), said("fr", "B identified")]
    statements += [said(m, "C few") for m in ("br", "fr")]
    assert [series.name for series in SeriesTable(statements).shared()] == ["B identified", "A many", "C few"]


@pytest.mark.parametrize(("one", "other"), list(product(ANSWERS, ANSWERS)))
def test_only_yes_against_no_is_a_conflict(one: str, other: str) -> None:
    found = conflicts([said("fr", victim=one), said("se", victim=other)])
    assert bool(found) is ({one, other} == {"yes", "no"})


def test_a_conflict_names_both_sides() -> None:
    statements = [said("se", victim="yes"), said("fr", victim="no"), said("br", victim="no", offender="yes"), said("nl")]
    (found,) = conflicts(statements)
    assert found.text("photo.jpg") == ("Conflict about photo.jpg: victim identified: yes by se, no by br, fr. Not resolved here: ask them.")


def test_different_items_do_not_contradict_each_other() -> None:
    assert conflicts([said("se", victim="yes", item=0), said("fr", victim="no", item=1)]) == []


def test_a_member_may_contradict_itself() -> None:
    (found,) = conflicts([said("se", victim="yes"), said("se", victim="no")])
    assert found.yes == found.no == ("se",)


STATEMENTS = st.builds(
    Statement,
    st.integers(0, 3),
    st.sampled_from(["br", "fr", "nl", "se"]),
    st.sampled_from(["", "Tulip", "TULIP", "Rose"]),
    st.tuples(*[st.sampled_from(ANSWERS)] * len(QUESTIONS)),
)


@given(st.lists(STATEMENTS, max_size=20), st.randoms())
def test_the_order_of_the_answers_changes_nothing(statements: list[Statement], chance: object) -> None:
    shuffled = list(statements)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert conflicts(shuffled) == conflicts(statements)
    assert [series.members for series in SeriesTable(shuffled).shared()] != [()]
    assert {(s.name.casefold(), s.members, s.items, s.identified_by) for s in SeriesTable(shuffled).shared()} == {
        (s.name.casefold(), s.members, s.items, s.identified_by) for s in SeriesTable(statements).shared()
    }


@given(st.lists(STATEMENTS, max_size=20))
def test_every_conflict_and_every_shared_series_is_found_and_no_other(statements: list[Statement]) -> None:
    """Against a plain scan."""
    found = {(c.item, c.question, c.yes, c.no) for c in conflicts(statements)}
    expected = set()
    for item, (number, question) in product(range(4), enumerate(QUESTIONS)):
        yes = tuple(sorted({s.member for s in statements if s.item == item and s.answers[number] == "yes"}))
        no = tuple(sorted({s.member for s in statements if s.item == item and s.answers[number] == "no"}))
        if yes and no:
            expected.add((item, question, yes, no))
    assert found == expected
    held = {key: {s.member for s in statements if s.series.casefold() == key} for key in ("tulip", "rose")}
    shared = {series.name.casefold(): set(series.members) for series in SeriesTable(statements).shared()}
    assert shared == {key: members for key, members in held.items() if len(members) > 1}


def test_a_hit_says_the_same_as_a_value_and_as_json() -> None:
    record = RecordView("r", "Tulip", victim_identified=Ternary.YES, offender_identified=Ternary.NO)
    hit = FoundHit(4, "se", record, (FoundMatch(Algorithm.PDQ, 3),))
    assert Statement.of_hit(hit) == Statement.of_fields(hit_fields(hit), 4) == Statement(4, "se", "Tulip", ("yes", "no", "unknown"))


def test_a_result_tells_its_series_and_conflicts() -> None:
    def node(member: str, victim: Ternary) -> NodeOutcome:
        hit = FoundHit(0, member, RecordView("r", "Tulip", victim_identified=victim), (FoundMatch(Algorithm.PDQ, 3),))
        return NodeOutcome(member, Outcome.MATCH, hits=(hit,))

    result = LookupResult((Item("a", {}),), (node("fr", Ternary.NO), node("se", Ternary.YES)))
    assert [series.identified_by for series in result.shared_series] == [("se",)]
    assert [(conflict.yes, conflict.no) for conflict in result.conflicts] == [(("se",), ("fr",))]
