"""A lookup's result as a JSON document for scripts, schema `vidfed.lookup/1`; documented in docs/lookup-json.md.

The schema for machines is schemas/lookup-1.schema.json, JSON Schema draft 2020-12.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.federation.lookup.agreement import Conflict, SharedSeries
    from vidfed.federation.lookup.outcome import FoundHit, NodeOutcome
    from vidfed.federation.lookup.result import LookupResult

SCHEMA = "vidfed.lookup/1"


def to_document(result: LookupResult, failures: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON form.

    Args:
        result: what the nodes said.
        failures: files that could not be asked about, with the reason.
    """
    return {
        "schema": SCHEMA,
        "lookup": result.lookup or None,
        "collecting_until_ms": result.collecting_until_ms or None,
        "complete": result.complete,
        "nodes_asked": result.asked_count,
        "nodes_answered": result.answered_count,
        "nodes_verified": result.verified_count,
        "items": [
            {"item": number, "label": item.label, "exact_only": item.exact_only, "notes": list(item.notes)}
            for number, item in enumerate(result.items)
        ],
        "hits": [hit_fields(hit) for hit in result.hits],
        "series": [_fields(series) for series in result.shared_series],
        "conflicts": [_fields(conflict) for conflict in result.conflicts],
        "nodes": [_node(node) for node in result.nodes],
        "failures": [{"file": file, "reason": reason} for file, reason in (failures or {}).items()],
    }


def hit_fields(hit: FoundHit) -> dict[str, Any]:
    """Return the JSON form of one hit."""
    record = hit.record
    return {
        "item": hit.item,
        "member": hit.member,
        "kind": "exact" if any(match.exact for match in hit.matches) else "near",
        "matches": [
            {
                "algorithm": match.algorithm.value,
                "distance": match.distance,
                "distance_at_least": match.distance - match.slack,
                "orientation": match.orientation or None,
                "record_view": match.record_view or None,
                "record_quality": match.quality,
            }
            for match in hit.matches
        ],
        "reference": record.reference,
        "series": record.series,
        "tags": list(record.tags),
        "victim_identified": record.victim_identified.code,
        "offender_identified": record.offender_identified.code,
        "distributed": record.distributed.code,
        "case_reference": record.case_reference,
        "case_contact": record.case_contact,
        "handling_code": record.handling_code.name,
        "handling_note": record.handling_note,
        "category": record.category,
        "category_scale": record.category_scale,
        "category_region": record.category_region,
        "source_grading": record.source_grading,
        "information_grading": record.information_grading,
    }


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
            "searched": [{"algorithm": each.algorithm.value, "max_distance": each.max_distance} for each in index.searched],
            "records_at_least": index.records_at_least,
            "records_as_of_ms": index.records_as_of_ms,
            "source_behind": index.source_behind,
        }
    return {
        "member": node.member,
        "outcome": node.outcome.name,
        "code": node.code or None,
        "detail": node.detail,
        "answered": node.outcome.answered,
        "verified": node.outcome.verified,
        "hits": len(node.hits),
        "truncated_items": list(node.truncated_items),
        "index": state,
    }
