"""Following a unit's database beside importing the same records as VICS: first run, full comparison, and 1,000 changes.

python -m benchmarks.sources [--records N] [--url URL-OF-AN-EMPTY-DATABASE]   # SQLite in a temporary folder if no URL is given
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.node.intake.importer import import_files
from vidfed.node.intake.options import ImportOptions
from vidfed.node.records.store import RecordStore
from vidfed.node.sources.comparison.run import RunOptions, SourceRun
from vidfed.node.sources.settings import parse_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AT_ONCE = 10_000
_CHANGES = 1_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.sources", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--url", help="SQLAlchemy URL, with a user that may make tables")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidfed-bench-") as name:
        folder = Path(name)
        url = chosen.url or f"sqlite:///{folder}/cases.db"
        engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://").replace("mysql://", "mysql+pymysql://"))
        _fill(engine, chosen.records)
        _vics(folder / "set.json", chosen.records)
        print(f"{chosen.records:,} records, {engine.dialect.name}: wall s, processor s of all processes, records a second")
        with closing(RecordStore(folder / "vics.db")) as store:
            options = ImportOptions()
            _timed("VICS import", chosen.records, lambda: import_files(store, [folder / "set.json"], options, now_ms=1))
        with closing(RecordStore(folder / "sql.db")) as store:
            table = {"kind": "sql", "url": url, "table": "bench_media", "key": "id", "changed": "revision", "changed_overlap": 0.0}
            table |= {"columns": {"md5": "md5", "sha1": "sha1", "pdq": "pdq", "category": "cat", "victim_identified": "v"}}
            settings = parse_sources({"bench": table}, folder)["bench"]
            run = SourceRun(store, settings, folder, folder)
            _timed("first run", chosen.records, lambda: run.run(RunOptions(1)))
            _timed("full comparison, nothing changed", chosen.records, lambda: run.run(RunOptions(2, full=True)))
            with engine.begin() as connection:
                step = max(1, chosen.records // _CHANGES)
                connection.execute(sa.text(f"UPDATE bench_media SET cat = '2', revision = id + {chosen.records} WHERE id % {step} = 0"))
            _timed(f"{_CHANGES:,} changes", _CHANGES, lambda: run.run(RunOptions(3)))
        engine.dispose()


def _rows(count: int) -> Iterator[dict[str, object]]:
    for number in range(1, count + 1):
        seed = str(number).encode()
        sha256 = hashlib.sha256(seed).hexdigest()
        sha1 = hashlib.sha1(seed, usedforsecurity=False).hexdigest()
        md5 = hashlib.md5(seed, usedforsecurity=False).hexdigest()
        yield {"id": number, "md5": md5, "sha1": sha1, "pdq": sha256, "cat": "1", "v": "true", "revision": number}


def _fill(engine: sa.Engine, count: int) -> None:
    columns = "id INTEGER PRIMARY KEY, md5 VARCHAR(32), sha1 VARCHAR(40), pdq VARCHAR(64), cat VARCHAR(8), v VARCHAR(8), revision BIGINT"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE bench_media ({columns})"))
        held: list[dict[str, object]] = []
        for row in _rows(count):
            held.append(row)
            if len(held) == _AT_ONCE or row["id"] == count:
                connection.execute(sa.text("INSERT INTO bench_media VALUES (:id, :md5, :sha1, :pdq, :cat, :v, :revision)"), held)
                held = []
        connection.execute(sa.text("CREATE INDEX bench_revision ON bench_media (revision)"))


def _vics(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write('{"@odata.context":"http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/Default/$metadata#Media","value":[')
        for row in _rows(count):
            media = {"MediaID": row["id"], "Category": 1, "MD5": row["md5"], "SHA1": row["sha1"], "VictimIdentified": "true"}
            media["AlternativeHashes"] = [{"HashName": "PDQ", "HashValue": row["pdq"]}]
            file.write(("," if row["id"] != 1 else "") + json.dumps(media))
        file.write("]}")


def _timed(what: str, count: int, act: Callable[[], object]) -> None:
    def spent() -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))

    began_s, before_s = time.perf_counter(), spent()
    act()
    wall_s = time.perf_counter() - began_s
    print(f"{what:34} {wall_s:8.1f} {spent() - before_s:8.1f} {count / wall_s:12,.0f}")


if __name__ == "__main__":
    main()
