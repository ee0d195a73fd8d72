"""Which digests an import has named already, in memory that does not grow with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class DigestFilter:
    """Remembers digests in 32 MiB, whatever their number.

    It never forgets one. Of new ones it takes some for known, the more the more it holds: with two million, one in 130.
    """

    _BITS = 28

    def __init__(self) -> None:
        self._bits = bytearray(1 << (self._BITS - 3))

    def add(self, digests: Iterable[bytes]) -> bool:
        """Remember these digests and return whether any of them may have been there."""
        bits, found = self._bits, False
        for digest in digests:
            slot = hash(digest) & ((1 << self._BITS) - 1)
            bit = 1 << (slot & 7)
            if bits[slot >> 3] & bit:
                found = True
            else:
                bits[slot >> 3] |= bit
        return found
