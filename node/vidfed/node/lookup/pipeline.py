"""What a node does with questions, step by step. Reads top to bottom; each step either passes or refuses with a status.

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

Questions that wait together are taken through the steps together. Each is judged by itself; what has to wait for a disk, a lock or a
database (6, 9, 10, 11) is done once for all of them.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vidfed.index import DistanceError
from vidfed.node.errors import IndexBehindError, IndexBrokenError, QuotasError, RateLimitedError, StoreError
from vidfed.node.lookup import metrics
from vidfed.node.lookup.question import Question, RefusalError, count, deciding
from vidfed.node.policy.policy import Requester
from vidfed.node.policy.quotas import Charge
from vidfed.node.search.query import SearchQuery
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import (
    AuditError,
    CredentialError,
    DirectoryError,
    EnvelopeError,
    PeerError,
    ReplayMemoryError,
    SignatureError,
    TimeWindowError,
)
from vidfed.security.identity.credentials import Credential, verify_credential
from vidfed.security.identity.replay import Message, ReplayMemory, check_time_window
from vidfed.security.identity.tls import NODE_ROLE, claimed_peer, verify_peer
from vidfed.wire.answers import with_receipt, write_answer_header, write_found
from vidfed.wire.envelope import read_call
from vidfed.wire.requests import read_request
from vidfed.wire.statuses import MalformedError, SequenceError, Status, TooLargeError, VersionError
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
    from collections.abc import Sequence

    from vidfed.node.policy.policy import PolicySource, Rule
    from vidfed.node.policy.quotas import Quotas
    from vidfed.node.search.catalogue import Catalogue
    from vidfed.node.search.query import Found
    from vidfed.security.audit import AuditLog
    from vidfed.security.clock import Clock
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import Directory, DirectorySource, Member
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.stream import ChunkOrder

_log = logging.getLogger(__name__)
_FOUND_BYTES = MAX_MESSAGE_BYTES - 80 * 1024  # room for the header and the log's receipt with its cosigned checkpoint


class UnknownPeerError(Exception):
    """The caller is no member's node; it is owed no answer."""


class Call(NamedTuple):
    """A question as it came.

    Attributes:
        message: as received.
        leaf_pem: the caller's TLS certificate.
        order: where it is a stream's, what is expected next in it; then chunks are admitted one after the other.
    """

    message: LookupCall
    leaf_pem: bytes
    order: ChunkOrder | None = None


