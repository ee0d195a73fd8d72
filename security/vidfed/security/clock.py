"""Time as everything here takes it: a callable giving milliseconds since the Unix epoch, so that tests can set the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
LAST_MS = 253_402_300_799_999
"""The end of the year 9999: no moment in a document is later."""


def system_clock() -> int:
    """Return the system's time."""
    return time.time_ns() // 1_000_000


def as_text(moment_ms: int) -> str:
    """Write a moment for people and files: ISO 8601, UTC, to the second. Any number has a text: hostile messages name moments too."""
    try:
        return datetime.fromtimestamp(moment_ms / SECOND_MS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "a time outside the calendar"
