"""Parts of a picture that may be the picture somebody else knows: without its borders, and cut to the usual shapes.

PDQ sees the whole frame: black bars or a cut of a few percent move more bits than any sensible distance forgives. What was done to a
picture by adding borders can be undone by finding them; what was done by cutting to a usual shape around the middle can be done to the
other picture as well. So both sides compute these variants, and hits say which one matched.

    variant:trimmed     without borders of one colour, and then without bars that show the picture itself, blurred
    variant:crop-4x5    the largest part of that shape around the middle; 1x1, 4x5, 3x4, 2x3, 9x16 and those lying down

Free cuts cannot be undone: nobody knows where they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL import Image

    Grey = NDArray[np.uint8]

TRIMMED: Final = "variant:trimmed"

SHAPES: Final = ((1, 1), (4, 5), (5, 4), (3, 4), (4, 3), (2, 3), (3, 2), (9, 16), (16, 9))
"""Width to height of the shapes that telephones, screens and social networks cut to."""

_SAME_SHAPE: Final = 0.03  # a cut to a shape so near its own (relative) is no other picture to PDQ, or cannot be told from the trimming
_SCAN_SIDE: Final = 192  # borders are looked for in a picture reduced to about this, and then placed exactly
_MIN_KEPT_AREA: Final = 0.1  # less is no picture with a border
_MIN_KEPT_PIXELS: Final = 64
_MIN_BORDER: Final = 0.004  # of a side: narrower borders do not move PDQ
_COLOUR_STEPS: Final = 12  # by which a border's pixels may differ from its colour, of 255: what JPEG does beside an edge
_COLOUR_SHARE: Final = 0.97  # of a border's line that must be so: the rest may be a mark or a clock
_LINES_AT_ONCE: Final = 8  # looked at; most pictures have no border and end at the first
_BLUR_RATIO: Final = 0.45  # detail of a blurred bar over that of the picture
_EDGE_RATIO: Final = 2.5  # step at the edge of a blurred bar over the steps inside it
_UNEVEN: Final = 0.02  # of the side, by which two blurred bars may differ in width: the picture lies in the middle


@dataclass(frozen=True, slots=True)
class Box:
    """Part of a picture, in its pixels: from `left`, `top` up to but without `right`, `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.bottom - self.top


def variants(grey: Image.Image) -> Iterator[tuple[str, Box]]:
    """Yield the kind of each variant and what part of the picture it is.

    Args:
        grey: of mode "L", upright.
    """
    trimmed = trim(grey)
    if trimmed != Box(0, 0, grey.width, grey.height):
        yield TRIMMED, trimmed
    for across, down in SHAPES:
        cut = centre_crop(trimmed, across, down)
        if cut is not None:
            yield f"variant:crop-{across}x{down}", cut


def centre_crop(box: Box, across: int, down: int) -> Box | None:
    """Return the largest part of a box of this shape around its middle; None if that is nearly all of it, or too little."""
    width, height = box.width, box.height
    if width * down > height * across:
        width = round(height * across / down)
    else:
        height = round(width * down / across)
    if width * height > (1 - _SAME_SHAPE) * box.width * box.height or min(width, height) < _MIN_KEPT_PIXELS:
        return None
    left, top = box.left + (box.width - width) // 2, box.top + (box.height - height) // 2
    return Box(left, top, left + width, top + height)


def trim(grey: Image.Image) -> Box:
    """Find what is left of a picture of mode "L" without borders; all of it if there are none."""
    pixels = np.asarray(grey)
    rows, columns = pixels.shape
    whole = Box(0, 0, columns, rows)
    if min(rows, columns) < 2 * _MIN_KEPT_PIXELS:
        return whole
    factor = max(1, min(rows, columns) // _SCAN_SIDE)
    small = np.asarray(grey.reduce(factor) if factor > 1 else grey)
    box = _without_blur(pixels, small, factor, _without_colour(pixels, whole))
    enough = box.width * box.height >= _MIN_KEPT_AREA * rows * columns and min(box.width, box.height) >= _MIN_KEPT_PIXELS
    wide = max(box.left, columns - box.right) >= _MIN_BORDER * columns or max(box.top, rows - box.bottom) >= _MIN_BORDER * rows
    return box if enough and wide else whole


# --- borders of one colour ---


def _without_colour(pixels: Grey, box: Box) -> Box:
    """Take away rows and columns of one colour, from the outside until something else is shown."""
    part = pixels[box.top : box.bottom, box.left : box.right]
    step = max(1, min(part.shape) // _SCAN_SIDE)
    top, bottom = _one_colour(part, step), _one_colour(part[::-1], step)
    if top + bottom >= part.shape[0]:
        return box  # nothing but one colour
    rest = part[top : part.shape[0] - bottom]
    left, right = _one_colour(rest.T, step), _one_colour(rest.T[::-1], step)
    if left + right >= part.shape[1]:
        return box
    return Box(box.left + left, box.top + top, box.right - right, box.bottom - bottom)


def _one_colour(lines: Grey, step: int) -> int:
    """Count the lines at the beginning that are of one colour, that of the first one.

    Every `step`-th line is looked at first, and of each line every `step`-th pixel.
    """
    colour = int(np.median(lines[0, ::step]))

    def plain(some: Grey) -> NDArray[np.bool_]:
        near = np.abs(some.astype(np.int16) - colour) <= _COLOUR_STEPS
        return np.asarray(near.mean(axis=1) >= _COLOUR_SHARE)

    for first in range(0, len(lines), _LINES_AT_ONCE * step):
        coarse = plain(lines[first : first + _LINES_AT_ONCE * step : step, ::step])
        if not coarse.all():
            break
    else:
        return len(lines)
    other = first + int(np.argmin(coarse)) * step
    start = max(0, other - step)
    fine = plain(lines[start : other + 1, ::step])
    return start + int(np.argmin(fine)) if not fine.all() else other


# --- bars that show the picture itself, enlarged and blurred ---


def _without_blur(pixels: Grey, small: Grey, factor: int, box: Box) -> Box:
    """Take away two blurred bars of the same width, left and right or above and below, with the sharp picture between them.

    Args:
        pixels: the picture.
        small: the picture reduced by `factor`.
        factor: whole.
        box: what is left of the picture.
    """
    part = pixels[box.top : box.bottom, box.left : box.right]
    inner = small[-(-box.top // factor) : box.bottom // factor, -(-box.left // factor) : box.right // factor].astype(np.int16)
    if min(inner.shape) < _MIN_KEPT_PIXELS:
        return box
    along_rows, along_columns = np.abs(np.diff(inner, axis=1)), np.abs(np.diff(inner, axis=0))
    beside = _blurred_bars(part.T, along_rows.mean(axis=0), along_columns.mean(axis=0), factor)
    above = _blurred_bars(part, along_columns.mean(axis=1), along_rows.mean(axis=1), factor)
    if beside and (not above or beside[2] >= above[2]):
        return Box(box.left + beside[0], box.top, box.right - beside[1], box.bottom)
    if above:
        return Box(box.left, box.top + above[0], box.right, box.bottom - above[1])
    return box


def _blurred_bars(lines: Grey, steps: NDArray[np.float64], detail: NDArray[np.float64], factor: int) -> tuple[int, int, float] | None:
    """Return how many lines at the beginning and at the end are blurred bars, and how plainly they are; None if there are none.

    Args:
        lines: shape (lines, pixels of a line).
        steps: mean step from each line to the next, of the reduced picture.
        detail: mean step along each line, of the reduced picture.
        factor: by which it was reduced.
    """
    size = len(detail)
    reach = max(1, round(size * _UNEVEN))
    edges = np.arange(max(4, size // 40, reach + 3), int(size * 0.46))
    if not len(edges):
        return None
    others = size - edges
    step_sums, detail_sums = (np.concatenate(([0.0], np.cumsum(values))) for values in (steps, detail))
    near_end = np.lib.stride_tricks.sliding_window_view(np.pad(steps, reach), 2 * reach + 1).max(axis=1)
    edge_steps = np.minimum(steps[edges - 1], near_end[others - 1])
    # The lines beside an edge are left out: reducing may have spread it over two.
    bar_steps = (step_sums[edges - 2] + step_sums[-1] - step_sums[np.minimum(others + reach, size - 1)]) / (2 * edges - reach - 2)
    bar_detail = (detail_sums[edges - 1] + detail_sums[-1] - detail_sums[others + reach]) / (2 * edges - reach - 1)
    shown_detail = (detail_sums[others - reach] - detail_sums[edges + 1]) / np.maximum(1, others - edges - reach - 1)
    strength = np.where(bar_detail <= _BLUR_RATIO * shown_detail, edge_steps / (bar_steps + 0.5), 0.0)
    best = int(np.argmax(strength))
    if strength[best] < _EDGE_RATIO:
        return None
    begin = _place(lines, int(edges[best]) * factor, 2 * factor)
    end = len(lines) - _place(lines, len(lines) - begin, 2 + round(len(lines) * _UNEVEN))
    return begin, end, float(strength[best])


def _place(lines: Grey, near: int, reach: int) -> int:
    """Return the line that the sharpest step is before, within `reach` lines of `near`."""
    first, last = max(1, near - reach), min(len(lines) - 1, near + reach)
    some = lines[first - 1 : last + 1].astype(np.int16)
    steps = np.abs(np.diff(some, axis=0)).mean(axis=1)
    return first + int(np.argmax(steps))
