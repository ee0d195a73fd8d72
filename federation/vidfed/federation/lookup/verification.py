"""What is said to be a node's reply is judged here, and nowhere else: replies to one lookup and to the chunks of a stream alike. Pure.

An answer holds if it is signed by the node it is said to be from, to this very request, and about nothing else. It is read once; which
request it answers it says itself, under its signature.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from vidfed.federation.lookup.errors import AnswerError, ClockError
from vidfed.federation.lookup.outcome import (
    NodeOutcome,
    Outcome,
    clock_outcome,
    first_codes,
    outcome_of_answer,
    outcome_out_of_time,
)
from vidfed.federation.lookup.question import Part
from vidfed.federation.lookup.receipts import UNLOGGED, Receipt
from vidfed.index import Algorithm
from vidfed.security.audit.notes import Checkpoint
from vidfed.security.errors import CheckpointError, EnvelopeError, SignatureError, UnknownMemberError
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status, WireError
from vidfed.wire.values import ANSWER_TYPE, MAX_UNANSWERED_CHUNKS, FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.security.clock import Clock
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.security.identity.directory import Directory, Member
    from vidfed.v1 import gateway_pb2 as pb
    from vidfed.wire.values import FilmTimes, Hit, LookupAnswer, LookupRequest

_log = logging.getLogger(__name__)
_REMEMBERED = 2 * MAX_UNANSWERED_CHUNKS  # answers of each member, to know one that is repeated on the way
_FAILURES = {
    FailureKind.UNREACHABLE.value: Outcome.UNREACHABLE,
    FailureKind.TIMEOUT.value: Outcome.TIMEOUT,
    FailureKind.BREAKER_OPEN.value: Outcome.BREAKER_OPEN,
}
P = TypeVar("P", bound=Part)


@dataclass(frozen=True, eq=False)
class SignedPart(Generic[P]):
    """A part as it was asked about.

    Attributes:
        part: what it is about.
        request: how it was asked.
        digest: SHA-256 of the request's signed bytes, by which answers name it.
    """

    part: P
    request: LookupRequest
    digest: bytes

    @cached_property
    def distances(self) -> dict[Algorithm, int]:
        """The algorithms asked, with the largest distance asked for."""
        return {column.algorithm: column.max_distance for column in self.request.columns}

    @cached_property
    def items_of_codes(self) -> dict[Algorithm, list[int]]:
        """For each algorithm the item of each code, by the code's position in its column."""
        return {column.algorithm: column.items.tolist() for column in self.request.columns}

    @cached_property
    def films(self) -> dict[int, FilmTimes]:
        """The items that are films."""
        return {film.item: film for film in self.request.films}

    @cached_property
    def first_codes(self) -> dict[Algorithm, list[int]]:
        """For each algorithm the position in its column of each item's first code."""
        return first_codes(self.part.items)


@dataclass(frozen=True, slots=True)
class Verdict(Generic[P]):
    """What a reply is worth.

    Attributes:
        outcome: for people and programs.
        answered: the part that the answer is about; None if there is no answer that holds.
        receipt: of an answer that holds and was logged. A refusal for want of a log, or of time to look, names no entry to prove.
    """

    outcome: NodeOutcome
    answered: SignedPart[P] | None = None
    receipt: Receipt | None = None


