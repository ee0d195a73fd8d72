"""PDQ's blur and shrink in one step: each of the 64 x 64 pixels as a weighted sum of those around it.

PDQ blurs a picture twice along each axis with a box of 1/128 of its side and keeps 64 x 64 pixels. All of that is linear and the same for
every row and every column, so what a kept pixel becomes is one sum with weights that depend on the side alone; blurring all the others is
not needed. That takes a thirtieth of the time of `pdqhash`, whose hashes it gives: what differs is the rounding of its running sums.

The weights are whole numbers, and every sum is a whole number that float32 (down the columns) or float64 (along the rows) holds exactly:
the result depends neither on the order of additions nor on the machine.

A picture that was decoded at 1/2, 1/4 or 1/8 of its size gets the weights of the full picture, each the sum of those of the pixels that
became one, so that the same places of the picture are looked at.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from vidfed.index.hashing.pdq.transform import SHRUNK_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

_ONE: Final = 1 << 16
"""Weights are multiples of 1/65,536: 255 times as much is below 2^24, up to which float32 holds every whole number."""

_CACHED: Final = 1 << 17  # values of a strip: half a megabyte
_BRIGHTNESS: Final = np.array([299, 587, 114], dtype=np.float64)  # of red, green, blue, in these parts, as the reference weighs them
_PARTS: Final = 1000


def shrink(pixels: NDArray[np.uint8], full_size: tuple[int, int] | None = None) -> Floats:
    """Blur and shrink a picture.

    Args:
        pixels: shape (rows, columns) for grey, (rows, columns, 3) for RGB.
        full_size: rows and columns of the full picture, if this is one of reduced size.

    Returns:
        Brightness, 0..255, shape (64, 64).
    """
    rows, columns = pixels.shape[:2]
    if rows == columns == SHRUNK_SIDE:  # as the reference: there is nothing to shrink, so nothing is blurred either
        return np.asarray(pixels if pixels.ndim == 2 else pixels @ _BRIGHTNESS / _PARTS, dtype=np.float32)  # noqa: PLR2004 - without colours
    full_rows, full_columns = full_size or (rows, columns)
    sums = _down(pixels.reshape(rows, -1), full_rows).astype(np.float64)
    if pixels.ndim == 3:  # noqa: PLR2004 - with colours
        sums = sums.reshape(SHRUNK_SIDE, columns, 3) @ _BRIGHTNESS / _PARTS
    return _along(sums, full_columns)


class Parts:
    """Shrinks several parts of one picture; those that have their rows in common share half of the work.

    Args:
        grey: shape (rows, columns).
    """

    def __init__(self, grey: NDArray[np.uint8]) -> None:
        self._grey = grey
        self._sums: dict[tuple[int, int], NDArray[np.float64]] = {}

    def shrink(self, left: int, top: int, right: int, bottom: int) -> Floats:
        """Shrink the part from `left`, `top` up to but without `right`, `bottom`, as `shrink` does."""
        if (top, bottom) not in self._sums:
            self._sums[top, bottom] = _down(self._grey[top:bottom], bottom - top).astype(np.float64)
        return _along(self._sums[top, bottom][:, left:right], right - left)


def _down(lines: NDArray[np.uint8], full_rows: int) -> Floats:
    """Sum down the columns: shape (64, values of a line), in units of 1 / `_ONE`."""
    firsts, weights = _weights(full_rows, len(lines))
    span, width = weights.shape[1], lines.shape[1]
    sums = np.empty((SHRUNK_SIDE, width), dtype=np.float32)
    # A strip of columns at a time, in one buffer that stays in the processor's cache.
    buffer = np.empty((span, min(width, max(64, _CACHED // span))), dtype=np.float32)
    for left in range(0, width, buffer.shape[1]):
        right = min(left + buffer.shape[1], width)
        strip = buffer if right - left == buffer.shape[1] else np.empty((span, right - left), dtype=np.float32)
        for each, first in enumerate(firsts):
            np.copyto(strip, lines[first : first + span, left:right])
            np.matmul(weights[each], strip, out=sums[each, left:right])
    return sums


def _along(sums: NDArray[np.float64], full_columns: int) -> Floats:
    """Sum along the rows: shape (64, 64), brightness."""
    firsts, weights = _weights(full_columns, sums.shape[1])
    near = sums[:, firsts[:, None] + np.arange(weights.shape[1])]  # shape (64 rows, 64 columns, weights)
    return np.asarray(np.einsum("rcw,cw->rc", near, weights.astype(np.float64)) / (float(_ONE) * _ONE), dtype=np.float32)


@lru_cache(maxsize=256)
def _weights(full: int, side: int) -> tuple[NDArray[np.int64], Floats]:
    """Return for each of the 64 kept places the first pixel that counts, and the weights of it and the next ones, shape (64, span).

    Args:
        full: pixels along the full picture's side.
        side: pixels there are of it: all, or a half, a quarter or an eighth, rounded up.
    """
    window = (full + 2 * SHRUNK_SIDE - 1) // (2 * SHRUNK_SIDE)
    after = (window + 2) // 2 - 1
    before = window - 1 - after
    places = np.array([int((i + 0.5) * full / SHRUNK_SIDE) for i in range(SHRUNK_SIDE)])
    factor = -(-full // side)
    whole = np.zeros((SHRUNK_SIDE, side))
    for each, place in enumerate(places):
        # The second box's pixels, each the mean of the first box around it; both are cut short at the picture's edges.
        second = range(max(place - before, 0), min(place + after, full - 1) + 1)
        for middle in second:
            first, last = max(middle - before, 0), min(middle + after, full - 1)
            share = 1.0 / (len(second) * (last - first + 1))
            if factor == 1:
                whole[each, first : last + 1] += share
            else:
                pixels, counts = np.unique(np.arange(first, last + 1) // factor, return_counts=True)
                whole[each, pixels] += share * counts
    starts = (whole > 0).argmax(axis=1)
    span = int((side - (whole[:, ::-1] > 0).argmax(axis=1) - starts).max())
    starts = np.minimum(starts, side - span)
    weights = np.rint(np.take_along_axis(whole, starts[:, None] + np.arange(span), axis=1) * _ONE)
    largest = weights.argmax(axis=1)
    weights[np.arange(SHRUNK_SIDE), largest] += _ONE - weights.sum(axis=1)
    return starts, weights.astype(np.float32)
