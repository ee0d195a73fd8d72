"""The pictures that benchmarks measure on: photographs and drawings of Debian's wallpaper packages where installed, synthetic ones else.

Packages: plasma-workspace-wallpapers, gnome-backgrounds, mate-backgrounds, ukui-wallpapers, lomiri-wallpapers-16.04, -20.04.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vidfed.index.hashing.decode import prepare
from vidfed.synthetic.pictures import ORDINARY, picture

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = (Path("/usr/share/wallpapers"), Path("/usr/share/backgrounds"))
FORMATS = ("JPEG", "PNG", "WEBP")
MIN_PIXELS = 300_000
_SIZE = re.compile(r"[_-]?\d{3,4}x\d{3,4}")


def installed() -> list[Path]:
    """Return the installed pictures of at least `MIN_PIXELS` pixels, the largest of each motif, in the order of their names."""
    prepare()
    Image.MAX_IMAGE_PIXELS = None
    largest: dict[str, tuple[int, Path]] = {}
    for path in sorted(path for folder in FOLDERS if folder.is_dir() for path in folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        try:
            with Image.open(path, formats=FORMATS) as image:
                pixels = image.width * image.height
        except OSError:
            continue
        motif = _motif(path)
        if pixels >= max(MIN_PIXELS, largest.get(motif, (0, path))[0]):
            largest[motif] = pixels, path
    return [path for _, path in largest.values()]


def _motif(path: Path) -> str:
    """Name what a file shows: Plasma's wallpapers are folders of sizes, GNOME's come light and dark, others have their size in the name."""
    if "contents" in path.parts:
        return str(path.parents[len(path.parts) - path.parts.index("contents") - 1])
    return str(path.parent / _SIZE.sub("", path.stem.removesuffix("-l").removesuffix("-d")))


def opened(paths: list[Path]) -> Iterator[Image.Image]:
    """Decode pictures, as "RGB"."""
    for path in paths:
        with Image.open(path, formats=FORMATS) as image:
            yield image.convert("RGB")


def synthetic(seed: int, size: tuple[int, int]) -> Image.Image:
    """Draw a picture with the noise of a camera, without which decoding costs a fraction of what it costs in life."""
    drawn = np.asarray(picture(seed, ORDINARY[seed % len(ORDINARY)], size)).astype(np.int16)
    noise = np.random.default_rng(seed).normal(0, 6, drawn.shape)
    return Image.fromarray(np.clip(drawn + noise, 0, 255).astype(np.uint8))


def say(text: str) -> None:
    """Tell how far it is, on stderr."""
    print(text, file=sys.stderr)
