"""What one other member has learnt from this one, and asked of it: for a compromise, or a notice to a supervisor. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.entries import Event

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True)
class ToldRecord:
    """How often a record was told, first and last when (ms since the epoch), and to which pseudonyms."""

    first_ms: int
    last_ms: int
    times: int = 0
    persons: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class CaseworkLine:
    """One entry of a conversation, or news: of which kind, about which records, signed by whom; sent to the member, or received from it."""

    time_ms: int
    kind: str
    sent: bool
    references: tuple[str, ...]
    persons: str
    conversation: str


@dataclass(slots=True)
class Exposure:
    """All of it.

    Attributes:
        questions, hashes: asked by the member, refused ones among them.
        told: records told to it, by reference.
        casework: entries of conversations and news, in order.
        dropped: entries whose content the log has dropped: what they told is not known any more.
    """

    questions: int = 0
    hashes: int = 0
    told: dict[str, ToldRecord] = field(default_factory=dict)
    casework: list[CaseworkLine] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """Return it for scripts."""
        told = {
            reference: {"first_ms": each.first_ms, "last_ms": each.last_ms, "times": each.times, "persons": sorted(each.persons)}
            for reference, each in sorted(self.told.items())
        }
        casework = [
            {
                "time_ms": line.time_ms,
                "kind": line.kind,
                "sent": line.sent,
                "references": list(line.references),
                "persons": line.persons,
                "conversation": line.conversation,
            }
            for line in self.casework
        ]
        return {"questions": self.questions, "hashes": self.hashes, "told": told, "casework": casework}


def exposure_of(entries: Iterable[dict[str, Any]], member: str, *, from_ms: int) -> Exposure:
    """Gather what a log says of one member.

    Args:
        entries: opened entries, in order.
        member: the other one.
        from_ms: nothing before is of interest.
    """
    found = Exposure()
    for entry in entries:
        if entry["member"] != member or entry["time_ms"] < from_ms:
            continue
        event, details = entry["event"], entry["details"]
        if event == Event.LOOKUP_ANSWERED.value:
            found.questions += 1
            found.hashes += int(details.get("hashes", 0))
            for reference in entry["records"]:
                told = found.told.setdefault(reference, ToldRecord(entry["time_ms"], entry["time_ms"]))
                told.last_ms = entry["time_ms"]
                told.times += 1
                told.persons.add(entry["pseudonym"])
        elif event in {Event.CASEWORK_SENT.value, Event.CASEWORK_RECEIVED.value}:
            sent = event == Event.CASEWORK_SENT.value
            line = CaseworkLine(
                entry["time_ms"],
                f"{details.get('kind', 'entry')} ({entry['outcome'].lower()})",
                sent,
                tuple(entry["records"]),
                entry["pseudonym"],
                str(details.get("conversation", "")),
            )
            found.casework.append(line)
    return found
