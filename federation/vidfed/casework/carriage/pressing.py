"""What presses: asks that an own officer should answer, and own entries that do not arrive. Whoever runs the member is told, once each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING

from vidfed.casework.core.clocks import ALLOWANCE_MS, clocks_of
from vidfed.casework.core.state import answers_to
from vidfed.casework.core.stored import chain_of
from vidfed.casework.storage import conversations as store
from vidfed.casework.storage import outbox
from vidfed.security.clock import DAY_MS
from vidfed.wire.casework_values import Acknowledge, AskUrgency

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

    from vidfed.casework.duty.rota import Rota
    from vidfed.casework.storage.outbox import Waiting


@unique
class Stage(Enum):
    """How far an ask's time is gone."""

    ASKED = "asked"
    HALF_SPENT = "half-spent"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Pressing:
    """One open ask at this member.

    Attributes:
        conversation: its id.
        ask: number of the ask.
        asker: the member that asks.
        urgency: as it says.
        stage: how far its time is gone.
        since_ms: when it began to press in this stage: it was received, half of its time was gone, it became overdue.
        acknowledged: somebody has said to have it.
    """

    conversation: bytes
    ask: int
    asker: str
    urgency: AskUrgency
    stage: Stage
    since_ms: int
    acknowledged: bool


def pressing_asks(connection: sa.Connection, member: str, now_ms: int, *, everything: bool = False) -> Iterator[Pressing]:
    """Yield the asks that are open at this member and of which half of the time is gone; of those where a life is at risk, all.

    Args:
        connection: the caller's transaction.
        member: whose records are asked about.
        now_ms: the time.
        everything: also those of which less than half is gone. Those that wait for somebody else are none of them.
    """
    for identity in store.open_at(connection, member):
        found = store.stored(connection, identity)
        conversation = chain_of(found)
        clocks = clocks_of(conversation, store.receipts(found), now_ms)
        if not clocks:
            continue
        clock = clocks[-1]
        if clock.started_ms is None or clock.ended_ms is not None or clock.paused_until_ms is not None:
            continue
        stage = Stage.OVERDUE if clock.overdue else Stage.HALF_SPENT if clock.half_spent else Stage.ASKED
        if everything or stage is not Stage.ASKED or clock.urgency is AskUrgency.LIFE_AT_RISK:
            due_ms = clock.due_ms or now_ms
            since_ms = {Stage.ASKED: clock.started_ms, Stage.HALF_SPENT: due_ms - ALLOWANCE_MS[clock.urgency] // 2, Stage.OVERDUE: due_ms}
            said = any(isinstance(header.body, Acknowledge) for header in answers_to(conversation, clock.ask))
            yield Pressing(identity, clock.ask, conversation.asker[0].header.asker, clock.urgency, stage, since_ms[stage], said)


def level_of(pressing: Pressing, rota: Rota | None, now_ms: int) -> int:
    """Return which level of the escalation an ask has reached: 0, those on duty, for as long as somebody says to have it in time."""
    if rota is None or (pressing.acknowledged and pressing.stage is not Stage.OVERDUE):
        return 0
    return rota.level(now_ms - pressing.since_ms, life_at_risk=pressing.urgency is AskUrgency.LIFE_AT_RISK)


def undelivered(connection: sa.Connection, now_ms: int, give_up_days: float) -> list[Waiting]:
    """Return own entries that have waited for so long that a person should be told. They are tried all the same."""
    return [waiting for waiting in outbox.waiting(connection) if now_ms - waiting.since_ms > give_up_days * DAY_MS]
