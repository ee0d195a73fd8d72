"""The columns of a record's row, by position, and what they hold when nothing is known."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING

from vidfed.index import Algorithm
from vidfed.node.records import schema
from vidfed.node.records.record import Record, to_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vidfed.index import Code

DIGESTS = ("sha256", "sha1", "md5")  # strongest first
PERCEPTUAL = tuple(algorithm.value for algorithm in Algorithm if algorithm.is_perceptual)
COLUMNS = tuple(column.name for column in schema.records.c)
AT = {name: position for position, name in enumerate(COLUMNS)}
DEFAULTS = {each.name: each.default for each in fields(Record) if each.name not in {"hashes", "further", "reference"}}


def perceptual_key_of(codes: Mapping[str, bytes], further: Sequence[Code] = ()) -> bytes | None:
    """Return by what an item without any digest is recognised, of a film all its frames; None for one with a digest."""
    if "md5" in codes or "sha1" in codes or "sha256" in codes:
        return None
    for name in PERCEPTUAL:
        if (code := codes.get(name)) is not None:
            return hashlib.blake2b(name.encode() + code, digest_size=16).digest()
    if further:
        return hashlib.blake2b(b"".join(each.algorithm.value.encode() + each.code for each in further), digest_size=16).digest()
    return None


def empty_columns() -> dict[str, object]:
    """Return what the columns that describe a record hold when nothing is known; neither reference nor codes nor times."""
    record = Record(hashes={})
    return {name: to_column(getattr(record, name)) for name in DEFAULTS} | {"retraction_reason": "", "edited": "", "places": 0}
