"""Questions answered together: each is judged by itself, and none can spoil another's answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.node.lookup.conftest import KNOWN, UNKNOWN
from tests.support.disk import full_disk
from tests.support.memory import ANSWERING, MemoryFederation, call_of
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.question import Call
from vidfed.node.policy.policy import Limits, Policy
from vidfed.node.search.catalogue import Catalogue
from vidfed.security.crypto.envelope import Envelope
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, LookupAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from tests.support.memory import MemoryInvestigator, MemoryNode
    from vidfed.node.search.query import Found, SearchQuery
    from vidfed.v1.lookup_pb2 import LookupCall


def told(node: MemoryNode, *calls: LookupCall) -> list[LookupAnswer]:
    """What the node says to questions of nl that came together; that each answer is to its own question is checked here."""
    leaf = node.federation.members["nl"].tls.certificate
    answers = []
    for call, envelope in zip(calls, node.pipeline.answer([Call(call, leaf) for call in calls]), strict=True):
        assert envelope is not None
        answer = read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))
        assert answer.header.request_digest == Envelope(call.request.payload_type, call.request.payload).digest
        answers.append(answer)
    return answers


def statuses(node: MemoryNode, *calls: LookupCall) -> list[Status]:
    return [answer.header.status for answer in told(node, *calls)]


def about(federation: MemoryFederation, asker: MemoryInvestigator, *hashes: Hash, **header: object) -> LookupCall:
    return call_of(asker.credential, federation.sign(federation.request(asker, hashes or [KNOWN], **header), asker))


def test_each_gets_the_answer_it_would_get_alone(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    honest, unknown = about(federation, asker), about(federation, asker, UNKNOWN)
    unsigned = call_of(asker.credential, replace(federation.sign(federation.request(asker, [KNOWN]), asker), signatures=()))
    answers = told(
        node,
        about(federation, asker, purpose=None),
        honest,
        unsigned,
        about(federation, asker, audience=("br",)),
        unknown,
        about(federation, asker, expires_ms=federation.clock() - 1),
        about(federation, asker, pseudonym="somebody"),
    )
    assert [answer.header.status for answer in answers] == [
        Status.JUSTIFICATION_MISSING,
        Status.ANSWERED,
        Status.BAD_SIGNATURE,
        Status.WRONG_AUDIENCE,
        Status.ANSWERED,
        Status.OUTSIDE_TIME_WINDOW,
        Status.BAD_CREDENTIAL,
    ]
    assert [len(answer.hits) for answer in answers] == [0, 1, 0, 0, 0, 0, 0]
    assert [answer.log.position for answer in answers if answer.log] == list(range(node.logged() - 7, node.logged()))
    assert statuses(node, unknown, about(federation, asker), honest) == [Status.REPLAYED, Status.ANSWERED, Status.REPLAYED]


def test_replay_inside_one_group(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = about(federation, asker)
    assert statuses(node, call, call, call) == [Status.ANSWERED, Status.REPLAYED, Status.REPLAYED]


def test_a_budget_pays_for_as_many_as_it_has_room_for(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    node.policy.policy = Policy((replace(ANSWERING, limits=Limits(lookups_per_minute=2)),))
    answers = told(node, *(about(federation, asker) for _ in range(3)))
    assert [answer.header.status for answer in answers] == [Status.ANSWERED, Status.ANSWERED, Status.RATE_LIMITED]
    assert answers[2].header.detail.startswith("more than 2 lookups in a minute")


def test_a_stranger_among_them_is_owed_nothing(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    stranger = MemoryFederation(federation.clock)
    stranger.add("nl")
    leaves = [federation.members["nl"].tls.certificate, stranger.members["nl"].tls.certificate, federation.members["nl"].tls.certificate]
    answers = node.pipeline.answer([Call(about(federation, asker), leaf) for leaf in leaves])
    assert [answer is None for answer in answers] == [False, True, False]


def test_of_two_members_each_is_told_what_it_may_know(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    told_all = replace(ANSWERING, members=frozenset({"nl"}))
    node.policy.policy = Policy((told_all, replace(ANSWERING, name="less", withheld_series=frozenset("s"))))
    other = federation.investigator("br", "inv-br")
    calls = [about(federation, asker), about(federation, other), about(federation, asker)]
    leaves = [federation.members[member].tls.certificate for member in ("nl", "br", "nl")]
    answers = [
        read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))
        for envelope in node.pipeline.answer([Call(call, leaf) for call, leaf in zip(calls, leaves, strict=True)])
        if envelope is not None
    ]
    assert [len(answer.hits) for answer in answers] == [1, 0, 1]
    assert [answer.header.audience for answer in answers] == ["nl", "br", "nl"]


def test_a_question_that_breaks_the_search_breaks_only_its_own(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Catalogue.search

    def fragile(catalogue: Catalogue, wanted: Sequence[SearchQuery], **options: float) -> list[Found]:
        if any(code == UNKNOWN.code for each in wanted for column in each.columns for code in map(bytes, column.codes)):
            raise ZeroDivisionError("secret")
        return search(catalogue, wanted, **options)

    monkeypatch.setattr(Catalogue, "search", fragile)
    answers = told(node, about(federation, asker), about(federation, asker, UNKNOWN), about(federation, asker))
    assert [answer.header.status for answer in answers] == [Status.ANSWERED, Status.INTERNAL_ERROR, Status.ANSWERED]
    assert [len(answer.hits) for answer in answers] == [1, 0, 1]


def test_a_search_that_nobody_can_have_is_refused_to_all(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert statuses(node, about(federation, asker)) == [Status.ANSWERED]
    node.catalogue.close()
    perceptual = Hash(Algorithm.PDQ, bytes(32))
    assert statuses(node, about(federation, asker, perceptual), about(federation, asker, perceptual)) == [Status.INDEX_UNAVAILABLE] * 2


def test_without_a_log_nobody_is_answered(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert statuses(node, about(federation, asker)) == [Status.ANSWERED]
    with full_disk():
        answers = told(node, about(federation, asker), about(federation, asker, UNKNOWN))
    assert all(answer.header.status is not Status.ANSWERED for answer in answers)
    assert all((answer.hits, answer.records) == ((), ()) for answer in answers)
