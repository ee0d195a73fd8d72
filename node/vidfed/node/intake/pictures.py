"""From a hashed file to a record. No picture is kept. Files of hashes: importer.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vidfed.index import Code
from vidfed.index.codes import WHOLE
from vidfed.node.records.record import Record

if TYPE_CHECKING:
    from vidfed.index.hashing.results import FileHashes


def record_of_file(file: FileHashes, template: Record) -> Record:
    """Return `template` with a file's hashes: what is known of the case, and what was measured on the file.

    A view too plain for perceptual hashes gives none, so that a plain picture, and what is no picture, is known by its digests alone.
    """
    codes = tuple(Code(each.algorithm, each.code, each.kind, each.quality) for each in file.codes if each.reliable)
    own = {each.algorithm: each.code for each in codes if each.kind == WHOLE}
    return replace(
        template,
        hashes={each.algorithm: each.code for each in file.digests} | own,
        further=tuple(each for each in codes if each.kind != WHOLE),
        pdq_quality=file.pdq_quality if own else None,
        size_bytes=file.size_bytes,
        mime_type=file.media_type,
        method=file.method if own else "",
        reference=Record(hashes={}).reference,
    )
