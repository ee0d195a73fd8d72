"""The trust directory over gRPC: every node and gateway hands out what it holds; whoever takes it believes none of it unverified."""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from vidfed.rpc.channels import blocking_channel, peer_certificate, server_text, unknown_member_channel
from vidfed.rpc.turns import CrowdedError, Turns
from vidfed.security.clock import SECOND_MS
from vidfed.security.errors import DirectoryError, PeerError, SecurityError
from vidfed.security.identity.tls import verify_peer
from vidfed.security.trust.entry import Entry
from vidfed.v1 import trust_pb2 as pb
from vidfed.v1 import trust_pb2_grpc as rpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vidfed.security.clock import Clock
    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.identity.directory import Directory, Member
    from vidfed.security.identity.tls import Peer
    from vidfed.security.trust.client import TufDirectory
    from vidfed.security.trust.federation import FederationFolder

PEERS_ASKED = 3  # in each refresh, chosen anew: an honest one is met soon, and 194 members do not all ask the same
MAX_ENTRY_BYTES = 512 * 1024
"""Of a member's entry: its two files as base64 with its role."""
ATTEMPT_MS = 2 * SECOND_MS
"""Between two attempts of a member to publish."""
REFRESH_LONGEST_S = 30.0
"""For all calls of one refresh from other members: one that answers each file at the last moment must not hold up the next refresh."""
_CALL_S = 10.0
_log = logging.getLogger(__name__)
Enter = Callable[[grpc.aio.ServicerContext[Any, Any]], Awaitable[object]]
"""What a service does first with each call: counts it among its caller's, or ends it."""


