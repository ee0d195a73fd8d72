"""Erased codes leave the files of the search indexes: a node that runs is waited for; where none runs it is done here.

The node follows the store's changes, an erasure among them, and rewrites the segments that hold the erased codes. It begins at once, and
again at the next start if it was killed; until it has ended, `vidfed node status` and `doctor` say so.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from vidfed.index import HashIndex, IndexCorruptError, IndexLockedError, IndexStorageError
from vidfed.node.records.further import label_of
from vidfed.node.records.store import PERCEPTUAL

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.index import Algorithm
    from vidfed.node.records.store import RecordStore

PATIENCE_S = 60.0
"""How long an erasure is waited for. A segment of two million rows is rewritten in 3 s, of the most that one can have in some minutes."""
_LOOK_S = 0.1
_log = logging.getLogger(__name__)


def indexes_with_erased(folder: Path, version: int) -> list[Algorithm]:
    """Return whose indexes may still hold something erased in some file.

    Args:
        folder: of the indexes.
        version: of the store, of its last erasure; 0: there was none.

    Raises:
        HashError: one cannot be read.
    """
    glances = {algorithm: HashIndex.glance(folder / algorithm.value) for algorithm in PERCEPTUAL} if version else {}
    return [each for each, glance in glances.items() if glance is not None and (glance.holds_erased or glance.erased_version < version)]


def erase_from_indexes(store: RecordStore, folder: Path, *, patience_s: float = PATIENCE_S) -> list[Algorithm]:
    """Return once no file of the indexes holds codes of erased records, or what still does when the patience is at an end.

    Args:
        store: from which they were erased.
        folder: of the indexes.
        patience_s: how long to wait for a running node.

    Raises:
        HashError: an index cannot be read or written; a node does what is left when it starts.
        StoreError: the store cannot be read.
    """
    version = store.last_erasure()
    end_s = time.monotonic() + patience_s
    while left := indexes_with_erased(folder, version):
        # The node's work, unless no node holds the lock; then nobody else follows the store, and its versions are left to a node.
        with contextlib.suppress(IndexLockedError):
            for algorithm in left:
                _erase(store, folder / algorithm.value, algorithm, version)
            return []
        if time.monotonic() >= end_s:
            return left
        time.sleep(_LOOK_S)
    return []


def _erase(store: RecordStore, path: Path, algorithm: Algorithm, version: int) -> None:
    try:
        with HashIndex.open(path, algorithm) as index:
            known = not index.source_version or store.mark(index.source_version) == index.source_mark
            if known:
                for record in store.erased_after(index.source_version):
                    index.remove(np.arange(label_of(record, 0), label_of(record + 1, 0)), erase=True)
                index.flush(erased_version=version)
                index.settle()
                index.flush()
                if index.holds_erased:
                    raise IndexStorageError(f"{path}: what was erased could not be taken out yet: {index.stats().trouble}")
    except IndexCorruptError as error:
        _log.warning("%s: %s; made anew by the node when it starts", path, error)
        known = False
    if not known:
        HashIndex.discard(path)
