"""The log of what was asked and answered: an entry is on disk before the reply leaves.

An append-only table so far; entries hold digests, never a hash of a picture nor the text of a case.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import astuple, dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING

from vidfed.security.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path


class Operation(Enum):
    """The six operations that supervisors require to be logged (Directive (EU) 2016/680, article 25)."""

    COLLECTION = "collection"
    ALTERATION = "alteration"
    CONSULTATION = "consultation"
    DISCLOSURE = "disclosure"
    COMBINATION = "combination"
    ERASURE = "erasure"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One event.

    Attributes:
        time_ms: when.
        operation: which of the six operations.
        member, pseudonym: who asked.
        purpose: why.
        request_digest: SHA-256 of the request's signed bytes.
        outcome: stable status name.
        records_disclosed: number of records told about.
    """

    time_ms: int
    operation: Operation
    member: str
    pseudonym: str
    purpose: str
    request_digest: bytes
    outcome: str
    records_disclosed: int


class AuditLog:
    """An append-only log in a SQLite file. Safe from several threads and processes."""

    def __init__(self, path: Path) -> None:
        """Open the log at `path`, making it if absent.

        Raises:
            AuditError: it cannot be opened.
        """
        self._lock = threading.Lock()
        columns = ", ".join(field.name for field in fields(AuditEntry))
        try:
            self._database = sqlite3.connect(path, timeout=5, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute(f"CREATE TABLE IF NOT EXISTS entries (position INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
        except sqlite3.Error as error:
            raise AuditError(f"{path}: {error}") from None

    def append(self, entry: AuditEntry) -> int:
        """Write an entry and return its position, counted from 1, once it is on disk.

        Raises:
            AuditError: it cannot be written; the caller must not answer.
        """
        values = tuple(value.value if isinstance(value, Operation) else value for value in astuple(entry))
        marks = ", ".join("?" * (len(values) + 1))
        with self._lock:
            try:
                position = self._database.execute(f"INSERT INTO entries VALUES ({marks})", (None, *values)).lastrowid  # noqa: S608 - only question marks
            except sqlite3.Error as error:
                raise AuditError(f"audit log: {error}") from error
        if position is None:
            raise AuditError("audit log: no position was given")
        return position

    def __len__(self) -> int:
        with self._lock:
            (count,) = self._database.execute("SELECT count(*) FROM entries").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
