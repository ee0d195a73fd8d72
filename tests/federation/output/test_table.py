"""A result on screen and as JSON: unknown is not no, silence is not 'no match'."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import jsonschema
import pytest
from rich.console import Console

from vidfed.casework.news.book import RecordNews
from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item
from vidfed.federation.lookup.result import LookupResult
from vidfed.federation.output.json import SCHEMA, schema, to_document
from vidfed.federation.output.table import show_result
from vidfed.index import Algorithm
from vidfed.wire.news import Change
from vidfed.wire.values import HandlingCode, IndexState, RecordView, Searched, Ternary

NOW = 1_800_000_000_000
ITEM = Item("photo.jpg", {Algorithm.PDQ: (bytes(32),)}, notes=("too plain",))
STATE = IndexState(7, NOW - 3_600_000, NOW, (Searched(Algorithm.PDQ, 31),))
RECORD = RecordView("ref-1", "Tulip", ("tag",), case_reference="C-1", case_contact="desk", handling_code=HandlingCode.H2)


def hit(record: RecordView = RECORD, *, item: int = 0, exact: bool = False) -> FoundHit:
    matches = (FoundMatch(Algorithm.PDQ, 5, "mirrored"),) + ((FoundMatch(Algorithm.SHA256, 0),) if exact else ())
    return FoundHit(item, "nl", record, matches)


def result(*nodes: NodeOutcome, items: int = 1) -> LookupResult:
    return LookupResult((ITEM,) * items, nodes)


def shown(said: LookupResult, width: int = 200) -> str:
    written = io.StringIO()
    show_result(said, Console(file=written, width=width, highlight=False), now_ms=NOW)
    return " ".join(written.getvalue().split())


ANSWERED = NodeOutcome("nl", Outcome.NO_MATCH, index=STATE)
MATCHED = NodeOutcome("nl", Outcome.MATCH, index=STATE, hits=(hit(),))
BAD = [outcome for outcome in Outcome if not outcome.answered]


# --- on screen ---


@pytest.mark.parametrize("width", [80, 200])
def test_unknown_is_not_no_on_screen(width: int) -> None:
    said = shown(result(MATCHED), width)
    assert "unknown" in said
    assert "NO " not in said
    denied = shown(result(NodeOutcome("nl", Outcome.MATCH, hits=(hit(RecordView("r", victim_identified=Ternary.NO)),))), width)
    assert "NO " in denied


def test_what_was_searched_how_much_and_how_sure_it_is_are_told() -> None:
    index = replace(STATE, searched=(Searched(Algorithm.PDQ, 31), Searched(Algorithm.SHA256, 0)), records_at_least=10_000)
    graded = replace(RECORD, source_grading="B", information_grading="2")
    said = shown(result(NodeOutcome("nl", Outcome.MATCH, index=index, hits=(hit(graded),))))
    assert "Searched by SHA-256, PDQ up to 31." in said
    assert "10,000+ records" in said
    assert "source B" in said
    assert "information 2" in said


def test_a_distance_in_a_band_is_shown_as_one() -> None:
    banded = FoundHit(0, "nl", RECORD, (FoundMatch(Algorithm.PDQ, 15, slack=14),))
    assert "near: PDQ 1 to 15" in shown(result(NodeOutcome("nl", Outcome.MATCH, index=STATE, hits=(banded,))))


def test_a_complete_result_says_so() -> None:
    assert shown(result(ANSWERED)).endswith("COMPLETE; answered 1, refused by policy 0, no answer 0; every answer verified.")
    assert "INCOMPLETE" not in shown(result(ANSWERED))


@pytest.mark.parametrize("outcome", BAD)
@pytest.mark.parametrize("items", [1, 3])
def test_a_node_that_did_not_answer_is_named_and_never_a_no_match(outcome: Outcome, items: int) -> None:
    said = shown(result(ANSWERED, NodeOutcome("fr", outcome), items=items))
    if outcome is Outcome.NOT_CHOSEN:
        assert "COMPLETE for what was asked; only nl was asked; 1 member was not (fr);" in said
    else:
        left_out = "left out 1 (fr: not asked); " if outcome is Outcome.NOT_ASKED else ""
        silent = "0" if left_out else f"1 (fr: {outcome.value})"
        assert f"INCOMPLETE; {left_out}answered 1, refused by policy 0, no answer {silent}; what they hold is not known." in said
        assert " COMPLETE" not in said
    assert f"fr {outcome.value} ? -" in said


@pytest.mark.parametrize("outcome", BAD)
@pytest.mark.parametrize("items", [1, 3])
def test_when_no_node_answered_nothing_is_said_to_be_unknown_to_them(outcome: Outcome, items: int) -> None:
    said = shown(result(NodeOutcome("fr", outcome), items=items))
    assert "No node answered: nothing is known about what was asked." in said
    assert "No node that answered knows" not in said
    assert "not known to any node" not in said
    assert "INCOMPLETE; " in said
    assert said.endswith("what they hold is not known.")


def test_hits_of_a_node_that_searched_only_a_part_are_shown() -> None:
    said = shown(result(NodeOutcome("nl", Outcome.PARTIAL, hits=(hit(),), index=STATE)))
    assert "Tulip" in said
    assert "INCOMPLETE" in said


def test_what_was_cut_off_and_what_was_noted_is_told() -> None:
    said = shown(result(NodeOutcome("nl", Outcome.MATCH, index=STATE, hits=(hit(),), truncated_items=(0,))))
    assert "nl holds more records than it tells for: photo.jpg" in said
    assert "Note: photo.jpg: too plain" in said


def test_an_index_that_was_behind_is_told() -> None:
    behind = IndexState(7, NOW - 7_200_000, NOW - 120_000, (Searched(Algorithm.PDQ, 31),))
    assert "120 s behind, changed 2 h ago" in shown(result(NodeOutcome("nl", Outcome.NO_MATCH, index=behind)))


@pytest.mark.parametrize(
    ("as_of_ms", "behind", "words"),
    [
        (NOW - NOW % 86_400_000, False, "records as of today 00:00 UTC"),
        (NOW - NOW % 86_400_000 - 79_200_000, False, "records as of yesterday 02:00 UTC"),
        (1_767_312_000_000, True, "records as of 2026-01-02 00:00 UTC, BEHIND the member's own source"),
        (0, True, "a source of the member was never read, BEHIND"),
    ],
)
def test_of_what_moment_a_members_records_are_is_told(as_of_ms: int, behind: bool, words: str) -> None:
    index = replace(STATE, records_as_of_ms=as_of_ms, source_behind=behind)
    assert words in shown(result(NodeOutcome("fr", Outcome.NO_MATCH, index=index)), 300)


@pytest.mark.parametrize("moment_ms", [-(2**63), 2**63 - 1])
def test_a_moment_no_calendar_knows_does_not_end_the_program(moment_ms: int) -> None:
    index = IndexState(2**64 - 1, moment_ms, moment_ms, ())
    assert "COMPLETE" in shown(result(NodeOutcome("nl", Outcome.NO_MATCH, index=index)))


def test_a_refusal_shows_its_code_where_the_missing_are_named() -> None:
    said = shown(result(ANSWERED, NodeOutcome("fr", Outcome.REFUSED, "NOT_PERMITTED: ask them", code="NOT_PERMITTED")))
    assert "INCOMPLETE; answered 1, refused by policy 1 (fr), no answer 0; what they hold is not known." in said
    assert "fr refused by policy ? -" in said


def test_a_series_of_several_members_and_a_conflict_are_pointed_out() -> None:
    def node(member: str, victim: Ternary) -> NodeOutcome:
        found = FoundHit(0, member, RecordView("r", "Tulip", victim_identified=victim), (FoundMatch(Algorithm.PDQ, 5),))
        return NodeOutcome(member, Outcome.MATCH, index=STATE, hits=(found,))

    said = shown(result(node("nl", Ternary.NO), node("se", Ternary.YES)))
    assert "Series Tulip: 2 members hold it (nl, se); victim identified by se, not identified by nl." in said
    assert "Conflict about photo.jpg: victim identified: yes by se, no by nl. Not resolved here: ask them." in said


def test_what_others_wrote_is_not_taken_for_markup() -> None:
    record = RecordView("r", series="[bold]x[/bold]", case_reference="[transport=http://x]", case_contact="[/]")
    said = shown(result(NodeOutcome("nl", Outcome.MATCH, index=STATE, hits=(hit(record),))))
    assert "[bold]x[/bold]" in said
    assert "[transport=http://x]" in said


NEWS = RecordNews("nl", "ref-1", (Change.RETRACTED,), NOW, None)


def test_hit_whose_record_was_taken_back_since_is_never_shown_without_saying_so() -> None:
    assert "SUPERSEDED" in shown(result(MATCHED).with_news({("nl", "ref-1"): NEWS}))
    assert "Do not rely on it" in shown(result(MATCHED).with_news({("nl", "ref-1"): NEWS}))


def test_hit_that_was_told_after_the_news_is_as_it_is() -> None:
    older = replace(NEWS, since_ms=STATE.current_ms - 1)
    assert "SUPERSEDED" not in shown(result(MATCHED).with_news({("nl", "ref-1"): older}))


def test_document_says_what_a_record_is_now() -> None:
    changed = replace(NEWS, changes=(Change.STATUS,), record=replace(RECORD, victim_identified=Ternary.YES))
    document = to_document(result(MATCHED).with_news({("nl", "ref-1"): changed}))
    jsonschema.validate(document, schema())
    (found,) = document["hits"]
    assert (found["victim_identified"], found["superseded"]["record"]["victim_identified"]) == ("unknown", "yes")


# --- as JSON ---

NODE_KEYS = {"refused_by_policy", "directory_version", "weak_hits"}
NODE_KEYS |= {"member", "outcome", "code", "detail", "answered", "verified", "hits", "truncated_items", "frames_not_searched", "index"}
HIT_KEYS = {
    "item",
    "member",
    "evidence",
    "matched_by",
    "matches",
    "film",
    "reference",
    "series",
    "tags",
    "victim_identified",
    "offender_identified",
    "distributed",
    "case_reference",
    "case_contact",
    "handling_code",
    "handling_note",
    "category",
    "category_scale",
    "category_region",
    "source_grading",
    "information_grading",
    "superseded",
}


def test_the_document_has_exactly_the_fields_of_its_schema() -> None:
    document = to_document(result(MATCHED, NodeOutcome("fr", Outcome.TIMEOUT, "late")), {"x.jpg": "truncated"})
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == SCHEMA == "vidfed.lookup/1"
    counts = {"nodes_asked": 2, "nodes_answered": 1, "nodes_verified": 1}
    assert set(document) == set(schema()["properties"]) == set(schema()["required"])
    assert document["complete"] is False
    assert {name: document[name] for name in counts} == counts
    assert document["items"] == [
        {"item": 0, "label": "photo.jpg", "status": "known", "exact_only": False, "shortfalls": [], "notes": ["too plain"]}
    ]
    assert document["failures"] == [{"file": "x.jpg", "reason": "truncated"}]
    (found,) = document["hits"]
    assert set(found) == HIT_KEYS
    assert (found["evidence"], found["victim_identified"], found["handling_code"]) == ("near", "unknown", "H2")
    assert found["matched_by"] == ["PDQ 5, mirrored"]
    (match,) = found["matches"]
    assert match == {"algorithm": "pdq", "distance": 5, "distance_at_least": 5, "orientation": "mirrored"} | {
        "record_view": None,
        "record_quality": None,
        "plain": False,
        "compared": None,
    }
    nl, fr = document["nodes"]
    assert set(nl) == set(fr) == NODE_KEYS
    assert nl["index"] == {
        "version": 7,
        "changed_ms": NOW - 3_600_000,
        "current_ms": NOW,
        "searched": [{"algorithm": "pdq", "max_distance": 31, "records_with": "nearly-all"}],
        "records_at_least": 0,
        "records_as_of_ms": None,
        "source_behind": False,
    }
    assert (fr["outcome"], fr["answered"], fr["index"]) == ("TIMEOUT", False, None)


def test_a_hit_by_a_digest_is_exact() -> None:
    (found,) = to_document(result(NodeOutcome("nl", Outcome.MATCH, hits=(hit(exact=True),))))["hits"]
    assert (found["evidence"], found["matched_by"]) == ("exact", ["SHA-256"])


@pytest.mark.parametrize("outcome", BAD)
def test_a_script_cannot_take_silence_for_an_answer(outcome: Outcome) -> None:
    document = to_document(result(NodeOutcome("fr", outcome)))
    assert (document["complete"], document["nodes_answered"]) == (False, 0)
    assert (document["nodes"][0]["answered"], document["nodes"][0]["outcome"]) == (False, outcome.name)


def test_nobody_asked_is_not_complete() -> None:
    assert to_document(result())["complete"] is False


# --- what can be done next ---


def test_each_hit_of_another_member_comes_with_the_command_that_asks_for_its_details() -> None:
    own, theirs, same_name = hit(), replace(hit(), member="fr", record=replace(RECORD, reference="ref-2")), replace(hit(), member="fr")
    written = io.StringIO()
    nodes = (NodeOutcome("nl", Outcome.MATCH, hits=(own,)), NodeOutcome("fr", Outcome.MATCH, hits=(theirs, same_name)))
    show_result(result(*nodes), Console(file=written, width=200), now_ms=NOW, own="nl")
    commands = [line for line in written.getvalue().splitlines() if line.startswith("Details")]
    assert sorted(line.split(" --want")[0] for line in commands) == [f"Details: vidfed cases ask {name}" for name in ("ref-1", "ref-2")]
    named = shown(result(*nodes))
    assert "cases ask ref-1 --member nl" in named
    assert "cases ask ref-1 --member fr" in named


def test_many_records_do_not_fill_the_screen_with_commands() -> None:
    hits = tuple(replace(hit(), record=replace(RECORD, reference=f"ref-{number}")) for number in range(7))
    said = shown(result(NodeOutcome("nl", Outcome.MATCH, hits=hits)))
    assert said.count("vidfed cases ask") == 5
    assert "Details of the other 2 records: the same with their ref." in said
