"""Conversations and their entries in the tables. Each function runs in the transaction it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.casework.core.conversation import Entry
from vidfed.casework.core.stored import Place, Stored, chain_of
from vidfed.casework.storage.schema import conversations, entries, outbox, wraps
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire.casework import read_entry
from vidfed.wire.casework_values import Close, Wrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vidfed.casework.core.conversation import Conversation
    from vidfed.wire.casework_values import EntryHeader, Side

MAX_FORKS = 16  # kept as evidence of one conversation: two would do, and a hostile member could send them without end


def load(connection: sa.Connection, conversation: bytes) -> Conversation:
    """Return a conversation; empty if there is none."""
    return chain_of(stored(connection, conversation))


def stored(connection: sa.Connection, conversation: bytes) -> list[Stored]:
    """Return all entries of a conversation, by side and number, whatever their place."""
    where = entries.c.conversation == conversation
    rows = connection.execute(sa.select(entries).where(where).order_by(entries.c.side, entries.c.number, entries.c.version))
    return [_read(row) for row in rows]


def find(connection: sa.Connection, digest: bytes) -> Stored | None:
    """Return one entry."""
    row = connection.execute(sa.select(entries).where(entries.c.digest == digest)).first()
    return None if row is None else _read(row)


def part(connection: sa.Connection, conversation: bytes, side: Side, from_number: int, limit: int) -> list[Stored]:
    """Return a piece of one chain."""
    rows = connection.execute(
        sa.select(entries)
        .where(
            entries.c.conversation == conversation,
            entries.c.side == side.value,
            entries.c.place == Place.CHAIN,
            entries.c.number >= from_number,
        )
        .order_by(entries.c.number)
        .limit(limit)
    )
    return [_read(row) for row in rows]


def add(
    connection: sa.Connection,
    entry: Entry,
    delivery: pb.Delivery,
    place: Place,
    now_ms: int,
    *,
    receipt: bytes | None = None,
    received_ms: int | None = None,
) -> None:
    """Store an entry. The caller has judged it; a second one in a chain's place is refused by the table itself."""
    header = entry.header
    if header.subject is not None and place is not Place.FORK:
        _begin(connection, header)
    if isinstance(header.body, Close) and place is Place.CHAIN:
        own = conversations.c.id == header.conversation
        connection.execute(sa.update(conversations).where(own).values(closed_ms=header.written_ms))
    without = pb.Delivery(entry=delivery.entry, credentials=delivery.credentials)
    connection.execute(
        sa.insert(entries).values(
            digest=entry.digest,
            version=_next_version(connection),
            conversation=header.conversation,
            side=header.side.value,
            number=header.number,
            place=int(place),
            delivery=without.SerializeToString(),
            sealed=delivery.sealed,
            stored_ms=now_ms,
            receipt=receipt,
            received_ms=received_ms,
        )
    )


def add_receipt(connection: sa.Connection, digest: bytes, receipt: bytes, received_ms: int) -> None:
    """Keep the other member's receipt that says TAKEN."""
    _change(connection, digest, receipt=receipt, received_ms=received_ms)


def replace_draft(connection: sa.Connection, digest: bytes, delivery: pb.Delivery, place: Place) -> None:
    """Put a draft's further signature in, and into its chain if nothing is missing any more."""
    without = pb.Delivery(entry=delivery.entry, credentials=delivery.credentials)
    _change(connection, digest, delivery=without.SerializeToString(), place=int(place))


def void_from(connection: sa.Connection, header: EntryHeader, receipt: bytes) -> list[Stored]:
    """Take an own entry and those behind it out of their chain, with the signed receipt that refused it; return them."""
    gone = part(connection, header.conversation, header.side, header.number, limit=10_000)
    for each in gone:
        kept = receipt if each.entry.header.number == header.number else None
        _change(connection, each.entry.digest, place=int(Place.VOID), receipt=kept)
        connection.execute(sa.delete(outbox).where(outbox.c.digest == each.entry.digest))
    return gone


