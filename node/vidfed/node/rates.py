"""What each member has spent of its budgets: one SQLite file that all processes of a node share and a restart finds again.

One short transaction for each lookup or chunk, none for a hash. What cannot be counted is not answered.
"""

from __future__ import annotations

import sqlite3
import threading
from enum import Enum, unique
from typing import TYPE_CHECKING

from vidfed.node.errors import BudgetsError, RateLimitedError
from vidfed.security.clock import DAY_MS, MINUTE_MS, SECOND_MS

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.node.policy import Limits

_SPAN_MS = {"minute": MINUTE_MS, "day": DAY_MS}


@unique
class Lane(Enum):
    """Which budget a question was answered from."""

    ORDINARY = "ordinary"
    URGENT = "urgent"


class Budgets:
    """The running minute and day of each member under each rule. Safe from several threads and several processes."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, making it if absent.

        Raises:
            BudgetsError: it cannot be opened.
        """
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, timeout=5, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing; a power cut may lose the last moments, which is less than a budget forgives.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS spent (member TEXT, rule TEXT, lane TEXT, span TEXT, start_ms INTEGER, lookups INTEGER, "
                "hashes INTEGER, PRIMARY KEY (member, rule, lane, span)) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise BudgetsError(f"{path}: {error}") from None

    def spend(self, member: str, rule: str, limits: Limits, *, lookups: int, hashes: int, now_ms: int, urgent: bool = False) -> Lane:
        """Count lookups and hashes, durably against a killed process, if the budget has room for all of them; otherwise count nothing.

        Args:
            member: who asks.
            rule: name of the policy's rule; each has its own budget.
            limits: of that rule.
            lookups: 1, or 0 for a further chunk of a stream that was counted.
            hashes: how many are asked about.
            now_ms: the time.
            urgent: a life is at risk: where the ordinary budget is spent, the urgent one pays.

        Raises:
            RateLimitedError: there is no room; the message says which limit and when to come again.
            BudgetsError: it cannot be counted.
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    lane = self._spend(member, rule, limits, (lookups, hashes), now_ms, urgent=urgent)
                    self._database.execute("COMMIT")
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise BudgetsError(f"rate budgets: {error}") from error
            return lane

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _spend(self, member: str, rule: str, limits: Limits, wanted: tuple[int, int], now_ms: int, *, urgent: bool) -> Lane:
        ordinary = {
            "minute": (limits.lookups_per_minute, limits.hashes_per_minute),
            "day": (limits.lookups_per_day, limits.hashes_per_day),
        }
        try:
            self._charge(member, rule, Lane.ORDINARY, ordinary, wanted, now_ms)
        except RateLimitedError:
            if not urgent or not limits.urgent_lookups_per_day:
                raise
            kept = {"day": (limits.urgent_lookups_per_day, limits.urgent_hashes_per_day)}
            self._charge(member, rule, Lane.URGENT, kept, wanted, now_ms)
            return Lane.URGENT
        return Lane.ORDINARY

    def _charge(
        self, member: str, rule: str, lane: Lane, allowed: dict[str, tuple[int, int]], wanted: tuple[int, int], now_ms: int
    ) -> None:
        found = self._database.execute(
            "SELECT span, start_ms, lookups, hashes FROM spent WHERE member = ? AND rule = ? AND lane = ?", (member, rule, lane.value)
        )
        spent = {(span, start_ms): (lookups, hashes) for span, start_ms, lookups, hashes in found}
        rows = []
        for span, limits in allowed.items():
            start_ms = now_ms - now_ms % _SPAN_MS[span]
            before = spent.get((span, start_ms), (0, 0))
            for name, limit, so_far, more in zip(("lookups", "hashes"), limits, before, wanted, strict=True):
                if more and so_far + more > limit:
                    wait_s = -(-(start_ms + _SPAN_MS[span] - now_ms) // SECOND_MS)
                    which = "urgent " if lane is Lane.URGENT else ""
                    raise RateLimitedError(f"more than {limit} {which}{name} in a {span}; again in {wait_s} s")
            rows.append((member, rule, lane.value, span, start_ms, before[0] + wanted[0], before[1] + wanted[1]))
        self._database.executemany("INSERT OR REPLACE INTO spent VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
