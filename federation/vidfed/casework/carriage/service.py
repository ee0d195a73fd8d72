"""The calls: other members' nodes deliver and fetch, own persons send and look. gRPC over mutual TLS, work in threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc

from vidfed.casework.errors import CaseworkError, CaseworkStoreError, LaterError, MovedOnError, RefusedError
from vidfed.casework.standing.ending import Endings
from vidfed.rpc.channels import peer_certificate
from vidfed.security.clock import MINUTE_MS
from vidfed.security.errors import AuditError, DirectoryError, PeerError, SecurityError
from vidfed.security.identity.credentials import verify_credential
from vidfed.security.identity.tls import INVESTIGATOR_ROLE, NODE_ROLE, verify_peer
from vidfed.v1 import casework_pb2 as pb
from vidfed.v1 import casework_pb2_grpc as rpc
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Executor

    from vidfed.casework.carriage.courier import Courier, OfficerSource
    from vidfed.casework.carriage.persons import PersonCore
    from vidfed.casework.carriage.readers import ReaderBook
    from vidfed.casework.carriage.receiving import Receiver
    from vidfed.casework.news.carrying import NewsReceiver
    from vidfed.v1.envelope_pb2 import Envelope

OFFICERS_FRESH_MS = 5 * MINUTE_MS  # an officer who left is not sealed to for much longer, and a member's node is not asked all the time
MAX_CALLS_OF_MEMBER = 8  # at once: a sender has one entry of each conversation under way
_log = logging.getLogger(__name__)
_Codes = grpc.StatusCode


class CaseworkServicer(rpc.CaseworkServiceServicer):
    """What other members' nodes call."""

    def __init__(self, receiver: Receiver, news: NewsReceiver, courier: Courier, readers: ReaderBook, threads: Executor) -> None:
        """Take what decides on entries and on news, what fetches lost entries back, who the officers are, and the threads of this lane."""
        self._news = news
        self._readers = readers
        self._receiver = receiver
        self._courier = courier
        self._threads = threads
        self._running: Counter[str] = Counter()
        self._background: set[asyncio.Task[None]] = set()

    async def Deliver(  # noqa: N802 - the name in the .proto
        self, request: pb.Delivery, context: grpc.aio.ServicerContext[pb.Delivery, Envelope]
    ) -> Envelope:
        """Take an entry; the reply is a signed receipt."""
        async with self._admitted(context) as peer:
            receipt = await self._run(self._receiver.deliver, request, peer)
        while self._receiver.lost:
            self._later(self._courier.recover(*self._receiver.lost.pop(), self._receiver.sought))
        self._courier.heard_of(peer)
        return wire_envelope.to_message(receipt)

    async def Notify(  # noqa: N802 - the name in the .proto
        self, request: Envelope, context: grpc.aio.ServicerContext[Envelope, Envelope]
    ) -> Envelope:
        """Take news; the reply is a signed receipt."""
        async with self._admitted(context) as peer:
            receipt = await self._run(self._news.notify, wire_envelope.from_message(request), peer)
        return wire_envelope.to_message(receipt)

    async def EndMandates(  # noqa: N802 - the name in the .proto
        self, request: Envelope, context: grpc.aio.ServicerContext[Envelope, pb.EndMandatesResponse]
    ) -> pb.EndMandatesResponse:
        """Keep which mandates of the caller's member have ended."""
        async with self._admitted(context) as peer:
            try:
                await self._run(Endings(self._receiver.context).take, wire_envelope.from_message(request), peer)
            except RefusedError as error:
                await context.abort(_Codes.INVALID_ARGUMENT, str(error))
            except (CaseworkStoreError, DirectoryError) as error:
                _log.error("%s", error)
                await context.abort(_Codes.UNAVAILABLE, "mandates cannot be ended right now")
        return pb.EndMandatesResponse()

    async def Fetch(  # noqa: N802 - the name in the .proto
        self, request: pb.FetchRequest, context: grpc.aio.ServicerContext[pb.FetchRequest, pb.FetchResponse]
    ) -> pb.FetchResponse:
        """Give a piece of a chain to one of its two members."""
        async with self._admitted(context) as peer:
            try:
                response: pb.FetchResponse = await self._run(self._receiver.fetch, request, peer)
            except CaseworkStoreError as error:
                _log.error("%s", error)
                await context.abort(_Codes.UNAVAILABLE, "conversations cannot be read right now")
        return response

    async def GetOfficers(  # noqa: N802 - the name in the .proto
        self, request: pb.GetOfficersRequest, context: grpc.aio.ServicerContext[pb.GetOfficersRequest, pb.ReaderCards]
    ) -> pb.ReaderCards:
        """Give the own officers' cards."""
        del request
        async with self._admitted(context):
            try:
                cards: pb.ReaderCards = await self._run(self._readers.officer_cards)
            except (CaseworkStoreError, DirectoryError) as error:
                _log.error("%s", error)
                await context.abort(_Codes.UNAVAILABLE, "officers cannot be named right now")
        return cards

    @contextlib.asynccontextmanager
    async def _admitted(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[str]:
        try:
            directory = self._receiver.context.directory_source.current()
            peer = verify_peer(peer_certificate(context), directory, self._receiver.context.clock())
            if peer.role != NODE_ROLE or peer.member == self._receiver.context.member:
                raise PeerError("not another member's node")
        except SecurityError as error:
            _log.warning("refused a caller: %s", error)
            await context.abort(_Codes.UNAUTHENTICATED, "not a member's node")
        if self._running[peer.member] >= MAX_CALLS_OF_MEMBER:
            await context.abort(_Codes.RESOURCE_EXHAUSTED, "this member has too many calls under way")
        self._running[peer.member] += 1
        try:
            yield peer.member
        finally:
            self._running[peer.member] -= 1
            if not self._running[peer.member]:
                del self._running[peer.member]

    async def _run(self, work: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - whatever the work returns
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _later(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """End what goes on in the background."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)


class PersonServicer(rpc.CaseworkGatewayServiceServicer):
    """What the own member's persons call."""

    def __init__(self, core: PersonCore, readers: ReaderBook, transport: OfficerSource, threads: Executor) -> None:
        """Take what decides, who can be sealed to, how other members' officers are asked for, and the threads of this lane."""
        self._core = core
        self._readers = readers
        self._transport = transport
        self._threads = threads
        self._fetched_ms: dict[str, int] = {}

    async def Send(  # noqa: N802 - the name in the .proto
        self, request: pb.Delivery, context: grpc.aio.ServicerContext[pb.Delivery, pb.SendResponse]
    ) -> pb.SendResponse:
        """Take an entry that the caller signed."""
        async with _refusals(context):
            pseudonym = self._caller(context)
            sent = await self._run(self._core.send, request, pseudonym)
        return pb.SendResponse(entry=sent.message, draft=sent.draft)

    async def Inbox(  # noqa: N802 - the name in the .proto
        self, request: pb.InboxRequest, context: grpc.aio.ServicerContext[pb.InboxRequest, pb.KeptEntry]
    ) -> AsyncIterator[pb.KeptEntry]:
        """Stream what there is for the caller."""
        async with _refusals(context):
            pseudonym = self._caller(context)
            roles = self._roles(request.credential, pseudonym)
            kept = await self._run(self._core.inbox, pseudonym, roles, request.after, request.conversation)
        for each in kept:
            yield each

    async def HandOn(  # noqa: N802 - the name in the .proto
        self, request: pb.HandOnRequest, context: grpc.aio.ServicerContext[pb.HandOnRequest, pb.HandOnResponse]
    ) -> pb.HandOnResponse:
        """Let further persons of the member read an entry."""
        async with _refusals(context):
            pseudonym = self._caller(context)
            roles = self._roles(request.credential, pseudonym)
            await self._run(self._core.hand_on, request.digest, request.wraps, pseudonym, roles)
        return pb.HandOnResponse()

    async def LogOpening(  # noqa: N802 - the name in the .proto
        self, request: pb.OpeningRequest, context: grpc.aio.ServicerContext[pb.OpeningRequest, pb.OpeningResponse]
    ) -> pb.OpeningResponse:
        """Log that a person opens an entry to an overseer."""
        async with _refusals(context):
            pseudonym = self._caller(context)
            roles = self._roles(request.credential, pseudonym)
            await self._run(self._core.log_opening, request.digest, request.overseer, pseudonym, roles)
        return pb.OpeningResponse()

    async def News(  # noqa: N802 - the name in the .proto
        self, request: pb.NewsRequest, context: grpc.aio.ServicerContext[pb.NewsRequest, pb.KeptNews]
    ) -> AsyncIterator[pb.KeptNews]:
        """Stream what became of records that the caller was told."""
        async with _refusals(context):
            pseudonym = self._caller(context)
            self._roles(request.credential, pseudonym)
            kept = await self._run(self._core.news, pseudonym, request.after)
        for each in kept:
            yield each

    async def Register(  # noqa: N802 - the name in the .proto
        self, request: pb.RegisterRequest, context: grpc.aio.ServicerContext[pb.RegisterRequest, pb.RegisterResponse]
    ) -> pb.RegisterResponse:
        """Take the caller's card in."""
        async with _refusals(context):
            await self._run(self._readers.register, request.card, self._caller(context))
        return pb.RegisterResponse()

    async def GetReaders(  # noqa: N802 - the name in the .proto
        self, request: pb.GetReadersRequest, context: grpc.aio.ServicerContext[pb.GetReadersRequest, pb.ReaderCards]
    ) -> pb.ReaderCards:
        """Give the cards of a member's persons; another member is asked for its officers, if it was not just now."""
        async with _refusals(context):
            self._caller(context)
            own = self._core.context
            now_ms = own.clock()
            if request.member != own.member and now_ms - self._fetched_ms.get(request.member, 0) > OFFICERS_FRESH_MS:
                own.directory_source.current().member(request.member)
                try:
                    officers = await self._transport.officers(request.member)
                    await self._run(self._readers.take, request.member, officers)
                    if officers:  # who has none may have one in a moment
                        self._fetched_ms[request.member] = now_ms
                except OSError as error:  # those known from before may do
                    _log.warning("officers could not be asked for: %s", error)
            found = await self._run(self._readers.known, request.member)
        return pb.ReaderCards(cards=[card for _, card in found])

    def _caller(self, context: grpc.aio.ServicerContext[Any, Any]) -> str:
        own = self._core.context
        peer = verify_peer(peer_certificate(context), own.directory_source.current(), own.clock())
        if (peer.member, peer.role) != (own.member, INVESTIGATOR_ROLE):
            raise PeerError(f"this gateway serves the persons of {own.member} only")
        return peer.pseudonym

    def _roles(self, message: Envelope, pseudonym: str) -> tuple[str, ...]:
        """Return the caller's roles, by a credential that holds now: a revoked kit reads nothing."""
        own = self._core.context
        directory = own.directory_source.current()
        member = directory.member(own.member)
        credential = verify_credential(
            wire_envelope.from_message(message),
            federation=directory.federation,
            member=own.member,
            member_keys=member.signing_keys,
            now_ms=own.clock(),
            revoked=member.revoked,
        )
        if credential.pseudonym != pseudonym:
            raise PeerError("the credential is another person's than the TLS certificate")
        return credential.roles

    async def _run(self, work: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - whatever the work returns
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


@contextlib.asynccontextmanager
async def _refusals(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Turn what is raised on purpose into statuses."""
    try:
        yield
    except (AuditError, CaseworkStoreError) as error:
        _log.error("%s", error)
        await context.abort(_Codes.FAILED_PRECONDITION, "the gateway cannot store or log this right now; nothing was sent")
    except (MovedOnError, LaterError) as error:
        await context.abort(_Codes.ABORTED, str(error))
    except DirectoryError as error:
        await context.abort(_Codes.FAILED_PRECONDITION, str(error))
    except (CaseworkError, SecurityError, WireError) as error:
        _log.warning("refused: %s", error)
        await context.abort(_Codes.PERMISSION_DENIED, str(error))
