"""How many lookups a node is given at the same time."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tests.support.patience import PATIENCE_S
from vidfed.federation.nodes.concurrency import ConcurrencyLimit, ConcurrencyLimiter


@given(st.integers(1, 50), st.lists(st.sampled_from(["good", "bad", "late"])))
def test_the_limit_stays_between_one_and_the_maximum(maximum: int, events: list[str]) -> None:
    limit = ConcurrencyLimit(maximum)
    for event in events:
        if event == "good":
            limit.good()
        else:
            limit.bad(limit.epoch - (event == "late"))
        assert 1 <= limit.allowed <= maximum


def test_answers_in_time_raise_it_to_the_maximum_and_failures_halve_it() -> None:
    limit = ConcurrencyLimit(16)
    for _ in range(200):
        limit.good()
    assert limit.allowed == 16
    limit.bad(limit.epoch)
    assert limit.allowed == 8


def test_many_failures_of_one_trouble_halve_it_once() -> None:
    limit = ConcurrencyLimit(16)
    for _ in range(200):
        limit.good()
    began = limit.epoch
    for _ in range(10):
        limit.bad(began)
    assert limit.allowed == 8


async def test_who_comes_beyond_the_limit_waits_for_who_came_before() -> None:
    slots = ConcurrencyLimiter(2)
    first = await slots.take()
    await slots.take()
    order: list[int] = []

    async def wait(number: int) -> None:
        await slots.take()
        order.append(number)

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert (slots.busy, slots.waiting, order) == (2, 3, [])
    for _ in range(3):
        slots.give_back(first, good=None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]
    assert slots.busy == 2


async def test_who_gives_up_waiting_takes_no_slot() -> None:
    slots = ConcurrencyLimiter(1)
    began = await slots.take()
    gone = asyncio.create_task(slots.take())
    stays = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    slots.give_back(began, good=True)
    await stays
    assert (slots.busy, slots.waiting) == (1, 0)


async def test_a_slot_given_to_one_who_gives_up_in_the_same_moment_is_not_lost() -> None:
    slots = ConcurrencyLimiter(1)
    began = await slots.take()
    gone = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.give_back(began, good=None)  # given ...
    gone.cancel()  # ... and cancelled before it woke
    await asyncio.gather(gone, return_exceptions=True)
    assert slots.busy == 0
    assert await asyncio.wait_for(slots.take(), PATIENCE_S) == slots.limit.epoch


async def test_a_smaller_limit_is_reached_by_waiting_not_by_taking_away() -> None:
    slots = ConcurrencyLimiter(4)
    epochs = [await slots.take() for _ in range(4)]
    waiting = asyncio.create_task(slots.take())
    slots.give_back(epochs[0], good=False)
    await asyncio.sleep(0)
    assert (slots.busy, slots.limit.allowed, waiting.done()) == (3, 2, False)
    for epoch in epochs[1:3]:
        slots.give_back(epoch, good=None)
    await asyncio.sleep(0)
    assert waiting.done()
