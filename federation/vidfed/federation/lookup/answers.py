"""Whether an answer holds: signed by the node it is said to be from, to this very question, and about nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.federation.lookup.errors import AnswerError
from vidfed.security.audit.notes import Checkpoint, log_origin
from vidfed.security.clock import as_text
from vidfed.security.errors import CheckpointError, EnvelopeError, SignatureError
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.wire.lookup import read_answer
from vidfed.wire.statuses import Status, WireError
from vidfed.wire.values import ANSWER_TYPE

if TYPE_CHECKING:
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.security.identity.directory import Member
    from vidfed.wire.values import LookupAnswer, LookupRequest


def verify_answer(envelope: Envelope, *, member: Member, request: LookupRequest, request_digest: bytes, now_ms: int) -> LookupAnswer:
    """Return the answer if this member gave it to this request. Of a chunk, its place in the stream is for `AnswerOrder` to judge.

    Args:
        envelope: as received, from whomever.
        member: the node it is said to be from, by the asker's own directory.
        request: what was asked.
        request_digest: SHA-256 of the request's signed bytes.
        now_ms: the asker's time.

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
    if header.issuer != member.id or header.federation != request.header.federation:
        raise AnswerError("names another issuer or federation")
    if header.request_digest != request_digest:
        raise AnswerError("answers another question")
    if header.audience != request.header.issuer:
        raise AnswerError("is addressed to another member")
    if header.method != request.header.method:
        raise AnswerError("was given to another call")
    if request.stream is None and (header.sequence or not header.last or header.previous_digest):
        raise AnswerError("is a piece of a stream, not a whole answer")
    if not request.header.issued_ms - WINDOW_MS <= header.answered_ms <= now_ms + WINDOW_MS:
        raise AnswerError(f"is dated {as_text(header.answered_ms)}; compare the clocks")
    _check_receipt(answer, member, request)
    _check_hits(answer, request)
    return answer


def _check_receipt(answer: LookupAnswer, member: Member, request: LookupRequest) -> None:
    """An answer that was not logged is not one: only the refusal to answer for want of a log, or of time to look, may come without."""
    if answer.log is None:
        if answer.header.status not in {Status.AUDIT_UNAVAILABLE, Status.BUSY}:
            raise AnswerError("was not logged")
        return
    try:
        Checkpoint.parse(answer.log.checkpoint).verify(log_origin(request.header.federation, member.id), member.audit_keys)
    except CheckpointError as error:
        raise AnswerError(f"names no state of the node's log: {error}") from None


def _check_hits(answer: LookupAnswer, request: LookupRequest) -> None:
    columns = {column.algorithm: column for column in request.columns}
    for hit in answer.hits:
        for match in hit.matches:
            column = columns.get(match.algorithm)
            if column is None or match.code >= len(column.items) or int(column.items[match.code]) != hit.item:
                raise AnswerError("has a hit for something that was not asked")
            if match.distance > column.max_distance:
                raise AnswerError("has a hit beyond the distance asked for")
    if any(item >= request.item_count for item in answer.truncated_items):
        raise AnswerError("names an item that was not asked")
