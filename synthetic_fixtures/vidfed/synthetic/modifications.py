"""The everyday modifications a picture meets on its way from hand to hand, each a named function from picture to picture.

Which of them a lookup finds is not claimed here but measured, in tests/synthetic/test_modifications.py. In short: recompressing,
resizing, turning, mirroring, grey, and moderate brightness and contrast leave PDQ within its distance of 31 (mirrored and turned copies
because a lookup asks for all eight orientations). A crop of 5 percent does not, and neither does a caption over a tenth of most pictures.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image, ImageDraw, ImageEnhance, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable

    Modification: TypeAlias = Callable[[Image.Image], Image.Image]


def recompressed(quality: int) -> Modification:
    """Saved as a JPEG of a quality in 1..95, and read again."""

    def modify(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=quality)
        with Image.open(file, formats=("JPEG",)) as saved:
            saved.load()
            return saved.copy()

    return modify


def resized(percent: int) -> Modification:
    """Scaled to a percentage of its width and height."""

    def modify(image: Image.Image) -> Image.Image:
        size = (max(1, image.width * percent // 100), max(1, image.height * percent // 100))
        return image.resize(size, Image.Resampling.LANCZOS)

    return modify


def cropped(percent: int) -> Modification:
    """A percentage of width and height cut off, half of it at each side."""

    def modify(image: Image.Image) -> Image.Image:
        left, top = image.width * percent // 200, image.height * percent // 200
        return image.crop((left, top, image.width - left, image.height - top))

    return modify


def turned(degrees: int) -> Modification:
    """Turned counter-clockwise by 90, 180 or 270 degrees, losing nothing.

    Raises:
        KeyError: another angle.
    """
    turn = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}[degrees]
    return lambda image: image.transpose(turn)


def brightened(percent: int) -> Modification:
    """Every channel multiplied; 100 changes nothing, 0 is black."""
    return lambda image: ImageEnhance.Brightness(image).enhance(percent / 100)


def contrasted(percent: int) -> Modification:
    """Stretched away from the mean grey; 100 changes nothing, 0 is flat grey."""
    return lambda image: ImageEnhance.Contrast(image).enhance(percent / 100)


def mirrored(image: Image.Image) -> Image.Image:
    """Left and right exchanged."""
    return ImageOps.mirror(image)


def flipped(image: Image.Image) -> Image.Image:
    """Top and bottom exchanged."""
    return ImageOps.flip(image)


def greyed(image: Image.Image) -> Image.Image:
    """Without colour."""
    return ImageOps.grayscale(image).convert("RGB")


def captioned(image: Image.Image) -> Image.Image:
    """A white bar with strokes like writing over the lowest tenth."""
    copy = image.copy()
    top = copy.height * 9 // 10
    draw = ImageDraw.Draw(copy)
    draw.rectangle((0, top, copy.width, copy.height), fill=(255, 255, 255))
    bar = copy.height - top
    for x in range(bar, copy.width - bar, max(2, bar // 2)):
        draw.line((x, top + bar // 4, x + bar // 4, copy.height - bar // 4), fill=(0, 0, 0), width=max(1, bar // 8))
    return copy


def stamped(image: Image.Image) -> Image.Image:
    """A small mark in the lower right corner, as of a web site: a ring and a bar."""
    copy = image.copy()
    side = max(4, min(copy.size) // 16)
    right, bottom = copy.width - side // 2, copy.height - side // 2
    draw = ImageDraw.Draw(copy)
    draw.ellipse((right - side, bottom - side, right, bottom), outline=(255, 255, 255), width=max(1, side // 6))
    draw.line(
        (right - side * 3 // 4, bottom - side // 2, right - side // 4, bottom - side // 2), fill=(255, 255, 255), width=max(1, side // 6)
    )
    return copy


MODIFICATIONS: Final[dict[str, Modification]] = {
    "jpeg-95": recompressed(95),
    "jpeg-75": recompressed(75),
    "jpeg-50": recompressed(50),
    "jpeg-30": recompressed(30),
    "resize-200": resized(200),
    "resize-50": resized(50),
    "resize-25": resized(25),
    "crop-2": cropped(2),
    "crop-5": cropped(5),
    "mirror": mirrored,
    "flip": flipped,
    "turn-90": turned(90),
    "turn-180": turned(180),
    "turn-270": turned(270),
    "brightness-80": brightened(80),
    "brightness-115": brightened(115),
    "contrast-75": contrasted(75),
    "contrast-120": contrasted(120),
    "grey": greyed,
    "caption": captioned,
    "stamp": stamped,
}
"""The modifications by the names used in tests, benchmarks and the demo."""
