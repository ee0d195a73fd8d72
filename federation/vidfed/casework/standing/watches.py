"""Own persons' standing lookups in the tables. What is watched is closed with a key that stands outside the database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from vidfed.casework.errors import CaseworkStoreError
from vidfed.casework.storage.schema import rounds, watch_ends, watch_hits, watch_known, watched, watches
from vidfed.security.clock import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_WATCHES = 50  # in force, of one person
KEEP_HITS_MS = 90 * DAY_MS


@dataclass(frozen=True, slots=True)
class Due:
    """One part of a watch that one member is to be asked about now; envelopes and columns serialised."""

    serial: bytes
    pseudonym: str
    part: int
    member: str
    epoch: bytes
    mandate: bytes
    credential: bytes
    columns: bytes
    sealing_key: bytes
    every_ms: int


@dataclass(frozen=True, slots=True)
class MemberState:
    """How far one member has answered a watch: until when all its parts, None: not yet; and why not since."""

    member: str
    watched_until_ms: int | None
    trouble: str


@dataclass(frozen=True, slots=True)
class Watch:
    """One watch as it stands."""

    serial: bytes
    ends_ms: int
    ended_ms: int | None
    members: tuple[MemberState, ...]


class Closet:
    """Closes and opens what is watched."""

    def __init__(self, key: bytes) -> None:
        """Use a key of 32 bytes."""
        self._box = SecretBox(key)

    def close(self, columns: bytes) -> bytes:
        """Return columns as they may be stored."""
        return bytes(self._box.encrypt(columns))

    def open(self, closed: bytes) -> bytes:
        """Return stored columns.

        Raises:
            CaseworkStoreError: they were closed with another key.
        """
        try:
            return bytes(self._box.decrypt(closed))
        except (CryptoError, ValueError):
            raise CaseworkStoreError("what is watched was closed with another key: state/watch.key is not the one it was") from None


def add(
    connection: sa.Connection,
    *,
    serial: bytes,
    pseudonym: str,
    credential: bytes,
    mandate: bytes,
    sealing_key: bytes,
    every_ms: int,
    ends_ms: int,
    closed_parts: Sequence[bytes],
    members: Iterable[str],
    now_ms: int,
) -> bool:
    """Begin a watch; tell whether there was room, or it was there already."""
    if connection.execute(sa.select(watches.c.serial).where(watches.c.serial == serial)).first() is not None:
        return True
    in_force = (watches.c.pseudonym == pseudonym) & watches.c.ended_ms.is_(None) & (watches.c.ends_ms > now_ms)
    if int(connection.execute(sa.select(sa.func.count()).select_from(watches).where(in_force)).scalar_one()) >= MAX_WATCHES:
        return False
    values = {"pseudonym": pseudonym, "credential": credential, "mandate": mandate, "sealing_key": sealing_key}
    connection.execute(sa.insert(watches).values(serial=serial, every_ms=every_ms, ends_ms=ends_ms, ended_ms=None, **values))
    parts = [{"serial": serial, "part": number, "closed": closed} for number, closed in enumerate(closed_parts)]
    connection.execute(sa.insert(watched), parts)
    empty = {"epoch": b"", "answered_ms": None, "next_ms": now_ms, "trouble": ""}
    asked = [{"serial": serial, "part": part["part"], "member": member, **empty} for part in parts for member in members]
    connection.execute(sa.insert(rounds), asked)
    return True


def due(connection: sa.Connection, closet: Closet, now_ms: int, limit: int) -> list[Due]:
    """Return what is to be asked now, the longest waiting first.

    Raises:
        CaseworkStoreError: it cannot be opened.
    """
    query = (
        sa.select(rounds, watches, watched.c.closed)
        .join(watches, watches.c.serial == rounds.c.serial)
        .join(watched, (watched.c.serial == rounds.c.serial) & (watched.c.part == rounds.c.part))
        .where(rounds.c.next_ms <= now_ms, watches.c.ended_ms.is_(None), watches.c.ends_ms > now_ms)
        .order_by(rounds.c.next_ms, rounds.c.serial, rounds.c.part, rounds.c.member)
        .limit(limit)
    )
    return [
        Due(
            row.serial,
            row.pseudonym,
            row.part,
            row.member,
            row.epoch,
            row.mandate,
            row.credential,
            closet.open(row.closed),
            row.sealing_key,
            row.every_ms,
        )
        for row in connection.execute(query)
    ]


def next_due(connection: sa.Connection, now_ms: int) -> int | None:
    """Return when something is to be asked next; None: nothing is."""
    in_force = watches.c.ended_ms.is_(None) & (watches.c.ends_ms > now_ms)
    query = sa.select(sa.func.min(rounds.c.next_ms)).join(watches, watches.c.serial == rounds.c.serial).where(in_force)
    found: int | None = connection.execute(query).scalar()
    return found


def answered(connection: sa.Connection, asked: Due, epoch: bytes, answered_ms: int) -> None:
    """Note a whole answer, and when to ask again."""
    values = {"epoch": epoch, "answered_ms": answered_ms, "next_ms": answered_ms + asked.every_ms, "trouble": ""}
    connection.execute(sa.update(rounds).where(_own(asked)).values(**values))


def failed(connection: sa.Connection, asked: Due, trouble: str, next_ms: int) -> None:
    """Note that a member has not answered whole; what it answered last stays what it was watched until."""
    connection.execute(sa.update(rounds).where(_own(asked)).values(next_ms=next_ms, trouble=trouble[:500]))


def note_new(connection: sa.Connection, serial: bytes, member: str, hits: Iterable[tuple[bytes, int, str]]) -> bool:
    """Note hits, each by its part's columns, item and record; tell whether one of them is new."""
    found = {hashlib.sha256(b"\0".join((part, b"%d" % item, member.encode(), name.encode()))).digest() for part, item, name in hits}
    if not found:
        return False
    known = set(connection.execute(sa.select(watch_known.c.hit).where(watch_known.c.serial == serial)).scalars())
    if new := found - known:
        connection.execute(sa.insert(watch_known), [{"serial": serial, "hit": hit} for hit in new])
    return bool(new)


