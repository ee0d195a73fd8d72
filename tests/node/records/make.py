"""Random records and entries. Nothing here was computed from any picture."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from vidfed.index import Algorithm
from vidfed.node.records.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_700_000_000_000


def code(algorithm: Algorithm, seed: int) -> bytes:
    """Return a code that looks random and is the same for the same seed."""
    return random.Random(f"{algorithm.value} {seed}").randbytes(algorithm.code_bytes)


def record(seed: int, algorithms: Iterable[Algorithm] = (Algorithm.MD5, Algorithm.SHA1, Algorithm.PDQ), **values: Any) -> Record:  # noqa: ANN401 - any field of a record
    """Return a record whose codes follow from the seed."""
    return Record({algorithm: code(algorithm, seed) for algorithm in algorithms}, **values)
