"""The closing line and `complete`: one grammar, and COMPLETE only where "no hit" may be said of everything that was named."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.federation.cli.results import EXIT_STATUS
from vidfed.federation.lookup.closing import MAX_NAMES, OLD_ANSWER_MS, Answered, Closing, Limit, Subject, Verdict, close
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item, Shortfall
from vidfed.federation.lookup.result import LookupResult
from vidfed.federation.output.json import to_document
from vidfed.index import Algorithm
from vidfed.wire.values import IndexState, Searched, Share

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_800_000_000_000
ANSWERED = tuple(outcome for outcome in Outcome if outcome.answered)


def member(name: str, outcome: Outcome = Outcome.NO_MATCH, **more: object) -> NodeOutcome:
    return NodeOutcome(name, outcome, **more)  # type: ignore[arg-type]  # the test names the fields


def refusing(name: str, code: str = "NOT_PERMITTED") -> NodeOutcome:
    return member(name, Outcome.REFUSED, code=code)


def few(name: str) -> NodeOutcome:
    searched = (Searched(Algorithm.MD5, 0, Share.FEW), Searched(Algorithm.PDQ, 31, Share.FEW))
    return member(name, index=IndexState(1, NOW, NOW, searched))


def closed(*nodes: NodeOutcome, asked: int = 1, **subject: object) -> Closing:
    return close(Subject(asked, **subject), nodes)  # type: ignore[arg-type]


ONE = "answered 1, refused by policy 0, no answer 0"
LESS = "COMPLETE for what was asked"
END = "every answer verified."
UNKNOWN = "what they hold is not known."
LINES = [
    (closed(member("fr"), member("nl")), f"COMPLETE; answered 2, refused by policy 0, no answer 0; {END}"),
    (
        closed(member("fr"), asked=4, not_asked=12, noun="files"),
        f"COMPLETE for 4 of 16 files; 12 not asked; {ONE}; {END}",
    ),
    (
        closed(member("fr"), *(member(name, Outcome.NOT_CHOSEN) for name in ("br", "nl", "se"))),
        f"{LESS}; only fr was asked; 3 members were not (br, nl, se); {ONE}; {END}",
    ),
    (
        closed(*(member(f"m{number}") for number in range(10)), refusing("de"), refusing("it")),
        f"INCOMPLETE; answered 10, refused by policy 2 (de, it), no answer 0; {UNKNOWN}",
    ),
    (
        closed(member("fr"), member("it", Outcome.NOT_ASKED, detail="in quarantine"), member("nl", Outcome.TIMEOUT)),
        f"INCOMPLETE; left out 1 (it: in quarantine); answered 1, refused by policy 0, no answer 1 (nl: timeout); {UNKNOWN}",
    ),
    (
        closed(member("fr"), asked=9, noun="files", shortfalls={Shortfall.EXACT_ONLY: 2, Shortfall.FRAMES: 1}),
        f"{LESS}; {ONE}; 2 of 9 files by exact copies only; 1 without their further frames; {END}",
    ),
    (
        closed(few("fr")),
        f"{LESS}; {ONE}; PDQ: few of the records of fr; {END}",
    ),
    (
        close(Subject(1), [member("fr", directory=12), member("nl", directory=11)], directory=11),
        "INCOMPLETE; answered 2, refused by policy 0, no answer 0; fr answered by a newer trust directory: members may be missing here.",
    ),
    (
        close(Subject(1), [member("fr")], answered_at=Answered(NOW, NOW)),
        f"{LESS}; {ONE}; answered on 2027-01-15T08:00:00Z; {END}",
    ),
    (closed(), f"INCOMPLETE; nobody was asked; {UNKNOWN}"),
    (closed(asked=0, not_asked=3, noun="files"), "NOTHING ASKED; 3 not asked."),
    (closed(refusing("fr")), f"INCOMPLETE; answered 0, refused by policy 1 (fr), no answer 0; {UNKNOWN}"),
]


@pytest.mark.parametrize(("said", "line"), LINES)
def test_the_line_says_what_was_asked_who_answered_and_what_is_missing(said: Closing, line: str) -> None:
    assert said.line == line


def test_bulk_of_nobody_is_not_complete_by_itself() -> None:
    assert closed().verdict is Verdict.INCOMPLETE
    assert not closed(member("it", Outcome.NOT_ASKED)).complete


@pytest.mark.parametrize(("one", "other"), list(product(Outcome, Outcome)))
def test_complete_needs_a_whole_signed_answer_of_every_member(one: Outcome, other: Outcome) -> None:
    assert closed(member("a", one), member("b", other)).complete is (one in ANSWERED and other in ANSWERED)


LIMITING = {
    Limit.NOT_ASKED: closed(member("fr"), not_asked=1),
    Limit.EXACT_ONLY: closed(member("fr"), shortfalls={Shortfall.EXACT_ONLY: 1}),
    Limit.FRAMES_CUT: closed(member("fr"), shortfalls={Shortfall.FRAMES: 1}),
    Limit.PARTLY_DECODED: closed(member("fr"), shortfalls={Shortfall.PART: 1}),
    Limit.MEMBERS_CHOSEN: closed(member("fr"), member("nl", Outcome.NOT_CHOSEN)),
    Limit.COVERAGE: closed(few("fr")),
    Limit.EARLIER: close(Subject(1), [member("fr")], answered_at=Answered(NOW, NOW)),
}


@pytest.mark.parametrize("limit", Limit)
def test_whatever_was_asked_less_makes_it_limited_by_name_and_exit_status(limit: Limit) -> None:
    said = LIMITING[limit]
    assert (said.limits, said.verdict, said.complete) == ((limit,), Verdict.LIMITED, False)
    assert EXIT_STATUS[said.verdict] == 5


def test_digests_that_were_given_as_such_are_told_and_limit_nothing() -> None:
    said = closed(member("fr"), asked=3, bare_digests=2)
    assert said.complete
    assert "2 of 3 items by exact copies only" in said.line


def test_every_verdict_has_an_exit_status_and_only_complete_is_0() -> None:
    assert {verdict for verdict in Verdict if EXIT_STATUS[verdict] == 0} == {Verdict.COMPLETE}


def test_complete_is_false_with_failures() -> None:
    result = LookupResult((Item("a.jpg", {Algorithm.MD5: (bytes(16),)}),), (member("fr"),))
    assert to_document(result)["complete"] is True
    document = to_document(result, {"broken.jpg": "cannot be read"})
    assert (document["complete"], document["verdict"], document["limits"]) == (False, "limited", ["not-asked"])
    assert document["line"].startswith("COMPLETE for 1 of 2 files; 1 not asked; ")


def test_a_refusal_by_policy_is_told_apart_from_silence_and_nothing_is_to_come_of_it() -> None:
    refused = closed(member("fr"), refusing("de"))
    assert (refused.verdict, refused.may_still_come, refused.worth_asking_again) == (Verdict.INCOMPLETE, False, False)
    busy = closed(member("fr"), refusing("de", "INTERNAL_ERROR"))
    assert ([node.member for node in busy.silent], busy.refused_by_policy) == (["de"], [])
    assert (busy.may_still_come, busy.worth_asking_again) == (False, True)
    late = closed(refusing("de"), member("fr", Outcome.TIMEOUT))
    assert (late.may_still_come, late.worth_asking_again) == (True, True)


def test_answers_of_an_earlier_run_limit_a_result_if_none_is_new_or_some_are_old() -> None:
    def judged(first_ms: int, last_ms: int) -> tuple[bool, bool]:
        at = Answered.between(first_ms, last_ms, begun_ms=NOW, now_ms=NOW + 1000)
        return at.earlier, at.limits

    assert judged(NOW, NOW + 1) == (False, False)
    assert judged(NOW - 1000, NOW + 1) == (True, False), "it went on after a break"
    assert judged(NOW - 1000, NOW - 500) == (True, True), "nobody was asked anew"
    assert judged(NOW - OLD_ANSWER_MS, NOW + 1) == (True, True)


def test_of_many_members_some_are_named() -> None:
    said = closed(*(refusing(f"m{number:02}") for number in range(MAX_NAMES + 3)))
    assert f"m{MAX_NAMES - 1}, and 3 more)" in said.line


NODES = st.lists(
    st.builds(member, st.sampled_from(["br", "fr", "nl"]), st.sampled_from(Outcome)), max_size=4, unique_by=lambda node: node.member
)
SUBJECTS = st.builds(Subject, st.integers(0, 3), st.integers(0, 3), whole=st.booleans(), unanswered=st.integers(0, 1))


@given(SUBJECTS, NODES)
def test_the_word_complete_stands_first_exactly_where_all_asked_is_answered(subject: Subject, nodes: Iterable[NodeOutcome]) -> None:
    said = close(subject, nodes)
    word = said.line.split(";", maxsplit=1)[0].split(" ", maxsplit=1)[0].rstrip(".")
    words = {Verdict.COMPLETE: "COMPLETE", Verdict.LIMITED: "COMPLETE", Verdict.NOTHING_ASKED: "NOTHING"}
    assert word == words.get(said.verdict, "INCOMPLETE")
    assert said.complete is (said.line.startswith("COMPLETE;"))
    if said.complete:
        assert all(node.outcome.answered for node in said.nodes)
        assert (subject.not_asked, subject.whole, bool(said.nodes)) == (0, True, True)
