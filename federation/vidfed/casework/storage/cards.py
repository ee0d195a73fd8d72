"""Cards of those to whom contents are sealed, as they are kept. They are believed by their signatures each time they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.casework.storage.schema import cards
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire.casework_values import MAX_CARDS

if TYPE_CHECKING:
    from vidfed.casework.cards import KnownReader


def keep(connection: sa.Connection, known: KnownReader, card: pb.ReaderCard) -> bool:
    """Keep a person's card in the place of an older one; tell whether there was room."""
    own = (cards.c.member == known.member) & (cards.c.pseudonym == known.reader.pseudonym)
    held = connection.execute(sa.select(cards.c.made_ms).where(own)).scalar()
    if held is not None and held > known.made_ms:
        return True  # a newer one is here
    count = sa.select(sa.func.count()).select_from(cards).where(cards.c.member == known.member)
    if held is None and int(connection.execute(count).scalar_one()) >= MAX_CARDS:
        return False
    connection.execute(sa.delete(cards).where(own))
    connection.execute(
        sa.insert(cards).values(member=known.member, pseudonym=known.reader.pseudonym, made_ms=known.made_ms, card=card.SerializeToString())
    )
    return True


def of_member(connection: sa.Connection, member: str) -> list[pb.ReaderCard]:
    """Return the cards kept of a member's persons, by pseudonym."""
    rows = connection.execute(sa.select(cards.c.card).where(cards.c.member == member).order_by(cards.c.pseudonym))
    return [pb.ReaderCard.FromString(row.card) for row in rows]


def forget(connection: sa.Connection, member: str, pseudonym: str) -> None:
    """Delete a person's card."""
    connection.execute(sa.delete(cards).where(cards.c.member == member, cards.c.pseudonym == pseudonym))
