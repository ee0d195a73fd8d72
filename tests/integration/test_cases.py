"""Kinds of trouble that people who do this job have reported elsewhere, each end to end through the commands, by the name of its case."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.support.memory import MemoryNode, SettableClock
from tests.support.simulated import HomeFederation
from tests.support.sockets import SocketFederation
from vidfed.cli.root import root
from vidfed.node.lookup.admission import Admission, AdmissionLimits
from vidfed.node.serving.server import NodeServicer
from vidfed.security.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from click.testing import Result

    from vidfed.security.member.kit import Kit

REASONS = ["--case", "T-1", "--purpose", "identification", "--legal-basis", "test law"]
UNKNOWN = f"sha256:{'ab' * 32}"


async def invoke(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, root, list(arguments))


async def look_up(kit: Kit, *arguments: str) -> Result:
    return await invoke("lookup", *arguments, "--kit", str(kit.folder), *REASONS)


def words(ran: Result) -> str:
    return " ".join(ran.output.split())


@pytest.fixture
async def federation(tmp_path: Path) -> AsyncIterator[SocketFederation]:
    async with SocketFederation(tmp_path, "nl", "fr", "se") as made:
        await made.start_honest("nl", "fr", "se")
        yield made


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


class _Off(SettableClock):
    """The real time and a little more or less."""

    def __init__(self, ahead_ms: int) -> None:
        super().__init__()
        self.ahead_ms = ahead_ms

    def __call__(self) -> int:
        return system_clock() + self.ahead_ms


async def start_off(federation: SocketFederation, stack: ExitStack, member: str, ahead_ms: int) -> None:
    """Start a true node of this member whose clock is off."""
    of_homes = HomeFederation(list(federation.homes.values()))
    of_homes.clock = _Off(ahead_ms)
    node = stack.enter_context(MemoryNode(of_homes, member, federation.folder / f"node-of-{member}"))
    threads = stack.enter_context(ThreadPoolExecutor(2))
    await federation.start_node(member, NodeServicer(node.pipeline, Admission(threads, node.pipeline.answer, AdmissionLimits())))


# --- 11-clock ---


@pytest.mark.parametrize(("ahead_s", "which"), [(90, "ahead of"), (-90, "behind")])
async def test_case_11_clock_a_node_that_is_off_has_an_outcome_that_says_whose_and_by_how_much(
    federation: SocketFederation, stack: ExitStack, ahead_s: int, which: str
) -> None:
    await start_off(federation, stack, "se", ahead_s * 1000)
    ran = await look_up(await federation.start_gateway("nl"), "--hash", UNKNOWN, "--deadline-s", "8")
    assert ran.exit_code == 3
    said = words(ran)
    assert "clock differs" in said
    assert any(f"its clock is {seconds} s {which} this machine's" in said for seconds in (89, 90, 91))
    assert "that is wrong, not this machine's, with which 2 agree: call the member" in said
    assert "bad signature" not in said


async def test_case_11_clock_of_this_machine_is_named_when_no_other_agrees_with_it(federation: SocketFederation, stack: ExitStack) -> None:
    for member in federation.homes:
        await start_off(federation, stack, member, 90_000)
    ran = await look_up(await federation.start_gateway("nl"), "--hash", UNKNOWN, "--deadline-s", "8")
    assert ran.exit_code == 3
    assert "no member's clock agrees with this machine's, which is wrong: set it" in words(ran)


async def test_case_11_clock_a_little_off_and_a_short_deadline_is_the_clock_s_fault(federation: SocketFederation, stack: ExitStack) -> None:
    """The node says that the question came too late, which is true by its clock only."""
    await start_off(federation, stack, "se", 40_000)
    ran = await look_up(await federation.start_gateway("nl"), "--hash", UNKNOWN, "--deadline-s", "8")
    said = words(ran)
    assert any(f"its clock is {seconds} s ahead of" in said for seconds in (39, 40, 41)), said