def keep_hit(connection: sa.Connection, asked: Due, sealed: bytes, now_ms: int) -> None:
    """Keep an answer with something new for its person."""
    connection.execute(sa.insert(watch_hits).values(serial=asked.serial, pseudonym=asked.pseudonym, sealed=sealed, found_ms=now_ms))


def hits_of(connection: sa.Connection, pseudonym: str, after: int) -> list[tuple[int, bytes, int, bytes]]:
    """Return (number, serial, time, sealed answer) of a person's hits after a number."""
    query = sa.select(watch_hits).where(watch_hits.c.pseudonym == pseudonym, watch_hits.c.number > after).order_by(watch_hits.c.number)
    return [(row.number, row.serial, row.found_ms, row.sealed) for row in connection.execute(query)]


def of_person(connection: sa.Connection, pseudonym: str) -> list[Watch]:
    """Return a person's watches, those that go on first."""
    query = sa.select(watches).where(watches.c.pseudonym == pseudonym).order_by(watches.c.ended_ms.is_not(None), watches.c.ends_ms)
    return [Watch(row.serial, row.ends_ms, row.ended_ms, _members(connection, row.serial)) for row in connection.execute(query).all()]


def end(connection: sa.Connection, serial: bytes, pseudonym: str | None, audience: Iterable[str], now_ms: int) -> bool:
    """End a watch now: what was watched is deleted, and its nodes are to be told. Tell whether there was one, of this person if named."""
    where = (watches.c.serial == serial) & watches.c.ended_ms.is_(None)
    if pseudonym is not None:
        where &= watches.c.pseudonym == pseudonym
    row = connection.execute(sa.select(watches.c.ends_ms).where(where)).first()
    if row is None:
        return False
    connection.execute(sa.update(watches).where(where).values(ended_ms=now_ms))
    connection.execute(sa.delete(watched).where(watched.c.serial == serial))
    connection.execute(sa.delete(rounds).where(rounds.c.serial == serial))
    told = [{"serial": serial, "member": member, "until_ms": row.ends_ms, "next_ms": now_ms} for member in audience]
    connection.execute(sa.insert(watch_ends), told)
    return True


def mandate_of(connection: sa.Connection, serial: bytes) -> bytes | None:
    """Return the signed mandate of a watch, serialised."""
    found: bytes | None = connection.execute(sa.select(watches.c.mandate).where(watches.c.serial == serial)).scalar()
    return found


def ends_due(connection: sa.Connection, now_ms: int) -> dict[str, list[tuple[bytes, int]]]:
    """Return the (serial, end) of mandates that members are to be told have ended, by member; forget those that are over anyway."""
    connection.execute(sa.delete(watch_ends).where(watch_ends.c.until_ms <= now_ms))
    found: dict[str, list[tuple[bytes, int]]] = {}
    for row in connection.execute(sa.select(watch_ends).where(watch_ends.c.next_ms <= now_ms)):
        found.setdefault(row.member, []).append((row.serial, row.until_ms))
    return found


def end_told(connection: sa.Connection, member: str, serials: Iterable[bytes]) -> None:
    """Note that a member knows that mandates have ended."""
    connection.execute(sa.delete(watch_ends).where(watch_ends.c.member == member, watch_ends.c.serial.in_(list(serials))))


def end_not_told(connection: sa.Connection, member: str, next_ms: int) -> None:
    """Try a member again later."""
    connection.execute(sa.update(watch_ends).where(watch_ends.c.member == member).values(next_ms=next_ms))


def forget(connection: sa.Connection, now_ms: int) -> None:
    """Delete what is over: watches whose time has ended, and hits that were there to be fetched for long enough."""
    over = list(connection.execute(sa.select(watches.c.serial).where(watches.c.ends_ms <= now_ms - KEEP_HITS_MS)).scalars())
    past = list(connection.execute(sa.select(watches.c.serial).where(watches.c.ends_ms <= now_ms)).scalars())
    for table in (watched, rounds):
        connection.execute(sa.delete(table).where(table.c.serial.in_(past)))
    for other in (watch_known, watch_ends, watches):
        connection.execute(sa.delete(other).where(other.c.serial.in_(over)))
    connection.execute(sa.delete(watch_hits).where(watch_hits.c.found_ms <= now_ms - KEEP_HITS_MS))


def _own(asked: Due) -> sa.ColumnElement[bool]:
    return (rounds.c.serial == asked.serial) & (rounds.c.part == asked.part) & (rounds.c.member == asked.member)


def _members(connection: sa.Connection, serial: bytes) -> tuple[MemberState, ...]:
    query = sa.select(rounds.c.member, rounds.c.answered_ms, rounds.c.trouble).where(rounds.c.serial == serial).order_by(rounds.c.member)
    found: dict[str, list[tuple[int | None, str]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.member, []).append((row.answered_ms, row.trouble))
    states = []
    for member, parts in found.items():
        times = [time for time, _ in parts if time is not None]
        until_ms = min(times) if len(times) == len(parts) else None
        states.append(MemberState(member, until_ms, next((trouble for _, trouble in parts if trouble), "")))
    return tuple(states)
