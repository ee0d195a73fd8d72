"""Variants undo what was done to a picture: borders are found to the pixel, and usual shapes are cut as others cut them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from tests.support.hashing import hashes_of
from vidfed.index import Algorithm
from vidfed.index.codes import WHOLE
from vidfed.index.hashing.variants import SHAPES, TRIMMED, Box, centre_crop, trims, variants
from vidfed.synthetic.modifications import recompressed
from vidfed.synthetic.pictures import Family, picture

if TYPE_CHECKING:
    from pathlib import Path


def scene(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A picture with detail up to its edges."""
    drawn = np.asarray(picture(seed, Family.SHAPES, size)).astype(np.int16)
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 90, (size[1] // 8, size[0] // 8), dtype=np.uint8)).resize(size)
    return Image.fromarray(np.clip(drawn + np.asarray(coarse)[..., None] - 45, 0, 255).astype(np.uint8))


def framed(image: Image.Image, left: int, top: int, right: int, bottom: int, colour: int) -> Image.Image:
    frame = Image.new("RGB", (image.width + left + right, image.height + top + bottom), (colour,) * 3)
    frame.paste(image, (left, top))
    return frame


@pytest.mark.parametrize("colour", [0, 255, 128])
@pytest.mark.parametrize("border", [(0, 60, 0, 60), (90, 0, 90, 0), (50, 30, 20, 70), (0, 160, 0, 160)])
@pytest.mark.parametrize("quality", [95, 60])
def test_a_border_of_one_colour_is_found_to_a_few_pixels(border: tuple[int, int, int, int], colour: int, quality: int) -> None:
    image = recompressed(quality)(framed(scene(1), *border, colour))

    found = trims(image.convert("L"))

    expected = (border[0], border[1], image.width - border[2], image.height - border[3])
    assert min(max(abs(a - b) for a, b in zip((box.left, box.top, box.right, box.bottom), expected, strict=True)) for box in found) <= 3


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_blurred_bars_are_found_to_a_few_pixels(upright: bool, share: float) -> None:
    image = scene(2)
    width, height = (round(640 / (1 - share)), 480) if upright else (640, round(480 / (1 - share)))
    frame = ImageOps.fit(image, (width, height)).filter(ImageFilter.GaussianBlur(20))
    left, top = (width - 640) // 2, (height - 480) // 2
    frame.paste(image, (left, top))

    found = trims(recompressed(75)(frame).convert("L"))

    expected = (left, top, left + 640, top + 480)
    assert min(max(abs(a - b) for a, b in zip((box.left, box.top, box.right, box.bottom), expected, strict=True)) for box in found) <= 3


def test_a_picture_without_borders_has_none() -> None:
    assert trims(scene(3).convert("L")) == []


@pytest.mark.parametrize("colour", [0, 255])
def test_a_picture_of_one_colour_has_no_borders(colour: int) -> None:
    assert trims(Image.new("L", (640, 480), colour)) == []


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (127, 500), (128, 128)])
def test_pictures_of_any_size_have_variants_or_none(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(4).integers(0, 256, size[::-1], dtype=np.uint8)
    for kind, box in variants(Image.fromarray(noise)):
        assert kind.startswith("variant:")
        assert 0 <= box.left < box.right <= size[0]
        assert 0 <= box.top < box.bottom <= size[1]


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from(SHAPES))
def test_a_cut_lies_in_the_middle_has_its_shape_and_is_as_large_as_can_be(width: int, height: int, shape: tuple[int, int]) -> None:
    cut = centre_crop(Box(0, 0, width, height), *shape)

    if cut is not None:
        assert abs(cut.left - (width - cut.right)) <= 1
        assert abs(cut.top - (height - cut.bottom)) <= 1
        assert cut.width == width or cut.height == height
        assert abs(cut.width * shape[1] - cut.height * shape[0]) <= max(shape)


def nearest(left: Path, right: Path) -> tuple[int, str]:
    """The least distance between the PDQ codes of two files, and the kind of the first one's code."""
    pairs = [
        ((int.from_bytes(mine.code) ^ int.from_bytes(others.code)).bit_count(), mine.kind)
        for mine in hashes_of(left).codes
        for others in hashes_of(right).codes
        if mine.algorithm is others.algorithm is Algorithm.PDQ
    ]
    return min(pairs)


def test_a_picture_in_bars_is_found_and_the_variant_is_named(tmp_path: Path) -> None:
    scene(5).save(tmp_path / "known.png")
    framed(scene(5), 0, 37, 0, 37, 0).save(tmp_path / "framed.jpg", quality=70)

    known = hashes_of(tmp_path / "known.png").code(Algorithm.PDQ)
    by_kind = {code.kind: code.code for code in hashes_of(tmp_path / "framed.jpg").codes if code.algorithm is Algorithm.PDQ}

    assert (int.from_bytes(known) ^ int.from_bytes(by_kind[WHOLE])).bit_count() > 31
    assert (int.from_bytes(known) ^ int.from_bytes(by_kind[TRIMMED])).bit_count() <= 31


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cut_to_a_usual_shape_is_found(shape: tuple[int, int], tmp_path: Path) -> None:
    image = scene(6, (1000, 640))
    image.save(tmp_path / "known.png")
    cut = centre_crop(Box(0, 0, 1000, 640), *shape)
    assert cut is not None
    image.crop((cut.left, cut.top, cut.right, cut.bottom)).save(tmp_path / "cut.jpg", quality=70)

    assert nearest(tmp_path / "cut.jpg", tmp_path / "known.png")[0] <= 31
