"""Parts of a picture that may be the picture somebody else knows: without its borders, and cut to the usual shapes.

PDQ sees the whole frame: black bars or a cut of a few percent move more bits than any sensible distance forgives. What was done to a
picture by adding borders can be undone by finding them; what was done by cutting to a usual shape around the middle can be done to the
other picture as well. So both sides compute these variants, and hits say which one matched.

    variant:trimmed     without borders of one colour, and then without bars that show the picture itself, blurred
    variant:crop-4x5    the largest part of that shape around the middle: 1x1, 4x5, 3x4, 2x3, 9x16 and those lying down. Where a frame was
                        trimmed, also of what was in it, as variant:trimmed-crop-4x5

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
# By how many steps of 255 a border's pixels may differ from its colour, and for what share of a line that must hold. Exact: as a program
# drew it and JPEG left it. Rough: with what JPEG does beside an edge, and with a mark or a clock on it.
_EXACT_COLOUR: Final = (5, 0.985)
_ROUGH_COLOUR: Final = (14, 0.92)
_LINES_AT_ONCE: Final = 8  # looked at; most pictures have no border and end at the first
_BLUR_RATIO: Final = 0.45  # detail of a blurred bar over that of the picture
_EDGE_RATIO: Final = 3.0  # step at the edge of a blurred bar over the steps inside it
_SHARP_EDGE_RATIO: Final = 8.0  # the same where the picture has no more detail than its bars


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
    trimmed = trims(grey)
    for number, box in enumerate(trimmed, 1):
        yield TRIMMED if number == 1 else f"{TRIMMED}-{number}", box
    whole = Box(0, 0, grey.width, grey.height)
    framed = [(f"{TRIMMED}-crop", box) for box in trimmed[:1] if _in_the_middle(box, whole)]
    for kind, frame in (("variant:crop", whole), *framed):
        for across, down in SHAPES:
            cut = centre_crop(frame, across, down)
            if cut is not None:
                yield f"{kind}-{across}x{down}", cut


def _in_the_middle(box: Box, whole: Box) -> bool:
    """Whether what was trimmed is a frame that somebody put around a picture, not a dark or bright side of it."""
    uneven = max(abs(box.left - whole.right + box.right) / whole.width, abs(box.top - whole.bottom + box.bottom) / whole.height)
    return uneven <= _MIN_BORDER


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


def trims(grey: Image.Image) -> list[Box]:
    """Find what is left of a picture of mode "L" without borders: none if it has none, several where it is not plain where they end.

    A dark picture in black bars may end where the bars do, or where it gets bright; a picture in blurred bars of its own may have borders.
    """
    pixels = np.asarray(grey)
    rows, columns = pixels.shape
    whole = Box(0, 0, columns, rows)
    if min(rows, columns) < 2 * _MIN_KEPT_PIXELS:
        return []
    factor = max(1, min(rows, columns) // _SCAN_SIDE)
    small = np.asarray(grey.reduce(factor) if factor > 1 else grey)
    sharp = _without_blur(pixels, small, factor, whole)
    exact, rough = (_without_colour(pixels, whole, how) for how in (_EXACT_COLOUR, _ROUGH_COLOUR))
    found: list[Box] = []
    for box in (sharp, exact, rough, _without_colour(pixels, sharp, _ROUGH_COLOUR), _without_blur(pixels, small, factor, rough)):
        enough = box.width * box.height >= _MIN_KEPT_AREA * rows * columns and min(box.width, box.height) >= _MIN_KEPT_PIXELS
        if enough and all(_differ(box, other, rows, columns) for other in (whole, *found)):
            found.append(box)
    return found


def _differ(box: Box, other: Box, rows: int, columns: int) -> bool:
    """Whether two boxes are far enough apart for PDQ to see it."""
    across = max(abs(box.left - other.left), abs(box.right - other.right))
    down = max(abs(box.top - other.top), abs(box.bottom - other.bottom))
    return across >= _MIN_BORDER * columns or down >= _MIN_BORDER * rows


# --- borders of one colour ---


def _without_colour(pixels: Grey, box: Box, how: tuple[int, float]) -> Box:
    """Take away rows and columns of one colour, from the outside until something else is shown."""
    part = pixels[box.top : box.bottom, box.left : box.right]
    step = max(1, min(part.shape) // _SCAN_SIDE)
    top, bottom = _one_colour(part, step, how), _one_colour(part[::-1], step, how)
    if top + bottom >= part.shape[0]:
        return box  # nothing but one colour
    rest = part[top : part.shape[0] - bottom]
    left, right = _one_colour(rest.T, step, how), _one_colour(rest.T[::-1], step, how)
    if left + right >= part.shape[1]:
        return box
    return Box(box.left + left, box.top + top, box.right - right, box.bottom - bottom)


def _one_colour(lines: Grey, step: int, how: tuple[int, float]) -> int:
    """Count the lines at the beginning that are of one colour, that of the first one.

    Every `step`-th line is looked at first, and of each line every `step`-th pixel.
    """
    colour = int(np.median(lines[0, ::step]))
    most_steps, share = how

    def plain(some: Grey) -> NDArray[np.bool_]:
        near = np.abs(some.astype(np.int16) - colour) <= most_steps
        return np.asarray(near.mean(axis=1) >= share)

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
    edges = np.arange(max(4, size // 50), int(size * 0.46))
    if not len(edges):
        return None
    others = size - edges
    step_sums, detail_sums = (np.concatenate(([0.0], np.cumsum(values))) for values in (steps, detail))
    # The picture lies in the middle to a pixel, which reducing may have made two.
    near_end = np.lib.stride_tricks.sliding_window_view(np.pad(steps, 1), 3).max(axis=1)
    edge_steps = np.minimum(near_end[edges - 1], near_end[others - 1])
    bar_steps = (step_sums[edges - 2] + step_sums[-1] - step_sums[others + 1]) / (2 * edges - 4)
    bar_detail = (detail_sums[edges - 1] + detail_sums[-1] - detail_sums[others + 1]) / (2 * edges - 2)
    shown_detail = (detail_sums[others - 1] - detail_sums[edges + 1]) / np.maximum(1, others - edges - 2)
    strength = edge_steps / (bar_steps + 0.5)
    least = np.where(bar_detail <= _BLUR_RATIO * shown_detail, _EDGE_RATIO, _SHARP_EDGE_RATIO)
    strength = np.where(strength >= least, strength, 0.0)
    best = int(np.argmax(strength))
    if not strength[best]:
        return None
    begin = _place(lines, int(edges[best]) * factor, 2 * factor)
    end = len(lines) - _place(lines, len(lines) - begin, 2)
    return begin, end, float(strength[best])


def _place(lines: Grey, near: int, reach: int) -> int:
    """Return the line that the sharpest step is before, within `reach` lines of `near`."""
    first, last = max(1, near - reach), min(len(lines) - 1, near + reach)
    some = lines[first - 1 : last + 1].astype(np.int16)
    steps = np.abs(np.diff(some, axis=0)).mean(axis=1)
    return first + int(np.argmax(steps))
