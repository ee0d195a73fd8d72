"""A lookup's results as files to work with: VICS with the hits annotated, CSV, JSON, a report to file, and what nobody knows."""

from __future__ import annotations

import csv
import json
from collections import deque
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from vidfed.federation.output.report import ReportCounts, ReportEntry, ReportNode, write_report
from vidfed.formats.recognise import open_hash_file
from vidfed.formats.values import code_text, dumps
from vidfed.formats.vics_read import VicsCopy
from vidfed.formats.vics_write import media_hashes, write_hash_set
from vidfed.index import Algorithm
from vidfed.security.clock import as_text
from vidfed.security.files import new_text_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from vidfed.federation.bulk.result import BulkResult
    from vidfed.federation.bulk.store import BulkStore, EntryResult
    from vidfed.federation.lookup.question import Item, Justification

SCHEMA = "vidfed.bulk-lookup/1"
ANNOTATION = "vidfedLookup"
"""Key under which each media object of the VICS copy carries what was answered; other tools pass over it."""

_CODE_COLUMNS = tuple(algorithm.value for algorithm in Algorithm)
_HIT_COLUMNS: tuple[str, ...] = (
    "member",
    "kind",
    "victim_identified",
    "offender_identified",
    "distributed",
    "series",
    "case_reference",
    "case_contact",
)
_HIT_COLUMNS += ("handling_code", "handling_note", "category", "category_scale", "category_region", "source_grading", "information_grading")
_HIT_COLUMNS += ("reference",)
_FORMULA = ("=", "+", "-", "@", "\t")


def write_all(
    folder: Path,
    store: BulkStore,
    members: Sequence[str],
    result: BulkResult,
    justification: Justification,
    *,
    source: Path | None,
    now_ms: int,
) -> list[Path]:
    """Write all result files, each whole or not at all, and return their paths.

    Args:
        folder: where to.
        store: what was asked and answered; a million entries are not kept in memory.
        members: who was asked.
        result: the counts.
        justification: why it was asked.
        source: the file that was asked about; a VICS file's own fields go into the copy.
        now_ms: time of the report.
    """

    def answered() -> Iterator[EntryResult]:
        return store.entries(members)

    head = {"asked_at": as_text(now_ms), "purpose": justification.purpose.code, "legal_basis": justification.legal_basis}
    head |= {"offence": justification.offence_type, "case": justification.case_reference, "source": source.name if source else ""}
    writers: dict[str, Callable[[IO[str]], None]] = {
        "annotated.vics.json": lambda file: _write_vics(file, answered(), source),
        "result.csv": lambda file: _write_csv(file, answered()),
        "unseen.csv": lambda file: _write_unseen(file, answered()),
        "result.json": lambda file: _write_json(file, answered(), result, head),
        "report.html": lambda file: _write_report(file, answered(), result, head),
    }
    paths = []
    for name, write in writers.items():
        with new_text_file(folder / name) as file:
            write(file)
        paths.append(folder / name)
    return paths


def _write_vics(file: IO[str], answered: Iterator[EntryResult], source: Path | None) -> None:
    """Write the source again, its cases as they were, with the answers beside each media object; a hash set where it was not VICS."""
    if source is not None and (opened := open_hash_file(source)).format == "vics":
        pending = next(answered, None)

        def annotated(number: int, media: Any) -> Any:  # noqa: ANN401 - JSON
            nonlocal pending
            if pending is None or pending.number != number:
                return media
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
    hits = [{k: v for k, v in hit.items() if k != "item"} for hit in each.hits]
    return {"Status": each.status, "AskedBy": _asked_by(each.item), "NotAnsweredBy": each.open, "Hits": hits}


def _write_csv(file: IO[str], answered: Iterator[EntryResult]) -> None:
    rows = csv.writer(file)
    rows.writerow(("number", "label", "status", "not_answered_by", "asked_by", "notes", *_HIT_COLUMNS))
    for each in answered:
        lead = [each.number, _safe(each.item.label), each.status, " ".join(each.open)]
        lead += [_asked_by(each.item), _safe("; ".join(each.item.notes))]
        for hit in each.hits or ({},):
            rows.writerow([*lead, *(_safe(hit.get(name, "")) for name in _HIT_COLUMNS)])


def _write_unseen(file: IO[str], answered: Iterator[EntryResult]) -> None:
    """Write what every node says it does not know, in a form that `vidfed lookup --csv` reads: this is what to work on next."""
    rows = csv.writer(file)
    rows.writerow(_CODE_COLUMNS)
    for each in answered:
        if each.status == "unseen":
            rows.writerow([code_text(a.value, each.item.codes[a][0]) if a in each.item.codes else "" for a in Algorithm])


def _write_json(file: IO[str], answered: Iterator[EntryResult], result: BulkResult, head: dict[str, str]) -> None:
    counts = asdict(result)
    file.write(json.dumps({"schema": SCHEMA, "complete": result.complete, **head, **counts}, ensure_ascii=False, indent=1)[:-2])
    file.write(',\n "items": [')
    for count, each in enumerate(answered):
        entry = {"number": each.number, "label": each.item.label, "status": each.status, "not_answered_by": each.open}
        entry |= {"asked_by": _asked_by(each.item), "notes": list(each.item.notes)}
        entry["hits"] = [{k: v for k, v in hit.items() if k != "item"} for hit in each.hits]
        file.write(("\n" if not count else ",\n") + dumps(entry))
    file.write("\n]}\n")


def _write_report(file: IO[str], answered: Iterator[EntryResult], result: BulkResult, head: dict[str, str]) -> None:
    counts = ReportCounts(result.asked, result.known, result.unseen, result.open, result.skipped, result.exact_only)
    nodes = [ReportNode(name, node.answered, node.hits, node.unanswered, node.detail) for name, node in result.nodes.items()]
    entries = (ReportEntry(each.number, each.item.label, each.hits, each.item.notes) for each in answered)
    write_report(file, head, counts, nodes, entries, complete=result.complete)


def _asked_by(item: Item) -> str:
    return "exact copies only" if item.exact_only else "exact and near copies"


def _safe(value: object) -> str:
    """Return a cell that a spreadsheet does not take for a formula; what another member wrote must not run here."""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
