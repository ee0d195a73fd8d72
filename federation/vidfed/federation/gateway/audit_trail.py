"""What the gateway writes into the member's audit log: each request that goes out, each reply that comes in, each refusal.

The other end's log holds the same two digests, so that what one side deletes shows when the logs are compared.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from vidfed.federation.gateway.group_commit import GroupCommit
from vidfed.security.audit import AuditEntry, AuditLog, Event, Operation
from vidfed.security.clock import Clock, system_clock
from vidfed.security.errors import AuditError
from vidfed.security.member.refusals import Refusals
from vidfed.wire.answers import read_answer_with_digest
from vidfed.wire.statuses import WireError
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.v1 import gateway_pb2 as pb
    from vidfed.wire.values import LookupRequest

UNREADABLE = "UNREADABLE"
_log = logging.getLogger(__name__)
_TOGETHER = 32  # replies in one commit


class _Received(NamedTuple):
    request: LookupRequest
    digest: bytes
    reply: pb.NodeReply
    came_ms: int


class AuditTrail:
    """Writes the gateway's entries; each is on disk when the call returns, and the event loop is never blocked by that.

    Every method raises AuditError if the entry could not be written; nothing may be sent then.
    """

    def __init__(self, log: AuditLog, member: str, *, clock: Clock = system_clock) -> None:
        self._log = log
        self._member = member
        self._clock = clock
        self._refusals = Refusals(Event.LOOKUP_REFUSED)
        self._replies = GroupCommit(self._receive, _TOGETHER)

    async def asked(self, request: LookupRequest, digest: bytes) -> None:
        """Log a request before it goes out."""
        header = request.header
        await self._append(
            AuditEntry(
                time_ms=self._clock(),
                operation=Operation.CONSULTATION,
                event=Event.LOOKUP_ASKED,
                member=self._member,
                pseudonym=header.pseudonym,
                purpose=header.purpose.code if header.purpose else "",
                legal_basis=header.legal_basis,
                offence_type=header.offence_type,
                case_reference=header.case_reference,
                request_digest=digest,
                outcome="ASKED",
                details={"audience": ",".join(header.audience), "items": request.item_count},
            )
        )

    async def received(self, request: LookupRequest, digest: bytes, reply: pb.NodeReply) -> None:
        """Log one node's reply, or that there was none, before it is passed on. The reply is not judged here; the client does that."""
        await self._replies.add(_Received(request, digest, reply, self._clock()))

    def _receive(self, replies: Sequence[_Received]) -> None:
        """Read and log replies; an answer may be large, and reading it takes its time."""
        self._log.append_many([_entry(reply) for reply in replies])

    async def refused(self, pseudonym: str, digest: bytes, reason: str) -> None:
        """Log that an own investigator's request was refused; beyond a budget, how many were."""
        now_ms = self._clock()
        whole = self._refusals.logged_whole(self._member, reason, now_ms, pseudonym)
        await asyncio.to_thread(self.log_refusals)
        if not whole:
            return
        await self._append(
            AuditEntry(
                time_ms=now_ms,
                operation=Operation.CONSULTATION,
                event=Event.LOOKUP_REFUSED,
                member=self._member,
                pseudonym=pseudonym,
                request_digest=digest,
                outcome=reason,
            )
        )

    def log_refusals(self, *, end: bool = False) -> None:
        """Log how many refusals were not logged one by one, if it is time, or at the `end`. Blocking."""
        if entries := self._refusals.due(self._clock(), end=end):
            try:
                self._log.append_many(entries)
            except AuditError:
                self._refusals.put_back(entries)
                raise

    async def fetched(self, pseudonym: str, digest: bytes, replies: int) -> None:
        """Log that an own investigator fetches what was kept of a lookup, before it is given out."""
        await self._of_kept(Operation.CONSULTATION, Event.LOOKUP_FETCHED, pseudonym, digest, replies)

    async def forgotten(self, pseudonym: str, digest: bytes, replies: int) -> None:
        """Log that an own investigator has what was kept of a lookup deleted."""
        await self._of_kept(Operation.ERASURE, Event.LOOKUP_FORGOTTEN, pseudonym, digest, replies)

    async def _of_kept(self, operation: Operation, event: Event, pseudonym: str, digest: bytes, replies: int) -> None:
        details = {"replies": replies}
        entry = AuditEntry(self._clock(), operation, event, self._member, pseudonym=pseudonym, request_digest=digest, details=details)
        await self._append(entry)

    async def _append(self, entry: AuditEntry) -> None:
        await asyncio.to_thread(self._log.append, entry)


def _entry(received: _Received) -> AuditEntry:
    header = received.request.header
    outcome, digest_back, records, position = _told(received.reply)
    return AuditEntry(
        time_ms=received.came_ms,
        operation=Operation.COLLECTION if records else Operation.CONSULTATION,
        event=Event.LOOKUP_RECEIVED,
        member=received.reply.member,
        pseudonym=header.pseudonym,
        purpose=header.purpose.code if header.purpose else "",
        request_digest=received.digest,
        answer_digest=digest_back,
        outcome=outcome,
        records=records,
        details={
            "took_ms": max(0, received.came_ms - header.issued_ms),
            "position": position,
            **({"standing": 1} if received.request.standing is not None else {}),
        },
    )


def _told(reply: pb.NodeReply) -> tuple[str, bytes, tuple[str, ...], int]:
    """Return (outcome, answer digest, records told about, position in the node's log or -1)."""
    if reply.WhichOneof("reply") != "answer":
        kinds = {kind.value: kind.name for kind in FailureKind}
        return kinds.get(reply.failure.kind, UNREADABLE), b"", (), -1
    try:
        answer, digest = read_answer_with_digest(reply.answer.payload)
    except WireError:
        return UNREADABLE, b"", (), -1
    except Exception:  # noqa: BLE001 - replies to several lookups are logged together: one node must not take the others' with it
        _log.exception("defect while reading the answer of %s for the log", reply.member)
        return UNREADABLE, b"", (), -1
    return (
        answer.header.status.name,
        digest,
        tuple(record.reference for record in answer.records),
        answer.log.position if answer.log else -1,
    )
