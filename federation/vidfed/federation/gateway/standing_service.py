"""The calls by which own investigators watch, see what is watched, and fetch what was found."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import grpc

from vidfed.casework.errors import CaseworkError, CaseworkStoreError
from vidfed.rpc.channels import peer_certificate
from vidfed.security.errors import DirectoryError, PeerError, SecurityError
from vidfed.security.identity.tls import INVESTIGATOR_ROLE, verify_peer
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1 import gateway_pb2_grpc as rpc
from vidfed.wire.requests import MAX_PARTS
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vidfed.casework.standing.watches import Watch
    from vidfed.federation.gateway.standing import StandingLookups

_Codes = grpc.StatusCode
_log = logging.getLogger(__name__)


class StandingServicer(rpc.StandingGatewayServiceServicer):
    """Each call handed to what does the work; what that raises becomes a status."""

    def __init__(self, standing: StandingLookups) -> None:
        """Take what does the work."""
        self._standing = standing

    async def Watch(  # noqa: N802 - the name in the .proto
        self, request_iterator: AsyncIterator[pb.WatchRequest], context: grpc.aio.ServicerContext[pb.WatchRequest, pb.WatchResponse]
    ) -> pb.WatchResponse:
        """Begin a watch."""
        async with self._refusals(context):
            pseudonym = self._caller(context)
            sent: list[pb.WatchRequest] = []
            async for request in request_iterator:
                if len(sent) == MAX_PARTS:
                    raise PeerError(f"more than {MAX_PARTS} parts")
                sent.append(request)
            await asyncio.to_thread(self._standing.begin, sent, pseudonym)
            self._standing.wake()
        return pb.WatchResponse()

    async def ListWatches(  # noqa: N802 - the name in the .proto
        self, request: pb.ListWatchesRequest, context: grpc.aio.ServicerContext[pb.ListWatchesRequest, pb.ListWatchesResponse]
    ) -> pb.ListWatchesResponse:
        """Say how the caller's watches stand."""
        del request
        async with self._refusals(context):
            found = await asyncio.to_thread(self._standing.listed, self._caller(context))
            members = self._standing.source.current().full_members()
        return pb.ListWatchesResponse(watches=[_state(watch, members) for watch in found])

    async def StopWatch(  # noqa: N802 - the name in the .proto
        self, request: pb.StopWatchRequest, context: grpc.aio.ServicerContext[pb.StopWatchRequest, pb.StopWatchResponse]
    ) -> pb.StopWatchResponse:
        """End one."""
        async with self._refusals(context):
            await asyncio.to_thread(self._standing.stop, request.serial, self._caller(context))
            self._standing.wake()
        return pb.StopWatchResponse()

    async def WatchHits(  # noqa: N802 - the name in the .proto
        self, request: pb.WatchHitsRequest, context: grpc.aio.ServicerContext[pb.WatchHitsRequest, pb.WatchHit]
    ) -> AsyncIterator[pb.WatchHit]:
        """Stream what was found."""
        async with self._refusals(context):
            found = await asyncio.to_thread(self._standing.hits, self._caller(context), request.after)
        for hit in found:
            yield hit

    def _caller(self, context: grpc.aio.ServicerContext[Any, Any]) -> str:
        own = self._standing
        peer = verify_peer(peer_certificate(context), own.source.current(), own.clock())
        if (peer.member, peer.role) != (own.member, INVESTIGATOR_ROLE):
            raise PeerError(f"this gateway serves the persons of {own.member} only")
        return peer.pseudonym

    @contextlib.asynccontextmanager
    async def _refusals(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        try:
            yield
        except (CaseworkStoreError, DirectoryError) as error:
            _log.error("%s", error)
            await context.abort(_Codes.FAILED_PRECONDITION, "the gateway cannot do this right now; see its log")
        except (CaseworkError, SecurityError, WireError) as error:
            await context.abort(_Codes.PERMISSION_DENIED, str(error))


def _state(watch: Watch, members: tuple[str, ...]) -> pb.WatchState:
    named = [each.member for each in watch.members]
    answered = [pb.WatchMember(member=each.member, watched_until_ms=each.watched_until_ms, trouble=each.trouble) for each in watch.members]
    return pb.WatchState(
        serial=watch.serial,
        ends_ms=watch.ends_ms,
        ended_ms=watch.ended_ms,
        members=answered,
        not_asked=[] if watch.ended_ms is not None else [member for member in members if member not in named],
    )
