"""How much one gateway asks of the nodes, and how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidfed.federation.nodes.breaker import BreakerRules


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Limits of a `NodePool`; a gateway takes them from `[gateway]` of its configuration.

    Attributes:
        connect_s: how long a connection may take, all attempts together.
        connect_attempts: how often a connection is tried.
        max_calls_per_member: to one node at the same time, at most.
        breaker: when a node is left alone.
        breaker_slow_s: silence for less than this is no failure of the node.
    """

    connect_s: float
    connect_attempts: int
    max_calls_per_member: int
    breaker: BreakerRules
    breaker_slow_s: float
