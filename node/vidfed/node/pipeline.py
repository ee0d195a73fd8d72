"""What a node does with a question, step by step. Reads top to bottom; each step either passes or refuses with a status.

 1. size and form of the call
 2. the TLS peer is a node of a member of the trust directory, by that member's own CA
 3. the member's signature over the request, as received
 4. the investigator's credential, signed by that member and valid now; the investigator's signature over the same bytes
 5. only now: parse the request; federation, issuer, pseudonym, method and audience are those of the signers and of this node; a chunk is
    the next one of its stream
 6. time window, then replay
 7. purpose, legal basis, offence type and case reference are stated
 8. nobody in quarantine asks or answers more than a self-test; policy for this member, the person's roles and the purpose; distances
    allowed
 9. what the member has left of its budgets
10. search
11. audit entry, durable before the reply
12. sign the answer

Every outcome from step 3 on is a signed answer, bound to the question by the digest of its signed bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.index import DistanceError
from vidfed.node import metrics
from vidfed.node.errors import BudgetsError, IndexBehindError, IndexBrokenError, RateLimitedError, StoreError
from vidfed.node.policy import Asker
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
from vidfed.wire.errors import MalformedError, SequenceError, Status, TooLargeError, VersionError
from vidfed.wire.lookup import read_request, with_receipt, write_answer_header, write_found
from vidfed.wire.values import (
    ANSWER_TYPE,
    LOOKUP_METHOD,
    MAX_MESSAGE_BYTES,
    MAX_TEXT,
    REQUEST_TYPE,
    STREAM_METHOD,
    AnswerHeader,
    LogReceipt,
    LookupRequest,
    Purpose,
    Urgency,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.node.catalogue import Catalogue, Found
    from vidfed.node.policy import PolicySource, Rule
    from vidfed.node.rates import Budgets, Lane
    from vidfed.security.clock import Clock
    from vidfed.security.directory import Directory, DirectorySource, Member
    from vidfed.security.keys import Signer
    from vidfed.v1.services_pb2 import LookupCall
    from vidfed.wire.stream import ChunkOrder
    from vidfed.wire.values import HashColumn, RequestHeader

_log = logging.getLogger(__name__)
_FOUND_BYTES = MAX_MESSAGE_BYTES - 80 * 1024  # room for the header and the log's receipt with its cosigned checkpoint


class UnknownPeerError(Exception):
    """The caller is no member's node; it is owed no answer."""


class _RefusalError(Exception):
    """A step refuses. `detail` goes to the asker, `reason` to the operator's log only."""

    def __init__(self, status: Status, detail: str, reason: str = "") -> None:
        super().__init__(reason or detail)
        self.status = status
        self.detail = detail


@dataclass(slots=True, eq=False)
class Question:
    """What is known about a question so far, and what becomes of it.

    Attributes:
        member: whose node asks.
        digest: of its signed bytes.
        started_ms: when it came.
        method: which call it came by.
        sequence, last: its place among the answers of its call; a refusal before the question's own place is known is the last answer.
        status, detail: how it is disposed of.
        request, credential: once they are known to hold.
        rule, columns, lane: by which rule, about what of it, and from which budget it may be answered.
        found, written: what a search gave, and the same as it goes into the answer.
    """

    member: str
    digest: bytes
    started_ms: int
    method: str
    sequence: int = 0
    last: bool = True
    status: Status = Status.ANSWERED
    detail: str = ""
    request: LookupRequest | None = None
    credential: Credential | None = None
    rule: Rule | None = None
    columns: tuple[HashColumn, ...] = ()
    lane: Lane | None = None
    found: Found | None = None
    written: bytes = b""


