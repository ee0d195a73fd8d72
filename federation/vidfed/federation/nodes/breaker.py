"""A circuit breaker for one member's node: who fails again and again is left alone for a while, then tried with one lookup. Pure.

    CLOSED     every lookup goes through; `failures` failures in a row open the breaker
    OPEN       none goes through until the pause is over, apart from urgent ones, which are always tried
    HALF_OPEN  one lookup at a time goes through as a probe: success closes, failure opens again for twice as long

A report about a lookup that was let through before the last change of state changes nothing: it speaks of another time. Only a success
while the breaker is open (an urgent lookup's) closes it at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SPREAD = 0.2  # share of a pause that is left to chance, so that many gateways do not come back to a node in the same second


@unique
class BreakerState(Enum):
    """What the breaker does with the next lookup; see the module."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When to open, and for how long.

    Attributes:
        failures: in a row, from 1.
        open_s: the first pause.
        open_max_s: the longest pause; each failed probe doubles it up to here.
    """

    failures: int = 5
    open_s: float = 15.0
    open_max_s: float = 300.0


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """Leave to ask once. Must be handed back with `Breaker.report`."""

    generation: int
    probe: bool


class Breaker:
    """The breaker of one node. Times are in seconds of any clock that never goes back."""

    def __init__(self, rules: BreakerRules, chance: Callable[[], float] = random.random) -> None:
        """Begin closed.

        Args:
            rules: when to open.
            chance: gives numbers from 0 up to 1 that spread the pauses.
        """
        self._rules = rules
        self._chance = chance
        self._generation = 0
        self._openings = 0  # in a row, without a success between them
        self._probe: Ticket | None = None
        self._open = False
        self.failures = 0
        self.open_until_s = 0.0

    def state(self, now_s: float) -> BreakerState:
        """Return the state at this moment."""
        if not self._open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_s < self.open_until_s else BreakerState.HALF_OPEN

    def admit(self, now_s: float, *, urgent: bool = False) -> Ticket | None:
        """Return leave to ask now, or None: the node is to be left alone."""
        state = self.state(now_s)
        if state is BreakerState.CLOSED:
            return Ticket(self._generation, probe=False)
        if state is BreakerState.HALF_OPEN and self._probe is None:
            self._probe = Ticket(self._generation, probe=True)
            return self._probe
        return Ticket(self._generation, probe=False) if urgent else None

    def report(self, ticket: Ticket, *, good: bool | None, now_s: float) -> None:
        """Say what came of asking.

        Args:
            ticket: from `admit`; a second report about it is ignored where it could do harm.
            good: True if the node answered in whatever way; False if it failed; None if nothing was learned.
            now_s: the time.
        """
        if ticket is self._probe:
            self._probe = None
        if good is None or ticket.generation != self._generation:
            return
        if good:
            self.failures = self._openings = 0
            if self._open:
                self._open = False
                self._next_generation()
            return
        if not self._open:
            self.failures += 1
            if self.failures < self._rules.failures:
                return
        elif not ticket.probe:  # an urgent lookup that failed says nothing new
            return
        self._open = True
        pause_s = min(self._rules.open_s * 2.0 ** min(self._openings, 30), self._rules.open_max_s)
        self._openings += 1
        self.open_until_s = now_s + pause_s * (1.0 - _SPREAD * self._chance())
        self._next_generation()

    def _next_generation(self) -> None:
        self._generation += 1
        self._probe = None
