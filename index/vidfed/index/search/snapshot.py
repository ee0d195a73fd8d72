"""One consistent state of an index, that never changes: what a query sees from its beginning to its end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vidfed.index.search.flat import FlatScan
from vidfed.index.search.hits import NO_HITS, Hits
from vidfed.index.search.rows.bitmap import bits_at, no_bits, with_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidfed.index.algorithms import Algorithm
    from vidfed.index.search.hits import Nearest
    from vidfed.index.search.manifest import FileEntry
    from vidfed.index.search.segment import Segment


class OpenRows:
    """The newest rows, in the order in which they came. Searched in full."""

    def __init__(self, algorithm: Algorithm, labels: NDArray[np.int64], codes: NDArray[np.uint8], entry: FileEntry | None = None) -> None:
        self.labels = labels
        self.codes = codes
        self.entry = entry
        self._algorithm = algorithm

    @classmethod
    def none(cls, algorithm: Algorithm) -> OpenRows:
        """No rows."""
        return cls(algorithm, np.empty(0, np.int64), np.empty((0, algorithm.code_bytes), np.uint8))

    @cached_property
    def _scan(self) -> FlatScan:
        return FlatScan(self._algorithm, self.codes)

    def range_search(self, codes: NDArray[np.uint8], max_distance: int, nearest: Nearest | None) -> Hits:
        """The hits of some queries."""
        if not self.labels.size:
            return NO_HITS
        if nearest is None:
            return self._labelled(self._scan.range_search(codes, max_distance))
        return self._scan.range_search(codes, max_distance, lambda hits: nearest.of(self._labelled(hits)))

    def _labelled(self, hits: Hits) -> Hits:
        return Hits(hits.queries, hits.distances, self.labels[hits.labels])

    def with_added(self, labels: NDArray[np.int64], codes: NDArray[np.uint8]) -> OpenRows:
        """These rows and more."""
        return OpenRows(self._algorithm, np.concatenate([self.labels, labels]), np.concatenate([self.codes, codes]))

    def without(self, removed: NDArray[np.bool_]) -> OpenRows:
        """These rows but some."""
        return OpenRows(self._algorithm, self.labels[~removed], self.codes[~removed])


@dataclass(frozen=True, slots=True)
class Sealed:
    """A segment and which of its rows were removed since it was built."""

    segment: Segment
    removed: NDArray[np.uint8] = field(default_factory=no_bits)
    """uint8[rows / 8], or empty where none was."""
    removed_rows: int = 0
    removed_entry: FileEntry | None = None
    """The file that holds `removed`, once it was flushed."""
    holds_erased: bool = False
    """Some of the removed rows are to be in no file any more: the segment is rewritten before anything else is merged."""

    @property
    def live_rows(self) -> int:
        """Rows that a query can find."""
        return self.segment.rows - self.removed_rows

    def find(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of those of `labels` that are here and not removed, and nothing for the others."""
        rows = self.segment.find(labels)
        rows = rows[rows >= 0]
        return rows[~bits_at(self.removed, rows)]

    def has(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `labels` are here and not removed."""
        rows = self.segment.find(labels)
        return (rows >= 0) & ~bits_at(self.removed, np.maximum(rows, 0))

    def without(self, rows: NDArray[np.int64]) -> Sealed:
        """The same with more rows removed: none of `rows` was, and none is named twice."""
        removed = with_bits(self.removed, rows, self.segment.rows)
        return Sealed(self.segment, removed, self.removed_rows + rows.size, holds_erased=self.holds_erased)

    def live(self) -> NDArray[np.int64]:
        """The rows not removed, ascending."""
        if not self.removed.size:
            return np.arange(self.segment.rows)
        return np.flatnonzero(np.unpackbits(self.removed, count=self.segment.rows, bitorder="little") == 0)

    def range_search(self, codes: NDArray[np.uint8], max_distance: int, nearest: Nearest | None) -> Hits:
        """The hits of some queries."""
        hits = self.segment.range_search(codes, max_distance, self.removed, nearest)
        return hits if hits is NO_HITS else Hits(hits.queries, hits.distances, self.segment.labels_of(hits.labels))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Sealed segments and open rows. No label is in two places, or twice in one."""

    sealed: tuple[Sealed, ...]
    open: OpenRows

    @property
    def rows(self) -> int:
        """Rows that a query can find."""
        return sum(sealed.live_rows for sealed in self.sealed) + self.open.labels.size

    @property
    def size_bytes(self) -> int:
        """What should stay in memory."""
        sealed = sum(part.segment.entry.size_bytes + part.removed.nbytes for part in self.sealed)
        return sealed + self.open.labels.nbytes + self.open.codes.nbytes

    def range_search(self, codes: NDArray[np.uint8], max_distance: int, nearest: Nearest | None) -> Hits:
        """The hits of some queries, in no particular order: all of them, or in each part the nearest."""
        parts = [sealed.range_search(codes, max_distance, nearest) for sealed in self.sealed]
        parts.append(self.open.range_search(codes, max_distance, nearest))
        return Hits.join(parts)

    def any_of(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of `labels` that are in the index."""
        there = np.isin(labels, self.open.labels)
        for sealed in self.sealed:
            there |= sealed.has(labels)
        return labels[there]

    def without(self, labels: NDArray[np.int64]) -> Snapshot:
        """The same without the rows of `labels` (each given once); labels that are not here are passed over."""
        sealed = []
        for part in self.sealed:
            rows = part.find(labels)
            sealed.append(part.without(rows) if rows.size else part)
        removed = np.isin(self.open.labels, labels)
        return replace(self, sealed=tuple(sealed), open=self.open.without(removed) if removed.any() else self.open)

    def with_erased(self, labels: NDArray[np.int64]) -> Snapshot:
        """The same, knowing that the removed rows of `labels`, whenever they were removed, are to be in no file any more."""
        sealed = tuple(
            replace(part, holds_erased=True) if not part.holds_erased and (part.segment.find(labels) >= 0).any() else part
            for part in self.sealed
        )
        return self if all(new is old for new, old in zip(sealed, self.sealed, strict=True)) else replace(self, sealed=sealed)

    @property
    def holds_erased(self) -> bool:
        """Whether a segment still holds rows that are to be in no file any more."""
        return any(part.holds_erased for part in self.sealed)

    def file_names(self) -> set[str]:
        """The files this state needs, as far as it was flushed."""
        return {entry.name for entry in self.entries()}

    def entries(self) -> list[FileEntry]:
        """The files this state needs, as far as it was flushed, with what is known of their contents."""
        entries = [self.open.entry, *(s.segment.entry for s in self.sealed), *(s.removed_entry for s in self.sealed)]
        return [entry for entry in entries if entry]
