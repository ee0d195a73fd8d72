"""Hashing one file in this process, as a worker process does it. For tests alone: whoever holds keys never decodes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vidfed.index.hashing.digests import UnreadableError, open_regular, read_once
from vidfed.index.hashing.one_file import Options, hash_picture_bytes, may_be_picture
from vidfed.index.hashing.perceptual import Hasher
from vidfed.index.hashing.results import FileFailure, FileHashes, HashingResult

if TYPE_CHECKING:
    from pathlib import Path


def hash_here(path: Path, *, orientations: bool = False, full_size: bool = False) -> HashingResult:
    """Hash a file, or say why it cannot be read."""
    try:
        descriptor = open_regular(path)
        try:
            read = read_once(descriptor, may_be_picture)
        finally:
            os.close(descriptor)
    except UnreadableError as error:
        return FileFailure(path, error.note)
    options = Options(orientations=orientations, full_size=full_size)
    shown = hash_picture_bytes(read, Hasher(orientations=orientations, full_size=full_size), options)
    fields = {name: getattr(shown, name) for name in shown.__slots__}
    return FileHashes(path, read.digests, read.size_bytes, **fields)


def hashes_of(path: Path, *, orientations: bool = False, full_size: bool = False) -> FileHashes:
    """Hash a file that can be read."""
    result = hash_here(path, orientations=orientations, full_size=full_size)
    assert isinstance(result, FileHashes), str(result)
    return result


def failure_of(path: Path) -> FileFailure:
    """Return why a file cannot be read."""
    result = hash_here(path)
    assert isinstance(result, FileFailure)
    return result
