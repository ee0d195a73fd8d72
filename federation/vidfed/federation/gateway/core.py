"""What a gateway does with a lookup, apart from the network it comes by. The steps are methods, in this order.

1. `Admission.authenticate`: the TLS peer is an investigator of this member.
2. `Admission.verify_credential`: its credential holds and is the same person's.
3. `Admission.read_request`: the signature holds over the bytes as received; only then they are read.
4. `Admission.check_request`: the request comes from this member and person, now, for this call.
5. `AuditTrail.asked`: the audit log has it.
6. `GatewayCore.countersign`: the member's signature is added to the same envelope, and the nodes are asked.
7. `AuditTrail.received`: the audit log has each reply before the investigator has it, and before it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from vidfed.federation.gateway.admission import Admission
from vidfed.federation.gateway.group_commit import GroupCommit
from vidfed.federation.lookup.errors import BusyError, MailboxError
from vidfed.federation.lookup.sealing import KEY_BYTES, seal
from vidfed.federation.nodes.gather import Gathering
from vidfed.federation.nodes.outgoing import OutgoingLookup
from vidfed.federation.nodes.relay import Chunk, relay
from vidfed.security.clock import SECOND_MS, system_clock
from vidfed.security.errors import AuditError, PeerError, SecurityError
from vidfed.security.member.issued import Standing
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.statuses import MalformedError, WireError
from vidfed.wire.values import GATEWAY_GRACE_S, LOOKUP_METHOD, STREAM_METHOD, Urgency

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

    from vidfed.federation.gateway.audit_trail import AuditTrail
    from vidfed.federation.gateway.mailbox import Mailbox
    from vidfed.federation.gateway.settings import GatewaySection
    from vidfed.federation.lookup.contract import MailboxEntry
    from vidfed.federation.nodes.pool import NodePool
    from vidfed.security.clock import Clock
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.security.identity.directory import Directory, DirectorySource
    from vidfed.security.identity.tls import Peer
    from vidfed.security.member.home import MemberHome
    from vidfed.v1 import audit_pb2 as audit_pb
    from vidfed.v1 import gateway_pb2 as pb
    from vidfed.wire.values import LookupRequest

_log = logging.getLogger(__name__)
_KEPT_TOGETHER = 32  # replies sealed by one thread before their callers go on


class _ToKeep(NamedTuple):
    lookup: bytes
    reply: pb.NodeReply
    key: bytes


class GatewayCore:
    """Serves one member's investigators. Every caller names itself with its TLS certificate (PEM)."""

    def __init__(
        self,
        home: MemberHome,
        section: GatewaySection,
        source: DirectorySource,
        nodes: NodePool,
        trail: AuditTrail,
        mailbox: Mailbox | None = None,
        clock: Clock = system_clock,
    ) -> None:
        """Open the core.

        Args:
            home: the member's folder.
            section: its `[gateway]`.
            source: gives the trust directory.
            nodes: asks the members' nodes.
            trail: writes the audit log.
            mailbox: keeps replies for later; None: nothing is kept.
            clock: gives the time.
        """
        self._home = home
        self._section = section
        self.nodes = nodes
        self._trail = trail
        self._mailbox = mailbox
        self._mailing = GroupCommit(self._keep, _KEPT_TOGETHER)
        self._clock = clock
        self.admission = Admission(home.member, source, Standing(home), clock)
        self._running: Counter[str] = Counter()
        self._late: set[asyncio.Task[None]] = set()

    @property
    def source(self) -> DirectorySource:
        """Gives the trust directory."""
        return self.admission.source

    @property
    def running(self) -> int:
        """How many lookups are under way."""
        return self._running.total()

    async def lookup(
        self, call: LookupCall, leaf_pem: bytes, time_left_s: float, on_kept: Callable[[int], object] = lambda _until_ms: None
    ) -> AsyncGenerator[pb.NodeReply, None]:
        """Ask the request's audience; yield each node's reply as it comes.

        Args:
            call: what the investigator sent.
            leaf_pem: of the caller.
            time_left_s: how long the caller waits.
            on_kept: called before the first reply if replies are kept, with the time until which they are collected.

        Raises:
            SecurityError, WireError: a step refuses.
            AuditError: the log cannot be written; no further reply is handed on.
            BusyError: there are as many lookups as there may be.
        """
        directory = self.source.current()
        peer = self.admission.authenticate(leaf_pem, directory)  # 1
        with self._one_more(peer):
            envelope, request = await self._admit(call, peer, directory)  # 2 to 4
            directory = self.source.current()  # admitting may have shown that there is a newer one
            digest = envelope.digest
            await self._trail.asked(request, digest)  # 5
            # The caller's own deadline leaves time to hear which nodes did not answer; a call without one is not of our client.
            deadline_s = max(0.0, min(self._section.deadline_s, time_left_s - GATEWAY_GRACE_S))
            members = [directory.members[member] for member in dict.fromkeys(request.header.audience) if member in directory.members]
            until_ms = await self._begin_to_keep(call.keep_for, digest, peer, len(members), deadline_s)
            if until_ms:
                on_kept(until_ms)
            to_nodes = self.countersign(call, envelope)  # 6
            urgent = request.header.urgency is Urgency.LIFE_AT_RISK
            outgoing = OutgoingLookup(to_nodes, directory, deadline_s, self._section.late_s if until_ms else 0.0, urgent)

            async def take(reply: pb.NodeReply) -> None:  # 7
                await self._trail.received(request, digest, reply)
                if until_ms:
                    await self._mailing.add(_ToKeep(digest, reply, call.keep_for))

            collection = Gathering(self.nodes, outgoing, members, take)
            try:
                async for reply in collection.replies():
                    yield reply
            finally:
                # Also when the caller has gone: what it asked to have kept is collected without it.
                if until_ms and len(self._late) < self._section.max_lookups:
                    task = asyncio.create_task(collection.go_on())
                    self._late.add(task)
                    task.add_done_callback(self._late.discard)
                else:
                    await collection.end()

    async def lookup_stream(self, calls: AsyncIterator[LookupCall], leaf_pem: bytes) -> AsyncGenerator[pb.NodeReply, None]:
        """Ask chunk by chunk; yield the nodes' replies as they come; see `stream`. Nothing of it is kept: whoever asks asks again.

        Args:
            calls: the chunks, as the investigator sends them.
            leaf_pem: of the caller.

        Raises:
            SecurityError, WireError: a step refuses a chunk; the stream ends.
            AuditError: the log cannot be written; no further reply is handed on.
            BusyError: there are as many lookups as there may be.
        """

        async def take(chunk: Chunk, reply: pb.NodeReply) -> None:  # 7
            await self._trail.received(chunk.request, chunk.digest, reply)

        with self._one_more(self.admission.authenticate(leaf_pem, self.source.current())):
            async with contextlib.aclosing(relay(self._chunks(calls, leaf_pem), self.nodes, take)) as replies:
                async for reply in replies:
                    yield reply

    async def _chunks(self, calls: AsyncIterator[LookupCall], leaf_pem: bytes) -> AsyncIterator[Chunk]:
        """Take each chunk through all steps: what was trusted when the stream began may not be any more."""
        audience: tuple[str, ...] | None = None
        async for call in calls:
            directory = self.source.current()
            peer = self.admission.authenticate(leaf_pem, directory)  # 1
            envelope, request = await self._admit(call, peer, directory, STREAM_METHOD)  # 2 to 4
            if request.header.audience != (audience or request.header.audience):
                raise PeerError("a chunk is to other members than those before it in its stream")
            audience = request.header.audience
            digest = envelope.digest
            await self._trail.asked(request, digest)  # 5
            to_nodes = self.countersign(call, envelope)  # 6
            urgent = request.header.urgency is Urgency.LIFE_AT_RISK
            yield Chunk(request, digest, OutgoingLookup(to_nodes, directory, self._section.deadline_s, urgent=urgent))

    async def proof(self, request: pb.GetMemberProofRequest, leaf_pem: bytes) -> audit_pb.GetProofResponse:
        """Fetch a node's proof for an investigator of this member, who checks it.

        Raises:
            SecurityError: not for this caller, or of no member.
            UnreachableError, grpc.aio.AioRpcError: the node gives none.
        """
        directory = self.source.current()
        self.admission.authenticate(leaf_pem, directory)
        return await self.nodes.proof(request.proof, directory.member(request.member), directory)

    async def mailbox_entries(self, leaf_pem: bytes) -> list[MailboxEntry]:
        """Return what is kept of the caller's own lookups.

        Raises:
            SecurityError: not for this caller.
            MailboxError: it cannot be read.
        """
        peer = self.admission.authenticate(leaf_pem, self.source.current())
        return await asyncio.to_thread(self._mailbox.listed, self.admission.owner(peer)) if self._mailbox else []

    async def fetch(self, lookup: bytes, leaf_pem: bytes) -> list[tuple[str, bytes]]:
        """Return (member, sealed reply) of one of the caller's own lookups; the audit log has it before.

        Raises:
            SecurityError: not for this caller.
            MailboxError: nothing is kept under this id for this person.
            AuditError: the log cannot be written.
        """
        peer = self.admission.authenticate(leaf_pem, self.source.current())
        if self._mailbox is None:
            raise MailboxError("this gateway keeps no lookups")
        replies = await asyncio.to_thread(self._mailbox.fetch, lookup, self.admission.owner(peer))
        await self._trail.fetched(peer.pseudonym, lookup, len(replies))
        return replies

    async def forget(self, lookup: bytes, leaf_pem: bytes) -> None:
        """Delete what is kept of one of the caller's own lookups.

        Raises:
            SecurityError: not for this caller.
            MailboxError: nothing is kept under this id for this person.
            AuditError: the log cannot be written; nothing is deleted.
        """
        peer = self.admission.authenticate(leaf_pem, self.source.current())
        if self._mailbox is None:
            raise MailboxError("this gateway keeps no lookups")
        replies = await asyncio.to_thread(self._mailbox.fetch, lookup, self.admission.owner(peer))
        await self._trail.forgotten(peer.pseudonym, lookup, len(replies))
        await asyncio.to_thread(self._mailbox.forget, lookup, self.admission.owner(peer))

    async def close(self) -> None:
        """Collect no more late answers, and close the connections to the nodes."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        with contextlib.suppress(AuditError):  # it was said when the requests were refused
            await asyncio.to_thread(self._trail.log_refusals, end=True)
        await self.nodes.close()

    async def _begin_to_keep(self, key: bytes, lookup: bytes, peer: Peer, asked: int, deadline_s: float) -> int:
        """Return until when answers are collected, 0 if nothing is kept. That it cannot be kept stops no lookup."""
        if self._mailbox is None or not key:
            return 0
        until_ms = self._clock() + int((deadline_s + self._section.late_s) * SECOND_MS)
        try:
            owner = self.admission.owner(peer)
            await asyncio.to_thread(self._mailbox.begin, lookup, owner, asked=asked, collecting_until_ms=until_ms)
        except MailboxError as error:
            _log.error("a lookup is not kept for later: %s", error)
            return 0
        return until_ms

    def _keep(self, replies: Sequence[_ToKeep]) -> None:
        """Seal and keep replies. That one cannot be kept stops no lookup."""
        for lookup, reply, key in replies:
            try:
                if self._mailbox is not None:
                    self._mailbox.keep(
                        lookup, reply.member, seal(reply.SerializeToString(), key), final=reply.WhichOneof("reply") == "answer"
                    )
            except MailboxError as error:
                _log.error("the reply of %s is not kept for later: %s", reply.member, error)

    @contextlib.contextmanager
    def _one_more(self, peer: Peer) -> Iterator[None]:
        """Count a lookup while it runs.

        Raises:
            BusyError: there are as many as there may be.
        """
        if self.running >= self._section.max_lookups:
            raise BusyError("the gateway has as many lookups as it takes at once; try again in some seconds")
        if self._running[peer.pseudonym] >= self._section.max_lookups_per_investigator:
            raise BusyError(f"{peer.pseudonym} has as many lookups as one person may have at once; wait for one to end")
        self._running[peer.pseudonym] += 1
        try:
            yield
        finally:
            self._running[peer.pseudonym] -= 1
            if not self._running[peer.pseudonym]:
                del self._running[peer.pseudonym]

    async def _admit(
        self, call: LookupCall, peer: Peer, directory: Directory, method: str = LOOKUP_METHOD
    ) -> tuple[Envelope, LookupRequest]:
        """Steps 2 to 4: return the envelope of the request, and what is in it.

        Raises:
            SecurityError, WireError: a step refuses, and it is logged.
        """
        credential, signed = wire_envelope.read_call(call)
        try:
            if len(call.keep_for) not in {0, KEY_BYTES}:
                raise MalformedError(f"keep_for of {len(call.keep_for)} bytes, expected {KEY_BYTES}")
            request = await self.admission.admit(credential, signed, peer, directory, method)
        except (SecurityError, WireError) as error:
            await self._trail.refused(peer.pseudonym, signed.digest, type(error).__name__)
            raise
        return signed, request

    def countersign(self, call: LookupCall, signed: Envelope) -> LookupCall:
        """Step 6: return the call for the nodes, with the member's signature added to the investigator's."""
        return LookupCall(credential=call.credential, request=wire_envelope.to_message(signed.signed_by(self._home.signer)))
