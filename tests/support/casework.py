"""Entries of conversations for tests: real encoding and digests, without signatures and sealing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from vidfed.casework.core.conversation import Conversation, Entry, conversation_id
from vidfed.wire.casework import read_entry, write_entry
from vidfed.wire.casework_values import (
    Ask,
    AskUrgency,
    Basis,
    Detail,
    EntryHeader,
    HandOver,
    Reader,
    Release,
    Side,
    Subject,
    TransferGround,
)
from vidfed.wire.values import HandlingCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.wire.casework_values import Body

FEDERATION = "test-federation"
ASKER, OWNER = "nl", "fr"
HOLDER, DEPUTY = Reader("nl-7", b"h" * 32), Reader("nl-8", b"d" * 32)
SUCCESSOR = Reader("nl-9", b"s" * 32)
OFFICER, SECOND_OFFICER = "fr-1", "fr-2"
SUBJECT = Subject(b"l" * 32, b"a" * 32, "FR-0001", HOLDER, DEPUTY)
START_MS = 1_800_000_000_000

ASK = Ask((Detail.VICTIM_IDENTITY, Detail.CASE_STATE), AskUrgency.ROUTINE, Basis.SAME_DIGEST)
RELEASE = Release((Detail.VICTIM_IDENTITY, Detail.CASE_STATE), False, HandlingCode.H1, TransferGround.MEMBER_STATE)
PARTIAL = replace(RELEASE, given=(Detail.VICTIM_IDENTITY,), more_follows=True)
HAND_OVER = HandOver(SUCCESSOR, HOLDER)


def next_header(
    conversation: Conversation,
    side: Side,
    body: Body,
    *,
    at_ms: int = START_MS,
    seen: int | None = None,
    authors: Sequence[str] | None = None,
    subject: Subject = SUBJECT,
) -> EntryHeader:
    """Return the header of a side's next entry, as an honest author writes it, allowed or not."""
    own, other = conversation.side(side), conversation.side(side.other)
    seen = len(other) if seen is None else seen
    return EntryHeader(
        federation=FEDERATION,
        conversation=conversation_id(FEDERATION, ASKER, OWNER, subject),
        asker=ASKER,
        owner=OWNER,
        side=side,
        number=len(own) + 1,
        previous=own[-1].digest if own else b"",
        seen_number=seen,
        seen=other[seen - 1].digest if seen else b"",
        written_ms=at_ms,
        authors=tuple(authors or ((HOLDER.pseudonym,) if side is Side.ASKER else (OFFICER,))),
        commitment=bytes(32),
        sealed_digest=bytes(32),
        body=body,
        subject=None if own or side is Side.OWNER else subject,
    )


def entry_of(header: EntryHeader) -> Entry:
    """Return the entry that a header makes; it comes back from its bytes as it was."""
    payload = write_entry(header)
    assert read_entry(payload) == header
    return Entry(header, hashlib.sha256(payload).digest())


def written(*steps: tuple[Side, Body] | tuple[Side, Body, int], start: Conversation | None = None) -> Conversation:
    """Return the conversation in which each entry's author had seen all before it; a step's third value is minutes after the start."""
    conversation = start or Conversation()
    for side, body, *minutes in steps:
        at_ms = START_MS + 60_000 * (minutes[0] if minutes else 0)
        conversation = conversation.added(entry_of(next_header(conversation, side, body, at_ms=at_ms)))
    return conversation
