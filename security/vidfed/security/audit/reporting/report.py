"""The transparency report: what a log says in numbers, without a case, a person or a picture in it. Pure.

Every count is told as a range: 1 to 4 as such, everything else down to the multiple of 5 it lies above (20 to 24). Totals are rounded by
themselves, so that no small count can be found by subtraction. Shares are computed from these ranges, and left out, as times are, where
fewer than MIN_COUNT cases stand behind them or behind their opposite.

Two reports over times that overlap could be subtracted from each other all the same, day by day. So a report covers whole calendar months
that are over; any other time gives a draft, which says that it is not to be published. Ranges of several members add up, which is how
reports are combined without seeing anybody's log: a sum says nothing that the signed reports it is made of do not say.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.entries import Event
from vidfed.security.audit.reporting.asks import Asks
from vidfed.security.clock import SECOND_MS, as_text
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.documents import read_document
from vidfed.security.errors import AuditError, EnvelopeError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vidfed.security.audit.notes import Checkpoint
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import Directory

REPORT_TYPE = "application/vnd.vidfed.audit-report.v1+json"
SCHEMA = "vidfed.audit-report/1"
MIN_COUNT = 5  # smaller counts could point to a single case
_STEP = 5
_FORM = {
    "schema": str,
    "federation": str,
    "members": list,
    "from_ms": int,
    "to_ms": int,
    "made_ms": int,
    "draft": bool,
    "checkpoints": dict,
    "totals": dict,
    "tables": dict,
    "shares": dict,
    "times_ms": dict,
}
Range = list[int]  # [at least, at most]

TABLES = {
    "answered_by_member": "Questions answered, by asking member",
    "answered_by_purpose": "Questions answered, by purpose",
    "answered_by_outcome": "Questions received, by what became of them",
    "asked_by_purpose": "Own questions, by purpose",
    "received_by_member": "Replies received, by answering member",
    "received_by_outcome": "Replies received, by what they say",
    "per_month": "Questions received, by month",
    "operations": "Entries, by operation",
    "requests_by_urgency": "Requests for details received, by urgency",
    "requests_by_member": "Requests for details received, by asking member",
    "requests_by_basis": "Requests for details received, by what the match rests on",
    "refusals_by_code": "Requests for details refused, by code",
    "dispositions": "What came of requests, by the asking member's word",
    "false_matches": "Entries that say: not the same, by the member that says it",
    "false_matches_by_source": "The same, by the source of the record: own ones by name, others by member",
    "overdue_by_urgency": "Requests for details received that became overdue, by urgency",
    "own_overdue_by_member": "Own requests that became overdue, by the member that was asked",
    "changes": "Changes, corrections, erasures and readings",
}
TOTALS = {
    "received": "Questions received from members",
    "answered": "of these answered",
    "refused": "of these refused",
    "with_hits": "answered with at least one record",
    "records_told": "records told about",
    "asked": "Questions of own investigators",
    "hashes": "Hashes searched for others",
    "requests": "Requests for details received",
    "releases": "Releases of details",
    "overdue": "Requests for details received that became overdue",
    "own_overdue": "Own requests for details that became overdue",
    "news": "News of records sent and confirmed",
}
_SELF_TEST = "self-test"
_CASEWORK = {Event.CASEWORK_SENT.value, Event.CASEWORK_RECEIVED.value}
_OTHER = {Event.LOOKUP_ANSWERED.value, Event.LOOKUPS_REFUSED.value, Event.LOOKUP_ASKED.value, Event.LOOKUP_RECEIVED.value}


@dataclass(slots=True)
class _Gathered:
    totals: Counter[str] = field(default_factory=Counter)
    tables: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in TABLES})
    times: dict[str, list[int]] = field(default_factory=lambda: {"being_answered": [], "until_release": []})
    asks: Asks = field(default_factory=Asks)


def make_report(
    entries: Iterable[dict[str, Any]], *, federation: str, member: str, from_ms: int, to_ms: int, made_ms: int, checkpoint: Checkpoint
) -> dict[str, Any]:
    """Count a member's entries.

    Args:
        entries: opened entries of the time [from_ms, to_ms), and those of `LOOK_BACK_MS` before: of these only how long requests took.
        federation: of the member.
        member: whose log.
        from_ms: begin of the time reported on.
        to_ms: its end.
        made_ms: now.
        checkpoint: the log's state the report is derived from.
    """
    gathered = _Gathered()
    for entry in entries:
        took_ms = gathered.asks.follow(entry) if entry["event"] in _CASEWORK and entry["time_ms"] < to_ms else None
        if from_ms <= entry["time_ms"] < to_ms:
            _count(entry, gathered)
            if took_ms is not None and entry["event"] == Event.CASEWORK_SENT.value:
                gathered.times["until_release"].append(took_ms)
    for ask in gathered.asks.overdue(from_ms, min(to_ms, made_ms)):
        gathered.totals["own_overdue" if ask.own else "overdue"] += 1
        if ask.own:
            gathered.tables["own_overdue_by_member"][ask.member] += 1
        else:
            gathered.tables["overdue_by_urgency"][ask.urgency] += 1
    totals = {name: blurred(gathered.totals[name]) for name in TOTALS}
    return {
        "schema": SCHEMA,
        "federation": federation,
        "members": [member],
        "from_ms": from_ms,
        "to_ms": to_ms,
        "made_ms": made_ms,
        "draft": is_draft(from_ms, to_ms, made_ms),
        "checkpoints": {member: checkpoint.text},
        "totals": totals,
        "tables": {name: {key: blurred(count) for key, count in sorted(table.items())} for name, table in gathered.tables.items()},
        "shares": {
            "hit_rate_percent": _percent(totals["with_hits"], totals["answered"]),
            "refusal_rate_percent": _percent(totals["refused"], totals["received"]),
        },
        "times_ms": {name: _quantiles(times) for name, times in gathered.times.items()},
    }


def combine(reports: Sequence[dict[str, Any]], *, made_ms: int) -> dict[str, Any]:
    """Add up the reports of different members over the same time.

    Shares are computed anew from the ranges, and times are left per member, as medians do not add up.

    Raises:
        AuditError: a member is in two of them, or they differ in federation or time.
    """
    if not reports:
        raise AuditError("no reports to combine")
    first = reports[0]
    members = [member for report in reports for member in report["members"]]
    if len(set(members)) != len(members):
        raise AuditError("a member is in two of the reports")
    if any(report[name] != first[name] for report in reports for name in ("federation", "from_ms", "to_ms")):
        raise AuditError("the reports are of different federations or times")
    totals = {name: _sum(report["totals"].get(name, [0, 0]) for report in reports) for name in TOTALS}
    tables: dict[str, dict[str, Range]] = {}
    for name in TABLES:
        keys = sorted({key for report in reports for key in report["tables"].get(name, {})})
        tables[name] = {key: _sum(report["tables"].get(name, {}).get(key, [0, 0]) for report in reports) for key in keys}
    times: dict[str, Any] = {}
    for report in reports:
        if len(report["members"]) == 1:
            times |= {f"{report['members'][0]}: {name}": found for name, found in report["times_ms"].items()}
        else:
            times |= report["times_ms"]
    return {
        **{name: first[name] for name in ("schema", "federation", "from_ms", "to_ms")},
        "members": sorted(members),
        "made_ms": made_ms,
        "draft": any(report["draft"] for report in reports),
        "checkpoints": {member: note for report in reports for member, note in report["checkpoints"].items()},
        "totals": totals,
        "tables": tables,
        "shares": {
            "hit_rate_percent": _percent(totals["with_hits"], totals["answered"]),
            "refusal_rate_percent": _percent(totals["refused"], totals["received"]),
        },
        "times_ms": times,
    }


def is_draft(from_ms: int, to_ms: int, now_ms: int) -> bool:
    """Tell whether a time is anything else than whole calendar months (UTC) that are over."""
    first_days = [as_text(bound)[8:] == "01T00:00:00Z" and not bound % SECOND_MS for bound in (from_ms, to_ms)]
    return not all(first_days) or to_ms > now_ms


def sign_report(report: dict[str, Any], signer: Signer) -> Envelope:
    """Sign a report with the member's signing key."""
    return Envelope(REPORT_TYPE, json.dumps(report, sort_keys=True, ensure_ascii=False).encode()).signed_by(signer)


