"""What a node does with a question, step by step. Reads top to bottom; each step either passes or refuses with a status.

 1. size and form of the call
 2. the TLS peer is a node of a member of the trust directory, by that member's own CA
 3. the member's signature over the request, as received
 4. the investigator's credential, signed by that member and valid now; the investigator's signature over the same bytes
 5. only now: parse the request; federation, issuer, pseudonym, method and audience are those of the signers and of this node
 6. time window, then replay
 7. purpose, legal basis, offence type and case reference are stated
 8. nobody in quarantine asks or answers more than a self-test; policy for this member and purpose; distances allowed
 9. rate limit
10. search
11. audit entry, durable before the reply
12. sign the answer

Every outcome from step 3 on is a signed answer, bound to the question by the digest of its signed bytes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfed.index import DistanceError
from vidfed.node.errors import IndexBehindError, IndexBrokenError, StoreError
from vidfed.security.audit import AuditEntry, AuditLog, Event, LogPosition, Operation
from vidfed.security.credentials import Credential, verify_credential
from vidfed.security.envelope import Envelope
from vidfed.security.errors import (
    AuditError,
    CredentialError,
    DirectoryError,
    EnvelopeError,
    PeerError,
    ReplayError,
    ReplayMemoryError,
    SignatureError,
    TimeWindowError,
)
from vidfed.security.replay import ReplayMemory, check_time_window
from vidfed.security.tls import NODE_ROLE, claimed_peer, verify_peer
from vidfed.wire.envelope import read_call
from vidfed.wire.errors import MalformedError, Status, TooLargeError, VersionError
from vidfed.wire.lookup import answer_digest, read_request, write_answer
from vidfed.wire.values import (
    ANSWER_TYPE,
    LOOKUP_METHOD,
    MAX_MESSAGE_BYTES,
    MAX_TEXT,
    REQUEST_TYPE,
    AnswerHeader,
    LogReceipt,
    LookupAnswer,
    LookupRequest,
    Purpose,
)

if TYPE_CHECKING:
    from vidfed.node.catalogue import Catalogue, Found
    from vidfed.node.policy import HashRates, Policy
    from vidfed.security.clock import Clock
    from vidfed.security.directory import Directory, DirectorySource, Member
    from vidfed.security.keys import Signer
    from vidfed.v1.services_pb2 import LookupCall
    from vidfed.wire.values import RequestHeader

_log = logging.getLogger(__name__)
_ANSWER_BYTES = MAX_MESSAGE_BYTES - 80 * 1024  # room for what is added only at the end: the log's receipt with its cosigned checkpoint


class UnknownPeerError(Exception):
    """The caller is no member's node; it is owed no answer."""


class _RefusalError(Exception):
    """A step refuses. `detail` goes to the asker, `reason` to the operator's log only."""

    def __init__(self, status: Status, detail: str, reason: str = "") -> None:
        super().__init__(reason or detail)
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class _Progress:
    """What is known about a question so far; what the audit entry of a refusal can say."""

    member: str
    started_ms: int
    request: LookupRequest | None = None
    credential: Credential | None = None


