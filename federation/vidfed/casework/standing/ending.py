"""Mandates that ended before their time, at the nodes they were for: serial and end, and nothing else of them."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.casework.errors import CaseworkStoreError, RefusedError
from vidfed.casework.storage.schema import ended, places
from vidfed.security.clock import DAY_MS
from vidfed.security.errors import EnvelopeError, SignatureError
from vidfed.wire.requests import MANDATE_END_TYPE, read_mandate_end
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from vidfed.casework.context import Context
    from vidfed.casework.storage.database import CaseworkDatabase
    from vidfed.security.crypto.envelope import Envelope

MAX_ENDED = 10_000  # kept of one member: more than it can have mandates in force
MAX_LIFE_MS = 400 * DAY_MS  # no credential lives longer
_KEY_PLACE = "epoch key"


@dataclass(frozen=True, slots=True)
class Endings:
    """Takes the ends of other members' mandates, and knows them."""

    context: Context

    def take(self, envelope: Envelope, peer: str) -> None:
        """Keep which mandates of a member have ended.

        Args:
            envelope: as received.
            peer: whose node or gateway called, by its TLS certificate.

        Raises:
            RefusedError: it does not hold, or there are too many.
            CaseworkStoreError, DirectoryError: it cannot be kept or verified.
        """
        context, now_ms = self.context, self.context.clock()
        try:
            end = read_mandate_end(envelope.verify(MANDATE_END_TYPE, context.directory_source.current().member(peer).signing_keys))
        except (EnvelopeError, SignatureError, WireError) as error:
            raise RefusedError(f"the end of a mandate: {error}") from None
        if (end.federation, end.issuer, end.audience) != (context.federation, peer, context.member):
            raise RefusedError("the mandates are another member's, or for another one")
        until_ms = min(end.until_ms, now_ms + MAX_LIFE_MS)
        with context.database.writing() as connection:
            connection.execute(sa.delete(ended).where(ended.c.until_ms < now_ms))
            kept = sa.select(sa.func.count()).select_from(ended).where(ended.c.member == peer)
            if int(connection.execute(kept).scalar_one()) + len(end.serials) > MAX_ENDED:
                raise RefusedError(f"more than {MAX_ENDED} mandates")
            for serial in end.serials:
                own = (ended.c.member == peer) & (ended.c.serial == serial)
                connection.execute(sa.delete(ended).where(own))
                connection.execute(sa.insert(ended).values(member=peer, serial=serial, until_ms=until_ms))

    def has_ended(self, member: str, serial: bytes) -> bool:
        """Tell whether a member's mandate was ended; True also where it cannot be known: what may have ended is not answered."""
        try:
            with self.context.database.reading() as connection:
                return (
                    connection.execute(sa.select(ended.c.member).where(ended.c.member == member, ended.c.serial == serial)).first()
                    is not None
                )
        except CaseworkStoreError:
            return True


def epoch_key(database: CaseworkDatabase) -> bytes:
    """Return the key by which this node seals its epochs, the same in all its processes; made the first time.

    Raises:
        CaseworkStoreError: it cannot be read or kept.
    """
    with database.writing() as connection:
        kept = connection.execute(sa.select(places.c.mark).where(places.c.name == _KEY_PLACE)).scalar()
        if kept is None:
            kept = secrets.token_hex(32)
            connection.execute(sa.insert(places).values(name=_KEY_PLACE, reached=0, mark=kept))
    with contextlib.suppress(ValueError):
        return bytes.fromhex(kept)
    raise CaseworkStoreError(f"{database.name}: the key of epochs is damaged")
