"""Replays, and messages made for somebody or something else: each ends in a signed refusal that tells nothing else."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.node.lookup.conftest import KNOWN
from tests.support.memory import MemoryFederation, MemoryNode, call_of
from vidfed.security.clock import DAY_MS
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.wire.statuses import Status
from vidfed.wire.values import MAX_TEXT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator

from tests.node.lookup.asking import call_for, question, status, told


def test_an_honest_question_is_answered(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    answer = told(node, call_for(federation, asker))
    assert answer.header.status is Status.ANSWERED
    assert [(hit.item, answer.records[hit.record].series) for hit in answer.hits] == [(0, "S")]


# --- replay ---


def test_replay(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker)
    assert status(node, call) is Status.ANSWERED
    assert status(node, call) is Status.REPLAYED


def test_replay_after_restart(federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    call = call_for(federation, asker)
    with MemoryNode(federation, "fr", tmp_path) as before:
        assert status(before, call) is Status.ANSWERED
    with MemoryNode(federation, "fr", tmp_path) as after:
        assert status(after, call) is Status.REPLAYED


def test_replay_with_more_signatures(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker)
    assert status(node, call_of(asker.credential, envelope)) is Status.ANSWERED
    dressed = envelope.signed_by(SigningKey.generate())
    assert status(node, call_of(asker.credential, dressed)) is Status.REPLAYED


def test_replay_later_inside_the_window(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker, issued_ms=federation.clock() + WINDOW_MS, expires_ms=federation.clock() + DAY_MS)
    assert status(node, call) is Status.ANSWERED
    federation.clock.advance(2 * WINDOW_MS)
    assert status(node, call) is Status.REPLAYED


def test_a_message_id_used_for_another_question(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    message_id = secrets.token_bytes(16)
    assert status(node, call_for(federation, asker, message_id=message_id)) is Status.ANSWERED
    assert status(node, call_for(federation, asker, message_id=message_id, case_reference="other")) is Status.REPLAYED


def test_an_outsider_cannot_use_up_a_message_id(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    good = federation.sign(question(federation, asker), asker)
    stripped = replace(good, signatures=good.signatures[:1])
    assert status(node, call_of(asker.credential, stripped)) is Status.BAD_SIGNATURE
    assert status(node, call_of(asker.credential, good)) is Status.ANSWERED


def test_replay_memory_that_cannot_be_written(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    node.replay.close()
    assert status(node, call_for(federation, asker)) is Status.INTERNAL_ERROR


# --- whom and what for it was signed ---


def test_sent_on_to_another_node(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    to_br = call_of(asker.credential, federation.sign(federation.request(asker, [KNOWN], "br"), asker))
    assert status(node, to_br) is Status.WRONG_AUDIENCE


def test_sent_on_by_another_member(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    """The envelope's issuer differs from the TLS peer."""
    assert status(node, call_for(federation, asker), peer="br") is Status.BAD_SIGNATURE


def test_sent_on_and_signed_by_another_member(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    envelope = federation.sign(question(federation, asker), asker).signed_by(federation.members["br"].signer)
    assert status(node, call_of(asker.credential, envelope), peer="br") is Status.BAD_CREDENTIAL


def test_issuer_in_the_request_is_another_member(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker, issuer="br")) is Status.BAD_SIGNATURE


def test_other_method(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker, method="vidfed.v1.NodeService/Subscribe")) is Status.WRONG_METHOD


@pytest.mark.parametrize("name", ["'" * MAX_TEXT, "\N{RIGHTWARDS ARROW}" * MAX_TEXT, '"' * 250 + "'" * 250])
def test_a_refusal_that_quotes_a_long_name_can_still_be_read(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, name: str
) -> None:
    assert status(node, call_for(federation, asker, method=name)) is Status.WRONG_METHOD


def test_other_federation(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker, federation="elsewhere")) is Status.WRONG_FEDERATION
