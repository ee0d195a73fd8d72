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
        Others as in `RecordView`; all of them may be told to those the policy allows.
    """

    hashes: Mapping[Algorithm, bytes]
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
    reference: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def identity(self) -> str:
        """The hash by which this item is recognised when it is imported again, as `algorithm:text`."""
        strongest = next(algorithm for algorithm in _IDENTITY_ORDER if algorithm in self.hashes)
        return str(Hash(strongest, self.hashes[strongest]))

    def view(self) -> RecordView:
        """Return what may be told about this record. No hash is in it."""
        shared = RecordView.__dataclass_fields__
        return RecordView(**{name: getattr(self, name) for name in shared})
