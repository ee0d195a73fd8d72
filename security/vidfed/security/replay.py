"""Each message counts once: a time window, and a memory of the messages inside it that survives restarts.

Rules: a message is accepted if its issue time is within WINDOW_MS of now, it has not expired, and (issuer, message id) was not
seen. It is recorded only by callers that have verified its signature, so that outsiders cannot fill the memory; per issuer the
memory is bounded, and a full one refuses.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

from vidfed.security.clock import MINUTE_MS, as_text
from vidfed.security.errors import ReplayError, ReplayMemoryError, TimeWindowError

if TYPE_CHECKING:
    from pathlib import Path

WINDOW_MS = MINUTE_MS  # clocks of national units are kept by NTP; a minute forgives a bad one and bounds the memory
MESSAGE_ID_BYTES = 16
MAX_MESSAGES_PER_ISSUER = 1_000_000  # in one window: far above any rate limit; bounds the disk one member can use (about 60 MB)


def check_time_window(issued_ms: int, expires_ms: int, now_ms: int) -> None:
    """Return if a message with these times may be acted on now.

    Raises:
        TimeWindowError: too old, expired, or from a clock that is ahead.
    """
    if issued_ms > now_ms + WINDOW_MS:
        raise TimeWindowError(f"issued at {as_text(issued_ms)}, which is in the future here: compare the clocks")
    if issued_ms < now_ms - WINDOW_MS:
        raise TimeWindowError(f"issued at {as_text(issued_ms)}, more than {WINDOW_MS // 1000} s ago: too old, or compare the clocks")
    if expires_ms <= now_ms:
        raise TimeWindowError(f"expired at {as_text(expires_ms)}")


class ReplayMemory:
    """The messages seen inside the window, in a SQLite file that several processes may share.

    Safe from several threads.
    """

    def __init__(self, path: Path) -> None:
        """Open the memory at `path`, making it if absent.

        Raises:
            ReplayMemoryError: it cannot be opened.
        """
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, timeout=5, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS seen "
                "(issuer TEXT, message_id BLOB, issued_ms INTEGER, PRIMARY KEY (issuer, message_id)) WITHOUT ROWID"
            )
            self._database.execute("CREATE INDEX IF NOT EXISTS seen_by_time ON seen (issued_ms)")
        except sqlite3.Error as error:
            raise ReplayMemoryError(f"{path}: {error}") from None

    def record(self, issuer: str, message_id: bytes, issued_ms: int, now_ms: int) -> None:
        """Remember a message, durably, if it is new.

        Raises:
            ReplayError: it was seen before.
            ReplayMemoryError: the issuer's share of the memory is full, or the memory cannot be written (fails closed).
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    # An entry may go when no message with its issue time could pass the window any more.
                    self._database.execute("DELETE FROM seen WHERE issued_ms < ?", (now_ms - 2 * WINDOW_MS,))
                    (count,) = self._database.execute("SELECT count(*) FROM seen WHERE issuer = ?", (issuer,)).fetchone()
                    if count >= MAX_MESSAGES_PER_ISSUER:
                        raise ReplayMemoryError("too many messages in the time window")
                    self._database.execute("INSERT INTO seen VALUES (?, ?, ?)", (issuer, message_id, issued_ms))
                    self._database.execute("COMMIT")
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
            except sqlite3.IntegrityError:
                raise ReplayError("this message was seen before") from None
            except sqlite3.Error as error:
                raise ReplayMemoryError(f"replay memory: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
