"""A person's conversations, from the own machine: what the gateway keeps, proven, opened, and written to.

    async with CaseworkClient(kit) as client:
        for view in (await client.conversations()).values(): ...

Everything is verified with the kit's own copy of the trust directory, sealed and opened with keys that never leave the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import grpc

from vidfed.casework.cards import KnownReader, make_card, read_card
from vidfed.casework.core.rules import decides
from vidfed.casework.errors import ConversationError, GatewayFailedError, MovedOnError, RefusedError, SealError
from vidfed.casework.news.book import NewsBook
from vidfed.casework.opened import OpenedEntry
from vidfed.casework.reading import View, read_inbox, read_news_of
from vidfed.casework.sealing import SealingKey, opening, unseal, wrap_for
from vidfed.casework.writing import Hit, Person, cosign, hit_of, write
from vidfed.rpc.channels import blocking_channel, open_channel
from vidfed.rpc.trust import GrpcMirror
from vidfed.security.clock import SECOND_MS, system_clock
from vidfed.security.identity.credentials import Credential
from vidfed.security.identity.officers import OFFICER_ROLE
from vidfed.security.trust.client import REFRESH_S
from vidfed.v1 import casework_pb2 as pb
from vidfed.v1 import casework_pb2_grpc as rpc
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_entry
from vidfed.wire.casework_values import Content, HandOver, Reader, Side, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.casework.core.conversation import Entry
    from vidfed.security.clock import Clock
    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.kit import Kit
    from vidfed.security.trust.mirrors import Mirror
    from vidfed.wire.casework_values import Body
    from vidfed.wire.news import News

_TIMEOUT_S = 20.0
_SHORTEST_ID = 6  # hex digits by which a person may name a conversation


@dataclass(frozen=True, slots=True)
class Read:
    """One entry as its reader sees it: what it says in clear, and its content, or why that cannot be read."""

    entry: Entry
    content: Content | None
    trouble: str = ""


class CaseworkClient:
    """One person's conversations. Use as an async context manager."""

    def __init__(self, kit: Kit, clock: Clock = system_clock) -> None:
        """Use a kit.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
            SealError: its sealing key is damaged.
        """
        self._kit = kit
        self._clock = clock
        self._source = kit.directory_source(clock, self._mirrors)
        directory = self._source.last_known_or_fail()
        self._trust_channel: grpc.Channel | None = None
        self._refreshed_ms = 0
        self._credential = Credential.read(kit.credential.payload)
        self.person = Person(kit.member, kit.pseudonym, kit.signer, kit.credential, SealingKey(kit.sealing_key))
        self._channel = open_channel(kit.gateway, kit.tls, directory, directory.member(kit.member))
        self._gateway = rpc.CaseworkGatewayServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        """Take what is newest of the trust directory, and make known to which key this person's contents are sealed."""
        await self._refresh()
        person = self.person
        card = make_card(
            self._kit.federation,
            person.member,
            person.pseudonym,
            person.signer,
            person.credential,
            person.sealing.public,
            self._clock(),
        )
        with _failures():
            await self._gateway.Register(pb.RegisterRequest(card=card), timeout=_TIMEOUT_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        if self._trust_channel is not None:
            self._trust_channel.close()

    @property
    def directory(self) -> Directory:
        """The trust directory that everything is verified with."""
        return self._source.current()

    @property
    def roles(self) -> tuple[str, ...]:
        """This person's roles."""
        return self._credential.roles

    async def conversations(self) -> dict[bytes, View]:
        """Return this person's conversations by id. Under the empty id stands what could not be believed at all.

        Raises:
            GatewayFailedError: the gateway cannot be reached, or refuses.
        """
        await self._refresh()
        request = pb.InboxRequest(credential=wire_envelope.to_message(self.person.credential))
        with _failures():
            kept = [each async for each in self._gateway.Inbox(request, timeout=_TIMEOUT_S)]
        return read_inbox(kept, self.directory, self.person.member, self._clock())

    async def news(self) -> list[News]:
        """Take in what became of records that this person was told, and return what of it is new.

        All of it stays in the kit (`NewsBook`), where results are shown with it.

        Raises:
            GatewayFailedError: the gateway cannot be reached, or refuses.
            CaseworkStoreError: what the kit keeps is damaged.
        """
        book = NewsBook(self._kit.folder)
        position = await asyncio.to_thread(book.position)
        request = pb.NewsRequest(after=position, credential=wire_envelope.to_message(self.person.credential))
        with _failures():
            kept = [each async for each in self._gateway.News(request, timeout=_TIMEOUT_S)]
        found = read_news_of(kept, self.directory, self.person.member, self.person.pseudonym)
        if kept:
            await asyncio.to_thread(book.take, found, max(each.position for each in kept), self._clock())
        return found

    async def find(self, named: str) -> tuple[bytes, View]:
        """Return the conversation whose id begins with these hex digits, or that is about the record of this reference.

        Raises:
            ConversationError: there is none, or more than one.
            GatewayFailedError: as `conversations`.
        """
        views = {identity: view for identity, view in (await self.conversations()).items() if identity and view.conversation.asker}
        found = [
            (identity, view)
            for identity, view in views.items()
            if (len(named) >= _SHORTEST_ID and identity.hex().startswith(named.lower()))
            or hit_of(view.conversation).subject.reference == named
        ]
        if len(found) != 1:
            what = "no conversation" if not found else f"{len(found)} conversations"
            raise ConversationError(f"{what} named {named!r:.80}: `vidfed cases list` shows those there are")
        return found[0]

    async def readers(self, member: str) -> list[KnownReader]:
        """Return those of a member to whom contents can be sealed: of another member its officers.

        Raises:
            GatewayFailedError: the gateway cannot be reached, or refuses.
        """
        with _failures():
            cards = (await self._gateway.GetReaders(pb.GetReadersRequest(member=member), timeout=_TIMEOUT_S)).cards
        found = []
        for card in cards:
            with contextlib.suppress(RefusedError):  # who hands them out may be behind: what does not hold is not used
                known = read_card(card, self.directory, member, self._clock())
                if known.officer or member == self.person.member:
                    found.append(known)
        return found

    async def colleague(self, pseudonym: str) -> KnownReader:
        """Return a person of the own member.

        Raises:
            ConversationError: nobody of this name has made a sealing key known.
            GatewayFailedError: as `readers`.
        """
        for known in await self.readers(self.person.member):
            if known.reader.pseudonym == pseudonym:
                return known
        raise ConversationError(f"{pseudonym!r:.60} is not known at the gateway: let that person run `vidfed inbox` once")

    async def begin(self, owner: str, subject_of: tuple[bytes, bytes, str], deputy: str, body: Body, content: Content) -> bytes:
        """Begin a conversation about a hit, and return its id.

        Args:
            owner: the member whose record it is.
            subject_of: digests of lookup and answer, and the record's reference.
            deputy: pseudonym of the colleague who can go on with the case.
            body: what is said in clear.
            content: what only readers see.

        Raises:
            CaseworkError: it cannot be written or sent; the message says what to do.
        """
        person = self.person
        if deputy == person.pseudonym:
            raise ConversationError("the deputy must be somebody else than you: the case must go on without you")
        second = await self.colleague(deputy)
        subject = Subject(*subject_of, Reader(person.pseudonym, person.sealing.public), second.reader)
        hit = Hit(self._kit.federation, person.member, owner, subject)
        known = (await self.conversations()).get(hit.conversation)
        if known is not None and known.conversation.asker:
            hit = hit_of(known.conversation)
        await self._send(hit, known or View(), body, content)
        return hit.conversation

    async def say(self, view: View, body: Body, content: Content, cosigner: str | None = None) -> bool:
        """Write into a conversation; tell whether a second officer must still sign.

        Raises:
            CaseworkError: it cannot be written or sent; the message says what to do.
        """
        return await self._send(hit_of(view.conversation), view, body, content, cosigner)

    async def sign_draft(self, delivery: pb.Delivery) -> bool:
        """Sign a colleague's draft too; tell whether still another signature is missing.

        Raises:
            CaseworkError: it cannot be sent.
        """
        with _failures():
            return (await self._gateway.Send(cosign(delivery, self.person), timeout=_TIMEOUT_S)).draft

    async def hand_over(self, view: View, holder: str, deputy: str, content: Content) -> int:
        """Hand a case over to a colleague, with everything that was said; return how many entries the new holder can read.

        Raises:
            CaseworkError: it cannot be written or sent.
        """
        new, second = await self.colleague(holder), await self.colleague(deputy)
        await self.say(view, HandOver(new.reader, second.reader), content)
        count = 0
        for entry in (*view.conversation.asker, *view.conversation.owner):
            with contextlib.suppress(SealError):  # what this person cannot read cannot be handed on
                count += await self._hand_on(view, entry, [new.reader, second.reader])
        return count

    def read(self, view: View) -> list[Read]:
        """Return a conversation's entries, the oldest first, with what this person can read of them."""
        both = (*view.conversation.asker, *view.conversation.owner)
        entries = sorted(both, key=lambda entry: (entry.header.written_ms, entry.header.side.value, entry.header.number))
        found = []
        for entry in entries:
            try:
                content = unseal(entry.header, view.sealed[entry.digest], self.person.sealing, view.later_wraps[entry.digest])
                found.append(Read(entry, content))
            except SealError as error:
                found.append(Read(entry, None, str(error)))
        return found

    def open_draft(self, delivery: pb.Delivery) -> Read:
        """Return a colleague's draft as this person reads it, before signing it.

        Raises:
            CaseworkError: it cannot be read; do not sign it.
        """
        from vidfed.casework.core.conversation import Entry

        envelope = wire_envelope.from_message(delivery.entry)
        header = read_entry(envelope.payload)
        return Read(Entry(header, envelope.digest), unseal(header, delivery.sealed, self.person.sealing))

    async def hand_on(self, view: View, colleague: str) -> int:
        """Let a colleague who has become an officer read what was said before; return how many entries that person can read now.

        Raises:
            ConversationError: the colleague is no officer, or not known.
            GatewayFailedError: the gateway cannot be reached, or refuses.
        """
        new = await self.colleague(colleague)
        if not new.officer:
            raise ConversationError(f"{new.reader.pseudonym} is no officer whom the trust directory lists")
        count = 0
        for entry in (*view.conversation.asker, *view.conversation.owner):
            with contextlib.suppress(SealError):  # what this person cannot read cannot be handed on
                count += await self._hand_on(view, entry, [new.reader])
        return count

    async def open_for_oversight(self, view: View, entry: Entry, overseer: str) -> OpenedEntry:
        """Open one entry to an overseer, who can check it without a key. It is in the member's log before this returns.

        Raises:
            SealError: this person cannot read it.
            GatewayFailedError: it cannot be logged, so it is not opened.
        """
        content = opening(entry.header, view.sealed[entry.digest], self.person.sealing, view.later_wraps[entry.digest])
        delivery = view.signed[entry.digest]
        opened = OpenedEntry(
            wire_envelope.from_message(delivery.entry),
            tuple(wire_envelope.from_message(each) for each in delivery.credentials),
            content,
            overseer,
            self._source.files(),
        )
        request = pb.OpeningRequest(digest=entry.digest, overseer=overseer, credential=wire_envelope.to_message(self.person.credential))
        with _failures():
            await self._gateway.LogOpening(request, timeout=_TIMEOUT_S)
        return opened

    async def _send(self, hit: Hit, view: View, body: Body, content: Content, cosigner: str | None = None) -> bool:
        officers = [known.reader.sealing_key for known in await self.readers(hit.owner) if known.officer]
        if not officers:
            contact = self.directory.member(hit.owner).contact
            raise ConversationError(f"{hit.owner} has named no officer to whom this could be sealed: call {contact}")
        second = await self.colleague(cosigner) if cosigner else None
        side = Side.ASKER if self.person.member == hit.asker else Side.OWNER
        if decides(side, body):
            self._check_officer(body)
        delivery = write(
            self.person,
            hit,
            view.conversation,
            body,
            content,
            officers=officers,
            now_ms=self._clock(),
            cosigner=(second.reader.pseudonym, second.credential) if second else None,
        )
        with _failures():
            return (await self._gateway.Send(delivery, timeout=_TIMEOUT_S)).draft

    async def _refresh(self) -> None:
        """Ask the gateway for a newer trust directory, now and then: officers come and go. Its copy that does not hold changes nothing."""
        if not 0 <= self._clock() - self._refreshed_ms < REFRESH_S * SECOND_MS:
            self._refreshed_ms = self._clock()
            await asyncio.to_thread(self._source.refresh)

    def _mirrors(self, known: Directory | None) -> list[Mirror]:
        if known is None:
            return []
        if self._trust_channel is None:
            self._trust_channel = blocking_channel(self._kit.gateway, self._kit.tls, known, known.member(self._kit.member))
        return [GrpcMirror("gateway", self._trust_channel)]

    def _check_officer(self, body: Body) -> None:
        if OFFICER_ROLE not in self.roles:
            raise ConversationError(f"{body.kind} is for officers alone: your kit does not have the role {OFFICER_ROLE}")
        listed = self.directory.member(self.person.member).officers
        if listed.find(self.person.pseudonym, self.person.signer.public) is None:
            waits = any(each.key == self.person.signer.public for each in listed.waiting)
            what = "waits for the administrators: vidfed trust propose officers" if waits else "is not in the trust directory"
            raise ConversationError(f"{body.kind} is for officers alone, and your name as one {what}")

    async def _hand_on(self, view: View, entry: Entry, to: list[Reader]) -> bool:
        later = view.later_wraps[entry.digest]
        made = [wrap_for(entry.header, view.sealed[entry.digest], self.person.sealing, reader.sealing_key, later) for reader in to]
        request = pb.HandOnRequest(
            digest=entry.digest,
            wraps=[pb.Wrap(key_id=wrap.key_id, sealed_key=wrap.sealed_key) for wrap in made],
            credential=wire_envelope.to_message(self.person.credential),
        )
        with _failures():
            await self._gateway.HandOn(request, timeout=_TIMEOUT_S)
        return True


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.ABORTED:
            raise MovedOnError(error.details() or "the conversation has moved on") from None
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise GatewayFailedError("the gateway cannot be reached: is it running, is your kit still valid?") from None
        raise GatewayFailedError(f"the gateway says: {error.details() or error.code().name}") from None
