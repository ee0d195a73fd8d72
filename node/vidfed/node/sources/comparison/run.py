"""One run of a source: read, compared, and written by one transaction; or nothing, with the reason.

Reading and comparing lock nothing. What is to be written waits in a spool, so that a run that was killed while it wrote goes on without
reading again, and a clearing house that is read for hours goes on at its last page. The first run of a database writes while it reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from vidfed.formats.entries import FileEntry
from vidfed.node.records.source_states import SourceState, register_source, source_state, update_source
from vidfed.node.sources.comparison.plan import Comparison, RunReport, Seen, check_losses
from vidfed.node.sources.comparison.spool import IDS_A_LINE, Spool
from vidfed.node.sources.comparison.writer import SourceRecords, SourceWriter
from vidfed.node.sources.errors import SourceBusyError, SourceReadError
from vidfed.node.sources.remote.process import read_messages
from vidfed.node.sources.remote.tasks import Start, reading_task
from vidfed.node.sources.rows.statement import Kind, Statement, from_wire
from vidfed.node.sources.schedule.times import is_full_due
from vidfed.node.sources.settings import NcmecSection, SqlSection
from vidfed.security.errors import HomeError
from vidfed.security.lockfile import exclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.node.intake.known_good import KnownGood
    from vidfed.node.records.store import RecordStore
    from vidfed.node.sources.settings import SourceSettings

MOST_LINES = 100_000
"""Lines of one run's report: a mapping that is wrong on ten million rows says so in the first few."""
_WRITE_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a source is run.

    Attributes:
        now_ms: this machine's time at the beginning: what was read is as of this moment.
        full: compare everything, whatever the schedule says.
        dry_run: read and compare, and write nothing.
        accept_losses: a person agrees to what is lost.
        defaults: what is true of every record where the source does not say otherwise, in the form of columns.
    """

    now_ms: int
    full: bool = False
    dry_run: bool = False
    accept_losses: bool = False
    defaults: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run.

    Attributes:
        report: counts.
        full: everything was compared.
        taken_up: an earlier run had read it and was stopped while it wrote.
        as_of_ms: moment the records are of now.
        without_key: rows that have no key and were passed over.
    """

    report: RunReport
    full: bool
    taken_up: bool
    as_of_ms: int
    without_key: int = 0


