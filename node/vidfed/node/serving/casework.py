"""What a node gives to casework: whether it may still tell of a record, and what became of those it told of."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.casework.errors import CaseworkStoreError
from vidfed.casework.news.records import RecordNow
from vidfed.node.errors import NodeError
from vidfed.node.records.lifecycle import records_named, stored_record
from vidfed.node.records.schema import records as _table
from vidfed.security.errors import DirectoryError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from vidfed.node.policy.policy import PolicySource
    from vidfed.node.records.lifecycle import StoredRecord
    from vidfed.node.records.store import RecordStore
    from vidfed.security.identity.directory import DirectorySource


@dataclass(frozen=True, slots=True)
class NodeRecords:
    """A node's records as casework sees them, by the policy in force: whether a member would be told, for some purpose and role."""

    store: RecordStore
    policy: PolicySource
    source: DirectorySource

    def may_tell(self, member: str, reference: str) -> bool:
        """See `vidfed.casework.news.records.Records`."""
        try:
            kept = stored_record(self.store, reference)
        except NodeError:
            return False
        return self._tellable(kept, member)

    def source_of(self, reference: str) -> str:
        """See `vidfed.casework.news.records.Records`."""
        try:
            return stored_record(self.store, reference).source or "taken in by hand"
        except NodeError:
            return "not known"

    def changes_after(self, version: int, limit: int) -> Sequence[tuple[int, str]]:
        """See `vidfed.casework.news.records.Records`."""
        wanted = sa.select(_table.c.version, _table.c.reference).where(_table.c.version > version).order_by(_table.c.version).limit(limit)
        try:
            with self.store.database.reading() as connection:
                return [(int(row.version), row.reference) for row in connection.execute(wanted)]
        except NodeError as error:
            raise CaseworkStoreError(str(error)) from None

    def mark(self, version: int) -> str:
        """See `vidfed.casework.news.records.Records`."""
        try:
            return self.store.mark(version)
        except NodeError as error:
            raise CaseworkStoreError(str(error)) from None

    def look(self, references: Collection[str]) -> Mapping[str, RecordNow]:
        """See `vidfed.casework.news.records.Records`."""
        try:
            found = records_named(self.store, references)
        except NodeError as error:
            raise CaseworkStoreError(str(error)) from None
        return {
            kept.record.reference: RecordNow(version, kept.state, kept.record.view(), functools.partial(self._tellable, kept))
            for version, kept in found
        }

    def _tellable(self, kept: StoredRecord, member: str) -> bool:
        try:
            entry = self.source.current().members.get(member)
        except DirectoryError:
            return False
        if entry is None or entry.quarantined or kept.state != "live":
            return False
        return any(rule.names(member) and rule.tells(member, kept.record) for rule in self.policy.current().rules)
