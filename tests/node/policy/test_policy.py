"""The policy as decisions: nobody is answered unless a rule says so, and what is withheld looks like nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.index import Algorithm
from vidfed.node.policy.policy import EVERY_MEMBER, Category, Distances, Policy, Requester, Rule, band_edges
from vidfed.node.records.record import Record
from vidfed.security.documents import ROLES
from vidfed.wire.values import HandlingCode, HashColumn, Match, Purpose

MEMBERS = ("nl", "fr", "br")
ALL = frozenset(Purpose)
PERCEPTUAL = [algorithm for algorithm in Algorithm if algorithm.is_perceptual]


def asker(member: str = "nl", *roles: str, purpose: Purpose = Purpose.IDENTIFICATION) -> Requester:
    return Requester(member, frozenset(roles), purpose)


def rule(name: str = "one", *members: str, **said: object) -> Rule:
    return replace(Rule(name, frozenset(members or ("nl",)), ALL), **said)  # type: ignore[arg-type]  # the test names the fields


def record(**said: object) -> Record:
    return Record({Algorithm.PDQ: bytes(32)}, **said)  # type: ignore[arg-type]  # the test names the fields


# --- who is answered ---


def test_an_empty_policy_answers_nobody_anything() -> None:
    for member, purpose, role in product(MEMBERS, Purpose, ROLES):
        assert Policy().decide(asker(member, role, purpose=purpose)) is None


def test_one_rule_answers_exactly_the_askers_it_names() -> None:
    """Every rule over two members, two roles and two purposes, against every asker of that world."""
    subsets = [frozenset(chosen) for chosen in ((), ("a",), ("b",), ("a", "b"))]
    members = {"a": "nl", "b": "fr"}
    roles = {"a": "analyst", "b": "trainee"}
    purposes = {"a": Purpose.IDENTIFICATION, "b": Purpose.PROSECUTION}
    for named, needed, allowed in product([*subsets[1:], None], subsets, subsets[1:]):
        policy = Policy(
            (
                Rule(
                    "one",
                    frozenset({EVERY_MEMBER}) if named is None else frozenset(members[each] for each in named),
                    frozenset(purposes[each] for each in allowed),
                    frozenset(roles[each] for each in needed),
                ),
            )
        )
        for member, held, purpose in product("ab", subsets, "ab"):
            one = Requester(members[member], frozenset(roles[each] for each in held), purposes[purpose])
            answered = (named is None or member in named) and (not needed or bool(needed & held)) and purpose in allowed
            assert (policy.decide(one) is not None) == answered
            assert answered or policy.refusal(one)


def test_the_first_rule_that_fits_decides() -> None:
    narrow = rule("trainees", roles=frozenset({"trainee"}), algorithms=frozenset({Algorithm.SHA256}))
    wide = rule("all", "nl", "fr")
    policy = Policy((narrow, wide))
    assert policy.decide(asker("nl", "trainee", "analyst")) is narrow
    assert policy.decide(asker("nl", "analyst")) is wide
    assert policy.decide(asker("fr", "trainee")) is wide
    assert Policy((wide, narrow)).decide(asker("nl", "trainee")) is wide


def test_a_refusal_says_to_the_operator_which_part_is_missing() -> None:
    policy = Policy((rule(roles=frozenset({"analyst"}), purposes=frozenset({Purpose.IDENTIFICATION})),))
    assert policy.refusal(asker("n")) == "member n is not answered by this node's policy"
    assert policy.refusal(asker("nl", "trainee")) == "no rule answers a person of nl with the roles trainee"
    assert policy.refusal(asker("nl", "analyst", purpose=Purpose.PROSECUTION)) == (
        "purpose prosecution is not answered for nl by this node's policy"
    )


# --- what is searched ---


def test_a_rule_never_searches_more_than_was_asked_or_than_it_allows() -> None:
    for algorithm, distances in product(PERCEPTUAL, Distances):
        largest = algorithm.maximum_distance
        steps = sorted({0, 1, 2, largest // 3, largest // 2, algorithm.default_distance, largest - 1, largest})
        for asked, allowed in product(steps, steps):
            reached = rule(max_distance={algorithm: allowed}, distances=distances).reach(algorithm, asked)
            assert reached is not None
            assert 0 <= reached <= min(asked, allowed)
            if distances is Distances.EXACT:
                assert reached == min(asked, allowed)
            else:
                assert reached in band_edges(algorithm)


def test_algorithms_that_are_not_allowed_are_left_out_of_the_question() -> None:
    asked = [
        HashColumn(each, np.zeros((1, each.code_bytes), np.uint8), np.zeros(1, np.uint32), each.default_distance) for each in Algorithm
    ]
    for allowed in (frozenset(Algorithm), frozenset({Algorithm.PDQ}), frozenset({Algorithm.MD5, Algorithm.PHASH})):
        searched = rule(algorithms=allowed).limit(asked)
        assert {column.algorithm for column in searched} == allowed
    assert rule(algorithms=frozenset({Algorithm.PDQ})).limit(asked[:2]) == ()


def test_bands_hide_the_distance_within_them_and_nothing_else() -> None:
    banded, exact = rule(distances=Distances.BANDS), rule()
    for algorithm in PERCEPTUAL:
        edges = band_edges(algorithm)
        step = max(1, algorithm.default_distance // 100)
        for distance in range(0, algorithm.default_distance + 1, step):
            told = banded.tell(Match(algorithm, distance, 3))
            assert told.distance in edges
            assert told.distance - told.slack <= distance <= told.distance
            assert (told.algorithm, told.code) == (algorithm, 3)
            assert exact.tell(Match(algorithm, distance, 3)) == Match(algorithm, distance, 3)
        between = {banded.tell(Match(algorithm, distance, 0)) for distance in range(1, edges[1] + 1, step)}
        assert len(between) == 1


@given(st.sampled_from(PERCEPTUAL), st.data())
def test_with_bands_no_choice_of_distances_tells_more_than_the_band(algorithm: Algorithm, data: st.DataObject) -> None:
    """Whatever distance is asked for, two records of one band are both found or both not, and told alike."""
    banded = rule(distances=Distances.BANDS)
    asked = data.draw(st.integers(0, algorithm.maximum_distance))
    one, other = (data.draw(st.integers(0, algorithm.default_distance)) for _ in range(2))
    same_band = banded.tell(Match(algorithm, one, 0)) == banded.tell(Match(algorithm, other, 0))
    reached = banded.reach(algorithm, asked)
    assert reached is not None
    if same_band:
        assert (one <= reached) == (other <= reached)


# --- what is told ---

SHARING = {"": True, "nobody": False, "only:nl": True, "only:fr": False, "not:nl": False, "not:fr": True}
CATEGORY = Category("s", "R", "1")
TOLD = {
    (None, False): {"": True, "1": True, "2": True},
    (frozenset({CATEGORY}), False): {"": False, "1": True, "2": False},
    (frozenset({CATEGORY}), True): {"": True, "1": True, "2": False},
}


def test_a_record_is_told_if_and_only_if_nothing_withholds_it() -> None:
    """The whole finite world: sharing, handling code, category, series, tags, each allowed or not, in every combination."""
    codes = [frozenset(HandlingCode), frozenset({HandlingCode.H0}), frozenset({HandlingCode.H1, HandlingCode.H3})]
    rules = [
        (rule(handling_codes=allowed, categories=named, without_category=without, withheld_series=series, withheld_tags=tags), told)
        for allowed, ((named, without), told), series, tags in product(
            codes, TOLD.items(), (frozenset[str](), frozenset({"tulip"})), (frozenset[str](), frozenset({"hold"}))
        )
    ]
    for (sharing, shared), code, value, series, tags in product(
        SHARING.items(), HandlingCode, ("", "1", "2"), ("", " Tulip", "Rose"), ((), ("a", "HOLD "), ("b",))
    ):
        one = record(
            sharing=sharing,
            handling_code=code,
            category=value,
            category_scale="s" if value else "",
            category_region="R" if value else "",
            series=series,
            tags=tags,
        )
        for each, categories in rules:
            expected = (
                shared
                and code in each.handling_codes
                and categories[value]
                and not (each.withheld_series and series == " Tulip")
                and not (each.withheld_tags and "HOLD " in tags)
            )
            assert each.tells("nl", one) is expected
            assert all(check.said for check in each.checks("nl", one))


@pytest.mark.parametrize("other", [Category("t", "R", "1"), Category("s", "", "1"), Category("s", "R", "2")])
def test_the_same_value_of_another_scale_or_region_is_another_category(other: Category) -> None:
    strict = rule(categories=frozenset({CATEGORY}))
    assert strict.tells("nl", record(category_scale="s", category_region="R", category="1"))
    assert not strict.tells("nl", record(category_scale=other.scale, category_region=other.region, category=other.value))


def test_equal_policies_have_equal_texts_and_every_setting_is_in_them() -> None:
    base = rule("one", "nl", "fr")
    assert Policy((base,)).to_json() == Policy((rule("one", "fr", "nl"),)).to_json()
    changed = [
        replace(base, purposes=frozenset({Purpose.IDENTIFICATION})),
        replace(base, roles=frozenset({"analyst"})),
        replace(base, algorithms=frozenset({Algorithm.PDQ})),
        rule("one", "nl", "fr", max_distance={Algorithm.PDQ: 3}),
        replace(base, distances=Distances.BANDS),
        replace(base, categories=frozenset({CATEGORY})),
        replace(base, without_category=True),
        replace(base, handling_codes=frozenset({HandlingCode.H0})),
        replace(base, withheld_series=frozenset({"x"})),
        replace(base, withheld_tags=frozenset({"x"})),
        replace(base, max_hits_per_item=1),
        replace(base, limits=replace(base.limits, urgent_hashes_per_day=1)),
    ]
    assert len({Policy((each,)).to_json() for each in (base, *changed)}) == len(changed) + 1


@pytest.mark.parametrize("algorithm", [each for each in PERCEPTUAL if each is not Algorithm.PDQ])
def test_unlisted_algorithms_reach_their_maximum(algorithm: Algorithm) -> None:
    strict = rule(max_distance={Algorithm.PDQ: 3})
    assert strict.reach(Algorithm.PDQ, Algorithm.PDQ.maximum_distance) == 3
    assert strict.reach(algorithm, algorithm.maximum_distance) == algorithm.maximum_distance
