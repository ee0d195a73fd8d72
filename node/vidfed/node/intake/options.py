"""How a file is taken in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.node.records.upsert.transaction import MAX_REPEATS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to take a file in.

    Attributes:
        format_name, algorithm, region: where they are not to be recognised; see `open_hash_file` and `HashFile.entries`.
        values: said about every record of the file, over what the file says.
        defaults: true of a new record where neither file nor options say otherwise.
        scale: name of the category scale, over the format's own.
        leave_out: raw categories whose entries are not taken in.
        review_after_days: sets the review date of new records; 0: none.
        max_repeats: see `vidfed.node.records.upsert.transaction`.
        overwrite: the file's word overrules what was edited by hand.
        accept_exclusions: take the file in even if most of it is in the known-good set.
        strict: refuse a file of which anything would be passed over.
        dry_run: do everything, then undo it.
        source: name of the source that is in charge of the records, see `UpsertTransaction`.
    """

    format_name: str | None = None
    algorithm: str | None = None
    region: str | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)
    scale: str | None = None
    leave_out: frozenset[str] = frozenset()
    review_after_days: int = 0
    max_repeats: int = MAX_REPEATS
    overwrite: bool = False
    accept_exclusions: bool = False
    strict: bool = False
    dry_run: bool = False
    source: str = ""
