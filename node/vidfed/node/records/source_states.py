"""What the store knows of each source that is in charge of some of its records, above all how fresh they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vidfed.node.records import schema

if TYPE_CHECKING:
    from vidfed.node.records.database import RecordDatabase

_table = schema.sources


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source. Times in ms since the epoch.

    Attributes:
        name: as in the configuration.
        kind: as in the configuration.
        import_id: of its entry among the imports, by which its records tell where they come from.
        late_after_ms: so long after `as_of_ms` it is behind.
        as_of_ms: its records are what it said at this moment; 0: it was never read.
        compared_ms: when everything was compared last; 0: never.
        cursor: where the next look at its changes begins.
        live: number of its live records, as of its last run.
    """

    name: str
    kind: str
    import_id: int
    late_after_ms: int
    as_of_ms: int = 0
    compared_ms: int = 0
    cursor: str = ""
    live: int = 0

    def is_behind(self, now_ms: int) -> bool:
        """Return whether its records are older than its schedule allows; one dated after now is wrong, not fresh."""
        return not 0 <= now_ms - self.as_of_ms <= self.late_after_ms


@dataclass(frozen=True, slots=True)
class Freshness:
    """How fresh all records are that sources are in charge of.

    Attributes:
        as_of_ms: moment of the source that was read longest ago, ms since the epoch; 0: one was never read; None: no source is followed.
        behind: a source fell behind its schedule.
    """

    as_of_ms: int | None = None
    behind: bool = False

    @classmethod
    def of(cls, states: list[SourceState], now_ms: int) -> Freshness:
        """Return the freshness of these sources together."""
        if not states:
            return cls()
        return cls(min(min(state.as_of_ms, now_ms) for state in states), any(state.is_behind(now_ms) for state in states))


def source_states(database: RecordDatabase) -> list[SourceState]:
    """Return all sources, by name.

    Raises:
        StoreError: the store cannot be read.
    """
    with database.reading() as connection:
        return [SourceState(**row) for row in connection.execute(sa.select(_table).order_by(_table.c.name)).mappings()]


def source_state(connection: sa.Connection, name: str) -> SourceState | None:
    """Return one source, or None where it is not known."""
    row = connection.execute(sa.select(_table).where(_table.c.name == name)).mappings().first()
    return SourceState(**row) if row else None


def register_source(connection: sa.Connection, *, name: str, kind: str, late_after_ms: int, now_ms: int) -> SourceState:
    """Make a source known, or take over its present kind and limit; return its state. Until it was read its records are of no moment."""
    state = source_state(connection, name)
    if state is not None:
        connection.execute(sa.update(_table).where(_table.c.name == name).values(kind=kind, late_after_ms=late_after_ms))
        return SourceState(**{field: getattr(state, field) for field in state.__slots__} | {"kind": kind, "late_after_ms": late_after_ms})
    imports = schema.imports
    import_id = int(connection.execute(sa.select(sa.func.max(imports.c.id))).scalar_one() or 0) + 1
    origin = {"file_name": f"source {name}", "format": kind, "tool": "", "imported_ms": now_ms}
    connection.execute(sa.insert(imports).values(id=import_id, **origin))
    state = SourceState(name, kind, import_id, late_after_ms)
    connection.execute(sa.insert(_table).values({field: getattr(state, field) for field in state.__slots__}))
    return state


def update_source(connection: sa.Connection, state: SourceState) -> None:
    """Write a source's state."""
    values = {field: getattr(state, field) for field in state.__slots__}
    connection.execute(sa.update(_table).where(_table.c.name == state.name).values(values))


def forget_source(connection: sa.Connection, name: str) -> None:
    """Remove a source's state; its records are the caller's business."""
    connection.execute(sa.delete(_table).where(_table.c.name == name))
