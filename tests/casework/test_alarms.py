"""Somebody is called: when a life is at risk at once, when half of the time is gone, when it is over; once each, without content."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.support.casework import ASK, RELEASE
from tests.support.casework_members import OWNER, World
from vidfed.casework.carriage.opening import Alarm
from vidfed.casework.carriage.pressing import Stage, pressing_asks, undelivered
from vidfed.security.clock import DAY_MS, HOUR_MS
from vidfed.wire.casework_values import AskUrgency, Wait, WaitReason

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PATIENCE_S = 60


def stages(world: World) -> list[Stage]:
    with world.owner.database.reading() as connection:
        return [each.stage for each in pressing_asks(connection, OWNER, world.federation.clock())]


async def test_ask_presses_when_half_of_its_time_is_gone_and_when_it_is_over(world: World) -> None:
    hit = await world.asked()
    seen = [stages(world)]
    for hours in (23, 1, 25):
        world.federation.clock.advance(hours * HOUR_MS)
        seen.append(stages(world))
    assert seen == [[], [], [Stage.HALF_SPENT], [Stage.OVERDUE]]
    world.say(world.officer, hit, RELEASE)
    assert stages(world) == []


async def test_life_at_risk_presses_at_once(world: World) -> None:
    world.say(world.holder, world.hit(), replace(ASK, urgency=AskUrgency.LIFE_AT_RISK))
    await world.carry()
    assert stages(world) == [Stage.ASKED]


async def test_ask_that_waits_for_a_judge_presses_nobody(world: World) -> None:
    hit = await world.asked()
    world.federation.clock.advance(30 * HOUR_MS)
    world.say(world.officer, hit, Wait(WaitReason.JUDICIAL_AUTHORISATION, world.federation.clock() + DAY_MS))
    assert stages(world) == []


async def test_entry_that_is_not_delivered_is_named_after_the_days_set(world: World) -> None:
    world.network.down.add(OWNER)
    world.say(world.holder, world.hit(), ASK)
    found = []
    for _ in range(2):
        world.pass_days(4)
        await world.carry()
        with world.asker.database.reading() as connection:
            found.append([waiting.member for waiting in undelivered(connection, world.federation.clock(), 7)])
    assert found == [[], [OWNER]]


def test_operator_s_program_gets_no_content(tmp_path: Path) -> None:
    program, said = tmp_path / "call", tmp_path / "said"
    program.write_text(f"#!/bin/sh\ncat > {said}.part && mv {said}.part {said}\n")
    program.chmod(0o700)
    Alarm(str(program)).call("nl", "life-at-risk", b"c" * 32, "asked")
    end = time.monotonic() + PATIENCE_S
    while not said.exists() and time.monotonic() < end:
        pass
    fields = json.loads(said.read_text())
    assert fields == {
        "schema": "vidfed.casework-alarm/1",
        "from": "nl",
        "urgency": "life-at-risk",
        "stage": "asked",
        "conversation": (b"c" * 32).hex(),
    }


def test_program_that_fails_is_said_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Alarm(str(tmp_path / "missing"))._run("{}")
    assert "could not call anybody" in caplog.text
