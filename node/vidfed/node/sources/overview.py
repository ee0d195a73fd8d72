"""Each source of a member at a glance: configured or not, how fresh, how its last run went, when the next is due."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from vidfed.node.intake.known_good import FOLDER, stored_lists
from vidfed.node.records.source_states import SourceState, source_states
from vidfed.node.sources.follow import history_path
from vidfed.node.sources.schedule.history import read_history
from vidfed.node.sources.schedule.times import next_ms
from vidfed.node.sources.settings import KnownGoodSection, read_sources

if TYPE_CHECKING:
    from vidfed.node.records.store import RecordStore
    from vidfed.node.sources.settings import SourceSettings
    from vidfed.security.member.home import MemberHome


@dataclass(frozen=True, slots=True)
class SourceOverview:
    """One source. Times in ms since the epoch; 0: never, or unknown."""

    name: str
    kind: str
    configured: bool
    live: int
    as_of_ms: int
    compared_ms: int
    behind: bool
    attempted_ms: int
    failures: int
    waiting: bool
    problem: str
    next_ms: int

    def to_fields(self) -> dict[str, object]:
        """Return the JSON form."""
        return asdict(self)


def overview(home: MemberHome, store: RecordStore, now_ms: int) -> list[SourceOverview]:
    """Return all sources, configured or still known to the store, by name.

    Raises:
        SourceSettingsError, StoreError: they cannot be read.
    """
    configured = read_sources(home)
    states = {state.name: state for state in source_states(store.database)}
    return [_one(home, name, states.get(name), configured.get(name), now_ms) for name in sorted({*configured, *states})]


def chance_of(home: MemberHome, name: str, attempted_ms: int) -> float:
    """Return the chance that spreads a source's runs, 0 to 1: the same for the same run, however often it is asked for."""
    return random.Random(f"{home.member}/{name}/{attempted_ms}").random()  # noqa: S311 - it spreads load, nothing else


def _one(home: MemberHome, name: str, known: SourceState | None, settings: SourceSettings | None, now_ms: int) -> SourceOverview:
    if settings is not None:
        late_after_ms = round(settings.section.behind_after_s * 1000)
        kind, every_s = settings.section.kind, settings.section.every_s
    else:
        late_after_ms, kind, every_s = (known.late_after_ms, known.kind, 0.0) if known else (0, "", 0.0)
    state = known or SourceState(name, kind, 0, late_after_ms)
    if settings is not None and isinstance(settings.section, KnownGoodSection):
        kept = next((each for each in stored_lists(home.folder / FOLDER) if each.name == name), None)
        state = replace(state, live=kept.items, as_of_ms=kept.added_ms) if kept else state
    history = read_history(history_path(home, name))
    due_ms = next_ms(history.run, every_s, chance_of(home, name, history.attempted_ms)) if settings is not None else 0
    return SourceOverview(
        name=name,
        kind=kind,
        configured=settings is not None,
        live=state.live,
        as_of_ms=state.as_of_ms,
        compared_ms=state.compared_ms,
        behind=state.is_behind(now_ms),
        attempted_ms=history.attempted_ms,
        failures=history.failures,
        waiting=history.waiting,
        problem=history.problem,
        next_ms=due_ms,
    )
