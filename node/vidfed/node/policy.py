"""Whom a node answers, and for what. Pure; with nothing configured, nobody is answered."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from vidfed.security.clock import MINUTE_MS
from vidfed.security.errors import HomeError
from vidfed.wire.values import Purpose


@dataclass(frozen=True, slots=True)
class PolicySection:
    """`[policy]` of the configuration file. Empty means nobody is answered.

    Attributes:
        answer_members: ids of the members that are answered.
        purposes: purposes that are answered, by code.
        max_hashes_per_minute: for each member.
        max_hits_per_item: of more records for one item, the nearest are told and the rest is announced.
    """

    answer_members: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    max_hashes_per_minute: int = 600_000
    max_hits_per_item: int = 20


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read and makes sense."""

    answer_members: frozenset[str]
    purposes: frozenset[Purpose]
    max_hashes_per_minute: int
    max_hits_per_item: int

    @classmethod
    def from_section(cls, section: PolicySection) -> Policy:
        """Check a section.

        Raises:
            HomeError: a purpose is unknown, or a limit is not positive.
        """
        known = {purpose.code: purpose for purpose in Purpose}
        if unknown := sorted(set(section.purposes) - known.keys()):
            raise HomeError(f"[policy] purposes: {unknown[0]!r} is unknown; known are {', '.join(known)}")
        for name in ("max_hashes_per_minute", "max_hits_per_item"):
            if getattr(section, name) < 1:
                raise HomeError(f"[policy] {name} must be at least 1")
        purposes = frozenset(known[code] for code in section.purposes)
        return cls(frozenset(section.answer_members), purposes, section.max_hashes_per_minute, section.max_hits_per_item)

    def refusal(self, member: str, purpose: Purpose) -> str | None:
        """Return why this member may not ask for this purpose, or None if it may."""
        if member not in self.answer_members:
            return f"member {member} is not answered by this node's policy"
        if purpose not in self.purposes:
            return f"purpose {purpose.code} is not answered by this node's policy"
        return None


class HashRates:
    """How many hashes each member asked for in the running minute. Safe from several threads."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._minute = 0
        self._spent: dict[str, int] = {}

    def spend(self, member: str, hashes: int, now_ms: int) -> bool:
        """Count these hashes and return True, or return False if they are more than the minute has left."""
        minute = now_ms // MINUTE_MS
        with self._lock:
            if minute != self._minute:
                self._minute, self._spent = minute, {}
            spent = self._spent.get(member, 0) + hashes
            if spent > self._per_minute:
                return False
            self._spent[member] = spent
            return True
