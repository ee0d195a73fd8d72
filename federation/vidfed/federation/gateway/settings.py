"""`[gateway]` of the configuration file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.federation.nodes.breaker import BreakerRules
from vidfed.federation.nodes.limits import PoolLimits
from vidfed.security.settings import check_above_zero, check_listen

if TYPE_CHECKING:
    from vidfed.security.member.home import MemberHome


@dataclass(frozen=True, slots=True)
class GatewaySection:
    """`[gateway]`. All numbers are above 0.

    Attributes:
        listen: `host:port` for the member's own investigators.
        metrics_listen: where Prometheus reads, as `host:port` over plain HTTP, so of this machine only; empty: nowhere.
        deadline_s: how long one lookup waits for the slowest node at most; who asks may wait less, not longer.
        connect_s: how long a connection to a node may take, all attempts together; after that it is unreachable.
        connect_attempts: how often a connection is tried. A lookup itself is never sent twice.
        max_lookups: of all investigators at the same time; who comes beyond is told to come back.
        max_lookups_per_investigator: of one investigator at the same time, so that one bulk lookup leaves room for others.
        max_calls_per_member: to one node at the same time; how many below that follows from how it keeps up.
        breaker_failures: failures in a row after which a node is left alone for a while.
        breaker_open_s: for how long at first; each failed probe doubles it.
        breaker_open_max_s: for how long at most.
        breaker_slow_s: silence for less than this is no failure: it was the asker who was in a hurry.
        late_s: how long after the deadline answers are still collected, for whoever wants them kept.
        keep_hours: how long replies are kept for the investigator who asked.
        keep_max_mib: for all kept replies together; what does not fit is not kept, and the lookup itself goes on.
    """

    listen: str
    deadline_s: float = 20.0
    connect_s: float = 5.0
    connect_attempts: int = 3
    max_lookups: int = 64
    max_lookups_per_investigator: int = 16
    max_calls_per_member: int = 32
    breaker_failures: int = 5
    breaker_open_s: float = 15.0
    breaker_open_max_s: float = 300.0
    breaker_slow_s: float = 5.0
    late_s: float = 120.0
    keep_hours: float = 168.0
    keep_max_mib: int = 1024
    metrics_listen: str = ""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        check_listen(self, "listen", *(["metrics_listen"] if self.metrics_listen else []))
        check_above_zero(self, *(field.name for field in dataclasses.fields(self) if field.name not in {"listen", "metrics_listen"}))

    @property
    def pool(self) -> PoolLimits:
        """What the pool of nodes goes by."""
        return PoolLimits(
            connect_s=self.connect_s,
            connect_attempts=self.connect_attempts,
            max_calls_per_member=self.max_calls_per_member,
            breaker=BreakerRules(self.breaker_failures, self.breaker_open_s, self.breaker_open_max_s),
            breaker_slow_s=self.breaker_slow_s,
        )


def read_gateway_section(home: MemberHome) -> GatewaySection:
    """Return `[gateway]`.

    Raises:
        HomeError: a value is missing or makes no sense.
    """
    return home.section("gateway", GatewaySection)
