"""Answers as an honest node signs them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from vidfed.security.audit import Checkpoint, log_origin
from vidfed.security.crypto.envelope import Envelope
from vidfed.wire.answers import write_answer
from vidfed.wire.values import ANSWER_TYPE, AnswerHeader, IndexState, LogReceipt, LookupAnswer, LookupRequest, Searched

if TYPE_CHECKING:
    from vidfed.security.crypto.keys import Signer
    from vidfed.wire.statuses import Status


def answer_to(
    request: LookupRequest, digest: bytes, member: str, audit_signer: Signer, status: Status, now_ms: int, **header: object
) -> LookupAnswer:
    """Return an answer without hits as an honest node with an empty log would give it; `header` replaces fields of its header."""
    checkpoint = Checkpoint(log_origin(request.header.federation, member), 0, hashlib.sha256().digest()).signed_by(audit_signer)
    complete = AnswerHeader(
        federation=request.header.federation,
        issuer=member,
        audience=request.header.issuer,
        request_digest=digest,
        method=request.header.method,
        answered_ms=now_ms,
        status=status,
        sequence=request.stream.number if request.stream else 0,
        last=request.stream.last if request.stream else True,
        index=IndexState(1, now_ms, now_ms, tuple(Searched(each.algorithm, each.max_distance) for each in request.columns)),
    )
    named = replace(complete, **header)  # type: ignore[arg-type]  # the test names the fields
    return LookupAnswer(named, log=LogReceipt(0, bytes(32), checkpoint.text))


def sign_answer(answer: LookupAnswer, signer: Signer) -> Envelope:
    """Sign an answer."""
    return Envelope(ANSWER_TYPE, write_answer(answer)).signed_by(signer)
