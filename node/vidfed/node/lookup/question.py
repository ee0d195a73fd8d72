"""One question on its way through the pipeline: what is known about it so far, what becomes of it, and what the log is told of it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vidfed.node.lookup import metrics
from vidfed.security.audit import AuditEntry, Event, Operation
from vidfed.wire.statuses import Status
from vidfed.wire.values import Urgency

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vidfed.node.policy.policy import Rule
    from vidfed.node.policy.quotas import Budget
    from vidfed.node.search.query import Found
    from vidfed.security.identity.credentials import Credential
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.requests import Mandate
    from vidfed.wire.stream import ChunkOrder
    from vidfed.wire.values import AnswerHeader, HashColumn, LookupRequest

_log = logging.getLogger(__name__)


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


class RefusalError(Exception):
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
        begins: its call with this node begins with it: what the budget counts as a lookup, whatever number a chunk claims.
        previous_digest: of the answer before it in its call, known once that answer is signed.
        status, detail: how it is disposed of.
        request, credential: once they are known to hold.
        rule, columns, budget: by which rule, about what of it, and from which budget it may be answered.
        directory_version: of the trust directory by which it is judged; 0 without one.
        found, written: what a search gave, and the same as it goes into the answer.
        mandate, since, generation, epoch: of a standing question: by what it may be asked, behind which version of the records, as of which
            policy, and what the next one is to name.
        logged: by itself; a refusal beyond its member's budget is only counted.
    """

    member: str
    digest: bytes
    started_ms: int
    method: str
    sequence: int = 0
    last: bool = True
    begins: bool = True
    previous_digest: bytes = b""
    status: Status = Status.ANSWERED
    detail: str = ""
    request: LookupRequest | None = None
    credential: Credential | None = None
    rule: Rule | None = None
    columns: tuple[HashColumn, ...] = ()
    budget: Budget | None = None
    directory_version: int = 0
    found: Found | None = None
    written: bytes = b""
    logged: bool = True
    mandate: Mandate | None = None
    since: int | None = None
    generation: bytes = b""
    epoch: bytes = b""

    @property
    def in_outline(self) -> bool:
        """True for a standing question that only asks whether anything new could be near."""
        return self.request is not None and self.request.standing is not None and self.request.standing.sketch

    @property
    def refused(self) -> bool:
        """True once a step has refused it."""
        return self.status is not Status.ANSWERED

    def refuse(self, refusal: RefusalError) -> None:
        """Take down that a step refuses it, and tell the operator why."""
        _log.warning("refused %s from %s: %s", refusal.status.name, self.member, refusal)
        self.status, self.detail = refusal.status, refusal.detail

    def entry(self, header: AnswerHeader, core: bytes) -> AuditEntry:
        """Return what the log is to hold of it and of its answer, whose bytes without the log's receipt are `core`."""
        found, request = self.found, self.request
        stated = request.header if request else None
        details: dict[str, int | str] = {
            "items": request.item_count if request else 0,
            "hashes": request.hash_count if request else 0,
            "hits": len(found.hits) if found else 0,
        }
        if request is not None and request.stream is not None:
            details |= {"stream": request.stream.stream_id.hex(), "chunk": request.stream.number}
        if stated is not None and stated.urgency is not Urgency.ROUTINE:
            details |= {"urgency": stated.urgency.code, "budget": self.budget.value if self.budget else ""}
        if self.mandate is not None:
            details["standing"] = 1
        if found and found.hits:  # by it the register of whom we told knows whether a record has changed since
            details["records_version"] = found.state.version
        return AuditEntry(
            time_ms=header.answered_ms,
            operation=Operation.DISCLOSURE if found and found.hits else Operation.CONSULTATION,
            event=Event.LOOKUP_ANSWERED,
            member=self.member,
            pseudonym=self.credential.pseudonym if self.credential else "",
            purpose=stated.purpose.code if stated and stated.purpose else "",
            legal_basis=stated.legal_basis if stated else "",
            offence_type=stated.offence_type if stated else "",
            case_reference=stated.case_reference if stated else "",
            request_digest=self.digest,
            answer_digest=hashlib.sha256(core).digest(),
            outcome=header.status.name,
            records=tuple(record.reference for record in found.records) if found else (),
            details=details,
        )


def count(questions: Sequence[Question]) -> None:
    """Count questions in the metrics, once they are disposed of; added up first, because each metric has its lock."""
    statuses, hashes, hits, urgent = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for question in questions:
        statuses[question.status.name] += 1
        if question.request is None or question.found is None:
            continue
        hashes[question.member] += question.request.hash_count
        hits[question.member] += len(question.found.hits)
        if question.budget is not None and question.request.header.urgency is not Urgency.ROUTINE:
            urgent[question.budget.value] += 1
    for metric, counted in ((metrics.lookups, statuses), (metrics.hashes, hashes), (metrics.hits, hits), (metrics.urgent, urgent)):
        for label, number in counted.items():
            metric.labels(label).inc(number)


@contextlib.contextmanager
def deciding(*questions: Question) -> Iterator[None]:
    """Write down what becomes of these questions where a step refuses them, or fails."""
    try:
        yield
    except RefusalError as refusal:
        for question in questions:
            question.refuse(refusal)
    except Exception:  # noqa: BLE001 - a defect must end in a signed refusal, never in silence
        _log.exception("defect while answering %s", ", ".join(sorted({question.member for question in questions})))
        for question in questions:
            question.status, question.detail = Status.INTERNAL_ERROR, ""
