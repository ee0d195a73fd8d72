"""The log file: durable, shared by threads and processes, refusing when it cannot write."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from vidfed.security.audit.merkle import Frontier, verify_inclusion
from vidfed.security.audit.notes import Checkpoint
from vidfed.security.audit.storage.sqlite import SqliteDatabase
from vidfed.security.audit.verify import verify_log
from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.security.errors import AuditError

if TYPE_CHECKING:
    from tests.security.audit.conftest import Bench
    from vidfed.security.audit import AuditLog

CHILD = """
import sys
from pathlib import Path
from vidfed.security.audit import AuditEntry, AuditLog, Event, Operation, log_origin
from vidfed.security.crypto.keys import SigningKey
location = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
log = AuditLog(location, log_origin("test", "nl"), SigningKey(b"k" * 32), beside=Path(sys.argv[2]))
def entry(number):
    return AuditEntry(1_700_000_000_000 + number, Operation.CONSULTATION, Event.LOOKUP_ANSWERED, "fr")
"""


def run_child(bench: Bench, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD + code, str(bench.location), str(bench.beside)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_positions_count_from_zero_and_outlive_the_process(bench: Bench) -> None:
    with closing(bench.open()) as log:
        assert [log.append(bench.entry(number)).position for number in range(3)] == [0, 1, 2]
    with closing(bench.open()) as log:
        assert log.append(bench.entry(3)).position == 3
        assert len(log) == 4


def test_the_log_takes_room_and_says_how_much(bench: Bench, log: AuditLog) -> None:
    before = log.storage.database.size_bytes()
    log.append_many([bench.entry(number) for number in range(1000)])
    assert log.storage.database.size_bytes() > before + 1000 * 500


def test_the_files_are_for_their_owner_only(file_bench: Bench) -> None:
    file_bench.fill(1)
    for path in (file_bench.path, file_bench.beside):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_entry_is_proven_under_the_checkpoint(bench: Bench, log: AuditLog) -> None:
    placed = log.append_many([bench.entry(number) for number in range(300)])
    checkpoint = log.checkpoint()
    checkpoint.verify(bench.origin, [bench.key.public])
    for at in (0, 255, 256, 299):
        leaf = log.storage.entry(at).leaf_hash
        verify_inclusion(leaf, at, checkpoint.size, checkpoint.root, log.prove_inclusion(at, checkpoint.size))
    assert placed[299].position == 299


def test_many_threads_append_at_once_and_none_is_lost_or_doubled(bench: Bench, log: AuditLog) -> None:
    placed: list[int] = []

    def work(number: int) -> None:
        for offset in range(20):
            placed.append(log.append(bench.entry(number * 100 + offset)).position)
            if offset == 10:
                log.checkpoint()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(placed) == list(range(320))
    log.checkpoint()
    assert verify_log(log.storage, [bench.key.public]).holds


def test_two_processes_append_to_the_same_log(bench: Bench, log: AuditLog) -> None:
    log.append(bench.entry())
    children = [run_child(bench, "for n in range(60): log.append(entry(n))\nlog.close()") for _ in range(2)]
    for number in range(60):
        log.append(bench.entry(number))
    assert [child.wait() for child in children] == [0, 0]
    for child in children:
        child.communicate()
    log.checkpoint()
    report = verify_log(log.storage, [bench.key.public])
    assert (report.entries, report.findings) == (181, [])


def test_no_checkpoint_is_signed_twice_for_the_same_size(bench: Bench, log: AuditLog) -> None:
    log.append(bench.entry())
    assert log.checkpoint() == log.checkpoint()
    assert len(log.storage.checkpoints()) == 1


def test_a_process_adopts_the_checkpoint_another_has_just_signed(bench: Bench, log: AuditLog) -> None:
    log.append(bench.entry())
    with closing(bench.open()) as other:
        theirs = other.checkpoint()
        log.append(bench.entry())
        assert log.checkpoint(max_age_ms=1000) == theirs
        bench.now_ms += 1000
        assert log.checkpoint(max_age_ms=1000).size == 2


def test_a_checkpoint_from_the_future_is_not_young(bench: Bench, log: AuditLog) -> None:
    log.append(bench.entry())
    ahead = log.checkpoint()
    log.append(bench.entry())
    bench.now_ms -= 1  # the clock that signed it was ahead; else nothing newer were signed until then
    renewed = log.checkpoint(max_age_ms=1000)
    assert (ahead.size, renewed.size) == (1, 2)


def test_processes_take_turns_and_every_reply_has_a_place_of_its_own(bench: Bench, log: AuditLog) -> None:
    code = """
