"""Following one source of a member, by hand or by the schedule: run, logged, reported, and remembered for the next time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfed.formats.fields import FIELDS
from vidfed.node.config import StoreSection
from vidfed.node.errors import NodeError
from vidfed.node.intake.known_good import FOLDER as KNOWN_GOOD
from vidfed.node.intake.known_good import KnownGood
from vidfed.node.intake.report import open_private
from vidfed.node.records.known import open_store
from vidfed.node.records.record import to_column
from vidfed.node.records.source_states import register_source, source_states
from vidfed.node.sources.comparison.run import RunOptions, RunResult, SourceRun
from vidfed.node.sources.errors import SourceBusyError, SourceError, SuspiciousError
from vidfed.node.sources.folder import FolderReport, FolderRun
from vidfed.node.sources.known_good import KnownGoodReport, follow_known_good
from vidfed.node.sources.remote.https import BusyServerError
from vidfed.node.sources.schedule.history import RunHistory, read_history, write_history
from vidfed.node.sources.settings import FolderSection, KnownGoodSection, read_sources
from vidfed.security.audit import Event, Operation
from vidfed.security.clock import DAY_MS, SECOND_MS, as_text, system_clock
from vidfed.security.member.audit_log import logged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from vidfed.node.records.store import RecordStore
    from vidfed.node.sources.settings import SourceSettings
    from vidfed.security.member.home import MemberHome


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How a source is followed now; see `RunOptions`."""

    full: bool = False
    dry_run: bool = False
    accept_losses: bool = False


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of it.

    Attributes:
        result: of a source that is compared; None for a folder.
        folder: of a folder; None for others.
        known_good: of a known-good list; None for others.
        report: file with every row passed over; None: there was nothing to say, or it was a dry run of a folder.
    """

    result: RunResult | None
    folder: FolderReport | None
    report: Path | None
    known_good: KnownGoodReport | None = None

    def counts(self) -> dict[str, int | str]:
        """Return what the log and the history say about it."""
        if self.result is not None:
            report = self.result.report
            return {name: getattr(report, name) for name in ("rows", "new", "changed", "unchanged", "passed_over")} | {"lost": report.lost}
        if self.known_good is not None:
            return {name: getattr(self.known_good, name) or 0 for name in ("rows", "items", "before", "passed_over")}
        assert self.folder is not None  # noqa: S101 - one of the three
        reports = self.folder.imported
        sums = {name: sum(getattr(each.counts, name) for each in reports) for name in ("new", "updated", "unchanged", "retracted")}
        return {"files": len(reports), "failed": len(self.folder.failed), **sums}


def state_folder(home: MemberHome) -> Path:
    """Return the folder of what is known of the runs of a member's sources, made if absent."""
    folder = home.state_file("sources")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def history_path(home: MemberHome, name: str) -> Path:
    """Return where a source's history is."""
    return state_folder(home) / f"{name}.json"


def source_named(home: MemberHome, name: str) -> SourceSettings:
    """Return one source of the configuration.

    Raises:
        SourceError: there is none of this name, or its settings make no sense.
    """
    sources = read_sources(home)
    try:
        return sources[name]
    except KeyError:
        known = ", ".join(sources) or "none"
        raise SourceError(f"{home.config_path} has no [source.{name}]; there are: {known}") from None


def register_sources(home: MemberHome, store: RecordStore) -> None:
    """Make all configured sources known to the store: one that was never read must make the records look old, not be forgotten.

    Raises:
        SourceSettingsError, StoreError: they cannot be read or noted.
    """
    sources = read_sources(home)
    known = {state.name: (state.kind, state.late_after_ms) for state in source_states(store.database)}
    wanted = {
        name: (each.section.kind, round(each.section.behind_after_s * SECOND_MS))
        for name, each in sources.items()
        if not isinstance(each.section, KnownGoodSection)  # of which no record is
    }
    if all(known.get(name) == each for name, each in wanted.items()):
        return
    with store.database.writing() as connection:
        for name, (kind, late_after_ms) in wanted.items():
            register_source(connection, name=name, kind=kind, late_after_ms=late_after_ms, now_ms=system_clock())


