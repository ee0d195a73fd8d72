"""Two chains of entries, and where the next entry of either fits.

A conversation is a value. What it holds of a side is always an unbroken chain from number 1, so two conversations with the same two newest
digests are the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import TYPE_CHECKING

from vidfed.wire.casework_values import Side

if TYPE_CHECKING:
    from vidfed.wire.casework_values import EntryHeader, Subject

_ID_DOMAIN = b"vidfed-conversation/1\x00"
_LENGTH_BYTES = 4


def conversation_id(federation: str, asker: str, owner: str, subject: Subject) -> bytes:
    """Return the id of the conversation about a hit, 32 bytes; both sides compute it, nobody chooses it."""
    digest = hashlib.sha256(_ID_DOMAIN)
    texts = (federation.encode(), asker.encode(), owner.encode())
    for part in (*texts, subject.lookup_digest, subject.answer_digest, subject.reference.encode()):
        digest.update(len(part).to_bytes(_LENGTH_BYTES, "big") + part)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A verified entry: what it says, and the SHA-256 of its signed bytes (32 bytes)."""

    header: EntryHeader
    digest: bytes


@unique
class Fit(Enum):
    """Where an entry stands to a conversation."""

    NEXT = "next"  # it continues its chain
    KNOWN = "known"  # it is in it
    GAP = "gap"  # one before it in its chain is missing
    FORK = "fork"  # another entry has its number, or stands before it
    AHEAD = "ahead"  # it names an entry of the other side as seen that is not here


@dataclass(frozen=True, slots=True)
class Conversation:
    """The entries of both sides, each from number 1 without a gap."""

    asker: tuple[Entry, ...] = ()
    owner: tuple[Entry, ...] = ()

    def side(self, side: Side) -> tuple[Entry, ...]:
        """Return one side's chain."""
        return self.asker if side is Side.ASKER else self.owner

    def fit(self, entry: Entry) -> Fit:
        """Tell where an entry stands."""
        header = entry.header
        chain, other = self.side(header.side), self.side(header.side.other)
        if header.number <= len(chain):
            return Fit.KNOWN if chain[header.number - 1].digest == entry.digest else Fit.FORK
        if header.number > len(chain) + 1:
            return Fit.GAP
        if chain and chain[-1].digest != header.previous:
            return Fit.FORK
        if header.seen_number > len(other) or (header.seen_number and other[header.seen_number - 1].digest != header.seen):
            return Fit.AHEAD
        return Fit.NEXT

    def past(self, header: EntryHeader) -> Conversation:
        """Return what the author of an entry that fits had before them."""
        own, seen = self.side(header.side)[: header.number - 1], self.side(header.side.other)[: header.seen_number]
        return Conversation(own, seen) if header.side is Side.ASKER else Conversation(seen, own)

    def added(self, entry: Entry) -> Conversation:
        """Return the conversation with its next entry."""
        if entry.header.side is Side.ASKER:
            return replace(self, asker=(*self.asker, entry))
        return replace(self, owner=(*self.owner, entry))

    @property
    def first(self) -> EntryHeader | None:
        """The entry that began it."""
        return self.asker[0].header if self.asker else None
