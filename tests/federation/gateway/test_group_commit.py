"""Work done in a thread for many callers together."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from vidfed.federation.gateway.group_commit import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Sequence


class Held:
    """Work that waits for leave before it ends, and remembers what came in each batch."""

    def __init__(self) -> None:
        self.leave = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def __call__(self, batch: Sequence[int]) -> None:
        self.batches.append(list(batch))
        self.leave.acquire()
        if 0 in batch:
            raise ValueError("nothing is 0")


async def test_who_comes_while_a_batch_is_under_way_is_in_the_next_in_order_and_up_to_the_bound() -> None:
    work = Held()
    batches = GroupCommit(work, 3)
    callers = [asyncio.create_task(batches.add(number)) for number in range(1, 7)]
    await asyncio.sleep(0)
    work.leave.release(3)
    await asyncio.gather(*callers)
    assert work.batches == [[1], [2, 3, 4], [5, 6]]


async def test_nobody_goes_on_before_the_own_work_is_done() -> None:
    work = Held()
    batches = GroupCommit(work, 3)
    first, second = asyncio.create_task(batches.add(1)), asyncio.create_task(batches.add(2))
    await asyncio.sleep(0)
    work.leave.release()
    await first
    assert not second.done()
    work.leave.release()
    await second


async def test_a_failure_reaches_everybody_in_its_batch_and_nobody_else() -> None:
    work = Held()
    batches = GroupCommit(work, 2)
    callers = [asyncio.create_task(batches.add(number)) for number in (1, 0, 2, 3)]
    await asyncio.sleep(0)
    work.leave.release(3)
    ended = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(one) for one in ended] == [type(None), ValueError, ValueError, type(None)]


async def test_a_caller_that_goes_takes_neither_its_own_work_nor_others_with_it() -> None:
    work = Held()
    batches = GroupCommit(work, 3)
    callers = [asyncio.create_task(batches.add(number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    callers[1].cancel()
    work.leave.release(2)
    await callers[2]
    assert work.batches == [[1], [2, 3]]
    with pytest.raises(asyncio.CancelledError):
        await callers[1]


async def test_work_begins_again_after_a_pause() -> None:
    work = Held()
    batches = GroupCommit(work, 3)
    work.leave.release(2)
    await batches.add(1)
    await batches.add(2)
    assert work.batches == [[1], [2]]