import threading
def work():
    for n in range(25):
        sys.stdout.write("%d\\n" % log.append(entry(n)).position)
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads], [t.join() for t in threads]
log.close()
"""
    children = [run_child(bench, code) for _ in range(3)]
    placed = [int(line) for child in children for line in child.communicate()[0].splitlines()]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert sorted(placed) == list(range(300))
    log.checkpoint()
    assert verify_log(log.storage, [bench.key.public]).holds


def test_old_checkpoints_are_thinned_to_one_an_hour_and_then_one_a_day(bench: Bench, log: AuditLog) -> None:
    count = 2 * 24 * 40
    log.append_many([bench.entry(number) for number in range(count)])
    edge, notes = Frontier(), []
    for position, entry in log.storage.entries(0, count):
        edge.append(entry.leaf_hash)
        notes.append(Checkpoint(bench.origin, position + 1, edge.root()).signed_by(bench.key).text)
    with log.changing() as transaction:
        rows = [(size, bench.now_ms + size * 30 * MINUTE_MS, text) for size, text in enumerate(notes, start=1)]
        transaction.insert("checkpoints", rows)
    bench.now_ms += (count + 2) * 30 * MINUTE_MS
    log.append(bench.entry())
    log.checkpoint()  # in another hour than the last one
    ages = [(bench.now_ms - time_ms) / DAY_MS for time_ms, _ in log.storage.checkpoints()]
    assert [len([age for age in ages if low <= age < high]) for low, high in ((0, 1), (2, 29), (32, 38))] == [47, 27 * 24, 6]
    assert verify_log(log.storage, [bench.key.public]).holds


def test_closing_signs_what_was_added_last(bench: Bench) -> None:
    bench.fill(5)
    with closing(bench.storage()) as storage:
        assert "\n5\n" in storage.checkpoints()[-1][1]


def test_disk_full_refuses_the_entry_and_the_log_goes_on_once_there_is_room(file_bench: Bench) -> None:
    with closing(file_bench.open()) as log:
        log.append_many([file_bench.entry(number) for number in range(10)])
        database = log.storage.database
        assert isinstance(database, SqliteDatabase)
        writer = database.writer
        assert writer is not None
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(AuditError, match="full"):
            log.append_many([file_bench.entry(number) for number in range(500)])
        assert len(log) == 10
        writer.execute("PRAGMA max_page_count = 1000000")
        assert log.append(file_bench.entry()).position == 10
        log.checkpoint()
        assert verify_log(log.storage, [file_bench.key.public]).holds


def test_one_failed_write_fails_everybody_who_waited_for_it(bench: Bench, log: AuditLog) -> None:
    failures: list[AuditError] = []

    def work() -> None:
        try:
            log.append(bench.entry())
        except AuditError as error:
            failures.append(error)

    # The place of the hash that the 256th entry completes is taken: whatever the database, the whole transaction fails.
    bench.tamper("INSERT INTO hashes VALUES (1, 0, ?)", (bytes(32),))
    log.append_many([bench.entry(number) for number in range(255)])
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 8
    assert len(log) == 255
    bench.tamper("DELETE FROM hashes")
    assert log.append(bench.entry()).position == 255


PATCH = """
with log.storage.writing() as transaction:
    T = type(transaction)
"""
CRASHES = {
    "before anything is written": ("AuditLog._write = lambda *_: os._exit(9)", 3),
    "inside the transaction": (PATCH + "T.insert = lambda *_: os._exit(9)", 3),
    "after the rows, before the commit": (
        PATCH
        + """
