"""What taking records in did to the store, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from vidfed.node.records.upsert.repeated import Repeats


@dataclass(slots=True)
class UpsertReport:
    """What entries did to the store.

    Attributes:
        new, updated, unchanged: records.
        repeated: entries about an item that an earlier entry of the same import was about.
        disagreeing: those of them that said something else; the first entry's word was kept.
        kept_edits: entries that say otherwise than what was edited by hand; the edit was kept.
        retracted: records taken back by the source.
        unknown_retracted: items that the source takes back and that are not known here.
        kept_retracted: entries about records that the owner has retracted; not brought back.
        repeats: what came of perceptual hashes that are on many unrelated items.
    """

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    repeated: int = 0
    disagreeing: int = 0
    kept_edits: int = 0
    retracted: int = 0
    unknown_retracted: int = 0
    kept_retracted: int = 0
    repeats: Repeats = field(default_factory=Repeats)
