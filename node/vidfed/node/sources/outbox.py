"""Back to the unit's own system: what happened here about its records, at least once each, with an id that stays the same.

The audit log is the queue: what is in it happened, and an entry's place in it is its number for ever. Told are: somebody asked about a
record, a request for details and what follows it in its conversation, news of another member's record, a standing lookup's hit. Of each it
is who, when, which kind and which records; no hash, no sealed text.
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
from vidfed.node.sources.remote.process import read_messages, run_command
from vidfed.node.sources.remote.tasks import secret_of
from vidfed.node.sources.settings import check_database_url
from vidfed.security.audit import Event
from vidfed.security.clock import as_text
from vidfed.security.errors import NoLogError
from vidfed.security.files import write_private
from vidfed.security.member.audit_log import open_storage
from vidfed.security.settings import check_above_zero

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.node.records.store import RecordStore
    from vidfed.security.audit.storage.tables import Storage
    from vidfed.security.member.home import MemberHome

AT_ONCE = 1_000
"""Entries of the log looked at before the place reached is noted."""
_SCHEMA = "vidfed.outbox/1"


@dataclass(frozen=True, slots=True)
class OutboxSection:
    """`[outbox]`: where the unit's own system is told what happened here. One of path, command and url; none of them: nowhere.

    Attributes:
        path: file to which JSON lines are added, relative to the member's folder.
        command: program and arguments, run for each event with its JSON on standard input; status 0 means taken.
        url: SQLAlchemy's URL, without a password, of a database with the table.
        table: name of the table, with its schema before a dot; its columns are in docs/connect.md.
        password_file: file with the password alone, readable by its owner alone; relative to the member's folder.
        run_as: user of this machine for the command, and for the process that writes the table; empty: the node's own.
        every_s: seconds between two looks at the log.
    """

    path: str = ""
    command: tuple[str, ...] = ()
    url: str = ""
    table: str = "vidfed_outbox"
    password_file: str = ""
    run_as: str = ""
    every_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if sum(map(bool, (self.path, self.command, self.url))) > 1:
            raise ValueError("path: give one of path, command and url")
        check_database_url(self.url)
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
        return bool(self._section.path or self._section.command or self._section.url)

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
                found: list[tuple[int, int, dict[str, object]]] = []
                for position, entry in storage.entries(start, end):
                    fields = entry.fields() if entry.body is not None else {}
                    if (what := _what(fields)) is not None:
                        found.append((position, entry.time_ms, self._event(store, position, entry.time_ms, what, fields)))
                # A command takes one event; what a file or a table takes, it takes as a whole.
                step = 1 if self._section.command else AT_ONCE
                for first in range(0, len(found), step):
                    some = found[first : first + step]
                    self._tell([event for _, _, event in some])
                    self._note(some[-1][0] + 1, some[-1][1])
                    delivered += len(some)
                self._note(end, _time_of(storage, end - 1))
                start = end
        return delivered

    def _event(self, store: RecordStore, position: int, time_ms: int, what: str, fields: Mapping[str, Any]) -> dict[str, object]:
        details = fields.get("details") or {}
        said = {name: details[name] for name in ("kind", "code", "changes", "conversation") if details.get(name)}
        return {
            "schema": _SCHEMA,
            "id": f"{self._home.federation}/{self._home.member}/{position}-{time_ms}",  # a log put back gives positions again
            "time": as_text(time_ms),
            "event": what,
            "member": fields["member"],
            "purpose": fields.get("purpose", ""),
            **said,
            "records": list(_keys(store, fields.get("records") or [])),
        }

    def _tell(self, events: Sequence[Mapping[str, object]]) -> None:
        documents = [json.dumps(event, ensure_ascii=False) for event in events]
        section = self._section
        if section.command:
            for document in documents:
                run_command(section.command, document.encode() + b"\n", run_as=section.run_as)
        elif section.url:
            place = {"url": section.url, "table": section.table, "password": secret_of(section.password_file, self._home.folder)}
            rows = [
                {"id": event["id"], "happened": event["time"], "event": event["event"], "member": event["member"], "document": document}
                for event, document in zip(events, documents, strict=True)
            ]
            for _ in read_messages({"task": "tell", "place": place, "events": rows}, run_as=section.run_as):
                pass  # it says that it has ended, or raises
        else:
            path = self._home.folder / section.path
            try:
                _append(path, "".join(f"{document}\n" for document in documents).encode())
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


def _what(fields: Mapping[str, Any]) -> str | None:
    """Return what an entry of the log is to the unit's own system; None: nothing."""
    event, details = fields.get("event"), fields.get("details") or {}
    if event == Event.LOOKUP_ANSWERED.value and fields.get("records"):
        return "asked"
    if event == Event.LOOKUP_RECEIVED.value and fields.get("records") and details.get("standing"):
        return "standing-hit"
    if event == Event.CASEWORK_RECEIVED.value and fields.get("outcome") == "TAKEN":
        kind = details.get("kind")
        return "news" if kind == "news" else "request" if kind == "ask" else "conversation"
    return None


def _time_of(storage: Storage, position: int) -> int:
    """Return when an entry was written, 0 where it is not there any more."""
    return next((entry.time_ms for _, entry in storage.entries(position, position + 1)), 0)


def _keys(store: RecordStore, references: list[str]) -> Iterator[dict[str, str]]:
    """Yield each record as the unit's own system knows it: its source and its key there; of other members' records the reference alone."""
    table = schema.records
    wanted = sa.select(table.c.reference, table.c.source, table.c.source_id).where(table.c.reference.in_(references))
    with store.database.reading() as connection:
        own = {reference: (source, key) for reference, source, key in connection.execute(wanted).all()}
    for reference in references:
        source, key = own.get(reference, ("", ""))
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
