"""What a node does with questions, step by step. Reads top to bottom; each step either passes or refuses with a status.

 1. identify       the TLS peer is a node of a member of the trust directory, by that member's own CA
 2. authenticate   size and form of the call
 3.                the member's signature over the request, as received
 4.                the investigator's credential, signed by that member and valid now; the investigator's signature over the same bytes
 5.                only now: parse the request; federation, issuer, pseudonym, method and audience are those of the signers and of this
                   node; a chunk is the next one of its stream
 6.                the time window
 7. record once    it did not come before
 8. authorise      purpose, legal basis, offence type and case reference are stated
 9.                nobody in quarantine asks or answers more than a self-test, which any member may; policy for this member, the person's
                   roles and the purpose; distances allowed
10. charge         what the member has left of its budgets
11. search         everything within the distances, in one state of the records; where it is told in bands, by which codes is counted
12. log            audit entry, durable before the reply
13. sign           the answer

Every outcome from step 2 on is a signed answer, bound to the question by the digest of its signed bytes.

Questions that wait together are taken through the steps together. Each is judged by itself; what has to wait for a disk, a lock or a
database (7, 10, 11, 12) is done once for all of them.
"""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vidfed.node.errors import IndexBehindError, IndexBrokenError, QuotasError, StoreError
from vidfed.node.lookup import metrics
from vidfed.node.lookup.authenticate import Authenticated, Authenticator, UnknownPeerError
from vidfed.node.lookup.authorise import Authoriser
from vidfed.node.lookup.question import Question, RefusalError, count, deciding
from vidfed.node.lookup.standing import SHORTEST_MS, StandingQuestions, generation_of
from vidfed.node.policy.policy import SELF_TEST_RULE, Distances
from vidfed.node.search.catalogue import PATIENCE_S
from vidfed.node.search.query import SearchQuery
from vidfed.security.audit import Event
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import AuditError, DirectoryError, PeerError, ReplayMemoryError
from vidfed.security.identity.tls import claimed_peer
from vidfed.security.member.refusals import Refusals
from vidfed.wire.answers import with_receipt, write_answer_header, write_found
from vidfed.wire.statuses import Status
from vidfed.wire.values import (
    ANSWER_TYPE,
    LOOKUP_METHOD,
    MAX_MESSAGE_BYTES,
    MAX_TEXT,
    STREAM_METHOD,
    AnswerHeader,
    LogReceipt,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vidfed.index import Algorithm
    from vidfed.node.lookup.question import Call
    from vidfed.node.lookup.told import ToldCodes
    from vidfed.node.policy.policy import PolicySource, Rule
    from vidfed.node.policy.quotas import Quotas
    from vidfed.node.search.catalogue import Catalogue
    from vidfed.node.search.query import Found, Telling
    from vidfed.security.audit import AuditLog
    from vidfed.security.clock import Clock
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import Directory, DirectorySource
    from vidfed.security.identity.replay import ReplayMemory
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.requests import Mandate
    from vidfed.wire.values import LookupRequest

_log = logging.getLogger(__name__)
_FOUND_BYTES = MAX_MESSAGE_BYTES - 80 * 1024  # room for the header and the log's receipt with its cosigned checkpoint


@dataclass(frozen=True, slots=True)
class LookupPipeline:
    """Answers lookups for one member. Blocking; called from worker threads.

    Self-tests search the canary and never the records.

    `answer` does all of it; a stream takes the three parts apart, so that one chunk is admitted while another is searched.
    """

    federation: str
    member: str
    signer: Signer
    directory_source: DirectorySource
    catalogue: Catalogue
    canary: Catalogue
    policy: PolicySource
    quotas: Quotas
    told_codes: ToldCodes
    replay: ReplayMemory
    audit: AuditLog
    clock: Clock
    epoch_key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    mandate_ended: Callable[[str, bytes], bool] = lambda _member, _serial: False
    watch_ms: int = SHORTEST_MS
    _standing: StandingQuestions = field(init=False, repr=False)
    _authenticator: Authenticator = field(init=False, repr=False)
    _authoriser: Authoriser = field(init=False, repr=False)
    _refusals: Refusals = field(init=False, repr=False, default_factory=lambda: Refusals(Event.LOOKUPS_REFUSED))

    def __post_init__(self) -> None:
        """Give each group of steps what it needs."""
        standing = StandingQuestions(self.member, self.epoch_key, self.mandate_ended, self.catalogue.mark, self.watch_ms)
        object.__setattr__(self, "_standing", standing)
        authenticator = Authenticator(self.federation, self.member, self.directory_source, self.replay, self.clock, standing)
        object.__setattr__(self, "_authenticator", authenticator)
        object.__setattr__(self, "_authoriser", Authoriser(self.member, self.policy, self.quotas))

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
            return self._authenticator.identify(self.directory_source.current(), leaf_pem).id
        except DirectoryError:  # refused later, signed
            return claimed_peer(leaf_pem)[1].member

    def can_answer(self) -> bool:
        """Tell whether a question would find a trust directory, an index that equals the records, and a memory that lets it be new."""
        try:
            self.directory_source.current()
            self.catalogue.check()
            return self.replay.knows_from_ms() <= self.clock()
        except (DirectoryError, IndexBehindError, IndexBrokenError, StoreError, ReplayMemoryError):
            return False

    def busy(self, call: LookupCall, member: str, method: str) -> Envelope:
        """Return the signed refusal to look at a call at all; it is not logged, because nothing was looked at."""
        question = Question(member, _digest_of(call), self.clock(), method, status=Status.BUSY)
        count([question])
        return Envelope(ANSWER_TYPE, write_answer_header(self._header(question))).signed_by(self.signer)

    def admit(self, calls: Sequence[Call]) -> list[Question | None]:
        """Do steps 1 to 10, and return the questions, each admitted or refused; None where the caller is no member's node."""
        with metrics.admit_seconds.time():
            try:
                directory = self.directory_source.current()
            except DirectoryError as error:
                _log.error("%s; not answering", error)
                return [self._without_directory(call) for call in calls]
            now_ms = self.clock()
            questions = [self._arrived(directory, call, now_ms) for call in calls]
            authenticated: list[tuple[Question, Authenticated]] = []
            for question, call in zip(questions, calls, strict=True):
                if question is not None:
                    with deciding(question):
                        authenticated.append((question, self._authenticator.authenticate(directory, call, question, now_ms)))
            self._authenticator.record_once([(question, each.request) for question, each in authenticated], now_ms)
            for question, each in authenticated:
                if not question.refused:
                    with deciding(question):
                        self._authoriser.authorise(question, each)
                        self._place(question, each, now_ms)
            self._authoriser.charge([(question, each.request) for question, each in authenticated], now_ms)
        return questions

    def _place(self, question: Question, authenticated: Authenticated, now_ms: int) -> None:
        """Say of a standing question behind which version of the records it is searched."""
        if question.mandate is None or question.rule is None:
            return
        roles = frozenset(authenticated.credential.roles)
        question.generation = generation_of(self.policy.current().to_json(), question.rule, roles)
        if question.rule is not SELF_TEST_RULE:
            with deciding(question):
                question.since = self._since(authenticated.request, question.mandate, question.generation, now_ms)

    def _since(self, request: LookupRequest, mandate: Mandate, generation: bytes, now_ms: int) -> int | None:
        try:
            return self._standing.since(request, mandate, generation, now_ms)
        except StoreError as error:
            raise RefusalError(Status.INDEX_UNAVAILABLE, "", str(error)) from None

    def search(self, questions: Sequence[Question]) -> None:
        """Do step 11 for those that are not refused already."""
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
                    if rule.too_old(each.state.records_as_of_ms, each.state.current_ms):
                        hours = f"older than the {rule.max_records_age_hours} hours that this member's policy allows"
                        raise RefusalError(Status.RECORDS_TOO_OLD, f"this member's records are {hours}")
                    near = question.in_outline and bool(each.truncated_items)
                    question.found, question.written = _fitted(rule, replace(each, truncated_items=()) if near else each)
                    whole = not near and not question.found.truncated_items
                    if question.mandate is not None and question.request is not None and whole:
                        version, now_ms = each.state.version, self.clock()
                        question.epoch = self._standing.next_epoch(question.request, question.mandate, question.generation, version, now_ms)

    def conclude(self, questions: Sequence[Question]) -> list[Envelope]:
        """Do steps 12 and 13, and return the signed answers."""
        if not questions:
            return []
        now_ms = self.clock()
        for question in questions:
            question.logged = not question.refused or self._refusals.logged_whole(question.member, question.status.name, now_ms)
        count(questions)  # before a status gives way to BUSY
        payloads = self._log(questions)
        return self._sign(payloads)

    def log_refusals(self, *, end: bool = False) -> None:
        """Log how many refusals were not logged one by one, if it is time, or at the `end`.

        Raises:
            AuditError: the log cannot be written; they are still known.
        """
        if entries := self._refusals.due(self.clock(), end=end):
            try:
                self.audit.append_many(entries)
            except AuditError:
                self._refusals.put_back(entries)
                raise

    def _without_directory(self, call: Call) -> Question | None:
        try:
            claimed = claimed_peer(call.leaf_pem)[1].member
        except PeerError:
            return None
        return _question(call, claimed, self.clock(), Status.DIRECTORY_UNAVAILABLE)

    def _arrived(self, directory: Directory, call: Call, now_ms: int) -> Question | None:
        try:
            question = _question(call, self._authenticator.identify(directory, call.leaf_pem).id, now_ms)
        except UnknownPeerError:
            return None
        question.directory_version = directory.version
        return question

    def _search(self, admitted: Sequence[tuple[Question, Rule]]) -> list[Found]:
        """Step 11: a self-test searches the canary, where the records could be searched, and nothing else."""
        found: dict[int, Found] = {}
        try:
            for question, rule in admitted:
                if question.in_outline:
                    found[id(question)] = self.catalogue.touch_recent(self._query(question, rule), question.since)
                elif question.since is not None:
                    found[id(question)] = self.catalogue.search_recent(self._query(question, rule), question.since)
            for catalogue in (self.catalogue, self.canary):
                own = [each for each in admitted if id(each[0]) not in found and (each[1] is SELF_TEST_RULE) is (catalogue is self.canary)]
                wanted = [self._query(question, rule) for question, rule in own]
                if wanted and catalogue is self.canary:
                    self.catalogue.check(patience_s=PATIENCE_S)
                if wanted:
                    found |= {id(question): each for (question, _), each in zip(own, catalogue.search(wanted), strict=True)}
            return [found[id(question)] for question, _ in admitted]
        except IndexBehindError as error:
            raise RefusalError(Status.STALE_INDEX, "", str(error)) from None
        except (IndexBrokenError, StoreError) as error:
            raise RefusalError(Status.INDEX_UNAVAILABLE, "", str(error)) from None
        except QuotasError as error:
            _log.error("%s; not answering", error)
            raise RefusalError(Status.INTERNAL_ERROR, "", str(error)) from None

    def _query(self, question: Question, rule: Rule) -> SearchQuery:
        tells = functools.partial(rule.tells, question.member)
        films = question.request.films if question.request else ()
        bands = None
        if rule.distances is Distances.BANDS:
            now_ms = self.clock()
            bands = _Bands(self.told_codes, question.member, now_ms, self.told_codes.coarse(question.member, now_ms))
        return SearchQuery(question.columns, rule.max_hits_per_item, tells, rule.tell, films, bands)

    def _log(self, questions: Sequence[Question]) -> list[bytes]:
        """Step 12: return each answer's payload, with its place in the log; a refusal where it cannot or need not be logged."""
        for question in questions:
            if not question.logged:
                question.status, question.detail = Status.BUSY, "too many questions of this member were refused; they are only counted now"
        headers = [self._header(question) for question in questions]
        cores = [write_answer_header(header) + question.written for header, question in zip(headers, questions, strict=True)]
        entries = [
            question.entry(header, core) for question, header, core in zip(questions, headers, cores, strict=True) if question.logged
        ]
        try:
            with metrics.audit_seconds.time():
                logged = iter(self.audit.append_many(entries) if entries else ())
            newest = self.audit.latest_checkpoint or self.audit.checkpoint()
        except AuditError as error:
            _log.error("%s; not answering", error)
            for question in questions:
                question.status, question.detail, question.found = Status.AUDIT_UNAVAILABLE, "", None
            return [write_answer_header(self._header(question)) for question in questions]
        return [
            with_receipt(core, LogReceipt((at := next(logged)).position, at.commitment, newest.text)) if question.logged else core
            for question, core in zip(questions, cores, strict=True)
        ]

    def _sign(self, payloads: Sequence[bytes]) -> list[Envelope]:
        """Step 13."""
        with metrics.sign_seconds.time():
            return [Envelope(ANSWER_TYPE, payload).signed_by(self.signer) for payload in payloads]

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
            directory_version=question.directory_version,
            epoch=question.epoch if question.status is Status.ANSWERED else b"",
        )


