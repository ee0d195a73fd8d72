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

    def at(self, which: NDArray[np.integer] | NDArray[np.bool_]) -> Hits:
        """Those at some positions, or where `which` is true."""
        return Hits(self.queries[which], self.distances[which], self.labels[which])

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
class Nearest:
    """Which of each query's hits are wanted: the first `count` by (distance, label), or by (band, label) where there are bands."""

    count: int
    edges: NDArray[np.int64] | None = None
    """The largest distance of each band, rising; distances in one band count as equal."""

    def bands(self, distances: NDArray[np.integer]) -> NDArray[np.integer]:
        """What distances count as."""
        return distances if self.edges is None else np.searchsorted(self.edges, distances)

    def more(self) -> Nearest:
        """The same and one more, by which one sees that there are more."""
        return Nearest(self.count + 1, self.edges)

    def of(self, hits: Hits) -> Hits:
        """Drop the others."""
        if hits.queries.size <= self.count or (counts := np.bincount(hits.queries)).max() <= self.count:
            return hits
        if (hits.queries[1:] < hits.queries[:-1]).any():
            hits = hits.at(np.argsort(hits.queries, kind="stable"))
        kept, ends, bands = np.ones(hits.queries.size, np.bool_), np.cumsum(counts), self.bands(hits.distances)
        for query in np.flatnonzero(counts > self.count):
            own = slice(ends[query] - counts[query], ends[query])
            kept[own] = _among_first(self.count, bands[own], hits.labels[own])
        return hits.at(kept)


def _among_first(count: int, bands: NDArray[np.integer], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which entries are the first `count` by (band, label); in linear time, as a crowd has many."""
    last = np.partition(bands, count - 1)[count - 1]
    among: NDArray[np.bool_] = bands < last
    tied = np.flatnonzero(bands == last)
    places = count - int(np.count_nonzero(among))
    among[tied[np.argpartition(labels[tied], places - 1)[:places]]] = True
    return among


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
    def of(cls, query_count: int, hits: Hits, nearest: Nearest | None) -> SearchResult:
        """Order `hits` and keep of each query those wanted."""
        if hits.queries.size == 0:
            limits, truncated = np.zeros(query_count + 1, np.int64), np.zeros(query_count, np.bool_)
            return cls(limits, hits.distances, hits.labels, truncated)
        counts = np.bincount(hits.queries, minlength=query_count)
        truncated = np.zeros(query_count, np.bool_) if nearest is None else counts > nearest.count
        if nearest is not None and truncated.any():
            hits = nearest.of(hits)
            counts = np.minimum(counts, nearest.count)
        if hits.queries.size > 1:
            hits = hits.at(_order(hits))
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
