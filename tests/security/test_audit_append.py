"""The audit log's first duty: an entry is on disk, or the caller hears that it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vidfed.security.audit import AuditEntry, AuditLog, Operation
from vidfed.security.errors import AuditError
from vidfed.synthetic.memory import full_disk

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = AuditEntry(1, Operation.CONSULTATION, "nl", "inv-1", "identification", bytes(32), "ANSWERED", 0)


def test_positions_count_from_one_and_go_on_after_a_restart(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.db")
    assert [log.append(ENTRY), log.append(ENTRY)] == [1, 2]
    log.close()
    log = AuditLog(tmp_path / "audit.db")
    assert log.append(ENTRY) == 3
    assert len(log) == 3
    log.close()


def test_two_processes_share_one_log(tmp_path: Path) -> None:
    one, other = AuditLog(tmp_path / "audit.db"), AuditLog(tmp_path / "audit.db")
    assert [one.append(ENTRY), other.append(ENTRY), one.append(ENTRY)] == [1, 2, 3]
    one.close()
    other.close()


def test_a_closed_log_says_so(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.db")
    log.close()
    with pytest.raises(AuditError):
        log.append(ENTRY)


def test_a_full_disk_is_an_audit_error_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.db")
    log.append(ENTRY)
    with full_disk(), pytest.raises(AuditError):
        log.append(ENTRY)
    assert len(log) == 1
    assert log.append(ENTRY) == 2
    log.close()


def test_a_damaged_log_is_an_error_of_ours_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "audit.db").write_bytes(b"this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(AuditError, match=r"audit\.db"):
        AuditLog(tmp_path / "audit.db")
