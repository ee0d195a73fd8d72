"""The report an officer files: complete, said once, in words; nothing that a member or a file name says becomes markup."""

from __future__ import annotations

import html
import io
import re
from importlib import resources
from typing import TYPE_CHECKING

import pytest
from jinja2.ext import babel_extract

from vidfed.desk.shell.language import LANGUAGES, language
from vidfed.federation.lookup.closing import Subject, close
from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome
from vidfed.federation.output import report
from vidfed.federation.output.json import hit_fields
from vidfed.federation.output.report import ENGLISH, ReportCounts, ReportEntry, ReportHead, ReportNode, Unit, Words, gather
from vidfed.index import Algorithm
from vidfed.wire.values import HandlingCode, RecordView, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKUP = """<script>alert('x')</script>"><img src=x>{{ 7 * 7 }}"""
UNITS = {"nl": Unit("Netherlands, TBKK", "+31 1"), "fr": Unit("France, OFMIN", "desk@ofmin.example"), "de": Unit("Germany, BKA", "+49 2")}


def written(
    entries: Iterable[ReportEntry],
    *,
    complete: bool = True,
    case: str = "T-1",
    not_asked: dict[str, str] | None = None,
    words: Words = ENGLISH,
) -> str:
    file = io.StringIO()
    nodes = [ReportNode("nl", 1, 1, 0, 0, "", ""), ReportNode("fr", 0, 0, 0, 0 if complete else 1, "", MARKUP)]
    said = [NodeOutcome("nl", Outcome.MATCH), NodeOutcome("fr", Outcome.NO_MATCH if complete else Outcome.TIMEOUT)]
    head = ReportHead("jansen", "nl", case, "identification", "Police Data Act", "victim-identity", "", 0, UNITS)
    closing = close(Subject(1), said)
    gather(head, ReportCounts(1, 1, 0, 0, 0, 0), nodes, entries, closing, {MARKUP: MARKUP} | (not_asked or {})).write(file, words)
    return file.getvalue()


def text_of(page: str) -> str:
    """What is read on the page, on one line."""
    return html.unescape(" ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split()))


def entry(
    label: str = "photo.jpg", *members: tuple[str, Ternary], series: str = "Tulip", number: int = 1, match: FoundMatch | None = None
) -> ReportEntry:
    hits = [
        FoundHit(
            0,
            member,
            RecordView("ref-1", series, victim_identified=said, case_contact=series, handling_code=HandlingCode.H2),
            (match or FoundMatch(Algorithm.MD5, 0),),
        )
        for member, said in members or (("nl", Ternary.YES),)
    ]
    return ReportEntry(number, label, [hit_fields(hit) for hit in hits])


def test_whatever_others_wrote_is_text_and_no_markup() -> None:
    page = written([entry(MARKUP, series=MARKUP)], complete=False, case=MARKUP)
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert not any(word in page for word in ("<script", "<img", "49 "))


def test_members_that_did_not_answer_everything_are_named_with_whom_to_call() -> None:
    page = written([entry()], complete=False)
    assert "INCOMPLETE; answered 1, refused by policy 0, no answer 1 (fr: timeout)" in page
    assert "France, OFMIN (fr) timeout desk@ofmin.example" in text_of(page)
    assert "COMPLETE; answered 2" in written([entry()])


def test_it_says_who_asked_for_which_case_and_when() -> None:
    said = text_of(written([entry()]))
    assert "Asked by jansen, Netherlands, TBKK (nl) For the case T-1 Purpose identification Legal basis Police Data Act" in said
    assert "Written 1970-01-01" in said


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (FoundMatch(Algorithm.MD5, 0), "the same file exact: MD5"),
        (FoundMatch(Algorithm.PDQ, 9), "the same picture, recompressed or changed a little near: PDQ 9"),
        (FoundMatch(Algorithm.PDQ, 9, "flipped left to right"), "the same picture, turned or mirrored near: PDQ 9, flipped left to right"),
        (FoundMatch(Algorithm.PDQ, 9, record_view="middle"), "the same picture, cut or with a border near: PDQ 9 to the record"),
    ],
)
def test_what_matched_is_said_in_words_beside_class_algorithm_and_distance(match: FoundMatch, words: str) -> None:
    assert words in text_of(written([entry(match=match)]))


def test_near_hits_say_that_nobody_has_looked_and_exact_ones_do_not() -> None:
    looked = "nobody's eye"
    assert looked in text_of(written([entry(match=FoundMatch(Algorithm.PDQ, 9))]))
    assert looked not in text_of(written([entry()]))


@pytest.mark.parametrize(
    ("said", "next_step"),
    [
        (Ternary.YES, "The victim is known to Netherlands, TBKK (nl). Do not begin to identify"),
        (Ternary.NO, "Netherlands, TBKK (nl) works on it and has not identified the victim. Call before you begin"),
        (Ternary.UNKNOWN, "does not say whether the victim is identified"),
    ],
)
def test_it_says_what_to_do_next(said: Ternary, next_step: str) -> None:
    assert next_step in text_of(written([entry("a.jpg", ("nl", said))]))


def test_200_pictures_of_one_series_say_what_is_common_once() -> None:
    page = written(entry(f"{number}.jpg", number=number) for number in range(1, 201))
    said = text_of(page)
    assert said.count("not passed on without permission") == 1
    assert said.count("Do not begin to identify") == 1
    assert "1 Netherlands, TBKK (nl) Tulip 200 200 0 yes Tulip" in said, "the summary: pictures, exact, near, identified, whom to call"
    assert all(f"{number}.jpg" in page for number in range(1, 201))


def test_files_not_asked_are_gathered_by_their_reason() -> None:
    said = text_of(written([entry()], not_asked={f"{number}.doc": "no picture" for number in range(30)}))
    assert said.count("no picture") == 1
    assert "and 18 more, all in result.csv" in said


def test_a_page_that_is_printed_carries_its_number() -> None:
    assert 'content:counter(page) " / " counter(pages)' in written([entry()])


def test_series_and_conflicts_of_all_entries_come_after_the_hits() -> None:
    page = written([entry("a.jpg", ("nl", Ternary.YES), ("fr", Ternary.NO)), entry("b.jpg", ("fr", Ternary.YES), number=2)])
    assert page.index("ref-1") < page.index("Series Tulip: 2 members hold it (fr, nl)") < page.index("Conflict about a.jpg")


def test_a_report_says_how_many_hits_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_ROWS", 2)
    page = written(entry(f"{number}.jpg", number=number) for number in range(5))
    assert "Further hits are in result.csv: 3." in page
    assert page.count("ref-1") == 2


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_the_report_is_whole_in_each_language_of_the_desk(code: str) -> None:
    spoken = language(code)
    with io.BytesIO((resources.files("vidfed.federation.output") / "templates/report.html").read_bytes()) as file:
        found = [message for _, _, message, _ in babel_extract(file, ("_",), [], {"trim_blocks": "true", "lstrip_blocks": "true"})]
    texts = [each if isinstance(each, str) else str((each or ("",))[0]) for each in found]
    assert len(texts) > 60
    names = {"Grading", "Exact", "Offence", "Part", "Distance", "Conflicts", "Open"}  # may be the same word elsewhere
    assert [text for text in texts if text not in names and spoken.say(text) == text] == []
    page = written([entry()], complete=False, words=spoken)
    assert f'lang="{code}" dir="{spoken.direction}"' in page
    assert spoken.say("This translation was made by machine and reviewed by nobody.") in text_of(page)
