"""From a hashed picture to a record. No picture is kept. Files of hashes: importer.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vidfed.node.records.record import Record

if TYPE_CHECKING:
    from vidfed.index.hashing.pictures import PictureHashes


def record_of_picture(picture: PictureHashes, template: Record) -> Record:
    """Return `template` with a picture's hashes: what is known of the case, and what was measured on the file."""
    return replace(
        template,
        hashes={each.algorithm: each.code for each in picture.hashes},
        pdq_quality=picture.pdq_quality,
        size_bytes=picture.size_bytes,
        mime_type=picture.mime_type,
        reference=Record(hashes={}).reference,
    )
