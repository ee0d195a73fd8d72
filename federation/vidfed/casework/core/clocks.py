"""How long an ask has waited: a function of signed times only, the same at both ends.

Section 1.5 of docs/casework-protocol.md. Nothing is decided by a clock; a person is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from vidfed.casework.core.state import answers_to, ends_unseen, settling, withdrawal
from vidfed.security.clock import HOUR_MS
from vidfed.wire.casework_values import Acknowledge, Ask, AskUrgency, Close, Refuse, Release, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vidfed.casework.core.conversation import Conversation
    from vidfed.wire.casework_values import EntryHeader

ALLOWANCE_MS: Mapping[AskUrgency, int] = MappingProxyType(
    {
        AskUrgency.ROUTINE: 48 * HOUR_MS,  # Regulation (EU) 2024/982, after a match is confirmed
        AskUrgency.URGENT: 8 * HOUR_MS,  # Directive (EU) 2023/977, urgent requests
        AskUrgency.LIFE_AT_RISK: HOUR_MS,  # means now; the alarm does not wait for it
    }
)
"""How long an ask may stay open before it counts as overdue."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of one ask at one moment; times in ms since the epoch, lengths in ms.

    Attributes:
        ask: its number.
        urgency: of the ask.
        written_ms: when it was written.
        started_ms: the owner's receipt; None while there is none: undelivered, not overdue.
        ended_ms: when it was settled, withdrawn, superseded or closed; None while it runs or stands still.
        paused_until_ms: while it stands still, until when at the latest.
        elapsed_ms: without the pauses.
        due_ms: when it will be overdue, or became so; None while it stands still or has not started.
        overdue: it took, or is taking, longer than it may.
        half_spent: at least half of it is gone and it still runs: somebody should be called.
    """

    ask: int
    urgency: AskUrgency
    written_ms: int
    started_ms: int | None
    ended_ms: int | None
    paused_until_ms: int | None
    elapsed_ms: int
    due_ms: int | None
    overdue: bool
    half_spent: bool


def clocks_of(
    conversation: Conversation,
    receipts: Mapping[bytes, int],
    now_ms: int,
    allowance_ms: Mapping[AskUrgency, int] = ALLOWANCE_MS,
) -> tuple[Clock, ...]:
    """Return the clock of every ask, the current one last.

    Args:
        conversation: with all its entries.
        receipts: when the other member's node received an entry, by its own signed word, by the entry's digest.
        now_ms: the moment asked about.
        allowance_ms: how long each urgency may take.
    """
    asks = [(entry.header, receipts.get(entry.digest)) for entry in conversation.asker if isinstance(entry.header.body, Ask)]
    return tuple(_clock(conversation, ask, started_ms, now_ms, allowance_ms) for ask, started_ms in asks)


def late_though_told(conversation: Conversation, receipts: Mapping[bytes, int]) -> tuple[int, ...]:
    """Return the numbers of releases written after the owner's own receipt for the withdrawal or close that they say not to have seen."""
    releases = [entry.header for entry in conversation.owner if isinstance(entry.header.body, Release)]
    ends = {release.number: [receipts.get(end.digest) for end in ends_unseen(conversation, release)] for release in releases}
    return tuple(
        release.number
        for release in releases
        if any(told_ms is not None and told_ms < release.written_ms for told_ms in ends[release.number])
    )


def _clock(
    conversation: Conversation, ask: EntryHeader, started_ms: int | None, now_ms: int, allowance_ms: Mapping[AskUrgency, int]
) -> Clock:
    assert isinstance(ask.body, Ask)  # noqa: S101 - chosen by type
    allowance = allowance_ms[ask.body.urgency]
    answers = answers_to(conversation, ask.number)
    ended_ms = _end(conversation, ask, ask.body, answers)
    if started_ms is None:
        return Clock(ask.number, ask.body.urgency, ask.written_ms, None, ended_ms, None, 0, None, overdue=False, half_spent=False)
    pauses = [pause for pause in _pauses(answers) if pause[1] > started_ms]
    until_ms = max(started_ms, now_ms if ended_ms is None else min(now_ms, ended_ms))
    elapsed = until_ms - started_ms - sum(max(0, min(end, until_ms) - max(begin, started_ms)) for begin, end in pauses)
    running = ended_ms is None or ended_ms > now_ms
    paused_until = next((end for begin, end in pauses if running and begin <= now_ms < end), None)
    overdue = elapsed > allowance
    due = None if paused_until is not None and not overdue else _due(started_ms, allowance, pauses)
    return Clock(
        ask=ask.number,
        urgency=ask.body.urgency,
        written_ms=ask.written_ms,
        started_ms=started_ms,
        ended_ms=ended_ms,
        paused_until_ms=paused_until,
        elapsed_ms=elapsed,
        due_ms=due,
        overdue=overdue,
        half_spent=running and paused_until is None and elapsed * 2 >= allowance,
    )


def _end(conversation: Conversation, ask: EntryHeader, body: Ask, answers: list[EntryHeader]) -> int | None:
    settled, withdrawn = settling(body.wanted, answers), withdrawal(conversation.asker, ask.number)
    later = (entry.header for entry in conversation.asker[ask.number :] if isinstance(entry.header.body, Ask | Close))
    ends = [header.written_ms for header in (settled, withdrawn, next(later, None)) if header]
    return min(ends, default=None)


def _pauses(answers: Iterable[EntryHeader]) -> list[tuple[int, int]]:
    """Return the times between waits and what ends them, in order, without overlaps."""
    steps = [header for header in answers if isinstance(header.body, Acknowledge | Release | Refuse | Wait)]
    found: list[tuple[int, int]] = []
    for place, header in enumerate(steps):
        if isinstance(header.body, Wait):
            following = steps[place + 1].written_ms if place + 1 < len(steps) else header.body.until_ms
            found.append((header.written_ms, min(header.body.until_ms, following)))
    return found


def _due(started_ms: int, allowance: int, pauses: list[tuple[int, int]]) -> int:
    due = started_ms + allowance
    for begin, end in pauses:
        if begin < due:
            due += end - max(begin, started_ms)
    return due
