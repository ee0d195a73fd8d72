"""Seeded synthetic pictures: noise, shapes and strokes that mean nothing, for tests, benchmarks and the demo.

There is never any picture of a person or a thing here. What the families copy from real collections is only what matters to a hash: how
much there is to see, and how alike unrelated pictures are. The ordinary families are as varied as photographs; the awkward ones are those
that make perceptual hashes fail in practice, which random hashes never show.

The same seed gives the same pixels on any machine: random numbers are drawn as integers, and all drawing and scaling is integer arithmetic.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.random import Generator

SIZE: Final = (512, 384)
"""Width and height in pixels of a picture nobody gave a size."""


@unique
class Family(Enum):
    """What kind of picture; unrelated pictures of the ordinary families differ in about half of PDQ's bits."""

    TEXTURE = "texture"
    SHAPES = "shapes"
    GRADIENTS = "gradients"
    STROKES = "strokes"
    SCENE = "scene"
    FLAT = "flat"
    LOW_ENTROPY = "low-entropy"
    SHARED_BORDER = "shared-border"


ORDINARY: Final = (Family.TEXTURE, Family.SHAPES, Family.GRADIENTS, Family.STROKES, Family.SCENE)
AWKWARD: Final = (Family.FLAT, Family.LOW_ENTROPY, Family.SHARED_BORDER)
"""One colour; hardly anything to see; a wide frame common to all. Unrelated ones may have equal hashes: that is their point."""

# Mostly JPEG, as in real collections; every format that is hashed occurs.
_SUFFIXES: Final = (".jpg", ".jpg", ".png", ".jpg", ".webp", ".jpg", ".jpg", ".gif", ".jpg", ".tiff", ".jpg", ".bmp")


def picture(seed: int, family: Family = Family.SCENE, size: tuple[int, int] = SIZE) -> Image.Image:
    """Draw one picture.

    Args:
        seed: 0 or more; pictures of different seeds, or of different families, have nothing to do with each other.
        family: what kind.
        size: width and height in pixels, 16 or more each.

    Returns:
        Mode "RGB".
    """
    rng = np.random.default_rng([seed, list(Family).index(family)])
    return _DRAW[family](rng, size)