def read_report(content: bytes, directory: Directory) -> tuple[dict[str, Any], str]:
    """Verify a signed report.

    Returns:
        (the report, the member that signed it).

    Raises:
        AuditError: no member signed it, or it is not a report.
    """
    try:
        envelope = Envelope.from_json(content)
    except EnvelopeError as error:
        raise AuditError(f"not a report: {error}") from None
    for member in directory.members.values():
        try:
            payload = envelope.verify(REPORT_TYPE, member.signing_keys)
        except SignatureError:
            continue
        except EnvelopeError as error:
            raise AuditError(f"not a report: {error}") from None
        report = read_document(payload, _FORM, AuditError, "report")
        if report["schema"] != SCHEMA or report["federation"] != directory.federation:
            raise AuditError("a report of another version or federation")
        if report["members"] != [member.id] and len(report["members"]) == 1:
            raise AuditError(f"a report about {report['members'][0]}, signed by {member.id}")
        _check_ranges(report)
        return report, member.id
    raise AuditError("the report is not signed by a member of this federation")


def blurred(count: int) -> Range:
    """Return the range in which a count is told."""
    if not count:
        return [0, 0]
    if count < MIN_COUNT:
        return [1, MIN_COUNT - 1]
    low = count // _STEP * _STEP
    return [low, low + _STEP - 1]


