"""A lookup's result as a table for people."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from vidfed.federation.lookup.closing import Verdict
from vidfed.federation.lookup.evidence import Evidence
from vidfed.federation.lookup.films import not_searched_words
from vidfed.federation.lookup.outcome import Outcome
from vidfed.index import Algorithm
from vidfed.security.clock import MINUTE_MS, SECOND_MS, as_text
from vidfed.wire.values import Share, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from vidfed.casework.news.book import RecordNews
    from vidfed.federation.client.client import LookupStatus
    from vidfed.federation.gateway.status import GatewayStatus
    from vidfed.federation.lookup.outcome import FoundHit
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.wire.values import IndexState, RecordView

STYLES = {
    Verdict.COMPLETE: "bold green",
    Verdict.LIMITED: "bold yellow",
    Verdict.INCOMPLETE: "bold red",
    Verdict.REFUSED: "bold red",
    Verdict.NOTHING_ASKED: "bold red",
}
"""How the closing line looks."""
_STYLE = {Ternary.YES: "bold green", Ternary.NO: "bold red", Ternary.UNKNOWN: "yellow"}
_HOUR_MS = 60 * MINUTE_MS
_WIDE = 130  # columns of a terminal that take all of a hit in one row
_NOTABLE_S = 60  # an answer on its way looks a little old
_DAY_MS = 24 * _HOUR_MS
_COMMANDS = 5  # that ask for details, each on a line: those of more records are alike


def show_result(result: LookupResult, console: Console, *, now_ms: int, own: str = "") -> None:
    """Print hits, what became of each node, and the line that says complete or incomplete; `own` is the asker's member."""
    many = len(result.items) > 1
    if hits := result.hits:
        console.print(_hit_table(result, hits, many=many, now_ms=now_ms, narrow=console.width < _WIDE))
    console.print(_summary(result))
    for hit in hits:
        if hit.news is not None:
            console.print(superseded(hit.news))
    for series in result.shared_series:
        console.print(Text(series.text, style="bold" if series.identified_by else ""))
    for conflict in result.conflicts:
        console.print(Text(conflict.text(result.items[conflict.item].label), style="bold yellow"))
    for item in result.items:
        for text in item.notes:
            console.print(Text(f"Note: {item.label}: {text}", style="yellow"))
    if result.weak_hits:
        console.print(_weak_table(result, many=many))
    console.print(_node_table(result, now_ms=now_ms))
    for line in _left_untold(result):
        console.print(line)
    if searched := _searched(result):
        console.print(searched, style="dim")
    closing = result.closing
    for line in _next_steps(result, [hit for hit in hits if hit.member != own], now_ms):
        console.print(line)
    console.print(Text(closing.line, style=STYLES[closing.verdict]))


def _left_untold(result: LookupResult) -> Iterator[Text]:
    """Yield what nodes did not tell or search, and whose clock is wrong."""
    for node in result.nodes:
        if node.truncated_items:
            labels = ", ".join(result.items[item].label for item in node.truncated_items[:5])
            yield Text(f"Note: {node.member} holds more records than it tells for: {labels}", style="yellow")
        for each in node.frames_not_searched[:_COMMANDS]:
            yield Text(f"Note: {node.member}: {not_searched_words(each, result.items[each.item])}", style="yellow")
        if more := len(node.frames_not_searched[_COMMANDS:]):
            yield Text(f"Note: {node.member}: and frames of {more} more items", style="yellow")
    if result.clock_note:
        yield Text(result.clock_note, style="bold yellow")


def superseded(news: RecordNews) -> Text:
    """Say what an owner has said of a record since it was told."""
    words = ", ".join(change.code for change in news.changes)
    if news.taken_back:
        return Text(f"SUPERSEDED {as_text(news.since_ms)}: {news.member} {news.reference}: {words}. Do not rely on it.", style="bold red")
    if news.record is None:
        said = "ask the owner what it says now"
    else:
        record = news.record
        said = f"victim identified: {record.victim_identified.code}, series: {record.series or 'none'}"
        said += f", handling: {record.handling_code.name}"
        said += f", contact: {record.case_contact}" if record.case_contact else ""
    return Text(f"SUPERSEDED {as_text(news.since_ms)}: {news.member} {news.reference}: {words}; now {said}", style="bold yellow")


