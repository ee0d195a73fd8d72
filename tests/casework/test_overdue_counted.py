"""Both members' reports count what became overdue, by the same clock as the conversation's, and where false matches come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.casework import ASK, RELEASE
from vidfed.casework.core.clocks import clocks_of
from vidfed.casework.core.stored import chain_of
from vidfed.casework.storage import conversations as store
from vidfed.security.audit.reporting.asks import Asks
from vidfed.security.audit.reporting.report import make_report
from vidfed.security.clock import DAY_MS, HOUR_MS
from vidfed.wire.casework_values import Acknowledge, Detail, NotTheSame, Release, TransferGround, Wait, WaitReason, Withdraw
from vidfed.wire.values import HandlingCode

if TYPE_CHECKING:
    from tests.support.casework_members import CaseworkMember, World
    from vidfed.security.audit.notes import Checkpoint

PART = Release((Detail.VICTIM_IDENTITY,), True, HandlingCode.H1, TransferGround.MEMBER_STATE)


class NoCheckpoint:
    text = ""


def report(member: CaseworkMember, *, from_ms: int = 0) -> dict[str, Any]:
    now_ms = member.world.federation.clock()
    return make_report(
        member.log(),
        federation="memory",
        member=member.member,
        from_ms=from_ms,
        to_ms=now_ms + 1,
        made_ms=now_ms + 1,
        checkpoint=cast("Checkpoint", NoCheckpoint),
    )


def by_the_log(member: CaseworkMember) -> bool:
    asks, now_ms = Asks(), member.world.federation.clock()
    for entry in member.log():
        asks.follow(entry)
    return any(True for _ in asks.overdue(0, now_ms))


def by_the_conversation(member: CaseworkMember, identity: bytes) -> bool:
    with member.database.reading() as connection:
        found = store.stored(connection, identity)
        return any(clock.overdue for clock in clocks_of(chain_of(found), store.receipts(found), member.world.federation.clock()))


async def test_request_that_became_overdue_is_counted_by_who_was_asked_and_by_who_asked(world: World) -> None:
    hit = await world.asked()
    world.federation.clock.advance(49 * HOUR_MS)
    world.say(world.officer, hit, RELEASE)
    await world.carry()
    of_owner, of_asker = report(world.owner), report(world.asker)
    assert of_owner["totals"]["overdue"] == of_asker["totals"]["own_overdue"] == [1, 4]
    assert of_owner["totals"]["own_overdue"] == of_asker["totals"]["overdue"] == [0, 0]
    assert of_owner["tables"]["overdue_by_urgency"] == {"routine": [1, 4]}
    assert of_asker["tables"]["own_overdue_by_member"] == {"fr": [1, 4]}


async def test_it_counts_in_the_time_in_which_it_became_overdue(world: World) -> None:
    await world.asked()
    world.federation.clock.advance(47 * HOUR_MS)
    begin = world.federation.clock()
    assert report(world.owner)["totals"]["overdue"] == [0, 0]
    world.federation.clock.advance(2 * HOUR_MS)
    assert report(world.owner, from_ms=begin)["totals"]["overdue"] == [1, 4]
    assert report(world.owner, from_ms=world.federation.clock())["totals"]["overdue"] == [0, 0]


@pytest.mark.parametrize(
    "steps",
    [
        [(49, None)],
        [(47, RELEASE), (10, None)],
        [(40, "wait"), (20, None)],
        [(40, "wait"), (30, Acknowledge()), (7, None)],
        [(40, "wait"), (30, Acknowledge()), (9, None)],
        [(40, "wait"), (24 * 3, None)],
        [(10, PART), (37, None)],
        [(10, PART), (39, None)],
        [(10, Withdraw()), (60, None)],
        [(30, ASK), (40, None)],
        [(30, ASK), (49, None)],
    ],
    ids=str,
)
async def test_the_logs_and_the_conversation_agree_on_what_is_overdue(world: World, steps: list[tuple[int, Any]]) -> None:
    hit = await world.asked()
    for hours, body in steps:
        world.federation.clock.advance(hours * HOUR_MS)
        if body is not None:
            said = Wait(WaitReason.THIRD_PARTY, world.federation.clock() + 2 * DAY_MS) if body == "wait" else body
            world.say(world.holder if isinstance(said, type(ASK) | Withdraw) else world.officer, hit, said)
            await world.carry()
    expected = by_the_conversation(world.owner, hit.conversation)
    assert expected == by_the_conversation(world.asker, hit.conversation)
    assert [by_the_log(world.owner), by_the_log(world.asker)] == [expected, expected]


async def test_false_matches_are_counted_by_the_source_of_the_record(world: World) -> None:
    hit = await world.asked()
    world.say(world.holder, hit, NotTheSame())
    world.say(world.officer, hit, NotTheSame())
    await world.carry()
    assert report(world.owner)["tables"]["false_matches_by_source"] == {"national list": [1, 4]}
    assert report(world.asker)["tables"]["false_matches_by_source"] == {"member fr": [1, 4]}
    assert report(world.owner)["tables"]["false_matches"] == {"nl": [1, 4], "own": [1, 4]}
