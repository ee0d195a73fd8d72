"""How fast picture files are hashed: `python -m benchmarks.hashing [--quick] [--json]`.

Figures:
    pictures_per_s: files hashed per second by `hash_pictures` with one process per core, loading and starting included.
    share_of_decode: time of reading and decoding alone / time of decoding and all hashes, one process, everything loaded. 1 would mean
    that the
        hashes are free.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from PIL import Image

from vidfed.index.hashing import pictures
from vidfed.synthetic.pictures import ORDINARY, picture

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = ((512, 384), (1024, 768), (2048, 1536), (4000, 3000))  # thumbnail, web, old camera, telephone


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.hashing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pictures, ends within 50 s")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()

    each, repeats, rounds = (4, 5, 3) if arguments.quick else (20, 20, 7)
    with tempfile.TemporaryDirectory() as folder:
        print("drawing pictures", file=sys.stderr)
        paths = draw(Path(folder), each)
        figures = {"pictures_per_s": pictures_per_s(paths * repeats), "share_of_decode": share_of_decode(paths, rounds)}
    report = {
        "name": "hashing",
        "versions": {name: version(name) for name in ("vidfed", "pillow", "pdqhash", "imagehash", "numpy", "numba") if installed(name)},
        "cpu": cpu(),
        "threads": len(os.sched_getaffinity(0)),
        "figures": figures,
    }
    if arguments.json:
        print(json.dumps(report))
        return
    print(f"{report['cpu']}, {report['threads']} threads; JPEG files of {', '.join(f'{wide} x {high}' for wide, high in SIZES)}")
    for name, figure in figures.items():
        print(f"  {name:18} {figure:10.3f}")


def draw(folder: Path, each: int) -> list[Path]:
    """Write `each` JPEG files of every size, families and sizes in turn."""
    paths = []
    for number in range(each * len(SIZES)):
        path = folder / f"{number:04}.jpg"
        picture(number, ORDINARY[number % len(ORDINARY)], SIZES[number % len(SIZES)]).save(path, quality=85)
        paths.append(path)
    return paths


def pictures_per_s(paths: list[Path]) -> float:
    """Hash all, in as many processes as there are cores; from the call to the last result."""
    print(f"hashing {len(paths)} files in processes", file=sys.stderr)
    began_s = time.perf_counter()
    hashed = sum(isinstance(result, pictures.PictureHashes) for result in pictures.hash_pictures(paths))
    taken_s = time.perf_counter() - began_s
    if hashed != len(paths):
        raise SystemExit(f"only {hashed} of {len(paths)} files could be hashed")
    return hashed / taken_s


def share_of_decode(paths: list[Path], rounds: int) -> float:
    """Decode all, decode and hash all, in turn, as a worker process that has been at work for a while; the median of the rounds' ratios."""
    print(f"decoding, then hashing, {rounds} rounds of {len(paths)} files", file=sys.stderr)

    def hash_one(path: Path) -> None:
        pictures._hash(path, orientations=False, bulk=True)  # noqa: SLF001 - what a worker process does for each file

    pictures._keep_memory()  # noqa: SLF001 - decoding alone profits from it, too
    pictures._bulk_pixels = pictures.COMPILED_PDQ_BULK_PIXELS  # noqa: SLF001 - as in a worker that has been at work for a while
    timed_s(decode, paths)
    timed_s(hash_one, paths)
    ratios = []
    for _ in range(rounds):
        before_s, hashing_s, after_s = timed_s(decode, paths), timed_s(hash_one, paths), timed_s(decode, paths)
        ratios.append((before_s + after_s) / 2 / hashing_s)
    return median(ratios)


def decode(path: Path) -> None:
    """Read and decode, nothing else."""
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.load()


def timed_s(work: Callable[[Path], None], paths: list[Path]) -> float:
    """How long a work on all paths takes."""
    began_s = time.perf_counter()
    for path in paths:
        work(path)
    return time.perf_counter() - began_s


def installed(name: str) -> bool:
    """Whether a package is installed, as vidfed itself is not when run from a checkout."""
    try:
        version(name)
    except ImportError:
        return False
    return True


def cpu() -> str:
    """The processor's name, where Linux says it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
