"""Writes docs/picture-modes.md: `python docs/picture_modes.py`. How far our hashes are from other tools', by the mode of the picture.

The tools' ways are done here as their sources do them, with the library that computes PDQ for them (`pdqhash`). A test keeps the page
current.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pdqhash
from PIL import Image

from vidfed.index import Algorithm
from vidfed.index.hashing.results import FileHashes, HashingResult
from vidfed.index.hashing.workers import hash_files
from vidfed.synthetic.pictures import Family, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PAGE = Path(__file__).with_name("picture-modes.md")
_HEAD = """\
# How other tools hash the same file

<!-- Written by docs/picture_modes.py from measurements; a test keeps it current. -->

A list that somebody else made holds the PDQ that *their* tool saw. Tools agree on plain RGB and grey, and differ on everything else: one
ignores transparency, one puts it over black, one hashes the numbers as they lie in the file. So vidfed asks and stores several renderings
of such a picture. The table has the bits (of 256) between the tool's PDQ and the nearest of ours, and in brackets those to what the picture
shows: where that is beyond 31 and the first is not, it is found by a rendering alone.

- *ThreatExchange*: `python-threatexchange` as it comes: the array of the picture as opened, grey repeated to three channels, LA made RGB.
- *force_rgb*: the same with `force_rgb=True`, that is Pillow's `convert("RGB")`, which drops transparency.
- *over white*, *over black*: whatever lays the picture over a page first, as converters and browsers do.
"""


def pictures(folder: Path) -> Iterable[tuple[str, Path]]:
    """Write one drawn picture in each mode, and yield what it is called and where it is."""
    drawn = picture(11, Family.TEXTURE, (640, 480))
    mask = picture(12, Family.TEXTURE, (640, 480)).convert("L")
    clear, half = drawn.convert("RGBA"), drawn.convert("RGBA")
    clear.putalpha(mask)
    cut = Image.new("L", drawn.size, 255)
    cut.paste(0, (0, 0, 320, 480))
    half.putalpha(cut)
    grey = drawn.convert("L")
    deep = np.asarray(grey).astype(np.uint16)
    palette = drawn.quantize(64)
    holes = drawn.quantize(64)
    made: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "RGB": (drawn, "png", {}),
        "grey (L)": (grey, "png", {}),
        "black and white (1)": (drawn.convert("1"), "png", {}),
        "palette (P)": (palette, "png", {}),
        "palette, one entry transparent": (holes, "png", {"transparency": 7}),
        "RGBA, opaque": (drawn.convert("RGBA"), "png", {}),
        "RGBA, left half transparent": (half, "png", {}),
        "RGBA, transparent by degrees": (clear, "png", {}),
        "grey with alpha (LA)": (clear.convert("LA"), "png", {}),
        "CMYK (JPEG)": (drawn.convert("CMYK"), "jpg", {"quality": 95}),
        "16 bit grey": (Image.fromarray(deep * 257), "png", {}),
        "16 bit grey, 12 used": (Image.fromarray(deep * 16), "tif", {}),
        "32 bit float": (grey.convert("F"), "tif", {}),
    }
    for number, (name, (drawing, ending, options)) in enumerate(made.items()):
        path = folder / f"{number}.{ending}"
        drawing.save(path, **options)  # type: ignore[arg-type]  # options differ by format
        yield name, path


def _threatexchange(opened: Image.Image) -> np.ndarray:
    pixels = np.asarray(opened.convert("RGB") if opened.mode == "LA" else opened)
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels  # noqa: PLR2004 - grey


def _over(brightness: int) -> Callable[[Image.Image], np.ndarray]:
    def laid(opened: Image.Image) -> np.ndarray:
        if not opened.has_transparency_data:
            return np.asarray(opened.convert("RGB"))
        layers = opened.convert("RGBA")
        page = Image.new("RGBA", layers.size, (brightness,) * 3 + (255,))
        return np.asarray(Image.alpha_composite(page, layers).convert("RGB"))

    return laid


TOOLS: dict[str, Callable[[Image.Image], np.ndarray]] = {
    "ThreatExchange": _threatexchange,
    "force_rgb": lambda opened: np.asarray(opened.convert("RGB")),
    "over white": _over(255),
    "over black": _over(0),
}


Apart = dict[str, tuple[int, int] | None]
"""For each tool the bits to the nearest of our PDQ hashes and to that of what is shown; None where the tool cannot hash the picture."""


def measured(folder: Path) -> dict[str, Apart]:
    """Draw the pictures into a folder, and return how far the tools are from us, by the mode of the picture."""
    named = dict(pictures(folder))
    hashed = hash_files(list(named.values()))
    return {name: _distances(ours) for name, ours in zip(named, hashed, strict=True)}


def _distances(ours: HashingResult) -> Apart:
    if not isinstance(ours, FileHashes):
        raise TypeError(str(ours))
    codes = {code.kind: code.code for code in ours.codes if code.algorithm is Algorithm.PDQ}
    found: Apart = {}
    for tool, pixels_of in TOOLS.items():
        with Image.open(ours.path) as opened:
            try:
                bits, _ = pdqhash.compute(pixels_of(opened))
            except Exception:  # noqa: BLE001 - whatever it raises, the tool has no hash of it
                found[tool] = None
                continue
        theirs = np.packbits(bits.astype(np.uint8))
        apart = {kind: int(np.bitwise_count(theirs ^ np.frombuffer(code, np.uint8)).sum()) for kind, code in codes.items()}
        found[tool] = (min(apart.values()), apart["whole"])
    return found


def page(found: dict[str, Apart]) -> str:
    """Return the whole page."""
    lines = [_HEAD, f"| picture | {' | '.join(TOOLS)} |", f"|---|{'---|' * len(TOOLS)}"]
    for name, apart in found.items():
        cells = ["no hash there" if each is None else f"{each[0]} ({each[1]})" for each in apart.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Colour profiles (ICC) are applied by none of these tools, nor here. Of animations and documents with several pages each further",
    ]
    lines += ["frame is hashed as it is shown, over white. Measured on a drawn picture of 640 x 480."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as drawn:
        PAGE.write_text(page(measured(Path(drawn))))
