"""A lookup's results as a report to file: one HTML page that stands alone, without pictures, scripts or anything from elsewhere.

Written from `templates/report.html`, where everything is escaped unless the template says otherwise, piece by piece: a million entries are
never in memory.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from vidfed.federation.lookup.agreement import SeriesTable, Statement, conflicts
from vidfed.federation.lookup.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vidfed.federation.lookup.closing import Closing

MAX_ROWS = 10_000  # hits, and conflicts; a report longer than this is no report, and result.csv has all


class ReportCounts(NamedTuple):
    """How many items: asked, known, with weak hits only, known to nobody, not answered by all, not asked at all, asked by digests alone."""

    asked: int
    known: int
    weak: int
    unseen: int
    open: int
    skipped: int
    exact_only: int = 0


class ReportNode(NamedTuple):
    """One member's part: different items it answered, its hits and weak hits, items it did not answer, when it answered, and remarks."""

    member: str
    answered: int | str
    hits: int | str
    weak_hits: int | str
    unanswered: int | str
    when: str
    detail: str


class ReportEntry(NamedTuple):
    """One entry of the source. `hits` as `vidfed.federation.output.json.hit_fields` gives them; `notes` say how it was asked about."""

    number: int
    label: str
    hits: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    weak_hits: Sequence[Mapping[str, Any]] = ()


class _Rows:
    """The table of hits, and what shows only when all of them have gone by. To be read once, rows first."""

    def __init__(self, entries: Iterable[ReportEntry]) -> None:
        self._entries = entries
        self._series = SeriesTable()
        self._count = 0
        self.conflicts: list[str] = []
        self.notes: list[str] = []
        self.weak: list[tuple[ReportEntry, Mapping[str, Any]]] = []
        self.weak_count = 0

    def __iter__(self) -> Iterator[tuple[ReportEntry, Mapping[str, Any]]]:
        for entry in self._entries:
            statements = [Statement.of_fields(hit, entry.number) for hit in entry.hits]
            if len(self.conflicts) < MAX_ROWS:
                self.conflicts += [conflict.text(entry.label) for conflict in conflicts(statements)]
            if len(self.notes) < MAX_ROWS:
                self.notes += [f"{entry.label}: {note}" for note in entry.notes]
            self.weak_count += len(entry.weak_hits)
            self.weak += [(entry, hit) for hit in entry.weak_hits[: MAX_ROWS - len(self.weak)]]
            for statement, hit in zip(statements, entry.hits, strict=True):
                self._series.add(statement)
                self._count += 1
                if self._count <= MAX_ROWS:
                    yield entry, hit

    @property
    def left_out(self) -> int:
        """Hits beyond MAX_ROWS."""
        return max(0, self._count - MAX_ROWS)

    @property
    def weak_left_out(self) -> int:
        """Weak hits beyond MAX_ROWS."""
        return self.weak_count - len(self.weak)

    @property
    def series(self) -> list[str]:
        """The series of several members, for people."""
        return [series.text for series in self._series.shared()]


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vidfed.federation.output", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_report(
    file: IO[str],
    head: Mapping[str, str],
    counts: ReportCounts,
    nodes: Sequence[ReportNode],
    entries: Iterable[ReportEntry],
    closing: Closing,
    not_asked: Mapping[str, str],
) -> None:
    """Write the report.

    Args:
        file: where to.
        head: what was asked, by name; empty values are left out.
        counts: of items.
        nodes: every member, asked or not.
        entries: in the order of the source; taken as they are needed.
        closing: what there is to say at the end.
        not_asked: what could not be asked about, with the reason.
    """
    page = _environment().get_template("report.html")
    unasked = [f"{label}: {why}" for label, why in itertools.islice(not_asked.items(), MAX_ROWS)]
    said = {"closing": closing, "weak_means": Evidence.WEAK.meaning, "unasked": unasked}
    for piece in page.generate(head=head, counts=counts, nodes=nodes, rows=_Rows(entries), **said):
        file.write(piece)