def _summary(result: LookupResult) -> Text:
    """Say of how many items is known what. Nothing is said to be unknown to nodes that did not answer."""
    known, weak = len(result.known_items), len(result.weak_items)
    label = result.items[0].label if result.items else ""
    if not any(node.outcome.answered for node in result.nodes) and not known:
        return Text("No node answered: nothing is known about what was asked.", style="bold red")
    if len(result.items) > 1:
        apart = f" {weak} with weak hits only," if weak else ""
        return Text(
            f"{known} of {len(result.items)} items known,{apart} {len(result.items) - known - weak} not known to any node that answered."
        )
    if known:
        return Text(f"{label} is known.")
    if weak:
        return Text(f"{label} is neither known nor unknown: weak hits only, see below.")
    return Text(f"No node that answered knows {label}.")


def show_lookups(states: Sequence[LookupStatus], console: Console, *, now_ms: int) -> None:
    """Print an investigator's own lookups."""
    if not states:
        console.print("No lookups are remembered in this kit.")
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("Lookup", "Asked", "Case", "About", "Replies", "State"):
        table.add_column(name, overflow="fold")
    for state in states:
        own = state.lookup
        labels = short_labels([item.label for item in own.items])
        about = labels[0] + (f" and {len(labels) - 1} more" if len(labels) > 1 else "")
        if state.replies is None:
            replies, how = "-", "the gateway keeps nothing of it any more"
        else:
            replies = f"{state.replies} of {state.asked}"
            collecting = f"collecting until {as_text(state.collecting_until_ms)}, " if now_ms < state.collecting_until_ms else ""
            how = f"{collecting}kept until {as_text(state.kept_until_ms)}"
        cells = (own.id, f"{_ago(now_ms - own.asked_ms)} ago", own.parts[0].asked.request.header.case_reference, about, replies, how)
        table.add_row(*map(Text, cells))
    console.print(table)


def _next_steps(result: LookupResult, hits: Sequence[FoundHit], now_ms: int) -> Iterator[Text]:
    """Yield what can be done now: ask other members for details, which their officers decide about, and fetch what comes late."""
    records = list(dict.fromkeys((hit.record.reference, hit.member) for hit in hits))
    tellers = Counter(reference for reference, _ in records)
    for reference, member in records[:_COMMANDS]:
        named = f" --member {member}" if tellers[reference] > 1 else ""
        yield Text(f"Details: vidfed cases ask {reference}{named} --want victim-identity --deputy COLLEAGUE", style="dim")
    if len(records) > _COMMANDS:
        yield Text(f"Details of the other {len(records) - _COMMANDS} records: the same with their ref.", style="dim")
    if result.lookup and result.closing.may_still_come:
        yield Text(_more_to_come(result, now_ms))


def _more_to_come(result: LookupResult, now_ms: int) -> str:
    """Say how late answers are fetched, or that no more will come."""
    if now_ms >= result.collecting_until_ms:
        return f"No more answers are collected for this lookup ({result.lookup}): ask again."
    return f"Late answers are collected until {as_text(result.collecting_until_ms)}: vidfed lookup --resume {result.lookup}"


def show_gateway(state: GatewayStatus, console: Console) -> None:
    """Print how the members' nodes do."""
    serving = (
        f"serves on {state.address}, {state.lookups} lookups under way" if state.address else "does not serve; this was its last state"
    )
    console.print(Text(f"gateway of {state.member}: {serving}"))
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("Node", "Breaker", "Answers", "Without", "Usual time", "Lookups now", "Last failure"):
        table.add_column(name, overflow="fold")
    for row in state.rows():
        table.add_row(*map(Text, row))
    console.print(table)


