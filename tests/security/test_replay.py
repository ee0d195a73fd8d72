"""Replay: each message counts once, in this process, after a restart, and whichever process sees it."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidfed.security.errors import ReplayError, ReplayMemoryError, TimeWindowError
from vidfed.security.identity import replay
from vidfed.security.identity.replay import WINDOW_MS, Message, ReplayMemory, check_time_window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_800_000_000_000
ID = bytes(range(16))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[ReplayMemory]:
    made = ReplayMemory(tmp_path / "replay.db")
    yield made
    made.close()


def record(memory: ReplayMemory, issuer: str, message_id: bytes, issued_ms: int, now_ms: int) -> None:
    """Record one message; raise why it is refused."""
    (refusal,) = memory.record([Message(issuer, message_id, issued_ms)], now_ms)
    if refusal is not None:
        raise refusal


def test_a_new_message_is_accepted_once(memory: ReplayMemory) -> None:
    record(memory, "nl", ID, NOW, NOW)
    with pytest.raises(ReplayError, match="seen before"):
        record(memory, "nl", ID, NOW, NOW)


def test_of_messages_that_come_together_each_is_judged_by_itself(memory: ReplayMemory) -> None:
    first, second, third = (Message("nl", bytes([number]) * 16, NOW) for number in range(3))
    assert memory.record([first], NOW) == [None]
    once, again, twice, new = memory.record([second, first, second, third], NOW)
    assert (once, new) == (None, None)
    assert isinstance(again, ReplayError)
    assert isinstance(twice, ReplayError)
    assert all(isinstance(refusal, ReplayError) for refusal in memory.record([second, third], NOW))


def test_the_same_id_of_another_member_is_another_message(memory: ReplayMemory) -> None:
    assert list(memory.record([Message("nl", ID, NOW), Message("fr", ID, NOW)], NOW)) == [None, None]


def test_a_replay_with_another_issue_time_is_still_a_replay(memory: ReplayMemory) -> None:
    record(memory, "nl", ID, NOW, NOW)
    with pytest.raises(ReplayError):
        record(memory, "nl", ID, NOW + 1, NOW)


def test_replay_after_restart(tmp_path: Path) -> None:
    before = ReplayMemory(tmp_path / "replay.db")
    record(before, "nl", ID, NOW, NOW)
    before.close()
    after = ReplayMemory(tmp_path / "replay.db")
    with pytest.raises(ReplayError):
        record(after, "nl", ID, NOW, NOW)
    after.close()


def test_replay_after_a_crash(tmp_path: Path) -> None:
    child = os.fork()  # no thread runs in this test; the child ends without closing anything
    if child == 0:
        record(ReplayMemory(tmp_path / "replay.db"), "nl", ID, NOW, NOW)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    after = ReplayMemory(tmp_path / "replay.db")
    with pytest.raises(ReplayError):
        record(after, "nl", ID, NOW, NOW)
    after.close()


def test_replay_at_another_worker(memory: ReplayMemory, tmp_path: Path) -> None:
    other = ReplayMemory(tmp_path / "replay.db")
    record(memory, "nl", ID, NOW, NOW)
    with pytest.raises(ReplayError):
        record(other, "nl", ID, NOW, NOW)
    other.close()


def test_of_many_who_bring_the_same_message_at_once_one_succeeds(memory: ReplayMemory, tmp_path: Path) -> None:
    other = ReplayMemory(tmp_path / "replay.db")

    def bring(number: int) -> bool:
        try:
            record((memory, other)[number % 2], "nl", ID, NOW, NOW)
        except ReplayError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(bring, range(16))) == 1
    other.close()


def test_a_message_is_remembered_for_as_long_as_it_could_pass_the_window(memory: ReplayMemory) -> None:
    ahead = NOW + WINDOW_MS  # issued by a clock that is ahead: acceptable from now on, and for two windows
    record(memory, "nl", ID, ahead, NOW)
    last = ahead + WINDOW_MS
    check_time_window(ahead, last + 1, last)
    with pytest.raises(ReplayError):
        record(memory, "nl", ID, ahead, last)


def test_the_memory_forgets_what_is_too_old_to_pass_anyway(memory: ReplayMemory, tmp_path: Path) -> None:
    record(memory, "nl", ID, NOW, NOW)
    record(memory, "nl", bytes(16), NOW + 3 * WINDOW_MS, NOW + 3 * WINDOW_MS)
    with sqlite3.connect(tmp_path / "replay.db") as database:
        assert database.execute("SELECT count(*) FROM seen").fetchone() == (1,)
    database.close()


def test_replay_cache_flooded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_MESSAGES_PER_ISSUER", 3)
    memory = ReplayMemory(tmp_path / "replay.db")
    for number in range(3):
        record(memory, "nl", bytes([number]) * 16, NOW + number * WINDOW_MS // 2, NOW)
    with pytest.raises(ReplayMemoryError, match="too many"):
        record(memory, "nl", b"\xff" * 16, NOW, NOW)
    record(memory, "fr", b"\xff" * 16, NOW, NOW)  # nobody else suffers
    later = NOW + 4 * WINDOW_MS
    record(memory, "nl", b"\xff" * 16, later, later)
    memory.close()


def test_clock_jumps_far_ahead_and_back(memory: ReplayMemory, tmp_path: Path) -> None:
    """Under the clock that was ahead the old message is forgotten, but not that it could have been."""
    record(memory, "nl", ID, NOW, NOW)
    ahead = NOW + 60 * WINDOW_MS
    record(memory, "nl", bytes(16), ahead, ahead)
    other = ReplayMemory(tmp_path / "replay.db")
    for each in (memory, other):
        with pytest.raises(ReplayMemoryError, match="clock was ahead"):
            record(each, "nl", ID, NOW, NOW)
    record(other, "nl", b"\xff" * 16, ahead, ahead)
    other.close()


def test_after_a_restart_of_the_machine_what_may_have_been_lost_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "replay.db"
    ReplayMemory(path, clock=lambda: NOW).close()
    (tmp_path / "boot").write_text("another boot\n")
    monkeypatch.setattr(replay, "_BOOT_ID", tmp_path / "boot")
    memory = ReplayMemory(path, clock=lambda: NOW)
    with pytest.raises(ReplayMemoryError, match="restarted"):
        record(memory, "nl", ID, NOW + WINDOW_MS - 1, NOW)
    record(memory, "nl", ID, NOW + WINDOW_MS, NOW)
    memory.close()


def test_a_restart_of_the_node_alone_loses_nothing(tmp_path: Path) -> None:
    ReplayMemory(tmp_path / "replay.db", clock=lambda: NOW).close()
    memory = ReplayMemory(tmp_path / "replay.db", clock=lambda: NOW)
    assert list(memory.record([Message("nl", ID, NOW - WINDOW_MS)], NOW)) == [None]
    memory.close()


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 3), st.integers(-WINDOW_MS, WINDOW_MS)), max_size=30))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_clock_does_no_message_is_taken_twice(tmp_path: Path, steps: list[tuple[int, int, int]]) -> None:
    memory = ReplayMemory(tmp_path / f"{secrets.token_hex(8)}.db")
    taken: set[tuple[int, int]] = set()
    now = NOW
    for jump, number, skew in steps:
        now += jump * WINDOW_MS
        message = (number, now + skew)
        with contextlib.suppress(ReplayError):
            record(memory, "nl", bytes([number]) * 16, message[1], now)
            assert message not in taken
            taken.add(message)
        for issued in {issued for same, issued in taken if same == number}:  # each of them again, while it could pass the window
            if abs(issued - now) <= WINDOW_MS:
                with pytest.raises(ReplayError):
                    record(memory, "nl", bytes([number]) * 16, issued, now)
    memory.close()


def test_a_memory_that_cannot_be_written_refuses(memory: ReplayMemory, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "replay.db") as database:
        database.execute("DROP TABLE seen")
    database.close()
    with pytest.raises(ReplayMemoryError, match="replay memory"):
        record(memory, "nl", ID, NOW, NOW)


def test_a_closed_memory_refuses(memory: ReplayMemory) -> None:
    memory.close()
    with pytest.raises(ReplayError):
        record(memory, "nl", ID, NOW, NOW)


def test_a_damaged_memory_is_an_error_of_ours_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "replay.db").write_bytes(b"this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(ReplayMemoryError, match=r"replay\.db"):
        ReplayMemory(tmp_path / "replay.db")


@pytest.mark.parametrize("skew_ms", [-WINDOW_MS, 0, WINDOW_MS])
def test_a_message_inside_the_window_passes(skew_ms: int) -> None:
    check_time_window(NOW + skew_ms, NOW + 1, NOW)


@pytest.mark.parametrize(
    ("issued_ms", "expires_ms", "said"),
    [
        (NOW - WINDOW_MS - 1, NOW + 1, "too long"),
        (NOW + WINDOW_MS + 1, NOW + WINDOW_MS + 2, "ahead of the time"),
        (NOW, NOW, "too late"),
        (NOW, NOW - 1, "too late"),
        (0, 0, "too long"),
        (2**63 - 1, 2**63 - 1, "ahead of the time"),
        (-(2**63), 2**63 - 1, "too long"),
        (NOW, -(2**63), "too late"),
    ],
)
def test_a_message_outside_the_window_is_refused_and_told_why(issued_ms: int, expires_ms: int, said: str) -> None:
    with pytest.raises(TimeWindowError, match=said):
        check_time_window(issued_ms, expires_ms, NOW)
