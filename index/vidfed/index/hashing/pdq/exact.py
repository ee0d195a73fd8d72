"""PDQ's blur, compiled: the very bits of `pdqhash`, several times faster once it is loaded. For `--full-size`.

PDQ blurs the whole picture before it shrinks it to 64 x 64, and in `pdqhash` (the published C++ code) that blur costs many times what
decoding the picture does. Here sixteen rows are blurred at once, in the same order of additions on the same 32-bit floats, so that every
rounding falls the same way: the hash is equal bit for bit, not merely close, which the tests hold against `pdqhash`.

Loading it takes about a second, and compiling it, once per installation, eight more: few pictures are better served by `pdqhash` itself;
`perceptual` decides. What is hashed otherwise takes the way of `shrink`, whose hashes are those of this module but for two bits at most.

Source: "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (Facebook, 2019) and its reference code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numba
import numpy as np

from vidfed.index.hashing.pdq.transform import SHRUNK_SIDE, codes_of, no_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

# A picture with fewer pixels along one side has no hash: the reference gives all zeros and quality 0, and so does this module.
_MIN_SIDE_PIXELS = 5
_LANES = 16  # rows blurred at once: what fills a processor's vector registers


def pdq(pixels: NDArray[np.uint8], *, orientations: bool = False) -> tuple[list[bytes], int]:
    """Compute the PDQ of a picture, as it is or in all eight orientations.

    Args:
        pixels: shape (rows, columns, 3) for RGB or (rows, columns, 1) for grey, C-contiguous.
        orientations: also hash the seven turned and mirrored forms, from the same spectrum: it costs next to nothing.

    Returns:
        The codes, 32 bytes each: one, or eight in the order of `pdqhash.compute_dihedral`; and the quality, 0..100.
    """
    rows, columns = pixels.shape[:2]
    if min(rows, columns) < _MIN_SIDE_PIXELS:
        return no_codes(orientations=orientations)
    if rows == columns == SHRUNK_SIDE:
        # As the reference: there is nothing to shrink, so nothing is blurred either.
        shrunk = np.empty((SHRUNK_SIDE, SHRUNK_SIDE), dtype=np.float32)
        strip = np.empty((columns, _LANES), dtype=np.float32)
        for top in range(0, rows, _LANES):
            _brightness(pixels, top, _LANES, strip)
            shrunk[top : top + _LANES] = strip.T
    else:
        shrunk = _shrink(pixels, _middles(rows), _middles(columns))
    return codes_of(shrunk, orientations=orientations)


def _middles(side: int) -> NDArray[np.int64]:
    """The pixel nearest to the middle of each 1/64 of a side. Below 64 pixels some occur twice."""
    return np.array([int((i + 0.5) * side / SHRUNK_SIDE) for i in range(SHRUNK_SIDE)], dtype=np.int64)


# Below: compiled, and written for that: plain loops over arrays, each inner loop over lanes or columns that do not depend on each other.
# No "fastmath": it would let the compiler reorder additions. Every window is cut short at the picture's edges.
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@_compiled  # type: ignore[misc, unused-ignore]  # numba is untyped
def _brightness(pixels: NDArray[np.uint8], top: int, count: int, strip: Floats) -> None:
    """Write the brightness of rows `top` to `top + count` into `strip`, shape (columns, lanes).

    (299 R + 587 G + 114 B) / 1000 in float32 is what the reference's 0.299 R + 0.587 G + 0.114 B in double precision gives once rounded,
    for every one of the 256^3 colours: the sum is a whole number that float32 holds exactly, and the division is correctly rounded.
    """
    for lane in range(count):
        row = pixels[top + lane]
        if pixels.shape[2] == 1:
            for x in range(len(row)):
                strip[x, lane] = np.float32(row[x, 0])
        else:
            for x in range(len(row)):
                red, green, blue = np.float32(row[x, 0]), np.float32(row[x, 1]), np.float32(row[x, 2])
                strip[x, lane] = (np.float32(299) * red + np.float32(587) * green + np.float32(114) * blue) / np.float32(1000)


@_compiled  # type: ignore[misc, unused-ignore]
def _box_along(strip: Floats, kept: NDArray[np.int64], count: int, out: Floats, first: int) -> None:
    """Average along the first axis of `strip`, (columns, lanes); `kept[k]` of lane `l` goes to `out[first + l, k]`."""
    length = strip.shape[0]
    window = (length + 2 * SHRUNK_SIDE - 1) // (2 * SHRUNK_SIDE)
    after = (window + 2) // 2 - 1
    before = window - 1 - after
    sums = np.zeros(_LANES, np.float32)
    for x in range(after):
        for lane in range(_LANES):
            sums[lane] += strip[x, lane]
    k = 0
    for x in range(length):
        entering, leaving = x + after, x - before - 1
        if entering < length:
            for lane in range(_LANES):
                sums[lane] += strip[entering, lane]
        if leaving >= 0:
            for lane in range(_LANES):
                sums[lane] -= strip[leaving, lane]
        width = np.float32(min(entering, length - 1) - max(leaving, -1))
        while k < len(kept) and kept[k] == x:
            for lane in range(count):
                out[first + lane, k] = sums[lane] / width
            k += 1


@_compiled  # type: ignore[misc, unused-ignore]
def _slide(sums: Floats, y: int, length: int, lines: Floats, out: Floats) -> None:
    """Move the running sums of all columns down to row `y` of `length` and write their averages to `out`.

    `lines` is a ring: row `r` is `lines[r % len(lines)]`. The first rows' sums are taken in on the way to row 0.
    """
    window = (length + 2 * SHRUNK_SIDE - 1) // (2 * SHRUNK_SIDE)
    after = (window + 2) // 2 - 1
    before = window - 1 - after
    if y == 0:
        for row in range(after):
            for x in range(len(sums)):
                sums[x] += lines[row % len(lines), x]
    entering, leaving = y + after, y - before - 1
    width = np.float32(min(entering, length - 1) - max(leaving, -1))
    last, oldest = entering % len(lines), leaving % len(lines)
    if entering < length and leaving >= 0:
        for x in range(len(sums)):
            total = (sums[x] + lines[last, x]) - lines[oldest, x]
            sums[x] = total
            out[x] = total / width
    elif entering < length:
        for x in range(len(sums)):
            total = sums[x] + lines[last, x]
            sums[x] = total
            out[x] = total / width
    else:
        for x in range(len(sums)):
            total = sums[x] - lines[oldest, x]
            sums[x] = total
            out[x] = total / width


@_compiled  # type: ignore[misc, unused-ignore]
def _shrink(pixels: NDArray[np.uint8], kept_rows: NDArray[np.int64], kept_columns: NDArray[np.int64]) -> Floats:
    """Blur along rows, columns, rows, columns and keep 64 x 64 pixels, in one walk down the picture.

    Only as many blurred rows as one window needs are ever held, so memory does not grow with the picture and stays in the processor's
    cache.
    """
    rows, columns = pixels.shape[0], pixels.shape[1]
    window = (rows + 2 * SHRUNK_SIDE - 1) // (2 * SHRUNK_SIDE)
    after = (window + 2) // 2 - 1
    every_column = np.arange(columns)
    strip = np.zeros((columns, _LANES), np.float32)
    # A ring, along rows, once. Full strips are added to it, so it is so many strips long.
    blurred = np.empty(((window + 3 * _LANES) // _LANES * _LANES, columns), np.float32)
    narrow = np.empty((rows, SHRUNK_SIDE), np.float32)  # along rows, columns, rows, of which 64 columns are kept
    sums = np.zeros(columns, np.float32)
    averages = np.empty((_LANES, columns), np.float32)
    ready = 0
    for top in range(0, rows, _LANES):
        count = min(_LANES, rows - top)
        while ready < min(rows, top + count + after):
            fresh = min(_LANES, rows - ready)
            _brightness(pixels, ready, fresh, strip)
            _box_along(strip, every_column, fresh, blurred, ready % len(blurred))
            ready += fresh
        for lane in range(count):
            _slide(sums, top + lane, rows, blurred, averages[lane])
        for x in range(columns):
            for lane in range(count):
                strip[x, lane] = averages[lane, x]
        _box_along(strip, kept_columns, count, narrow, top)
    shrunk = np.empty((SHRUNK_SIDE, SHRUNK_SIDE), np.float32)
    sums = np.zeros(SHRUNK_SIDE, np.float32)
    line = np.empty(SHRUNK_SIDE, np.float32)
    k = 0
    for y in range(rows):
        _slide(sums, y, rows, narrow, line)
        while k < SHRUNK_SIDE and kept_rows[k] == y:
            shrunk[k] = line
            k += 1
    return shrunk
