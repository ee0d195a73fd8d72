"""A lookup's results as files to work with: VICS with the hits annotated, CSV, JSON, a report to file, and what nobody knows."""

from __future__ import annotations

import csv
import json
from collections import deque
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from vidfed.federation.bulk.sources import entry_label
from vidfed.federation.lookup.question import Shortfall
from vidfed.federation.output.json import closing_fields
from vidfed.federation.output.report import ENGLISH, Report, ReportCounts, ReportEntry, ReportHead, ReportNode, Words, gather
from vidfed.formats.recognise import open_hash_file
from vidfed.formats.values import code_text, dumps, guarded
from vidfed.formats.vics_read import VicsCopy
from vidfed.formats.vics_write import media_hashes, write_hash_set
from vidfed.index import Algorithm
from vidfed.security.clock import as_text
from vidfed.security.files import new_text_file
from vidfed.wire.values import Share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from vidfed.federation.bulk.result import BulkResult, NodePart
    from vidfed.federation.bulk.store import BulkStore, EntryResult
    from vidfed.federation.lookup.question import Item

SCHEMA = "vidfed.bulk-lookup/1"
ANNOTATION = "vidfedLookup"
"""Key under which each media object of the VICS copy carries what was answered; other tools pass over it."""

_CODE_COLUMNS = tuple(algorithm.value for algorithm in Algorithm)
_HIT_COLUMNS: tuple[str, ...] = (
    "member",
    "evidence",
    "matched_by",
    "victim_identified",
    "offender_identified",
    "distributed",
    "series",
    "case_reference",
    "case_contact",
)
_HIT_COLUMNS += ("handling_code", "handling_note", "category", "category_scale", "category_region", "source_grading", "information_grading")
_HIT_COLUMNS += ("reference", "superseded")


def write_all(
    folder: Path,
    store: BulkStore,
    members: Sequence[str],
    result: BulkResult,
    head: ReportHead,
    *,
    source: Path | None,
    languages: Sequence[Words] = (ENGLISH,),
) -> list[Path]:
    """Write all result files, each whole or not at all, and return their paths.

    Args:
        folder: where to.
        store: what was asked and answered; a million entries are not kept in memory.
        members: who was asked.
        result: the counts, and what could not be asked about.
        head: who asked, why and when.
        source: the file that was asked about; a VICS file's own fields go into the copy.
        languages: the report is written in; English is `report.html`, another one `report.CODE.html`.
    """

    def answered() -> Iterator[EntryResult]:
        return store.entries(members)

    stated = {"asked_at": as_text(head.asked_ms), "purpose": head.purpose, "legal_basis": head.legal_basis, "offence": head.offence}
    stated |= {"case": head.case, "source": head.source, "asked_by": head.pseudonym, "unit": head.member}
    writers: dict[str, Callable[[IO[str]], None]] = {
        "annotated.vics.json": lambda file: _write_vics(file, answered(), source, result),
        "result.csv": lambda file: _write_csv(file, answered(), result),
        "unseen.csv": lambda file: _write_list(file, (each for each in answered() if each.status == "unseen" and not _less(each))),
        "unseen-in-part.csv": lambda file: _write_list(file, (each for each in answered() if each.status == "unseen" and _less(each))),
        "weak.csv": lambda file: _write_list(file, (each for each in answered() if each.status == "weak")),
        "result.json": lambda file: _write_json(file, answered(), result, stated),
    }
    report = _report(answered(), result, head)
    for words in languages:
        writers[report_name(words.code)] = partial(report.write, words=words)
    paths = []
    for name, write in writers.items():
        with new_text_file(folder / name) as file:
            write(file)
        paths.append(folder / name)
    return paths


def _write_vics(file: IO[str], answered: Iterator[EntryResult], source: Path | None, result: BulkResult) -> None:
    """Write the source again, its cases as they were, with the answers beside each media object; a hash set where it was not VICS."""
    if source is not None and (opened := open_hash_file(source)).format == "vics":
        pending = next(answered, None)

        def annotated(number: int, media: Any) -> Any:  # noqa: ANN401 - JSON
            nonlocal pending
            if pending is None or pending.number != number:
                why = result.not_asked.get(entry_label(number))
                return media | {ANNOTATION: {"Status": "not asked", "Notes": [why]}} if why and isinstance(media, dict) else media
            annotation, pending = _annotation(pending), next(answered, None)
            return media | {ANNOTATION: annotation}

        deque(opened.entries(copy=VicsCopy(file, annotated)), maxlen=0)
        file.write("\n")
        return
    write_hash_set(file, map(_media, answered))


def _media(each: EntryResult) -> dict[str, Any]:
    """Return an entry that did not come from VICS as a media object."""
    media = {"MediaID": each.number, **media_hashes({algorithm: codes[0] for algorithm, codes in each.item.codes.items()})}
    return media | {"MediaFiles": [{"MD5": media["MD5"], "FileName": each.item.label}], ANNOTATION: _annotation(each)}