class _Heard(NamedTuple):
    """What steps 1 to 5 know to hold: who asks, by which directory, and what."""

    directory: Directory
    peer: Member
    credential: Credential
    request: LookupRequest


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
    quotas: Quotas
    replay: ReplayMemory
    audit: AuditLog
    clock: Clock

    def answer(self, calls: Sequence[Call]) -> list[Envelope | None]:
        """Return the signed answer to each call; None where the caller is no member's node and is owed none."""
        questions = self.admit(calls)
        known = [question for question in questions if question is not None]
        self.search(known)
        answers = iter(self.conclude(known))
        return [None if question is None else next(answers) for question in questions]

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
        count([question])
        return Envelope(ANSWER_TYPE, write_answer_header(self._header(question))).signed_by(self.signer)

    def admit(self, calls: Sequence[Call]) -> list[Question | None]:
        """Do steps 1 to 9, and return the questions, each admitted or refused; None where the caller is no member's node."""
        with metrics.admit_seconds.time():
            try:
                directory = self.directory_source.current()
            except DirectoryError as error:
                _log.error("%s; not answering", error)
                return [self._without_directory(call) for call in calls]
            now_ms = self.clock()
            questions = [self._arrived(directory, call, now_ms) for call in calls]
            heard: list[tuple[Question, _Heard]] = []
            for question, call in zip(questions, calls, strict=True):
                if question is not None:
                    with deciding(question):
                        heard.append((question, self._hear(directory, call, question, now_ms)))  # steps 1, 3 to 6
            self._count_once([(question, each.request) for question, each in heard], now_ms)  # step 6
            for question, each in heard:
                if not question.refused:
                    with deciding(question):
                        self._judge(question, each)  # steps 7 and 8
            self._spend([(question, each.request) for question, each in heard], now_ms)  # step 9
        return questions

    def search(self, questions: Sequence[Question]) -> None:
        """Do step 10 for those that are not refused already."""
        admitted = [(question, question.rule) for question in questions if not question.refused and question.rule is not None]
        if not admitted:
            return
        with metrics.search_seconds.time(), deciding(*(question for question, _ in admitted)):
            try:
                found = self._search(admitted)
            except RefusalError:
                raise
            except Exception:
                if len(admitted) == 1:
                    raise
                for question, _ in admitted:  # whichever of them it was, the others must not suffer
                    self.search([question])
                return
            for (question, rule), each in zip(admitted, found, strict=True):
                with deciding(question):
                    question.found, question.written = _fitted(rule, each)

    def conclude(self, questions: Sequence[Question]) -> list[Envelope]:
        """Do steps 11 and 12, and return the signed answers."""
        if not questions:
            return []
        headers = [self._header(question) for question in questions]
        cores = [write_answer_header(header) + question.written for header, question in zip(headers, questions, strict=True)]
        entries = [question.entry(header, core) for question, header, core in zip(questions, headers, cores, strict=True)]
        try:
            with metrics.audit_seconds.time():
                logged = self.audit.append_many(entries)
            newest = self.audit.latest_checkpoint or self.audit.checkpoint()
        except AuditError as error:
            _log.error("%s; not answering", error)
            for question in questions:
                question.status, question.detail, question.found = Status.AUDIT_UNAVAILABLE, "", None
            payloads = [write_answer_header(self._header(question)) for question in questions]
        else:
            payloads = [
                with_receipt(core, LogReceipt(at.position, at.commitment, newest.text)) for core, at in zip(cores, logged, strict=True)
            ]
        count(questions)
        with metrics.sign_seconds.time():
            return [Envelope(ANSWER_TYPE, payload).signed_by(self.signer) for payload in payloads]

    def _without_directory(self, call: Call) -> Question | None:
        try:
            claimed = claimed_peer(call.leaf_pem)[1].member
        except PeerError:
            return None
        return _question(call, claimed, self.clock(), Status.DIRECTORY_UNAVAILABLE)

    def _arrived(self, directory: Directory, call: Call, now_ms: int) -> Question | None:
        try:
            return _question(call, self._peer(directory, call.leaf_pem).id, now_ms)
        except UnknownPeerError:
            return None

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

    def _hear(self, directory: Directory, call: Call, question: Question, now_ms: int) -> _Heard:
        peer = directory.member(question.member)
        # Step 1.
        try:
            credential_envelope, request_envelope = read_call(call.message)
        except MalformedError as error:
            raise RefusalError(_status_of(error), str(error)) from None
        # Step 3. The member's keys are those of the TLS peer: an envelope of another issuer cannot pass.
        try:
            payload = request_envelope.verify(REQUEST_TYPE, peer.signing_keys)
        except EnvelopeError as error:
            raise RefusalError(Status.VERSION_UNSUPPORTED, str(error)) from None
        except SignatureError:
            # Perhaps a key so new that only a newer directory names it.
            if self.directory_source.refresh_for(peer.id):
                directory = self.directory_source.current()
                peer = directory.members.get(peer.id, peer)
            try:
                payload = request_envelope.verify(REQUEST_TYPE, peer.signing_keys)
            except SignatureError:
                raise RefusalError(Status.BAD_SIGNATURE, "the asking member's signature is missing or does not hold") from None
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
            request_envelope.verify(REQUEST_TYPE, [credential.key])
        except CredentialError as error:
            raise RefusalError(Status.BAD_CREDENTIAL, str(error)) from None
        except SignatureError:
            raise RefusalError(Status.BAD_SIGNATURE, "the investigator's signature is missing or does not hold") from None
        question.credential = credential
        # Step 5.
        try:
            question.request = request = read_request(payload)
        except MalformedError as error:
            raise RefusalError(_status_of(error), str(error)) from None
        except VersionError as error:
            raise RefusalError(Status.VERSION_UNSUPPORTED, str(error)) from None
        self._check_header(request, peer, credential, question.method)
        _take_place(question, request, call.order)
        # Step 6, its first half.
        try:
            check_time_window(request.header.issued_ms, request.header.expires_ms, now_ms)
        except TimeWindowError as error:
            raise RefusalError(Status.OUTSIDE_TIME_WINDOW, str(error)) from None
        return _Heard(directory, peer, credential, request)

    def _check_header(self, request: LookupRequest, peer: Member, credential: Credential, method: str) -> None:
        header = request.header
        if header.federation != self.federation:
            raise RefusalError(Status.WRONG_FEDERATION, f"this node belongs to federation {self.federation}")
        if header.issuer != peer.id:
            raise RefusalError(Status.BAD_SIGNATURE, "the request names another issuer than the member that signed it")
        if header.pseudonym != credential.pseudonym:
            raise RefusalError(Status.BAD_CREDENTIAL, "the request names another person than the credential")
        if header.method != method or (request.stream is None) != (method == LOOKUP_METHOD):
            raise RefusalError(Status.WRONG_METHOD, f"signed for {header.method!r}")
        if self.member not in header.audience:
            raise RefusalError(Status.WRONG_AUDIENCE, f"the request is not addressed to {self.member}")

    def _count_once(self, asked: Sequence[tuple[Question, LookupRequest]], now_ms: int) -> None:
        """Step 6, its second half."""
        if not asked:
            return
        messages = [Message(question.member, request.header.message_id, request.header.issued_ms) for question, request in asked]
        with deciding(*(question for question, _ in asked)):
            try:
                refusals = self.replay.record(messages, now_ms)
            except ReplayMemoryError as error:
                _log.error("%s; not answering", error)
                raise RefusalError(Status.INTERNAL_ERROR, "", str(error)) from None
            for (question, _), refusal in zip(asked, refusals, strict=True):
                if isinstance(refusal, ReplayMemoryError):
                    _log.error("%s; not answering", refusal)
                    question.refuse(RefusalError(Status.INTERNAL_ERROR, "", str(refusal)))
                elif refusal is not None:
                    question.refuse(RefusalError(Status.REPLAYED, "this message cannot be accepted again", str(refusal)))

    def _judge(self, question: Question, heard: _Heard) -> None:
        request, peer = heard.request, heard.peer
        # Step 7.
        purpose = _stated_purpose(request)
        # Step 8.
        own = heard.directory.members.get(self.member)
        if purpose is not Purpose.SELF_TEST and (peer.quarantined or own is None or own.quarantined):
            raise RefusalError(Status.NOT_PERMITTED, "", f"{peer.id} or this member is in quarantine, where only a self-test is answered")
        policy, asker = self.policy.current(), Requester(peer.id, frozenset(heard.credential.roles), purpose)
        rule = policy.decide(asker)
        if rule is None:
            raise RefusalError(Status.NOT_PERMITTED, "", policy.refusal(asker))
        try:
            for column in request.columns:
                column.algorithm.check_distance(column.max_distance)
        except DistanceError as error:
            raise RefusalError(Status.NOT_PERMITTED, str(error)) from None
        question.columns = rule.limit(request.columns)
        if not question.columns:
            raise RefusalError(Status.NOT_PERMITTED, "none of these hash algorithms", f"rule {rule.name} allows none of the algorithms")
        question.rule = rule

    def _spend(self, asked: Sequence[tuple[Question, LookupRequest]], now_ms: int) -> None:
        """Step 9."""
        paying = [(question, request, question.rule) for question, request in asked if not question.refused and question.rule is not None]
        if not paying:
            return
        with deciding(*(question for question, _, _ in paying)):
            charges = [_charge(question, rule, request) for question, request, rule in paying]
            try:
                paid_by = self.quotas.spend(charges, now_ms)
            except QuotasError as error:
                _log.error("%s; not answering", error)
                raise RefusalError(Status.INTERNAL_ERROR, "", str(error)) from None
            for (question, _, _), budget in zip(paying, paid_by, strict=True):
                if isinstance(budget, RateLimitedError):
                    question.refuse(RefusalError(Status.RATE_LIMITED, str(budget)))
                else:
                    question.budget = budget

    def _search(self, admitted: Sequence[tuple[Question, Rule]]) -> list[Found]:
        wanted = [
            SearchQuery(question.columns, rule.max_hits_per_item, functools.partial(rule.tells, question.member), rule.tell)
            for question, rule in admitted
        ]
        try:
            return self.catalogue.search(wanted)
        except IndexBehindError as error:
            raise RefusalError(Status.STALE_INDEX, "", str(error)) from None
        except (IndexBrokenError, StoreError) as error:
            raise RefusalError(Status.INDEX_UNAVAILABLE, "", str(error)) from None

    def _header(self, question: Question) -> AnswerHeader:
        return AnswerHeader(
            federation=self.federation,
            issuer=self.member,
            audience=question.member,
            request_digest=question.digest,
            method=question.method,
            answered_ms=self.clock(),
            sequence=question.sequence,
            last=question.last,
            previous_digest=question.previous_digest,
            status=question.status,
            detail=question.detail[:MAX_TEXT],  # it may quote the question, and a longer text would make the answer unreadable
            index=question.found.state if question.found else None,
        )


