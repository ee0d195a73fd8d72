"""What happened about the unit's records, told to its own system: at least once, under one id, without a hash."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.sources.test_commands import home  # noqa: F401 - a fixture
from vidfed.index import Algorithm
from vidfed.node.config import store_location
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.sources.errors import SourceError
from vidfed.node.sources.outbox import Outbox
from vidfed.security.audit import AuditEntry, Event, Operation
from vidfed.security.member.audit_log import open_log
from vidfed.security.member.home import MemberHome

if TYPE_CHECKING:
    from pathlib import Path

MD5 = bytes(range(16))


def happened(folder: Path, section: str, count: int = 1) -> MemberHome:
    """Let fr have asked about a record, and about nothing known, as the log then says."""
    text = (folder / "vidfed.toml").read_text().partition("[outbox]")[0]
    (folder / "vidfed.toml").write_text(f"{text.rstrip()}\n\n[outbox]\n{section}\n")
    member = MemberHome(folder)
    store = RecordStore(store_location(member))
    store.upsert([Record({Algorithm.MD5: MD5}, reference="aa" * 8, source_id="17")], now_ms=1)
    store.close()
    log = open_log(member)
    for records in [("aa" * 8,), ()] * count:
        log.append(
            AuditEntry(5, Operation.CONSULTATION, Event.LOOKUP_ANSWERED, "fr", outcome="ANSWERED", records=records, purpose="investigation")
        )
    log.close()
    return member


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_who_asked_about_a_record_is_told_once_with_its_key_and_without_a_hash(home: Path) -> None:  # noqa: F811 - the fixture
    outbox = Outbox(happened(home, 'path = "out.jsonl"'))
    assert (outbox.deliver(), outbox.deliver()) == (1, 0)
    (event,) = told(home)
    assert (event["event"], event["member"], event["purpose"]) == ("asked", "fr", "investigation")
    assert event["records"] == [{"reference": "aa" * 8, "source": "", "key": "17"}]
    assert MD5.hex() not in (home / "out.jsonl").read_text()


def test_what_was_not_taken_is_told_again_under_the_same_id(home: Path, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    taker = tmp_path / "take"
    taker.write_text(f"#!/bin/sh\ncat >> {home}/out.jsonl\ntest -e {tmp_path}/works\n")
    taker.chmod(0o700)
    outbox = Outbox(happened(home, f'command = ["{taker}"]', count=2))
    with pytest.raises(SourceError, match="status 1"):
        outbox.deliver()
    (tmp_path / "works").touch()
    assert outbox.deliver() == 2
    first, again, second = (event["id"] for event in told(home))
    assert first == again != second


def test_after_a_log_was_put_back_everything_is_told_under_ids_that_name_no_other_event(home: Path) -> None:  # noqa: F811 - the fixture
    member = happened(home, 'path = "out.jsonl"')
    place = next(home.rglob("outbox.json"), None)
    assert place is None
    outbox = Outbox(member)
    assert outbox.deliver() == 1
    (place,) = home.rglob("outbox.json")
    place.write_text(json.dumps({"next": 10_000, "time_ms": 7}))  # of the log before it was put back, which was longer
    assert (outbox.deliver(), outbox.deliver()) == (1, 0)
    place.write_text(json.dumps({"next": 1, "time_ms": 7}))  # or which was as long, with another entry there
    assert (outbox.deliver(), outbox.deliver()) == (1, 0)
    assert len({event["id"] for event in told(home)}) == 1


def test_half_a_line_does_not_spoil_the_next(home: Path) -> None:  # noqa: F811 - the fixture
    outbox = Outbox(happened(home, 'path = "out.jsonl"'))
    (home / "out.jsonl").write_text('{"half')
    outbox.deliver()
    assert json.loads((home / "out.jsonl").read_text().splitlines()[1])["event"] == "asked"


def test_a_member_without_an_outbox_tells_nobody(home: Path) -> None:  # noqa: F811 - the fixture
    assert not Outbox(MemberHome(home)).is_wanted
