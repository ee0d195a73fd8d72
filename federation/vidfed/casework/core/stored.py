"""An entry as a gateway stores it and hands it out: what both the gateway and a person's own program know of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import TYPE_CHECKING

from vidfed.casework.core.conversation import Conversation, Entry
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire.casework_values import Side

if TYPE_CHECKING:
    from collections.abc import Iterable


@unique
class Place(IntEnum):
    """Where an entry stands; the numbers are those in the table."""

    CHAIN = 1
    DRAFT = 2  # another officer must sign
    VOID = 3  # the other member refused it, by a signed receipt
    FORK = 4  # kept as evidence beside the entry that has its number


@dataclass(frozen=True, slots=True)
class Stored:
    """One entry as it is stored.

    Attributes:
        version: number of its last change.
        entry: header and digest.
        place: where it stands.
        delivery: serialised, without the sealed part.
        sealed: the sealed part, empty once it was deleted.
        receipt: serialised envelope of the receipt, None while there is none.
        received_ms: the time in a receipt that says TAKEN.
    """

    version: int
    entry: Entry
    place: Place
    delivery: bytes
    sealed: bytes
    receipt: bytes | None
    received_ms: int | None

    @property
    def whole(self) -> pb.Delivery:
        """The delivery with its sealed part."""
        delivery = pb.Delivery.FromString(self.delivery)
        delivery.sealed = self.sealed
        return delivery


def chain_of(found: Iterable[Stored]) -> Conversation:
    """Return the conversation that stored entries of it make."""
    chains: dict[Side, list[Entry]] = {side: [] for side in Side}
    for each in found:
        if each.place is Place.CHAIN:
            chains[each.entry.header.side].append(each.entry)
    return Conversation(tuple(chains[Side.ASKER]), tuple(chains[Side.OWNER]))
