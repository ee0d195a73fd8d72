"""The synthetic pictures are what tests rely on: repeatable, unrelated, and awkward where they should be."""

from __future__ import annotations

import hashlib
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pdqhash
import pytest

from vidfed.index import Algorithm
from vidfed.index.hashing.results import FileHashes
from vidfed.index.hashing.workers import hash_files
from vidfed.synthetic.pictures import AWKWARD, ORDINARY, Family, frames, picture, write_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


def pdq_of(image: Image.Image) -> tuple[int, int]:
    vector, quality = pdqhash.compute(np.asarray(image))
    return int.from_bytes(np.packbits(vector).tobytes()), quality


def distances(images: list[Image.Image]) -> list[int]:
    return [(left ^ right).bit_count() for left, right in combinations([pdq_of(image)[0] for image in images], 2)]


# Of the pixels of seed 1 at 96 x 64. If these change, so does every figure measured on synthetic pictures.
PIXELS_SHA256 = {
    Family.TEXTURE: "8d1b3640b84803e4",
    Family.SHAPES: "f753fb4882fb5156",
    Family.GRADIENTS: "bff27fc0f144e623",
    Family.STROKES: "9a02e32a054b37ec",
    Family.SCENE: "f8452d6c9dd3203a",
    Family.FLAT: "2b89a73c1bf796c9",
    Family.LOW_ENTROPY: "5506cb7b6c578d50",
    Family.SHARED_BORDER: "b4a09a59270caf7c",
}


@pytest.mark.parametrize("family", Family)
def test_a_seed_gives_the_same_pixels_on_every_machine(family: Family) -> None:
    assert hashlib.sha256(picture(1, family, (96, 64)).tobytes()).hexdigest()[:16] == PIXELS_SHA256[family]


@pytest.mark.parametrize("family", [family for family in Family if family is not Family.FLAT])
def test_another_seed_gives_other_pixels(family: Family) -> None:
    assert picture(1, family).tobytes() != picture(2, family).tobytes()


def test_unrelated_ordinary_pictures_are_far_apart_and_hardly_ever_within_31() -> None:
    apart = distances([picture(seed, family) for seed in range(24) for family in ORDINARY])

    assert sum(apart) / len(apart) > 90
    assert sum(distance <= 31 for distance in apart) <= len(apart) // 1000


@pytest.mark.parametrize("family", ORDINARY)
def test_ordinary_pictures_have_enough_to_see_for_pdq(family: Family) -> None:
    qualities = [pdq_of(picture(seed, family))[1] for seed in range(100, 160)]

    # Strokes may leave a page nearly empty, as writing does: hardly ever.
    assert sum(quality < 50 for quality in qualities) <= 1


@pytest.mark.parametrize("family", [Family.FLAT, Family.LOW_ENTROPY])
def test_flat_and_low_entropy_pictures_have_too_little_to_see(family: Family) -> None:
    assert max(pdq_of(picture(seed, family))[1] for seed in range(40)) < 50


def test_pictures_in_a_shared_border_are_alike_though_unrelated() -> None:
    apart = distances([picture(seed, Family.SHARED_BORDER) for seed in range(30)])

    assert sum(apart) / len(apart) < 80


def test_the_awkward_families_are_the_rest() -> None:
    assert {*ORDINARY, *AWKWARD} == set(Family)


def test_frames_of_a_series_are_near_each_other_but_not_the_same() -> None:
    for seed in range(5):
        series = frames(seed, 12)
        codes = [pdq_of(frame)[0] for frame in series]

        assert len({frame.tobytes() for frame in series}) == 12
        near = [(left ^ right).bit_count() <= 31 for left, right in pairwise(codes)]
        assert sum(near) >= 10


@pytest.mark.parametrize("size", [(16, 16), (33, 200), (700, 20)])
@pytest.mark.parametrize("family", Family)
def test_every_family_can_be_drawn_at_any_size(family: Family, size: tuple[int, int]) -> None:
    for seed in range(10):
        image = picture(seed, family, size)
        assert (image.size, image.mode) == (size, "RGB")


def test_a_written_folder_holds_every_format_and_can_be_hashed(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "new" / "folder", 14, seed=3, size=(64, 48))

    results = [result for result in hash_files(paths) if isinstance(result, FileHashes)]

    assert sorted((tmp_path / "new" / "folder").iterdir()) == paths
    assert len(results) == 14
    assert {result.media_type.removeprefix("image/") for result in results} == {"jpeg", "png", "webp", "gif", "tiff", "bmp"}
    assert len({result.code(Algorithm.PDQ) for result in results}) == 14


def test_folders_of_different_seeds_have_no_picture_in_common(tmp_path: Path) -> None:
    contents = [path.read_bytes() for seed in (1, 2) for path in write_pictures(tmp_path / str(seed), 10, seed, size=(64, 48))]

    assert len(set(contents)) == 20
