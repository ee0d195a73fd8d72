"""Takes entries to other members until each has its receipt, and fetches back what was lost here. Runs beside a node's lookups."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import grpc

from vidfed.casework.carriage.sending import After
from vidfed.casework.errors import CaseworkStoreError
from vidfed.casework.storage import conversations as store
from vidfed.rpc.channels import open_channel
from vidfed.security.errors import AuditError, SecurityError
from vidfed.v1 import casework_pb2 as pb
from vidfed.v1 import casework_pb2_grpc as rpc
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework_values import CONVERSATION_BYTES, MAX_CARDS, MAX_ENTRIES, MAX_FETCHED, Side
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vidfed.casework.carriage.sending import Sender
    from vidfed.casework.storage.outbox import Waiting
    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.security.identity.directory import DirectorySource

_log = logging.getLogger(__name__)
IDLE_S = 1.0  # between two looks: another process, the gateway, may have put something in
TROUBLED_S = 30.0  # after the store or log failed
CALL_S = 20.0
_MAX_PAGES = MAX_ENTRIES  # of a Fetch: each brings one entry at least, or is the last


class Transport(Protocol):
    """How other members' nodes are reached."""

    async def deliver(self, member: str, delivery: pb.Delivery) -> Envelope:
        """Return the receipt, unverified.

        Raises:
            OSError: the member could not be reached; the message says why.
            WireError, SecurityError: it answered nonsense, or is not known.
        """

    async def fetch(self, member: str, request: pb.FetchRequest) -> Sequence[pb.Delivery]:
        """Return a piece of a chain, unverified.

        Raises:
            OSError, SecurityError: as `deliver`.
        """


class OfficerSource(Protocol):
    """How other members' officers are asked for."""

    async def officers(self, member: str) -> Sequence[pb.ReaderCard]:
        """See `GrpcTransport`."""


