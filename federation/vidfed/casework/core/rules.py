"""Whether an entry may stand where it stands: a function of what its author had seen, and of nothing else.

Section 1.2 of docs/casework-protocol.md. Both members evaluate the same function on the same
past, so they agree whatever crossed on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.casework.core.conversation import conversation_id
from vidfed.casework.core.state import Phase, state_of
from vidfed.casework.errors import NotAllowedError
from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.wire.casework_values import (
    MAX_TALKING,
    Acknowledge,
    Ask,
    Close,
    Correct,
    HandOver,
    Note,
    NotTheSame,
    RecordWrong,
    Refuse,
    Release,
    Side,
    Wait,
    Withdraw,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.casework.core.conversation import Conversation
    from vidfed.casework.core.state import State
    from vidfed.wire.casework_values import Body, EntryHeader

TOLERANCE_MS = MINUTE_MS  # clocks of national units are kept by NTP; as in the replay memory
MAX_WAIT_MS = 30 * DAY_MS

_OPENING = (Ask, NotTheSame, RecordWrong)
_SIDES: dict[type, tuple[Side, ...]] = {
    Ask: (Side.ASKER,),
    Acknowledge: (Side.OWNER,),
    Release: (Side.OWNER,),
    Refuse: (Side.OWNER,),
    Wait: (Side.OWNER,),
    NotTheSame: (Side.ASKER, Side.OWNER),
    RecordWrong: (Side.ASKER,),
    Note: (Side.ASKER, Side.OWNER),
    Withdraw: (Side.ASKER,),
    Close: (Side.ASKER,),
    Correct: (Side.OWNER,),
    HandOver: (Side.ASKER,),
}
_DECISIONS = (Release, Refuse, Wait, Correct)


def decides(side: Side, body: Body) -> bool:
    """Tell whether only officers of the owner may sign an entry that says this."""
    return isinstance(body, _DECISIONS) or (side is Side.OWNER and isinstance(body, NotTheSame))


def check(conversation: Conversation, header: EntryHeader) -> None:
    """Return if an entry that continues its chain is allowed.

    Args:
        conversation: holds at least the entry's past.
        header: of an entry whose `fit` is NEXT.

    Raises:
        NotAllowedError: it is not; the message says why, and what the author can do.
    """
    past = conversation.past(header)
    if header.side not in _SIDES[type(header.body)]:
        raise NotAllowedError(f"{header.body.kind} is not for the {header.side.code}'s side")
    if header.number > MAX_TALKING and isinstance(header.body, Ask | Note):
        raise NotAllowedError(f"this conversation is full: {MAX_TALKING} entries; close it, and look up again")
    _check_identity(past, header)
    _check_times(past, header)
    state = state_of(past)
    _check_authors(state, header)
    reason = _ALLOWED[type(header.body)](state, header)
    if reason:
        raise NotAllowedError(f"{header.body.kind}: {reason}")


def _check_identity(past: Conversation, header: EntryHeader) -> None:
    first = past.first
    if first is None:
        if header.subject is None or header.side is not Side.ASKER or not isinstance(header.body, _OPENING):
            raise NotAllowedError("a conversation begins with the asker's ask, not-the-same or record-wrong, and states the hit")
        if conversation_id(header.federation, header.asker, header.owner, header.subject) != header.conversation:
            raise NotAllowedError("the conversation's id is not that of this hit")
        return
    if header.subject is not None:
        raise NotAllowedError("only the first entry states the hit")
    if (header.federation, header.conversation, header.asker, header.owner) != (
        first.federation,
        first.conversation,
        first.asker,
        first.owner,
    ):
        raise NotAllowedError("the entry is of another conversation")


def _check_times(past: Conversation, header: EntryHeader) -> None:
    own, seen = past.side(header.side), past.side(header.side.other)
    if own and (header.written_ms < own[-1].header.written_ms or header.seen_number < own[-1].header.seen_number):
        raise NotAllowedError("the entry is older, or has seen less, than the one before it: compare the clocks")
    if seen and header.written_ms < seen[-1].header.written_ms - TOLERANCE_MS:
        raise NotAllowedError("the entry is older than what its author had seen: compare the clocks")


def _check_authors(state: State, header: EntryHeader) -> None:
    if header.side is Side.OWNER:
        if len(header.authors) > 1 and not decides(header.side, header.body):
            raise NotAllowedError(f"{header.body.kind} is signed by one person")
        return
    if len(header.authors) > 1:
        raise NotAllowedError("the asker's entries are signed by one person")
    if header.subject is not None:
        if header.authors != (header.subject.holder.pseudonym,):
            raise NotAllowedError("who begins a conversation holds the case")
        return
    if header.authors[0] not in {reader.pseudonym for reader in (state.holder, state.deputy) if reader}:
        raise NotAllowedError("only who holds the case, or the deputy, writes for the asker: have it handed over")


def _if_open(state: State, _: EntryHeader) -> str:
    return "" if state.phase.open else f"no ask is open ({state.phase.value})"


def _if_not_closed(state: State, _: EntryHeader) -> str:
    return "the conversation is closed" if state.phase is Phase.CLOSED else ""


def _if_going(state: State, _: EntryHeader) -> str:
    return f"the conversation is {state.phase.value}" if state.phase in {Phase.EMPTY, Phase.CLOSED} else ""


def _if_begun(state: State, _: EntryHeader) -> str:
    return "there is no conversation yet" if state.phase is Phase.EMPTY else ""


def _release(state: State, header: EntryHeader) -> str:
    del header
    return f"no ask stands ({state.phase.value})" if not state.ask or state.phase in {Phase.WITHDRAWN, Phase.CLOSED} else ""


def _wait(state: State, header: EntryHeader) -> str:
    assert isinstance(header.body, Wait)  # noqa: S101 - chosen by type
    if not header.written_ms < header.body.until_ms <= header.written_ms + MAX_WAIT_MS:
        return f"the end must be within {MAX_WAIT_MS // DAY_MS} days from now; it can be renewed"
    return _if_open(state, header)


def _correct(state: State, header: EntryHeader) -> str:
    assert isinstance(header.body, Correct)  # noqa: S101 - chosen by type
    wanted = header.body.release
    return "" if any(told.number == wanted for told in state.releases) else f"entry {wanted} is no release"


_ALLOWED: dict[type, Callable[[State, EntryHeader], str]] = {
    Ask: _if_not_closed,
    Acknowledge: _if_open,
    Release: _release,
    Refuse: _if_open,
    Wait: _wait,
    NotTheSame: lambda state, header: "" if header.side is Side.ASKER else _if_begun(state, header),
    RecordWrong: lambda *_: "",
    Note: _if_going,
    Withdraw: _if_open,
    Close: _if_going,
    Correct: _correct,
    HandOver: _if_begun,
}
