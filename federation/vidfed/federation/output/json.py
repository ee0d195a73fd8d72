"""A lookup's result as a JSON document for scripts, schema `vidfed.lookup/1`; documented in docs/lookup-json.md.

The schema for machines is schemas/lookup-1.schema.json, JSON Schema draft 2020-12.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from vidfed.wire.values import RecordView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.casework.news.book import RecordNews
    from vidfed.federation.lookup.agreement import Conflict, SharedSeries
    from vidfed.federation.lookup.closing import Closing
    from vidfed.federation.lookup.outcome import FoundHit, NodeOutcome
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.wire.values import FilmMatch

SCHEMA = "vidfed.lookup/1"


def to_document(result: LookupResult, failures: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON form.

    Args:
        result: what the nodes said.
        failures: files that could not be asked about, with the reason, where `result.failures` does not have them yet.
    """
    result = result.with_failures(failures or {})
    closing = result.closing
    return {
        "schema": SCHEMA,
        "lookup": result.lookup or None,
        "collecting_until_ms": result.collecting_until_ms or None,
        **closing_fields(closing),
        "nodes_verified": result.verified_count,
        "items": [_item(result, number) for number in range(len(result.items))],
        "hits": [hit_fields(hit) for hit in result.hits],
        "weak_hits": [hit_fields(hit) for hit in result.weak_hits],
        "series": [_fields(series) for series in result.shared_series],
        "conflicts": [_fields(conflict) for conflict in result.conflicts],
        "nodes": [_node(node) for node in (*result.nodes, *result.not_asked)],
        "failures": [{"file": file, "reason": reason} for file, reason in result.failures.items()],
    }


def closing_fields(closing: Closing) -> dict[str, Any]:
    """Return what every JSON result says at the end of a lookup: the same of one lookup and of a whole case."""
    at = closing.answered_at
    return {
        "complete": closing.complete,
        "verdict": closing.verdict.value,
        "limits": [limit.value for limit in closing.limits],
        "line": closing.line,
        "nodes_asked": len(closing.asked),
        "nodes_answered": len(closing.answered),
        "nodes_refused_by_policy": [node.member for node in closing.refused_by_policy],
        "nodes_without_answer": [node.member for node in closing.silent],
        "nodes_left_out": [node.member for node in closing.left_out],
        "nodes_not_chosen": [node.member for node in closing.not_chosen],
        "nodes_with_newer_directory": list(closing.newer),
        "few_records": [{"algorithm": algorithm.value, "members": members} for algorithm, members in closing.few.items()],
        "answered_from_ms": at.first_ms if at else None,
        "answered_to_ms": at.last_ms if at else None,
    }


def _item(result: LookupResult, number: int) -> dict[str, Any]:
    item = result.items[number]
    status = "known" if number in result.known_items else "weak" if number in result.weak_items else None
    if status is None:
        status = "unseen" if result.nodes and all(node.outcome.answered for node in result.nodes) else "open"
    shortfalls = [each.value for each in item.shortfalls]
    said = {"item": number, "label": item.label, "status": status, "exact_only": item.exact_only}
    return said | {"shortfalls": shortfalls, "notes": list(item.notes)}


def hit_fields(hit: FoundHit) -> dict[str, Any]:
    """Return the JSON form of one hit."""
    record = hit.record
    return {
        "item": hit.item,
        "member": hit.member,
        "evidence": hit.evidence.value,
        "matched_by": hit.matched_by,
        "matches": [
            {
                "algorithm": match.algorithm.value,
                "distance": match.distance,
                "distance_at_least": match.distance - match.slack,
                "orientation": match.orientation or None,
                "record_view": match.record_view or None,
                "record_quality": match.quality,
                "plain": match.plain,
                "compared": match.compared or None,
            }
            for match in hit.matches
        ],
        "film": _film(hit.film) if hit.film else None,
        **record_fields(record),
        "superseded": news_fields(hit.news) if hit.news else None,
    }


def news_fields(news: RecordNews) -> dict[str, Any]:
    """Return the JSON form of what an owner has said of a record since it was told."""
    return {
        "since_ms": news.since_ms,
        "changes": [change.code for change in news.changes],
        "taken_back": news.taken_back,
        "record": record_fields(news.record) if news.record else None,
    }


def record_fields(record: RecordView) -> dict[str, Any]:
    """Return the JSON form of what is told of a record."""
    fields = {name: getattr(record, name) for name in RecordView.__dataclass_fields__}
    fields["tags"] = list(record.tags)
    fields["handling_code"] = record.handling_code.name
    return fields | {name: fields[name].code for name in ("victim_identified", "offender_identified", "distributed")}


_FILM_COUNTS = ("frames", "frames_agreeing", "record_frames", "record_frames_agreeing", "stretches_left_out")


def _film(film: FilmMatch) -> dict[str, Any]:
    stretches = [each._asdict() for each in film.stretches]
    return {**{name: getattr(film, name) for name in _FILM_COUNTS}, "stretches": stretches, "coarse": film.coarse}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of what `to_document` returns."""
    text = resources.files("vidfed.federation.output").joinpath("schemas/lookup-1.schema.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def _fields(value: SharedSeries | Conflict) -> dict[str, Any]:
    return {name: list(field) if isinstance(field, tuple) else field for name, field in asdict(value).items()}


def _node(node: NodeOutcome) -> dict[str, Any]:
    index = node.index
    state = None
    if index is not None:
        state = {
            "version": index.version,
            "changed_ms": index.changed_ms,
            "current_ms": index.current_ms,
            "searched": [
                {"algorithm": each.algorithm.value, "max_distance": each.max_distance, "records_with": each.share.code}
                for each in index.searched
            ],
            "records_at_least": index.records_at_least,
            "records_as_of_ms": index.records_as_of_ms,
            "source_behind": index.source_behind,
        }
    return {
        "member": node.member,
        "outcome": node.outcome.name,
        "code": node.code or None,
        "refused_by_policy": node.refused_by_policy,
        "directory_version": node.directory or None,
        "detail": node.detail,
        "answered": node.outcome.answered,
        "verified": node.outcome.verified,
        "hits": sum(not hit.weak for hit in node.hits),
        "weak_hits": sum(hit.weak for hit in node.hits),
        "truncated_items": list(node.truncated_items),
        "frames_not_searched": [each._asdict() for each in node.frames_not_searched],
        "index": state,
    }
