"""What news needs of a member's records, and what of a record matters to who was told of it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from vidfed.wire.news import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from vidfed.wire.values import RecordView

_STATES = {"live": b"L", "retracted": b"R", "erased": b"E"}
_PARTS = {
    Change.STATUS: ("victim_identified", "offender_identified"),
    Change.SERIES: ("series",),
    Change.HANDLING: ("handling_code", "handling_note"),
}
_DIGEST_BYTES = 8  # a change that this misses is one in 2^64


@dataclass(frozen=True, slots=True)
class RecordNow:
    """One record as it is now.

    Attributes:
        version: of the last change to it.
        state: `live`, `retracted` or `erased`.
        view: what may be told of it; of an erased one nothing but the reference.
        tellable: tells whether a member would be told of it today.
    """

    version: int
    state: str
    view: RecordView
    tellable: Callable[[str], bool]


class Records(Protocol):
    """A node's records, as casework sees them."""

    def may_tell(self, member: str, reference: str) -> bool:
        """Tell whether a member would be told of a record today."""

    def source_of(self, reference: str) -> str:
        """Return which source is in charge of a record, in a word or two; what cannot be known is `not known`."""

    def changes_after(self, version: int, limit: int) -> Sequence[tuple[int, str]]:
        """Return version and reference of at most `limit` records changed after a version, in order.

        Raises:
            CaseworkStoreError: they cannot be read.
        """

    def mark(self, version: int) -> str:
        """Return the mark of the records' history up to a version; empty where it has not come so far.

        Raises:
            CaseworkStoreError: it cannot be read.
        """

    def look(self, references: Collection[str]) -> Mapping[str, RecordNow]:
        """Return records as they are now, by reference; those that there are.

        Raises:
            CaseworkStoreError: they cannot be read.
        """


def fingerprint(now: RecordNow) -> bytes:
    """Return digests of what matters of a record: its state, and each part of which a change is told by itself."""
    if now.state == "erased":
        return _STATES["erased"]  # nothing is left of it here either
    fields = asdict(now.view)
    parts = [[fields.pop(name) for name in names] for names in _PARTS.values()]
    parts.append(sorted(fields.items()))
    return _STATES[now.state] + b"".join(hashlib.blake2b(repr(part).encode(), digest_size=_DIGEST_BYTES).digest() for part in parts)


def changes_between(before: bytes, after: bytes) -> tuple[Change, ...]:
    """Return what became of a record between two fingerprints."""
    if before == after:
        return ()
    states = before[:1], after[:1]
    if after[:1] == _STATES["erased"]:
        return (Change.ERASED,)
    if states == (_STATES["live"], _STATES["retracted"]):
        return (Change.RETRACTED,)  # its fields are of no matter any more
    if after[:1] == _STATES["retracted"]:
        return ()
    found = [
        change
        for number, change in enumerate((*_PARTS, Change.CORRECTED))
        if before[1 + number * _DIGEST_BYTES :][:_DIGEST_BYTES] != after[1 + number * _DIGEST_BYTES :][:_DIGEST_BYTES]
    ]
    return (*found, *([Change.REINSTATED] if states[0] != states[1] else []))
