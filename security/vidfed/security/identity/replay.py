"""Each message counts once: a time window, and a memory of the messages inside it that survives restarts.

Rules: a message is accepted if its issue time is within WINDOW_MS of now, it has not expired, and (issuer, message id) was not
seen. It is recorded only by callers that have verified its signature, so that outsiders cannot fill the memory; per issuer the
memory is bounded, and a full one refuses.

The memory says from which issue time on it knows everything, and refuses whatever is older. That moment only moves forward: a clock that
jumps far ahead and back makes the node refuse for a while, never take a message twice. A message is recorded without waiting for the disk:
what a process wrote outlives it, and after a restart of the whole machine, which may lose the last moments, the memory refuses what could
have been among them, for at most two windows.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vidfed.security.clock import MINUTE_MS, SECOND_MS, Clock, as_text, system_clock
from vidfed.security.errors import ForgottenError, ReplayError, ReplayMemoryError, TimeWindowError
from vidfed.security.sqlite import connect, connect_read_only, transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_MS = MINUTE_MS  # clocks of national units are kept by NTP; a minute forgives a bad one and bounds the memory
MESSAGE_ID_BYTES = 16
MAX_MESSAGES_PER_ISSUER = 1_000_000  # in one window: far above any rate limit; bounds the disk one member can use (about 60 MB)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# One statement records messages and keeps the rules: fewer steps under Python's lock.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS memory (
    one INTEGER PRIMARY KEY CHECK (one = 1), knows_from_ms INTEGER NOT NULL, boot TEXT NOT NULL, most INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS seen (issuer TEXT, message_id BLOB, issued_ms INTEGER, PRIMARY KEY (issuer, message_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_by_time ON seen (issued_ms);
CREATE TABLE IF NOT EXISTS counts (issuer TEXT, slot INTEGER, messages INTEGER, PRIMARY KEY (issuer, slot)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS known BEFORE INSERT ON seen BEGIN
    SELECT RAISE(ABORT, 'forgotten') WHERE NEW.issued_ms < coalesce((SELECT knows_from_ms FROM memory), NEW.issued_ms + 1);
    SELECT RAISE(ABORT, 'full') WHERE (SELECT sum(messages) FROM counts WHERE issuer = NEW.issuer) >= (SELECT most FROM memory);
END;
CREATE TRIGGER IF NOT EXISTS counted AFTER INSERT ON seen BEGIN
    INSERT INTO counts VALUES (NEW.issuer, NEW.issued_ms / {WINDOW_MS}, 1) ON CONFLICT DO UPDATE SET messages = messages + 1;
END;
"""  # noqa: S608 - a constant of this module


def check_time_window(issued_ms: int, expires_ms: int, now_ms: int) -> None:
    """Return if a message with these times may be acted on now.

    Raises:
        TimeWindowError: too old, expired, or from a clock that is ahead.
    """
    if issued_ms > now_ms + WINDOW_MS:
        raise TimeWindowError(f"written {(issued_ms - now_ms) // SECOND_MS} s ahead of the time here: one of the two clocks is wrong")
    if issued_ms < now_ms - WINDOW_MS:
        ago = (now_ms - issued_ms) // SECOND_MS
        raise TimeWindowError(f"written {ago} s ago by the clock here, too long: it was late, or one of the two clocks is wrong")
    if expires_ms <= now_ms:
        raise TimeWindowError(f"arrived {-(-(now_ms - expires_ms) // SECOND_MS)} s too late by the clock here")


class Message(NamedTuple):
    """What is remembered of a message: who issued it, its 16-byte id, when it was issued in ms since the epoch."""

    issuer: str
    message_id: bytes
    issued_ms: int


