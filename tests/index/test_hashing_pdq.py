"""The compiled PDQ is the library's, bit for bit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import imagehash
import numpy as np
import pdqhash
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vidfed.index.hashing import perceptual
from vidfed.index.hashing.pdq.exact import _brightness, pdq
from vidfed.index.hashing.pdq.shrink import Parts, _weights, shrink
from vidfed.index.hashing.pdq.transform import codes_of
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
    by_library = Hasher(orientations=orientations, full_size=True).codes(image)

    monkeypatch.setattr(perceptual, "COMPILED_PDQ_PICTURE_PIXELS", 100)
    monkeypatch.setattr(pdqhash, "compute", None)
    monkeypatch.setattr(pdqhash, "compute_dihedral", None)

    assert Hasher(orientations=orientations, full_size=True).codes(image) == by_library


def test_a_process_that_has_hashed_much_takes_the_compiled_way_and_keeps_the_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = Hasher(full_size=True)
    by_library = hasher.codes(picture(3))
    monkeypatch.setattr(perceptual, "COMPILED_PDQ_PIXELS", 100)
    monkeypatch.setattr(pdqhash, "compute", None)

    assert hasher.codes(picture(3)) == by_library


def test_without_the_compiled_way_the_library_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    by_library = Hasher(full_size=True).codes(picture(3))
    monkeypatch.setattr(perceptual, "COMPILED_PDQ_PIXELS", 0)
    monkeypatch.setitem(sys.modules, "vidfed.index.hashing.pdq.exact", None)  # as when there is no folder for its cache

    assert Hasher(full_size=True).codes(picture(3)) == by_library


def bits_apart(left: bytes, right: bytes) -> int:
    return (int.from_bytes(left) ^ int.from_bytes(right)).bit_count()


@pytest.mark.parametrize("size", [(300, 200), (64, 64), (63, 200), (5, 700), (129, 127), (1000, 37), (640, 640)])
@pytest.mark.parametrize("family", [Family.SHAPES, Family.TEXTURE])
def test_weighted_sums_give_the_librarys_hash(family: Family, size: tuple[int, int]) -> None:
    image = picture(11, family, size)
    vectors, quality = pdqhash.compute_dihedral(np.asarray(image))

    codes, mine = codes_of(shrink(np.asarray(image)), orientations=True)

    assert mine == quality
    assert max(bits_apart(code, np.packbits(vector).tobytes()) for code, vector in zip(codes, vectors, strict=True)) <= 1


def test_brightness_in_256_steps_moves_two_bits_at_most() -> None:
    for seed in range(20):
        image = picture(seed, Family.TEXTURE, (1200, 900))
        exact = codes_of(shrink(np.asarray(image)))[0][0]
        assert bits_apart(codes_of(shrink(np.asarray(image.convert("L"))))[0][0], exact) <= 2


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(2048, 1600), (2051, 1603)])
def test_a_reduced_picture_is_weighed_like_the_full_one(factor: int, size: tuple[int, int]) -> None:
    image = picture(5, Family.TEXTURE, size).convert("L")
    reduced = image.reduce(factor)

    full = shrink(np.asarray(image))
    mine = shrink(np.asarray(reduced), (size[1], size[0]))

    assert float(np.abs(full - mine).max()) < 3
    assert bits_apart(codes_of(mine)[0][0], codes_of(full)[0][0]) <= 4


@given(st.integers(5, 3000), st.sampled_from([1, 2, 4, 8]))
def test_every_kept_place_is_a_mean_of_the_pixels_around_it(full: int, factor: int) -> None:
    side = -(-full // factor)
    starts, weights = _weights(full, side)

    assert (weights >= 0).all()
    assert (weights.sum(axis=1) == 65536).all()
    assert (starts >= 0).all()
    assert (starts + weights.shape[1] <= side).all()


def test_parts_are_shrunk_as_if_they_were_pictures() -> None:
    pixels = np.asarray(picture(5, Family.TEXTURE, (400, 300)).convert("L"))
    parts = Parts(pixels)

    for left, top, right, bottom in [(0, 0, 400, 300), (50, 0, 350, 300), (3, 0, 399, 300), (0, 20, 400, 250)]:
        assert np.array_equal(parts.shrink(left, top, right, bottom), shrink(pixels[top:bottom, left:right]))


@pytest.mark.parametrize("family", Family)
def test_phash_and_dhash_are_those_of_imagehash(family: Family) -> None:
    for seed in range(20):
        image = picture(seed, family, (300, 200))
        grey = image.convert("L")
        if Hasher().codes(image)[0].reliable:  # of a plain picture rounding decides
            assert phash(grey).hex() == str(imagehash.phash(image))
        assert dhash(grey).hex() == str(imagehash.dhash(image))


def test_the_quality_of_a_plain_picture_is_low_and_of_a_rich_one_high() -> None:
    assert pdq(np.asarray(Image.new("RGB", (200, 200), "red")))[1] == 0
    assert pdq(np.asarray(picture(4, Family.TEXTURE)))[1] == 100
