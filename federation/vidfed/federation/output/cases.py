"""Conversations for people and for scripts. Nothing shown is stronger than what was compared and signed."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from vidfed.casework.core.clocks import clocks_of, late_though_told
from vidfed.casework.core.state import state_of
from vidfed.casework.writing import hit_of
from vidfed.security.clock import HOUR_MS, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vidfed.casework.client import Read
    from vidfed.casework.core.clocks import Clock
    from vidfed.casework.reading import View
    from vidfed.wire.casework_values import Body, Content, PersonDetails

_SHORT = 12  # hex digits of an id


def cases_schema(name: str) -> dict[str, Any]:
    """Return a JSON Schema by its name: of casework `case-1`, `cases-1`, `inbox-1`, `requests-1`, `written-1`, `watch-1` and so on."""
    text = resources.files("vidfed.federation.output").joinpath(f"schemas/{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def conversation_fields(identity: bytes, view: View, now_ms: int) -> dict[str, object]:
    """Return one conversation as JSON, without its entries."""
    state = state_of(view.conversation)
    hit = hit_of(view.conversation)
    clocks = clocks_of(view.conversation, view.receipts, now_ms)
    after_told = late_though_told(view.conversation, view.receipts)
    return {
        "conversation": identity.hex(),
        "asker": hit.asker,
        "owner": hit.owner,
        "reference": hit.subject.reference,
        "phase": state.phase.value,
        "urgency": state.urgency.code if state.urgency else None,
        "basis": state.basis.code if state.basis else None,
        "confirmed": state.basis.confirmed if state.basis else None,
        "wanted": [detail.code for detail in state.wanted],
        "open": sorted(detail.code for detail in state.open),
        "holder": state.holder.pseudonym if state.holder else None,
        "deputy": state.deputy.pseudonym if state.deputy else None,
        "waiting_until_ms": state.waiting_until_ms,
        "refusal": state.refusal.code if state.refusal else None,
        "disposition": state.disposition.code if state.disposition else None,
        "clock": _clock_fields(clocks[-1]) if clocks else None,
        "releases": [
            {
                "number": told.number,
                "given": [detail.code for detail in told.release.given],
                "handling_code": told.release.handling_code.code,
                "ground": told.release.ground.code,
                "late": told.late,
                "late_though_told": told.number in after_told,
                "correction": told.correction.code if told.correction else None,
            }
            for told in state.releases
        ],
        "false_matches": [
            {"side": match.side.code, "authors": list(match.authors), "until_ms": match.until_ms, "current": now_ms < match.until_ms}
            for match in state.false_matches
        ],
        "not_taken": [
            {"number": each.header.number, "kind": each.header.body.kind, "status": each.status.code, "said": each.detail}
            for each in view.refused
        ],
        "drafts": len(view.drafts),
        "problems": list(view.problems),
    }


def entry_fields(read: Read, view: View) -> dict[str, object]:
    """Return one entry as JSON."""
    header = read.entry.header
    return {
        "number": header.number,
        "side": header.side.code,
        "member": header.writer,
        "kind": header.body.kind,
        "written_ms": header.written_ms,
        "received_ms": view.receipts.get(read.entry.digest),
        "authors": list(header.authors),
        "digest": read.entry.digest.hex(),
        "content": _content_fields(read.content) if read.content else None,
        "unreadable": read.trouble or None,
    }


def conversation_line(identity: bytes, view: View, now_ms: int) -> str:
    """Return one conversation as a line for people."""
    state, hit = state_of(view.conversation), hit_of(view.conversation)
    clocks = clocks_of(view.conversation, view.receipts, now_ms)
    urgency = f" {state.urgency.code}" if state.urgency else ""
    said = [f"{identity.hex()[:_SHORT]}  {hit.asker} -> {hit.owner}  {hit.subject.reference}  {state.phase.value}{urgency}"]
    if clocks:
        said.append(clock_text(clocks[-1], now_ms))
    if state.basis and not state.basis.confirmed:
        said.append("not confirmed: hash distance only")
    if any(now_ms < match.until_ms for match in state.false_matches):
        said.append("FALSE MATCH, as said by " + ", ".join(sorted({match.side.code for match in state.false_matches})))
    if view.drafts:
        said.append("waits for a second officer's signature")
    if view.refused:
        said.append(f"{len(view.refused)} of your side's entries were not taken")
    if view.problems:
        said.append(f"{len(view.problems)} PROBLEMS: vidfed cases show {identity.hex()[:_SHORT]}")
    return "; ".join(said)


def clock_text(clock: Clock, now_ms: int) -> str:
    """Say how an ask stands in time."""
    if clock.started_ms is None:
        return "over" if clock.ended_ms else f"UNDELIVERED since {as_text(clock.written_ms)}"
    if clock.ended_ms is not None and clock.ended_ms <= now_ms:
        return f"took {clock.elapsed_ms / HOUR_MS:.1f} h{', OVERDUE' if clock.overdue else ''}"
    if clock.paused_until_ms is not None:
        return f"the clock stands still until {as_text(clock.paused_until_ms)} at the latest"
    due = as_text(clock.due_ms) if clock.due_ms else "?"
    return f"OVERDUE since {due}" if clock.overdue else f"due {due}"


def conversation_lines(identity: bytes, view: View, entries: Sequence[Read], now_ms: int) -> Iterator[str]:
    """Yield one conversation for people, whole."""
    yield conversation_line(identity, view, now_ms)
    state = state_of(view.conversation)
    yield f"  conversation {identity.hex()}"
    yield f"  held by {state.holder.pseudonym if state.holder else '?'}, deputy {state.deputy.pseudonym if state.deputy else '?'}"
    after_told = late_though_told(view.conversation, view.receipts)
    for read in entries:
        header = read.entry.header
        received = view.receipts.get(read.entry.digest)
        arrived = f"received {as_text(received)}" if received is not None else "NOT DELIVERED YET"
        who = " and ".join(header.authors)
        yield f"  {header.writer} {header.number}. {header.body.kind} by {who}, {as_text(header.written_ms)}, {arrived}"
        yield from (f"      {line}" for line in _clear_lines(read))
        told = next((each for each in state.releases if read.entry in view.conversation.owner and each.number == header.number), None)
        if told and told.correction:
            yield f"      CORRECTED BY ITS OWNER: {told.correction.code}"
        if told and told.late:
            yield "      released before its author knew that it was not needed any more; its conditions bind all the same"
        if told and told.number in after_told:
            yield "      although its member had receipted the withdrawal"
        if read.content:
            yield from (f"      {line}" for line in _content_lines(read.content))
        else:
            yield f"      cannot be read: {read.trouble}"
    for each in view.refused:
        yield f"  NOT TAKEN: your side's entry {each.header.number}, {each.header.body.kind}: {each.status.code}: {each.detail}"
    yield from (f"  PROBLEM: {problem}" for problem in view.problems)


def clear_fields(body: Body) -> dict[str, str]:
    """Return what an entry says in clear, by name; times as text."""
    said = {}
    for name in getattr(type(body), "__dataclass_fields__", {}):
        value = getattr(body, name)
        if name == "kind":
            continue
        if name.endswith("_ms"):
            said[name.removesuffix("_ms").replace("_", " ")] = as_text(value)
        elif isinstance(value, tuple):
            said[name.replace("_", " ")] = ", ".join(each.code for each in value)
        elif hasattr(value, "pseudonym"):
            said[name] = value.pseudonym
        else:
            said[name.replace("_", " ")] = str(getattr(value, "code", value))
    return said


def _clear_lines(read: Read) -> Iterator[str]:
    yield from (f"{name}: {value}" for name, value in clear_fields(read.entry.header.body).items())


def _content_lines(content: Content) -> Iterator[str]:
    for name, value in _content_fields(content).items():
        if isinstance(value, dict):
            yield f"{name}: " + ", ".join(f"{key} {text}" for key, text in value.items() if text)
        elif value and "\n" in str(value):
            yield f"{name}:"
            yield from (f"  {line}" for line in str(value).splitlines())
        elif value:
            yield f"{name.replace('_', ' ')}: {value}"


def _content_fields(content: Content) -> dict[str, object]:
    return {
        "text": content.text,
        "offence": content.offence,
        "legal_basis": content.legal_basis,
        "conditions": content.conditions,
        "contact": content.contact,
        "victim": _person_fields(content.victim),
        "offender": _person_fields(content.offender),
        "case_number": content.case_number,
        "authority": content.authority,
        "taken": content.taken,
        "comparison": content.comparison,
    }


def _person_fields(person: PersonDetails | None) -> Mapping[str, str] | None:
    if person is None:
        return None
    return {"names": person.names, "born": person.born, "nationality": person.nationality, "sex": person.sex}


def _clock_fields(clock: Clock) -> dict[str, object]:
    return {
        "ask": clock.ask,
        "urgency": clock.urgency.code,
        "written_ms": clock.written_ms,
        "started_ms": clock.started_ms,
        "ended_ms": clock.ended_ms,
        "paused_until_ms": clock.paused_until_ms,
        "elapsed_ms": clock.elapsed_ms,
        "due_ms": clock.due_ms,
        "overdue": clock.overdue,
        "undelivered": clock.started_ms is None,
    }


def draft_lines(read: Read) -> Iterator[str]:
    """Yield what a colleague's draft says, for who is to sign it too."""
    header = read.entry.header
    yield f"{header.body.kind} by {' and '.join(header.authors)}, {as_text(header.written_ms)}"
    yield from (f"  {line}" for line in _clear_lines(read))
    if read.content:
        yield from (f"  {line}" for line in _content_lines(read.content))