def short_labels(labels: list[str]) -> list[str]:
    """Return the labels without the folder that all of them share."""
    shared = os.path.commonpath(labels) if all(label.startswith("/") for label in labels) else ""
    prefix = len(shared) + 1 if shared not in {"", "/", *labels} else 0
    return [label[prefix:] for label in labels]


def _hit_table(result: LookupResult, hits: list[FoundHit], *, many: bool, now_ms: int, narrow: bool) -> Table:
    """Return one row for each hit; on a narrow terminal a row has few columns of several lines."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    labels = short_labels([item.label for item in result.items])
    columns = ["Member", "Match", "Known"] if narrow else ["Member", "Match", "Victim\nidentified", "Offender\nidentified", "Series"]
    for name in (["Item"] if many else []) + columns:
        table.add_column(name, overflow="fold", no_wrap=name == "Match")
    for name in ("Case and contact", "Handling", "Index"):
        if not narrow:
            table.add_column(name, overflow="fold", min_width=20 if name == "Case and contact" else None)
    states = {node.member: node.index for node in result.nodes}
    for hit in hits:
        record = hit.record
        contact = [part for part in (record.case_reference, record.case_contact, f"ref {record.reference}") if part]
        handling = f"{record.handling_code.name} {record.handling_note or record.handling_code.meaning}" + _grading(record)
        cells = [Text(labels[hit.item])] if many else []
        cells += [Text(hit.member, style="bold"), Text(_in_lines(hit.words))]
        if hit.news is not None:
            cells[-1].append("\nSUPERSEDED", style="bold red")
        identified = [_ternary(record.victim_identified), _ternary(record.offender_identified)]
        rest = [Text(_series_and_category(record)), Text("\n".join(contact)), Text(handling), Text(_age(states[hit.member], now_ms))]
        if narrow:
            known = Text("\n").join(
                [
                    Text("victim identified: ") + identified[0],
                    Text("offender identified: ") + identified[1],
                    Text("series: ") + rest[0],
                    *rest[1:],
                ]
            )
            table.add_row(*cells, known)
        else:
            table.add_row(*cells, *identified, *rest)
    return table


_BREAKS = ((" + ", "\n+ "), (" of yours is ", " of yours\nis "), ("; ", ";\n"), (": film: ", ": film:\n"), (" and ", "\nand "))


def _in_lines(words: str) -> str:
    """Break what is said of a match where a line may end: the column is as wide as the longest."""
    for text, broken in _BREAKS:
        words = words.replace(text, broken)
    return words


def _weak_table(result: LookupResult, *, many: bool) -> Table:
    """Return the weak hits, apart and without colour: what is written here must not look like an identification."""
    title = f"Weak hits: {Evidence.WEAK.meaning}."
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="", header_style="")
    labels = short_labels([item.label for item in result.items])
    for name in (["Item"] if many else []) + ["Member", "Match", "Series", "Reference to quote"]:
        table.add_column(name, overflow="fold", no_wrap=name == "Match")
    for hit in result.weak_hits:
        cells = [labels[hit.item]] if many else []
        contact = [part for part in (hit.record.case_reference, hit.record.case_contact, f"ref {hit.record.reference}") if part]
        cells += [hit.member, _in_lines(hit.words), hit.record.series or "-", ", ".join(contact)]
        table.add_row(*map(Text, cells))
    return table


def _node_table(result: LookupResult, *, now_ms: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("Node", "Outcome", "Hits", "Index", ""):
        table.add_column(name, overflow="fold")
    for node in (*result.nodes, *result.not_asked):
        style = "" if node.outcome.answered or node.outcome is Outcome.NOT_CHOSEN else "bold red"
        weak = sum(hit.weak for hit in node.hits)
        hits = f"{len(node.hits) - weak}" + (f" + {weak} weak" if weak else "") if node.outcome.answered else "?"
        word = "refused by policy" if node.refused_by_policy else node.outcome.value
        remarks = "; ".join(part for part in (node.detail, *_few(node.index)) if part)
        cells = (Text(word, style=style), Text(hits), Text(_age(node.index, now_ms)), Text(remarks))
        table.add_row(Text(node.member, style="bold"), *cells)
    return table


def _series_and_category(record: RecordView) -> str:
    """Show a category only with its scale and region: the bare number means something else elsewhere."""
    category = f"category {record.category} ({record.category_scale or 'scale unknown'}" if record.category else ""
    if category:
        category += f", {record.category_region})" if record.category_region else ")"
    return "\n".join(part for part in (record.series, category) if part) or "-"


def _grading(record: RecordView) -> str:
    """Say how reliable the source is (A to C, X) and how sure the information (1 to 4), where the owner says it."""
    said = {"source": record.source_grading, "information": record.information_grading}
    return "".join(f"\n{name} {value}" for name, value in said.items() if value)


def _searched(result: LookupResult) -> str:
    """Say by what was searched, and how far; nodes that searched less, or have few records with such a hash, are named."""
    reached: dict[Algorithm, int] = {}
    for node in result.nodes:
        for each in node.index.searched if node.index else ():
            reached[each.algorithm] = max(each.max_distance, reached.get(each.algorithm, 0))
    few = result.closing.few
    names = []
    for algorithm in Algorithm:
        if algorithm in reached:
            lacking = f" (few of the records of {', '.join(few[algorithm])})" if algorithm in few else ""
            names.append((f"{algorithm.label} up to {reached[algorithm]}" if reached[algorithm] else algorithm.label) + lacking)
    return f"Searched by {', '.join(names)}." if names else ""


def _few(index: IndexState | None) -> list[str]:
    """Say by which perceptual hashes few of a node's records can be found."""
    searched = index.searched if index else ()
    return [f"{e.algorithm.label}: {e.share.text}" for e in searched if e.share is not Share.NEARLY_ALL and e.algorithm.is_perceptual]