class ReplayMemory:
    """The messages seen inside the window, in a SQLite file that several processes may share.

    Safe from several threads.
    """

    def __init__(self, path: Path, *, clock: Clock = system_clock) -> None:
        """Open the memory at `path`, making it if absent.

        Raises:
            ReplayMemoryError: it cannot be opened.
        """
        self._path = path
        self._lock = threading.Lock()
        self._tidied_slot = 0
        try:
            self._database = connect(path, {"journal_mode": "WAL", "synchronous": "NORMAL"})
            self._database.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            boot = _BOOT_ID.read_text().strip()
            self._database.execute("INSERT OR IGNORE INTO memory VALUES (1, 0, ?, 0)", (boot,))
            # The machine was restarted since: whatever was issued until a window from now may have been seen just before.
            self._database.execute(
                "UPDATE memory SET knows_from_ms = max(knows_from_ms, ?), boot = ? WHERE boot <> ?", (clock() + WINDOW_MS, boot, boot)
            )
            self._database.execute("UPDATE memory SET most = ?", (MAX_MESSAGES_PER_ISSUER,))
        except (sqlite3.Error, OSError) as error:
            raise ReplayMemoryError(f"{path}: {error}") from None

    def record(self, messages: Sequence[Message], now_ms: int) -> list[ReplayError | None]:
        """Remember those messages that are new, all in one step. They outlive this process once this returns.

        Returns:
            For each message None, or why it must not be acted on: it was seen before, it cannot be known whether it was, or its issuer's
            share of the memory is full.

        Raises:
            ReplayMemoryError: the memory cannot be written: none of them was recorded, none may be acted on.
        """
        with self._lock:
            try:
                if now_ms // WINDOW_MS > self._tidied_slot:
                    self._tidy(now_ms)
                marks = ", ".join(["(?, ?, ?)"] * len(messages))
                values = [value for message in messages for value in message]
                try:
                    self._database.execute(f"INSERT INTO seen VALUES {marks}", values)  # noqa: S608 - marks
                except sqlite3.IntegrityError:  # one of them at least, and none was recorded
                    return self._record_each(messages)
            except sqlite3.Error as error:
                raise ReplayMemoryError(f"replay memory: {error}") from error
            return [None] * len(messages)

    def knows_from_ms(self) -> int:
        """Return from which time of issue on the memory knows everything: if that is in the future, nothing is accepted until then.

        Raises:
            ReplayMemoryError: the memory cannot be read.
        """
        try:
            ((knows_from_ms,),) = self._database.execute("SELECT knows_from_ms FROM memory").fetchall()
        except sqlite3.Error as error:
            raise ReplayMemoryError(f"replay memory: {error}") from error
        return int(knows_from_ms)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _record_each(self, messages: Sequence[Message]) -> list[ReplayError | None]:
        with transaction(self._database):
            return [self._insert(message) for message in messages]

    def _insert(self, message: Message) -> ReplayError | None:
        try:
            self._database.execute("INSERT INTO seen VALUES (?, ?, ?)", message)
        except sqlite3.IntegrityError as error:  # undoes this statement alone
            return self._refusal(str(error), message.issued_ms)
        return None

    def _tidy(self, now_ms: int) -> None:
        """Forget what could not pass the window any more, and note that it is forgotten before it is."""
        slot = now_ms // WINDOW_MS - 2
        self._database.execute("UPDATE memory SET knows_from_ms = max(knows_from_ms, ?)", (slot * WINDOW_MS,))
        self._database.execute("DELETE FROM seen WHERE issued_ms < ?", (slot * WINDOW_MS,))
        self._database.execute("DELETE FROM counts WHERE slot < ?", (slot,))
        self._tidied_slot = now_ms // WINDOW_MS

    def _refusal(self, reason: str, issued_ms: int) -> ReplayError:
        if reason == "forgotten":
            return ForgottenError(
                self.knows_from_ms(),
                f"{self._path}: what was issued at {as_text(issued_ms)} may have been seen and forgotten: this machine was just "
                "restarted, or its clock was ahead. It passes; if the clock was far ahead, set it, wait 2 minutes and delete the file",
            )
        if reason == "full":
            return ReplayMemoryError("too many messages in the time window")
        return ReplayError("this message was seen before")


def refuses_until_ms(path: Path, now_ms: int) -> int | None:
    """Return until when the memory in a file lets nothing be accepted; None if it does now, or there is none.

    Raises:
        ReplayMemoryError: it cannot be read.
    """
    if not path.exists():
        return None
    try:
        with contextlib.closing(connect_read_only(path)) as database:
            rows = database.execute("SELECT knows_from_ms FROM memory").fetchall()
    except sqlite3.Error as error:
        raise ReplayMemoryError(f"{path}: {error}") from None
    return rows[0][0] if rows and rows[0][0] > now_ms else None


def refusal_text(until_ms: int) -> str:
    """Say to whom it concerns until when nothing is accepted, and why."""
    return f"answers again from {as_text(until_ms)}: this machine was just restarted, or its clock was ahead"
