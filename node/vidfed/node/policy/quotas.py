"""What each member has spent of its budgets: one SQLite file that all processes of a node share and a restart finds again.

One short transaction for the lookups that are answered together, or a chunk. What cannot be counted is not answered.
"""

from __future__ import annotations

import sqlite3
import threading
from enum import Enum, unique
from typing import TYPE_CHECKING, NamedTuple

from vidfed.node.errors import QuotasError, RateLimitedError
from vidfed.security.clock import DAY_MS, MINUTE_MS, SECOND_MS
from vidfed.security.sqlite import connect, transaction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidfed.node.policy.policy import Limits

_SPAN_MS = {"minute": MINUTE_MS, "day": DAY_MS}


@unique
class Budget(Enum):
    """Which budget a question was answered from."""

    ORDINARY = "ordinary"
    URGENT = "urgent"


class Charge(NamedTuple):
    """What one lookup or chunk spends.

    Attributes:
        member: who asks.
        rule: name of the policy's rule; each has its own budget.
        limits: of that rule.
        lookups: 1, or 0 for a further chunk of a stream that was counted.
        hashes: how many are asked about.
        urgent: a life is at risk: where the ordinary budget is spent, the urgent one pays.
    """

    member: str
    rule: str
    limits: Limits
    lookups: int
    hashes: int
    urgent: bool = False


class Quotas:
    """The running minute and day of each member under each rule. Safe from several threads and several processes."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, making it if absent.

        Raises:
            QuotasError: it cannot be opened.
        """
        self._lock = threading.Lock()
        try:
            # NORMAL: a killed process loses nothing; a power cut may lose the last moments, which is less than a budget forgives.
            self._database = connect(path, {"journal_mode": "WAL", "synchronous": "NORMAL"})
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS spent (member TEXT, rule TEXT, budget TEXT, span TEXT, start_ms INTEGER, lookups INTEGER, "
                "hashes INTEGER, PRIMARY KEY (member, rule, budget, span)) WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            raise QuotasError(f"{path}: {error}") from None

    def spend(self, charges: Sequence[Charge], now_ms: int) -> list[Budget | RateLimitedError]:
        """Count each of these charges whole, or not at all where its budget has no room; durably against a killed process.

        Returns:
            For each which budget paid, or why none did: which limit it is and when to come again.

        Raises:
            QuotasError: it cannot be counted; nothing was.
        """
        with self._lock:
            try:
                with transaction(self._database):
                    ledger = _Ledger(self._database, now_ms)
                    paid_by = [ledger.take(charge) for charge in charges]
                    ledger.save()
            except sqlite3.Error as error:
                raise QuotasError(f"rate budgets: {error}") from error
            return paid_by

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


class _Ledger:
    """What is spent, read once for each member and rule, and written once. For one transaction."""

    def __init__(self, database: sqlite3.Connection, now_ms: int) -> None:
        self._database = database
        self._now_ms = now_ms
        self._starts_ms = {span: now_ms - now_ms % length_ms for span, length_ms in _SPAN_MS.items()}
        self._spent: dict[tuple[str, str], dict[tuple[str, str], tuple[int, int]]] = {}
        self._changed: dict[tuple[str, str, str, str], tuple[int, int]] = {}

    def take(self, charge: Charge) -> Budget | RateLimitedError:
        limits = charge.limits
        ordinary = (
            ("minute", limits.lookups_per_minute, limits.hashes_per_minute),
            ("day", limits.lookups_per_day, limits.hashes_per_day),
        )
        if (refusal := self._take(charge, Budget.ORDINARY, ordinary)) is None:
            return Budget.ORDINARY
        if not charge.urgent or not limits.urgent_lookups_per_day:
            return refusal
        kept = (("day", limits.urgent_lookups_per_day, limits.urgent_hashes_per_day),)
        return self._take(charge, Budget.URGENT, kept) or Budget.URGENT

    def save(self) -> None:
        if not self._changed:
            return
        rows = [(*key[:3], key[3], self._starts_ms[key[3]], *spent) for key, spent in self._changed.items()]
        marks = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(rows))
        self._database.execute(f"INSERT OR REPLACE INTO spent VALUES {marks}", [value for row in rows for value in row])  # noqa: S608 - marks

    def _take(self, charge: Charge, budget: Budget, allowed: tuple[tuple[str, int, int], ...]) -> RateLimitedError | None:
        spent = self._spent_of(charge.member, charge.rule)
        after = {}
        for span, most_lookups, most_hashes in allowed:
            lookups, hashes = spent.get((budget.value, span), (0, 0))
            after[span] = lookups + charge.lookups, hashes + charge.hashes
            for name, limit, more, reached in (
                ("lookups", most_lookups, charge.lookups, after[span][0]),
                ("hashes", most_hashes, charge.hashes, after[span][1]),
            ):
                if more and reached > limit:
                    wait_s = -(-(self._starts_ms[span] + _SPAN_MS[span] - self._now_ms) // SECOND_MS)
                    which = "urgent " if budget is Budget.URGENT else ""
                    return RateLimitedError(f"more than {limit} {which}{name} in a {span}; again in {wait_s} s")
        for span, reached_both in after.items():
            spent[budget.value, span] = self._changed[charge.member, charge.rule, budget.value, span] = reached_both
        return None

    def _spent_of(self, member: str, rule: str) -> dict[tuple[str, str], tuple[int, int]]:
        if (member, rule) not in self._spent:
            rows = self._database.execute(
                "SELECT budget, span, start_ms, lookups, hashes FROM spent WHERE member = ? AND rule = ?", (member, rule)
            )
            self._spent[member, rule] = {
                (budget, span): (lookups, hashes) for budget, span, start_ms, lookups, hashes in rows if start_ms == self._starts_ms[span]
            }
        return self._spent[member, rule]
