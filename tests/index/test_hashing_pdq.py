"""The compiled PDQ is the library's, bit for bit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import imagehash
import numpy as np
import pdqhash
import pytest
from PIL import Image

from vidfed.index.hashing import perceptual
from vidfed.index.hashing.pdq import _brightness, pdq
from vidfed.index.hashing.perceptual import Hasher, dhash, phash
from vidfed.synthetic.pictures import Family, picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = [(4, 9), (5, 5), (16, 300), (63, 65), (64, 64), (65, 63), (127, 129), (500, 333), (333, 500), (1024, 700)]


def of_the_library(pixels: NDArray[np.uint8]) -> tuple[list[bytes], int]:
    vectors, quality = pdqhash.compute_dihedral(pixels)
    return [np.packbits(vector).tobytes() for vector in vectors], quality


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "flat", *Family])
def test_all_orientations_equal_the_librarys_at_every_size(kind: str | Family, size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng([width, height])
    if kind == "noise":
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    elif kind == "flat":
        pixels = np.full((height, width, 3), 77, dtype=np.uint8)
    else:
        assert isinstance(kind, Family)
        pixels = np.asarray(picture(1, kind).resize(size))

    codes, quality = pdq(pixels, orientations=True)

    assert (codes, quality) == of_the_library(pixels)
    vector, _ = pdqhash.compute(pixels)
    assert pdq(pixels) == ([np.packbits(vector).tobytes()], quality)


def test_a_grey_picture_equals_the_same_in_three_channels() -> None:
    grey = np.asarray(picture(2, size=(300, 200)).convert("L"))

    assert pdq(grey[..., None], orientations=True) == of_the_library(np.stack([grey] * 3, axis=-1))


def test_the_brightness_of_all_colours_is_rounded_as_the_library_rounds_it() -> None:
    pixels = np.zeros((256, 256, 3), dtype=np.uint8)  # red down, green across, blue in turn
    pixels[..., 0], pixels[..., 1] = np.arange(256)[:, None], np.arange(256)
    strip = np.empty((256, 16), dtype=np.float32)
    for blue in range(256):
        pixels[..., 2] = blue
        librarys = (pixels[:, :, 0] * 0.299 + pixels[:, :, 1] * 0.587 + pixels[:, :, 2] * 0.114).astype(np.float32)
        for top in range(0, 256, 16):
            _brightness(pixels, top, 16, strip)
            assert np.array_equal(strip.T, librarys[top : top + 16])


@pytest.mark.parametrize("orientations", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_very_large_picture_takes_the_compiled_way_and_keeps_its_hashes(
    mode: str, orientations: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(3).convert(mode)
    by_library = Hasher(orientations=orientations, many=False).codes(image)

    monkeypatch.setattr(perceptual, "COMPILED_PDQ_PICTURE_PIXELS", 100)
    monkeypatch.setattr(pdqhash, "compute", None)
    monkeypatch.setattr(pdqhash, "compute_dihedral", None)

    assert Hasher(orientations=orientations, many=False).codes(image) == by_library


def test_a_worker_with_many_files_takes_the_compiled_way_and_keeps_the_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    by_library = Hasher(orientations=False, many=False).codes(picture(3))
    monkeypatch.setattr(pdqhash, "compute", None)

    assert Hasher(orientations=False, many=True).codes(picture(3)) == by_library


def test_without_the_compiled_way_the_library_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    by_library = Hasher(orientations=False, many=False).codes(picture(3))
    monkeypatch.setitem(sys.modules, "vidfed.index.hashing.pdq", None)  # as when there is no folder for its cache

    assert Hasher(orientations=False, many=True).codes(picture(3)) == by_library


@pytest.mark.parametrize("family", Family)
def test_phash_and_dhash_are_those_of_imagehash(family: Family) -> None:
    for seed in range(20):
        image = picture(seed, family, (300, 200))
        grey = image.convert("L")
        if Hasher(orientations=False, many=False).codes(image)[0].reliable:  # of a plain picture rounding decides
            assert phash(grey).hex() == str(imagehash.phash(image))
        assert dhash(grey).hex() == str(imagehash.dhash(image))


def test_the_quality_of_a_plain_picture_is_low_and_of_a_rich_one_high() -> None:
    assert pdq(np.asarray(Image.new("RGB", (200, 200), "red")))[1] == 0
    assert pdq(np.asarray(picture(4, Family.TEXTURE)))[1] == 100
