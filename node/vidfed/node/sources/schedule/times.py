"""When a source is looked at next: regularly, a little irregularly, and less often while it fails. Pure."""

from __future__ import annotations

from dataclasses import dataclass

JITTER_SHARE = 0.1
"""Of the interval: so that many nodes, or many sources, do not ask one server at the same second for ever."""
FIRST_RETRY_S = 60.0
"""Seconds until a failed run is tried again for the first time; doubled with every further failure."""
MOST_RETRY_S = 3_600.0
"""Seconds: the longest a failing source is left alone, unless its own interval is longer."""


@dataclass(frozen=True, slots=True)
class Run:
    """How the last runs of a source went. Times in ms since the epoch.

    Attributes:
        attempted_ms: when the last run began; 0: never.
        failures: in a row, 0 after a success.
        waiting: it waits for a person's decision; trying again changes nothing, but the source may mend itself.
        not_before_ms: the source itself asked to be left alone until then.
    """

    attempted_ms: int = 0
    failures: int = 0
    waiting: bool = False
    not_before_ms: int = 0


def pause_s(every_s: float, failures: int, chance: float) -> float:
    """Return how many seconds lie between the begin of one run and the next.

    Args:
        every_s: the source's interval.
        failures: in a row.
        chance: 0 to 1, from a random generator.
    """
    pause = every_s
    if failures:
        # A quick retry helps against a passing fault even where the interval is a day; later ones are rarer than any interval.
        pause = min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 16), max(every_s, MOST_RETRY_S))
    return pause * (1.0 - JITTER_SHARE + 2 * JITTER_SHARE * chance)


def next_ms(run: Run, every_s: float, chance: float) -> int:
    """Return when the next run is due, in ms since the epoch."""
    if not run.attempted_ms:
        return run.not_before_ms
    pause = every_s if run.waiting else pause_s(every_s, run.failures, chance)
    return max(run.attempted_ms + round(pause * 1000), run.not_before_ms)


def is_full_due(compared_ms: int, full_every_s: float, now_ms: int) -> bool:
    """Return whether everything must be compared, not only what changed."""
    return not compared_ms or now_ms >= compared_ms + full_every_s * 1000 or compared_ms > now_ms
