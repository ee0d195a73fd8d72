"""Who can be sealed to: own persons who registered, and the officers of other members. Blocking; called from worker threads."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.casework.cards import read_card
from vidfed.casework.errors import CaseworkStoreError, RefusedError
from vidfed.casework.storage import cards as store
from vidfed.security.errors import DirectoryError
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire.casework_values import MAX_CARDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.casework.cards import KnownReader
    from vidfed.casework.storage.database import CaseworkDatabase
    from vidfed.security.clock import Clock
    from vidfed.security.identity.directory import DirectorySource

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReaderBook:
    """The cards that one member keeps."""

    member: str
    database: CaseworkDatabase
    directory_source: DirectorySource
    clock: Clock

    def register(self, card: pb.ReaderCard, pseudonym: str) -> None:
        """Take an own person's card in.

        Args:
            card: the person's own.
            pseudonym: of the caller, by the TLS certificate.

        Raises:
            RefusedError: it does not hold, is another person's, or there is no room.
            CaseworkStoreError, DirectoryError: it cannot be kept or verified.
        """
        known = read_card(card, self.directory_source.current(), self.member, self.clock())
        if known.reader.pseudonym != pseudonym:
            raise RefusedError("the card is another person's than the TLS certificate")
        self._keep([(known, card)])

    def take(self, member: str, cards: Sequence[pb.ReaderCard]) -> None:
        """Keep the officers that another member named, those whose cards hold.

        Raises:
            CaseworkStoreError, DirectoryError: they cannot be kept or verified.
        """
        good = []
        for card in cards[:MAX_CARDS]:
            try:
                known = read_card(card, self.directory_source.current(), member, self.clock())
            except RefusedError as error:
                _log.warning("%s names an officer whose card does not hold: %s", member, error)
                continue
            if known.officer:
                good.append((known, card))
        if good:
            self._keep(good)

    def known(self, member: str) -> list[tuple[KnownReader, pb.ReaderCard]]:
        """Return a member's persons whose cards hold now.

        Raises:
            CaseworkStoreError: they cannot be read.
            DirectoryError: the directory cannot be used, or does not know the member.
        """
        directory = self.directory_source.current()
        with self.database.reading() as connection:
            kept = store.of_member(connection, member)
        found = []
        for card in kept:
            try:
                found.append((read_card(card, directory, member, self.clock()), card))
            except RefusedError:
                continue  # expired, or revoked
        return found

    def officers(self, member: str) -> list[bytes]:
        """Return the sealing keys of a member's officers; none if they cannot be known right now."""
        try:
            return [known.reader.sealing_key for known, _ in self.known(member) if known.officer]
        except (CaseworkStoreError, DirectoryError) as error:
            _log.error("%s", error)
            return []

    def officer_cards(self) -> pb.ReaderCards:
        """Return the own officers' cards, for other members.

        Raises:
            CaseworkStoreError, DirectoryError: they cannot be read or verified.
        """
        return pb.ReaderCards(cards=[card for known, card in self.known(self.member) if known.officer])

    def _keep(self, cards: Sequence[tuple[KnownReader, pb.ReaderCard]]) -> None:
        with self.database.writing() as connection:
            for known, card in cards:
                if not store.keep(connection, known, card):
                    raise RefusedError(f"{MAX_CARDS} persons of {known.member} are known already")
