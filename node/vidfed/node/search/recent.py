"""Searching only the records that changed after a version: few, compared one by one with everything that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidfed.index import Algorithm, SearchResult
from vidfed.index.search.flat import FlatScan
from vidfed.node.records.schema import PLACE_BITS
from vidfed.wire.sketches.columns import mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidfed.node.records.store import StoreReader

MOST = 100_000
"""Records compared one by one; of more, an index is quicker."""


class Recent:
    """The live records of one state of the store that changed after a version; `numbers` are theirs."""

    def __init__(self, store: StoreReader, version: int, *, masked: bool = False) -> None:
        """Read them.

        Args:
            store: the state.
            version: they changed after it.
            masked: only what a sketch sends of a code is compared, see `vidfed.wire.sketches.columns`.

        Raises:
            TooManyError: there are more than `MOST`.
            StoreError: they cannot be read.
        """
        rows = store.recent(version, MOST + 1)
        if len(rows) > MOST:
            raise TooManyError
        self.numbers = frozenset(row[0] for row in rows)
        self._codes: dict[Algorithm, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
        self._scans: dict[Algorithm, FlatScan] = {}
        for place, algorithm in enumerate(Algorithm, 2):
            pairs = [(row[0] << PLACE_BITS, bytes(row[place])) for row in rows if row[place] is not None]
            if not algorithm.is_digest:
                pairs += [(label, code) for row in rows if row[1] for label, code in store.further(row[0], algorithm)]
            if pairs:
                codes = np.frombuffer(b"".join(code for _, code in pairs), np.uint8).reshape(len(pairs), algorithm.code_bytes)
                self._codes[algorithm] = codes & mask(algorithm) if masked else codes, np.array([label for label, _ in pairs], np.int64)

    def search(self, algorithm: Algorithm, codes: NDArray[np.uint8], max_distance: int) -> SearchResult | None:
        """Return all that is near enough to each code, nearest first; None where there is nothing to compare with."""
        if algorithm not in self._codes:
            return None
        own, labels = self._codes[algorithm]
        if algorithm.is_digest:
            known: dict[bytes, list[int]] = {}
            for code, label in zip(own, labels.tolist(), strict=True):
                known.setdefault(code.tobytes(), []).append(label)
            found: list[list[int]] = [[] for _ in range(len(codes))]
            for place in np.flatnonzero(np.isin(_heads(codes), _heads(own))).tolist():  # nearly none of what is asked is among the few
                found[place] = known.get(codes[place].tobytes(), [])
            all_labels = np.array([label for each in found for label in each], np.int64)
            return SearchResult(_limits([len(each) for each in found]), np.zeros(len(all_labels), np.int32), all_labels, _none(codes))
        if algorithm not in self._scans:
            self._scans[algorithm] = FlatScan(algorithm, own)
        hits = self._scans[algorithm].range_search(codes, max_distance)
        order = np.lexsort((labels[hits.labels], hits.distances, hits.queries))
        counts = np.bincount(hits.queries, minlength=len(codes))
        return SearchResult(_limits(counts.tolist()), hits.distances[order], labels[hits.labels[order]], _none(codes))


class TooManyError(Exception):
    """More records changed than are compared one by one."""


def _heads(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each code as a number."""
    heads: NDArray[np.uint64] = np.ascontiguousarray(codes[:, :8]).view(np.uint64).ravel()
    return heads


def _limits(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _none(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.zeros(len(codes), np.bool_)
