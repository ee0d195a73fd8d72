"""The policy: nobody is answered unless somebody said so."""

from __future__ import annotations

import pytest

from vidfed.node.policy import HashRates, Policy, PolicySection
from vidfed.security.clock import MINUTE_MS
from vidfed.security.errors import HomeError
from vidfed.wire.values import Purpose

NOW = 1_800_000_000_000


def test_an_empty_policy_answers_nobody_anything() -> None:
    policy = Policy.from_section(PolicySection())
    assert all(policy.refusal("nl", purpose) for purpose in Purpose)


def test_a_member_without_a_purpose_and_a_purpose_without_a_member_are_refused() -> None:
    assert Policy.from_section(PolicySection(answer_members=("nl",))).refusal("nl", Purpose.IDENTIFICATION)
    assert Policy.from_section(PolicySection(purposes=("identification",))).refusal("nl", Purpose.IDENTIFICATION)


def test_what_is_allowed_is_exactly_what_is_named() -> None:
    policy = Policy.from_section(PolicySection(("nl",), ("identification",)))
    assert policy.refusal("nl", Purpose.IDENTIFICATION) is None
    assert policy.refusal("nl", Purpose.PROSECUTION) == "purpose prosecution is not answered by this node's policy"
    assert policy.refusal("n", Purpose.IDENTIFICATION) == "member n is not answered by this node's policy"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (PolicySection(purposes=("identifcation",)), "'identifcation' is unknown; known are identification"),
        (PolicySection(max_hashes_per_minute=0), "max_hashes_per_minute must be at least 1"),
        (PolicySection(max_hits_per_item=-1), "max_hits_per_item must be at least 1"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(section: PolicySection, said: str) -> None:
    with pytest.raises(HomeError, match=said):
        Policy.from_section(section)


def test_a_member_s_minute_is_its_own_and_ends() -> None:
    rates = HashRates(10)
    assert rates.spend("nl", 10, NOW)
    assert not rates.spend("nl", 1, NOW)
    assert rates.spend("fr", 10, NOW)
    assert rates.spend("nl", 10, NOW + MINUTE_MS)


def test_a_question_larger_than_what_is_left_spends_nothing() -> None:
    rates = HashRates(10)
    assert not rates.spend("nl", 11, NOW)
    assert rates.spend("nl", 10, NOW)
