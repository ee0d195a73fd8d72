"""Which rows of a segment were removed: one bit a row, lowest bit first, in arrays that nobody changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NONE_REMOVED = np.empty(0, np.uint8)
_NONE_REMOVED.flags.writeable = False


def no_bits() -> NDArray[np.uint8]:
    """The bitmap of a segment from which nothing was removed."""
    return _NONE_REMOVED


def with_bits(bitmap: NDArray[np.uint8], rows: NDArray[np.int64], row_count: int) -> NDArray[np.uint8]:
    """A new bitmap in which the bits of `rows` are set too."""
    changed = bitmap.copy() if bitmap.size else np.zeros((row_count + 7) // 8, np.uint8)
    np.bitwise_or.at(changed, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))
    changed.flags.writeable = False
    return changed


def bits_at(bitmap: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of `rows` are set; an empty bitmap has none."""
    if not bitmap.size:
        return np.zeros(rows.size, np.bool_)
    set_bits: NDArray[np.bool_] = (bitmap[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(np.bool_)
    return set_bits