@dataclass(frozen=True, slots=True)
class _Bands:
    """What one member was told by bands: see `vidfed.node.search.query.Bands`."""

    told_codes: ToldCodes
    member: str
    now_ms: int
    coarse: frozenset[str]

    def count(self, tellings: Sequence[Telling]) -> frozenset[str]:
        return self.told_codes.count(self.member, tellings, self.now_ms)

    def compared(self, algorithm: Algorithm, code: bytes) -> NDArray[np.uint8]:
        return self.told_codes.compared(algorithm, code)


def _question(call: Call, member: str, now_ms: int, status: Status = Status.ANSWERED) -> Question:
    method, due = (LOOKUP_METHOD, 0) if call.order is None else (STREAM_METHOD, call.order.due)
    return Question(member, _digest_of(call.message), now_ms, method, due, status=status)


def _digest_of(call: LookupCall) -> bytes:
    return Envelope(call.request.payload_type, call.request.payload).digest


def _written(found: Found) -> bytes:
    return write_found((record.view() for record in found.records), found.hits, found.truncated_items, found.frames_not_searched)


def _fitted(rule: Rule, found: Found) -> tuple[Found, bytes]:
    """Return what was found, and as it goes into the answer, with as many records for each item as fit into one message."""
    cap = rule.max_hits_per_item
    while len(written := _written(found)) > _FOUND_BYTES:
        cap //= 2
        if not cap:
            raise RefusalError(Status.TOO_LARGE, "the answer does not fit into one message")
        found = found.nearest(cap)
    return found, written
