"""How the attacks on a node ask: really signed, and what is told is checked for what every answer must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.node.lookup.conftest import KNOWN
from tests.support.memory import FEDERATION, MemoryFederation, MemoryNode, call_of
from vidfed.security.crypto.envelope import Envelope
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE, MAX_TEXT, LookupAnswer, LookupRequest

if TYPE_CHECKING:
    from tests.support.memory import MemoryInvestigator
    from vidfed.v1.lookup_pb2 import LookupCall


def told(node: MemoryNode, call: LookupCall, peer: str = "nl") -> LookupAnswer:
    """What the node says; that it said it, and to this very question, is checked here."""
    envelope = node.ask(call, peer)
    answer = read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys))
    header = answer.header
    assert header.request_digest == Envelope(call.request.payload_type, call.request.payload).digest
    assert (header.federation, header.issuer, header.audience) == (FEDERATION, node.member.id, peer)
    assert (header.sequence, header.last, header.previous_digest) == (0, True, b"")
    assert len(header.detail) <= MAX_TEXT
    if header.status is not Status.ANSWERED:
        assert (answer.records, answer.hits, answer.truncated_items, header.index) == ((), (), (), None)
    if header.status is not Status.AUDIT_UNAVAILABLE:
        assert answer.log is not None
        assert answer.log.position == node.logged() - 1
    return answer


def status(node: MemoryNode, call: LookupCall, peer: str = "nl") -> Status:
    return told(node, call, peer).header.status


def question(made: MemoryFederation, asker: MemoryInvestigator, /, **header: object) -> LookupRequest:
    return made.request(asker, [KNOWN], **header)


def call_for(made: MemoryFederation, asker: MemoryInvestigator, /, **header: object) -> LookupCall:
    return call_of(asker.credential, made.sign(question(made, asker, **header), asker))
