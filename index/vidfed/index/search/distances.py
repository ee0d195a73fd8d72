"""How far apart codes are: the definition that every search must agree with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidfed.index.algorithms import Algorithm, DistanceKind

if TYPE_CHECKING:
    from numpy.typing import NDArray


def distances_to(algorithm: Algorithm, codes: NDArray[np.uint8], code: bytes) -> NDArray[np.int64]:
    """Return how far each of `codes`, uint8[n, bytes], is from `code`. Digests are equal, distance 0, or farther than anybody may ask."""
    other = np.frombuffer(code, np.uint8)
    match algorithm.distance_kind:
        case DistanceKind.HAMMING:
            apart = np.bitwise_count(codes ^ other)
        case DistanceKind.SQUARED_EUCLIDEAN:
            apart = (codes.astype(np.int64) - other) ** 2
        case DistanceKind.EQUALITY:
            apart = (codes != other).any(axis=1, keepdims=True)
    total: NDArray[np.int64] = apart.sum(axis=1, dtype=np.int64)
    return total
