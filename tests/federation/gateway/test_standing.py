"""Standing lookups at a gateway: asked of true nodes over a clock that the test moves, kept closed, sealed to the person."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from nacl.public import SealedBox

from tests.support.records import record
from tests.support.standing import WATCHED, StandingWorld
from vidfed.casework.errors import ConversationError, RefusedError
from vidfed.security.clock import DAY_MS
from vidfed.security.identity.credentials import Credential
from vidfed.v1 import gateway_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.answers import read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StandingWorld]:
    with contextlib.ExitStack() as stack:
        yield StandingWorld(tmp_path, stack)


async def test_record_that_is_added_later_is_reported_once(world: StandingWorld) -> None:
    world.begin()
    await world.standing.round()
    assert world.hits() == []
    world.nodes["de"].hold(record(2))
    await world.later()
    await world.later()
    (hit,) = world.hits()
    opened = pb.WatchAnswer.FromString(bytes(SealedBox(world.private).decrypt(hit.sealed)))
    answer = read_answer(wire_envelope.from_message(opened.answer).payload)
    assert (opened.member, [found.item for found in answer.hits]) == ("de", [1])
    assert world.called == [("de", world.person.pseudonym, world.serial.hex())]


async def test_where_nothing_new_is_near_only_an_outline_is_sent(world: StandingWorld) -> None:
    world.begin()
    await world.standing.round()
    asked = world.pool.asked
    world.nodes["de"].hold(record(50))
    await world.later()
    assert world.pool.asked == asked + 2
    assert all(until == world.federation.clock() for until, _ in world.members().values())
    world.nodes["de"].hold(record(3))
    await world.later()
    assert world.pool.asked == asked + 5  # de in outline and then whole, fr in outline
    assert len(world.hits()) == 1


async def test_it_is_asked_as_often_as_said_and_no_more(world: StandingWorld) -> None:
    world.begin()
    for _ in range(3):
        await world.standing.round()
    assert world.pool.asked == 2
    await world.later(5.9)
    assert world.pool.asked == 2
    await world.later(0.2)
    assert world.pool.asked == 4


async def test_member_that_has_not_answered_is_named_until_it_has(world: StandingWorld) -> None:
    world.begin()
    world.pool.down.add("de")
    await world.standing.round()
    assert world.members() == {"fr": (world.federation.clock(), ""), "de": (None, "nobody answers")}
    world.pool.down.clear()
    await world.later(0.25)
    assert world.members()["de"] == (world.federation.clock(), "")


async def test_what_came_while_a_member_was_away_is_found_when_it_is_back(world: StandingWorld) -> None:
    world.begin()
    await world.standing.round()
    world.pool.down.add("de")
    world.nodes["de"].hold(record(1))
    await world.later()
    world.pool.down.clear()
    await world.later(0.25)
    assert len(world.hits()) == 1


async def test_stopped_watch_asks_nobody_and_every_node_refuses_its_mandate(world: StandingWorld) -> None:
    world.begin()
    await world.standing.round()
    world.pool.down.add("de")
    world.standing.stop(world.serial, world.person.pseudonym)
    await world.later()
    assert world.pool.asked == 2
    assert world.endings["fr"].has_ended("nl", world.serial)
    assert not world.endings["de"].has_ended("nl", world.serial)
    world.pool.down.clear()
    await world.later(0.1)
    assert world.endings["de"].has_ended("nl", world.serial)
    assert not world.endings["fr"].has_ended("de", world.serial)  # one member cannot end another's


async def test_watch_of_a_revoked_person_ends_by_itself(world: StandingWorld) -> None:
    world.begin()
    await world.standing.round()
    member = world.federation.members["nl"]
    revoked = frozenset({Credential.read(world.person.credential.payload).serial})
    world.federation.members["nl"] = replace(member, entry=replace(member.entry, revoked=revoked))
    await world.later()
    assert world.pool.asked == 2
    (watch,) = world.standing.listed(world.person.pseudonym)
    assert watch.ended_ms is not None


def test_another_person_s_watch_cannot_be_stopped(world: StandingWorld) -> None:
    world.begin()
    with pytest.raises(ConversationError, match="no such watch"):
        world.standing.stop(world.serial, "nl-99")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"pseudonym": "nl-99"}, "another person"),
        ({"parts": (b"x" * 32,)}, "other hashes"),
        ({"ends_ms": 2**50}, "renew the kit"),
        ({"issuer": "fr"}, "another person"),
    ],
)
def test_watch_that_its_mandate_does_not_cover_is_not_begun(world: StandingWorld, values: dict[str, object], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        world.begin(**values)


async def test_no_folder_holds_what_is_watched_in_clear(world: StandingWorld) -> None:
    """The gateway's database has it closed, foreign nodes have nothing of it: neither hash, nor serial, nor case."""
    world.begin()
    await world.standing.round()
    hashes = [each.code for each in WATCHED] + [each.code.hex().encode() for each in WATCHED]
    for path in world.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        foreign = [world.serial, b"NL-SECRET-CASE"] if not path.name.startswith("nl.") else []
        assert not [value for value in (*hashes, *foreign) if value in content], path


async def test_of_an_ended_mandate_a_foreign_node_keeps_serial_and_end_and_nothing_else(world: StandingWorld) -> None:
    world.begin()
    world.standing.stop(world.serial, world.person.pseudonym)
    await world.standing.round()
    with world.endings["fr"].context.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM casework_ended_mandates").mappings().all()
    assert [dict(row) for row in rows] == [{"member": "nl", "serial": world.serial, "until_ms": world.federation.clock() + 20 * DAY_MS}]
