"""The replies to a lookup, or to the chunks of a stream, as the gateway passes them on: which count, and what is still due.

Each is judged once, by `ReplyVerifier`. Both classes have receipts kept of what holds and report it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
from vidfed.federation.lookup.result import LookupResult
from vidfed.federation.lookup.verification import P, ReplyVerifier, SignedPart

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from vidfed.federation.lookup.question import Part
    from vidfed.federation.lookup.receipts import Receipt
    from vidfed.security.clock import Clock
    from vidfed.security.identity.directory import Directory
    from vidfed.v1 import gateway_pb2 as pb

_SILENT = "the gateway gave no answer of this node"


class LookupReplies:
    """The replies to one lookup."""

    def __init__(
        self,
        asked: SignedPart[Part],
        directory: Directory,
        clock: Clock,
        on_receipt: Callable[[Receipt], None],
        on_node: Callable[[NodeOutcome], None] = lambda _: None,
    ) -> None:
        """Begin with no reply.

        Args:
            asked: what was asked.
            directory: the investigator's own.
            clock: the investigator's.
            on_receipt: called with the receipt of each answer that holds.
            on_node: called with each judgement; twice for a node that is believed only with a newer directory.
        """
        self.outcomes: dict[str, NodeOutcome] = {}
        self._asked = asked
        self._pending = {asked.digest: asked}
        self._audience = asked.request.header.audience
        self._clock = clock
        self._verifier: ReplyVerifier[Part] = ReplyVerifier(directory, clock)
        self._on_receipt = on_receipt
        self._on_node = on_node
        self._disbelieved: dict[str, pb.NodeReply] = {}

    def take(self, reply: pb.NodeReply) -> None:
        """Judge a reply of a member that was asked and has not replied yet; any other changes nothing."""
        if reply.member not in self._audience or reply.member in self.outcomes:
            return
        self._judge(reply)
        if self.outcomes[reply.member].outcome is Outcome.BAD_SIGNATURE:
            self._disbelieved[reply.member] = reply

    async def judge_again(self, newer: Callable[[str], Awaitable[Directory | None]]) -> None:
        """Judge what was not believed once more if there is a newer directory: the node may have a key that this one does not name.

        Args:
            newer: given a member that was not believed, returns the newer directory or None.
        """
        for member in sorted(self._disbelieved):
            if (directory := await newer(member)) is not None:
                self._verifier = ReplyVerifier(directory, self._clock)
                for reply in self._disbelieved.values():
                    self._judge(reply)
                return

    def take_unreadable(self, member: str) -> None:
        """Note that what is said to be this member's reply cannot be read."""
        if member in self._audience and member not in self.outcomes:
            self._note(NodeOutcome(member, Outcome.BAD_SIGNATURE, "what was kept of its answer cannot be read"))

    def result(self) -> LookupResult:
        """Return what is known, with those named that gave no reply."""
        nodes = (self.outcomes.get(member, NodeOutcome(member, Outcome.MISSING, _SILENT)) for member in self._audience)
        return LookupResult(self._asked.part.items, tuple(nodes))

    def _judge(self, reply: pb.NodeReply) -> None:
        verdict = self._verifier.judge(reply, self._pending)
        if verdict is None:
            return
        if verdict.receipt is not None:
            self._on_receipt(verdict.receipt)
        self._note(verdict.outcome)

    def _note(self, outcome: NodeOutcome) -> None:
        self.outcomes[outcome.member] = outcome
        self._on_node(outcome)


class StreamReplies(Generic[P]):
    """The replies to the chunks of one stream.

    That nothing was dropped, repeated or exchanged on the way is seen by counting: each answer is bound by its signature to one chunk,
    each chunk waits for exactly one answer of each member, and what has no answer stays open. The chain of the answers could not tell more.
    """

    def __init__(
        self,
        audience: Iterable[str],
        verifier: ReplyVerifier[P],
        on_receipt: Callable[[Receipt], None],
        on_node: Callable[[P, NodeOutcome], None],
        on_settled: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin with nothing asked.

        Args:
            audience: the members asked.
            verifier: judges.
            on_receipt: called with the receipt of each answer that holds.
            on_node: called with each verified answer, in the order of parts for each member.
            on_settled: called when a chunk waits for nobody any more.
        """
        self._audience = frozenset(audience)
        self._verifier = verifier
        self._on_receipt = on_receipt
        self._on_node = on_node
        self._on_settled = on_settled
        self._due: dict[bytes, tuple[SignedPart[P], set[str]]] = {}
        self.left: dict[str, NodeOutcome] = {}
        """Members that are not asked any more in this stream, and why."""

    @property
    def open(self) -> bool:
        """True while an answer is due."""
        return bool(self._due)

    @property
    def asked(self) -> frozenset[str]:
        """The members that have not left."""
        return self._audience - self.left.keys()

    def expect(self, chunk: SignedPart[P]) -> None:
        """Wait for an answer to this chunk from every member that has not left."""
        self._due[chunk.digest] = (chunk, set(self.asked))

    def take(self, reply: pb.NodeReply) -> None:
        """Judge a reply. A member that reports a failure, or whose answer does not hold, has left the stream."""
        member = reply.member
        if member not in self.asked:
            return
        pending = {digest: chunk for digest, (chunk, members) in self._due.items() if member in members}
        if not pending and reply.WhichOneof("reply") == "answer":
            return  # nothing is due: it changes nothing, whatever it is
        verdict = self._verifier.judge(reply, pending)
        if verdict is None:
            return
        if verdict.answered is None:
            self._leave(verdict.outcome)
            return
        for digest in pending:  # nodes answer in order: what came before was lost on the way
            self._settle(digest, member)
            if digest == verdict.answered.digest:
                break
        if verdict.receipt is not None:
            self._on_receipt(verdict.receipt)
        self._on_node(verdict.answered.part, verdict.outcome)

    def end(self) -> None:
        """Say of those that still owe an answer that none came."""
        for _, members in self._due.values():
            for member in members:
                self.left.setdefault(member, NodeOutcome(member, Outcome.MISSING, _SILENT))

    def _leave(self, outcome: NodeOutcome) -> None:
        self.left[outcome.member] = outcome
        for digest in tuple(self._due):
            self._settle(digest, outcome.member)

    def _settle(self, digest: bytes, member: str) -> None:
        _, members = self._due[digest]
        members.discard(member)
        if not members:
            del self._due[digest]
            self._on_settled()
