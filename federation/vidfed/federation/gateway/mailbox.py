"""Replies that a gateway keeps, so that an investigator can close the laptop and fetch them later.

They are sealed for the investigator alone (see `lookup/sealing.py`). The gateway never has the private half: whoever takes its disk, its
backup or its operator's place later reads who asked when, and how many members answered, and nothing else. Only the
person who asked may fetch them, and only as long as the private key exists.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

from vidfed.federation.lookup.contract import MailboxEntry
from vidfed.federation.lookup.errors import MailboxError
from vidfed.security.clock import MINUTE_MS
from vidfed.security.sqlite import connect

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.clock import Clock

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lookups (
    id BLOB PRIMARY KEY, owner TEXT NOT NULL, asked_ms INTEGER NOT NULL, collecting_until_ms INTEGER NOT NULL,
    kept_until_ms INTEGER NOT NULL, asked INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lookups_by_end ON lookups (kept_until_ms);
CREATE TABLE IF NOT EXISTS replies (
    lookup BLOB NOT NULL REFERENCES lookups ON DELETE CASCADE, member TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (lookup, member)
) WITHOUT ROWID;
"""


class Mailbox:
    """The SQLite file the gateway keeps sealed replies in. Survives a killed process. Safe from several threads; every call blocks."""

    def __init__(self, path: Path, *, max_bytes: int, keep_ms: int, clock: Clock) -> None:
        """Open the file, making it with mode 0600 if absent.

        Args:
            path: SQLite file.
            max_bytes: of sealed replies, of all lookups together.
            keep_ms: how long a lookup is kept.
            clock: what the time goes by.

        Raises:
            MailboxError: it cannot be opened.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._keep_ms = keep_ms
        self._clock = clock
        self._lock = threading.Lock()
        self._pruned_ms = 0
        try:
            # NORMAL: a killed process loses nothing, a power cut may lose the last moments, which can be asked again.
            pragmas = {"journal_mode": "WAL", "synchronous": "NORMAL", "foreign_keys": "ON", "secure_delete": "ON"}
            self._database = connect(path, pragmas)
            self._database.executescript(_SCHEMA)
            ((self._bytes,),) = self._database.execute("SELECT coalesce(sum(length(sealed)), 0) FROM replies").fetchall()
        except (sqlite3.Error, OSError) as error:
            raise MailboxError(f"{path}: {error}") from None

    def begin(self, lookup: bytes, owner: str, *, asked: int, collecting_until_ms: int) -> None:
        """Begin to keep a lookup, after dropping those whose time is over.

        Args:
            lookup: its id.
            owner: whose: the first serial of a person's credentials, so that a new kit of the same name has none of it.
            asked: how many members.
            collecting_until_ms: until when answers are collected.

        Raises:
            MailboxError: there is no room, or the file cannot be written.
        """
        now_ms = self._clock()
        if now_ms - self._pruned_ms >= MINUTE_MS or self._bytes >= self._max_bytes:
            self.prune()
        row = (lookup, owner, now_ms, collecting_until_ms, now_ms + self._keep_ms, asked)
        with self._lock:
            if self._bytes >= self._max_bytes:
                raise MailboxError("there is no room for more: [gateway] keep_max_mib")
            self._execute("INSERT OR IGNORE INTO lookups VALUES (?, ?, ?, ?, ?, ?)", row)

    def keep(self, lookup: bytes, member: str, sealed: bytes, *, final: bool) -> None:
        """Keep one member's reply.

        Args:
            lookup: begun before; if it was forgotten meanwhile nothing is kept.
            member: whose reply.
            sealed: from `seal`.
            final: True for an answer, which replaces a failure; False for a failure, which replaces nothing.

        Raises:
            MailboxError: there is no room, or the file cannot be written.
        """
        with self._lock:
            if self._bytes + len(sealed) > self._max_bytes:
                raise MailboxError("there is no room for more: [gateway] keep_max_mib")
            what = "REPLACE" if final else "IGNORE"
            statement = f"INSERT OR {what} INTO replies SELECT id, ?, ? FROM lookups WHERE id = ?"  # noqa: S608 - one of two words
            if self._execute(statement, (member, sealed, lookup)).rowcount:
                self._bytes += len(sealed)  # an upper bound while something was replaced; made exact by `prune`

    def listed(self, owner: str) -> list[MailboxEntry]:
        """Return one person's lookups, the newest first.

        Raises:
            MailboxError: the file cannot be read.
        """
        query = (
            "SELECT id, asked_ms, collecting_until_ms, kept_until_ms, asked, (SELECT count(*) FROM replies WHERE lookup = id)"
            " FROM lookups WHERE owner = ? AND kept_until_ms > ? ORDER BY asked_ms DESC"
        )
        with self._lock:
            return [MailboxEntry(*row) for row in self._execute(query, (owner, self._clock())).fetchall()]

    def fetch(self, lookup: bytes, owner: str) -> list[tuple[str, bytes]]:
        """Return (member, sealed reply) of one of this person's lookups.

        Raises:
            MailboxError: nothing is kept under this id for this person; whether it is for another is not told.
        """
        with self._lock:
            known = "SELECT 1 FROM lookups WHERE id = ? AND owner = ? AND kept_until_ms > ?"
            if not self._execute(known, (lookup, owner, self._clock())).fetchone():
                raise MailboxError("the gateway keeps no such lookup of yours")
            return self._execute("SELECT member, sealed FROM replies WHERE lookup = ? ORDER BY member", (lookup,)).fetchall()

    def forget(self, lookup: bytes, owner: str) -> None:
        """Delete what is kept of one of this person's lookups, if anything is.

        Raises:
            MailboxError: the file cannot be written.
        """
        with self._lock:
            self._execute("DELETE FROM lookups WHERE id = ? AND owner = ?", (lookup, owner))

    def prune(self) -> int:
        """Delete lookups whose time is over, and return how many.

        Raises:
            MailboxError: the file cannot be written.
        """
        with self._lock:
            self._pruned_ms = self._clock()
            gone = self._execute("DELETE FROM lookups WHERE kept_until_ms <= ?", (self._pruned_ms,)).rowcount
            ((self._bytes,),) = self._execute("SELECT coalesce(sum(length(sealed)), 0) FROM replies", ()).fetchall()
            return gone

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _execute(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise MailboxError(f"{self._path}: {error}") from None
