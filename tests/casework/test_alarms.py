"""Somebody is called: when a life is at risk at once, when half of the time is gone, when it is over; once each, without content."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from dataclasses import replace
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from tests.support.casework import ASK, RELEASE
from tests.support.casework_members import OWNER, World
from tests.support.patience import PATIENCE_S
from vidfed.casework.carriage.opening import Casework
from vidfed.casework.carriage.pressing import Stage, level_of, pressing_asks, undelivered
from vidfed.casework.duty.alarm import Alarm
from vidfed.casework.duty.rota import read_rota
from vidfed.casework.settings import CaseworkSection
from vidfed.security.clock import DAY_MS, HOUR_MS, MINUTE_MS
from vidfed.wire.casework_values import Acknowledge, AskUrgency, Wait, WaitReason

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Stand in for the operator's program: it writes what it is given, a line for each call."""
    program = tmp_path / "call"
    program.write_text(f"#!/bin/sh\ncat >> {tmp_path}/said\necho >> {tmp_path}/said\n")
    program.chmod(0o700)
    return tmp_path / "said"


def rota(folder: Path, *, covered: bool = True) -> Path:
    path = folder / "duty.toml"
    always = 'days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]\nfrom = "00:00"\nto = "00:00"\n'
    shift = '[[shift]]\npeople = ["fr-1"]\nmail = ["duty@fr.example"]\n' + always
    level = "[[escalation]]\nafter_minutes = {}\nlife_at_risk_minutes = {}\npeople = ['{}']\n"
    path.write_text((shift if covered else "") + level.format(60, 5, "fr-head") + level.format(240, 10, "fr-chief"))
    return path


def calls(said: Path, count: int) -> list[dict[str, Any]]:
    """Wait until the program has been called so often, and return what it was given."""
    end = time.monotonic() + PATIENCE_S
    while not said.exists() or said.read_text().count("}\n") < count:
        assert time.monotonic() < end, "nobody was called"
    return sorted(map(json.loads, said.read_text().split("\n")[:count]), key=lambda each: each["level"])


def test_operator_s_program_gets_who_is_on_duty_and_no_content(tmp_path: Path, told: Path) -> None:
    Alarm(str(tmp_path / "call"), rota(tmp_path)).call("nl", "life-at-risk", "63" * 32, "asked")
    (fields,) = calls(told, 1)
    assert fields == {
        "schema": "vidfed.casework-alarm/1",
        "from": "nl",
        "for": "",
        "urgency": "life-at-risk",
        "stage": "asked",
        "conversation": "63" * 32,
        "watch": None,
        "level": 0,
        "people": ["fr-1"],
        "mail": ["duty@fr.example"],
    }


def test_standing_hit_calls_who_is_on_duty(tmp_path: Path, told: Path) -> None:
    Alarm(str(tmp_path / "call"), rota(tmp_path)).hit("nl", "fr-7", "ab" * 16)
    (fields,) = calls(told, 1)
    assert (fields["stage"], fields["from"], fields["for"], fields["people"]) == ("standing-hit", "nl", "fr-7", ["fr-1"])


def test_where_nobody_is_on_duty_everybody_of_the_escalation_is_called_at_once(
    tmp_path: Path, told: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Alarm(str(tmp_path / "call"), rota(tmp_path, covered=False)).call("nl", "routine", "63" * 32, "overdue")
    assert calls(told, 1)[0]["people"] == ["fr-head", "fr-chief"]
    assert "nobody is on duty" in caplog.text


async def test_ask_that_nobody_takes_goes_up_the_escalation(world: World, tmp_path: Path, told: Path) -> None:
    clock, seen = world.federation.clock, set[tuple[bytes, int, Stage, int]]()
    casework = watching(world, Alarm(str(tmp_path / "call"), rota(tmp_path), clock=clock))
    world.say(world.holder, world.hit(), replace(ASK, urgency=AskUrgency.LIFE_AT_RISK))
    await world.carry()
    for minutes, expected in ((0, 0), (5, 1), (5, 2), (1, 2)):
        clock.advance(minutes * MINUTE_MS)
        casework.look(seen)
        assert len(calls(told, expected) if expected else []) == expected
    assert [(each["level"], each["people"], each["stage"]) for each in calls(told, 2)] == [
        (1, ["fr-head"], "asked"),
        (2, ["fr-chief"], "asked"),
    ]


async def test_ask_that_somebody_acknowledged_goes_up_only_when_it_is_overdue(world: World, tmp_path: Path) -> None:
    hit, clock = await world.asked(), world.federation.clock
    world.say(world.officer, hit, Acknowledge())
    duty = read_rota(rota(tmp_path))
    found = []
    for hours in (40, 9, 4):
        clock.advance(hours * HOUR_MS)
        with world.owner.database.reading() as connection:
            (each,) = pressing_asks(connection, OWNER, clock())
        found.append((each.stage, level_of(each, duty, clock())))
    assert found == [(Stage.HALF_SPENT, 0), (Stage.OVERDUE, 1), (Stage.OVERDUE, 2)]


def test_mail_goes_to_who_is_on_duty_without_content(tmp_path: Path) -> None:
    with MailServer() as server:
        Alarm("", rota(tmp_path), server.address, "vidfed@fr.example").call("nl", "urgent", "63" * 32, "half-spent")
        mail = server.mail.get(timeout=PATIENCE_S)
    assert "rcpt to:<duty@fr.example>" in mail.lower()
    assert "Subject: vidfed: an ask of nl, urgent, is half-spent" in mail
    assert "vidfed requests show 636363636363" in mail


def test_mail_server_that_is_not_there_is_said_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    message = EmailMessage()
    message["To"] = "duty@fr.example"
    Alarm("", rota(tmp_path), "127.0.0.1:1", "vidfed@fr.example")._mail(message)
    assert "took no mail to duty@fr.example" in caplog.text


def test_program_that_fails_is_said_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Alarm(str(tmp_path / "missing"), tmp_path / "duty.toml")._run("{}")
    assert "could not call anybody" in caplog.text


def watching(world: World, alarm: Alarm) -> Casework:
    """Return the owner's casework as far as looking what presses needs it."""
    none = cast("Any", None)
    return Casework(CaseworkSection(), world.owner.context, none, none, none, alarm, None)


class MailServer:
    """Takes one mail on the loopback, as a unit's own server does; what comes is in `mail`."""

    def __init__(self) -> None:
        self.mail: queue.Queue[str] = queue.Queue()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(PATIENCE_S)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        said, in_text = [], False
        with connection, connection.makefile("rwb") as file:
            file.write(b"220 unit\r\n")
            file.flush()
            while line := file.readline():
                text = line.decode().rstrip("\r\n")
                said.append(text)
                if in_text and text != ".":
                    continue
                in_text = text.lower() == "data"
                file.write(b"354 go\r\n" if in_text else b"221 bye\r\n" if text.lower() == "quit" else b"250 ok\r\n")
                file.flush()
        self.mail.put("\n".join(said))
