"""Perceptual codes of one view of a picture: PDQ, pHash and dHash, the bits that other tools compute.

PDQ as `pdqhash` gives it, by that library or by its compiled twin; pHash and dHash as the package `imagehash` does, which the tests hold
them against.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import pdqhash
from PIL import Image

from vidfed.index.algorithms import Algorithm
from vidfed.index.hashing.results import WHOLE, PictureCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPILED_PDQ_PICTURE_PIXELS: Final = 50_000_000
"""From here on PDQ is left to the compiled blur, even for one picture: `pdqhash` needs 30 bytes a pixel, and two seconds for so many."""

_PHASH_SIDE: Final = 32
_PHASH_KEPT: Final = 8
_DHASH_SIZE: Final = (9, 8)


class Hasher:
    """Computes codes.

    The compiled PDQ is several times faster than the library but takes a second to load (and ten to compile, once per installation), so
    only a process that will hash many pictures loads it at once.
    """

    def __init__(self, *, orientations: bool, many: bool) -> None:
        """Prepare.

        Args:
            orientations: also compute the PDQ of the seven turned and mirrored forms.
            many: load the compiled PDQ now.
        """
        self._orientations = orientations
        self._many = many
        if many:
            for picture in (Image.new("L", (80, 80)), Image.new("RGB", (80, 80))):
                self._pdq(picture)

    def codes(self, picture: Image.Image, kind: str = WHOLE, *, only_pdq: bool = False) -> tuple[PictureCode, ...]:
        """Return PDQ, pHash and dHash of a picture of mode "L" or "RGB"."""
        codes, quality = self._pdq(picture)
        pdq = PictureCode(Algorithm.PDQ, codes[0], kind, quality, tuple(codes) if self._orientations else ())
        if only_pdq:
            return (pdq,)
        grey = picture if picture.mode == "L" else picture.convert("L")
        return (
            pdq,
            PictureCode(Algorithm.PHASH, phash(grey), kind, quality),
            PictureCode(Algorithm.DHASH, dhash(grey), kind, quality),
        )

    def _pdq(self, picture: Image.Image) -> tuple[list[bytes], int]:
        """PDQ codes (one, or eight) and quality. Both ways give the same bits; only time and memory differ."""
        if self._many or picture.width * picture.height > COMPILED_PDQ_PICTURE_PIXELS:
            try:
                from vidfed.index.hashing.pdq import pdq  # noqa: PLC0415 - slow to load

                array = np.asarray(picture)
                return pdq(array.reshape(picture.height, picture.width, -1), orientations=self._orientations)
            except (ImportError, RuntimeError):  # numba finds no folder it may write its cache to
                self._many = False
        array = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
        if self._orientations:
            vectors, quality = pdqhash.compute_dihedral(array)
        else:
            vector, quality = pdqhash.compute(array)
            vectors = [vector]
        return [np.packbits(vector).tobytes() for vector in vectors], int(quality)


def phash(grey: Image.Image) -> bytes:
    """64 bits: which of the 8 x 8 lowest frequencies of the picture at 32 x 32 are above their median."""
    pixels = np.asarray(grey.resize((_PHASH_SIDE, _PHASH_SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    lowest = _PHASH_COSINES @ pixels @ _PHASH_COSINES.T
    return np.packbits(lowest > np.median(lowest)).tobytes()


def dhash(grey: Image.Image) -> bytes:
    """64 bits: where the picture at 9 x 8 gets brighter from left to right."""
    pixels = np.asarray(grey.resize(_DHASH_SIZE, Image.Resampling.LANCZOS))
    return np.packbits(pixels[:, 1:] > pixels[:, :-1]).tobytes()


def _cosines() -> NDArray[np.float64]:
    """The first rows of the cosine transform (type II, unnormalised), shape (8, 32)."""
    return np.array([[2 * math.cos(math.pi * k * (2 * n + 1) / (2 * _PHASH_SIDE)) for n in range(_PHASH_SIDE)] for k in range(_PHASH_KEPT)])


_PHASH_COSINES: Final = _cosines()
