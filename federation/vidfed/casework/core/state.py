"""The state of a conversation: a function of its entries, whatever the order in which they arrived.

Section 1.3 of docs/casework-protocol.md; the numbers in comments are those of its rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import TYPE_CHECKING

from vidfed.security.clock import DAY_MS
from vidfed.wire.casework_values import (
    Acknowledge,
    Ask,
    Close,
    Correct,
    HandOver,
    NotTheSame,
    Refuse,
    Release,
    Side,
    Wait,
    Withdraw,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.casework.core.conversation import Conversation, Entry
    from vidfed.wire.casework_values import AskUrgency, Basis, Correction, Detail, Disposition, EntryHeader, Reader, RefusalReason

FALSE_MATCH_MS = 180 * DAY_MS
"""How long *not the same* is shown as a label."""


@unique
class Phase(Enum):
    """Where a conversation stands, in one word."""

    EMPTY = "empty"
    NOTED = "noted"
    ASKED = "asked"
    ACKNOWLEDGED = "acknowledged"
    WAITING = "waiting"
    PARTLY_RELEASED = "partly-released"
    RELEASED = "released"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    CLOSED = "closed"

    @property
    def open(self) -> bool:
        """True while the owner is to answer."""
        return self in {Phase.ASKED, Phase.ACKNOWLEDGED, Phase.WAITING, Phase.PARTLY_RELEASED}


@dataclass(frozen=True, slots=True)
class Told:
    """One release.

    Attributes:
        number: of the entry in the owner's chain.
        release: what was given on which terms.
        late: its author had not seen that the ask was withdrawn or the conversation closed.
        correction: what the owner says of it since, or None.
    """

    number: int
    release: Release
    late: bool
    correction: Correction | None


@dataclass(frozen=True, slots=True)
class FalseMatch:
    """Somebody said that it is not the same: which side, who, and until when the label is shown (ms since the epoch)."""

    side: Side
    authors: tuple[str, ...]
    until_ms: int


@dataclass(frozen=True, slots=True)
class State:
    """What both sides see.

    Attributes:
        phase: in one word.
        ask: number of the current ask in the asker's chain, 0 if there is none.
        wanted, urgency, basis: of the current ask.
        open: what is wanted and neither given nor settled.
        waiting_until_ms: in phase WAITING, the end at the latest.
        refusal: in phase REFUSED, why.
        disposition: in phase CLOSED, what came of it.
        releases: all of them, of former asks too.
        false_matches: by number of the entry.
        holder, deputy: who holds the case at the asker's; None while it is empty.
    """

    phase: Phase = Phase.EMPTY
    ask: int = 0
    wanted: tuple[Detail, ...] = ()
    urgency: AskUrgency | None = None
    basis: Basis | None = None
    open: frozenset[Detail] = frozenset()
    waiting_until_ms: int | None = None
    refusal: RefusalReason | None = None
    disposition: Disposition | None = None
    releases: tuple[Told, ...] = ()
    false_matches: tuple[FalseMatch, ...] = ()
    holder: Reader | None = None
    deputy: Reader | None = None


def state_of(conversation: Conversation) -> State:
    """Return the state of a conversation."""
    if not conversation.asker:
        return State()
    ask = current_ask(conversation.asker)
    holder, deputy = _readers(conversation.asker)
    body = ask.body if ask else None
    state = State(
        phase=Phase.NOTED,
        releases=_told(conversation),
        false_matches=_false_matches(conversation),
        holder=holder,
        deputy=deputy,
    )
    if ask and isinstance(body, Ask):
        state = _with_ask(state, conversation, ask, body)
    for entry in conversation.asker:  # 1
        if isinstance(entry.header.body, Close):
            return replace(state, phase=Phase.CLOSED, disposition=entry.header.body.disposition, open=frozenset())
    return state


def current_ask(asker: Sequence[Entry]) -> EntryHeader | None:
    """Return the asker's last ask."""
    return next((entry.header for entry in reversed(asker) if isinstance(entry.header.body, Ask)), None)


