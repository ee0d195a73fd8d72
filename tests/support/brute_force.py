"""An index as simple as it can be, to compare with; and data that is not evenly spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidfed.index import Algorithm, DistanceKind
from vidfed.index.search.merger import Sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidfed.index import SearchResult

TINY = Sizes(first_seal_rows=24, seal_rows=12, most_rows=150, large_rows=60)


class Oracle:
    """An index as simple as it can be."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.rows: dict[int, bytes] = {}

    def copy(self) -> Oracle:
        other = Oracle(self.algorithm)
        other.rows = dict(self.rows)
        return other

    def add(self, labels: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        self.rows.update(zip(labels.tolist(), map(bytes, codes), strict=True))

    def remove(self, labels: NDArray[np.int64]) -> int:
        return sum(self.rows.pop(label, None) is not None for label in labels.tolist())

    def hits(self, code: NDArray[np.uint8], max_distance: int) -> list[tuple[int, int]]:
        if not self.rows:
            return []
        codes = np.frombuffer(b"".join(self.rows.values()), np.uint8).reshape(len(self.rows), -1)
        if self.algorithm.distance_kind is DistanceKind.SQUARED_EUCLIDEAN:
            distances = ((codes.astype(np.int64) - code.astype(np.int64)) ** 2).sum(axis=1)
        else:
            distances = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int64)
        return sorted((int(d), label) for d, label in zip(distances, self.rows, strict=True) if d <= max_distance)

    def assert_exact(self, result: SearchResult, codes: NDArray[np.uint8], max_distance: int, limit: int | None = None) -> None:
        """Assert that a result is what it must be: every hit, in order, none besides, and cut only where asked for and said."""
        assert result.limits.dtype == np.int64
        assert result.distances.dtype == np.int32
        assert result.labels.dtype == np.int64
        assert result.truncated.dtype == np.bool_
        assert result.limits[0] == 0
        assert len(result.limits) == len(codes) + 1
        assert result.limits[-1] == len(result.labels) == len(result.distances)
        for i, code in enumerate(codes):
            expected = self.hits(code, max_distance)
            found = slice(result.limits[i], result.limits[i + 1])
            assert list(zip(result.distances[found].tolist(), result.labels[found].tolist(), strict=True)) == expected[:limit]
            assert result.truncated[i] == (limit is not None and len(expected) > limit)


def flipped(codes: NDArray[np.uint8], most: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Each code with up to `most` of its bits flipped."""
    changed = codes.copy()
    for code in changed:
        for bit in random.choice(codes.shape[1] * 8, random.integers(0, most + 1), replace=False):
            code[bit >> 3] ^= 1 << (bit & 7)
    return changed


def make_codes(kind: str, count: int, length: int, seed: int) -> NDArray[np.uint8]:
    """Codes as they come in life, not only evenly spread ones."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 256, (count, length), np.uint8)
    if kind == "clustered" and count:
        centres = random.integers(0, 256, (3, length), np.uint8)
        codes = flipped(centres[random.integers(0, 3, count)], min(12, length * 8), random)
    elif kind == "skewed":
        codes[:, : length // 4] = 0
    elif kind == "identical" and count:
        codes[:] = codes[0]
    elif kind == "flat":
        codes = random.choice(np.array([0, 255], np.uint8), (count, length), p=[0.95, 0.05])
    return codes


KINDS = ("uniform", "clustered", "skewed", "identical", "flat")
