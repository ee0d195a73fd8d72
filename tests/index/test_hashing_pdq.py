"""The compiled PDQ is the library's, bit for bit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pdqhash
import pytest
from PIL import Image

from vidfed.index.hashing import pictures
from vidfed.index.hashing.pdq import _brightness, pdq
from vidfed.synthetic.pictures import Family, picture

if TYPE_CHECKING:
    from pathlib import Path

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
    mode: str, orientations: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    picture(3).convert(mode).save(path)
    by_library = pictures.hash_picture(path, orientations=orientations)

    monkeypatch.setattr(pictures, "COMPILED_PDQ_PICTURE_PIXELS", 100)
    monkeypatch.setattr(pdqhash, "compute", None)
    monkeypatch.setattr(pdqhash, "compute_dihedral", None)

    assert pictures.hash_picture(path, orientations=orientations) == by_library


def test_a_worker_that_has_hashed_much_takes_the_compiled_way_and_keeps_the_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    picture(3).save(path)
    by_library = pictures.hash_picture(path)
    monkeypatch.setattr(pictures, "_bulk_pixels", pictures.COMPILED_PDQ_BULK_PIXELS)
    monkeypatch.setattr(pdqhash, "compute", None)

    assert pictures._hash(path, orientations=False, bulk=True) == by_library


def test_without_the_compiled_way_the_library_does_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    picture(3).save(path)
    by_library = pictures.hash_picture(path)
    monkeypatch.setattr(pictures, "COMPILED_PDQ_PICTURE_PIXELS", 100)
    monkeypatch.setitem(sys.modules, "vidfed.index.hashing.pdq", None)  # as when there is no folder for its cache

    assert pictures.hash_picture(path) == by_library


def test_the_quality_of_a_plain_picture_is_low_and_of_a_rich_one_high() -> None:
    assert pdq(np.asarray(Image.new("RGB", (200, 200), "red")))[1] == 0
    assert pdq(np.asarray(picture(4, Family.TEXTURE)))[1] == 100