@dataclass(frozen=True, slots=True)
class GrpcMirror:
    """One member's node, or one's own gateway, as a place to take the directory's files from. Blocking: not for the event loop."""

    name: str
    channel: grpc.Channel
    until_s: float = math.inf

    def open(self, path: str) -> Iterator[bytes]:
        """Yield the file's content; see `Mirror.open`."""
        left_s = min(_CALL_S, self.until_s - time.monotonic())
        if left_s <= 0:
            raise OSError(0, f"too slow: a refresh takes {REFRESH_LONGEST_S:.0f} s at most")
        try:
            response = rpc.TrustServiceStub(self.channel).GetMetadata(pb.GetMetadataRequest(name=path), timeout=left_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise FileNotFoundError(path) from None
            raise OSError(0, f"{error.code().name.lower().replace('_', ' ')}") from None
        yield response.content

    def stamp(self) -> object:
        """Return None: it cannot be told without asking."""
        return None


class PeerMirrors:
    """Some other members' nodes, chosen anew for each refresh; their connections last for one refresh."""

    def __init__(self, member: str, own_tls: Callable[[], TlsIdentity], federation: str = "", addresses: Sequence[str] = ()) -> None:
        """Name whom to ask.

        Args:
            member: the own one, which is not asked.
            own_tls: gives the own node's certificate.
            federation: of the addresses.
            addresses: `host:port` of nodes that are asked too, whoever they are: for one who knows no member that can be reached.
        """
        self._member = member
        self._own_tls = own_tls
        self._federation = federation
        self._addresses = tuple(addresses)
        self._open = contextlib.ExitStack()
        self._until_s = math.inf

    def __call__(self, known: Directory | None) -> list[GrpcMirror]:
        """Return the mirrors to ask now."""
        self.close()
        self._until_s = time.monotonic() + REFRESH_LONGEST_S
        others = [member for member in known.members.values() if member.id != self._member] if known else []
        chosen = secrets.SystemRandom().sample(others, min(PEERS_ASKED, len(others)))
        mirrors = [self._mirror(known, member) for member in chosen] if known else []
        return mirrors + [mirror for address in self._addresses if (mirror := self._stranger(address))]

    def close(self) -> None:
        """Close the connections of the last refresh."""
        self._open.close()
        self._open = contextlib.ExitStack()

    def _stranger(self, address: str) -> GrpcMirror | None:
        try:
            channel = unknown_member_channel(address, self._own_tls(), self._federation)
        except OSError as error:
            _log.warning("trust directory: %s: %s", address, error.strerror or error)
            return None
        self._open.callback(channel.close)
        return GrpcMirror(address, channel, self._until_s)

    def _mirror(self, known: Directory, member: Member) -> GrpcMirror:
        channel = blocking_channel(member.endpoint, self._own_tls(), known, member)
        self._open.callback(channel.close)
        return GrpcMirror(f"node of {member.id}", channel, self._until_s)


class Attempts:
    """How often each member may try to publish: once at a time, and once in ATTEMPT_MS. What is refused costs the publisher work too."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._last_ms: dict[str, int] = {}

    def admit(self, member: str, now_ms: int) -> bool:
        """Tell whether a member may try now; if so, it is trying until `ended`."""
        if member in self._running or 0 <= now_ms - self._last_ms.get(member, -ATTEMPT_MS) < ATTEMPT_MS:
            return False
        self._running.add(member)
        self._last_ms[member] = now_ms
        return True

    def ended(self, member: str) -> None:
        """Note that a member's attempt is over."""
        self._running.discard(member)


class TrustServicer(rpc.TrustServiceServicer):
    """Hands out the files of the directory held, also of an expired one: who takes them judges them."""

    def __init__(
        self,
        source: TufDirectory,
        allowed: Callable[[Peer], bool],
        clock: Clock,
        publisher: FederationFolder | None = None,
        *,
        turns: Turns | None = None,
        enter: Enter | None = None,
    ) -> None:
        """Serve `source`.

        Args:
            source: whose files.
            allowed: which verified peers may have them.
            clock: the time.
            publisher: the folder with the online key, if this is where members' entries are published.
            turns: gives the work a thread; of its own if None.
            enter: awaited first for each call: counts it among its member's, or ends it.
        """
        self._turns = turns or Turns()
        self._enter = enter
        self._source = source
        self._allowed = allowed
        self._clock = clock
        self._publisher = publisher
        self._attempts = Attempts()

    async def GetMetadata(  # noqa: N802 - the name in the .proto
        self, request: pb.GetMetadataRequest, context: grpc.aio.ServicerContext[pb.GetMetadataRequest, pb.GetMetadataResponse]
    ) -> pb.GetMetadataResponse:
        """Hand out one file."""
        peer = await self._admitted(context)
        try:
            content = await self._turns.run(_who(peer), lambda: b"".join(self._source.held.open(request.name)))
        except CrowdedError:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls of this caller wait; ask again later")
        except OSError:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")
        return pb.GetMetadataResponse(content=content)

    async def SubmitEntry(  # noqa: N802 - the name in the .proto
        self, request: pb.SubmitEntryRequest, context: grpc.aio.ServicerContext[pb.SubmitEntryRequest, pb.SubmitEntryResponse]
    ) -> pb.SubmitEntryResponse:
        """Publish a member's newer entry."""
        peer = await self._admitted(context)
        if self._publisher is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "entries are published elsewhere")
        if not self._attempts.admit(peer.member, self._clock()):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"one attempt at a time, and one in {ATTEMPT_MS // SECOND_MS} s")
        try:
            publisher = self._publisher
            version = await self._turns.run(_who(peer), lambda: self._publish(publisher, request.entry, peer.member))
        except CrowdedError:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls of this caller wait; ask again later")
        except SecurityError as error:
            _log.warning("refused an entry from %s: %s", peer.member, error)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        finally:
            self._attempts.ended(peer.member)
        _log.info("published version %d of the entry of %s", version, peer.member)
        return pb.SubmitEntryResponse()

    @staticmethod
    def _publish(publisher: FederationFolder, content: bytes, member: str) -> int:
        """Read and publish an entry. Not in the event loop: signatures are verified, and files written."""
        if len(content) > MAX_ENTRY_BYTES:
            raise DirectoryError(f"an entry of {len(content)} bytes, at most {MAX_ENTRY_BYTES} are read")
        entry = Entry.from_json(content, "entry")
        if entry.member.id != member:
            raise DirectoryError(f"a node of {member} cannot submit the entry of {entry.member.id}")
        publisher.accept_submitted(entry)
        return entry.version

    async def _admitted(self, context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
        if self._enter is not None:
            await self._enter(context)
        known = self._source.last_known
        try:
            if known is None:
                raise PeerError("nothing is known yet")
            peer = verify_peer(peer_certificate(context), known, self._clock())
            if not self._allowed(peer):
                raise PeerError("not for this peer")
        except PeerError as error:
            _log.warning("refused the trust directory to a caller: %s", error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not a member")
        return peer


def _who(peer: Peer) -> str:
    return f"{peer.member}/{peer.pseudonym}" if peer.pseudonym else peer.member


def submit_entry(entry: bytes, own_tls: TlsIdentity, directory: Directory, publisher: Member) -> None:
    """Hand a newer entry to the member whose node publishes.

    Raises:
        DirectoryError: it is refused, or the node cannot be reached; the message says which.
    """
    with blocking_channel(publisher.endpoint, own_tls, directory, publisher) as channel:
        try:
            rpc.TrustServiceStub(channel).SubmitEntry(pb.SubmitEntryRequest(entry=entry), timeout=_CALL_S)
        except grpc.RpcError as error:
            raise DirectoryError(f"node of {publisher.id}: {server_text(error)}") from None
