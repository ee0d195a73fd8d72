"""A gateway's certifying of keys that its member's people have made on their own machines."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc

from vidfed.rpc.channels import peer_certificate
from vidfed.rpc.trust import Attempts
from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.security.errors import EnrolmentError, PeerError, SecurityError
from vidfed.security.identity.tls import INVESTIGATOR_ROLE, INVITATION_ROLE, verify_peer
from vidfed.security.member.enrolment import certify
from vidfed.security.member.issued import Standing
from vidfed.v1 import enrolment_pb2 as pb
from vidfed.v1 import enrolment_pb2_grpc as rpc

if TYPE_CHECKING:
    from vidfed.security.audit.log import AuditLog
    from vidfed.security.clock import Clock
    from vidfed.security.identity.tls import Peer
    from vidfed.security.member.home import MemberHome
    from vidfed.security.trust.client import TufDirectory

_log = logging.getLogger(__name__)


class EnrolmentServicer(rpc.EnrolmentServiceServicer):
    """Certifies for whoever holds an invitation, or a credential that is to be renewed. Logged before it is handed out."""

    def __init__(self, home: MemberHome, source: TufDirectory, log: AuditLog, clock: Clock) -> None:
        self._home = home
        self._source = source
        self._audit = log
        self._clock = clock
        self._standing = Standing(home)
        self._attempts = Attempts()

    async def Enrol(  # noqa: N802 - the name in the .proto
        self, request: pb.EnrolRequest, context: grpc.aio.ServicerContext[pb.EnrolRequest, pb.EnrolResponse]
    ) -> pb.EnrolResponse:
        """Certify the keys of one person."""
        try:
            peer = self._authenticate(peer_certificate(context))
        except SecurityError as error:
            _log.warning("refused to enrol: %s", error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        if not self._attempts.admit(peer.serial, self._clock()):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "one attempt at a time, with some seconds between two")
        try:
            reply = await asyncio.to_thread(self._certify, request.request, peer)
        except SecurityError as error:
            _log.warning("refused to enrol by %s %s: %s", peer.role, peer.serial, error)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        finally:
            self._attempts.ended(peer.serial)
        return pb.EnrolResponse(reply=reply)

    def _authenticate(self, leaf_pem: bytes) -> Peer:
        peer = verify_peer(leaf_pem, self._source.current(), self._clock())
        if peer.member != self._home.member or peer.role not in {INVITATION_ROLE, INVESTIGATOR_ROLE}:
            raise PeerError(f"this gateway certifies for people of {self._home.member} only")
        if peer.serial in self._standing.revoked():
            raise PeerError("revoked; ask your unit")
        return peer

    def _certify(self, content: bytes, peer: Peer) -> bytes:
        base = AuditEntry(self._clock(), Operation.ALTERATION, Event.KIT_ISSUED, self._home.member, details={"by": peer.role})
        try:
            reply, issued = certify(self._home, content, self._source, caller=peer, clock=self._clock)
        except EnrolmentError as error:
            self._audit.append(base._replace(outcome="REFUSED", details={**base.details, "serial": peer.serial, "why": str(error)[:200]}))
            raise
        self._audit.append(base._replace(pseudonym=issued.pseudonym, details={**base.details, "serial": issued.serial}))
        return reply
