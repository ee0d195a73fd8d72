"""The admission: how much a node takes on at once, in turn between members."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.patience import PATIENCE_S
from vidfed.node.lookup.admission import Admission, AdmissionLimits, QueueFullError, TooManyCallsError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

BOUNDS = AdmissionLimits(
    groups=1, group=1, apart_s=60.0, chunks=1, waiting=4, waiting_of_member=3, streams=3, streams_of_member=2, calls_of_member=2
)
SIZE = 1_000


class Desk:
    """A admission that is held up until `free` is set; then all work is done in the order it was let through."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        self.admission = self.gate_with(BOUNDS)
        self.free = threading.Event()
        self.done: list[str] = []
        self.groups: list[Sequence[str]] = []
        self.tasks: list[asyncio.Task[str]] = []

    def gate_with(self, bounds: AdmissionLimits) -> Admission[str, str]:
        """Make a admission that answers "nl0" with "NL0"."""
        return Admission(self.threads, self._answer, bounds)

    async def ask(self, *names: str, size_bytes: int = SIZE) -> None:
        """Bring lookups, named by their member and a number, and let the admission see them."""
        for name in names:
            await self._bring(self.admission.ask(name[:2], name, size_bytes))

    async def chunk(self, *names: str) -> None:
        """Bring chunks of streams, named likewise."""
        for name in names:
            await self._bring(self.admission.run(name[:2], self._work, name))

    async def _bring(self, work: Coroutine[Any, Any, str]) -> None:
        self.tasks.append(asyncio.create_task(work))
        await asyncio.sleep(0)

    def _answer(self, names: Sequence[str]) -> Sequence[str]:
        self.free.wait()
        self.groups.append(names)
        self.done += names
        return [name.upper() for name in names]

    def _work(self, name: str) -> str:
        self.free.wait()
        self.done.append(name)
        return name.upper()

    async def outcome(self) -> list[str]:
        """Let everything run; return what was sent away, as positions in the order it came."""
        self.free.set()
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        return [str(place) for place, end in enumerate(ended) if isinstance(end, QueueFullError)]

    def idle(self) -> bool:
        """Tell whether the admission holds nothing any more."""
        return self.admission.waiting == self.admission.running == 0


@pytest.fixture
def desk() -> Iterator[Desk]:
    with ThreadPoolExecutor(2) as threads:
        yield Desk(threads)


async def test_lookups_that_wait_are_answered_together_each_with_its_own_answer(desk: Desk) -> None:
    desk.admission = desk.gate_with(replace(BOUNDS, group=3))
    await desk.ask("nl0", "nl1", "fr0", "nl2", "br0")
    assert await desk.outcome() == []
    assert desk.groups == [["nl0"], ["nl1", "fr0", "br0"], ["nl2"]]
    assert [task.result() for task in desk.tasks] == ["NL0", "NL1", "FR0", "NL2", "BR0"]
    assert desk.idle()


async def test_large_lookups_are_answered_alone(desk: Desk) -> None:
    desk.admission = desk.gate_with(replace(BOUNDS, group=9, group_bytes=3 * SIZE))
    await desk.ask("nl0")
    await desk.ask("nl1", size_bytes=4 * SIZE)
    await desk.ask("fr0", "fr1")
    await desk.ask("br0", size_bytes=2 * SIZE)
    assert await desk.outcome() == []
    assert desk.groups == [["nl0"], ["nl1"], ["fr0", "br0"], ["fr1"]]


async def test_several_groups_are_answered_at_the_same_time(desk: Desk) -> None:
    desk.admission = desk.gate_with(replace(BOUNDS, groups=2, apart_s=0.0))
    await desk.ask("nl0", "nl1", "nl2")
    assert (desk.admission.running, desk.admission.waiting) == (2, 1)
    assert await desk.outcome() == []


async def test_nobody_waits_long_behind_a_group_that_is_held_up(desk: Desk) -> None:
    held = threading.Event()

    def answer(names: Sequence[str]) -> Sequence[str]:
        if "nl0" in names:
            held.wait()
        return [name.upper() for name in names]

    admission: Admission[str, str] = Admission(desk.threads, answer, replace(BOUNDS, groups=2, apart_s=0.001))
    slow = asyncio.create_task(admission.ask("nl", "nl0", SIZE))
    await asyncio.sleep(0)
    assert await admission.ask("fr", "fr0", SIZE) == "FR0"
    held.set()
    assert await slow == "NL0"


async def test_a_group_that_fails_fails_alone_and_gives_its_thread_back(desk: Desk) -> None:
    def fail(names: Sequence[str]) -> Sequence[str]:
        if "nl0" in names:
            raise ZeroDivisionError
        return names

    admission: Admission[str, str] = Admission(desk.threads, fail, BOUNDS)
    failed, answered = await asyncio.gather(admission.ask("nl", "nl0", SIZE), admission.ask("nl", "nl1", SIZE), return_exceptions=True)
    assert isinstance(failed, ZeroDivisionError)
    assert answered == "nl1"
    assert admission.running == admission.waiting == 0


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