def count_forks(connection: sa.Connection, conversation: bytes) -> int:
    """Return how many entries are kept as evidence of a fork."""
    where = (entries.c.conversation == conversation) & (entries.c.place == Place.FORK)
    return int(connection.execute(sa.select(sa.func.count()).select_from(entries).where(where)).scalar_one())


def changed(connection: sa.Connection, after: int, limit: int) -> list[Stored]:
    """Return the entries changed after a version, by version; forks excepted, which are for the operator."""
    rows = connection.execute(
        sa.select(entries).where(entries.c.version > after, entries.c.place != Place.FORK).order_by(entries.c.version).limit(limit)
    )
    return [_read(row) for row in rows]


def open_at(connection: sa.Connection, owner: str) -> list[bytes]:
    """Return the conversations about a member's records that their askers have not closed, by id."""
    query = sa.select(conversations.c.id).where(conversations.c.owner == owner, conversations.c.closed_ms.is_(None))
    return [row.id for row in connection.execute(query.order_by(conversations.c.begun_ms))]


def receipts(found: Iterable[Stored]) -> dict[bytes, int]:
    """Return when each entry was received, by the signed word of the other side, by digest."""
    return {each.entry.digest: each.received_ms for each in found if each.received_ms is not None}


def add_wraps(connection: sa.Connection, digest: bytes, made: Sequence[Wrap]) -> None:
    """Keep content keys wrapped for further persons of the own member."""
    for wrap in made:
        connection.execute(sa.delete(wraps).where(wraps.c.digest == digest, wraps.c.key_id == wrap.key_id))
        connection.execute(sa.insert(wraps).values(digest=digest, key_id=wrap.key_id, sealed_key=wrap.sealed_key))
    _change(connection, digest)


def later_wraps(connection: sa.Connection, digest: bytes) -> list[Wrap]:
    """Return the content keys wrapped after an entry was signed."""
    rows = connection.execute(sa.select(wraps.c.key_id, wraps.c.sealed_key).where(wraps.c.digest == digest))
    return [Wrap(row.key_id, row.sealed_key) for row in rows]


def delete_contents(connection: sa.Connection, *, closed_before_ms: int, begun_before_ms: int) -> int:
    """Delete sealed parts and wraps of conversations closed, or begun, before these signed times; return of how many entries."""
    over = sa.select(conversations.c.id).where(
        (conversations.c.closed_ms < closed_before_ms) | (conversations.c.begun_ms < begun_before_ms)
    )
    due = sa.select(entries.c.digest).where(entries.c.conversation.in_(over), entries.c.sealed != b"")
    digests = [row.digest for row in connection.execute(due)]
    for digest in digests:
        connection.execute(sa.delete(wraps).where(wraps.c.digest == digest))
        _change(connection, digest, sealed=b"")
    return len(digests)


def _begin(connection: sa.Connection, header: EntryHeader) -> None:
    assert header.subject is not None  # noqa: S101 - the caller looked
    known = connection.execute(sa.select(conversations.c.id).where(conversations.c.id == header.conversation)).first()
    if known is None:
        connection.execute(
            sa.insert(conversations).values(
                id=header.conversation,
                asker=header.asker,
                owner=header.owner,
                reference=header.subject.reference,
                begun_ms=header.written_ms,
            )
        )


def _change(connection: sa.Connection, digest: bytes, **values: object) -> None:
    connection.execute(sa.update(entries).where(entries.c.digest == digest).values(version=_next_version(connection), **values))


def _next_version(connection: sa.Connection) -> int:
    """Return the next number of a change. There is one writer at a time."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(entries.c.version), 0))).scalar_one()) + 1


def _read(row: sa.Row[tuple[object, ...]]) -> Stored:
    header = read_entry(pb.Delivery.FromString(row.delivery).entry.payload)
    return Stored(
        version=row.version,
        entry=Entry(header, row.digest),
        place=Place(row.place),
        delivery=row.delivery,
        sealed=row.sealed,
        receipt=row.receipt,
        received_ms=row.received_ms,
    )
