"""Fuzzing what decodes pictures: `python -m tests.fuzz.pictures [libFuzzer options] [corpus folder]`; needs the extra `fuzz`.

Whatever a file holds, its digests are known and what it shows is codes, or notes that say why not; never an exception.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["vidfed.index.hashing"]):
    from vidfed.index.algorithms import Algorithm
    from vidfed.index.hashing.decode import prepare
    from vidfed.index.hashing.digests import FileBytes
    from vidfed.index.hashing.one_file import Options, hash_picture_bytes
    from vidfed.index.hashing.perceptual import Hasher

from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Iterator

_HASHER = Hasher(orientations=True)


def seeds() -> Iterator[bytes]:
    """Yield a small picture of every format that can be written."""
    for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "MPO"):
        file = io.BytesIO()
        frames = {"save_all": True, "append_images": [picture(2, size=(64, 48))]} if form in {"PNG", "WEBP", "GIF", "TIFF", "MPO"} else {}
        picture(1, size=(64, 48)).save(file, form, **frames)
        yield file.getvalue()


def check(data: bytes) -> None:
    """Hash a file and look at what comes out."""
    if not data:
        return
    shown = hash_picture_bytes(FileBytes((), len(data), data[:4096], bytearray(data)), _HASHER, Options(orientations=True))
    assert shown.codes or shown.notes, hashlib.sha256(data).hexdigest()
    for code in shown.codes:
        assert len(code.code) == code.algorithm.code_bytes
        assert code.algorithm is not Algorithm.PDQ or len(code.orientations) in {0, 8}
        assert 0 <= code.quality <= 100
    for note in shown.notes:
        assert note.text.isprintable()


def main() -> None:
    """Fuzz until stopped."""
    prepare()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            check(seed)
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
