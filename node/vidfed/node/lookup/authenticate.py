"""Steps 1 to 7 of the pipeline: who asks, whether this is really their question, and whether it came before."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vidfed.node.lookup import metrics
from vidfed.node.lookup.question import RefusalError, deciding
from vidfed.security.errors import (
    CredentialError,
    EnvelopeError,
    ForgottenError,
    PeerError,
    ReplayMemoryError,
    SignatureError,
    TimeWindowError,
)
from vidfed.security.identity.credentials import Credential, verify_credential
from vidfed.security.identity.replay import Message, ReplayMemory, check_time_window, refusal_text
from vidfed.security.identity.tls import NODE_ROLE, verify_peer
from vidfed.wire.envelope import read_call
from vidfed.wire.requests import read_request
from vidfed.wire.statuses import MalformedError, SequenceError, Status, TooLargeError, VersionError
from vidfed.wire.values import REQUEST_TYPE, STANDING_METHOD, STREAM_METHOD, LookupRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.node.lookup.question import Call, Question
    from vidfed.node.lookup.standing import StandingQuestions
    from vidfed.security.clock import Clock
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.security.identity.directory import Directory, DirectorySource, Member
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.stream import ChunkOrder

_log = logging.getLogger(__name__)


class UnknownPeerError(Exception):
    """The caller is no member's node; it is owed no answer."""


class Authenticated(NamedTuple):
    """What steps 1 to 6 know to hold: who asks, by which directory, and what."""

    directory: Directory
    peer: Member
    credential: Credential
    request: LookupRequest


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Steps 1 to 7 at one member's node. Blocking; each question that does not pass is refused with a status."""

    federation: str
    member: str
    directory_source: DirectorySource
    replay: ReplayMemory
    clock: Clock
    standing: StandingQuestions

    def identify(self, directory: Directory, leaf_pem: bytes) -> Member:
        """Step 1: return the member whose node holds this TLS certificate.

        Raises:
            UnknownPeerError: the caller is no member's node.
        """
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

    def authenticate(self, directory: Directory, call: Call, question: Question, now_ms: int) -> Authenticated:
        """Steps 2 to 6: return what is known to hold of a question.

        Raises:
            RefusalError: one of them does not hold.
        """
        peer = directory.member(question.member)
        credential_envelope, request_envelope = _read_form(call.message)
        directory, peer, payload = self._verify_member(directory, peer, request_envelope)
        standing = call.order is None and call.message.HasField("mandate")
        signed_by_person = None if standing else request_envelope
        question.credential = credential = self._verify_investigator(peer, credential_envelope, signed_by_person, now_ms)
        question.request = request = _parse(payload)
        if standing:
            question.method = STANDING_METHOD
        self._check_header(request, peer, credential, question.method)
        if standing:
            question.mandate = self.standing.verify(call.message, request, credential, now_ms)
        _take_place(question, request, call.order)
        _check_time(request, now_ms)
        return Authenticated(directory, peer, credential, request)

    def _verify_member(self, directory: Directory, peer: Member, request: Envelope) -> tuple[Directory, Member, bytes]:
        """Step 3. The member's keys are those of the TLS peer: an envelope of another issuer cannot pass."""
        try:
            return directory, peer, request.verify(REQUEST_TYPE, peer.signing_keys)
        except EnvelopeError as error:
            raise RefusalError(Status.VERSION_UNSUPPORTED, str(error)) from None
        except SignatureError:
            # Perhaps a key so new that only a newer directory names it. It is asked for beside this: others wait behind this thread.
            under_way = self.directory_source.refresh_for(peer.id)
            directory = self.directory_source.current()
            peer = directory.members.get(peer.id, peer)
            try:
                return directory, peer, request.verify(REQUEST_TYPE, peer.signing_keys)
            except SignatureError:
                if under_way:
                    raise RefusalError(Status.BUSY, "the signature is by no key known here; a newer list of members is asked for") from None
                raise RefusalError(Status.BAD_SIGNATURE, "the asking member's signature is missing or does not hold") from None

    def _verify_investigator(self, peer: Member, credential: Envelope, request: Envelope | None, now_ms: int) -> Credential:
        """Step 4. A standing question is signed by its mandate's person in that mandate; see `standing`."""
        try:
            verified = verify_credential(
                credential,
                federation=self.federation,
                member=peer.id,
                member_keys=peer.signing_keys,
                now_ms=now_ms,
                revoked=peer.revoked,
            )
        except CredentialError as error:
            raise RefusalError(Status.BAD_CREDENTIAL, str(error)) from None
        if request is None:
            return verified
        try:
            request.verify(REQUEST_TYPE, [verified.key])
        except SignatureError:
            raise RefusalError(Status.BAD_SIGNATURE, "the investigator's signature is missing or does not hold") from None
        return verified

    def _check_header(self, request: LookupRequest, peer: Member, credential: Credential, method: str) -> None:
        """Step 5: federation, issuer, pseudonym, method and audience are those of the signers and of this node."""
        header = request.header
        if header.federation != self.federation:
            raise RefusalError(Status.WRONG_FEDERATION, f"this node belongs to federation {self.federation}")
        if header.issuer != peer.id:
            raise RefusalError(Status.BAD_SIGNATURE, "the request names another issuer than the member that signed it")
        if header.pseudonym != credential.pseudonym:
            raise RefusalError(Status.BAD_CREDENTIAL, "the request names another person than the credential")
        if header.method != method or (request.stream is not None) != (method == STREAM_METHOD):
            raise RefusalError(Status.WRONG_METHOD, f"signed for {header.method!r}")
        if (request.standing is not None) != (method == STANDING_METHOD):
            raise RefusalError(Status.WRONG_METHOD, "a standing question goes with its mandate, and nothing else does")
        if self.member not in header.audience:
            raise RefusalError(Status.WRONG_AUDIENCE, f"the request is not addressed to {self.member}")

    def record_once(self, asked: Sequence[tuple[Question, LookupRequest]], now_ms: int) -> None:
        """Step 7: remember questions that passed so far, and refuse those that came before."""
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
                if isinstance(refusal, ForgottenError):
                    question.refuse(RefusalError(Status.NOT_YET, refusal_text(refusal.until_ms), str(refusal)))
                elif isinstance(refusal, ReplayMemoryError):
                    _log.error("%s; not answering", refusal)
                    question.refuse(RefusalError(Status.INTERNAL_ERROR, "", str(refusal)))
                elif refusal is not None:
                    question.refuse(RefusalError(Status.REPLAYED, "this message cannot be accepted again", str(refusal)))


def _read_form(call: LookupCall) -> tuple[Envelope, Envelope]:
    """Step 2: return the credential's envelope and the request's."""
    try:
        return read_call(call)
    except MalformedError as error:
        raise RefusalError(_status_of(error), str(error)) from None


def _parse(payload: bytes) -> LookupRequest:
    """Step 5: what was verified is parsed only now."""
    try:
        return read_request(payload)
    except MalformedError as error:
        raise RefusalError(_status_of(error), str(error)) from None
    except VersionError as error:
        raise RefusalError(Status.VERSION_UNSUPPORTED, str(error)) from None


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


def _check_time(request: LookupRequest, now_ms: int) -> None:
    """Step 6."""
    try:
        check_time_window(request.header.issued_ms, request.header.expires_ms, now_ms)
    except TimeWindowError as error:
        raise RefusalError(Status.OUTSIDE_TIME_WINDOW, str(error)) from None


def _status_of(error: MalformedError) -> Status:
    return Status.TOO_LARGE if isinstance(error, TooLargeError) else Status.MALFORMED
