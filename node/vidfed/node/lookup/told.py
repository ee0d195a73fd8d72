"""By how many different codes each member was told of each record: what bands need to mean something (docs/adr/0068).

Whoever may ask with one code after another learns something by each, however coarsely distances are told. So each code by which a member
is told of a record is counted, and once there are more than `MOST_CODES` of them that record is coarse for that member: its distances are
told in the widest band only, and of its hashes only a secret part is compared, the same one for everybody and for ever. Then no number of
questions tells anything about the rest.

Nothing is kept of what hit nothing, and of what did a keyed digest of 8 bytes, for `KEPT_MS`. One SQLite file that all processes of a node
share and a restart finds again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from vidfed.node.errors import QuotasError
from vidfed.node.search.coarse import compared_parts
from vidfed.node.search.query import FILM, Telling
from vidfed.security.clock import DAY_MS
from vidfed.security.sqlite import connect, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vidfed.index import Algorithm

MOST_CODES: Final = 4
"""Different codes of one algorithm by which a member is told of a record as the rule says; a picture in one more form is told coarsely."""

MOST_FILMS: Final = 2
"""The same for whole films, of which each question tells more."""

KEPT_MS: Final = 90 * DAY_MS
"""So long a code is counted, and a record stays coarse after it was last told so."""

MOST_ROWS: Final = 500_000
"""Of one member, some 50 MB; of more the oldest are forgotten."""

MOST_COARSE: Final = 10_000
"""Records of one member: all of them are compared with each of its questions, which takes 15 ms of a processor for a picture, and some
4 s for the largest question there is. Of more the ones told longest ago are as others again."""

_TIDY_EVERY: Final = 5_000  # rows written
_DIGEST_BYTES: Final = 8
_TOUCHED_MS: Final = DAY_MS  # how exactly it is known when a record was last told
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS key (key BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS told (
        member TEXT, record TEXT, kind TEXT, code BLOB, at_ms INTEGER, PRIMARY KEY (member, record, kind, code)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS coarse (member TEXT, record TEXT, told_ms INTEGER, PRIMARY KEY (member, record)) WITHOUT ROWID",
)


class ToldCodes:
    """Counts the codes by which members were told of records. Safe from several threads and several processes."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, making it if absent.

        Raises:
            QuotasError: it cannot be opened.
        """
        self._lock = threading.Lock()
        self._written = _TIDY_EVERY  # tidied at the first writing of each process
        try:
            self._database = connect(path, {"journal_mode": "WAL", "synchronous": "NORMAL"})
            with transaction(self._database):
                for statement in _SCHEMA:
                    self._database.execute(statement)
                rows = self._database.execute("SELECT key FROM key").fetchall()
                self._key: bytes = rows[0][0] if rows else os.urandom(32)
                if not rows:
                    self._database.execute("INSERT INTO key VALUES (?)", (self._key,))
        except (sqlite3.Error, OSError) as error:
            raise QuotasError(f"{path}: {error}") from None

    def coarse(self, member: str, now_ms: int) -> frozenset[str]:
        """Return the references of the records that are coarse for a member.

        Raises:
            QuotasError: it cannot be read.
        """
        with self._reading():
            wanted = "SELECT record FROM coarse WHERE member = ? AND told_ms > ?"
            return frozenset(row[0] for row in self._database.execute(wanted, (member, now_ms - KEPT_MS)))

    def count(self, member: str, tellings: Sequence[Telling], now_ms: int) -> frozenset[str]:
        """Count these before they are told, durably against a killed process, and return which of the records are coarse, then or before.

        Raises:
            QuotasError: it cannot be counted; nothing was, and nothing may be told.
        """
        if not tellings:
            return frozenset()
        with self._reading(), transaction(self._database):
            records = {telling.record for telling in tellings}
            coarse = {record for record in records if self._is_coarse(member, record, now_ms)}
            for telling in dict.fromkeys(tellings):
                if telling.record not in coarse and not self._room_for(member, telling, now_ms):
                    coarse.add(telling.record)
                    self._database.execute("INSERT OR REPLACE INTO coarse VALUES (?, ?, ?)", (member, telling.record, now_ms))
                    self._database.execute("DELETE FROM told WHERE member = ? AND record = ?", (member, telling.record))
            if self._written >= _TIDY_EVERY:
                self._tidy(now_ms)
            return frozenset(coarse)

    def compared(self, algorithm: Algorithm, code: bytes) -> NDArray[np.uint8]:
        """Return which part of a coarse record's hash is compared: uint8 as the code, with ones in the bits (PhotoDNA: numbers) that are.

        The same for one code whenever and for whomever it is asked, so that members together learn no more than one.
        """
        parts = algorithm.parts
        lots = hashlib.shake_256(b"\0".join((self._key, algorithm.value.encode(), code))).digest(8 * parts)
        chosen = np.zeros(parts, np.bool_)
        chosen[np.argsort(np.frombuffer(lots, "<u8"), kind="stable")[: compared_parts(algorithm)]] = True
        return np.packbits(chosen) if parts != algorithm.code_bytes else np.where(chosen, 255, 0).astype(np.uint8)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _is_coarse(self, member: str, record: str, now_ms: int) -> bool:
        wanted = "SELECT told_ms FROM coarse WHERE member = ? AND record = ? AND told_ms > ?"
        row = self._database.execute(wanted, (member, record, now_ms - KEPT_MS)).fetchone()
        if row is not None and row[0] < now_ms - _TOUCHED_MS:
            self._database.execute("UPDATE coarse SET told_ms = ? WHERE member = ? AND record = ?", (now_ms, member, record))
        return row is not None

    def _room_for(self, member: str, telling: Telling, now_ms: int) -> bool:
        """Count a code; False where it is one too many."""
        digest = hashlib.blake2b(telling.code, key=self._key, person=telling.kind.encode(), digest_size=_DIGEST_BYTES).digest()
        key = (member, telling.record, telling.kind)
        wanted = "SELECT code FROM told WHERE member = ? AND record = ? AND kind = ? AND at_ms > ?"
        known = {row[0] for row in self._database.execute(wanted, (*key, now_ms - KEPT_MS))}
        if digest in known:
            return True
        if len(known) >= (MOST_FILMS if telling.kind == FILM else MOST_CODES):
            return False
        self._database.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?, ?)", (*key, digest, now_ms))
        self._written += 1
        return True

    def _tidy(self, now_ms: int) -> None:
        """Forget what is old, and of members with too much the oldest."""
        self._written = 0
        for table, when, most in (("told", "at_ms", MOST_ROWS), ("coarse", "told_ms", MOST_COARSE)):
            self._database.execute(f"DELETE FROM {table} WHERE {when} <= ?", (now_ms - KEPT_MS,))  # noqa: S608 - our own names
            counted = f"SELECT member, count(*) FROM {table} GROUP BY member HAVING count(*) > ?"  # noqa: S608 - our own names
            for member, rows in self._database.execute(counted, (most,)).fetchall():
                order = f"SELECT {when} FROM {table} WHERE member = ? ORDER BY {when} LIMIT 1 OFFSET ?"  # noqa: S608 - our own names
                (oldest,) = self._database.execute(order, (member, rows - most)).fetchone()
                self._database.execute(f"DELETE FROM {table} WHERE member = ? AND {when} < ?", (member, oldest))  # noqa: S608 - our own names

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise QuotasError(f"codes told: {error}") from error