def _annotation(each: EntryResult) -> dict[str, Any]:
    said = {"Status": each.status, "AskedBy": _asked_by(each.item), "Notes": list(each.item.notes), "NotAnsweredBy": each.open}
    return said | {"Hits": _bare(each.hits), "WeakHits": _bare(each.weak_hits)}


def _bare(hits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return hits without the number of the item, which only the store knows."""
    return [{name: value for name, value in hit.items() if name != "item"} for hit in hits]


def _less(each: EntryResult) -> bool:
    """Tell whether it was asked about less than it could have been, so that nobody may be said not to know it."""
    return bool(each.item.shortfalls)


def _write_csv(file: IO[str], answered: Iterator[EntryResult], result: BulkResult) -> None:
    """Write a row for each hit, weak ones after the others, and one for each entry without; last what could not be asked about."""
    rows = csv.writer(file, quoting=csv.QUOTE_ALL)
    rows.writerow(("number", "label", "status", "not_answered_by", "asked_by", "notes", *_HIT_COLUMNS))
    for each in answered:
        lead = [each.number, _safe(each.item.label), each.status, " ".join(each.open)]
        lead += [_asked_by(each.item), _safe("; ".join(each.item.notes))]
        for hit in (*each.hits, *each.weak_hits) or ({},):
            rows.writerow([*lead, *(_safe(_cell(hit.get(name, ""))) for name in _HIT_COLUMNS)])
    for label, why in result.not_asked.items():
        rows.writerow(["", _safe(label), "not asked", "", "nothing", _safe(why), *[""] * len(_HIT_COLUMNS)])


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):  # what its owner has said since
        words = ", ".join(value["changes"])
        return f"{words} {as_text(value['since_ms'])}" + (": do not rely on it" if value["taken_back"] else "")
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)


def _write_list(file: IO[str], entries: Iterable[EntryResult]) -> None:
    """Write entries in a form that `vidfed lookup --csv` reads: what every node says it does not know is what to work on next."""
    rows = csv.writer(file, quoting=csv.QUOTE_ALL)
    rows.writerow(("file_name", *_CODE_COLUMNS))
    for each in entries:
        rows.writerow(
            [_safe(each.item.label), *(code_text(a.value, each.item.codes[a][0]) if a in each.item.codes else "" for a in Algorithm)]
        )


def _write_json(file: IO[str], answered: Iterator[EntryResult], result: BulkResult, head: dict[str, str]) -> None:
    not_asked = [{"label": label, "reason": why} for label, why in result.not_asked.items()]
    fields = {"schema": SCHEMA, **closing_fields(result.closing), **head, **result.counts(), "not_asked": not_asked}
    file.write(json.dumps(fields, ensure_ascii=False, indent=1)[:-2])
    file.write(',\n "items": [')
    for count, each in enumerate(answered):
        entry = {"number": each.number, "label": each.item.label, "status": each.status, "not_answered_by": each.open}
        entry |= {"asked_by": _asked_by(each.item), "shortfalls": [short.value for short in each.item.shortfalls]}
        entry |= {"notes": list(each.item.notes), "hits": _bare(each.hits), "weak_hits": _bare(each.weak_hits)}
        file.write(("\n" if not count else ",\n") + dumps(entry))
    file.write("\n]}\n")


def report_name(language: str) -> str:
    """Return what the report in a language is called."""
    return "report.html" if language == ENGLISH.code else f"report.{language}.html"


def _report(answered: Iterator[EntryResult], result: BulkResult, head: ReportHead) -> Report:
    counts = ReportCounts(result.asked, result.known, result.weak, result.unseen, result.open, result.skipped, result.exact_only)
    nodes = [_report_node(name, node) for name, node in result.nodes.items()]
    entries = (ReportEntry(each.number, each.item.label, each.hits, each.item.notes, each.weak_hits) for each in answered)
    return gather(head, counts, nodes, entries, result.closing, result.not_asked)


def _report_node(member: str, node: NodePart) -> ReportNode:
    first, last = (as_text(moment) if moment else "" for moment in (node.answered_from_ms, node.answered_to_ms))
    few = [f"{label}: {Share.FEW.text}" for label in node.few]
    when = first if first == last else f"{first} to {last}"
    return ReportNode(
        member, node.answered, node.hits, node.weak_hits, node.unanswered, when, "; ".join([*filter(None, [node.detail]), *few])
    )


def _asked_by(item: Item) -> str:
    if item.exact_only:
        return "exact copies only"
    parts = {Shortfall.FRAMES: "without further frames", Shortfall.PART: "of the part that could be decoded"}
    return " ".join(["exact and near copies", *(parts[each] for each in item.shortfalls if each in parts)])


def _safe(value: object) -> str:
    """Return a cell that a spreadsheet does not take for a formula; what another member wrote must not run here."""
    return guarded(str(value))
