"""A record: one media item known to a member. Digests, perceptual hashes, handling rules; never the media."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.index import Algorithm, Hash
from vidfed.wire.values import HandlingCode, RecordView, Ternary

if TYPE_CHECKING:
    from collections.abc import Mapping

# Which hash says that two rows speak of the same item: the strongest one both carry.
_IDENTITY_ORDER = (
    Algorithm.SHA256,
    Algorithm.SHA1,
    Algorithm.MD5,
    Algorithm.PDQ,
    Algorithm.PHOTODNA,
    Algorithm.PHASH,
    Algorithm.DHASH,
    Algorithm.AHASH,
    Algorithm.WHASH,
)


@dataclass(frozen=True, slots=True)
class Record:
    """One media item.

    Attributes:
        hashes: at least one code, by algorithm.
        pdq_quality: 0 to 100, or None where it is not known.
        size_bytes, mime_type: of the file, where known.
        sharing: who may see it, within what the node's policy allows: see `Sharing`.
        source_id: the number another system knows it by, as `system/id`; never told to anybody.
        review_ms: when somebody must look whether it may be kept, ms since the epoch; None: no date set.
        Others as in `RecordView`; all of them may be told to those the policy allows.
    """

    hashes: Mapping[Algorithm, bytes] = field(repr=False)  # what is logged by mistake must not hold a hash
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
    source_id: str = ""
    review_ms: int | None = None
    reference: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def identity(self) -> str:
        """The hash by which this item is recognised when it is imported again, as `algorithm:text`."""
        strongest = next(algorithm for algorithm in _IDENTITY_ORDER if algorithm in self.hashes)
        return str(Hash(strongest, self.hashes[strongest]))

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
