"""Back to the unit's own system: what happened here about its records, at least once each, with an id that stays the same.

The audit log is the queue: what is in it happened, and an entry's place in it is its number for ever. Nothing of a question is told but who
asked and why; no hash, no sealed text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from vidfed.node.records import schema
from vidfed.node.records.known import open_store
from vidfed.node.sources.errors import SourceError, SourceReadError
from vidfed.node.sources.remote.process import run_command
from vidfed.security.audit import Event
from vidfed.security.clock import as_text
from vidfed.security.errors import NoLogError
from vidfed.security.files import write_private
from vidfed.security.member.audit_log import open_storage
from vidfed.security.settings import check_above_zero

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from vidfed.node.records.store import RecordStore
    from vidfed.security.audit.storage.tables import Storage
    from vidfed.security.member.home import MemberHome

AT_ONCE = 1_000
"""Entries of the log looked at before the place reached is noted."""
_TOLD = frozenset({Event.LOOKUP_ANSWERED.value})
_SCHEMA = "vidfed.outbox/1"


@dataclass(frozen=True, slots=True)
class OutboxSection:
    """`[outbox]`: where the unit's own system is told what happened about its records. Neither path nor command: nowhere.

    Attributes:
        path: file to which JSON lines are added, relative to the member's folder.
        command: program and arguments, run for each event with its JSON on standard input; status 0 means taken.
        run_as: user of this machine for the command; empty: the node's own.
        every_s: seconds between two looks at the log.
    """

    path: str = ""
    command: tuple[str, ...] = ()
    run_as: str = ""
    every_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.path and self.command:
            raise ValueError("path: give either a path or a command")
        check_above_zero(self, "every_s")


class Outbox:
    """Delivers a member's events."""

    def __init__(self, home: MemberHome) -> None:
        self._home = home
        self._section = home.section("outbox", OutboxSection)
        self._place = home.state_file("outbox.json")

    @property
    def is_wanted(self) -> bool:
        """Whether events are delivered anywhere."""
        return bool(self._section.path or self._section.command)

    async def run(self) -> None:
        """Deliver until cancelled; what cannot be delivered is tried again, nothing is passed by. Whoever starts this supervises it."""
        while True:
            await asyncio.to_thread(self.deliver)
            await asyncio.sleep(self._section.every_s)

    def deliver(self) -> int:
        """Deliver what happened since the last time, and return how many events that were.

        Raises:
            SourceError: an event was not taken; it and what follows are delivered the next time.
            AuditError, StoreError: log or records cannot be read.
        """
        try:
            storage = open_storage(self._home)
        except NoLogError:
            return 0
        delivered = 0
        with contextlib.closing(storage), open_store(self._home, reads_only=True) as store:
            size, start = storage.size(), self._reached(storage)
            while start < size:
                end = min(start + AT_ONCE, size)
                for position, entry in storage.entries(start, end):
                    fields = entry.fields() if entry.body is not None else {}
                    if fields.get("event") in _TOLD and fields.get("records"):
                        self._tell(self._event(store, position, entry.time_ms, fields))
                        self._note(position + 1, entry.time_ms)
                        delivered += 1
                self._note(end, _time_of(storage, end - 1))
                start = end
        return delivered

    def _event(self, store: RecordStore, position: int, time_ms: int, fields: Mapping[str, Any]) -> dict[str, object]:
        return {
            "schema": _SCHEMA,
            "id": f"{self._home.federation}/{self._home.member}/{position}-{time_ms}",  # a log put back gives positions again
            "time": as_text(time_ms),
            "event": "asked",
            "member": fields["member"],
            "purpose": fields.get("purpose", ""),
            "records": list(_keys(store, fields["records"])),
        }

    def _tell(self, event: Mapping[str, object]) -> None:
        document = json.dumps(event, ensure_ascii=False).encode() + b"\n"
        if self._section.command:
            run_command(self._section.command, document, run_as=self._section.run_as)
            return
        path = self._home.folder / self._section.path
        try:
            _append(path, document)
        except OSError as error:
            raise SourceReadError(f"[outbox] path: {path}: {error.strerror}") from None

    def _reached(self, storage: Storage) -> int:
        """Return where to go on; at the beginning if the log is not the one that was followed: another copy of it was put back."""
        try:
            noted = json.loads(self._place.read_bytes())
            reached, time_ms = int(noted["next"]), int(noted["time_ms"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError):
            raise SourceError(f"{self._place} cannot be read: remove it, and all that the log holds is delivered again") from None
        same = reached <= storage.size() and (not time_ms or _time_of(storage, reached - 1) in {0, time_ms})
        return reached if same else 0

    def _note(self, position: int, time_ms: int) -> None:
        write_private(self._place, json.dumps({"next": position, "time_ms": time_ms}).encode())


def _time_of(storage: Storage, position: int) -> int:
    """Return when an entry was written, 0 where it is not there any more."""
    return next((entry.time_ms for _, entry in storage.entries(position, position + 1)), 0)


def _keys(store: RecordStore, references: list[str]) -> Iterator[dict[str, str]]:
    """Yield each record as the unit's own system knows it: its source and its key there."""
    table = schema.records
    wanted = sa.select(table.c.reference, table.c.source, table.c.source_id).where(table.c.reference.in_(references))
    with store.database.reading() as connection:
        for reference, source, key in connection.execute(wanted).all():
            yield {"reference": reference, "source": source, "key": key}


def _append(path: Path, line: bytes) -> None:
    """Add a line and return when it is on the disk; half a line that a full disk left is ended first, so that no other is lost with it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        view = memoryview(line)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
