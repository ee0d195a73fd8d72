"""Following a source no longer: its records become this member's own, or are retracted until it is followed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.node.records import schema
from vidfed.node.records.source_states import forget_source, source_state
from vidfed.node.sources.comparison.writer import SourceRecords

if TYPE_CHECKING:
    from vidfed.node.records.store import RecordStore

REMOVED_REASON = "its source is no longer followed"
_AT_ONCE = 1_000


def end_source(store: RecordStore, name: str, *, keep: bool, now_ms: int) -> int:
    """Forget a source; return how many records were concerned. One transaction.

    Args:
        store: the store.
        name: the source's.
        keep: its live records become records that no source is in charge of; else they are retracted, and come back when a source of this
            name is followed again.
        now_ms: time of the change.

    Raises:
        StoreError: nothing was changed.
    """
    table = schema.records
    with store.database.writing() as connection:
        if source_state(connection, name) is None:
            return 0
        numbers = list(SourceRecords(store.database, name, connection).live_ids())
        last = int(connection.execute(sa.select(sa.func.max(table.c.version))).scalar_one() or 0)
        for start in range(0, len(numbers), _AT_ONCE):
            rows = []
            for number in numbers[start : start + _AT_ONCE]:
                last += 1
                rows.append({"number": number, "next": last})
            changed: dict[str, object] = {"version": sa.bindparam("next"), "changed_ms": now_ms}
            if keep:
                changed |= {"source": "", "source_id": sa.literal(f"{name}/") + table.c.source_id, "fingerprint": None}
            else:
                changed |= {"retracted_ms": now_ms, "retraction_reason": REMOVED_REASON}
            connection.execute(sa.update(table).where(table.c.id == sa.bindparam("number")).values(changed), rows)
        forget_source(connection, name)
    return len(numbers)