async def test_what_waits_is_bounded_in_bytes_too(desk: Desk) -> None:
    desk.admission = desk.gate_with(replace(BOUNDS, waiting_bytes=3 * SIZE))
    await desk.ask("nl0", "nl1", "nl2", "nl3")
    await desk.ask("fr0", size_bytes=2 * SIZE)  # in the place of two of nl's
    await desk.ask("br0", size_bytes=4 * SIZE)  # never fits
    assert await desk.outcome() == ["2", "3", "5"]
    assert desk.done == ["nl0", "nl1", "fr0"]
    assert desk.idle()


async def test_where_nobody_has_more_waiting_the_one_that_comes_is_sent_away(desk: Desk) -> None:
    await desk.ask("br0", "nl0", "nl1", "fr0", "fr1", "nl2")
    assert await desk.outcome() == ["5"]


async def test_who_waited_too_long_is_told_so(desk: Desk) -> None:
    desk.admission = desk.gate_with(replace(BOUNDS, wait_s=0.0))
    await desk.ask("nl0", "nl1")
    await asyncio.wait(desk.tasks[1:2])
    assert await desk.outcome() == ["1"]
    assert desk.done == ["nl0"]
    assert desk.idle()


async def test_chunks_of_streams_wait_however_many_there_are(desk: Desk) -> None:
    await desk.chunk(*(f"nl{number}" for number in range(9)), "fr0")
    assert await desk.outcome() == []
    assert desk.done.index("fr0") == 2
    assert desk.idle()


async def test_lookups_do_not_wait_for_chunks(desk: Desk) -> None:
    await desk.chunk("nl0", "nl1")
    await desk.ask("fr0")
    assert (desk.admission.running, desk.admission.waiting) == (2, 1)
    assert await desk.outcome() == []


async def test_who_goes_away_while_waiting_leaves_no_hole(desk: Desk) -> None:
    await desk.ask("nl0", "nl1", "nl2", "fr0")
    desk.tasks[1].cancel()
    desk.tasks[3].cancel()
    await desk.outcome()
    assert desk.done == ["nl0", "nl2"]
    assert desk.idle()


async def test_work_that_fails_gives_its_thread_back(desk: Desk) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await desk.admission.run("nl", fail)
    assert desk.idle()


async def test_streams_are_bounded_for_each_member_and_for_all(desk: Desk) -> None:
    with desk.admission.stream("nl"), desk.admission.stream("nl"):
        with pytest.raises(QueueFullError), desk.admission.stream("nl"):
            pass
        with desk.admission.stream("fr"), pytest.raises(QueueFullError), desk.admission.stream("br"):
            pass
    with desk.admission.stream("nl"):
        pass


async def test_a_turn_given_and_cancelled_at_the_same_moment_is_passed_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.chunk("nl0", "nl1", "fr0")
    pass_on = desk.admission._pass_on
    given: list[bool] = []

    def give_and_cancel() -> None:
        pass_on()
        if not given:  # in this very step of the loop: whoever has the turn is not awake yet
            given.append(desk.tasks[1].cancel())

    monkeypatch.setattr(desk.admission, "_pass_on", give_and_cancel)
    desk.free.set()
    done, waiting = await asyncio.wait(desk.tasks, timeout=PATIENCE_S)
    for task in waiting:
        task.cancel()
    assert not waiting, "the turn was lost: who waits is never served"
    assert given == [True]
    assert desk.tasks[1] in done
    assert desk.tasks[1].cancelled()
    assert desk.done == ["nl0", "fr0"]
    assert desk.admission.running == 0


async def test_who_goes_away_while_it_is_answered_spoils_nothing(desk: Desk) -> None:
    desk.admission = desk.gate_with(replace(BOUNDS, group=2))
    await desk.ask("nl0", "nl1", "fr0")
    desk.tasks[0].cancel()
    await desk.outcome()
    assert desk.done == ["nl0", "nl1", "fr0"]
    assert [task.result() for task in desk.tasks[1:]] == ["NL1", "FR0"]
    assert desk.idle()


async def test_a_member_that_holds_too_many_calls_leaves_room_for_others(desk: Desk) -> None:
    for member in ("nl", "nl", "fr"):
        desk.admission.enter(member)
    with pytest.raises(TooManyCallsError):
        desk.admission.enter("nl")
    desk.admission.enter("fr")
    desk.admission.leave("nl")
    desk.admission.enter("nl")


async def test_a_member_with_too_much_waiting_is_told_so_also_while_there_is_room(desk: Desk) -> None:
    await desk.ask("nl0", "nl1", "nl2", "nl3", "nl4")
    assert await desk.outcome() == ["4"]