@dataclass(frozen=True, slots=True)
class LookupPipeline:
    """Answers lookups for one member. Blocking; called from worker threads.

    `answer` does all of it; a stream takes the three parts apart, so that one chunk is admitted while another is searched.
    """

    federation: str
    member: str
    signer: Signer
    directory_source: DirectorySource
    catalogue: Catalogue
    policy: PolicySource
    budgets: Budgets
    replay: ReplayMemory
    audit: AuditLog
    clock: Clock

    def answer(self, call: LookupCall, leaf_pem: bytes) -> Envelope:
        """Return the signed answer to a call from the holder of this TLS certificate.

        Raises:
            UnknownPeerError: the caller is no member's node.
            PeerError: the certificate names nobody.
        """
        question = self.admit(call, leaf_pem)
        self.search(question)
        return self.conclude(question)

    def caller(self, leaf_pem: bytes) -> str:
        """Return the member whose node holds this TLS certificate. Cheap; what bounds for each member go by before anything else is done.

        Raises:
            UnknownPeerError: the caller is no member's node.
            PeerError: the certificate names nobody.
        """
        try:
            return self._peer(self.directory_source.current(), leaf_pem).id
        except DirectoryError:  # refused later, signed
            return claimed_peer(leaf_pem)[1].member

    def can_answer(self) -> bool:
        """Tell whether a question would find a trust directory and an index that equals the records."""
        try:
            self.directory_source.current()
            self.catalogue.check()
        except (DirectoryError, IndexBehindError, IndexBrokenError, StoreError):
            return False
        return True

    def busy(self, call: LookupCall, member: str, method: str) -> Envelope:
        """Return the signed refusal to look at a call at all; it is not logged, because nothing was looked at."""
        question = Question(member, _digest_of(call), self.clock(), method, status=Status.BUSY)
        _count(question)
        return Envelope(ANSWER_TYPE, write_answer_header(self._header(question, b""))).signed_by(self.signer)

    def admit(self, call: LookupCall, leaf_pem: bytes, order: ChunkOrder | None = None) -> Question:
        """Do steps 1 to 9, and return the question, admitted or refused.

        Args:
            call: as received.
            leaf_pem: the caller's TLS certificate.
            order: where the call is a stream's, what is expected next in it; then chunks are admitted one after the other.

        Raises:
            UnknownPeerError: the caller is no member's node.
            PeerError: the certificate names nobody.
        """
        digest = _digest_of(call)
        method, due = (LOOKUP_METHOD, 0) if order is None else (STREAM_METHOD, order.due)
        try:
            directory = self.directory_source.current()
        except DirectoryError as error:
            _log.error("%s; not answering", error)
            claimed = claimed_peer(leaf_pem)[1].member
            return Question(claimed, digest, self.clock(), method, due, status=Status.DIRECTORY_UNAVAILABLE)
        peer = self._peer(directory, leaf_pem)
        question = Question(peer.id, digest, self.clock(), method, due)
        with metrics.admit_seconds.time(), _deciding(question):
            try:
                credential_envelope, request_envelope = read_call(call)  # step 1
            except MalformedError as error:
                raise _RefusalError(_status_of(error), str(error)) from None
            self._admit(directory, peer, credential_envelope, request_envelope, question, order)  # steps 3 to 9
        return question

    def search(self, question: Question) -> None:
        """Do step 10, unless the question is refused already."""
        if question.status is Status.ANSWERED and question.rule is not None:
            with metrics.search_seconds.time(), _deciding(question):
                question.found, question.written = self._search(question.rule, question)

    def conclude(self, question: Question, previous_digest: bytes = b"") -> Envelope:
        """Do steps 11 and 12, and return the signed answer. `previous_digest` is that of the answer before it in its stream."""
        header = self._header(question, previous_digest)
        core = write_answer_header(header) + question.written
        try:
            with metrics.audit_seconds.time():
                logged = self._log(question, header, core)
            newest = self.audit.latest_checkpoint or self.audit.checkpoint()
        except AuditError as error:
            _log.error("%s; not answering", error)
            question.status, question.detail, question.found = Status.AUDIT_UNAVAILABLE, "", None
            payload = write_answer_header(self._header(question, previous_digest))
        else:
            payload = with_receipt(core, LogReceipt(logged.position, logged.commitment, newest.text))
        _count(question)
        with metrics.sign_seconds.time():
            return Envelope(ANSWER_TYPE, payload).signed_by(self.signer)

    def _peer(self, directory: Directory, leaf_pem: bytes) -> Member:
        """Step 2."""
        try:
            peer = verify_peer(leaf_pem, directory, self.clock())
        except PeerError as error:
            metrics.unknown_callers.inc()
            _log.warning("refused a caller: %s", error)
            raise UnknownPeerError(str(error)) from None
        if peer.role != NODE_ROLE:
            metrics.unknown_callers.inc()
            _log.warning("refused a caller: %s of %s is not a node", peer.role, peer.member)
            raise UnknownPeerError("not a node")
        return directory.member(peer.member)

    def _admit(
        self,
        directory: Directory,
        peer: Member,
        credential_envelope: Envelope,
        request_envelope: Envelope,
        question: Question,
        order: ChunkOrder | None,
    ) -> None:
        now_ms = self.clock()
        # Step 3. The member's keys are those of the TLS peer: an envelope of another issuer cannot pass.
        try:
            payload = request_envelope.verify(REQUEST_TYPE, peer.signing_keys)
        except EnvelopeError as error:
            raise _RefusalError(Status.VERSION_UNSUPPORTED, str(error)) from None
        except SignatureError:
            # Perhaps a key so new that only a newer directory names it.
            if self.directory_source.refresh_for(peer.id):
                directory = self.directory_source.current()
                peer = directory.members.get(peer.id, peer)
            try:
                payload = request_envelope.verify(REQUEST_TYPE, peer.signing_keys)
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
        question.credential = credential
        # Step 5.
        try:
            request = read_request(payload)
        except MalformedError as error:
            raise _RefusalError(_status_of(error), str(error)) from None
        except VersionError as error:
            raise _RefusalError(Status.VERSION_UNSUPPORTED, str(error)) from None
        question.request = request
        self._check_header(request, peer, credential, question.method)
        _take_place(question, order)
        # Step 6.
        self._count_once(request.header, peer, now_ms)
        # Step 7.
        purpose = _stated_purpose(request)
        # Step 8.
        self._check_quarantine(directory, peer, purpose)
        policy, asker = self.policy.current(), Asker(peer.id, frozenset(credential.roles), purpose)
        rule = policy.decide(asker)
        if rule is None:
            raise _RefusalError(Status.NOT_PERMITTED, "", policy.refusal(asker))
        try:
            for column in request.columns:
                column.algorithm.check_distance(column.max_distance)
        except DistanceError as error:
            raise _RefusalError(Status.NOT_PERMITTED, str(error)) from None
        question.rule, question.columns = rule, rule.limit(request.columns)
        if not question.columns:
            raise _RefusalError(Status.NOT_PERMITTED, "none of these hash algorithms", f"rule {rule.name} allows none of the algorithms")
        # Step 9.
        question.lane = self._spend(rule, peer, request, now_ms)

    def _spend(self, rule: Rule, peer: Member, request: LookupRequest, now_ms: int) -> Lane:
        lookups = 1 if request.stream is None or request.stream.number == 0 else 0
        urgent = request.header.urgency is Urgency.LIFE_AT_RISK
        try:
            return self.budgets.spend(
                peer.id, rule.name, rule.limits, lookups=lookups, hashes=request.hash_count, now_ms=now_ms, urgent=urgent
            )
        except RateLimitedError as error:
            raise _RefusalError(Status.RATE_LIMITED, str(error)) from None
        except BudgetsError as error:
            _log.error("%s; not answering", error)
            raise _RefusalError(Status.INTERNAL_ERROR, "", str(error)) from None

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

    def _check_header(self, request: LookupRequest, peer: Member, credential: Credential, method: str) -> None:
        header = request.header
        if header.federation != self.federation:
            raise _RefusalError(Status.WRONG_FEDERATION, f"this node belongs to federation {self.federation}")
        if header.issuer != peer.id:
            raise _RefusalError(Status.BAD_SIGNATURE, "the request names another issuer than the member that signed it")
        if header.pseudonym != credential.pseudonym:
            raise _RefusalError(Status.BAD_CREDENTIAL, "the request names another person than the credential")
        if header.method != method or (request.stream is None) != (method == LOOKUP_METHOD):
            raise _RefusalError(Status.WRONG_METHOD, f"signed for {header.method!r}")
        if self.member not in header.audience:
            raise _RefusalError(Status.WRONG_AUDIENCE, f"the request is not addressed to {self.member}")

    def _check_quarantine(self, directory: Directory, peer: Member, purpose: Purpose) -> None:
        own = directory.members.get(self.member)
        if purpose is not Purpose.SELF_TEST and (peer.quarantined or own is None or own.quarantined):
            raise _RefusalError(Status.NOT_PERMITTED, "", f"{peer.id} or this member is in quarantine, where only a self-test is answered")

    def _search(self, rule: Rule, question: Question) -> tuple[Found, bytes]:
        cap = rule.max_hits_per_item
        try:
            found = self.catalogue.search(
                question.columns, max_hits_per_item=cap, visible=lambda record: rule.tells(question.member, record), told=rule.tell
            )
        except IndexBehindError as error:
            raise _RefusalError(Status.STALE_INDEX, "", str(error)) from None
        except (IndexBrokenError, StoreError) as error:
            raise _RefusalError(Status.INDEX_UNAVAILABLE, "", str(error)) from None
        while len(written := _written(found)) > _FOUND_BYTES:
            cap //= 2
            if not cap:
                raise _RefusalError(Status.TOO_LARGE, "the answer does not fit into one message")
            found = found.nearest(cap)
        return found, written

    def _header(self, question: Question, previous_digest: bytes) -> AnswerHeader:
        return AnswerHeader(
            federation=self.federation,
            issuer=self.member,
            audience=question.member,
            request_digest=question.digest,
            method=question.method,
            answered_ms=self.clock(),
            sequence=question.sequence,
            last=question.last,
            previous_digest=previous_digest,
            status=question.status,
            detail=question.detail[:MAX_TEXT],  # it may quote the question, and a longer text would make the answer unreadable
            index=question.found.state if question.found else None,
        )

    def _log(self, question: Question, header: AnswerHeader, core: bytes) -> LogPosition:
        found, request = question.found, question.request
        stated = request.header if request else None
        details: dict[str, int | str] = {
            "items": request.item_count if request else 0,
            "hashes": request.hash_count if request else 0,
            "hits": len(found.hits) if found else 0,
            "took_ms": max(0, header.answered_ms - question.started_ms),
        }
        if request is not None and request.stream is not None:
            details |= {"stream": request.stream.stream_id.hex(), "chunk": request.stream.number}
        if stated is not None and stated.urgency is not Urgency.ROUTINE:
            details |= {"urgency": stated.urgency.code, "budget": question.lane.value if question.lane else ""}
        return self.audit.append(
            AuditEntry(
                time_ms=header.answered_ms,
                operation=Operation.DISCLOSURE if found and found.hits else Operation.CONSULTATION,
                event=Event.LOOKUP_ANSWERED,
                member=question.member,
                pseudonym=question.credential.pseudonym if question.credential else "",
                purpose=stated.purpose.code if stated and stated.purpose else "",
                legal_basis=stated.legal_basis if stated else "",
                offence_type=stated.offence_type if stated else "",
                case_reference=stated.case_reference if stated else "",
                request_digest=question.digest,
                answer_digest=hashlib.sha256(core).digest(),
                outcome=header.status.name,
                records=tuple(record.reference for record in found.records) if found else (),
                details=details,
            )
        )


