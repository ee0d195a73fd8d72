"""Whom this member told of which record is derived from its log."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.casework_members import World
from vidfed.casework.carriage.register import ToldRegister
from vidfed.casework.storage import told as store
from vidfed.security.audit.entries import AuditEntry, Event, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.casework_members import CaseworkMember


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[CaseworkMember]:
    with contextlib.closing(World(tmp_path)) as world:
        yield world.owner


def _answered(number: int, *references: str, purpose: str = "identification") -> AuditEntry:
    return AuditEntry(
        time_ms=1_000 + number,
        operation=Operation.DISCLOSURE,
        event=Event.LOOKUP_ANSWERED,
        member="nl",
        pseudonym="nl-7",
        purpose=purpose,
        request_digest=bytes([number]) * 32,
        answer_digest=bytes([number + 100]) * 32,
        records=references,
        details={"records_version": 9},
    )


def _told(owner: CaseworkMember, *references: str) -> dict[str, list[int]]:
    with owner.database.reading() as connection:
        return {name: [each.told_ms for each in found] for name, found in store.told_of(connection, references).items()}


def test_every_answer_in_the_log_that_told_of_a_record_is_in_the_register_once(owner: CaseworkMember) -> None:
    register = ToldRegister(owner.database, owner.audit.storage)
    owner.audit.append_many([_answered(1, "FR-1", "FR-2"), _answered(2), _answered(3, "FR-1")])
    register.catch_up()
    register.catch_up()
    assert _told(owner, "FR-1", "FR-2") == {"FR-1": [1_003, 1_001], "FR-2": [1_001]}


def test_a_self_test_tells_of_no_record(owner: CaseworkMember) -> None:
    owner.audit.append(_answered(1, "FR-1", purpose="self-test"))
    ToldRegister(owner.database, owner.audit.storage).catch_up()
    assert _told(owner, "FR-1") == {}


def test_what_was_told_stays_known_when_an_older_copy_of_the_log_is_put_back(owner: CaseworkMember, tmp_path: Path) -> None:
    owner.audit.append_many([_answered(1, "FR-1"), _answered(2, "FR-2")])
    ToldRegister(owner.database, owner.audit.storage).catch_up()
    (tmp_path / "older").mkdir()
    with contextlib.closing(World(tmp_path / "older")) as older:
        older.owner.audit.append(_answered(1, "FR-1"))
        register = ToldRegister(owner.database, older.owner.audit.storage)
        register.catch_up()
        older.owner.audit.append(_answered(4, "FR-4"))
        register.catch_up()
    assert set(_told(owner, "FR-1", "FR-2", "FR-4")) == {"FR-1", "FR-2", "FR-4"}


def test_old_answers_are_forgotten(owner: CaseworkMember) -> None:
    owner.audit.append_many([_answered(1, "FR-1"), _answered(2, "FR-1")])
    ToldRegister(owner.database, owner.audit.storage).catch_up()
    with owner.database.writing() as connection:
        assert store.forget_before(connection, 1_002) == 1
    assert _told(owner, "FR-1") == {"FR-1": [1_002]}