def _ternary(value: Ternary) -> Text:
    return Text(value.code.upper() if value is not Ternary.UNKNOWN else "unknown", style=_STYLE[value])


def _age(index: IndexState | None, now_ms: int) -> str:
    """Say how far the index was behind its records, and how old the records are."""
    if index is None:
        return "-"
    behind_s = max(0, now_ms - index.current_ms) // SECOND_MS
    current = f"{behind_s} s behind" if behind_s >= _NOTABLE_S else "current"
    if not index.changed_ms:
        return f"{current}, empty"
    size = f"{index.records_at_least:,}+ records, " if index.records_at_least else ""
    return f"{current}, {size}changed {_ago(now_ms - index.changed_ms)} ago{_as_of(index, now_ms)}"


def _as_of(index: IndexState, now_ms: int) -> str:
    """Say of what moment the records are, where the member follows sources of its own."""
    if index.records_as_of_ms is None:
        return ""
    late = ", BEHIND the member's own source" if index.source_behind else ""
    if not index.records_as_of_ms:
        return f"; a source of the member was never read{late}"
    return f"; records as of {_day(index.records_as_of_ms, now_ms)}{late}"


def _day(moment_ms: int, now_ms: int) -> str:
    """Say when it was, in UTC, as people do: today, yesterday, or the date."""
    text = as_text(moment_ms)
    if not text[0].isdecimal():  # a time outside the calendar
        return text
    days = now_ms // _DAY_MS - moment_ms // _DAY_MS
    name = {0: "today", 1: "yesterday"}.get(days, text[:10])
    return f"{name} {text[11:16]} UTC"


def _ago(elapsed_ms: int) -> str:
    for unit_ms, name in ((_DAY_MS, "d"), (_HOUR_MS, "h"), (MINUTE_MS, "min")):
        if elapsed_ms >= unit_ms:
            return f"{elapsed_ms // unit_ms} {name}"
    return f"{max(0, elapsed_ms) // SECOND_MS} s"
