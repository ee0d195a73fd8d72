"""A picture as it is shown, and as other tools see it.

Shown: 8 bits a channel, transparent parts over white, as on a page and as most viewers and converters do it. Other tools hash the same
file over black, with transparency ignored, or the channels as they lie in the file (python-threatexchange and Hasher-Matcher-Actioner do);
lists made with them hold those hashes. Where such a rendering differs from what is shown, its codes are asked and stored too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

BLACK: Final = "rendering:black"
NO_ALPHA: Final = "rendering:no-alpha"
RAW: Final = "rendering:raw"
STRETCHED: Final = "rendering:stretched"
CLIPPED: Final = "rendering:clipped"

_GREY: Final = frozenset(("1", "L"))
_OPAQUE: Final = 255


def shown(picture: Image.Image, *, luma: bool = False) -> Image.Image:
    """Bring a picture of any mode to "L" or "RGB", nothing transparent.

    Args:
        picture: as it was decoded.
        luma: to "L" in any case.
    """
    if picture.mode.startswith("I;16"):
        # The high byte, as Pillow itself takes it from 16-bit colour. (Its own conversion has cut off at 255 in some versions.)
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode in {"I", "F"}:
        return _stretched(picture)
    if _is_transparent(picture):
        return _over(picture, _OPAQUE, luma=luma)
    return _opaque(picture, luma=luma)


def renderings(picture: Image.Image, *, luma: bool = False) -> Iterator[tuple[str, Image.Image]]:
    """Yield the kind of each further rendering and the picture so rendered, as `shown` does."""
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.uint16)
        yield STRETCHED, _stretched(picture)
        yield CLIPPED, Image.fromarray(np.minimum(values, 255).astype(np.uint8))
    elif _is_transparent(picture):
        yield BLACK, _over(picture, 0, luma=luma)
        yield NO_ALPHA, _opaque(picture.convert("RGBA") if picture.mode == "P" else picture, luma=luma)
    if picture.mode == "P":
        yield RAW, Image.fromarray(np.asarray(picture))
    elif picture.mode in {"CMYK", "YCbCr", "LAB", "HSV"}:
        raw = Image.merge("RGB", picture.split()[:3])
        yield RAW, raw.convert("L") if luma else raw


def _opaque(picture: Image.Image, *, luma: bool) -> Image.Image:
    """Convert, passing over transparency; converting into the mode it has would copy it."""
    if luma and picture.mode not in {"L", "RGB", "RGBA", "LA", "1"}:
        picture = picture.convert("RGB")
    wanted = "L" if luma or picture.mode in _GREY else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def _is_transparent(picture: Image.Image) -> bool:
    """True if any pixel may be seen through: a channel that says that none is is common, and makes no difference."""
    if not picture.has_transparency_data:
        return False
    if picture.mode in {"RGBA", "LA"}:
        lowest, _ = picture.getchannel("A").getextrema()
        return int(lowest) < _OPAQUE  # type: ignore[arg-type]  # of one channel, two numbers
    return True


def _over(picture: Image.Image, brightness: int, *, luma: bool) -> Image.Image:
    """Lay a picture over a page of one brightness."""
    layers = picture if picture.mode in {"RGBA", "LA"} else picture.convert("RGBA")
    page = Image.new("L", picture.size, brightness) if luma else Image.new("RGB", picture.size, (brightness,) * 3)
    page.paste(layers.convert(page.mode), mask=layers.getchannel("A"))
    return page


def _stretched(picture: Image.Image) -> Image.Image:
    """Bring numbers whose range nobody states to 0..255: darkest black, brightest white."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    darkest, brightest = values.min(), values.max()
    scale = 255.0 / (brightest - darkest) if brightest > darkest else 0.0
    return Image.fromarray(np.rint((values - darkest) * scale).astype(np.uint8))
