"""What happened about the unit's records, told to its own system: at least once, under one id, without a hash."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

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
    from tests.node.sources.conftest import Unit

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


TABLE = "CREATE TABLE told (id VARCHAR(200) PRIMARY KEY, happened VARCHAR(30), event VARCHAR(40), member VARCHAR(100), document TEXT)"


def rows_of(unit: Unit) -> list[tuple[Any, ...]]:
    with unit.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text("SELECT id, event, member, document FROM told ORDER BY id")).all()]


def in_table(unit: Unit, folder: Path) -> str:
    """The settings for a table of the unit's database."""
    url = sa.make_url(unit.engine.url.render_as_string(hide_password=False))
    (folder / "outbox.password").write_text(url.password or "")
    (folder / "outbox.password").chmod(0o600)
    plain = url.set(password=None, drivername=url.drivername.partition("+")[0]).render_as_string()
    return f'url = "{plain}"\ntable = "told"' + ('\npassword_file = "outbox.password"' if url.password else "")


def test_events_are_rows_of_the_unit_s_own_table_once_however_often_they_are_told(unit: Unit, home: Path) -> None:  # noqa: F811 - the fixture
    unit.run(TABLE)
    outbox = Outbox(happened(home, in_table(unit, home), count=2))
    assert (outbox.deliver(), outbox.deliver()) == (2, 0)
    before = rows_of(unit)
    assert [(event, member) for _, event, member, _ in before] == [("asked", "fr")] * 2
    assert [json.loads(document)["id"] for *_, document in before] == [each[0] for each in before]
    next(home.rglob("outbox.json")).unlink()  # what was reached is not known any more: everything is told again
    assert outbox.deliver() == 2
    assert rows_of(unit) == before


def test_a_table_that_cannot_be_written_names_the_cause_and_holds_nothing_back_for_ever(unit: Unit, home: Path) -> None:  # noqa: F811
    outbox = Outbox(happened(home, in_table(unit, home)))
    with pytest.raises(SourceError, match=r"\[outbox\] .*told"):
        outbox.deliver()
    unit.run(TABLE)
    assert outbox.deliver() == 1


def logged(member: MemberHome, *entries: AuditEntry) -> None:
    log = open_log(member)
    log.append_many(entries)
    log.close()


def test_requests_news_and_standing_hits_are_told_and_nothing_that_this_member_did_itself(home: Path) -> None:  # noqa: F811 - the fixture
    member = happened(home, 'path = "out.jsonl"', count=0)

    def entry(event: Event, outcome: str = "TAKEN", **details: int | str) -> AuditEntry:
        return AuditEntry(5, Operation.DISCLOSURE, event, "fr", outcome=outcome, records=("aa" * 8,), details=details)

    logged(
        member,
        entry(Event.CASEWORK_RECEIVED, kind="ask", conversation="c1"),
        entry(Event.CASEWORK_RECEIVED, kind="message", conversation="c1"),
        entry(Event.CASEWORK_RECEIVED, outcome="FORK", kind="message", conversation="c1"),
        entry(Event.CASEWORK_SENT, kind="release", conversation="c1"),
        entry(Event.CASEWORK_RECEIVED, kind="news", changes="retracted"),
        entry(Event.LOOKUP_RECEIVED, outcome="ANSWERED", took_ms=3, position=1, standing=1),
        entry(Event.LOOKUP_RECEIVED, outcome="ANSWERED", took_ms=3, position=1),
    )
    assert Outbox(member).deliver() == 4
    events = [(each["event"], each.get("kind", ""), each.get("conversation", ""), each.get("changes", "")) for each in told(home)]
    assert events == [
        ("request", "ask", "c1", ""),
        ("conversation", "message", "c1", ""),
        ("news", "news", "", "retracted"),
        ("standing-hit", "", "", ""),
    ]


@pytest.mark.skipif(os.geteuid() != 0 and os.environ.get("CI") != "true", reason="only root can become somebody else")
def test_run_as_becomes_the_user_that_is_named_and_no_other(home: Path, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(Path(tempfile.gettempdir())) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o711)
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    taker = tmp_path / "take"
    taker.write_text(f"#!/bin/sh\ncat > {out}/event\nid -un > {out}/who\nid -G > {out}/groups\n")
    taker.chmod(0o755)
    assert Outbox(happened(home, f'command = ["{taker}"]\nrun_as = "nobody"')).deliver() == 1
    assert (out / "who").read_text().strip() == "nobody"
    assert "0" not in (out / "groups").read_text().split()
    with pytest.raises(SourceError, match="must not be root"):
        Outbox(happened(home, f'command = ["{taker}"]\nrun_as = "root"')).deliver()
    with pytest.raises(SourceError, match="no user 'nobody-at-all'"):
        Outbox(happened(home, f'command = ["{taker}"]\nrun_as = "nobody-at-all"')).deliver()
