"""How many lookups may be under way at one node at the same time: as many as it keeps up with.

Additive increase, multiplicative decrease (Chiu and Jain 1989, as TCP does it): an answer in time allows a little more, a failure halves.
"""

from __future__ import annotations

import asyncio
from collections import deque

_START = 4.0


class ConcurrencyLimit:
    """The number itself. Pure."""

    def __init__(self, maximum: int) -> None:
        """Begin low.

        Args:
            maximum: never more at the same time; at least 1.
        """
        self._maximum = float(maximum)
        self._value = min(_START, self._maximum)
        self._epoch = 0

    @property
    def allowed(self) -> int:
        """How many may be under way; from 1 to the maximum."""
        return int(self._value)

    @property
    def epoch(self) -> int:
        """Grows with each decrease. Failures of calls that began in an earlier epoch are consequences of the same trouble."""
        return self._epoch

    def good(self) -> None:
        """An answer came in time."""
        self._value = min(self._maximum, self._value + 1.0 / self._value)

    def bad(self, began: int) -> None:
        """A call that began in epoch `began` failed."""
        if began == self._epoch:
            self._epoch += 1
            self._value = max(1.0, self._value / 2.0)


class ConcurrencyLimiter:
    """Hands out as many slots as the limit allows, first come first served. For one event loop."""

    def __init__(self, maximum: int) -> None:
        self.limit = ConcurrencyLimit(maximum)
        self.busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return sum(not waiter.done() for waiter in self._waiting)

    def take_free(self) -> int | None:
        """Return the epoch in which a slot was given at once, to be followed by `give_back`; None if there is none without waiting."""
        if self.busy >= self.limit.allowed or self.waiting:
            return None
        self.busy += 1
        return self.limit.epoch

    async def take(self) -> int:
        """Wait for a slot; return the epoch in which it was given. Must be followed by `give_back`."""
        if (epoch := self.take_free()) is not None:
            return epoch
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # given and cancelled at the same moment
                self.give_back(0, good=None)
            raise
        return self.limit.epoch

    def give_back(self, began: int, *, good: bool | None) -> None:
        """End a slot.

        Args:
            began: what `take` returned.
            good: True for an answer in time, False for a failure, None if nothing was learned.
        """
        self.busy -= 1
        if good:
            self.limit.good()
        elif good is False:
            self.limit.bad(began)
        while self._waiting and self.busy < self.limit.allowed:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.busy += 1
                waiter.set_result(None)
