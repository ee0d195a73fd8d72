"""Following a known-good list over HTTPS: what is on it is kept out of imports and sources, and becomes no record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.formats.entries import FileEntry
from vidfed.node.intake.known_good import FOLDER, KnownGoodList, replace_list
from vidfed.node.sources.errors import SuspiciousError
from vidfed.node.sources.remote.process import read_messages
from vidfed.node.sources.remote.tasks import Start, reading_task
from vidfed.node.sources.rows.statement import Kind, from_wire
from vidfed.security.clock import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidfed.node.sources.settings import SourceSettings
    from vidfed.security.member.home import MemberHome


@dataclass(slots=True)
class KnownGoodReport:
    """What a run found.

    Attributes:
        items: on the list now, with a digest.
        before: on the list that it replaces; None: there was none.
        rows: read.
        passed_over: rows without a digest that can be used.
    """

    items: int = 0
    before: int | None = None
    rows: int = 0
    passed_over: int = 0


def follow_known_good(
    home: MemberHome,
    settings: SourceSettings,
    *,
    now_ms: int,
    dry_run: bool,
    accept_losses: bool,
    on_progress: Callable[[int], None],
) -> KnownGoodReport:
    """Read the list once; it replaces the older one whole, or not at all.

    Args:
        home: the member's.
        settings: of the source.
        now_ms: this machine's time.
        dry_run: read and count, and replace nothing.
        accept_losses: a person agrees to a list that is much shorter than the one before.
        on_progress: gets the number of rows read so far.

    Raises:
        SuspiciousError: it is empty, or much shorter than the one before; that one stands.
        SourceError, ImportFileError: it cannot be read; the one before stands.
    """
    report = KnownGoodReport()

    def entries() -> Iterator[FileEntry]:
        for message in read_messages(reading_task(settings, home.folder, Start(now_ms=now_ms)), run_as=settings.section.run_as):
            skipped = len(message.get("skipped", ()))
            report.rows, report.passed_over = report.rows + skipped, report.passed_over + skipped
            for row in message.get("rows", ()):
                statement = from_wire(row)
                report.rows += 1
                if statement.kind is Kind.LIVE:
                    yield FileEntry(report.rows, statement.codes, {})
                else:
                    report.passed_over += statement.kind is Kind.UNUSABLE
            on_progress(report.rows)

    def check(new: KnownGoodList, old: KnownGoodList | None) -> bool:
        least = (1 - settings.section.ask_above_share) * old.items if old else 1
        if not new.items or (new.items < least and not accept_losses):
            there = f"instead of {old.items}" if old else "at all"
            raise SuspiciousError(
                f"the list has {new.items} items with a digest {there}. Nothing was changed. Is it the right list, and is it complete?"
                " If so: vidfed node source sync NAME --accept-losses"
            )
        return not dry_run

    made, before = replace_list(home.folder / FOLDER, settings.name, entries(), version=as_text(now_ms), now_ms=now_ms, check=check)
    report.items, report.before = made.items, before.items if before else None
    return report
