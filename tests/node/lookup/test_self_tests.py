"""A self-test proves that a node reads, searches, logs and signs, and is no way to its records."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.node.lookup.conftest import KNOWN
from tests.support.memory import FEDERATION, MemoryFederation, MemoryNode, call_of
from vidfed.node.policy.policy import Policy
from vidfed.node.search.canary import CANARY, canary_hashes
from vidfed.security.audit.reporting.report import make_report
from vidfed.security.clock import MINUTE_MS
from vidfed.security.identity.replay import WINDOW_MS, refuses_until_ms
from vidfed.security.sqlite import connect
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, LookupAnswer, Purpose

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator


def answered(node: MemoryNode, asker: MemoryInvestigator, *, purpose: Purpose = Purpose.SELF_TEST) -> LookupAnswer:
    asked = [KNOWN, *canary_hashes(FEDERATION, "fr")]
    request = node.federation.request(asker, asked, purpose=purpose)
    envelope = node.ask(call_of(asker.credential, node.federation.sign(request, asker)), asker.member)
    return read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))


@pytest.mark.parametrize("quarantined", [True, False])
def test_self_test_finds_no_record(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, *, quarantined: bool) -> None:
    """It finds the canary by digest and by index, whatever the policy, and nothing of the records: not even how many there are."""
    member = federation.members["nl"]
    federation.members["nl"] = replace(member, entry=replace(member.entry, quarantined=quarantined))
    node.policy.policy = Policy()
    answer = answered(node, asker)
    assert answer.header.status is Status.ANSWERED
    assert [(hit.item, answer.records[hit.record].reference) for hit in answer.hits] == [(1, CANARY), (2, CANARY)]
    assert node.last_entry()["purpose"] == "self-test"
    state = answer.header.index
    assert state is not None
    assert (state.version, state.records_at_least) == (1, 0)


def test_the_canary_is_found_by_self_tests_only(node: MemoryNode, asker: MemoryInvestigator) -> None:
    answer = answered(node, asker, purpose=Purpose.IDENTIFICATION)
    assert [hit.item for hit in answer.hits] == [0]


def test_a_self_test_is_refused_where_a_lookup_would_be(node: MemoryNode, asker: MemoryInvestigator) -> None:
    for path in node.store.database.path.parent.glob("records.db*"):  # type: ignore[union-attr]  # SQLite's
        path.unlink()
    node.store.database.engine.dispose()
    assert answered(node, asker).header.status is Status.INDEX_UNAVAILABLE


def test_self_tests_have_a_budget(node: MemoryNode, asker: MemoryInvestigator) -> None:
    statuses = {answered(node, asker).header.status for _ in range(61)}
    assert statuses == {Status.ANSWERED, Status.RATE_LIMITED}


def test_self_tests_are_in_no_published_count(node: MemoryNode, asker: MemoryInvestigator) -> None:
    answered(node, asker, purpose=Purpose.IDENTIFICATION)
    for _ in range(61):
        answered(node, asker)
    entries = [entry.fields() for _, entry in node.audit.storage.entries(0, len(node.audit)) if entry.body is not None]
    now_ms = node.federation.clock()
    for entry in entries:
        entry["time_ms"] = now_ms
    report = make_report(
        entries, federation=FEDERATION, member="fr", from_ms=now_ms, to_ms=now_ms + 1, made_ms=now_ms, checkpoint=node.audit.checkpoint()
    )
    assert (report["totals"]["received"], report["totals"]["refused"]) == ([1, 4], [0, 0])


def ahead(tmp_path: Path, until_ms: int) -> None:
    """Make the node's memory one that was written under a clock that was ahead."""
    with closing(connect(tmp_path / "replay.db")) as database:
        database.execute("UPDATE memory SET knows_from_ms = ?", (until_ms,))


def test_a_node_that_refuses_everything_is_not_serving(node: MemoryNode, asker: MemoryInvestigator, tmp_path: Path) -> None:
    """Its memory is ahead, after a boot or a wrong clock: it says until when to all who ask; then it serves again."""
    node.catalogue.catch_up()
    assert node.pipeline.can_answer()
    now_ms = node.federation.clock()
    until_ms = now_ms + WINDOW_MS // 2
    ahead(tmp_path, until_ms)
    assert not node.pipeline.can_answer()
    assert refuses_until_ms(tmp_path / "replay.db", now_ms) == until_ms
    header = answered(node, asker, purpose=Purpose.IDENTIFICATION).header
    assert header.status is Status.NOT_YET
    assert "answers again from" in header.detail
    assert node.last_entry()["outcome"] == "NOT_YET"
    node.federation.clock.advance(MINUTE_MS)
    assert node.pipeline.can_answer()
    assert refuses_until_ms(tmp_path / "replay.db", node.federation.clock()) is None
    assert answered(node, asker, purpose=Purpose.IDENTIFICATION).header.status is Status.ANSWERED
