"""What a lookup finds again, and what it does not: measured on a seeded set, stated for each modification."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pdqhash
import pytest

from vidfed.index import Algorithm
from vidfed.synthetic.modifications import MODIFICATIONS, turned
from vidfed.synthetic.pictures import ORDINARY, picture

if TYPE_CHECKING:
    from PIL import Image

PICTURES = 60
ONE_OF_EACH_KIND = frozenset(
    {"jpeg-75", "resize-50", "crop-5", "mirror", "turn-90", "brightness-80", "contrast-75", "grey", "caption", "stamp"}
)

# Share of pictures found, at least and at most, by PDQ within its default distance in any of eight orientations.
# At the ends: recompressed copies are found, crops of 5 percent are not.
FOUND = {
    "jpeg-95": (1.0, 1.0),
    "jpeg-75": (1.0, 1.0),
    "jpeg-50": (1.0, 1.0),
    "jpeg-30": (1.0, 1.0),
    "resize-200": (1.0, 1.0),
    "resize-50": (0.95, 1.0),
    "resize-25": (0.85, 1.0),  # fine strokes are gone by then
    "crop-2": (0.85, 1.0),
    "crop-5": (0.0, 0.3),
    "mirror": (0.95, 1.0),
    "flip": (0.95, 1.0),
    "turn-90": (0.95, 1.0),
    "turn-180": (0.9, 1.0),
    "turn-270": (0.95, 1.0),
    "brightness-80": (1.0, 1.0),
    "brightness-115": (0.85, 1.0),  # what turns white loses its structure
    "contrast-75": (1.0, 1.0),
    "contrast-120": (0.85, 1.0),
    "grey": (1.0, 1.0),
    "caption": (0.1, 0.6),
    "stamp": (0.75, 1.0),
}


@cache
def originals() -> list[tuple[Image.Image, int]]:
    images = [picture(5000 + number, ORDINARY[number % len(ORDINARY)]) for number in range(PICTURES)]
    return [(image, codes(image)[0]) for image in images]


def codes(image: Image.Image) -> list[int]:
    vectors, _ = pdqhash.compute_dihedral(np.asarray(image))
    return [int.from_bytes(np.packbits(vector).tobytes()) for vector in vectors]


def share_found(name: str, *, orientations: bool = True) -> float:
    found = 0
    for image, known in originals():
        asked = codes(MODIFICATIONS[name](image))[: None if orientations else 1]
        found += min((code ^ known).bit_count() for code in asked) <= Algorithm.PDQ.default_distance
    return found / PICTURES


@pytest.mark.parametrize(
    "name", [name if name in ONE_OF_EACH_KIND else pytest.param(name, marks=pytest.mark.exhaustive) for name in MODIFICATIONS]
)
def test_the_share_of_modified_copies_that_a_lookup_finds(name: str) -> None:
    least, most = FOUND[name]

    assert least <= share_found(name) <= most


@pytest.mark.parametrize("name", ["mirror", "flip", "turn-90", "turn-180", "turn-270"])
def test_without_the_eight_orientations_turned_and_mirrored_copies_are_missed(name: str) -> None:
    assert share_found(name, orientations=False) == 0


@pytest.mark.parametrize("name", MODIFICATIONS)
def test_a_modification_leaves_the_original_alone_and_gives_a_picture(name: str) -> None:
    image = picture(1)
    before = image.tobytes()

    modified = MODIFICATIONS[name](image)

    assert image.tobytes() == before
    assert modified.mode == "RGB"
    assert (modified.size, modified.tobytes()) != (image.size, before)


def test_only_quarter_turns_are_known() -> None:
    with pytest.raises(KeyError):
        turned(45)
