"""Of what moment the records are, in every answer; and a node whose source is lost never looks current."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.node.lookup.conftest import KNOWN
from tests.support.memory import ANSWERING, MemoryFederation, MemoryNode, call_of
from vidfed.node.policy.policy import Policy
from vidfed.node.records.source_states import register_source, update_source
from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, AnswerHeader

if TYPE_CHECKING:
    from tests.support.memory import MemoryInvestigator

HOUR_MS = 60 * MINUTE_MS


def followed(node: MemoryNode, name: str, as_of_ms: int, *, late_after_ms: int = HOUR_MS) -> None:
    """Let the store know of a source whose records are of this moment."""
    with node.store.database.writing() as connection:
        state = register_source(connection, name=name, kind="sql", late_after_ms=late_after_ms, now_ms=as_of_ms)
        update_source(connection, replace(state, as_of_ms=as_of_ms))


def answer(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> AnswerHeader:
    call = call_of(asker.credential, federation.sign(federation.request(asker, [KNOWN]), asker))
    return read_answer(node.ask(call, "nl").verify(ANSWER_TYPE, node.member.entry.signing_keys)).header


def said(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> tuple[int | None, bool]:
    index = answer(node, federation, asker).index
    assert index is not None
    return index.records_as_of_ms, index.source_behind


def test_records_kept_by_hand_have_no_moment(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert said(node, federation, asker) == (None, False)


def test_the_oldest_source_is_told_without_its_name(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    now_ms = federation.clock()
    followed(node, "secret-a", now_ms - 10 * MINUTE_MS)
    followed(node, "secret-b", now_ms - 30 * MINUTE_MS)
    assert said(node, federation, asker) == (now_ms - 30 * MINUTE_MS, False)
    call = call_of(asker.credential, federation.sign(federation.request(asker, [KNOWN]), asker))
    assert b"secret" not in node.ask(call, "nl").payload


def test_a_node_that_lost_its_source_never_looks_current(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    began_ms = federation.clock()
    followed(node, "cases", began_ms)
    for _ in range(4):
        federation.clock.advance(HOUR_MS + 1)
        assert said(node, federation, asker) == (began_ms, True)


def test_a_source_that_was_never_read_is_behind_from_the_beginning(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    followed(node, "cases", federation.clock())
    followed(node, "new", 0)
    assert said(node, federation, asker) == (0, True)


def test_a_moment_after_now_is_not_believed(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """A clock was wrong when the source was read: how old the records are is not known."""
    now_ms = federation.clock()
    followed(node, "cases", now_ms + DAY_MS)
    assert said(node, federation, asker) == (now_ms, True)


def test_a_policy_can_refuse_to_answer_from_old_records(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    node.policy.policy = Policy((replace(ANSWERING, max_records_age_hours=2),))
    assert answer(node, federation, asker).status is Status.ANSWERED
    followed(node, "cases", federation.clock())
    federation.clock.advance(2 * HOUR_MS)
    assert answer(node, federation, asker).status is Status.ANSWERED
    federation.clock.advance(1)
    header = answer(node, federation, asker)
    assert header.status is Status.RECORDS_TOO_OLD
    assert "older than the 2 hours" in header.detail
    followed(node, "cases", federation.clock())
    assert answer(node, federation, asker).status is Status.ANSWERED
