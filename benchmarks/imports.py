"""How fast a VICS file becomes searchable records: `python -m benchmarks.imports [--quick] [--json]`.

A hash set of random entries (no two alike, nothing computed from any picture) is imported into a new SQLite store, and the PDQ and
PhotoDNA indexes are brought up to it. Beside it stands the time that `ijson` with its C backend takes only to walk the same file. Peak
memory is that of the importing process and the reading process it starts, taken together, less that of one that builds the same indexes
from arrays.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path

from vidfed.formats.values import code_text, dumps

SIZES = {"full": 1_000_000, "quick": 40_000}


def write_file(path: Path, entries: int) -> None:
    """Write a hash set with what such sets carry: MD5, SHA-1, PhotoDNA, PDQ, flags, one file each."""
    source = random.Random(entries)
    with path.open("w", encoding="utf-8") as file:
        context = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/Default/$metadata#Media"
        file.write(f'{{"@odata.context":{dumps(context)},"value":[')
        for number in range(entries):
            md5 = source.randbytes(16).hex().upper()
            media = {
                "MediaID": number,
                "Category": source.choice((1, 2, 3)),
                "MD5": md5,
                "SHA1": source.randbytes(20).hex().upper(),
                "PhotoDNA": code_text("photodna", source.randbytes(144)),
                "MediaSize": source.randrange(10_000, 9_000_000),
                "MimeType": "image/jpeg",
                "VictimIdentified": source.choice((True, False, None)),
                "OffenderIdentified": None,
                "IsDistributed": "true",
                "Series": f"series {number % 5000}",
                "Tags": None,
                "AlternativeHashes": [{"MD5": md5, "HashName": "PDQ", "HashValue": source.randbytes(32).hex()}],
                "MediaFiles": [{"MD5": md5, "FileName": f"{number}.jpg", "FilePath": "a\\b\\c", "Created": "2023-06-07T02:31:49.8300Z"}],
            }
            file.write(("," if number else "") + "\n" + dumps(media))
        file.write("]}")


def walk(path: Path) -> dict[str, float]:
    """Return the seconds, by the clock and of the processor, that ijson takes to hand out every entry of the file."""
    import ijson  # noqa: PLC0415 - a yardstick, not a dependency

    backend = ijson.get_backend("yajl2_c")
    started = time.perf_counter()
    with path.open("rb") as file:
        for _ in backend.items(file, "value.item", use_float=True):
            pass
    return {"s": time.perf_counter() - started, "cpu_s": _cpu_s(resource.RUSAGE_SELF)}


def _cpu_s(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def take_in(path: Path, folder: Path) -> dict[str, float]:
    """Import the file, bring the indexes up to it, and return seconds and the peak of memory in MB."""
    from vidfed.node.intake.importer import import_files  # noqa: PLC0415 - as below
    from vidfed.node.intake.options import ImportOptions  # noqa: PLC0415
    from vidfed.node.records.store import RecordStore  # noqa: PLC0415
    from vidfed.node.search.catalogue import Catalogue  # noqa: PLC0415 - measured in a process of its own

    started = time.perf_counter()
    with closing(RecordStore(folder / "records.db")) as store:
        (report,) = import_files(store, [path], ImportOptions(), now_ms=1, report_file=folder / "report.txt")
        stored = time.perf_counter()
        imported_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with closing(Catalogue(store, folder / "index", lambda: 1)) as catalogue:
            catalogue.catch_up()
        indexed = time.perf_counter()
    if report.counts.new != report.entries:
        raise RuntimeError(f"{report.counts.new} new of {report.entries}")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    reader_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # of the largest child: the only one
    reader_cpu_s = _cpu_s(resource.RUSAGE_CHILDREN)
    figures = {"store_s": stored - started, "cpu_s": _cpu_s(resource.RUSAGE_SELF) + reader_cpu_s, "reader_cpu_s": reader_cpu_s}
    figures |= {"index_s": indexed - stored, "import_rss_mb": imported_mb + reader_mb}
    return figures | {"rss_mb": max(imported_mb + reader_mb, peak_mb)}  # the reading process has ended when the indexes are built


def index_only(entries: int, folder: Path) -> dict[str, float]:
    """Build the same indexes from arrays and return the peak of memory in MB."""
    import numpy as np  # noqa: PLC0415 - measured in a process of its own

    from vidfed.index import Algorithm, HashIndex  # noqa: PLC0415

    random_codes = np.random.default_rng(1)
    with ExitStack() as stack:  # all of them stay open, as in a node
        for algorithm in (Algorithm.PDQ, Algorithm.PHOTODNA):
            index = stack.enter_context(HashIndex.open(folder / algorithm.value, algorithm))
            for start in range(0, entries, 20_000):
                count = min(20_000, entries - start)
                codes = random_codes.integers(0, 256, (count, algorithm.code_bytes), dtype=np.uint8)
                index.add(np.arange(start, start + count, dtype=np.int64), codes)
    return {"rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure(entries: int) -> dict[str, float]:
    """Return the figures for a file of so many entries; each part in a process of its own, because peaks of memory never fall."""
    with tempfile.TemporaryDirectory(prefix="vidfed-imports-") as name:
        folder = Path(name)
        path = folder / "set.json"
        print(f"writing {entries:,} random entries", file=sys.stderr)
        write_file(path, entries)
        print("importing", file=sys.stderr)
        imported = _in_process("import", str(path), str(folder / "member"))
        print("walking with ijson", file=sys.stderr)
        walked = _in_process("walk", str(path))
        print("building the indexes alone", file=sys.stderr)
        alone = _in_process("index", str(entries), str(folder / "alone"))
        total_s = imported["store_s"] + imported["index_s"]
        return {
            "entries": entries,
            "file_mb": path.stat().st_size / 1e6,
            "entries_per_s": entries / total_s,
            "store_entries_per_s": entries / imported["store_s"],
            "index_s": imported["index_s"],
            "ijson_walk_s": walked["s"],
            "time_over_ijson_walk": total_s / walked["s"],
            # Of the processor: what other load on the machine changes least.
            "cpu_over_ijson_walk": imported["cpu_s"] / walked["cpu_s"],
            "cpu_share_of_reader": imported["reader_cpu_s"] / imported["cpu_s"],
            "peak_rss_importing_mb": imported["import_rss_mb"],
            "peak_rss_above_index_mb": imported["rss_mb"] - alone["rss_mb"],
        }


def _in_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.imports", "--part", *arguments]
    done: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return done


def _part(arguments: list[str]) -> dict[str, float]:
    kind, first, *rest = arguments
    if kind == "walk":
        return walk(Path(first))
    folder = Path(rest[0])
    folder.mkdir()
    return take_in(Path(first), folder) if kind == "import" else index_only(int(first), folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{SIZES['quick']:,} entries instead of {SIZES['full']:,}")
    parser.add_argument("--entries", type=int, help="so many entries")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(_part(options.part)))
        return
    figures = measure(options.entries or SIZES["quick" if options.quick else "full"])
    versions = {name: version(name) for name in ("sqlalchemy", "ijson", "numpy")} | {"python": platform.python_version()}
    document = {"name": "imports", "versions": versions, "cpu": platform.processor(), "threads": os.cpu_count(), "figures": figures}
    if options.json:
        print(json.dumps(document))
        return
    for name, value in figures.items():
        print(f"{name:<26} {value:>14,.2f}")


if __name__ == "__main__":
    main()