def follow(
    home: MemberHome,
    name: str,
    options: FollowOptions,
    *,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> Followed:
    """Run one source once.

    Args:
        home: the member's.
        name: the source's.
        options: how.
        on_progress: gets the number of rows or entries read so far.

    Raises:
        SourceError, StoreError, SecurityError: nothing was changed; the history says why.
    """
    settings = source_named(home, name)
    now_ms = system_clock()
    path = history_path(home, name)
    try:
        with open_store(home) as store, _noted(home, name, options) as noted:
            with KnownGood(lists=home.folder / KNOWN_GOOD) as good:
                done = _run(home, store, settings, good, options, now_ms, on_progress)
            noted.update(done.counts())
    except SourceBusyError:
        raise
    except (NodeError, OSError, KeyboardInterrupt) as error:
        if not options.dry_run:
            write_history(path, _failed(read_history(path), error, now_ms))
        raise
    if not options.dry_run:
        problem = done.folder.not_current if done.folder else ""
        report = done.report.name if done.report else ""
        write_history(path, RunHistory(now_ms, failures=int(bool(problem)), problem=problem, report=report, last=dict(done.counts())))
    return done


def _failed(before: RunHistory, error: BaseException, now_ms: int) -> RunHistory:
    waiting = isinstance(error, SuspiciousError)
    not_before_ms = now_ms + round(error.retry_after_s * SECOND_MS) if isinstance(error, BusyServerError) else 0
    words = str(error).replace("sync NAME", "sync") or type(error).__name__
    return replace(
        before, attempted_ms=now_ms, failures=before.failures + 1, waiting=waiting, not_before_ms=not_before_ms, problem=words[:1000]
    )


@contextlib.contextmanager
def _noted(home: MemberHome, name: str, options: FollowOptions) -> Iterator[dict[str, int | str]]:
    if options.dry_run:  # it tells which of the source's items are known here
        operation, event = Operation.CONSULTATION, Event.RECORDS_READ
    else:
        operation, event = Operation.COLLECTION, Event.RECORDS_ADDED
    with logged(home, operation, event, source=name) as done:
        yield done


def _run(
    home: MemberHome,
    store: RecordStore,
    settings: SourceSettings,
    good: KnownGood,
    options: FollowOptions,
    now_ms: int,
    on_progress: Callable[[int], None],
) -> Followed:
    if isinstance(settings.section, KnownGoodSection):
        report = follow_known_good(
            home, settings, now_ms=now_ms, dry_run=options.dry_run, accept_losses=options.accept_losses, on_progress=on_progress
        )
        return Followed(None, None, None, report)
    defaults: dict[str, object] = {"case_contact": home.identity.contact}
    if days := home.section("store", StoreSection).review_after_days:
        defaults["review_ms"] = now_ms + days * DAY_MS
    if isinstance(settings.section, FolderSection):
        run = FolderRun(
            store,
            settings,
            settings.section,
            home.folder,
            state_folder(home),
            known_good=good,
            on_progress=lambda _done, _total, entries: on_progress(entries),
        )
        values = {name: FIELDS[name].read(said) for name, said in settings.constants.items()}
        found = run.run(now_ms=now_ms, defaults=defaults, values=values, dry_run=options.dry_run)
        return Followed(None, found, None)
    folder = home.folder / "reports"
    folder.mkdir(mode=0o700, exist_ok=True)
    report_path = folder / f"source-{settings.name}-{now_ms}{'-dry-run' if options.dry_run else ''}.txt"
    lines = 0
    with open_private(report_path) as file:
        file.write(f"source {settings.name}, {'tried' if options.dry_run else 'read'} {as_text(now_ms)}\n")

        def line(text: str) -> None:
            nonlocal lines
            lines += 1
            file.write(f"  {text}\n")

        source = SourceRun(store, settings, home.folder, state_folder(home), known_good=good, on_line=line, on_progress=on_progress)
        columns: Mapping[str, object] = {name: to_column(value) for name, value in defaults.items()}
        chosen = RunOptions(
            now_ms,
            full=options.full,
            dry_run=options.dry_run,
            accept_losses=options.accept_losses,
            defaults={**columns, **_constants(settings)},
        )
        try:
            result = source.run(chosen)
            for counted, number in result.report.to_fields().items():
                file.write(f"  {counted}: {number}\n")
        except BaseException as error:
            file.write(f"  not done: {error}\n")
            raise
    if not lines:
        report_path.unlink()
    return Followed(result, None, report_path if lines else None)


def _constants(settings: SourceSettings) -> dict[str, object]:
    """Return the constants of a source whose format says what is what; those of a mapping are its own business."""
    if settings.mapping is not None:
        return {}
    return {name: to_column(FIELDS[name].read(said)) for name, said in settings.constants.items()}
