"""Hash algorithms by their number on the wire."""

from __future__ import annotations

from vidfed.index import Algorithm
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.statuses import VersionError

ALGORITHM_NUMBERS = {algorithm: pb.HashAlgorithm.Value(f"HASH_ALGORITHM_{algorithm.name}") for algorithm in Algorithm}
_ALGORITHMS: dict[int, Algorithm] = {number: algorithm for algorithm, number in ALGORITHM_NUMBERS.items()}


def read_algorithm(number: int) -> Algorithm:
    """Return the algorithm of this number.

    Raises:
        VersionError: it is not known here.
    """
    try:
        return _ALGORITHMS[number]
    except KeyError:
        raise VersionError(f"hash algorithm number {number} is not known") from None
