"""A record: one media item known to a member. Digests, perceptual hashes, handling rules; never the media."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.wire.values import HandlingCode, RecordView, Ternary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.index import Algorithm, Code


@dataclass(frozen=True, slots=True)
class Record:
    """One media item.

    Attributes:
        hashes: at least one code, by algorithm: digests, and the codes of what it shows as a whole.
        further: codes of other views of it, of renderings, variants, frames: none of `hashes`, none twice.
        pdq_quality: 0 to 100, or None where it is not known.
        size_bytes, mime_type: of the file, where known.
        votes: what others said of it to the organisation it came from, "affirmed Md5 by 77": never told to anybody.
        other_hashes: kept as they came and not searched, as `TMK:...`: never told to anybody.
        method: how its perceptual hashes were made, see `FileHashes.method`; empty where it is not known, as of hashes from elsewhere.
        sharing: who may see it, within what the node's policy allows: see `Sharing`.
        source_id: the number another system knows it by, as `system/id`; never told to anybody.
        review_ms: when somebody must look whether it may be kept, ms since the epoch; None: no date set.
        Others as in `RecordView`; all of them may be told to those the policy allows.
    """

    hashes: Mapping[Algorithm, bytes] = field(repr=False)  # what is logged by mistake must not hold a hash
    further: tuple[Code, ...] = field(default=(), repr=False, kw_only=True)
    pdq_quality: int | None = None
    size_bytes: int | None = None
    mime_type: str = ""
    series: str = ""
    tags: tuple[str, ...] = ()
    victim_identified: Ternary = Ternary.UNKNOWN
    offender_identified: Ternary = Ternary.UNKNOWN
    distributed: Ternary = Ternary.UNKNOWN
    case_reference: str = ""
    case_contact: str = ""
    handling_code: HandlingCode = HandlingCode.H0
    handling_note: str = ""
    category: str = ""
    category_scale: str = ""
    category_region: str = ""
    source_grading: str = ""
    information_grading: str = ""
    sharing: str = ""
    votes: tuple[str, ...] = ()
    other_hashes: tuple[str, ...] = ()
    method: str = ""
    source_id: str = ""
    review_ms: int | None = None
    reference: str = field(default_factory=lambda: secrets.token_hex(8))

    def visible_to(self, member: str) -> bool:
        """Return whether the owner lets this member know of it at all; to others it looks like no hit."""
        return not self.sharing or Sharing.parse(self.sharing).allows(member)

    def view(self) -> RecordView:
        """Return what may be told about this record. No hash is in it."""
        shared = RecordView.__dataclass_fields__
        return RecordView(**{name: getattr(self, name) for name in shared})


@dataclass(frozen=True, slots=True)
class Sharing:
    """The owner's rule for one record: `nobody`, `only:fr,nl` or `not:de`. It can only narrow what the policy allows.

    Attributes:
        members: who is named.
        listed: True if only they may see it, False if all but they may.
    """

    members: frozenset[str]
    listed: bool

    @classmethod
    def parse(cls, text: str) -> Sharing:
        """Read a rule.

        Raises:
            ValueError: it is of none of the three forms. What cannot be read must not be shared, so callers store only what parses.
        """
        if text == "nobody":
            return cls(frozenset(), listed=True)
        kind, _, names = text.partition(":")
        members = frozenset(name.strip() for name in names.split(",") if name.strip())
        if kind not in {"only", "not"} or not members:
            raise ValueError("sharing must be nobody, only:MEMBER,... or not:MEMBER,...")
        return cls(members, listed=kind == "only")

    def allows(self, member: str) -> bool:
        """Return whether this member may see the record."""
        return (member in self.members) is self.listed


_NUMBERS: dict[object, int] = {each: each.value for kind in (Ternary, HandlingCode) for each in kind}


def to_column(value: object) -> object:
    """Return the form in which the store keeps a field's value; a value in that form stays as it is."""
    kind = type(value)
    if kind is str or kind is int:
        return value
    if kind is tuple:
        return json.dumps(value, ensure_ascii=False)
    return _NUMBERS[value] if kind is Ternary or kind is HandlingCode else value
