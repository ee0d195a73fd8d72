"""How long asks for details took, from what one member's log says of its conversations. Pure.

The same clock as in conversations (section 1.5 of docs/casework-protocol.md), over the entries' own signed times: it begins with the
owner's receipt, stands still while the owner waits for somebody else, and ends with what settles, withdraws, supersedes or closes the ask.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.entries import Event
from vidfed.security.clock import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_BACK_MS = 62 * DAY_MS
"""Before the time reported on: an ask that begins to be overdue in it was made at most so long before, with two waits of 30 days."""
_STEPS = frozenset({"acknowledge", "release", "refuse", "wait"})


@dataclass(slots=True)
class Ask:
    """One ask; times in ms since the epoch.

    Attributes:
        member: the other one: who asks, or is asked.
        own: this log's member asks.
        number: of its entry.
        urgency: by its code.
        started_ms: the owner's receipt.
        allowance_ms: how long it may take.
        wanted, given: what is asked for, and what was given of it.
        pauses: times in which the clock stands still.
        ended_ms: when it ended; None: it has not.
    """

    member: str
    own: bool
    number: int
    urgency: str
    started_ms: int
    allowance_ms: int
    wanted: frozenset[str]
    given: set[str] = field(default_factory=set)
    pauses: list[list[int]] = field(default_factory=list)
    ended_ms: int | None = None

    @property
    def due_ms(self) -> int:
        """When it became, or will become, overdue if nothing ends it or makes it wait."""
        due = self.started_ms + self.allowance_ms
        for begin, end in self.pauses:
            if begin < due:
                due += max(0, end - max(begin, self.started_ms))
        return due

    def overdue(self, from_ms: int, to_ms: int) -> bool:
        """Tell whether it became overdue in [from_ms, to_ms)."""
        return from_ms <= self.due_ms < to_ms and (self.ended_ms is None or self.ended_ms > self.due_ms)


class Asks:
    """The asks of a log, followed entry by entry."""

    def __init__(self) -> None:
        """Begin with none."""
        self._open: dict[str, Ask] = {}
        self._all: list[Ask] = []

    def follow(self, entry: dict[str, Any]) -> int | None:
        """Take an entry in; return how long the ask took that it releases something for first, in ms without pauses' deduction."""
        details = entry["details"]
        kind, conversation = details.get("kind"), str(details.get("conversation", ""))
        received = entry["event"] == Event.CASEWORK_RECEIVED.value
        if kind == "ask" and entry["outcome"] == "TAKEN":
            self._begin(entry, details, conversation, own=not received)
            return None
        # Own entries count when they are signed, others' when they are taken: once each, at the time they were written.
        ask = self._open.get(conversation)
        if ask is None or entry["outcome"] != ("TAKEN" if received else "SIGNED"):
            return None
        written_ms = int(details.get("written_ms", entry["time_ms"]))
        if kind in {"withdraw", "close"}:
            self._end(conversation, written_ms)
        elif kind in _STEPS and details.get("seen", ask.number) >= ask.number:
            return self._step(conversation, ask, str(kind), details, written_ms)
        return None

    def overdue(self, from_ms: int, to_ms: int) -> Iterator[Ask]:
        """Yield those that became overdue in a time."""
        return (ask for ask in self._all if ask.overdue(from_ms, to_ms))

    def _begin(self, entry: dict[str, Any], details: dict[str, Any], conversation: str, *, own: bool) -> None:
        self._end(conversation, int(details.get("written_ms", entry["time_ms"])))
        ask = Ask(
            entry["member"],
            own,
            int(details.get("number", 0)),
            str(details.get("code", "")),
            int(details.get("received_ms", entry["time_ms"])),
            int(details.get("allowance_ms", 0)),
            frozenset(str(details.get("wanted", "")).split(",")),
        )
        self._open[conversation] = ask
        if ask.allowance_ms:
            self._all.append(ask)

    def _step(self, conversation: str, ask: Ask, kind: str, details: dict[str, Any], written_ms: int) -> int | None:
        if ask.pauses:
            ask.pauses[-1][1] = min(ask.pauses[-1][1], written_ms)
        if kind == "wait":
            ask.pauses.append([written_ms, int(details.get("until_ms", written_ms))])
        first = kind == "release" and not ask.given
        if kind == "release":
            ask.given.update(str(details.get("given", "")).split(","))
        if kind == "refuse" or (kind == "release" and (not details.get("more_follows") or ask.given >= ask.wanted)):
            self._end(conversation, written_ms)
        return max(0, written_ms - ask.started_ms) if first else None

    def _end(self, conversation: str, ended_ms: int) -> None:
        if (ask := self._open.pop(conversation, None)) is not None:
            ask.ended_ms = ended_ms