@dataclass(frozen=True, slots=True)
class LookupPipeline:
    """Answers lookups for one member. Blocking; called from worker threads."""

    federation: str
    member: str
    signer: Signer
    directory_source: DirectorySource
    catalogue: Catalogue
    policy: Policy
    rates: HashRates
    replay: ReplayMemory
    audit: AuditLog
    clock: Clock

    def answer(self, call: LookupCall, leaf_pem: bytes) -> Envelope:
        """Return the signed answer to a call from the holder of this TLS certificate.

        Raises:
            UnknownPeerError: the caller is no member's node.
            PeerError: the certificate names nobody.
        """
        started_ms = self.clock()
        digest = Envelope(call.request.payload_type, call.request.payload).digest
        try:
            directory = self.directory_source.current()
        except DirectoryError as error:
            _log.error("%s; not answering", error)
            return self._sign(_Progress(claimed_peer(leaf_pem)[1].member, started_ms), digest, Status.DIRECTORY_UNAVAILABLE, "")
        peer = self._peer(directory, leaf_pem)
        progress = _Progress(peer.id, started_ms)
        try:
            credential_envelope, request_envelope = read_call(call)  # step 1
        except MalformedError as error:
            return self._sign(progress, digest, _status_of(error), str(error))
        try:
            request = self._admit(directory, peer, credential_envelope, request_envelope, progress)  # steps 3 to 9
            found = self._search(request, progress, digest)  # step 10
        except _RefusalError as refusal:
            _log.warning("refused %s from %s: %s", refusal.status.name, peer.id, refusal)
            return self._sign(progress, digest, refusal.status, refusal.detail)
        except Exception:  # noqa: BLE001 - a defect must end in a signed refusal, never in silence
            _log.exception("defect while answering %s", peer.id)
            return self._sign(progress, digest, Status.INTERNAL_ERROR, "")
        return self._sign(progress, digest, Status.ANSWERED, "", found)

    def _peer(self, directory: Directory, leaf_pem: bytes) -> Member:
        """Step 2."""
        try:
            peer = verify_peer(leaf_pem, directory, self.clock())
        except PeerError as error:
            _log.warning("refused a caller: %s", error)
            raise UnknownPeerError(str(error)) from None
        if peer.role != NODE_ROLE:
            _log.warning("refused a caller: %s of %s is not a node", peer.role, peer.member)
            raise UnknownPeerError("not a node")
        return directory.member(peer.member)

    def _admit(
        self, directory: Directory, peer: Member, credential_envelope: Envelope, request_envelope: Envelope, progress: _Progress
    ) -> LookupRequest:
        now_ms = self.clock()
        # Step 3. The member's keys are those of the TLS peer: an envelope of another issuer cannot pass.
        try:
            payload = request_envelope.verify(REQUEST_TYPE, peer.signing_keys)
        except EnvelopeError as error:
            raise _RefusalError(Status.VERSION_UNSUPPORTED, str(error)) from None
        except SignatureError:
            raise _RefusalError(Status.BAD_SIGNATURE, "the asking member's signature is missing or does not hold") from None
        # Step 4.
        try:
            credential = verify_credential(
                credential_envelope,
                federation=self.federation,
                member=peer.id,
                member_keys=peer.signing_keys,
                now_ms=now_ms,
                revoked=peer.revoked,
            )
        except CredentialError as error:
            raise _RefusalError(Status.BAD_CREDENTIAL, str(error)) from None
        try:
            request_envelope.verify(REQUEST_TYPE, [credential.key])
        except SignatureError:
            raise _RefusalError(Status.BAD_SIGNATURE, "the investigator's signature is missing or does not hold") from None
        progress.credential = credential
        # Step 5.
        try:
            request = read_request(payload)
        except MalformedError as error:
            raise _RefusalError(_status_of(error), str(error)) from None
        except VersionError as error:
            raise _RefusalError(Status.VERSION_UNSUPPORTED, str(error)) from None
        progress.request = request
        self._check_header(request, peer, credential)
        # Step 6.
        self._count_once(request.header, peer, now_ms)
        # Step 7.
        purpose = _stated_purpose(request)
        # Step 8.
        self._check_quarantine(directory, peer, purpose)
        if reason := self.policy.refusal(peer.id, purpose):
            raise _RefusalError(Status.NOT_PERMITTED, "", reason)
        try:
            for column in request.columns:
                column.algorithm.check_distance(column.max_distance)
        except DistanceError as error:
            raise _RefusalError(Status.NOT_PERMITTED, str(error)) from None
        # Step 9.
        if not self.rates.spend(peer.id, sum(len(column.codes) for column in request.columns), now_ms):
            raise _RefusalError(Status.RATE_LIMITED, f"more than {self.policy.max_hashes_per_minute} hashes in a minute")
        return request

    def _count_once(self, header: RequestHeader, peer: Member, now_ms: int) -> None:
        try:
            check_time_window(header.issued_ms, header.expires_ms, now_ms)
            self.replay.record(peer.id, header.message_id, header.issued_ms, now_ms)
        except TimeWindowError as error:
            raise _RefusalError(Status.OUTSIDE_TIME_WINDOW, str(error)) from None
        except ReplayMemoryError as error:
            _log.error("%s; not answering", error)
            raise _RefusalError(Status.INTERNAL_ERROR, "", str(error)) from None
        except ReplayError as error:
            raise _RefusalError(Status.REPLAYED, "this message cannot be accepted again", str(error)) from None

    def _check_header(self, request: LookupRequest, peer: Member, credential: Credential) -> None:
        header = request.header
        if header.federation != self.federation:
            raise _RefusalError(Status.WRONG_FEDERATION, f"this node belongs to federation {self.federation}")
        if header.issuer != peer.id:
            raise _RefusalError(Status.BAD_SIGNATURE, "the request names another issuer than the member that signed it")
        if header.pseudonym != credential.pseudonym:
            raise _RefusalError(Status.BAD_CREDENTIAL, "the request names another person than the credential")
        if header.method != LOOKUP_METHOD:
            raise _RefusalError(Status.WRONG_METHOD, f"signed for {header.method!r}")
        if self.member not in header.audience:
            raise _RefusalError(Status.WRONG_AUDIENCE, f"the request is not addressed to {self.member}")

    def _check_quarantine(self, directory: Directory, peer: Member, purpose: Purpose) -> None:
        own = directory.members.get(self.member)
        if purpose is not Purpose.SELF_TEST and (peer.quarantined or own is None or own.quarantined):
            raise _RefusalError(Status.NOT_PERMITTED, "", f"{peer.id} or this member is in quarantine, where only a self-test is answered")

    def _search(self, request: LookupRequest, progress: _Progress, digest: bytes) -> Found:
        cap = self.policy.max_hits_per_item
        try:
            found = self.catalogue.search(request.columns, max_hits_per_item=cap, visible=lambda record: record.visible_to(progress.member))
        except IndexBehindError as error:
            raise _RefusalError(Status.STALE_INDEX, "", str(error)) from None
        except (IndexBrokenError, StoreError) as error:
            raise _RefusalError(Status.INDEX_UNAVAILABLE, "", str(error)) from None
        while len(write_answer(self._compose(progress, digest, Status.ANSWERED, "", found))) > _ANSWER_BYTES:
            cap //= 2
            if not cap:
                raise _RefusalError(Status.TOO_LARGE, "the answer does not fit into one message")
            found = found.nearest(cap)
        return found

    def _sign(self, progress: _Progress, digest: bytes, status: Status, detail: str, found: Found | None = None) -> Envelope:
        """Steps 11 and 12."""
        answer = self._compose(progress, digest, status, detail, found)
        try:
            logged = self._log(progress, digest, answer)
            newest = self.audit.latest_checkpoint or self.audit.checkpoint()
        except AuditError as error:
            _log.error("%s; not answering", error)
            answer = self._compose(progress, digest, Status.AUDIT_UNAVAILABLE, "", None)
        else:
            answer = replace(answer, log=LogReceipt(logged.position, logged.commitment, newest.text))
        return Envelope(ANSWER_TYPE, write_answer(answer)).signed_by(self.signer)

    def _compose(self, progress: _Progress, digest: bytes, status: Status, detail: str, found: Found | None) -> LookupAnswer:
        header = AnswerHeader(
            federation=self.federation,
            issuer=self.member,
            audience=progress.member,
            request_digest=digest,
            method=LOOKUP_METHOD,
            answered_ms=self.clock(),
            status=status,
            detail=detail[:MAX_TEXT],  # it may quote the question, and a longer text would make the answer unreadable
            index=found.state if found else None,
        )
        if found is None:
            return LookupAnswer(header)
        return LookupAnswer(header, tuple(record.view() for record in found.records), found.hits, found.truncated_items)

    def _log(self, progress: _Progress, digest: bytes, answer: LookupAnswer) -> LogPosition:
        asked = progress.request.header if progress.request else None
        hashes = sum(len(column.codes) for column in progress.request.columns) if progress.request else 0
        return self.audit.append(
            AuditEntry(
                time_ms=answer.header.answered_ms,
                operation=Operation.DISCLOSURE if answer.hits else Operation.CONSULTATION,
                event=Event.LOOKUP_ANSWERED,
                member=progress.member,
                pseudonym=progress.credential.pseudonym if progress.credential else "",
                purpose=asked.purpose.code if asked and asked.purpose else "",
                legal_basis=asked.legal_basis if asked else "",
                offence_type=asked.offence_type if asked else "",
                case_reference=asked.case_reference if asked else "",
                request_digest=digest,
                answer_digest=answer_digest(write_answer(answer)),
                outcome=answer.header.status.name,
                records=tuple(record.reference for record in answer.records),
                details={
                    "items": progress.request.item_count if progress.request else 0,
                    "hashes": hashes,
                    "hits": len(answer.hits),
                    "took_ms": max(0, answer.header.answered_ms - progress.started_ms),
                },
            )
        )


def _status_of(error: MalformedError) -> Status:
    return Status.TOO_LARGE if isinstance(error, TooLargeError) else Status.MALFORMED


def _stated_purpose(request: LookupRequest) -> Purpose:
    """Step 7: a question without a stated reason is refused."""
    header = request.header
    stated = {
        "legal basis": header.legal_basis.strip(),
        "offence type": header.offence_type.strip(),
        "case reference": header.case_reference.strip(),
    }
    missing = [name for name, value in stated.items() if not value]
    if header.purpose is None:
        missing.insert(0, "purpose")
    if header.purpose is None or missing:
        raise _RefusalError(Status.JUSTIFICATION_MISSING, f"not stated: {', '.join(missing)}")
    return header.purpose
