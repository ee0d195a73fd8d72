"""One lookup at one node, from the breaker's leave to ask until what was learned is given back."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.federation.nodes.breaker import Breaker, BreakerState, Ticket
from vidfed.federation.nodes.outgoing import failure
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from vidfed.federation.nodes.concurrency import ConcurrencyLimiter
    from vidfed.v1 import gateway_pb2 as pb

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the gateway has learned of one member's node.

    Attributes:
        member: its id.
        breaker: what the breaker does now; `retry_in_s` says for how long if it is open.
        failures: in a row.
        under_way, waiting: lookups at the node now, and those that wait for a slot.
        allowed: how many may be at the node at the same time.
        answers, unanswered: since the gateway started.
        usual_ms: smoothed time of its answers; 0 before the first.
        last_failure: why it last gave no answer, empty if it never did.
    """

    member: str
    breaker: BreakerState
    retry_in_s: float
    failures: int
    under_way: int
    waiting: int
    allowed: int
    answers: int
    unanswered: int
    usual_ms: float
    last_failure: str


@dataclass(slots=True)
class KnownNode:
    """One member's node as this gateway knows it: breaker, concurrency limiter and figures, kept between lookups."""

    breaker: Breaker
    limiter: ConcurrencyLimiter
    answers: int = 0
    unanswered: int = 0
    usual_ms: float = 0.0
    last_failure: str = ""

    def state(self, member: str, now_s: float) -> NodeState:
        """Return what is known of it now."""
        breaker = self.breaker.state(now_s)
        return NodeState(
            member=member,
            breaker=breaker,
            retry_in_s=max(0.0, self.breaker.open_until_s - now_s) if breaker is BreakerState.OPEN else 0.0,
            failures=self.breaker.failures,
            under_way=self.limiter.busy,
            waiting=self.limiter.waiting,
            allowed=self.limiter.limit.allowed,
            answers=self.answers,
            unanswered=self.unanswered,
            usual_ms=self.usual_ms,
            last_failure=self.last_failure,
        )

    def left_alone(self, member: str, now_s: float) -> pb.NodeReply:
        """Return what is said of it while its breaker is open."""
        wait_s = max(1.0, self.breaker.open_until_s - now_s)
        detail = f"not asked: it kept failing ({self.last_failure}); tried again in {wait_s:.0f} s"
        return failure(member, FailureKind.BREAKER_OPEN, detail)


@dataclass(slots=True)
class VisitFailed(Exception):  # noqa: N818 - a step's outcome, never seen outside `NodePool`
    """A step fails: `good` is what breaker and concurrency limiter learn from it."""

    kind: FailureKind
    detail: str
    good: bool | None = field(default=False)


class Visit:
    """One lookup at one node: holds the breaker's ticket and a slot, and gives both back once, with what was learned."""

    def __init__(self, member: str, node: KnownNode, ticket: Ticket) -> None:
        self._member = member
        self._node = node
        self._ticket: Ticket | None = ticket
        self._epoch: int | None = None

    def take_free_slot(self) -> bool:
        """Take a slot if that needs no waiting."""
        self._epoch = self._node.limiter.take_free()
        return self._epoch is not None

    async def take_slot(self) -> None:
        """Wait for a slot. Raises TimeoutError if the visit ended in the very moment in which it was given."""
        epoch = await self._node.limiter.take()
        if self._ticket is None:
            self._node.limiter.give_back(epoch, good=None)
            raise TimeoutError
        self._epoch = epoch

    def slow_down(self) -> None:
        """Let fewer lookups at the node: it says that it is busy."""
        if self._epoch is not None:
            self._node.limiter.limit.bad(self._epoch)

    def overdue(self, good: bool | None) -> None:
        """End the visit at the deadline. Of a node that was not asked, because other lookups had all its slots, nothing is learned."""
        self.end(good=good if self._epoch is not None else None)

    def end(self, good: bool | None) -> None:
        """End the visit; a second end does nothing."""
        if self._ticket is None:
            return
        now_s = asyncio.get_running_loop().time()
        ticket, self._ticket = self._ticket, None
        before = self._node.breaker.state(now_s)
        self._node.breaker.report(ticket, good=good, now_s=now_s)
        after = self._node.breaker.state(now_s)
        if before is not after:
            _log.warning("breaker of %s: %s, was %s", self._member, after.value, before.value)
        if self._epoch is not None:
            self._node.limiter.give_back(self._epoch, good=good)
