"""From a hashed file to a record. No picture is kept. Files of hashes: importer.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vidfed.node.records.record import Record

if TYPE_CHECKING:
    from vidfed.index.hashing.results import FileHashes


def record_of_file(file: FileHashes, template: Record) -> Record:
    """Return `template` with a file's hashes: what is known of the case, and what was measured on the file.

    A picture too plain for perceptual hashes, and what is no picture, is known by its digests alone.
    """
    plain = not any(code.reliable for code in file.main)
    return replace(
        template,
        hashes={each.algorithm: each.code for each in (file.digests if plain else file.hashes)},
        pdq_quality=None if plain else file.pdq_quality,
        size_bytes=file.size_bytes,
        mime_type=file.media_type,
        reference=Record(hashes={}).reference,
    )
