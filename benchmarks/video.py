"""Films: hashing, what sampling finds, and matching in a large index: `python -m benchmarks.video [--quick] [--json]`.

Synthetic films of `vidfed.synthetic.films`, made by ffmpeg; the index is filled with as many random frames as 1,000 hours of film have with
1,000 distinct frames an hour.

Figures:
    hours_per_hour: hours of film (640 x 360, 25 frames a second) hashed in an hour as a record's
    hours_per_hour_asked: the same for a question, four frames a second
    share_of_decode: time ffmpeg takes to decode the same film and do nothing with it / time of hashing it
    match_ms_1m_frames: to search and judge a film of 1,000 distinct frames, mirrored too, among a million frames of a thousand films
    bytes_per_frame: of the index, on disk
    exact: whether shares and frames were those of comparing every pair
    recall_1, recall_4, recall_scenes: share of a record's frames, taken one a second, that a re-encoded clip which begins between two of
        them finds by one frame a second, by four, and by the first frame after each cut
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from vidfed.index import Algorithm, Code
from vidfed.index.codes import frame_kind
from vidfed.index.hashing.film import hashing
from vidfed.index.hashing.results import FileHashes
from vidfed.index.hashing.workers import hash_file
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.query import SearchQuery
from vidfed.synthetic.films import film_frames, modify_film, write_film
from vidfed.wire.values import FilmTimes, HashColumn

NOW = 1_800_000_000_000
DISTANCE = Algorithm.PDQ.default_distance
_FRAMES_A_FILM = 1_000


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr)


def hashed(path: Path, *, asked: bool) -> FileHashes:
    """Hash a film."""
    file = hash_file(path, orientations=asked)
    if not isinstance(file, FileHashes) or not file.is_film:
        raise SystemExit(f"{path}: {file}")
    return file


def speed(folder: Path, seconds: int) -> dict[str, float]:
    """Time hashing and bare decoding in turn."""
    film = write_film(folder / "speed.mp4", film_frames(1, seconds, size=(640, 360), frames_per_second=25), frames_per_second=25)
    took: dict[str, list[float]] = {"decode": [], "record": [], "asked": []}
    for _ in range(3):
        for name, times in took.items():
            began_s = time.perf_counter()
            if name == "decode":
                subprocess.run(["ffmpeg", "-v", "error", "-i", str(film), "-an", "-f", "null", "-"], check=True)
            else:
                hashed(film, asked=name == "asked")
            times.append(time.perf_counter() - began_s)
    decode, record, asked = (statistics.median(each) for each in took.values())
    return {
        "hours_per_hour": round(seconds / record, 1),
        "hours_per_hour_asked": round(seconds / asked, 1),
        "share_of_decode": round(decode / record, 3),
    }


def recall(folder: Path, films: int, seconds: int) -> dict[str, float]:
    """Compare ways of sampling what is asked."""
    found: dict[str, list[float]] = {"recall_1": [], "recall_4": [], "recall_scenes": []}
    for seed in range(films):
        film = write_film(folder / f"r{seed}.mp4", film_frames(100 + seed, seconds))
        clip = modify_film(film, folder / f"c{seed}.mp4", "-ss", "1.45", "-crf", "34")
        record = [code for code in hashed(film, asked=False).codes if code.kind.startswith("second:")]
        theirs = np.array([np.frombuffer(code.code, np.uint8) for code in record[2:]])
        four = [code for code in hashed(clip, asked=True).codes if code.kind.startswith("second:")]
        before = hashing.QUESTION_RATE
        vars(hashing)["QUESTION_RATE"] = 1.0
        one = [code for code in hashed(clip, asked=True).codes if code.kind.startswith("second:")]
        vars(hashing)["QUESTION_RATE"] = before
        cuts = [_bits(code.code, last.code) > 2 * DISTANCE for last, code in itertools.pairwise(four)]
        scenes = [code for code, cut in zip(four, [True, *cuts], strict=True) if cut]
        for name, codes in (("recall_1", one), ("recall_4", four), ("recall_scenes", scenes)):
            ours = np.array([np.frombuffer(code.code, np.uint8) for code in codes])
            near = np.bitwise_count(ours[:, None] ^ theirs[None]).sum(axis=2).min(axis=0) <= DISTANCE
            found[name].append(float(near.mean()))
    return {name: round(statistics.mean(each), 3) for name, each in found.items()}


def _bits(left: bytes, right: bytes) -> int:
    return (int.from_bytes(left) ^ int.from_bytes(right)).bit_count()


def matching(folder: Path, frames: int) -> dict[str, Any]:
    """Search a film among many."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 256, (frames, 32), dtype=np.uint8)
    films = [
        Record(
            {Algorithm.SHA256: rng.bytes(32)},
            further=tuple(
                Code(Algorithm.PDQ, code.tobytes(), frame_kind(n * 3000, n * 3000 + 3000), 90)
                for n, code in enumerate(codes[start : start + _FRAMES_A_FILM])
            ),
            reference=str(start),
        )
        for start in range(0, frames, _FRAMES_A_FILM)
    ]
    known = codes[5 * _FRAMES_A_FILM : 6 * _FRAMES_A_FILM].copy()
    known[:, 0] ^= 0b111  # re-encoded
    known[::4] = rng.integers(0, 256, known[::4].shape, dtype=np.uint8)  # and a quarter of it is something else
    asked = np.repeat(known, 2, axis=0)
    asked[1::2] = rng.integers(0, 256, known.shape, dtype=np.uint8)  # the mirrored ones
    starts = np.repeat(np.arange(len(known), dtype=np.uint32) * 3000, 2)
    column = HashColumn(Algorithm.PDQ, asked, np.zeros(len(asked), np.uint32), DISTANCE)
    query = SearchQuery((column,), 20, films=(FilmTimes(0, starts, starts + 3000),))
    with closing(RecordStore(folder / "records.db")) as store:
        store.upsert(films, now_ms=NOW)
        with closing(Catalogue(store, folder / "index", lambda: NOW)) as catalogue:
            say(f"{frames:,} frames stored")
            catalogue.catch_up()
            took = []
            for _ in range(5):
                began_s = time.perf_counter()
                (found,) = catalogue.search([query])
                took.append(time.perf_counter() - began_s)
            size = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
    (hit,) = found.hits
    right = (len(known), len(known) - len(known[::4]), _FRAMES_A_FILM, len(known) - len(known[::4]))
    told = hit.film and (hit.film.frames, hit.film.frames_agreeing, hit.film.record_frames, hit.film.record_frames_agreeing)
    exact = told == right and found.records[hit.record].reference == str(5 * _FRAMES_A_FILM)
    return {"match_ms_1m_frames": round(1000 * statistics.median(took), 1), "bytes_per_frame": round(size / frames, 1), "exact": exact}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a shorter film, fewer of them, a tenth of the frames; under 50 s")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    quick = arguments.quick
    with tempfile.TemporaryDirectory(prefix="bench-video-") as name:
        folder = Path(name)
        figures: dict[str, Any] = speed(folder, 20 if quick else 120)
        say("hashing measured")
        figures |= recall(folder, 2 if quick else 12, 16 if quick else 40)
        say("sampling measured")
        figures |= matching(folder, 100_000 if quick else 1_000_000)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    if arguments.json:
        document = {"name": "video", "versions": versions, "cpu": platform.processor() or platform.machine(), "threads": 2}
        print(json.dumps(document | {"figures": figures}, indent=2))
        return
    for key, value in figures.items():
        print(f"{key:<24} {value:>12}")


if __name__ == "__main__":
    main()
