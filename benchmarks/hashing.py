"""How fast files are hashed, and how near the fast way is to the full one.

    python -m benchmarks.hashing [--quick] [--json]

Everything is what a lookup computes: all digests, PDQ in eight orientations with renderings and variants, pHash, dHash. On the pictures of
Debian's wallpaper packages where installed, else on synthetic ones with the noise of a camera.

Figures:
    pictures_per_s: files hashed per second by `hash_files` with one process per core, starting included.
    share_of_decode: time Pillow takes to read and decode the same files at full size / time of everything; one process each, in turn.
    share_of_decode_jpeg12: the same of JPEG files of 12 megapixels.
    gain_over_6719ef8: pictures a second over those of commit 6719ef8, 12-megapixel JPEG, one process each, warmed up, in turn; null
        where that commit cannot be had.
    pdq_bits_p999: bits by which the PDQ of a JPEG decoded the fast way differs from `pdqhash`'s of the full picture: 99.9 % differ by no
        more.
    pdq_pairs: on how many pictures.
    photographs: how many installed pictures; 0 if none were and all are synthetic.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmarks.photographs import installed, opened, say, synthetic
from vidfed.index.hashing.decode import decode, prepare
from vidfed.index.hashing.digests import FileBytes, open_regular, read_once
from vidfed.index.hashing.one_file import Options, hash_picture_bytes, may_be_picture
from vidfed.index.hashing.perceptual import Hasher
from vidfed.index.hashing.recognise import recognise
from vidfed.index.hashing.render import shown
from vidfed.index.hashing.results import FileHashes
from vidfed.index.hashing.workers import hash_files

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = ((512, 384), (1024, 768), (2048, 1536), (4000, 3000))  # thumbnail, web, old camera, telephone
JPEG12 = (4000, 3000)
MIN_ENLARGED = 6_000_000  # pixels: smaller pictures are not enlarged to 12 megapixels, which would make them easy to decode
BEFORE = "6719ef8"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.hashing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pictures, ends within 50 s")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    quick = arguments.quick
    prepare()
    photographs = installed()
    say(f"{len(photographs)} photographs installed" if photographs else "no photographs installed: synthetic pictures")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mix = photographs[:: 6 if quick else 1] or draw(folder, 2 if quick else 12)
        jpeg12 = large(folder, photographs, 4 if quick else 12)
        rounds = 1 if quick else 3
        bits = pdq_bits(photographs, 40 if quick else 1500)
        figures: dict[str, float | int | None] = {
            "pictures_per_s": pictures_per_s(mix * (1 if quick else 3)),
            "share_of_decode": share_of_decode(mix, rounds),
            "share_of_decode_jpeg12": share_of_decode(jpeg12, rounds + 2),
            "gain_over_6719ef8": gain(jpeg12[: 2 if quick else 8], folder, rounds),
            "pdq_bits_p999": int(np.quantile(bits, 0.999, method="higher")),
            "pdq_pairs": len(bits),
            "photographs": len(photographs),
        }
    report = {
        "name": "hashing",
        "versions": {name: version_of(name) for name in ("vidfed", "pillow", "pdqhash", "numpy")},
        "cpu": cpu(),
        "threads": len(os.sched_getaffinity(0)),
        "figures": figures,
    }
    if arguments.json:
        print(json.dumps(report))
        return
    print(f"{report['cpu']}, {report['threads']} threads")
    for name, figure in figures.items():
        print(f"  {name:24} {'-' if figure is None else f'{figure:10.3f}'}")


def draw(folder: Path, each: int) -> list[Path]:
    """Write `each` synthetic JPEG files of every size."""
    say("drawing pictures")
    paths = []
    for number in range(each * len(SIZES)):
        paths.append(folder / f"drawn-{number:04}.jpg")
        synthetic(number, SIZES[number % len(SIZES)]).save(paths[-1], quality=85)
    return paths


def large(folder: Path, photographs: list[Path], most: int) -> list[Path]:
    """Write JPEG files of 12 megapixels, cut from the largest photographs and brought to that size."""
    say("writing 12-megapixel JPEG")
    paths: list[Path] = []
    for path in photographs:
        with Image.open(path) as image:
            fit = image.format == "JPEG" and image.width * image.height >= MIN_ENLARGED
            if fit and len(paths) < most:
                paths.append(folder / f"large-{len(paths):04}.jpg")
                middle(image.convert("RGB")).resize(JPEG12, Image.Resampling.LANCZOS).save(paths[-1], quality=90)
    while len(paths) < most:
        paths.append(folder / f"large-{len(paths):04}.jpg")
        synthetic(1000 + len(paths), JPEG12).save(paths[-1], quality=90)
    return paths


def middle(image: Image.Image) -> Image.Image:
    """Cut to 4:3 around the middle."""
    unit = min(image.width // 4, image.height // 3)
    left, top = (image.width - 4 * unit) // 2, (image.height - 3 * unit) // 2
    return image.crop((left, top, left + 4 * unit, top + 3 * unit))


def pictures_per_s(paths: list[Path]) -> float:
    """Hash all, in as many processes as there are cores; from the call to the last result."""
    say(f"hashing {len(paths)} files in processes")
    began_s = time.perf_counter()
    hashed = sum(isinstance(result, FileHashes) and bool(result.codes) for result in hash_files(paths, orientations=True))
    taken_s = time.perf_counter() - began_s
    if hashed != len(paths):
        raise SystemExit(f"only {hashed} of {len(paths)} files could be hashed")
    return hashed / taken_s


def share_of_decode(paths: list[Path], rounds: int) -> float:
    """Decode all, hash all, in turn; the median of the rounds' ratios."""
    say(f"decoding, then hashing, {rounds} rounds of {len(paths)} files")
    hasher, options = Hasher(orientations=True), Options(orientations=True)

    def hash_one(path: Path) -> None:
        descriptor = open_regular(path)
        try:
            hash_picture_bytes(read_once(descriptor, may_be_picture), hasher, options)
        finally:
            os.close(descriptor)

    timed_s(decode_one, paths[:2])
    timed_s(hash_one, paths[:2])
    ratios = []
    for _ in range(rounds):
        before_s, hashing_s, after_s = timed_s(decode_one, paths), timed_s(hash_one, paths), timed_s(decode_one, paths)
        ratios.append((before_s + after_s) / 2 / hashing_s)
    return median(ratios)


