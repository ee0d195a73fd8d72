"""Clocks by hand and against counting minutes one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.casework import ASK, PARTIAL, RELEASE, START_MS, entry_of, next_header, written
from vidfed.casework.core.clocks import ALLOWANCE_MS, Clock, clocks_of, late_though_told
from vidfed.security.clock import HOUR_MS, MINUTE_MS
from vidfed.wire.casework_values import (
    Acknowledge,
    AskUrgency,
    Body,
    Close,
    Disposition,
    RefusalReason,
    Refuse,
    Side,
    Wait,
    WaitReason,
    Withdraw,
)

if TYPE_CHECKING:
    from vidfed.casework.core.conversation import Conversation

A, O = Side.ASKER, Side.OWNER  # noqa: E741 - who writes


def at(hours: float) -> int:
    return START_MS + int(hours * HOUR_MS)


def talk(*steps: tuple[Side, Body, float]) -> Conversation:
    return written(*((side, body, int(hours * 60)) for side, body, hours in steps))


def clock_at(conversation: Conversation, hours: float, received: float = 0) -> Clock:
    receipts = {entry.digest: at(received) for entry in conversation.asker[:1]}
    return clocks_of(conversation, receipts, at(hours))[-1]


def wait(hours: float) -> Wait:
    return Wait(WaitReason.JUDICIAL_AUTHORISATION, at(hours))


@pytest.mark.parametrize(("urgency", "hours"), [(AskUrgency.ROUTINE, 48), (AskUrgency.URGENT, 8), (AskUrgency.LIFE_AT_RISK, 1)])
def test_each_urgency_is_overdue_after_its_time_and_not_before(urgency: AskUrgency, hours: float) -> None:
    conversation = talk((A, replace(ASK, urgency=urgency), 0))
    assert not clock_at(conversation, hours).overdue
    late = clock_at(conversation, hours + 0.01)
    assert (late.overdue, late.due_ms) == (True, at(hours))


def test_clock_begins_with_the_owner_s_receipt_and_not_before_it() -> None:
    conversation = talk((A, ASK, 0))
    assert not clock_at(conversation, 50, received=5).overdue
    assert clock_at(conversation, 54, received=5).overdue
    undelivered = clocks_of(conversation, {}, at(1000))[0]
    assert (undelivered.started_ms, undelivered.overdue, undelivered.written_ms) == (None, False, START_MS)


def test_half_spent_calls_somebody_while_it_runs() -> None:
    conversation = talk((A, ASK, 0))
    assert [clock_at(conversation, hours).half_spent for hours in (23.9, 24, 40)] == [False, True, True]
    answered = talk((A, ASK, 0), (O, RELEASE, 30))
    assert not clock_at(answered, 40).half_spent


def test_wait_stops_the_clock_until_its_end() -> None:
    conversation = talk((A, ASK, 0), (O, wait(100), 10))
    paused = clock_at(conversation, 90)
    assert (paused.elapsed_ms, paused.paused_until_ms, paused.due_ms, paused.overdue) == (10 * HOUR_MS, at(100), None, False)
    after = clock_at(conversation, 138)
    assert (after.paused_until_ms, after.due_ms, after.overdue) == (None, at(138), False)
    assert clock_at(conversation, 139).overdue


@pytest.mark.parametrize("step", [Acknowledge(), PARTIAL])
def test_acknowledgement_or_part_of_the_answer_ends_a_pause(step: Body) -> None:
    conversation = talk((A, ASK, 0), (O, wait(100), 10), (O, step, 20))
    assert clock_at(conversation, 58).elapsed_ms == 48 * HOUR_MS
    assert clock_at(conversation, 59).overdue


def test_renewed_wait_counts_once() -> None:
    conversation = talk((A, ASK, 0), (O, wait(100), 10), (O, wait(200), 50))
    assert clock_at(conversation, 199).elapsed_ms == 10 * HOUR_MS


def test_wait_after_it_is_overdue_makes_nothing_undone() -> None:
    conversation = talk((A, ASK, 0), (O, wait(100), 50))
    assert clock_at(conversation, 60).overdue


@pytest.mark.parametrize(
    ("side", "body"),
    [(O, RELEASE), (O, Refuse(RefusalReason.LAW)), (A, Withdraw()), (A, Close(Disposition.NO_USE)), (A, ASK)],
)
def test_clock_ends_with_what_ends_the_ask(side: Side, body: Body) -> None:
    conversation = talk((A, ASK, 0), (side, body, 47))
    first = clocks_of(conversation, {conversation.asker[0].digest: START_MS}, at(1000))[0]
    assert (first.ended_ms, first.elapsed_ms, first.overdue) == (at(47), 47 * HOUR_MS, False)


def test_clock_ends_with_the_first_that_ends_the_ask() -> None:
    conversation = talk((A, ASK, 0), (O, RELEASE, 10), (A, Close(Disposition.USEFUL), 90))
    clock = clock_at(conversation, 1000)
    assert (clock.ended_ms, clock.overdue) == (at(10), False)


def test_late_answer_stays_overdue_for_ever() -> None:
    assert clock_at(talk((A, ASK, 0), (O, RELEASE, 49)), 1000).overdue


def test_part_of_the_answer_does_not_end_the_clock() -> None:
    assert clock_at(talk((A, ASK, 0), (O, PARTIAL, 47)), 49).overdue


def test_release_written_after_the_own_receipt_for_the_withdrawal() -> None:
    asked = talk((A, ASK, 0))
    withdrawn = asked.added(entry_of(next_header(asked, A, Withdraw(), at_ms=at(1))))
    crossed = withdrawn.added(entry_of(next_header(withdrawn, O, RELEASE, at_ms=at(3), seen=1)))
    told = withdrawn.asker[1].digest
    assert late_though_told(crossed, {told: at(2)}) == (1,)
    assert late_though_told(crossed, {told: at(4)}) == ()
    assert late_though_told(crossed, {}) == ()


@given(
    steps=st.lists(st.tuples(st.sampled_from(["wait", "acknowledge", "part"]), st.integers(0, 300), st.integers(1, 300)), max_size=6),
    received=st.integers(0, 60),
    now=st.integers(0, 2000),
)
def test_time_without_pauses_is_what_counting_minutes_gives(steps: list[tuple[str, int, int]], received: int, now: int) -> None:
    conversation = written((A, ASK))
    minute = 0
    events: list[tuple[int, int | None]] = []
    for name, after, length in steps:
        minute += after
        until = START_MS + (minute + length) * MINUTE_MS
        bodies: dict[str, Body] = {"wait": Wait(WaitReason.THIRD_PARTY, until), "acknowledge": Acknowledge(), "part": PARTIAL}
        conversation = conversation.added(entry_of(next_header(conversation, O, bodies[name], at_ms=START_MS + minute * MINUTE_MS)))
        events.append((minute, minute + length if name == "wait" else None))

    def paused(moment: int) -> bool:
        before = [end for begin, end in events if begin <= moment]
        return bool(before) and before[-1] is not None and moment < before[-1]

    counted = sum(not paused(moment) for moment in range(received, now))
    clock = clocks_of(conversation, {conversation.asker[0].digest: START_MS + received * MINUTE_MS}, START_MS + now * MINUTE_MS)[0]
    assert clock.elapsed_ms == counted * MINUTE_MS
    assert clock.overdue == (clock.elapsed_ms > ALLOWANCE_MS[AskUrgency.ROUTINE])
    if clock.due_ms is not None and not clock.overdue:
        assert not clocks_of(conversation, {conversation.asker[0].digest: clock.started_ms or 0}, clock.due_ms)[0].overdue
