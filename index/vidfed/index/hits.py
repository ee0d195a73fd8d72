"""What a search found: raw hits of its parts, put in order and cut to the caller's limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


class Hits(NamedTuple):
    """Hits in no particular order: three arrays of one length, one entry for each hit."""

    queries: NDArray[np.int64]
    """Which query, counted from 0."""
    distances: NDArray[np.int32]
    labels: NDArray[np.int64]

    @classmethod
    def join(cls, parts: Sequence[Hits]) -> Hits:
        """The hits of all parts."""
        parts = [part for part in parts if part is not NO_HITS]
        if not parts:
            return NO_HITS
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.queries for part in parts]),
            np.concatenate([part.distances for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )


NO_HITS = Hits(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The hits of query `i` are entries `limits[i]` to `limits[i + 1]` of `distances` and `labels`, ordered by (distance, label)."""

    limits: NDArray[np.int64]
    """int64[q + 1], from 0, never falling."""
    distances: NDArray[np.int32]
    labels: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    """bool[q]: true where the caller's limit cut hits off. Nothing else ever does."""

    @classmethod
    def of(cls, query_count: int, hits: Hits, limit: int | None) -> SearchResult:
        """Order `hits` and keep the nearest `limit` of each query."""
        if hits.queries.size == 0:
            limits, truncated = np.zeros(query_count + 1, np.int64), np.zeros(query_count, np.bool_)
            return cls(limits, hits.distances, hits.labels, truncated)
        if hits.queries.size > 1:
            order = _order(hits)
            hits = Hits(hits.queries.take(order), hits.distances.take(order), hits.labels.take(order))
        counts = np.bincount(hits.queries, minlength=query_count)
        truncated = counts > limit if limit is not None else np.zeros(query_count, np.bool_)
        if limit is not None and truncated.any():
            starts = np.cumsum(counts) - counts
            kept = np.arange(hits.queries.size) - np.repeat(starts, counts) < limit
            hits = Hits(hits.queries[kept], hits.distances[kept], hits.labels[kept])
            counts = np.minimum(counts, limit)
        limits = np.zeros(query_count + 1, np.int64)
        np.cumsum(counts, out=limits[1:])
        return cls(limits, hits.distances, hits.labels, truncated)

    @classmethod
    def chain(cls, results: Iterable[SearchResult]) -> SearchResult:
        """The results of consecutive batches of queries as one."""
        parts = list(results)
        if len(parts) == 1:
            return parts[0]
        counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.limits) for part in parts)])
        return cls(
            np.cumsum(counts),
            np.concatenate([np.empty(0, np.int32), *(part.distances for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.labels for part in parts)]),
            np.concatenate([np.empty(0, np.bool_), *(part.truncated for part in parts)]),
        )


def _order(hits: Hits) -> NDArray[np.intp]:
    """Sort by query, distance and label.

    A scan finds labels in ascending order: then a stable sort without them is enough, of 16-bit numbers and in linear time.
    """
    keys = hits.queries * (int(hits.distances.max()) + 1) + hits.distances
    order = np.argsort(keys.astype(np.uint16) if keys.max() < _RADIX_SORTED else keys, kind="stable")
    keys, labels = keys.take(order), hits.labels.take(order)
    if ((keys[1:] > keys[:-1]) | (labels[1:] > labels[:-1])).all():
        return order
    return np.lexsort((hits.labels, hits.distances, hits.queries))


_RADIX_SORTED = 1 << 16
"""NumPy sorts numbers of 16 bits by counting, larger ones by comparing."""
