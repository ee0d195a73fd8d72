"""From PDQ's 64 x 64 picture to its codes: the cosine transform, one bit a frequency, the quality, and the eight orientations.

All in float32 and in the order of additions of the reference, so that every rounding falls the same way.

Source: "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (Facebook, 2019) and its reference code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

SHRUNK_SIDE: Final = 64  # pixels of the blurred and shrunk picture
_ROUNDING: Final = 0.25  # by which rounding moves a frequency: 0.1 to 0.4 was measured (root mean square)
_DOUBTFUL: Final = 5
KEPT: Final = 16  # frequencies kept per axis: 16 x 16 = 256 bits


def _cosines() -> Floats:
    """The cosine transform's rows 1 to 16: shape (16, 64), rounded to float32 where the reference rounds."""
    scale = float(np.float32(math.sqrt(2.0 / SHRUNK_SIDE)))
    step = math.pi / 2.0 / SHRUNK_SIDE
    rows = [[scale * math.cos(step * (i + 1) * (2 * j + 1)) for j in range(SHRUNK_SIDE)] for i in range(KEPT)]
    return np.array(rows, dtype=np.float32)


def _orientations() -> list[tuple[Floats, bool]]:
    """How the spectra of the turned and mirrored picture follow from its own: signs, shape (16, 16), then perhaps a transposition.

    Frequencies start at 1 here, so an even row or column number is an odd frequency, the kind that changes its sign when mirrored.
    """
    row, column = np.indices((KEPT, KEPT))
    as_it_is, by_row, by_column, by_both = row < 0, row % 2 == 0, column % 2 == 0, (row + column) % 2 == 1
    order = [
        (as_it_is, False),
        (by_column, True),
        (by_both, False),
        (by_row, True),
        (by_row, False),
        (by_column, False),
        (as_it_is, True),
        (by_both, True),
    ]
    return [(np.where(negative, -1, 1).astype(np.float32), across) for negative, across in order]


_COSINES = _cosines()
_ORIENTATIONS = _orientations()


def codes_of(shrunk: Floats, *, orientations: bool = False) -> tuple[list[bytes], int]:
    """Compute the PDQ of a picture that was shrunk already, as it is or in all eight orientations.

    Args:
        shrunk: brightness, 0..255, shape (64, 64).
        orientations: also the seven turned and mirrored forms, from the same spectrum: it costs next to nothing.

    Returns:
        The codes, 32 bytes each: one, or eight in the order of `pdqhash.compute_dihedral`; and the quality, 0..100.
    """
    wanted = _ORIENTATIONS if orientations else _ORIENTATIONS[:1]
    spectrum = _spectrum(shrunk)
    turned = (spectrum * signs for signs, _ in wanted)
    return [_bits(each.T if across else each) for each, (_, across) in zip(turned, wanted, strict=True)], _quality(shrunk)


def in_doubt(shrunk: Floats) -> bool:
    """Whether so many frequencies lie beside the median that rounding brightness to 256 steps may move more bits than two.

    Of photographs hardly any; fine regular patterns are such.
    """
    spectrum = _spectrum(shrunk)
    beside = np.abs(spectrum - np.median(spectrum)) < _ROUNDING
    return int(beside.sum()) > _DOUBTFUL


def no_codes(*, orientations: bool = False) -> tuple[list[bytes], int]:
    """Return what the reference gives for a picture with fewer than 5 pixels along one side: all zeros, quality 0."""
    return [bytes(KEPT * KEPT // 8)] * (len(_ORIENTATIONS) if orientations else 1), 0


def _spectrum(shrunk: Floats) -> Floats:
    """The 16 x 16 lowest frequencies but the constant ones: cosines times picture times cosines, shape (16, 16).

    Not numpy's matrix product, whose order of additions depends on the machine: a sum along the first axis adds one term after the other.
    """
    half = np.multiply(_COSINES.T[:, :, None], shrunk[:, None, :], order="C").sum(axis=0)
    return np.asarray(np.multiply(half.T[:, :, None], _COSINES.T[:, None, :], order="C").sum(axis=0))


def _bits(spectrum: Floats) -> bytes:
    """One bit per frequency: above the (lower) median or not; the highest frequency first, as PDQ is written in hex."""
    flat = spectrum.ravel()
    middle = flat.size // 2 - 1
    median = np.partition(flat, middle)[middle]
    return np.packbits((flat > median)[::-1]).tobytes()


def _quality(shrunk: Floats) -> int:
    """How much there is to see, 0..100: steps between neighbouring pixels in whole percents of the full range, as the reference does."""
    steps = 0
    for axis in (0, 1):
        step = np.diff(shrunk, axis=axis) * np.float32(100) / np.float32(255)
        steps += int(np.abs(step.astype(np.int32)).sum())
    return min(steps // 90, 100)
