"""Conversations and standing lookups for programs that do not run an event loop: the same calls, which return when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.casework.client import CaseworkClient
from vidfed.federation.client.loop import OnItsLoop
from vidfed.federation.client.standing import DEFAULT_EVERY_MINUTES, StandingClient
from vidfed.security.clock import Clock, system_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vidfed.casework.cards import KnownReader
    from vidfed.casework.client import Read
    from vidfed.casework.core.conversation import Entry
    from vidfed.casework.opened import OpenedEntry
    from vidfed.casework.reading import View
    from vidfed.casework.writing import Person
    from vidfed.federation.client.standing import Found, OwnWatch
    from vidfed.federation.lookup.question import Item, Justification
    from vidfed.index import Algorithm
    from vidfed.security.member.kit import Kit
    from vidfed.v1 import casework_pb2 as pb
    from vidfed.wire.casework_values import Body, Content
    from vidfed.wire.news import News


class BlockingCaseworkClient(OnItsLoop[CaseworkClient]):
    """A `CaseworkClient` on an event loop in a thread of its own. Use as a context manager; safe from several threads.

    Each method does what the one of the same name in `CaseworkClient` does, and raises the same.
    """

    def __init__(self, kit: Kit, *, clock: Clock = system_clock) -> None:
        """Begin with a kit, and make known to which key this person's contents are sealed.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
            SealError: its sealing key is damaged.
            GatewayFailedError: the gateway cannot be reached, or refuses.
        """
        super().__init__(lambda: CaseworkClient(kit, clock))

    @property
    def person(self) -> Person:
        """Who this is."""
        return self._open.person

    @property
    def roles(self) -> tuple[str, ...]:
        """This person's roles."""
        return self._open.roles

    def conversations(self) -> dict[bytes, View]:
        """Return this person's conversations by id."""
        return self._with(lambda client: client.conversations())

    def news(self) -> list[News]:
        """Take in what became of records that this person was told, and return what of it is new."""
        return self._with(lambda client: client.news())

    def find(self, named: str) -> tuple[bytes, View]:
        """Return the conversation whose id begins so, or that is about the record of this reference."""
        return self._with(lambda client: client.find(named))

    def readers(self, member: str) -> list[KnownReader]:
        """Return those of a member to whom contents can be sealed."""
        return self._with(lambda client: client.readers(member))

    def colleague(self, pseudonym: str) -> KnownReader:
        """Return a person of the own member."""
        return self._with(lambda client: client.colleague(pseudonym))

    def begin(self, owner: str, subject_of: tuple[bytes, bytes, str], deputy: str, body: Body, content: Content) -> bytes:
        """Begin a conversation about a hit, and return its id."""
        return self._with(lambda client: client.begin(owner, subject_of, deputy, body, content))

    def say(self, view: View, body: Body, content: Content, cosigner: str | None = None) -> bool:
        """Write into a conversation; tell whether a second officer must still sign."""
        return self._with(lambda client: client.say(view, body, content, cosigner))

    def sign_draft(self, delivery: pb.Delivery) -> bool:
        """Sign a colleague's draft too; tell whether still another signature is missing."""
        return self._with(lambda client: client.sign_draft(delivery))

    def hand_over(self, view: View, holder: str, deputy: str, content: Content) -> int:
        """Hand a case over to a colleague; return how many entries the new holder can read."""
        return self._with(lambda client: client.hand_over(view, holder, deputy, content))

    def read(self, view: View) -> list[Read]:
        """Return a conversation's entries, the oldest first, with what this person can read of them."""
        return self._open.read(view)

    def open_draft(self, delivery: pb.Delivery) -> Read:
        """Return a colleague's draft as this person reads it, before signing it."""
        return self._open.open_draft(delivery)

    def hand_on(self, view: View, colleague: str) -> int:
        """Let a colleague who has become an officer read what was said before; return how many entries that person can read now."""
        return self._with(lambda client: client.hand_on(view, colleague))

    def open_for_oversight(self, view: View, entry: Entry, overseer: str) -> OpenedEntry:
        """Open one entry to an overseer, who can check it without a key; it is logged first."""
        return self._with(lambda client: client.open_for_oversight(view, entry, overseer))


class BlockingStandingClient(OnItsLoop[StandingClient]):
    """A `StandingClient` on an event loop in a thread of its own. Use as a context manager; safe from several threads.

    Each method does what the one of the same name in `StandingClient` does, and raises the same.
    """

    def __init__(self, kit: Kit, *, clock: Clock = system_clock) -> None:
        """Begin with a kit.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
        """
        super().__init__(lambda: StandingClient(kit, clock))

    def watch(
        self,
        items: Iterable[Item],
        justification: Justification,
        *,
        days: float,
        every_minutes: float = DEFAULT_EVERY_MINUTES,
        ask: Sequence[str] = (),
        distances: Mapping[Algorithm, int] | None = None,
    ) -> str:
        """Let the own gateway ask about items again and again, and return the watch's id."""
        return self._with(
            lambda client: client.watch(items, justification, days=days, every_minutes=every_minutes, ask=ask, distances=distances)
        )

    def identify(self, named: str) -> str:
        """Return the whole id of a watch."""
        return self._with(lambda client: client.identify(named))

    def renew(self, named: str, *, days: float) -> str:
        """Begin a watch of the same items anew and end the old one; return the new one's id."""
        return self._with(lambda client: client.renew(named, days=days))

    def stop(self, named: str) -> str:
        """End a watch; return its id."""
        return self._with(lambda client: client.stop(named))

    def stop_case(self, case_reference: str) -> list[str]:
        """End all watches of a case; return their ids."""
        return self._with(lambda client: client.stop_case(case_reference))

    def watches(self) -> list[OwnWatch]:
        """Return this person's watches and how far they are answered, those that go on first."""
        return self._with(lambda client: client.watches())

    def found(self, after: int = 0) -> list[Found]:
        """Return what was found of all that is watched, verified here again."""
        return self._with(lambda client: client.found(after))
