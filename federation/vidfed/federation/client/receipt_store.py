"""Where a kit keeps its receipts: one SQLite file, mode 0600, whatever the number. A receipt is on disk once keeping it has returned.

A case of 100,000 pictures leaves a quarter of a million receipts at 194 nodes: too many for a file each. What has come in a moment is
written in one transaction, because a transaction costs as much as a hundred receipts in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Self

from google.protobuf.message import DecodeError

from vidfed.federation.lookup.errors import MailboxError
from vidfed.federation.lookup.receipts import Receipt
from vidfed.security.clock import DAY_MS
from vidfed.security.sqlite import connect, transaction
from vidfed.v1 import envelope_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RECEIPT_DAYS = 365
"""How long a kit keeps receipts; after as long a time a node may have dropped what its entry says, unless it set another."""
RECEIPTS_FILE = "receipts.db"
"""The file's name in the kit's folder."""

_GATHER_S = 0.2
_BUSY_S = 30.0  # another program with the same kit writes for milliseconds
_BATCH = 200  # receipts in memory at a time
_SCHEMA = """
CREATE TABLE IF NOT EXISTS receipts (
    name TEXT PRIMARY KEY, federation TEXT NOT NULL, member TEXT NOT NULL, asked_ms INTEGER NOT NULL, case_reference TEXT NOT NULL,
    answer BLOB NOT NULL);
"""
_COLUMNS = "name, federation, member, asked_ms, case_reference, answer"
_log = logging.getLogger(__name__)


class ReceiptStore:
    """The receipts of one kit. Safe from several threads and processes. Use as a context manager, or close it."""

    def __init__(self, path: Path) -> None:
        """Use this file, which is made when the first receipt is kept."""
        self.path = path
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None
        self._pruned_day = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keep(self, receipts: Sequence[Receipt]) -> None:
        """Write receipts, all or none; one that is there already changes nothing. Drops what is older than RECEIPT_DAYS once a day.

        Raises:
            MailboxError: they could not be written.
        """
        rows = [_row(each) for each in receipts]
        newest_ms = max((each.asked_ms for each in receipts), default=0)
        with self._lock, self._failures():
            database = self._connection()
            with transaction(database):
                database.executemany("INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?, ?, ?)", rows)
                if newest_ms // DAY_MS > self._pruned_day:
                    before = Receipt.name_begins(newest_ms - RECEIPT_DAYS * DAY_MS)
                    database.execute("DELETE FROM receipts WHERE name < ?", (before,))
                    self._pruned_day = newest_ms // DAY_MS

    def all(self) -> Iterator[Receipt]:
        """Yield every receipt, the oldest first, few in memory at a time.

        Raises:
            MailboxError: they cannot be read.
        """
        name = ""
        while rows := self._rows(f"SELECT {_COLUMNS} FROM receipts WHERE name > ? ORDER BY name LIMIT ?", name, _BATCH):  # noqa: S608 - constant
            yield from map(self._receipt, rows)
            name = rows[-1][0]

    def named(self, name: str) -> Receipt:
        """Return one receipt by its name.

        Raises:
            MailboxError: there is none of this name, or it cannot be read.
        """
        for row in self._rows(f"SELECT {_COLUMNS} FROM receipts WHERE name = ?", name):  # noqa: S608 - constant
            return self._receipt(row)
        raise MailboxError(f"{self.path}: no receipt {name!r:.100}; `vidfed audit check-receipt` names those there are")

    def close(self) -> None:
        """Close the file; keeping another opens it again."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            opened = connect(self.path, {"journal_mode": "WAL", "synchronous": "FULL", "secure_delete": "ON"}, busy_s=_BUSY_S)
            try:
                opened.executescript(_SCHEMA)
            except BaseException:
                opened.close()
                raise
            self._open = opened
        return self._open

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock, self._failures():
            return self._connection().execute(query, values).fetchall() if self._open or self.path.exists() else []

    def _receipt(self, row: Sequence[Any]) -> Receipt:
        name, federation, member, asked_ms, case_reference, answer = row
        try:
            envelope = wire_envelope.from_message(pb.Envelope.FromString(answer))
        except (DecodeError, WireError) as error:
            raise MailboxError(f"{self.path}: receipt {name}: {error}") from None
        return Receipt(federation, member, asked_ms, case_reference, envelope)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise MailboxError(f"{self.path}: {error}") from None


def _row(receipt: Receipt) -> tuple[object, ...]:
    answer = wire_envelope.to_message(receipt.answer).SerializeToString()
    return receipt.name, receipt.federation, receipt.member, receipt.asked_ms, receipt.case_reference, answer


class ReceiptWriter:
    """Has receipts written while answers still come in. An async context manager: leaving it waits until all of them are on disk."""

    def __init__(self, store: ReceiptStore) -> None:
        self._store = store
        self._waiting: list[Receipt] = []
        self._writing: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leaving.set()
        while self._writing is not None:
            await self._writing

    def add(self, receipt: Receipt) -> None:
        """Have a receipt written, with what else comes in the next moment."""
        self._waiting.append(receipt)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), _GATHER_S)
        batch, self._waiting = self._waiting, []
        try:
            await asyncio.to_thread(self._store.keep, batch)
        except MailboxError as error:  # what the nodes said is worth more than the proof that they said it
            _log.warning("%d receipts could not be kept: %s", len(batch), error)
        self._writing = asyncio.create_task(self._write()) if self._waiting else None
