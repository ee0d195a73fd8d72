"""What a gateway keeps of lookups: sealed, for one person, for a time, in a bounded room, and still there after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.disk import full_disk
from tests.support.memory import SettableClock
from vidfed.federation.gateway.mailbox import Mailbox
from vidfed.federation.lookup.errors import MailboxError
from vidfed.federation.lookup.sealing import new_key, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_MS = 3_600_000
ID, OTHER = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def kept(tmp_path: Path, clock: SettableClock) -> Iterator[Mailbox]:
    opened = Mailbox(tmp_path / "lookups.db", max_bytes=1000, keep_ms=HOUR_MS, clock=clock)
    yield opened
    opened.close()


def begin(kept: Mailbox, lookup: bytes = ID, person: str = "inv-1") -> None:
    kept.begin(lookup, person, asked=2, collecting_until_ms=7)


@given(st.binary(max_size=200))
def test_what_is_sealed_is_opened_with_the_private_key_alone(reply: bytes) -> None:
    private, public = new_key()
    sealed = seal(reply, public)
    assert unseal(sealed, private) == reply
    assert reply not in sealed or len(reply) < 4
    with pytest.raises(MailboxError, match="sealed for another key"):
        unseal(sealed, new_key()[0])
    with pytest.raises(MailboxError):
        unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), private)


def test_replies_are_given_back_to_the_person_who_asked_and_to_nobody_else(kept: Mailbox) -> None:
    begin(kept)
    kept.keep(ID, "fr", b"sealed", final=True)
    assert kept.fetch(ID, "inv-1") == [("fr", b"sealed")]
    for lookup, person in ((ID, "inv-2"), (OTHER, "inv-1")):
        with pytest.raises(MailboxError, match="no such lookup of yours"):
            kept.fetch(lookup, person)
    assert kept.listed("inv-2") == []


def test_the_list_says_how_each_stands_and_the_newest_is_first(kept: Mailbox, clock: SettableClock) -> None:
    begin(kept)
    clock.advance(5)
    begin(kept, OTHER)
    kept.keep(ID, "fr", b"sealed", final=True)
    newest, oldest = kept.listed("inv-1")
    assert (newest.id, newest.replies, newest.asked) == (OTHER, 0, 2)
    assert (oldest.id, oldest.replies, oldest.collecting_until_ms) == (ID, 1, 7)
    assert oldest.kept_until_ms == oldest.asked_ms + HOUR_MS


def test_an_answer_replaces_a_failure_and_a_failure_replaces_nothing(kept: Mailbox) -> None:
    begin(kept)
    kept.keep(ID, "fr", b"timeout", final=False)
    kept.keep(ID, "fr", b"answer", final=True)
    kept.keep(ID, "fr", b"later failure", final=False)
    assert kept.fetch(ID, "inv-1") == [("fr", b"answer")]


def test_after_its_time_a_lookup_is_gone_also_from_the_file(kept: Mailbox, clock: SettableClock, tmp_path: Path) -> None:
    begin(kept)
    kept.keep(ID, "fr", b"a sealed reply to be found", final=True)
    clock.advance(HOUR_MS)
    assert kept.listed("inv-1") == []
    with pytest.raises(MailboxError):
        kept.fetch(ID, "inv-1")
    begin(kept, OTHER)
    kept.close()
    assert b"a sealed reply to be found" not in (tmp_path / "lookups.db").read_bytes()


def test_forgetting_deletes_the_replies_and_what_comes_later_is_not_kept(kept: Mailbox) -> None:
    begin(kept)
    kept.keep(ID, "fr", b"sealed", final=True)
    kept.forget(ID, "inv-2")
    assert kept.listed("inv-1")
    kept.forget(ID, "inv-1")
    assert kept.listed("inv-1") == []
    kept.keep(ID, "nl", b"late", final=True)
    with pytest.raises(MailboxError):
        kept.fetch(ID, "inv-1")


def test_there_is_room_for_so_much_and_again_when_time_has_passed(kept: Mailbox, clock: SettableClock) -> None:
    begin(kept)
    kept.keep(ID, "fr", bytes(900), final=True)
    with pytest.raises(MailboxError, match="no room"):
        kept.keep(ID, "nl", bytes(101), final=True)
    kept.keep(ID, "nl", bytes(100), final=True)
    with pytest.raises(MailboxError, match="no room"):
        begin(kept, OTHER)
    clock.advance(HOUR_MS)
    begin(kept, OTHER)
    kept.keep(OTHER, "fr", bytes(900), final=True)


def test_room_is_counted_again_when_the_file_is_opened(kept: Mailbox, clock: SettableClock, tmp_path: Path) -> None:
    begin(kept)
    kept.keep(ID, "fr", bytes(900), final=True)
    again = Mailbox(tmp_path / "lookups.db", max_bytes=1000, keep_ms=HOUR_MS, clock=clock)
    with pytest.raises(MailboxError, match="no room"):
        again.keep(ID, "nl", bytes(101), final=True)
    again.close()


def test_disk_full(kept: Mailbox) -> None:
    begin(kept)
    with full_disk(), pytest.raises(MailboxError):
        kept.keep(ID, "fr", bytes(500), final=True)
    kept.keep(ID, "fr", b"sealed", final=True)
    assert kept.fetch(ID, "inv-1") == [("fr", b"sealed")]


def test_a_file_that_is_none_is_named(tmp_path: Path, clock: SettableClock) -> None:
    path = tmp_path / "lookups.db"
    path.write_bytes(b"something else, and long enough to be looked at" * 100)
    with pytest.raises(MailboxError, match=r"lookups\.db: "):
        Mailbox(path, max_bytes=1, keep_ms=1, clock=clock)


def test_the_file_is_its_owner_s_alone(kept: Mailbox, tmp_path: Path) -> None:
    begin(kept)
    assert (tmp_path / "lookups.db").stat().st_mode & 0o077 == 0


_KEEP_AND_WAIT = """
import sys, time
from pathlib import Path
from vidfed.federation.gateway.mailbox import Mailbox
from vidfed.security.clock import system_clock
kept = Mailbox(Path(sys.argv[1]), max_bytes=1000, keep_ms=3600000, clock=system_clock)
kept.begin(bytes(32), "inv-1", asked=2, collecting_until_ms=7)
kept.keep(bytes(32), "fr", b"sealed", final=True)
print("kept", flush=True)
time.sleep(60)
"""


def test_killed_while_collecting(tmp_path: Path, clock: SettableClock) -> None:
    path = tmp_path / "lookups.db"
    process = subprocess.Popen([sys.executable, "-c", _KEEP_AND_WAIT, str(path)], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"kept\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept = Mailbox(path, max_bytes=1000, keep_ms=HOUR_MS, clock=clock)
    assert kept.fetch(bytes(32), "inv-1") == [("fr", b"sealed")]
    kept.close()
