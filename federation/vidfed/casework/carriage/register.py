"""Whom this member told of which record: derived from its own audit log, which has every answer, on disk, before the answer leaves.

A lookup waits for nothing here: a bulk lookup that tells thousands of records a second must not wait for a second commit. Whoever asks for
details, and news, are judged after the register has caught up with the log, so that what was told is known whenever it matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vidfed.casework.errors import CaseworkStoreError
from vidfed.casework.storage import told as store
from vidfed.casework.storage.told import Told
from vidfed.security.audit.entries import Event
from vidfed.security.errors import AuditError
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.casework.storage.database import CaseworkDatabase
    from vidfed.security.audit.entries import SealedEntry

PLACE = "audit log"
_AT_ONCE = 2_000  # entries in one transaction, so that an ask that comes meanwhile waits for a moment only


class LogReader(Protocol):
    """What a log is read by."""

    def size(self) -> int:
        """Return the number of entries."""

    def entries(self, first: int, end: int) -> Iterator[tuple[int, SealedEntry]]:
        """Yield the entries of [first, end) with their positions."""


@dataclass(frozen=True, slots=True)
class ToldRegister:
    """Follows one member's audit log. Safe from several threads and processes."""

    database: CaseworkDatabase
    log: LogReader

    def catch_up(self) -> int:
        """Take in what the log has since the last time; return how many entries were read.

        Raises:
            CaseworkStoreError: the log cannot be read, or the register not written.
        """
        read = 0
        try:
            while True:
                size = self.log.size()
                with self.database.reading() as connection:
                    start, _ = store.reached(connection, PLACE)
                if start == size:
                    return read
                with self.database.writing() as connection:  # one at a time: another process may just have done it
                    start, _ = store.reached(connection, PLACE)
                    end = min(start + _AT_ONCE, size)  # behind it where a log was put back from a copy: the rest is read when it is written
                    if start < end:
                        store.note(connection, list(told_in(self.log.entries(start, end))))
                    store.reach(connection, PLACE, end)
                    read += max(end - start, 0)
        except AuditError as error:
            raise CaseworkStoreError(f"what was told cannot be read from the log: {error}") from None


def told_in(entries: Iterator[tuple[int, SealedEntry]]) -> Iterator[Told]:
    """Yield what log entries say was told. Self-tests tell of no record; what was dropped from the log says nothing."""
    for _, sealed in entries:
        if sealed.body is None:
            continue
        fields: dict[str, Any] = sealed.fields()
        if fields["event"] != Event.LOOKUP_ANSWERED.value or not fields["records"] or fields["purpose"] == Purpose.SELF_TEST.code:
            continue
        yield Told(
            lookup_digest=bytes.fromhex(fields["request"]),
            answer_digest=bytes.fromhex(fields["answer"]),
            member=fields["member"],
            pseudonym=fields["pseudonym"],
            told_ms=sealed.time_ms,
            references=tuple(fields["records"]),
            version=int(fields["details"].get("records_version", 0)),
        )