real = T.insert
def stop(self, table, rows):
    real(self, table, rows)
    table == "hashes" and os._exit(9)
T.insert = stop
""",
        3,
    ),
    "after the commit, before the reply": (
        "real = AuditLog._write\ndef stop(*a):\n    real(*a)\n    os._exit(9)\nAuditLog._write = stop",
        4,
    ),
}


@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_between_append_and_reply_leaves_a_log_that_verifies(bench: Bench, where: str) -> None:
    bench.fill(3)
    patch, expected = CRASHES[where]
    child = run_child(bench, f"import os\n{patch}\nlog.append(entry(9))\nprint('replied', flush=True)")
    said, _ = child.communicate()
    assert (child.returncode, said) == (9, "")  # no reply was given
    with closing(bench.open()) as log:
        assert len(log) == expected
        log.append(bench.entry())
    with closing(bench.storage()) as storage:
        assert verify_log(storage, [bench.key.public]).holds


def test_a_crash_while_a_checkpoint_is_signed_leaves_a_log_that_goes_on(bench: Bench) -> None:
    bench.fill(3)
    code = (
        "import os\nimport vidfed.security.audit.log as m\nm.write_private = lambda *_: os._exit(9)\nlog.append(entry(1))\nlog.checkpoint()"
    )
    child = run_child(bench, code)
    child.communicate()
    assert child.returncode == 9
    bench.fill(1)
    with closing(bench.storage()) as storage:
        assert verify_log(storage, [bench.key.public]).entries == 5


def test_whatever_was_replied_to_survives_kill_dash_nine(bench: Bench) -> None:
    child = run_child(bench, "n = 0\nwhile True:\n    print(log.append(entry(n)).position, flush=True)\n    n += 1")
    assert child.stdout is not None
    replied = [int(child.stdout.readline()) for _ in range(50)]
    os.kill(child.pid, signal.SIGKILL)
    rest, _ = child.communicate()
    replied += [int(line) for line in rest.splitlines()[:-1]]
    with closing(bench.open()) as log:
        assert len(log) > replied[-1]
    with closing(bench.storage()) as storage:
        assert verify_log(storage, [bench.key.public]).holds


def test_what_was_dropped_is_gone_and_its_place_is_not(bench: Bench, log: AuditLog) -> None:
    log.append_many([bench.entry(number) for number in range(20)])
    root = log.root(20)
    assert log.drop([15], before=10) == 11
    assert [at for at, entry in log.storage.entries(0, 20) if entry.body is None and entry.salt is None] == [*range(10), 15]
    assert log.root(20) == root


def test_the_log_goes_on_after_the_server_ended_every_connection(bench: Bench, postgresql_url: str) -> None:
    bench.location = postgresql_url
    with closing(bench.open()) as log:
        log.append(bench.entry())
        with psycopg.connect(postgresql_url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert log.append(bench.entry()).position == 1
        assert len(log) == 2


def test_a_log_of_another_member_is_not_opened(bench: Bench) -> None:
    bench.fill(1)
    bench.origin = "vidfed/test/fr/audit"
    with pytest.raises(AuditError, match="vidfed/test/nl/audit"):
        bench.open()


def test_a_file_that_is_no_log_is_an_error_of_ours(file_bench: Bench) -> None:
    file_bench.path.write_bytes(b"this is not a database, but it is long enough to look like a file of one" * 20)
    with pytest.raises(AuditError):
        file_bench.open()


def test_the_log_holds_no_case_reference_in_clear(file_bench: Bench) -> None:
    with closing(file_bench.open()) as log:
        log.append(file_bench.entry(case_reference="CASE-SECRET-77"))
        log.checkpoint()
        log.storage.forget_deleted()
        assert b"CASE-SECRET-77" not in file_bench.path.read_bytes()
        with sqlite3.connect(f"file:{file_bench.path}?mode=ro", uri=True) as database:
            assert not [row for row in database.iterdump() if "CASE-SECRET-77" in row]
        database.close()
