"""A statement: what a source says about one item, as it travels from the process that reads to the one that stores.

The reading process may have been taken over by what it read, so whatever arrives is checked again, cheaply, before it is stored.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from vidfed.formats.fields import FIELDS, LISTS
from vidfed.index import Algorithm
from vidfed.index.codes import is_kind
from vidfed.node.sources.errors import SourceReadError
from vidfed.wire.values import MAX_TEXT, HandlingCode, Ternary

MAX_KEY = 200
"""Characters of a key: it must fit, with the source's name, into a record's `source_id`."""
FINGERPRINT_BYTES = 16
_MAX_NOTES = 20
_MAX_FURTHER = 100  # columns of one table
_MAX_TAGS_TEXT = 100 * (MAX_TEXT + 4)  # characters: a JSON list of as many tags as a record may have
_CODE_BYTES = {algorithm.value: algorithm.code_bytes for algorithm in Algorithm}
_RANGES = {
    "pdq_quality": range(101),
    "size_bytes": range(2**63),
    "review_ms": range(2**63),
    "victim_identified": frozenset(each.value for each in Ternary),
    "offender_identified": frozenset(each.value for each in Ternary),
    "distributed": frozenset(each.value for each in Ternary),
    "handling_code": frozenset(each.value for each in HandlingCode),
}
_TEXTS = frozenset(FIELDS) - frozenset(_RANGES) - LISTS - {"source_id"}


class Kind(IntEnum):
    """What a source says of an item: it is there, it was taken back, or its row cannot be used."""

    LIVE = 0
    DELETED = 1
    UNUSABLE = 2


@dataclass(slots=True)
class Statement:
    """One item at the source.

    Attributes:
        key: names the item at the source, 1 to MAX_KEY characters.
        kind: see `Kind`.
        codes: by `Algorithm.value`; at least one if LIVE.
        values: by the name of a record's field, in the form of the store's columns.
        notes: what was left out and why; of an UNUSABLE one the first says why.
        fingerprint: FINGERPRINT_BYTES; equal for equal statements.
        further: codes of further views: algorithm's value, code, kind as `vidfed.index.Code`'s.
    """

    key: str
    kind: Kind = Kind.LIVE
    codes: dict[str, bytes] = field(default_factory=dict, repr=False)
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fingerprint: bytes = b""
    further: list[tuple[str, bytes, str]] = field(default_factory=list, repr=False)

    def to_wire(self) -> list[Any]:
        """Return the JSON form."""
        codes = {name: code.hex() for name, code in self.codes.items()}
        further = [[name, code.hex(), kind] for name, code, kind in self.further]
        said = (int(self.kind), sorted(codes.items()), sorted(self.values.items()), *([further] if further else []))
        print_of = repr(said).encode("utf-8", "replace")
        digest = hashlib.blake2b(print_of, digest_size=FINGERPRINT_BYTES).hexdigest()
        return [self.key, digest, int(self.kind), codes, self.values, self.notes, *([further] if further else [])]


def from_wire(row: Any) -> Statement:  # noqa: ANN401 - anything may have come
    """Read the JSON form, trusting nothing of it.

    Raises:
        SourceReadError: it is of another form. The message quotes nothing of it.
    """
    try:
        key, digest, number, hexes, values, notes, *more = row
        further = [(str(name), bytes.fromhex(text), str(which)) for name, text, which in more[0]] if more else []
        kind = Kind(number if type(number) is int else -1)
        fingerprint = bytes.fromhex(digest)
        codes = {name: bytes.fromhex(text) for name, text in hexes.items()}
        sound = (
            type(key) is str
            and 0 < len(key) <= MAX_KEY
            and key.isprintable()
            and len(fingerprint) == FINGERPRINT_BYTES
            and _are_codes(codes)
            and len(more) <= 1
            and len(further) <= _MAX_FURTHER
            and all(_are_codes({name: code}) and is_kind(which) for name, code, which in further)
            and _are_values(values)
            and (notes == [] or (len(notes) <= _MAX_NOTES and all(type(note) is str and len(note) <= MAX_TEXT for note in notes)))
            and (kind is not Kind.LIVE or bool(codes))
        )
    except (TypeError, ValueError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise SourceReadError("the reading process sent something that is no statement; nothing was changed")
    return Statement(key, kind, codes, values, notes, fingerprint, further)


def shorten(notes: list[str]) -> list[str]:
    """Return notes that fit into a statement."""
    kept = [note[:MAX_TEXT] for note in notes[:_MAX_NOTES]]
    if len(notes) > _MAX_NOTES:
        kept[-1] = f"and {len(notes) - _MAX_NOTES + 1} more"
    return kept


def _are_codes(codes: dict[str, bytes]) -> bool:
    for name, code in codes.items():  # noqa: SIM110 - a loop: a generator takes twice as long, and there are millions
        if len(code) != _CODE_BYTES[name] or not code.strip(b"\0"):
            return False
    return True


def _are_values(values: dict[str, Any]) -> bool:
    for name, value in values.items():
        if name in _TEXTS:
            if type(value) is not str or len(value) > MAX_TEXT or not value.isprintable():
                return False
        elif name in LISTS:
            if type(value) is not str or len(value) > _MAX_TAGS_TEXT or not _is_tags(json.loads(value)):
                return False
        elif type(value) is not int or value not in _RANGES[name]:
            return False
    return True


def _is_tags(tags: object) -> bool:
    return isinstance(tags, list) and all(type(tag) is str and len(tag) <= MAX_TEXT and tag.isprintable() for tag in tags)