def decode_one(path: Path) -> None:
    """Read and decode at full size, nothing else."""
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.load()


def timed_s(work: Callable[[Path], None], paths: list[Path]) -> float:
    """How long a work on all paths takes, in this process's processor time: others on this machine do not count."""
    began_s = time.process_time()
    for path in paths:
        work(path)
    return time.process_time() - began_s


def pdq_bits(photographs: list[Path], most: int) -> list[int]:
    """Bits between the fast way and `pdqhash` at full size, on JPEG files made of the pictures and of parts of them."""
    say(f"comparing {most} pictures with pdqhash")
    exact, options = Hasher(full_size=True), Options()
    bits: list[int] = []
    for content in jpegs(photographs, most):
        kind = recognise(content[:100])
        assert kind is not None
        full = decode(content, kind, full_size=True)
        (left,) = exact.codes(shown(full.picture), only_pdq=True)
        right = hash_picture_bytes(FileBytes((), len(content), content[:100], bytearray(content)), Hasher(), options).codes[0]
        if left.reliable:
            bits.append((int.from_bytes(left.code) ^ int.from_bytes(right.code)).bit_count())
    return bits


def jpegs(photographs: list[Path], most: int) -> list[bytes]:
    """Make JPEG files of many motifs and sizes: parts of photographs, at random."""
    rng = np.random.default_rng(1)
    contents: list[bytes] = []
    sources = opened(photographs) if photographs else (synthetic(seed, (2600, 2200)) for seed in range(most // 4 + 1))
    each = max(1, -(-most // max(1, len(photographs) or most // 4 + 1)))
    for image in sources:
        for _ in range(each):
            if len(contents) == most:
                return contents
            share = rng.uniform(0.4, 1.0)
            width, height = int(image.width * share), int(image.height * share)
            left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
            part = image.crop((left, top, left + width, top + height))
            file = io.BytesIO()
            part.save(file, "JPEG", quality=int(rng.integers(60, 96)))
            contents.append(file.getvalue())
    return contents


# What that commit's worker process did for each file, once it had been at work for a while.
OLD = """
import sys, time
from pathlib import Path
from vidfed.index import hashing
hashing._keep_memory()
hashing._bulk_pixels = hashing.COMPILED_PDQ_BULK_PIXELS
paths = [Path(path) for path in sys.argv[1:]]
hashing._hash(paths[0], orientations=True, bulk=True)
began_s = time.process_time()
for path in paths:
    assert hasattr(hashing._hash(path, orientations=True, bulk=True), "hashes")
print(time.process_time() - began_s)
"""


def gain(paths: list[Path], folder: Path, rounds: int) -> float | None:
    """Pictures a second now over those at `BEFORE`, in turn; the median of the rounds' ratios. None if that commit cannot be run."""
    say(f"hashing {len(paths)} files now and with commit {BEFORE}")
    root, tree = Path(__file__).resolve().parent.parent, folder / "before"
    git = ["git", "-C", str(root), "worktree"]
    if subprocess.run([*git, "add", "--detach", str(tree), BEFORE], capture_output=True, check=False).returncode:
        return None
    hasher, options = Hasher(orientations=True), Options(orientations=True)

    def hash_one(path: Path) -> None:
        descriptor = open_regular(path)
        try:
            hash_picture_bytes(read_once(descriptor, may_be_picture), hasher, options)
        finally:
            os.close(descriptor)

    def before_s() -> float | None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(tree / part) for part in ("index", "protos", "security"))}
        command = [sys.executable, "-c", OLD, *map(str, paths)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"commit {BEFORE} cannot be run here: {done.stderr.strip().splitlines()[-1:]}")
            return None
        return float(done.stdout)

    try:
        ratios = []
        for _ in range(rounds):
            old_s = before_s()
            if old_s is None:
                return None
            ratios.append(old_s / timed_s(hash_one, paths))
        return median(ratios)
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], capture_output=True, check=False)


def version_of(name: str) -> str:
    """Return an installed package's version; empty for vidfed itself when run from a checkout."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def cpu() -> str:
    """The processor's name, where Linux says it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
