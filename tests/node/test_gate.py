"""The gate: how much a node takes on at once, in turn between members."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vidfed.node.gate import Bounds, BusyError, Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUNDS = Bounds(running=1, waiting=4, waiting_of_member=3, streams=3, streams_of_member=2)


class Desk:
    """A gate with one thread, which is held up until `free` is set; then all work is done in the order it was let through."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.gate = Gate(threads, BOUNDS)
        self.free = threading.Event()
        self.done: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, *names: str, patient: bool = False) -> None:
        """Bring work, named by its member and a number, and let the gate see it."""
        for name in names:
            self.tasks.append(asyncio.create_task(self.gate.run(name[:2], self._work, name, patient=patient)))
            await asyncio.sleep(0)

    def _work(self, name: str) -> None:
        self.free.wait()
        self.done.append(name)

    async def outcome(self) -> list[str]:
        """Let everything run; return what was sent away, as positions in the order it came."""
        self.free.set()
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        return [str(place) for place, end in enumerate(ended) if isinstance(end, BusyError)]


@pytest.fixture
def desk() -> Iterator[Desk]:
    with ThreadPoolExecutor(1) as threads:
        yield Desk(threads)


async def test_members_are_served_in_turn_however_much_one_of_them_asks(desk: Desk) -> None:
    await desk.ask("nl0", "nl1", "nl2", "nl3", "fr0")
    assert await desk.outcome() == []
    assert desk.done == ["nl0", "nl1", "fr0", "nl2", "nl3"]


async def test_a_member_with_too_much_waiting_is_told_so(desk: Desk) -> None:
    await desk.ask("nl0", "nl1", "nl2", "nl3", "nl4", "fr0")
    assert await desk.outcome() == ["4"]
    assert "fr0" in desk.done


async def test_enumeration_by_one_member_starves_nobody(desk: Desk) -> None:
    """When all places are taken, the member that has most of them gives up its newest."""
    await desk.ask("nl0", "nl1", "nl2", "nl3", "fr0", "br0")
    assert await desk.outcome() == ["3"]
    assert desk.done == ["nl0", "nl1", "fr0", "br0", "nl2"]


async def test_where_nobody_has_more_waiting_the_one_that_comes_is_sent_away(desk: Desk) -> None:
    await desk.ask("br0", "nl0", "nl1", "fr0", "fr1", "nl2")
    assert await desk.outcome() == ["5"]


async def test_who_waited_too_long_is_told_so(desk: Desk) -> None:
    desk.gate = Gate(desk.gate._threads, replace(BOUNDS, wait_s=0.0))
    await desk.ask("nl0", "nl1")
    await desk.ask("fr0", patient=True)
    await asyncio.wait(desk.tasks[1:2])
    assert await desk.outcome() == ["1"]
    assert desk.done == ["nl0", "fr0"]
    assert desk.gate.waiting == desk.gate.running == 0


async def test_chunks_of_streams_wait_however_many_there_are(desk: Desk) -> None:
    await desk.ask(*(f"nl{number}" for number in range(9)), patient=True)
    await desk.ask("fr0")
    assert await desk.outcome() == []
    assert desk.done.index("fr0") == 2


async def test_who_goes_away_while_waiting_leaves_no_hole(desk: Desk) -> None:
    await desk.ask("nl0", "nl1", "nl2", "fr0")
    desk.tasks[1].cancel()
    desk.tasks[3].cancel()
    await desk.outcome()
    assert desk.done == ["nl0", "nl2"]
    assert desk.gate.waiting == desk.gate.running == 0


async def test_work_that_fails_gives_its_thread_back(desk: Desk) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await desk.gate.run("nl", fail)
    assert desk.gate.running == 0


async def test_streams_are_bounded_for_each_member_and_for_all(desk: Desk) -> None:
    with desk.gate.stream("nl"), desk.gate.stream("nl"):
        with pytest.raises(BusyError), desk.gate.stream("nl"):
            pass
        with desk.gate.stream("fr"), pytest.raises(BusyError), desk.gate.stream("br"):
            pass
    with desk.gate.stream("nl"):
        pass


async def test_a_turn_given_and_cancelled_at_the_same_moment_is_passed_on(desk: Desk) -> None:
    await desk.ask("nl0", "nl1", "fr0")
    desk.free.set()
    await desk.tasks[0]  # its end gave the turn to nl1, which has not run yet
    desk.tasks[1].cancel()
    await asyncio.gather(*desk.tasks, return_exceptions=True)
    assert "fr0" in desk.done
    assert desk.gate.running == 0