@contextlib.contextmanager
def _deciding(question: Question) -> Iterator[None]:
    """Write down what becomes of the question where a step refuses it, or fails."""
    try:
        yield
    except _RefusalError as refusal:
        _log.warning("refused %s from %s: %s", refusal.status.name, question.member, refusal)
        question.status, question.detail = refusal.status, refusal.detail
    except Exception:  # noqa: BLE001 - a defect must end in a signed refusal, never in silence
        _log.exception("defect while answering %s", question.member)
        question.status, question.detail = Status.INTERNAL_ERROR, ""


def _take_place(question: Question, order: ChunkOrder | None) -> None:
    """Step 5 for a chunk: it must be the next one of its stream. From here on a refusal is one answer among others and ends nothing."""
    stream = question.request.stream if question.request else None
    if order is None or stream is None:
        return
    try:
        order.accept(stream, question.digest)
    except SequenceError as error:
        raise _RefusalError(Status.OUT_OF_SEQUENCE, str(error)) from None
    question.sequence, question.last = stream.number, stream.last


def _digest_of(call: LookupCall) -> bytes:
    return Envelope(call.request.payload_type, call.request.payload).digest


def _written(found: Found) -> bytes:
    return write_found((record.view() for record in found.records), found.hits, found.truncated_items)


def _status_of(error: MalformedError) -> Status:
    return Status.TOO_LARGE if isinstance(error, TooLargeError) else Status.MALFORMED


def _count(question: Question) -> None:
    metrics.lookups.labels(question.status.name).inc()
    if question.request is None or question.found is None:
        return
    metrics.hashes.labels(question.member).inc(question.request.hash_count)
    metrics.hits.labels(question.member).inc(len(question.found.hits))
    if question.lane is not None and question.request.header.urgency is not Urgency.ROUTINE:
        metrics.urgent.labels(question.lane.value).inc()


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
