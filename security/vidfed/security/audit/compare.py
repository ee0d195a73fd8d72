"""What logs say of two members: side by side, where one says what the other does not; and what one was told by the other.

Both ends of a lookup log the same two digests. Deleting or inventing an entry on one side therefore shows here. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.entries import Event
from vidfed.security.clock import MINUTE_MS, as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidfed.security.audit.export import ExportReport

SLACK_MS = 2 * MINUTE_MS  # clocks may differ by one, and an answer may be logged on one side before the range of the other begins
_NO_ANSWER = {"TIMEOUT", "UNREACHABLE", "PROTOCOL_ERROR", "BREAKER_OPEN"}
_NOT_LOGGED = {"AUDIT_UNAVAILABLE", "BUSY"}  # refusals that a node signs and does not log: it cannot, or has not looked at the question


@dataclass(slots=True)
class Comparison:
    """What came of comparing.

    Attributes:
        from_ms, to_ms: the time both exports cover, less SLACK_MS at either end.
        agreed: lookups, and entries of conversations and news, of which both say the same.
        unanswered: lookups that one asked and got no reply to, by its own log, or a refusal of the kind that is not logged.
        findings: one-sided entries and disagreements, one sentence each.
    """

    from_ms: int
    to_ms: int
    agreed: int = 0
    unanswered: int = 0
    findings: list[str] = field(default_factory=list)


def compare(one: ExportReport, other: ExportReport) -> Comparison:
    """Compare two verified exports of different members."""
    spans = [[fields["time_ms"] for _, fields in export.entries] for export in (one, other)]
    if not all(spans):
        return Comparison(0, 0)
    result = Comparison(max(map(min, spans)) + SLACK_MS, min(map(max, spans)) - SLACK_MS)
    if min(len(span) for span in spans) and result.to_ms < result.from_ms:  # short exports: compare all the same
        result.from_ms, result.to_ms = max(map(min, spans)) - SLACK_MS, min(map(max, spans)) + SLACK_MS
    for asker, answerer in ((one, other), (other, one)):
        _compare_direction(asker, answerer, result)
        _compare_casework(asker, answerer, result)
    return result


def _compare_direction(asker: ExportReport, answerer: ExportReport, result: Comparison) -> None:
    received = _by_request(asker, Event.LOOKUP_RECEIVED, answerer.member)
    answered = _by_request(answerer, Event.LOOKUP_ANSWERED, asker.member)
    for request, entries in received.items():
        for position, fields in entries:
            if fields["outcome"] in _NO_ANSWER | _NOT_LOGGED:
                result.unanswered += 1
                continue
            theirs = answered.get(request, [])
            if any(said["answer"] == fields["answer"] for _, said in theirs):
                result.agreed += 1
            elif _is_self_test(fields):
                continue
            elif theirs:
                result.findings.append(
                    f"{_named(asker, position, fields)} logged another answer than {answerer.member} in its entry {theirs[0][0]}"
                )
            elif result.from_ms <= fields["time_ms"] <= result.to_ms:
                result.findings.append(f"{_named(asker, position, fields)} has an answer of {answerer.member}, whose log has none")
    for request, entries in answered.items():
        for position, fields in entries:
            if request not in received and not _is_self_test(fields) and result.from_ms <= fields["time_ms"] <= result.to_ms:
                result.findings.append(f"{_named(answerer, position, fields)} answered {asker.member}, whose log has no such question")


def _compare_casework(sender: ExportReport, receiver: ExportReport, result: Comparison) -> None:
    """Compare what one sent of conversations and news with what the other took: entries by their digests, never their content."""
    sent = _by_request(sender, Event.CASEWORK_SENT, receiver.member)
    received = _by_request(receiver, Event.CASEWORK_RECEIVED, sender.member)
    for digest, entries in sent.items():
        confirmed = next(((at, fields) for at, fields in entries if fields["outcome"] == "TAKEN"), None)
        if digest in received:
            result.agreed += 1
        elif confirmed is not None and result.from_ms <= confirmed[1]["time_ms"] <= result.to_ms:
            result.findings.append(f"{_said(sender, *confirmed)} was receipted by {receiver.member}, whose log has no such entry")
    for digest, entries in received.items():
        position, fields = entries[0]
        if digest not in sent and result.from_ms <= fields["time_ms"] <= result.to_ms:
            result.findings.append(f"{_said(receiver, position, fields)} came from {sender.member}, whose log has not sent it")


def _said(export: ExportReport, position: int, fields: dict[str, Any]) -> str:
    kind = fields["details"].get("kind", "entry")
    return f"entry {position} of {export.member} ({as_text(fields['time_ms'])}, {kind} {fields['request'][:16]})"


def _by_request(export: ExportReport, event: Event, member: str) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for position, fields in export.entries:
        if fields["event"] == event.value and fields["member"] == member:
            found.setdefault(fields["request"], []).append((position, fields))
    return found


def _is_self_test(fields: dict[str, Any]) -> bool:
    """Tell whether an entry is of a self-test, which tells of no record: nobody is accused for want of one on the other side."""
    return fields["purpose"] == "self-test" and not fields["records"]


def _named(export: ExportReport, position: int, fields: dict[str, Any]) -> str:
    return f"entry {position} of {export.member} ({as_text(fields['time_ms'])}, question {fields['request'][:16]})"


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
