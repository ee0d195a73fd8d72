"""Sees what became of records that were told, and has news of it go out. Blocking; one process of a node runs it.

Records are followed by their version, whoever changed them: a command, an import, a source. What was told is followed by the register. A
record that changed between being told and being seen here first is news too: what it was then is not known, that it changed is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.casework.news import storage
from vidfed.casework.news.records import changes_between, fingerprint
from vidfed.casework.storage import told as told_store
from vidfed.security.clock import HOUR_MS
from vidfed.wire.news import Change

if TYPE_CHECKING:
    from collections.abc import Collection

    import sqlalchemy as sa

    from vidfed.casework.context import Context
    from vidfed.casework.news.records import RecordNow, Records

RECORDS, ANSWERS = "records", "answers"  # the places that this has reached
MAX_REMOVALS_AT_ONCE = 1_000  # retractions and erasures that go out by themselves in an hour; more may be a mistake, and a person confirms
_AT_ONCE = 2_000  # records, or answers, in one transaction
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Noticing:
    """Follows one member's records and what was told of them."""

    context: Context
    records: Records
    _removals: int = 0
    _removals_since_ms: int = 0

    def look(self) -> int:
        """Take in what happened since the last time; return how many news that gave.

        Raises:
            CaseworkStoreError: records, register or news cannot be read or written; nothing is lost, the next look takes it in.
        """
        self.context.catch_up()
        made = self._newly_told()
        with self.context.database.reading() as connection:
            version, mark = told_store.reached(connection, RECORDS)
        if version and self.records.mark(version) != mark:
            _log.warning("the records are others than before: all that was told is compared with them")
            return made + self._compare_all()
        while True:
            found = self.records.changes_after(version, _AT_ONCE)
            if not found:
                return made
            version = found[-1][0]
            made += self._compare([reference for _, reference in found], version)

    def narrow(self, references: Collection[str]) -> int:
        """Tell those who were told of records, and would not be today, that it is so. A person decides this; return how many are told."""
        now = self.records.look(references)
        made = 0
        with self.context.database.writing() as connection:
            for reference, persons in storage.persons_told(connection, references).items():
                kept = now.get(reference)
                if kept is None or kept.state != "live":
                    continue  # that has been said already
                for member, pseudonym in persons:
                    if not kept.tellable(member):
                        storage.queue(connection, member, pseudonym, reference, [Change.NARROWED], self.context.clock())
                        made += 1
        return made

    def _newly_told(self) -> int:
        made = 0
        while True:
            with self.context.database.reading() as connection:
                after, _ = told_store.reached(connection, ANSWERS)
                found = storage.newly_told(connection, after, _AT_ONCE)
            if not found:
                return made
            now = self.records.look({reference for *_, reference in found})
            with self.context.database.writing() as connection:
                seen = storage.seen_of(connection, list(now))
                new: dict[str, tuple[int, bytes]] = {}
                for _, member, pseudonym, version, reference in found:
                    kept = now.get(reference)
                    if kept is None:
                        continue
                    known = seen.get(reference) or new.setdefault(reference, (kept.version, fingerprint(kept)))
                    if known[0] > version:
                        storage.queue(connection, member, pseudonym, reference, _unknown_change(kept), self.context.clock())
                        made += 1
                storage.keep_seen(connection, new)
                told_store.reach(connection, ANSWERS, found[-1][0])

    def _compare_all(self) -> int:
        made, reference, version = 0, "", self._newest()
        while True:
            with self.context.database.reading() as connection:
                references = storage.seen_after(connection, reference, _AT_ONCE)
            if not references:
                with self.context.database.writing() as connection:
                    told_store.reach(connection, RECORDS, version, self.records.mark(version))
                return made
            made += self._compare(references, None)
            reference = references[-1]

    def _newest(self) -> int:
        version = 0
        while found := self.records.changes_after(version, _AT_ONCE):
            version = found[-1][0]
        return version

    def _compare(self, references: list[str], version: int | None) -> int:
        """Compare records with what was seen of them before; those that have gone from the store altogether stay as they were."""
        with self.context.database.reading() as connection:
            known = storage.seen_of(connection, references)
        now = self.records.look(known.keys()) if known else {}
        changes = {reference: changes_between(known[reference][1], fingerprint(kept)) for reference, kept in now.items()}
        changed = {reference: found for reference, found in changes.items() if found}
        made, held = 0, self._too_many(changed)
        with self.context.database.writing() as connection:
            for reference, persons in storage.persons_told(connection, list(changed)).items():
                made += self._queue(connection, reference, changed[reference], persons, held=held)
            if held:
                storage.hold_removals(connection, self._removals_since_ms)
            storage.keep_seen(connection, {reference: (kept.version, fingerprint(kept)) for reference, kept in now.items()})
            if version is not None:
                told_store.reach(connection, RECORDS, version, self.records.mark(version))
        return made

    def _queue(
        self, connection: sa.Connection, reference: str, changes: tuple[Change, ...], persons: set[tuple[str, str]], *, held: bool
    ) -> int:
        removal = any(change.takes_back for change in changes)
        for member, pseudonym in persons:
            storage.queue(connection, member, pseudonym, reference, changes, self.context.clock(), held=held and removal)
        return len(persons)

    def _too_many(self, changed: dict[str, tuple[Change, ...]]) -> bool:
        now_ms = self.context.clock()
        if now_ms - self._removals_since_ms > HOUR_MS:
            self._removals, self._removals_since_ms = 0, now_ms
        self._removals += sum(any(change.takes_back for change in changes) for changes in changed.values())
        if self._removals > MAX_REMOVALS_AT_ONCE:
            _log.error("ALARM: %d records were taken back within an hour: confirm the news of it, vidfed node news confirm", self._removals)
        return self._removals > MAX_REMOVALS_AT_ONCE


def _unknown_change(now: RecordNow) -> tuple[Change, ...]:
    """Return what is said of a record that changed while it was being told."""
    return ({"erased": Change.ERASED, "retracted": Change.RETRACTED}.get(now.state, Change.CORRECTED),)
