"""Random records and entries. Nothing here was computed from any picture."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from vidfed.index import Algorithm
from vidfed.node.records.record import Record
from vidfed.wire.values import HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_700_000_000_000


def code(algorithm: Algorithm, seed: int) -> bytes:
    """Return a code that looks random and is the same for the same seed."""
    return random.Random(f"{algorithm.value} {seed}").randbytes(algorithm.code_bytes)


def record(seed: int, algorithms: Iterable[Algorithm] = (Algorithm.MD5, Algorithm.SHA1, Algorithm.PDQ), **values: Any) -> Record:  # noqa: ANN401 - any field of a record
    """Return a record whose codes follow from the seed."""
    return Record({algorithm: code(algorithm, seed) for algorithm in algorithms}, **values)


def full_record(seed: int = 1) -> Record:
    """Return a record of which every field is set."""
    return record(
        seed,
        tuple(Algorithm),
        pdq_quality=77,
        size_bytes=2**40,
        mime_type="image/jpeg",
        series="Série Ω",
        tags=("a", "b c", "ü"),
        victim_identified=Ternary.YES,
        offender_identified=Ternary.NO,
        distributed=Ternary.UNKNOWN,
        case_reference="2026-17",
        case_contact="unit@example.org",
        handling_code=HandlingCode.H3,
        handling_note="ask first",
        category="1",
        category_scale="VICS",
        category_region="UK",
        source_grading="A",
        information_grading="1",
        sharing="only:fr,nl",
        source_id="ncmec/7",
        review_ms=NOW + 1,
    )
