"""The audit log: durable appends beside plain batched inserts of the same rows, verifying, proofs.

`python -m benchmarks.audit [--quick] [--json]`
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vidfed.security.audit import AuditEntry, AuditLog, Event, Operation, SealedEntry, log_origin
from vidfed.security.audit.entries import seal
from vidfed.security.audit.verify import verify_log
from vidfed.security.crypto.keys import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGIN = log_origin("bench", "nl")
BATCH = 250  # entries one caller hands over at once: the nodes' replies to a busy gateway, or one chunk of a bulk lookup
THREADS = 4  # as many as the node has workers


def entry(number: int) -> AuditEntry:
    """Make an entry as a node writes it for one answer."""
    return AuditEntry(
        time_ms=1_700_000_000_000 + number,
        operation=Operation.DISCLOSURE,
        event=Event.LOOKUP_ANSWERED,
        member="fr",
        pseudonym="inv-12345678",
        purpose="identification",
        legal_basis="Police Data Act, art. 10",
        offence_type="child-sexual-abuse",
        case_reference="2026-17",
        request_digest=number.to_bytes(32, "big"),
        answer_digest=number.to_bytes(32, "little"),
        outcome="ANSWERED",
        records=("0123456789abcdef",),
        details={"took_ms": 12},
    )


def in_threads(count: int, work: Callable[[int], None]) -> float:
    """Return the seconds that `count` threads take, each doing its part."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def appends_per_s(folder: Path, total: int, threads: int, batch: int) -> float:
    """Measure durable appends, from entry values to disk, by several threads."""
    log = AuditLog(folder / f"log-{time.monotonic_ns()}.db", ORIGIN, SigningKey.generate())
    each = total // threads

    def work(_: int) -> None:
        for start in range(0, each, batch):
            log.append_many([entry(start + offset) for offset in range(min(batch, each - start))])

    taken = in_threads(threads, work)
    log.close()
    return each * threads / taken


def plain_inserts_per_s(folder: Path, total: int, batch: int) -> float:
    """Measure the yardstick: the same rows into a plain table of the same file settings, no tree, no salts, one thread."""
    database = sqlite3.connect(folder / f"plain-{time.monotonic_ns()}.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE entries (position INTEGER PRIMARY KEY, time_ms, commitment, salt, case_salt, body)")
    database.execute("CREATE INDEX by_time ON entries (time_ms)")
    rows: list[SealedEntry] = [seal(entry(number)) for number in range(min(total, 20_000))]
    started = time.perf_counter()
    for start in range(0, total, batch):
        database.execute("BEGIN IMMEDIATE")
        part = ((start + offset, *rows[(start + offset) % len(rows)]) for offset in range(batch))
        database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", part)
        database.execute("COMMIT")
    taken = time.perf_counter() - started
    database.close()
    return total / taken


def measure(folder: Path, *, quick: bool) -> dict[str, float]:
    """Return the figures of benchmarks.md, and single appends beside them; with `quick` the large log has 100,000 entries."""
    total = 20_000 if quick else 100_000
    bulk = BATCH * THREADS
    ours, plain = [], []
    appends_per_s(folder, 2_000, THREADS, BATCH)  # warm-up
    for _ in range(3):
        ours.append(appends_per_s(folder, total, THREADS, BATCH))
        plain.append(plain_inserts_per_s(folder, total, bulk))
    size = 100_000 if quick else 1_000_000
    key = SigningKey.generate()
    log = AuditLog(folder / "big.db", ORIGIN, key)
    for start in range(0, size, 5_000):
        log.append_many([entry(start + offset) for offset in range(5_000)])
    log.checkpoint()
    started = time.perf_counter()
    report = verify_log(log.storage, (key.public,))
    verified_s = time.perf_counter() - started
    if not report.holds or report.entries != size:
        raise SystemExit(f"the log does not verify: {report.findings}")
    proofs = []
    for number in range(200):
        started = time.perf_counter()
        log.prove_inclusion(number * (size // 200), size)
        proofs.append(time.perf_counter() - started)
    log.close()
    return {
        "appends_per_s": round(statistics.median(ours)),
        "share_of_plain_inserts": round(statistics.median(a / b for a, b in zip(ours, plain, strict=True)), 3),
        "single_appends_32_threads_per_s": round(appends_per_s(folder, total // 4, 32, 1)),
        "verify_leaves_per_s": round(size / verified_s),
        "proof_ms_1m": round(statistics.median(proofs) * 1000, 3),
        "bytes_per_entry": round((folder / "big.db").stat().st_size / size),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes; under 50 s")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured  [default: the current folder]", default=Path())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-audit-") as folder:
        figures = measure(Path(folder), quick=arguments.quick)
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    if arguments.json:
        document = {"name": "audit", "versions": versions, "cpu": platform.processor() or platform.machine(), "threads": THREADS}
        print(json.dumps(document | {"figures": figures}, indent=2))
        return
    print(
        f"audit log: {THREADS} threads, {BATCH} entries a call, every call durable before it returns; {os.cpu_count()} processors",
        file=sys.stderr,
    )
    for name, value in figures.items():
        print(f"{name:<36} {value:>12,}")


if __name__ == "__main__":
    main()