def range_text(found: Range) -> str:
    """Write a range for people."""
    low, high = found
    return str(low) if low == high else f"{low}\u2013{high}"


def _count(entry: dict[str, Any], gathered: _Gathered) -> None:
    totals, tables, event = gathered.totals, gathered.tables, entry["event"]
    if entry["purpose"] == _SELF_TEST and event in _OTHER:
        return  # a machine's question about no record, refused or not: not among what people asked
    tables["operations"][entry["operation"]] += 1
    details = entry["details"]
    if event == Event.LOOKUP_ANSWERED.value:
        totals["received"] += 1
        totals["hashes"] += _number(details, "hashes")
        tables["answered_by_outcome"][entry["outcome"]] += 1
        tables["per_month"][as_text(entry["time_ms"])[:7]] += 1
        if entry["outcome"] != "ANSWERED":
            totals["refused"] += 1
            return
        totals["answered"] += 1
        totals["with_hits"] += bool(_number(details, "hits"))
        totals["records_told"] += len(entry["records"])
        tables["answered_by_member"][entry["member"]] += 1
        tables["answered_by_purpose"][entry["purpose"]] += 1
    elif event == Event.LOOKUPS_REFUSED.value:
        for name in ("received", "refused"):
            totals[name] += _number(details, "count")
        tables["per_month"][as_text(entry["time_ms"])[:7]] += _number(details, "count")
        for outcome in details.keys() - {"count", "since_ms"}:
            tables["answered_by_outcome"][outcome] += _number(details, outcome)
    elif event == Event.LOOKUP_ASKED.value:
        totals["asked"] += 1
        tables["asked_by_purpose"][entry["purpose"]] += 1
    elif event == Event.LOOKUP_RECEIVED.value:
        tables["received_by_member"][entry["member"]] += 1
        tables["received_by_outcome"][entry["outcome"]] += 1
        if entry["answer"]:
            gathered.times["being_answered"].append(_number(details, "took_ms"))
    if event in _CASEWORK:
        _count_casework(entry, gathered)
        return
    if event not in _OTHER and entry["outcome"] != "BEGUN":
        tables["changes"][event] += 1


def _count_casework(entry: dict[str, Any], gathered: _Gathered) -> None:
    """Count an entry of a conversation, or news: once each, as it came or as it was first signed."""
    totals, tables, details, member = gathered.totals, gathered.tables, entry["details"], entry["member"]
    received, kind = entry["event"] == Event.CASEWORK_RECEIVED.value, details.get("kind")
    if kind == "news":
        totals["news"] += not received and entry["outcome"] == "TAKEN"
        return
    if kind == "not-the-same" and "source" in details:
        tables["false_matches_by_source"][str(details["source"])] += 1
    if entry["outcome"] != ("TAKEN" if received else "SIGNED"):
        return
    code = str(details.get("code", ""))
    if kind == "ask" and received:
        totals["requests"] += 1
        tables["requests_by_urgency"][code] += 1
        tables["requests_by_member"][member] += 1
        tables["requests_by_basis"][str(details.get("basis", ""))] += 1
    elif kind == "release" and not received:
        totals["releases"] += 1
    elif kind == "refuse" and not received:
        tables["refusals_by_code"][code] += 1
    elif kind == "close" and received:
        tables["dispositions"][code] += 1
    elif kind == "not-the-same":
        tables["false_matches"][member if received else "own"] += 1


def _number(details: dict[str, Any], name: str) -> int:
    value = details.get(name, 0)
    return value if isinstance(value, int) else 0


def _percent(part_range: Range, whole_range: Range) -> int | None:
    """Return a share computed from what is told anyway: one of the true counts, rounded to a percent, can give both away."""
    part, whole = part_range[0], whole_range[0]
    return round(100 * part / whole) if part >= MIN_COUNT and whole - part >= MIN_COUNT else None


def _quantiles(times: list[int]) -> dict[str, int] | None:
    if len(times) < 2 * MIN_COUNT:
        return None
    ordered = sorted(times)
    # The very slowest would be one person's question; nothing beyond the 90th percentile is told.
    return {"median": ordered[len(ordered) // 2], "p90": ordered[len(ordered) * 9 // 10]}


def _sum(ranges: Iterable[Range]) -> Range:
    low = high = 0
    for found in ranges:
        low, high = low + found[0], high + found[1]
    return [low, high]


def _check_ranges(report: dict[str, Any]) -> None:
    """Refuse a signed report whose numbers are not of the form that `combine` and the page rely on."""
    ranges = [*report["totals"].values()]
    for table in report["tables"].values():
        if not isinstance(table, dict):
            raise AuditError("report: a table is malformed")
        ranges += table.values()
    for found in ranges:
        if not isinstance(found, list) or [type(bound) for bound in found] != [int, int] or not 0 <= found[0] <= found[1]:
            raise AuditError("report: a count is not a range")
