"""What a file of hashes says, one entry after the other, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.index import Code


class FormatError(Exception):
    """A file cannot be used as a whole; the message names file and place. Nothing of it may be taken."""


@dataclass(slots=True)
class FileEntry:
    """One item in a file.

    Attributes:
        number: from 1 in the file, or the line where the format has lines.
        codes: codes by `Algorithm.value`; at least one unless `retracts`. Names, not `Algorithm`: there are millions of
            entries, and an enum's member is slow to hash.
        values: what else the file says, by the name of a record's field, of that field's type. What the file leaves open is not in it.
        notes: what was left out of this entry and why.
        retracts: the source takes this item back.
        further: codes of other views of the item than that of `codes`; most have none.
        file_name: of the item, where a list has a column of it: what a lookup calls the item. No record keeps it.
    """

    number: int
    codes: dict[str, bytes]
    values: dict[str, object]
    notes: list[str] = field(default_factory=list)
    retracts: bool = False
    further: Sequence[Code] = ()
    file_name: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """An entry that cannot be used, and why."""

    number: int
    reason: str
