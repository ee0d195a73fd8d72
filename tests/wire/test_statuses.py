"""The one table of statuses, and the other enums: complete in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vidfed.index import Algorithm
from vidfed.v1 import gateway_pb2
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.algorithms import ALGORITHM_NUMBERS
from vidfed.wire.statuses import Status
from vidfed.wire.values import FailureKind, HandlingCode, Purpose, Ternary, Urgency

if TYPE_CHECKING:
    from enum import Enum
    from typing import Any


@pytest.mark.parametrize(
    ("ours", "prefix", "theirs"),
    [
        (Status, "STATUS_", pb.Status),
        (Purpose, "PURPOSE_", pb.Purpose),
        (Urgency, "URGENCY_", pb.Urgency),
        (Ternary, "TERNARY_", pb.Ternary),
        (HandlingCode, "HANDLING_CODE_", pb.HandlingCode),
        (FailureKind, "FAILURE_KIND_", gateway_pb2.FailureKind),
    ],
)
def test_every_number_on_the_wire_has_our_name_for_it_and_no_other(ours: type[Enum], prefix: str, theirs: Any) -> None:  # noqa: ANN401 - enum wrappers
    numbers = {name.removeprefix(prefix): number for name, number in theirs.items()}
    assert numbers.pop("UNSPECIFIED") == 0
    assert {member.name: member.value for member in ours} == numbers


def test_every_algorithm_has_a_number_on_the_wire() -> None:
    numbers = {name.removeprefix("HASH_ALGORITHM_"): number for name, number in pb.HashAlgorithm.items() if number}
    assert {algorithm.name: number for algorithm, number in ALGORITHM_NUMBERS.items()} == numbers
    assert set(ALGORITHM_NUMBERS) == set(Algorithm)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ANSWERED])
def test_every_refusal_says_what_can_be_done_about_it(status: Status) -> None:
    assert status.advice


def test_an_answer_needs_no_advice() -> None:
    assert Status.ANSWERED.advice == ""


@pytest.mark.parametrize("code", HandlingCode)
def test_every_handling_code_has_a_meaning(code: HandlingCode) -> None:
    assert code.meaning


def test_codes_on_the_command_line_are_lower_case_with_hyphens() -> None:
    assert Purpose.SELF_TEST.code == "self-test"
    assert [urgency.code for urgency in Urgency] == ["routine", "life-at-risk"]
