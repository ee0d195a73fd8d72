"""Which changed copies are found, and how often unrelated pictures are taken for copies.

    python -m benchmarks.robustness [--quick] [--json]

Each photograph is changed in every way and asked; the record is the photograph itself. For each modification:

    recall: share found by what a lookup asks (eight orientations, trimmed) against what a record keeps whose owner had the picture (its
        cuts to usual shapes too)
    recall_cuts_asked: the same if the lookup asked the cuts as well
    recall_hash_only: the same against a record that is known by its one PDQ alone, as most are: variants at the owner cannot help
    recall_pdq_alone: one PDQ each, upright, distance 31: what a list of PDQ gives without this project
    recall_no_crops: as `recall`, without the cuts to usual shapes on either side

Unrelated pictures: parts of different motifs, every one against every other.

    pairs: of pictures of different motifs that were compared
    false_hits_per_10m_pairs, ..._cuts_asked, ..._no_crops, ..._pdq_alone: pairs within distance 31, scaled to ten million
    bound_per_pair: no hits in `pairs` pairs bound the rate below 3 / pairs with 95 % confidence (hits counted: their upper bound instead)
    nearest: the distances of the nearest unrelated pairs
    expected_at_10m_records: false hits expected for one picture at ten million records, extrapolated from the tail of the distances
        observed: its logarithm is a straight line there; null if too few pairs were near enough for a line

Films (`films`): of synthetic films and their stills as records the copies of each asked: recall, the least shares of both sides among those
found, and false hits: unrelated films or stills that are no weak hits.

Photographs of Debian's wallpaper packages where installed, else synthetic pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks.film_copies import film_copies
from benchmarks.hashing import cpu, version_of
from benchmarks.photographs import installed, opened, say, synthetic
from vidfed.index.codes import WHOLE
from vidfed.index.hashing.one_file import codes_of_variants
from vidfed.index.hashing.perceptual import Hasher
from vidfed.index.hashing.variants import SHAPES, TRIMMED
from vidfed.synthetic.modifications import MODIFICATIONS, cropped, recompressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from vidfed.index.hashing.results import PictureCode

FILMS, QUICK_FILMS = 8, 1
DISTANCE = 31
SIDE = 1024  # photographs are brought to this before they are changed
NEAR = 90  # unrelated pairs up to this distance are counted for the tail
KEEP_TAIL = 5  # distances with fewer pairs do not count for its line

BY_ALL, BY_TRIM, BY_WHOLE, BY_UPRIGHT = "all", "trimmed", "whole", "upright"
WAYS = {"": (BY_TRIM, BY_ALL), "_cuts_asked": (BY_ALL, BY_ALL), "_no_crops": (BY_TRIM, BY_TRIM), "_pdq_alone": (BY_UPRIGHT, BY_WHOLE)}
"""By their names in the figures: what is asked, and what is kept."""


COLUMNS = ("recall", "recall_cuts_asked", "recall_hash_only", "recall_no_crops", "recall_pdq_alone")


def bars(share: float, *, upright: bool, colour: int = 0) -> Callable[[Image.Image], Image.Image]:
    """Add two bars of one colour that take a share of the frame: above and below, or (upright) at the sides."""

    def modify(image: Image.Image) -> Image.Image:
        width, height = (round(image.width / (1 - share)), image.height) if upright else (image.width, round(image.height / (1 - share)))
        frame = Image.new("RGB", (width, height), (colour,) * 3)
        frame.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return recompressed(75)(frame)

    return modify


def blurred_bars(share: float, *, upright: bool) -> Callable[[Image.Image], Image.Image]:
    """Add two bars that show the picture itself, enlarged and blurred, as video and story makers do."""

    def modify(image: Image.Image) -> Image.Image:
        width, height = (round(image.width / (1 - share)), image.height) if upright else (image.width, round(image.height / (1 - share)))
        frame = ImageOps.fit(image, (width, height)).filter(ImageFilter.GaussianBlur(max(width, height) / 40))
        frame = ImageEnhance.Brightness(frame).enhance(0.8)
        frame.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return recompressed(75)(frame)

    return modify


def cut_to(across: int, down: int) -> Callable[[Image.Image], Image.Image]:
    """Cut to a shape around the middle."""

    def modify(image: Image.Image) -> Image.Image:
        if image.width * down > image.height * across:
            size = round(image.height * across / down), image.height
        else:
            size = image.width, round(image.width * down / across)
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        return recompressed(75)(image.crop((left, top, left + size[0], top + size[1])))

    return modify


def screenshot(image: Image.Image) -> Image.Image:
    """Show the picture on a telephone: black above and below, a clock and a line of controls."""
    width = 1080
    shown = image.resize((width, max(1, round(image.height * width / image.width))))
    frame = Image.new("RGB", (width, max(2340, shown.height + 400)), (0, 0, 0))
    frame.paste(shown, (0, (frame.height - shown.height) // 2))
    draw = ImageDraw.Draw(frame)
    draw.text((60, 40), "12:34", fill=(255, 255, 255), font_size=40)
    for place in range(4):
        draw.ellipse((150 + place * 240, frame.height - 120, 190 + place * 240, frame.height - 80), outline=(200, 200, 200), width=4)
    return recompressed(75)(frame)


def off_centre(percent: int) -> Callable[[Image.Image], Image.Image]:
    """Cut a percentage of width and height off at one corner: the cut nobody can undo."""
    return lambda image: image.crop((0, 0, image.width * (100 - percent) // 100, image.height * (100 - percent) // 100))


def modifications() -> dict[str, Callable[[Image.Image], Image.Image]]:
    """Return all of them by name."""
    named = dict(MODIFICATIONS)
    named["jpeg-20"] = recompressed(20)
    named |= {f"crop-{percent}": cropped(percent) for percent in (1, 10, 20)}
    named |= {f"corner-crop-{percent}": off_centre(percent) for percent in (2, 5, 10)}
    for percent in (3, 10, 20, 40):
        named[f"black-bars-{percent}"] = bars(percent / 100, upright=False)
        named[f"black-sides-{percent}"] = bars(percent / 100, upright=True)
        named[f"blurred-bars-{percent}"] = blurred_bars(percent / 100, upright=False)
        named[f"blurred-sides-{percent}"] = blurred_bars(percent / 100, upright=True)
    named["white-bars-20"] = bars(0.2, upright=False, colour=255)
    named |= {f"cut-to-{across}x{down}": cut_to(across, down) for across, down in SHAPES}
    named["screenshot"] = screenshot
    return dict(sorted(named.items()))


class Codes:
    """The codes of one picture: what is kept of it, and what is asked."""

    def __init__(self, image: Image.Image, hasher: Hasher) -> None:
        whole = hasher.codes(image, only_pdq=True)
        self.codes: list[PictureCode] = [*whole, *codes_of_variants(image, whole, hasher)]
        self.reliable = whole[0].reliable

    def kept(self, by: str) -> list[bytes]:
        """Return the codes of a record, by which kinds."""
        return [code.code for code in self.codes if counts(code, by)]

    def asked(self, by: str) -> list[bytes]:
        """Return the codes of a question: eight orientations of each, or the one of the upright picture alone."""
        if by == BY_UPRIGHT:
            return self.kept(BY_WHOLE)
        return [turned for code in self.codes if counts(code, by) for turned in code.orientations]


def counts(code: PictureCode, by: str) -> bool:
    """Whether a code is among what is kept or asked."""
    return by == BY_ALL or code.kind == WHOLE or (by == BY_TRIM and code.kind.startswith(TRIMMED) and "crop" not in code.kind)


def array(codes: list[bytes]) -> NDArray[np.uint8]:
    """Return codes as rows of bytes."""
    return np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), 32)


def nearest(asked: list[bytes], kept: list[bytes]) -> int:
    """Return the least distance between any two codes."""
    apart = np.bitwise_count(array(asked)[:, None, :] ^ array(kept)[None, :, :]).sum(axis=2)
    return int(apart.min())


def recalls(photographs: list[Image.Image]) -> tuple[dict[str, dict[str, float]], int]:
    """Return for each modification its recalls, and of how many photographs."""
    hasher = Hasher(orientations=True)
    records = [(image, codes) for image in photographs if (codes := Codes(image, hasher)).reliable]
    table = {}
    for name, modify in modifications().items():
        found = dict.fromkeys(COLUMNS, 0)
        for image, record in records:
            changed = Codes(modify(image), hasher)
            if changed.reliable:
                for way, (asked, kept) in {**WAYS, "_hash_only": (BY_TRIM, BY_WHOLE)}.items():
                    found[f"recall{way}"] += nearest(changed.asked(asked), record.kept(kept)) <= DISTANCE
        table[name] = {key: count / len(records) for key, count in found.items()}
        say(f"{name:20} " + "  ".join(f"{value:6.1%}" for value in table[name].values()))
    return table, len(records)


def unrelated(photographs: Iterator[Image.Image], parts: int) -> tuple[list[Codes], NDArray[np.int64]]:
    """Return the codes of parts of photographs, and which motif each is of."""
    hasher, rng = Hasher(orientations=True), np.random.default_rng(3)
    codes: list[Codes] = []
    motifs = []
    for motif, image in enumerate(photographs):
        for part in range(parts):
            share = 1.0 if part == 0 else rng.uniform(0.35, 0.8)
            width, height = int(image.width * share), int(image.height * share)
            left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
            mine = Codes(image.crop((left, top, left + width, top + height)), hasher)
            if mine.reliable:
                codes.append(mine)
                motifs.append(motif)
    return codes, np.array(motifs)


def false_hits(codes: list[Codes], motifs: NDArray[np.int64], asked_by: str, kept_by: str) -> dict[int, int]:
    """Count pairs of pictures of different motifs by the distance of their nearest codes, up to `NEAR`."""
    kept = [(number, code) for number, each in enumerate(codes) for code in each.kept(kept_by)]
    asked = [(number, code) for number, each in enumerate(codes) for code in each.asked(asked_by)]
    index = faiss.IndexBinaryFlat(256)
    index.add(array([code for _, code in kept]))
    owners, askers = np.array([number for number, _ in kept]), np.array([number for number, _ in asked])
    least: dict[int, int] = {}
    batch = 20_000
    for start in range(0, len(asked), batch):
        some = asked[start : start + batch]
        limits, distances, labels = index.range_search(array([code for _, code in some]), NEAR + 1)
        from_ = np.repeat(askers[start : start + batch], np.diff(limits).astype(np.int64))
        to = owners[labels]
        apart = motifs[from_] != motifs[to]
        keys = from_[apart] * len(codes) + to[apart]
        order = np.argsort(distances[apart], kind="stable")
        pairs, first = np.unique(keys[order], return_index=True)
        for pair, distance in zip(pairs.tolist(), distances[apart][order][first].astype(int).tolist(), strict=True):
            least[pair] = min(distance, least.get(pair, 256))
    histogram = np.bincount(list(least.values()), minlength=NEAR + 1) if least else np.zeros(NEAR + 1, dtype=int)
    return {distance: int(count) for distance, count in enumerate(histogram.tolist()) if count}


def extrapolated(histogram: dict[int, int], pairs: int) -> float | None:
    """Return the share of pairs within `DISTANCE`, by a line through the logarithm of the observed cumulative shares."""
    distances = sorted(histogram)
    cumulative = np.cumsum([histogram[distance] for distance in distances])
    points = [(distance, math.log(total / pairs)) for distance, total in zip(distances, cumulative, strict=True) if total >= KEEP_TAIL]
    if len(points) < KEEP_TAIL:
        return None
    points = points[: max(KEEP_TAIL, len(points) // 2)]  # the lower end, where the line is steepest
    slope, height = np.polyfit([distance for distance, _ in points], [value for _, value in points], 1)
    return float(math.exp(slope * DISTANCE + height))


def report_of(photographs: list[Image.Image], real: int, parts: int) -> dict[str, Any]:
    """Measure everything."""
    table, count = recalls(photographs)
    say("comparing unrelated pictures")
    codes, motifs = unrelated(iter(photographs), parts)
    same = int((np.bincount(motifs).astype(np.int64) ** 2).sum())
    pairs = len(codes) ** 2 - same
    figures: dict[str, Any] = {"photographs": real, "pictures": count, "modifications": table, "pairs": pairs, "bound_per_pair": 3 / pairs}
    for suffix, (asked, kept) in WAYS.items():
        histogram = false_hits(codes, motifs, asked, kept)
        hits = sum(number for distance, number in histogram.items() if distance <= DISTANCE)
        rate = extrapolated(histogram, pairs)
        figures[f"false_hits_per_10m_pairs{suffix}"] = hits / pairs * 10_000_000
        figures[f"nearest{suffix}"] = sorted(histogram)[:3]
        figures[f"expected_at_10m_records{suffix}"] = None if rate is None else rate * 10_000_000
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.robustness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer pictures, ends within 50 s")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    paths = [path for path in installed() if path.suffix in {".jpg", ".jpeg"}]  # the others are drawings
    real = len(paths)
    if arguments.quick:
        paths = paths[:: max(1, real // 10)]
    photographs = []
    for image in opened(paths) if paths else (synthetic(seed, (SIDE, SIDE * 3 // 4)) for seed in range(10 if arguments.quick else 100)):
        image.thumbnail((SIDE, SIDE))
        photographs.append(image)
    figures = report_of(photographs, real, 10 if arguments.quick else 60)
    figures["films"] = film_copies(QUICK_FILMS if arguments.quick else FILMS)
    names = ("vidfed", "pillow", "pdqhash", "numpy", "faiss-cpu")
    head = {"name": "robustness", "versions": {name: version_of(name) for name in names}, "cpu": cpu()}
    report = head | {"threads": len(os.sched_getaffinity(0)), "figures": figures}
    if arguments.json:
        print(json.dumps(report))
        return
    out = io.StringIO()
    print(f"{'modification':20} " + " ".join(f"{key:>17}" for key in COLUMNS), file=out)
    for name, row in figures.pop("modifications").items():
        print(f"{name:20} " + " ".join(f"{row[key]:17.1%}" for key in COLUMNS), file=out)
    for name, row in figures.pop("films").items():
        print(f"film, {name:28} " + " ".join(f"{key} {value}" for key, value in row.items()), file=out)
    for key, value in figures.items():
        print(f"{key:36} {value}", file=out)
    print(out.getvalue(), end="")


if __name__ == "__main__":
    main()