class GrpcTransport:
    """Other members' nodes over the federation's TLS, each call over a connection of its own: they are few."""

    def __init__(self, own_tls: Callable[[], TlsIdentity], directory_source: DirectorySource) -> None:
        """Take what gives this member's node certificate, and the directory."""
        self._own_tls = own_tls
        self._source = directory_source

    async def deliver(self, member: str, delivery: pb.Delivery) -> Envelope:
        """See `Transport`."""
        async with self._channel(member) as channel:
            try:
                return wire_envelope.from_message(await rpc.CaseworkServiceStub(channel).Deliver(delivery, timeout=CALL_S))
            except grpc.aio.AioRpcError as error:
                raise _unreached(member, error) from None

    async def fetch(self, member: str, request: pb.FetchRequest) -> Sequence[pb.Delivery]:
        """See `Transport`."""
        async with self._channel(member) as channel:
            try:
                response = await rpc.CaseworkServiceStub(channel).Fetch(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                raise _unreached(member, error) from None
            return list(response.entries)[:MAX_FETCHED]

    async def notify(self, member: str, news: Envelope) -> Envelope:
        """Return the receipt for news, unverified.

        Raises:
            OSError: the member could not be reached; the message says why.
            WireError, SecurityError: it answered nonsense, or is not known.
        """
        async with self._channel(member) as channel:
            try:
                answer = await rpc.CaseworkServiceStub(channel).Notify(wire_envelope.to_message(news), timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                raise _unreached(member, error) from None
            return wire_envelope.from_message(answer)

    async def end_mandates(self, member: str, end: Envelope) -> None:
        """Tell a member's node that mandates have ended.

        Raises:
            OSError: the member could not be reached, or does not take it; the message says why.
            SecurityError: it is not known.
        """
        async with self._channel(member) as channel:
            try:
                await rpc.CaseworkServiceStub(channel).EndMandates(wire_envelope.to_message(end), timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                raise _unreached(member, error) from None

    async def officers(self, member: str) -> Sequence[pb.ReaderCard]:
        """Return the cards that a member's node gives of its officers, unverified.

        Raises:
            OSError, SecurityError: the member could not be reached, or is not known.
        """
        async with self._channel(member) as channel:
            try:
                response = await rpc.CaseworkServiceStub(channel).GetOfficers(pb.GetOfficersRequest(), timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                raise _unreached(member, error) from None
            return list(response.cards)[:MAX_CARDS]

    def _channel(self, member: str) -> grpc.aio.Channel:
        directory = self._source.current()
        entry = directory.member(member)
        return open_channel(entry.endpoint, self._own_tls(), directory, entry)


def _unreached(member: str, error: grpc.aio.AioRpcError) -> OSError:
    return OSError(f"{member}: {(error.details() or error.code().name).strip():.200}")


class Courier:
    """Works through one member's outbox. One process of a member runs it; two would do no harm."""

    def __init__(self, sender: Sender, transport: Transport) -> None:
        """Take what decides, and how members are reached."""
        self._sender = sender
        self._transport = transport
        self._wake = asyncio.Event()
        self._heard: set[str] = set()

    def wake(self) -> None:
        """Look into the outbox now."""
        self._wake.set()

    def heard_of(self, member: str) -> None:
        """Try a member's entries soon: it has just called, so it is up."""
        self._heard.add(member)

    async def run(self) -> None:
        """Deliver until cancelled. What fails is tried again; nothing ends this but its end."""
        while True:
            pause_s = IDLE_S
            try:
                if await self.round():
                    continue
            except (CaseworkStoreError, AuditError, SecurityError) as error:
                _log.error("ALARM: entries wait and cannot be sent: %s", error)
                pause_s = TROUBLED_S
            except Exception:  # noqa: BLE001 - entries must go out whatever one of them did
                _log.exception("ALARM: a defect while entries were being sent")
                pause_s = TROUBLED_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def round(self) -> int:
        """Try what is due now, each conversation by itself; return how many entries were tried.

        Raises:
            CaseworkStoreError, AuditError, SecurityError: what came of it cannot be stored; it is tried again.
        """
        heard, self._heard = self._heard, set()
        due = await asyncio.to_thread(self._sender.due, heard)
        results = await asyncio.gather(*(self._try(*each) for each in due), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(due)

    async def _try(self, waiting: Waiting, delivery: pb.Delivery) -> None:
        try:
            answer = await self._transport.deliver(waiting.member, delivery)
        except (OSError, WireError, SecurityError) as error:
            await asyncio.to_thread(self._sender.failed, waiting, str(error))
            return
        after = await asyncio.to_thread(self._sender.answered, waiting, answer)
        if after is After.FETCH_OWN:
            await self.recover(waiting.member, waiting.conversation, set())

    async def recover(self, member: str, conversation: bytes, sought: set[bytes]) -> None:
        """Fetch own entries that were lost here, and put them back.

        Args:
            member: who holds them.
            conversation: which.
            sought: takes the conversation in once the member has answered.
        """
        assert len(conversation) == CONVERSATION_BYTES  # noqa: S101 - from a header that was read
        try:
            for _ in range(_MAX_PAGES):
                side, number = await asyncio.to_thread(self._place, member, conversation)
                request = pb.FetchRequest(conversation=conversation, side=side.value, from_number=number)
                found = await self._transport.fetch(member, request)
                sought.add(conversation)
                if not await asyncio.to_thread(self._sender.adopt, member, found):
                    return
                self._wake.set()
        except (OSError, WireError, SecurityError, CaseworkStoreError) as error:
            _log.error("own entries held by %s could not be fetched: %s", member, error)

    def _place(self, member: str, conversation: bytes) -> tuple[Side, int]:
        """Return our side of a conversation, and the first number that is missing."""
        with self._sender.context.database.reading() as connection:
            known = store.load(connection, conversation)
        first = known.first
        if first is None:  # all of it was lost: the owner's entries alone cannot be, they answer something
            return Side.ASKER, 1
        side = Side.ASKER if first.asker == self._sender.context.member else Side.OWNER
        del member
        return side, len(known.side(side)) + 1
