"""What the nodes said to one question: each reply judged once, by the asker's own copy of the directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from vidfed.federation.client.receipt_store import Keeping
from vidfed.federation.lookup.answers import verify_answer
from vidfed.federation.lookup.errors import AnswerError
from vidfed.federation.lookup.outcome import LookupResult, NodeOutcome, Outcome, outcome_of_answer
from vidfed.federation.lookup.receipts import Receipt
from vidfed.security.errors import UnknownMemberError
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.statuses import WireError
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vidfed.federation.client.receipt_store import ReceiptStore
    from vidfed.federation.lookup.question import Part
    from vidfed.security.clock import Clock
    from vidfed.security.identity.directory import Directory
    from vidfed.v1 import services_pb2 as pb
    from vidfed.wire.values import LookupRequest

_FAILURES = {
    FailureKind.UNREACHABLE.value: Outcome.UNREACHABLE,
    FailureKind.TIMEOUT.value: Outcome.TIMEOUT,
    FailureKind.BREAKER_OPEN.value: Outcome.BREAKER_OPEN,
}


def judged_failure(reply: pb.NodeReply) -> NodeOutcome:
    """Return what a gateway says of a node that it has no answer from."""
    outcome = _FAILURES.get(reply.failure.kind, Outcome.PROTOCOL_ERROR)
    return NodeOutcome(reply.member, outcome, reply.failure.detail if reply.failure.detail.isprintable() else "")


class Said:
    """Collects replies. An async context manager: leaving it waits until the receipts of what was believed are on disk."""

    def __init__(
        self,
        part: Part,
        request: LookupRequest,
        digest: bytes,
        directory: Directory,
        receipts: ReceiptStore,
        clock: Clock,
        on_node: Callable[[NodeOutcome], None] = lambda _: None,
    ) -> None:
        """Begin with nothing said.

        Args:
            part: what was asked about.
            request: how it was asked.
            digest: SHA-256 of the request's signed bytes.
            directory: the asker's own.
            receipts: where answers that hold are kept.
            clock: the asker's.
            on_node: called with each judgement; twice for a node that is believed only with a newer directory.
        """
        self.outcomes: dict[str, NodeOutcome] = {}
        self._part = part
        self._request = request
        self._digest = digest
        self._directory = directory
        self._keeping = Keeping(receipts)
        self._clock = clock
        self._on_node = on_node
        self._disbelieved: dict[str, pb.NodeReply] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._keeping.__aexit__()

    def take(self, reply: pb.NodeReply) -> None:
        """Judge a reply of a member that was asked and has not been heard yet; any other changes nothing."""
        if reply.member in self._request.header.audience and reply.member not in self.outcomes:
            outcome = self._judge(reply)
            if outcome.outcome is Outcome.BAD_SIGNATURE:
                self._disbelieved[reply.member] = reply
            self._note(outcome)

    async def judge_again(self, newer: Callable[[str], Awaitable[Directory | None]]) -> None:
        """Judge what was not believed once more if there is a newer directory: the node may have a key that this one does not name.

        Args:
            newer: given a member that was not believed, returns the newer directory or None.
        """
        for member in sorted(self._disbelieved):
            if (directory := await newer(member)) is not None:
                self._directory = directory
                for reply in self._disbelieved.values():
                    self._note(self._judge(reply))
                return

    def take_unreadable(self, member: str) -> None:
        """Note that what is said to be this member's reply cannot be read."""
        if member in self._request.header.audience and member not in self.outcomes:
            self._note(NodeOutcome(member, Outcome.BAD_SIGNATURE, "what was kept of its answer cannot be read"))

    def result(self) -> LookupResult:
        """Return what is known, with those of whom nothing was heard named."""
        silent = "the gateway gave no answer of this node"
        audience = self._request.header.audience
        nodes = (self.outcomes.get(member, NodeOutcome(member, Outcome.MISSING, silent)) for member in audience)
        return LookupResult(self._part.items, tuple(nodes))

    def _note(self, outcome: NodeOutcome) -> None:
        self.outcomes[outcome.member] = outcome
        self._on_node(outcome)

    def _judge(self, reply: pb.NodeReply) -> NodeOutcome:
        if reply.WhichOneof("reply") != "answer":
            return judged_failure(reply)
        try:
            envelope = wire_envelope.from_message(reply.answer)
            member = self._directory.member(reply.member)
            answer = verify_answer(envelope, member=member, request=self._request, request_digest=self._digest, now_ms=self._clock())
        except UnknownMemberError:
            return NodeOutcome(reply.member, Outcome.BAD_SIGNATURE, "it is no member any more: its answer cannot be checked")
        except (AnswerError, WireError) as error:
            return NodeOutcome(reply.member, Outcome.BAD_SIGNATURE, f"the answer {error}; it was not believed")
        header = self._request.header
        self._keeping.add(Receipt(header.federation, reply.member, header.issued_ms, header.case_reference, envelope))
        return outcome_of_answer(
            reply.member, answer, self._part.items, {column.algorithm: column.max_distance for column in self._part.columns}
        )