def frames(seed: int, count: int, size: tuple[int, int] = SIZE) -> list[Image.Image]:
    """Draw a series of nearly identical pictures, like those of one camera on a tripod: one small thing moves, and the sensor is noisy."""
    rng = np.random.default_rng([seed, len(Family)])
    still = _scene(rng, size)
    width, height = size
    side = max(2, min(size) // 24)
    colour, start, top = _colour(rng), int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    series = []
    for number in range(count):
        frame = _grained(still, rng, strength=3)
        left = (start + number * side // 2) % (width - side)
        ImageDraw.Draw(frame).rectangle((left, top, left + side, top + side), fill=colour)
        series.append(frame)
    return series


def write_pictures(
    folder: Path,
    count: int,
    seed: int,
    *,
    families: Iterable[Family] = ORDINARY,
    size: tuple[int, int] = SIZE,
) -> list[Path]:
    """Write a mixed folder of picture files: the families in turn, mostly JPEG, every format that is hashed.

    Args:
        folder: made if it does not exist. Files of the same names are replaced.
        count: number of files, named `picture-0000.jpg` and so on.
        seed: of the whole folder; folders of different seeds have no picture in common.
        families: to draw from.
        size: width and height in pixels.

    Returns:
        The files, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = tuple(families)
    seeds = np.random.default_rng(seed).integers(0, 2**62, count).tolist()
    paths = []
    for number, own_seed in enumerate(seeds):
        path = folder / f"picture-{number:04}{_SUFFIXES[number % len(_SUFFIXES)]}"
        picture(own_seed, kinds[number % len(kinds)], size).save(path)
        paths.append(path)
    return paths


def _colour(rng: Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _cells(rng: Generator, size: tuple[int, int], columns: int, rows: int) -> Image.Image:
    """Random colours on a coarse grid, scaled up smoothly."""
    coarse = Image.fromarray(rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def _grained(image: Image.Image, rng: Generator, strength: int) -> Image.Image:
    """Add noise of up to `strength` of 255 to every pixel, like a sensor's."""
    noise = rng.integers(-strength, strength + 1, (image.height, image.width, 1), dtype=np.int16)
    return Image.fromarray(np.clip(np.asarray(image, dtype=np.int16) + noise, 0, 255).astype(np.uint8))


def _texture(rng: Generator, size: tuple[int, int]) -> Image.Image:
    columns, rows = rng.integers(5, 15, 2).tolist()
    fine = _cells(rng, size, 4 * columns, 4 * rows)
    return Image.blend(_cells(rng, size, columns, rows), fine, 0.25)


def _draw_shapes(rng: Generator, image: Image.Image, count: int) -> None:
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(count):
        x, y = int(rng.integers(-width // 8, width)), int(rng.integers(-height // 8, height))
        wide, high = int(rng.integers(width // 16, width // 2)), int(rng.integers(height // 16, height // 2))
        kind, colour = int(rng.integers(0, 3)), _colour(rng)
        if kind == 0:
            draw.rectangle((x, y, x + wide, y + high), fill=colour)
        elif kind == 1:
            draw.ellipse((x, y, x + wide, y + high), fill=colour)
        else:
            corners = rng.integers(0, 2**16, (int(rng.integers(3, 7)), 2)).tolist()
            draw.polygon([(x + wide * across // 2**16, y + high * down // 2**16) for across, down in corners], fill=colour)


def _shapes(rng: Generator, size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, _colour(rng))
    _draw_shapes(rng, image, int(rng.integers(24, 40)))
    return image


def _gradients(rng: Generator, size: tuple[int, int]) -> Image.Image:
    """Three colours' ramps, up and down again, each at its own slope; another set of them beyond a tilted edge."""
    across, down = np.arange(size[0], dtype=np.int64), np.arange(size[1], dtype=np.int64)[:, None]

    def ramps() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        planes = []
        for _ in range(3):
            # Steps per pixel of a ramp up and down again, 0..510, of which up to two fit each side; in 1/256 steps.
            slope_x, slope_y = (int(slope) * 51 * 256 for slope in rng.integers(-20, 21, 2))
            phase = int(rng.integers(0, 510))
            ramp = (across * slope_x // size[0] + down * slope_y // size[1]) // 256 + phase
            planes.append(np.abs(ramp % 510 - 255).astype(np.uint8))
        return np.stack(planes, axis=-1)

    tilt = rng.integers(-4, 5, 2).tolist()
    beyond = (across - size[0] // 2) * tilt[0] * size[1] + (down - size[1] // 2) * tilt[1] * size[0] > 0
    return Image.fromarray(np.where(beyond[..., None], ramps(), ramps()))


def _draw_strokes(rng: Generator, image: Image.Image, box: tuple[int, int, int, int], line_height: int, ink: tuple[int, int, int]) -> None:
    """Fill a box with lines of strokes that look like writing from afar and say nothing."""
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = box
    for y in range(top, bottom - line_height, line_height):
        end = right if rng.integers(0, 4) else left + (right - left) * int(rng.integers(2, 8)) // 10
        x = left
        while x < end:
            word = int(rng.integers(1, 9)) * line_height // 3
            steps = max(2, word * 2 // line_height + 1)
            heights = rng.integers(0, max(2, line_height * 6 // 10), steps).tolist()
            points = [(x + min(word, end - x) * step // (steps - 1), y + high) for step, high in enumerate(heights)]
            draw.line(points, fill=ink, width=max(1, line_height // 6))
            x += word + line_height // 2


def _strokes(rng: Generator, size: tuple[int, int]) -> Image.Image:
    width, height = size
    paper, ink = (rng.integers(200, 256, 3).tolist(), rng.integers(0, 80, 3).tolist())
    if rng.integers(0, 3) == 0:
        paper, ink = ink, paper
    image = Image.new("RGB", size, tuple(paper))
    for _ in range(int(rng.integers(3, 8))):
        left, top = int(rng.integers(0, width * 2 // 3)), int(rng.integers(0, height * 3 // 4))
        right, bottom = left + int(rng.integers(width // 5, width * 3 // 4)), top + int(rng.integers(height // 6, height * 2 // 3))
        if rng.integers(0, 2):
            ImageDraw.Draw(image).rectangle((left, top, right, bottom), fill=tuple(paper) if rng.integers(0, 2) else _colour(rng))
        line_height = int(rng.integers(max(4, height // 40), max(5, height // 6)))
        _draw_strokes(rng, image, (left, top, min(right, width), min(bottom, height)), line_height, (ink[0], ink[1], ink[2]))
    return image


def _scene(rng: Generator, size: tuple[int, int]) -> Image.Image:
    """Two textured areas, a horizon between them, things before it, at times a line of strokes, and grain over all."""
    width, height = size
    image = _cells(rng, size, int(rng.integers(2, 6)), int(rng.integers(2, 6)))
    horizon = int(rng.integers(height // 4, height * 3 // 4))
    ground = _cells(rng, size, int(rng.integers(4, 20)), int(rng.integers(4, 20)))
    mask = Image.new("1", size)
    slope = int(rng.integers(-height // 5, height // 5))
    ImageDraw.Draw(mask).polygon([(0, horizon - slope), (width, horizon + slope), (width, height), (0, height)], fill=1)
    image.paste(ground, mask=mask)
    _draw_shapes(rng, image, int(rng.integers(5, 14)))
    if rng.integers(0, 3) == 0:
        top = int(rng.integers(0, height * 4 // 5))
        _draw_strokes(rng, image, (width // 10, top, width * 9 // 10, top + height // 6), max(4, height // 8), _colour(rng))
    return _grained(image, rng, strength=6)


def _flat(rng: Generator, size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, _colour(rng))


def _low_entropy(rng: Generator, size: tuple[int, int]) -> Image.Image:
    """A dark or bright plane with a faint light on it."""
    base = Image.new("RGB", size, _colour(rng))
    return Image.blend(base, _cells(rng, size, 2, 2), 0.08)


def _shared_border(rng: Generator, size: tuple[int, int]) -> Image.Image:
    """The same wide frame around every one of them, as of one web site or one camera program."""
    image = _shapes(np.random.default_rng(0), size)
    width, height = size
    inner = (width * 2 // 5, height * 2 // 5)
    image.paste(_scene(rng, inner), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return image


_DRAW: Final = {
    Family.TEXTURE: _texture,
    Family.SHAPES: _shapes,
    Family.GRADIENTS: _gradients,
    Family.STROKES: _strokes,
    Family.SCENE: _scene,
    Family.FLAT: _flat,
    Family.LOW_ENTROPY: _low_entropy,
    Family.SHARED_BORDER: _shared_border,
}
