"""Who wants to be refused can have that, but not the disk that the log is on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.memory import MemoryFederation, MemoryNode, call_of
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.question import Call
from vidfed.security.audit import AuditEntry, Event
from vidfed.security.audit.reporting.report import blurred, make_report
from vidfed.security.errors import AuditError
from vidfed.security.member.logs import LINES_OF_A_KIND, LineBudget
from vidfed.security.member.refusals import ANOTHER_MS, AT_ONCE, TOGETHER_MS, Refusals
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.v1.lookup_pb2 import LookupCall

MORE = 50


@pytest.fixture
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr", "br")
    return made


@pytest.fixture
def node(federation: MemoryFederation, tmp_path: Path) -> Iterator[MemoryNode]:
    with MemoryNode(federation, "fr", tmp_path) as made:
        yield made


def question(federation: MemoryFederation, member: str) -> LookupCall:
    asker = federation.investigator(member)
    request = federation.request(asker, [Hash(Algorithm.SHA256, bytes(32))], "fr")
    return call_of(asker.credential, federation.sign(request, asker))


def ask(node: MemoryNode, call: LookupCall, member: str) -> tuple[Status, bool]:
    """Return how it is disposed of, and whether the answer has a place in the log."""
    answer = read_answer(node.ask(call, member).payload)
    return answer.header.status, answer.log is not None


def entries(node: MemoryNode, event: Event) -> list[dict[str, Any]]:
    found = [entry.fields() for _, entry in node.audit.storage.entries(0, len(node.audit))]
    return [fields for fields in found if fields["event"] == event.value]


def test_refused_calls_do_not_fill_the_log(node: MemoryNode, federation: MemoryFederation) -> None:
    call = question(federation, "nl")
    assert ask(node, call, "nl") == (Status.ANSWERED, True)
    said = [ask(node, call, "nl") for _ in range(AT_ONCE + MORE)]  # replayed, every time
    assert said == [(Status.REPLAYED, True)] * AT_ONCE + [(Status.BUSY, False)] * MORE
    assert node.logged() == 1 + AT_ONCE
    # Others are not touched, and what this member asks honestly is answered and logged as before.
    assert ask(node, question(federation, "br"), "br") == (Status.ANSWERED, True)
    assert ask(node, question(federation, "nl"), "nl") == (Status.ANSWERED, True)
    began_ms = federation.clock()
    federation.clock.advance(TOGETHER_MS)
    node.pipeline.log_refusals()
    (told,) = entries(node, Event.LOOKUPS_REFUSED)
    assert (told["member"], told["details"]) == ("nl", {"REPLAYED": MORE, "count": MORE, "since_ms": began_ms})
    node.pipeline.log_refusals(end=True)
    assert len(entries(node, Event.LOOKUPS_REFUSED)) == 1  # told once


def test_an_answer_beside_a_refusal_beyond_the_budget_keeps_its_own_receipt(node: MemoryNode, federation: MemoryFederation) -> None:
    call = question(federation, "nl")
    for _ in range(AT_ONCE + 1):
        ask(node, call, "nl")
    nl, br = (federation.members[member].tls.certificate for member in ("nl", "br"))
    first, refused, second = node.pipeline.answer(
        [Call(question(federation, "br"), br), Call(call, nl), Call(question(federation, "br"), br)]
    )
    assert first is not None
    assert refused is not None
    assert second is not None
    logs = [read_answer(answer.payload).log for answer in (first, refused, second)]
    assert [log.position if log else None for log in logs] == [AT_ONCE + 1, None, AT_ONCE + 2]


def test_the_budget_fills_again_one_by_one() -> None:
    refusals = Refusals(Event.LOOKUPS_REFUSED)
    assert [refusals.logged_whole("nl", "REPLAYED", 0) for _ in range(AT_ONCE + 1)] == [True] * AT_ONCE + [False]
    assert not refusals.logged_whole("nl", "REPLAYED", ANOTHER_MS - 1)
    assert refusals.logged_whole("nl", "REPLAYED", ANOTHER_MS)
    assert not refusals.logged_whole("nl", "REPLAYED", ANOTHER_MS)
    assert refusals.logged_whole("nl", "REPLAYED", 10 * AT_ONCE * ANOTHER_MS)
    assert [refusals.logged_whole("nl", "", 10 * AT_ONCE * ANOTHER_MS) for _ in range(AT_ONCE)] == [True] * (AT_ONCE - 1) + [False]
    assert refusals.logged_whole("fr", "REPLAYED", 0)
    assert refusals.logged_whole("nl", "REPLAYED", 0, "inv-1")  # each caller by itself


def test_a_clock_put_back_gives_no_budget_and_takes_none() -> None:
    refusals = Refusals(Event.LOOKUPS_REFUSED)
    for _ in range(AT_ONCE):
        refusals.logged_whole("nl", "REPLAYED", 10**9)
    assert not refusals.logged_whole("nl", "REPLAYED", 0)
    assert refusals.logged_whole("nl", "REPLAYED", ANOTHER_MS)


def test_counts_that_cannot_be_logged_are_kept(node: MemoryNode, federation: MemoryFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    call = question(federation, "nl")
    for _ in range(AT_ONCE + 2):
        ask(node, call, "nl")

    def full(_entries: list[AuditEntry]) -> None:
        raise AuditError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(node.audit, "append_many", full)
        with pytest.raises(AuditError):
            node.pipeline.log_refusals(end=True)
    node.pipeline.log_refusals(end=True)
    (told,) = entries(node, Event.LOOKUPS_REFUSED)
    assert told["details"]["count"] == 1


def test_a_report_counts_refusals_that_were_not_logged_one_by_one(node: MemoryNode, federation: MemoryFederation) -> None:
    call = question(federation, "nl")
    for _ in range(AT_ONCE + 1 + MORE):
        ask(node, call, "nl")
    node.pipeline.log_refusals(end=True)
    found = [entry.fields() for _, entry in node.audit.storage.entries(0, len(node.audit))]
    now_ms = federation.clock()
    report = make_report(
        found, federation="memory", member="fr", from_ms=0, to_ms=now_ms + 1, made_ms=now_ms, checkpoint=node.audit.checkpoint()
    )
    assert report["totals"]["refused"] == blurred(AT_ONCE + MORE)


def lines(handler_filter: LineBudget, count: int, text: str = "refused %s", logger: str = "x") -> list[str]:
    said = []
    for number in range(count):
        record = logging.LogRecord(logger, logging.WARNING, "", 0, text, (f"{number}%s",), None)
        if handler_filter.filter(record):
            said.append(record.getMessage())
    return said


def test_lines_of_one_kind_are_said_so_often_only_and_counted_beyond() -> None:
    now_s = [0.0]
    budget = LineBudget(3, clock_s=lambda: now_s[0])
    assert lines(budget, 1_000) == ["refused 0%s", "refused 1%s", "refused 2%s (more like this within 60 s are only counted)"]
    assert lines(budget, 1, "another kind %s") == ["another kind 0%s"]
    now_s[0] = 59.9
    assert lines(budget, 1) == []
    now_s[0] = 60.0
    assert lines(budget, 2) == ["refused 0%s (and 998 more like this before it)", "refused 1%s"]
    now_s[0] = 120.0
    assert lines(budget, 1) == ["refused 0%s"]


def test_kinds_of_lines_are_bounded_too() -> None:
    budget = LineBudget()
    for number in range(5_000):
        lines(budget, 1, f"text of its own {number} %s")
    assert len(budget._kinds) <= 1_000
    assert LINES_OF_A_KIND * 86_400 // 60 * 2_000 < 200 * 10**6  # bytes a day for each kind with lines of 2 KB