def answers_to(conversation: Conversation, ask: int) -> list[EntryHeader]:
    """Return the owner's entries that are answers to the ask of that number: it is the last ask that they had seen (rule 3)."""
    following = next(
        (entry.header.number for entry in conversation.asker[ask:] if isinstance(entry.header.body, Ask)), len(conversation.asker) + 1
    )
    return [entry.header for entry in conversation.owner if ask <= entry.header.seen_number < following]


def settling(wanted: Sequence[Detail], answers: Sequence[EntryHeader]) -> EntryHeader | None:
    """Return the answer that settles an ask (rule 4), or None."""
    given: set[Detail] = set()
    for header in answers:
        if isinstance(header.body, Release):
            given.update(header.body.given)
            if not header.body.more_follows or given.issuperset(wanted):
                return header
        elif isinstance(header.body, Refuse):
            return header
    return None


def withdrawal(asker: Sequence[Entry], ask: int) -> EntryHeader | None:
    """Return the withdrawal of the ask of that number, or None."""
    for entry in asker[ask:]:
        if isinstance(entry.header.body, Withdraw):
            return entry.header
        if isinstance(entry.header.body, Ask):
            return None
    return None


def _with_ask(state: State, conversation: Conversation, ask: EntryHeader, body: Ask) -> State:
    state = replace(state, ask=ask.number, wanted=body.wanted, urgency=body.urgency, basis=body.basis)
    if withdrawal(conversation.asker, ask.number):  # 2
        return replace(state, phase=Phase.WITHDRAWN)
    answers = answers_to(conversation, ask.number)  # 3
    decisions = [header.body for header in answers if isinstance(header.body, Release | Refuse)]
    if settling(body.wanted, answers):  # 4
        last = decisions[-1]
        if isinstance(last, Refuse):
            return replace(state, phase=Phase.REFUSED, refusal=last.reason)
        return replace(state, phase=Phase.RELEASED)
    given = {detail for decision in decisions if isinstance(decision, Release) for detail in decision.given}
    state = replace(state, open=frozenset(body.wanted) - given)
    steps = [header.body for header in answers if isinstance(header.body, Release | Wait | Acknowledge)]
    if steps and isinstance(steps[-1], Wait):  # 5
        return replace(state, phase=Phase.WAITING, waiting_until_ms=steps[-1].until_ms)
    if decisions:
        return replace(state, phase=Phase.PARTLY_RELEASED)
    return replace(state, phase=Phase.ACKNOWLEDGED if steps else Phase.ASKED)


def _readers(asker: Sequence[Entry]) -> tuple[Reader | None, Reader | None]:
    for entry in reversed(asker):
        if isinstance(entry.header.body, HandOver):
            return entry.header.body.holder, entry.header.body.deputy
    subject = asker[0].header.subject
    return (subject.holder, subject.deputy) if subject else (None, None)


def _told(conversation: Conversation) -> tuple[Told, ...]:
    corrections = {e.header.body.release: e.header.body.correction for e in conversation.owner if isinstance(e.header.body, Correct)}
    return tuple(
        Told(entry.header.number, entry.header.body, is_late(conversation, entry.header), corrections.get(entry.header.number))
        for entry in conversation.owner
        if isinstance(entry.header.body, Release)
    )


def is_late(conversation: Conversation, release: EntryHeader) -> bool:
    """Tell whether a release's author had not seen that its ask was withdrawn, or the conversation closed."""
    return bool(ends_unseen(conversation, release))


def ends_unseen(conversation: Conversation, release: EntryHeader) -> list[Entry]:
    """Return the asker's entries that end the ask of a release, or the conversation, and that its author had not seen."""
    asked_anew = False
    found = []
    for entry in conversation.asker[release.seen_number :]:
        body = entry.header.body
        if entry.header.seen_number >= release.number:  # its author knew the release: these did not cross
            break
        asked_anew = asked_anew or isinstance(body, Ask)
        if isinstance(body, Close) or (isinstance(body, Withdraw) and not asked_anew):
            found.append(entry)
    return found


def _false_matches(conversation: Conversation) -> tuple[FalseMatch, ...]:
    return tuple(
        FalseMatch(side, entry.header.authors, entry.header.written_ms + FALSE_MATCH_MS)
        for side in Side
        for entry in conversation.side(side)
        if isinstance(entry.header.body, NotTheSame)
    )