class SourceRun:
    """One source, its folder for what is not finished, and the store."""

    def __init__(
        self,
        store: RecordStore,
        settings: SourceSettings,
        folder: Path,
        state_folder: Path,
        *,
        known_good: KnownGood | None = None,
        on_line: Callable[[str], None] = lambda _text: None,
        on_progress: Callable[[int], None] = lambda _rows: None,
    ) -> None:
        """Prepare.

        Args:
            store: where to.
            settings: of a source that is read by a process of its own.
            folder: the member's.
            state_folder: for the spool and the lock, exists.
            known_good: digests that must not become records; rows with one are passed over.
            on_line: gets a line for every row passed over and every value left out; no hash is in it.
            on_progress: gets the number of rows read so far.
        """
        self._store = store
        self._settings = settings
        self._folder = folder
        self._known_good = known_good
        self._spool = Spool(state_folder / f"{settings.name}.spool")
        self._lock = state_folder / f"{settings.name}.lock"
        self._on_line = on_line
        self._on_progress = on_progress
        self._lines = 0

    def run(self, options: RunOptions) -> RunResult:
        """Run it once.

        Raises:
            SourceBusyError: another run of it goes on.
            SuspiciousError: it lost too much to be believed; nothing was changed.
            SourceError, StoreError: nothing was changed.
        """
        with _alone(self._lock, self._settings.name):
            if not options.dry_run and self._spool.is_complete() and (done := self._take_up(options)):
                return done
            state = self._state(options)
            try:
                return self._run(state, options)
            except BaseException:
                if not self._is_journal:  # whose pages read so far are worth keeping
                    self._spool.remove()
                raise

    def _run(self, state: SourceState, options: RunOptions) -> RunResult:
        section = self._settings.section
        full = not self._is_journal
        if isinstance(section, SqlSection) and section.changed and state.cursor and not options.full:
            full = is_full_due(state.compared_ms, section.full_every_s, options.now_ms)
        about: dict[str, Any] = {"settings": _digest(self._settings), "started_ms": options.now_ms, "full": full, "cursor": state.cursor}
        resume, before = self._resume(about) if not options.dry_run else (None, ())
        if resume:
            about["started_ms"] = resume["started_ms"]
        elif not options.dry_run:
            self._spool.begin(**about)
        start = Start("" if full else state.cursor, about["started_ms"], resume)
        task = reading_task(self._settings, self._folder, start)
        report = RunReport()
        records = SourceRecords(self._store.database, state.name)
        if not records.exists and isinstance(section, SqlSection) and not options.dry_run:
            return self._first(state, task, about, options)
        comparison = Comparison(report, Seen(records.last_id), journal=self._is_journal)
        end: dict[str, Any] = {}
        for statements in self._compared(before, task, records, comparison, report, end):
            if not options.dry_run:
                self._spool.add(rows=[each.to_wire() for each in statements])
        live = self._find_vanished(records, comparison, report, spooled=not options.dry_run) if full else state.live
        check_losses(report, live, share=section.ask_above_share, accepted=options.accept_losses)
        result = self._result(about, report, end)
        if options.dry_run:
            return result
        after = self._after(state, about, report, end, live)
        self._spool.add(durable=True, end={"report": asdict(report), "state": asdict(after), "without_key": result.without_key})
        self._spool.close()
        self._write(after, report, options)
        return replace(result, as_of_ms=after.as_of_ms)

    def _first(self, state: SourceState, task: Mapping[str, Any], about: Mapping[str, Any], options: RunOptions) -> RunResult:
        """Read a database of which nothing is known yet, writing at the same time: reading takes a processor, writing another."""
        self._spool.remove()
        report, end = RunReport(), dict[str, Any]()
        database = self._store.database
        with database.writing() as connection:
            records = SourceRecords(database, state.name, connection)
            comparison = Comparison(report, Seen(records.last_id))
            writer = SourceWriter(database, connection, state, now_ms=options.now_ms, defaults=options.defaults)
            for statements in self._compared((), task, records, comparison, report, end):
                writer.write(statements)
            self._finish(writer, report)
            update_source(connection, self._after(state, about, report, end, 0))
        return self._result(about, report, end)

    def _finish(self, writer: SourceWriter, report: RunReport) -> None:
        report.repeats = writer.finish()
        report.repeated += writer.repeated_new + writer.repeated_known
        report.new -= writer.repeated_new
        report.changed -= writer.repeated_known
        for text in writer.notes:
            self._line(text)

    def _compared(
        self,
        before: Sequence[dict[str, Any]],
        task: Mapping[str, Any],
        records: SourceRecords,
        comparison: Comparison,
        report: RunReport,
        end: dict[str, Any],
    ) -> Iterator[list[Statement]]:
        """Yield what is to be written; count, and fill `end` with what the reading process said last.

        `before` is what a broken look had already spooled: it is counted, and not yielded again.
        """
        for message in before:
            self._changes(message, records, comparison)
        for message in read_messages(task, run_as=self._settings.section.run_as):
            if statements := self._changes(message, records, comparison):
                yield statements
            for reason in message.get("skipped", ()):
                report.rows += 1
                report.pass_over(str(reason))
                self._line(f"passed over: {reason}")
            if "page" in message and self._spool.is_open:
                self._spool.add(durable=True, page=message["page"])
            self._on_progress(report.rows)
            end.update(message.get("end", {}))
        if not end:
            raise SourceReadError("the source's end was not read; nothing was changed")

    def _changes(self, message: Mapping[str, Any], records: SourceRecords, comparison: Comparison) -> list[Statement]:
        if "rows" not in message:
            return []
        statements = self._without_known_good([from_wire(row) for row in message["rows"]])
        for statement in statements:
            for note in statement.notes:
                self._line(f"{statement.key}: {'passed over: ' if statement.kind is Kind.UNUSABLE else ''}{note}")
        return list(comparison.changes(statements, records.known([statement.key for statement in statements])))

    def _without_known_good(self, statements: list[Statement]) -> list[Statement]:
        if not self._known_good:
            return statements
        entries = [FileEntry(number, each.codes, {}) for number, each in enumerate(statements) if each.kind is Kind.LIVE]
        for number, title in self._known_good.among(entries).items():
            statements[number] = Statement(statements[number].key, Kind.UNUSABLE, notes=[f"known good: on {title}"])
        return statements

    def _find_vanished(self, records: SourceRecords, comparison: Comparison, report: RunReport, *, spooled: bool) -> int:
        """Spool the live records that the run has not met; return how many live records there were."""
        live, gone = 0, list[int]()
        for number in records.live_ids():
            live += 1
            if number not in comparison.seen:
                report.vanished += 1
                gone.append(number)
            if len(gone) >= IDS_A_LINE and spooled:
                self._spool.add(gone=gone)
                gone = []
        if gone and spooled:
            self._spool.add(gone=gone)
        return live

    @property
    def _is_journal(self) -> bool:
        return isinstance(self._settings.section, NcmecSection)

    def _write(self, after: SourceState, report: RunReport, options: RunOptions) -> None:
        """Write what is spooled, all of it or nothing, and remove the spool."""
        database = self._store.database
        with database.writing() as connection:
            # Only what is newer is written: between reading and writing the source may have been removed, or run elsewhere.
            state = source_state(connection, after.name)
            if state is None:
                raise SourceReadError(f"the source {after.name} was removed meanwhile; nothing was changed")
            journal = self._is_journal
            writer = SourceWriter(database, connection, state, now_ms=options.now_ms, defaults=options.defaults, journal=journal)
            held: list[Statement] = []
            for message, _ in self._spool.messages():
                held.extend(from_wire(row) for row in message.get("rows", ()))
                if len(held) >= _WRITE_AT_ONCE:
                    writer.write(held)
                    held = []
                writer.retract(message.get("gone", ()))
            writer.write(held)
            self._finish(writer, report)
            kept = {"import_id": state.import_id, "late_after_ms": state.late_after_ms, "kind": state.kind}
            update_source(connection, replace(after, live=after.live - writer.repeated_new, **kept))  # type: ignore[arg-type]  # of these fields
        self._spool.remove()

    def _take_up(self, options: RunOptions) -> RunResult | None:
        """Write what an earlier run had read and compared; None where it no longer fits."""
        about: dict[str, Any] = {}
        end: dict[str, Any] = {}
        for message, _ in self._spool.messages():
            about = message.get("begin", about)
            end = message.get("end", end)
        with self._store.database.reading() as connection:
            state = source_state(connection, self._settings.name)
        fits = state is not None and about.get("settings") == _digest(self._settings) and about.get("cursor") == state.cursor
        if not fits or state is None or int(about["started_ms"]) <= state.as_of_ms:
            self._spool.remove()
            return None
        report = RunReport(**end["report"])
        after = SourceState(**end["state"])
        self._write(after, report, options)
        return RunResult(report, bool(about["full"]), taken_up=True, as_of_ms=after.as_of_ms, without_key=int(end["without_key"]))

    def _resume(self, about: Mapping[str, Any]) -> tuple[dict[str, Any] | None, Sequence[dict[str, Any]]]:
        """Return where a broken look goes on, and what it had read; and leave the spool open behind that."""
        page: dict[str, Any] = {}
        begun: dict[str, Any] = {}
        upto = 0
        rows: list[dict[str, Any]] = []
        kept = 0
        for message, done in self._spool.messages():
            begun = message.get("begin", begun)
            if "rows" in message:
                rows.append(message)
            if "page" in message:
                page, upto, kept = message["page"], done, len(rows)
        same = all(begun.get(name) == about[name] for name in ("settings", "full", "cursor"))
        if not page or not same or not page.get("rest") or not self._is_journal:
            return None, ()
        self._spool.go_on(upto)
        return page | {"started_ms": begun["started_ms"]}, rows[:kept]

    def _state(self, options: RunOptions) -> SourceState:
        section = self._settings.section
        about: dict[str, Any] = {
            "name": self._settings.name,
            "kind": section.kind,
            "late_after_ms": round(section.behind_after_s * 1000),
        }
        database = self._store.database
        with database.reading() as connection:
            state = source_state(connection, self._settings.name)
        if options.dry_run:
            return state or SourceState(import_id=0, **about)
        if state is not None and (state.kind, state.late_after_ms) == (about["kind"], about["late_after_ms"]):
            return state
        with database.writing() as connection:
            return register_source(connection, now_ms=options.now_ms, **about)

    def _after(
        self, state: SourceState, about: Mapping[str, Any], report: RunReport, end: Mapping[str, Any], live_before: int
    ) -> SourceState:
        """Return the source's state once the run is written."""
        started_ms = int(about["started_ms"])
        as_of_ms = started_ms
        if isinstance(self._settings.section, NcmecSection):
            as_of_ms = min(started_ms, int(end["cursor"]))
        return replace(
            state,
            as_of_ms=as_of_ms,
            compared_ms=started_ms if about["full"] else state.compared_ms,
            cursor=str(end.get("cursor", "")),
            live=max(0, live_before + report.new + report.back - report.lost),
        )

    def _result(self, about: Mapping[str, Any], report: RunReport, end: Mapping[str, Any]) -> RunResult:
        without_key = int(end.get("without_key", 0))
        if without_key:
            report.reasons["the key is empty"] = without_key
        as_of_ms = int(about["started_ms"])
        return RunResult(report, bool(about["full"]), taken_up=False, as_of_ms=as_of_ms, without_key=without_key)

    def _line(self, text: str) -> None:
        self._lines += 1
        if self._lines <= MOST_LINES:
            self._on_line(text)
        elif self._lines == MOST_LINES + 1:
            self._on_line("and more of the kind")


def preview(settings: SourceSettings, folder: Path, *, now_ms: int, most: int) -> Iterator[Statement | str | dict[str, Any]]:
    """Yield the source's first items as statements, why others have none, and at last what was said about it as a whole.

    Raises:
        SourceError: it cannot be read.
    """
    task = reading_task(settings, folder, Start(now_ms=now_ms, most=most))
    for message in read_messages(task, run_as=settings.section.run_as):
        yield from (from_wire(row) for row in message.get("rows", ()))
        yield from (str(reason) for reason in message.get("skipped", ()))
        if "end" in message:
            yield message["end"]


@contextlib.contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    try:
        with exclusive(path):
            yield
    except HomeError:
        raise SourceBusyError(f"another run of the source {name} goes on") from None


def _digest(settings: SourceSettings) -> str:
    """Return what tells one way of reading from another; the secret is not in it."""
    said = json.dumps(asdict(settings), sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()