class ReplyVerifier(Generic[P]):
    """Judges replies by the investigator's own copy of the directory, whoever passed them on."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        """Begin with no answer seen.

        Args:
            directory: the investigator's own.
            clock: the investigator's.
        """
        self._directory = directory
        self._clock = clock
        self._seen: dict[str, deque[bytes]] = {}

    def judge(self, reply: pb.NodeReply, pending: Mapping[bytes, SignedPart[P]]) -> Verdict[P] | None:
        """Return what a reply is worth; None for an answer that held before and was repeated on the way.

        Args:
            reply: as the gateway passed it on.
            pending: the requests this member may answer now, by digest.
        """
        if reply.WhichOneof("reply") != "answer":
            return Verdict(_reported_failure(reply))
        member_id = reply.member
        try:
            envelope = wire_envelope.from_message(reply.answer)
            seen = self._seen.setdefault(member_id, deque(maxlen=_REMEMBERED))
            if envelope.digest in seen:
                return None
            member = self._directory.member(member_id)
            now_ms = self._clock()
            answered, answer = verify_answer(envelope, member=member, pending=pending, now_ms=now_ms)
        except ClockError as error:
            return Verdict(clock_outcome(member_id, error.ahead_ms))
        except UnknownMemberError:
            return Verdict(NodeOutcome(member_id, Outcome.BAD_SIGNATURE, "it is no member any more: its answer cannot be checked"))
        except (AnswerError, WireError) as error:
            return Verdict(NodeOutcome(member_id, Outcome.BAD_SIGNATURE, f"the answer {error}; it was not believed"))
        except Exception:  # noqa: BLE001 - a node that finds a defect here must not end what all the others answered
            return _defect(member_id)
        header = answered.request.header
        starts = answered.first_codes if answer.hits else {}
        try:
            if answer.header.status is Status.OUTSIDE_TIME_WINDOW:
                outcome = outcome_out_of_time(member_id, answer, header.issued_ms, header.expires_ms, now_ms)
            else:
                outcome = outcome_of_answer(member_id, answer, answered.part.items, answered.distances, starts)
        except Exception:  # noqa: BLE001 - as above
            return _defect(member_id)
        seen.append(envelope.digest)
        receipt = Receipt(header.federation, member_id, header.issued_ms, header.case_reference, envelope)
        return Verdict(outcome, answered, receipt if answer.log is not None else None)


def verify_answer(
    envelope: Envelope, *, member: Member, pending: Mapping[bytes, SignedPart[P]], now_ms: int
) -> tuple[SignedPart[P], LookupAnswer]:
    """Return the answer and what it is an answer to, if this member gave it to one of these requests.

    Args:
        envelope: as received, from whomever.
        member: the node it is said to be from, by the investigator's own directory.
        pending: the requests it may be an answer to, by digest.
        now_ms: the investigator's time.

    Raises:
        AnswerError: it does not hold; the message says which rule it breaks.
    """
    try:
        answer = read_answer(envelope.verify(ANSWER_TYPE, member.signing_keys))
    except SignatureError:
        raise AnswerError(f"not signed with a key of {member.id}") from None
    except (EnvelopeError, WireError) as error:
        raise AnswerError(str(error)) from None
    header = answer.header
    federations = {asked.request.header.federation for asked in pending.values()}
    if header.issuer != member.id or header.federation not in federations:
        raise AnswerError("names another issuer or federation")
    answered = pending.get(header.request_digest)
    if answered is None:
        raise AnswerError("answers another question")
    request = answered.request
    if header.audience != request.header.issuer:
        raise AnswerError("is addressed to another member")
    if header.method != request.header.method:
        raise AnswerError("was given to another call")
    if request.stream is None and (header.sequence or not header.last or header.previous_digest):
        raise AnswerError("is a piece of a stream, not a whole answer")
    if not request.header.issued_ms - WINDOW_MS <= header.answered_ms <= now_ms + WINDOW_MS:
        behind = header.answered_ms < request.header.issued_ms
        raise ClockError(header.answered_ms, header.answered_ms - (request.header.issued_ms if behind else now_ms))
    _check_receipt(answer, member, request)
    _check_hits(answer, answered)
    return answered, answer


def _check_receipt(answer: LookupAnswer, member: Member, request: LookupRequest) -> None:
    """An answer that was not logged is not one: only the refusal to answer for want of a log, or of time to look, may come without."""
    if answer.log is None:
        if answer.header.status not in UNLOGGED:
            raise AnswerError("was not logged")
        return
    try:
        Checkpoint.parse(answer.log.checkpoint).verify_log(request.header.federation, member.id, member.audit_keys)
    except CheckpointError as error:
        raise AnswerError(f"names no state of the node's log: {error}") from None


def _check_hits(answer: LookupAnswer, answered: SignedPart[P]) -> None:
    for hit in answer.hits:
        for match in hit.matches:
            items = answered.items_of_codes.get(match.algorithm, [])
            if match.code >= len(items) or items[match.code] != hit.item:
                raise AnswerError("has a hit for something that was not asked")
            if match.distance > answered.distances[match.algorithm]:
                raise AnswerError("has a hit beyond the distance asked for")
        _check_film(hit, answered)
    named = (*answer.truncated_items, *(each.item for each in answer.frames_not_searched))
    if any(item >= answered.request.item_count for item in named):
        raise AnswerError("names an item that was not asked")
    for left_out in answer.frames_not_searched:
        film = answered.films.get(left_out.item)
        if left_out.frames > (1 if film is None else len(np.unique(film.from_ms))):
            raise AnswerError("did not search more frames of an item than were asked")


def _check_film(hit: Hit, answered: SignedPart[P]) -> None:
    """What is told of a film must be about a film, and about no more of it than was asked."""
    film = answered.films.get(hit.item)
    if (hit.film is None) != (film is None or all(match.algorithm is not Algorithm.PDQ for match in hit.matches)):
        raise AnswerError("tells of a film what it does not tell of others, or the other way round")
    if hit.film is None or film is None:
        return
    if hit.film.frames != len(np.unique(film.from_ms)):
        raise AnswerError("counts other frames of a film than were asked")
    if any(stretch.until_ms > int(film.until_ms.max()) for stretch in hit.film.stretches):
        raise AnswerError("has a hit after the end of a film")


def _defect(member: str) -> Verdict[P]:
    """Return the verdict on an answer that this program fails to read; called while the exception is handled."""
    _log.exception("defect while reading the answer of %s", member)
    return Verdict(NodeOutcome(member, Outcome.PROTOCOL_ERROR, "its answer could not be read; it was not believed"))


def _reported_failure(reply: pb.NodeReply) -> NodeOutcome:
    """Return what a gateway says of a node that it has no answer from."""
    outcome = _FAILURES.get(reply.failure.kind, Outcome.PROTOCOL_ERROR)
    return NodeOutcome(reply.member, outcome, reply.failure.detail if reply.failure.detail.isprintable() else "")
