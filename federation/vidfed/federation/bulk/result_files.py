"""A lookup's results as files to work with: VICS with the hits annotated, CSV, JSON, a report to file, and what nobody knows."""

from __future__ import annotations

import csv
import html
import json
from collections import deque
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from vidfed.federation.lookup.agreement import SeriesTable, Statement, conflicts
from vidfed.formats.recognise import open_hash_file
from vidfed.formats.values import code_text, dumps
from vidfed.formats.vics_read import VicsCopy
from vidfed.index import Algorithm
from vidfed.security.clock import as_text
from vidfed.security.files import new_text_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from vidfed.federation.bulk.lookup import BulkResult
    from vidfed.federation.bulk.store import BulkStore, EntryResult
    from vidfed.federation.lookup.question import Justification

SCHEMA = "vidfed.bulk-lookup/1"
ANNOTATION = "vidfedLookup"
"""Key under which each media object of the VICS copy carries what was answered; other tools pass over it."""

_CONTEXT = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/Default/$metadata#Media"
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
_HTML_ROWS = 10_000  # a report longer than this is no report; the CSV has all


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
        "report.html": lambda file: _write_html(file, answered(), result, head),
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
    file.write(f'{{"@odata.context":{dumps(_CONTEXT)},"value":[')
    first = True
    for each in answered:
        codes = {a.value: code_text(a.value, c[0], upper=a.is_digest) for a, c in each.item.codes.items()}
        media: dict[str, Any] = {
            "MediaID": each.number,
            "MD5": codes.pop("md5", ""),
            "SHA1": codes.pop("sha1", None),
            "PhotoDNA": codes.pop("photodna", None),
        }
        media["MediaFiles"] = [{"MD5": media["MD5"], "FileName": each.item.label}]
        media["AlternativeHashes"] = [{"MD5": media["MD5"], "HashName": name.upper(), "HashValue": text} for name, text in codes.items()]
        file.write(("\n" if first else ",\n") + dumps(media | {ANNOTATION: _annotation(each)}))
        first = False
    file.write("\n]}\n")


def _annotation(each: EntryResult) -> dict[str, Any]:
    return {"Status": each.status, "NotAnsweredBy": each.open, "Hits": [{k: v for k, v in hit.items() if k != "item"} for hit in each.hits]}


def _write_csv(file: IO[str], answered: Iterator[EntryResult]) -> None:
    rows = csv.writer(file)
    rows.writerow(("number", "label", "status", "not_answered_by", *_HIT_COLUMNS))
    for each in answered:
        lead = [each.number, _safe(each.item.label), each.status, " ".join(each.open)]
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
        entry["hits"] = [{k: v for k, v in hit.items() if k != "item"} for hit in each.hits]
        file.write(("\n" if not count else ",\n") + dumps(entry))
    file.write("\n]}\n")


_STYLE = """body{font:10pt sans-serif;margin:2em;color:#111}table{border-collapse:collapse;width:100%;margin:1em 0}
th,td{border:1px solid #999;padding:.25em .4em;text-align:left;vertical-align:top}th{background:#eee}
.YES{font-weight:bold}.warn{border:2px solid #a00;padding:.5em;font-weight:bold}
@media print{body{margin:0}thead{display:table-header-group}tr{page-break-inside:avoid}}"""


def _write_html(file: IO[str], answered: Iterator[EntryResult], result: BulkResult, head: dict[str, str]) -> None:
    """Write a report that stands alone: no picture, no script, nothing from elsewhere."""
    file.write('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Federated lookup</title>')
    file.write("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">")
    file.write(f"<style>{_STYLE}</style></head><body>\n<h1>Federated lookup</h1>\n")
    file.write(_table(("", ""), [(name.replace("_", " "), value) for name, value in head.items() if value]))
    if result.complete:
        file.write("<p>COMPLETE: every node asked gave a verified answer about every item.</p>\n")
    else:
        names = ", ".join(name for name, node in result.nodes.items() if node.unanswered)
        warning = f"INCOMPLETE: not everything was answered by {html.escape(names)}. What they hold is not known."
        file.write(f'<p class="warn">{warning}</p>\n')
    counts = f"{result.asked} items: {result.known} known, {result.unseen} not known to any node, {result.open} open,"
    counts += f" {result.skipped} not asked."
    file.write(f"<p>{counts} &quot;Not known&quot; speaks of the nodes asked at that time, not of the world.</p>\n<h2>NodePool</h2>\n")
    nodes = [(name, node.answered, node.hits, node.unanswered, node.detail) for name, node in result.nodes.items()]
    file.write(_table(("Member", "Different items answered", "Hits", "Not answered", "Why not"), nodes))
    columns = (
        "No",
        "Item",
        "Member",
        "Match",
        "Victim identified",
        "Offender identified",
        "Series",
        "Category",
        "Case",
        "Contact",
        "Handling",
        "Grading",
    )
    titles = "".join(f"<th>{name}</th>" for name in (*columns, "Reference"))
    file.write(f"<h2>Known items</h2>\n<table><thead><tr>{titles}</tr></thead><tbody>\n")
    rows, held = 0, SeriesTable()
    contradicting: list[str] = []
    for each in answered:
        said = [Statement.of_fields(hit, each.number) for hit in each.hits]
        if len(contradicting) < _HTML_ROWS:
            contradicting += [conflict.text(each.item.label) for conflict in conflicts(said)]
        for statement in said:
            held.add(statement)
        for hit in each.hits:
            rows += 1
            if rows > _HTML_ROWS:
                continue
            category = " ".join(hit[name] for name in ("category", "category_scale", "category_region") if hit[name])
            cells: tuple[object, ...] = (
                each.number,
                each.item.label,
                hit["member"],
                hit["kind"],
                hit["victim_identified"],
                hit["offender_identified"],
            )
            cells += (hit["series"], category, hit["case_reference"], hit["case_contact"])
            grading = f"{hit['source_grading']}{hit['information_grading']}"
            cells += (f"{hit['handling_code']} {hit['handling_note']}".strip(), grading, hit["reference"])
            file.write("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>\n")
    file.write("</tbody></table>\n")
    if rows > _HTML_ROWS:
        file.write(f"<p>{rows - _HTML_ROWS} further hits are in result.csv.</p>\n")
    for title, texts in (("Series of several members", [series.text for series in held.shared()]), ("Conflicts", contradicting)):
        if texts:
            file.write(f"<h2>{title}</h2>\n<ul>" + "".join(f"<li>{html.escape(text)}</li>\n" for text in texts) + "</ul>\n")
    file.write("</body></html>\n")


def _table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    top = "<thead><tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in header) + "</tr></thead>" if any(header) else ""
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>\n"


def _safe(value: object) -> str:
    """Return a cell that a spreadsheet does not take for a formula; what another member wrote must not run here."""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
