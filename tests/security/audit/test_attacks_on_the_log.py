"""Whoever can write the log's file, the operator included, cannot change the past unnoticed. Each test is named after the attack."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from vidfed.security.audit import Event, Operation
from vidfed.security.audit.entries import commit, seal
from vidfed.security.audit.merkle import EMPTY_ROOT, Frontier, leaf_hash
from vidfed.security.audit.notes import Checkpoint
from vidfed.security.audit.verify import DropsAnnounced, KnownCheckpoint, VerifyReport, verify_log
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import AuditDamagedError

if TYPE_CHECKING:
    from tests.security.audit.conftest import Bench


def tamper(bench: Bench, *statements: str) -> None:
    for statement in statements:
        bench.tamper(statement)


def check(bench: Bench, *known: Checkpoint) -> VerifyReport:
    with closing(bench.storage()) as storage:
        return verify_log(storage, [bench.key.public], [KnownCheckpoint("a witness", checkpoint) for checkpoint in known])


def newest(bench: Bench) -> Checkpoint:
    with closing(bench.storage()) as storage:
        return Checkpoint.parse(storage.checkpoints()[-1][1])


def test_an_untouched_log_verifies(bench: Bench) -> None:
    bench.fill(600)
    report = check(bench)
    assert (report.holds, report.entries, report.opened, report.dropped) == (True, 600, 600, 0)


def test_leaf_edited(bench: Bench) -> None:
    bench.fill(10)
    with closing(bench.storage()) as storage:
        body = storage.entry(4).body
    assert body is not None
    bench.tamper("UPDATE entries SET body = ? WHERE position = 4", (body.replace(b"identification", b"prosecution"),))
    assert check(bench).findings == ["entry 4: its content is not what was logged"]


def test_leaf_edited_with_a_commitment_to_match(bench: Bench) -> None:
    bench.fill(10)
    with closing(bench.storage()) as storage:
        entry = storage.entry(4)
    assert entry.salt is not None
    assert entry.body is not None
    body = entry.body.replace(b"identification", b"prosecution")
    bench.tamper("UPDATE entries SET body = ?, commitment = ? WHERE position = 4", (body, commit(entry.salt, body)))
    report = check(bench)
    assert any("the log was edited" in finding for finding in report.findings)
    with pytest.raises(AuditDamagedError, match="must not be continued"):
        bench.open()


def test_leaf_edited_and_the_tree_and_checkpoints_rebuilt_by_the_operator_himself(bench: Bench) -> None:
    bench.fill(10)
    witnessed = newest(bench)
    tamper(bench, *(f"DELETE FROM {table}" for table in ("entries", "hashes", "checkpoints")))
    bench.beside.unlink()
    with closing(bench.open()) as log:  # a clean new log with the true key, and one entry told otherwise
        log.append_many([bench.entry(number, purpose="prosecution") for number in range(10)])
    assert check(bench).holds  # alone, nobody can tell
    assert any("a witness" in finding for finding in check(bench, witnessed).findings)


def test_an_entry_removed_from_the_middle(bench: Bench) -> None:
    bench.fill(10)
    tamper(bench, "DELETE FROM entries WHERE position = 5")
    assert any("entries 5 to 5 are gone" in finding for finding in check(bench).findings)


def test_log_truncated(bench: Bench) -> None:
    bench.fill(10)
    tamper(bench, "DELETE FROM entries WHERE position >= 7")
    assert any("it was cut or put back" in finding for finding in check(bench).findings)
    with pytest.raises(AuditDamagedError):
        bench.open()


def test_log_truncated_with_its_checkpoints(bench: Bench) -> None:
    bench.fill(7)
    bench.fill(3)
    witnessed = newest(bench)
    tamper(bench, "DELETE FROM entries WHERE position >= 7", "DELETE FROM checkpoints WHERE size > 7")
    assert check(bench).holds  # inside the file, nothing is left of it
    assert not check(bench, witnessed).holds
    with pytest.raises(AuditDamagedError):  # the copy of the checkpoint beside the file
        bench.open()


def test_an_older_copy_of_the_whole_log_put_back(file_bench: Bench) -> None:
    file_bench.fill(7)
    old = file_bench.folder / "backup.db"
    shutil.copy(file_bench.path, old)
    file_bench.fill(3)
    witnessed = newest(file_bench)
    for suffix in ("-wal", "-shm"):
        file_bench.path.with_name(file_bench.path.name + suffix).unlink(missing_ok=True)
    shutil.copy(old, file_bench.path)
    with pytest.raises(AuditDamagedError, match="older copy"):
        file_bench.open()
    assert any("a witness has a signed checkpoint of 10" in finding for finding in check(file_bench, witnessed).findings)


def test_text_put_where_bytes_were(file_bench: Bench) -> None:
    file_bench.fill(10)  # SQLite takes values of any type in any column
    tamper(file_bench, "UPDATE entries SET body = CAST(replace(body, 'identification', 'prosecution') AS TEXT) WHERE position = 4")
    assert check(file_bench).findings == ["entry 4: its content is not what was logged"]


def test_content_removed_in_silence(bench: Bench) -> None:
    bench.fill(10)
    tamper(bench, "UPDATE entries SET salt = NULL, case_salt = NULL, body = NULL WHERE position IN (2, 3)")
    assert check(bench).findings == [f"entry {n}: its content was removed, and no entry announces that" for n in (2, 3)]


def test_a_salt_removed_and_the_content_kept(bench: Bench) -> None:
    bench.fill(3)
    tamper(bench, "UPDATE entries SET salt = NULL WHERE position = 1")
    assert check(bench).findings == ["entry 1: its content is not what was logged"]


def test_entries_swapped(bench: Bench) -> None:
    bench.fill(10)
    tamper(
        bench,
        "UPDATE entries SET position = -1 WHERE position = 2",
        "UPDATE entries SET position = 2 WHERE position = 3",
        "UPDATE entries SET position = 3 WHERE position = -1",
    )
    assert not check(bench).holds


def test_a_stored_hash_of_the_tree_changed(bench: Bench) -> None:
    bench.fill(600)
    bench.tamper("UPDATE hashes SET hash = ? WHERE level = 1 AND position = 1", (bytes(32),))
    assert any("stored hash 1 at level 1" in finding for finding in check(bench).findings)


def test_a_checkpoint_signed_with_another_key(bench: Bench) -> None:
    bench.fill(3)
    edge = Frontier()
    edge.append(leaf_hash(b"other"))
    forged = Checkpoint(bench.origin, 1, edge.root()).signed_by(SigningKey(b"x" * 32))
    report = check(bench, forged)
    assert any("not signed with a key of" in finding for finding in report.findings)


def test_same_size_other_root(bench: Bench) -> None:
    bench.fill(3)
    other = Checkpoint(bench.origin, 3, bytes(32)).signed_by(bench.key)
    assert any("are not those of the signed checkpoint that a witness has" in finding for finding in check(bench, other).findings)


def test_an_erasure_announced_by_an_earlier_entry_does_not_cover_a_later_one(bench: Bench) -> None:
    with closing(bench.open()) as log:
        log.append(bench.entry(event=Event.LOG_ERASED, operation=Operation.ERASURE, details={"positions": (5,)}))
        log.append_many([bench.entry(number) for number in range(9)])
    tamper(bench, "UPDATE entries SET salt = NULL, case_salt = NULL, body = NULL WHERE position = 5")
    assert check(bench).findings == ["entry 5: its content was removed, and no entry announces that"]


def test_a_pruning_entry_covers_nothing_after_itself(bench: Bench) -> None:
    """Whoever prunes may announce that everything before a position goes, and no more than there was then."""
    drops = DropsAnnounced()
    announced = bench.entry(5, event=Event.LOG_PRUNED, operation=Operation.ERASURE, details={"before": 1_000})
    drops.read(5, seal(announced))
    assert [drops.cover(position) for position in (0, 4, 5, 6, 999)] == [True, True, False, False, False]


def test_a_log_of_300_cut_to_200_with_all_checkpoints_gone_is_found(bench: Bench) -> None:
    """The stored hashes of the tree are left over, and nobody else remembers."""
    bench.fill(300)
    bench.tamper("DELETE FROM entries WHERE position >= 200")
    bench.tamper("DELETE FROM checkpoints")
    report = check(bench)
    assert not report.holds
    assert any("belong to entries that are gone" in finding for finding in report.findings)


def test_a_checkpoint_of_nothing_is_no_finding(bench: Bench) -> None:
    bench.fill(3)
    empty = Checkpoint(bench.origin, 0, EMPTY_ROOT).signed_by(bench.key)
    assert check(bench, empty).holds
    lie = Checkpoint(bench.origin, 0, bytes(32)).signed_by(bench.key)
    assert not check(bench, lie).holds