def _question(call: Call, member: str, now_ms: int, status: Status = Status.ANSWERED) -> Question:
    method, due = (LOOKUP_METHOD, 0) if call.order is None else (STREAM_METHOD, call.order.due)
    return Question(member, _digest_of(call.message), now_ms, method, due, status=status)


def _digest_of(call: LookupCall) -> bytes:
    return Envelope(call.request.payload_type, call.request.payload).digest


def _take_place(question: Question, request: LookupRequest, order: ChunkOrder | None) -> None:
    """Step 5 for a chunk: it must be the next one of its stream. From here on a refusal is one answer among others and ends nothing."""
    stream = request.stream
    if order is None or stream is None:
        return
    question.begins = order.begins
    try:
        order.accept(stream, question.digest)
    except SequenceError as error:
        raise RefusalError(Status.OUT_OF_SEQUENCE, str(error)) from None
    question.sequence, question.last = stream.number, stream.last


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
        raise RefusalError(Status.JUSTIFICATION_MISSING, f"not stated: {', '.join(missing)}")
    return header.purpose


def _charge(question: Question, rule: Rule, request: LookupRequest) -> Charge:
    urgent = request.header.urgency is Urgency.LIFE_AT_RISK
    return Charge(question.member, rule.name, rule.limits, int(question.begins), request.hash_count, urgent)


def _fitted(rule: Rule, found: Found) -> tuple[Found, bytes]:
    """Return what was found, and as it goes into the answer, with as many records for each item as fit into one message."""
    cap = rule.max_hits_per_item
    while len(written := write_found((record.view() for record in found.records), found.hits, found.truncated_items)) > _FOUND_BYTES:
        cap //= 2
        if not cap:
            raise RefusalError(Status.TOO_LARGE, "the answer does not fit into one message")
        found = found.nearest(cap)
    return found, written


def _status_of(error: MalformedError) -> Status:
    return Status.TOO_LARGE if isinstance(error, TooLargeError) else Status.MALFORMED
