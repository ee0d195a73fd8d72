"""Perceptual codes of one view of a picture: PDQ, pHash and dHash, the bits that other tools compute.

Three ways to the same PDQ:

    full   `pdqhash` itself, or its compiled twin where there is much to do: bit for bit its hash. For `--full-size`
    exact  pictures of up to `EXACT_COLOURS_PIXELS`: the weighted sums of `shrink` over all colours. Rounding may cost a bit, rarely
    luma   larger pictures: the same over their brightness in 256 steps, and of JPEG perhaps at reduced size. 0 to 4 bits from `pdqhash`

`benchmarks.hashing` measures the difference. pHash and dHash are those of the package `imagehash`, from a picture that was reduced first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import pdqhash
from PIL import Image

from vidfed.index.algorithms import Algorithm
from vidfed.index.codes import WHOLE
from vidfed.index.hashing.pdq.shrink import shrink
from vidfed.index.hashing.pdq.transform import codes_of, in_doubt, no_codes
from vidfed.index.hashing.results import PictureCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

EXACT_COLOURS_PIXELS: Final = 512_000
"""Up to so many pixels brightness is not rounded to 256 steps before it is summed, which takes five times as long."""

COMPILED_PDQ_PICTURE_PIXELS: Final = 50_000_000
COMPILED_PDQ_PIXELS: Final = 250_000_000
"""With `--full-size`, from here on PDQ is left to the compiled blur: for one picture (`pdqhash` needs 30 bytes a pixel), and for all that a
process has hashed (nine seconds of `pdqhash`, as much as compiling costs, once per installation)."""

_MIN_SIDE_PIXELS: Final = 5  # with fewer along one side there is no PDQ
_PHASH_SIDE: Final = 32
_PHASH_KEPT: Final = 8
_DHASH_SIZE: Final = (9, 8)
_SMALL_SIDE: Final = 256  # pHash and dHash are taken from a picture reduced to at least so many pixels a side: eight times what they need


class Hasher:
    """Computes codes.

    Args:
        orientations: also compute the PDQ of the seven turned and mirrored forms.
        full_size: PDQ bit for bit as `pdqhash` gives it, pHash and dHash as `imagehash` does.
    """

    def __init__(self, *, orientations: bool = False, full_size: bool = False) -> None:
        self.full_size = full_size
        self._orientations = orientations
        self._pixels = 0

    def codes(
        self,
        picture: Image.Image,
        kind: str = WHOLE,
        *,
        full_size: tuple[int, int] | None = None,
        colours: Callable[[], Image.Image] | None = None,
        only_pdq: bool = False,
    ) -> tuple[PictureCode, ...]:
        """Return PDQ, pHash and dHash of a picture.

        Args:
            picture: of mode "L" or "RGB".
            kind: what it is a view of.
            full_size: width and height of the full picture, if this is one of reduced size.
            colours: decodes the full picture in all colours, if this is not it: called where rounded brightness will not do.
            only_pdq: leave out pHash and dHash.
        """
        grey = picture if picture.mode == "L" else None
        if self.full_size:
            codes, quality = self._by_library(picture)
        elif min(picture.size) < _MIN_SIDE_PIXELS:
            codes, quality = no_codes(orientations=self._orientations)
        else:
            if grey is None and picture.width * picture.height > EXACT_COLOURS_PIXELS:
                grey = picture.convert("L")
            shrunk = shrink(np.asarray(picture if grey is None else grey), full_size and full_size[::-1])
            if grey is not None and (picture.mode == "RGB" or colours is not None) and in_doubt(shrunk):
                shrunk = shrink(np.asarray(colours() if colours else picture))
            codes, quality = codes_of(shrunk, orientations=self._orientations)
        pdq = PictureCode(Algorithm.PDQ, codes[0], kind, quality, tuple(codes) if self._orientations else ())
        if only_pdq:
            return (pdq,)
        grey = picture.convert("L") if grey is None else grey
        factor = 1 if self.full_size else min(grey.size) // _SMALL_SIDE
        small = grey.reduce(factor) if factor > 1 else grey
        return (
            pdq,
            PictureCode(Algorithm.PHASH, phash(small), kind, quality),
            PictureCode(Algorithm.DHASH, dhash(small), kind, quality),
        )

    def code_of_shrunk(self, shrunk: NDArray[np.float32], kind: str) -> PictureCode:
        """Return the PDQ of a view that was blurred and shrunk already, as `shrink` does it."""
        codes, quality = codes_of(shrunk, orientations=self._orientations)
        return PictureCode(Algorithm.PDQ, codes[0], kind, quality, tuple(codes) if self._orientations else ())

    def _by_library(self, picture: Image.Image) -> tuple[list[bytes], int]:
        pixels = picture.width * picture.height
        self._pixels += pixels
        if pixels > COMPILED_PDQ_PICTURE_PIXELS or self._pixels > COMPILED_PDQ_PIXELS:
            try:
                from vidfed.index.hashing.pdq.exact import pdq  # noqa: PLC0415 - slow to load

                return pdq(np.asarray(picture).reshape(picture.height, picture.width, -1), orientations=self._orientations)
            except (ImportError, RuntimeError):  # numba finds no folder it may write its cache to
                self._pixels = 0
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
