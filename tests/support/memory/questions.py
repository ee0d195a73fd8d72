"""Questions as they travel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.envelope import to_message
from vidfed.wire.values import HashColumn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidfed.index import Hash
    from vidfed.security.crypto.envelope import Envelope


def columns_of(hashes: Iterable[Hash], distance: int | None = None) -> tuple[HashColumn, ...]:
    """Put bare hashes into columns, hash `i` being item `i`; at each algorithm's default distance if none is given."""
    numbered = list(enumerate(hashes))
    columns = []
    for algorithm in dict.fromkeys(entry.algorithm for _, entry in numbered):
        own = [(item, entry.code) for item, entry in numbered if entry.algorithm is algorithm]
        codes = np.frombuffer(b"".join(code for _, code in own), dtype=np.uint8).reshape(len(own), algorithm.code_bytes)
        items = np.array([item for item, _ in own], dtype=np.uint32)
        columns.append(HashColumn(algorithm, codes, items, algorithm.default_distance if distance is None else distance))
    return tuple(columns)


def call_of(credential: Envelope, request: Envelope) -> LookupCall:
    """Return the message in which a credential and a signed request travel."""
    return LookupCall(credential=to_message(credential), request=to_message(request))
