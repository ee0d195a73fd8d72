"""The report to file: nothing that a member or a file name says becomes markup, and it stands alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from vidfed.federation.lookup.closing import Subject, close
from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome
from vidfed.federation.output import report
from vidfed.federation.output.json import hit_fields
from vidfed.federation.output.report import ReportCounts, ReportEntry, ReportNode, write_report
from vidfed.index import Algorithm
from vidfed.wire.values import RecordView, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

MARKUP = """<script>alert('x')</script>"><img src=x>{{ 7 * 7 }}"""


def written(entries: Iterable[ReportEntry], *, complete: bool = True, head: str = "T-1") -> str:
    file = io.StringIO()
    nodes = [ReportNode("nl", 1, 1, 0, 0, "", ""), ReportNode("fr", 0, 0, 0, 0 if complete else 1, "", MARKUP)]
    said = [NodeOutcome("nl", Outcome.MATCH), NodeOutcome("fr", Outcome.NO_MATCH if complete else Outcome.TIMEOUT)]
    closing = close(Subject(1), said)
    write_report(file, {"case": head, "source": ""}, ReportCounts(1, 1, 0, 0, 0, 0), nodes, entries, closing, {MARKUP: MARKUP})
    return file.getvalue()


def entry(label: str = "photo.jpg", *members: tuple[str, Ternary], series: str = "Tulip", number: int = 1) -> ReportEntry:
    matches = (FoundMatch(Algorithm.MD5, 0),)
    hits = [
        FoundHit(0, member, RecordView("ref-1", series, victim_identified=said, case_contact=series), matches)
        for member, said in members or (("nl", Ternary.YES),)
    ]
    return ReportEntry(number, label, [hit_fields(hit) for hit in hits])


def test_whatever_others_wrote_is_text_and_no_markup() -> None:
    page = written([entry(MARKUP, series=MARKUP)], complete=False, head=MARKUP)
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert not any(word in page for word in ("<script", "<img", "49"))


def test_members_that_did_not_answer_everything_are_named() -> None:
    assert "INCOMPLETE; answered 1, refused by policy 0, no answer 1 (fr: timeout)" in written([entry()], complete=False)
    assert "COMPLETE; answered 2" in written([entry()])


def test_series_and_conflicts_of_all_entries_come_after_the_hits() -> None:
    page = written([entry("a.jpg", ("nl", Ternary.YES), ("fr", Ternary.NO)), entry("b.jpg", ("fr", Ternary.YES), number=2)])
    assert page.index("ref-1") < page.index("Series Tulip: 2 members hold it (fr, nl)") < page.index("Conflict about a.jpg")


def test_a_report_says_how_many_hits_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_ROWS", 2)
    page = written(entry(f"{number}.jpg", number=number) for number in range(5))
    assert "3 further hits are in result.csv." in page
    assert page.count("ref-1") == 2
