"""Time that a test sets."""

from __future__ import annotations

from dataclasses import dataclass, field

from vidfed.security.clock import system_clock


@dataclass(slots=True)
class SettableClock:
    """A clock that stands still until it is told to move. It starts at the real time, because certificates are made by it."""

    now_ms: int = field(default_factory=system_clock)

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms

    def advance(self, elapsed_ms: int) -> None:
        """Move the clock; backwards if negative."""
        self.now_ms += elapsed_ms
