"""Who is answered: by policy, and by who is at the other end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.memory import ANSWERING, FEDERATION, MemoryFederation, MemoryNode
from vidfed.node.lookup.authenticate import UnknownPeerError
from vidfed.node.policy.policy import Policy
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.identity.tls import make_node_leaf
from vidfed.wire.statuses import Status
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator

from tests.node.lookup.asking import call_for, status, told

# --- policy ---


def test_a_node_with_no_policy_answers_nobody(federation: MemoryFederation, tmp_path: Path) -> None:
    with MemoryNode(federation, "fr", tmp_path) as node:
        node.policy.policy = Policy()
        for member in federation.members:
            answer = told(node, call_for(federation, federation.investigator(member)), peer=member)
            assert answer.header.status is Status.NOT_PERMITTED
            assert answer.header.detail == ""


def test_a_purpose_that_is_not_answered(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    node.policy.policy = Policy((replace(ANSWERING, purposes=frozenset({Purpose.PROSECUTION})),))
    assert status(node, call_for(federation, asker)) is Status.NOT_PERMITTED


def test_a_member_that_is_not_answered(federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    with MemoryNode(federation, "fr", tmp_path, replace(ANSWERING, members=frozenset({"br"}))) as node:
        assert status(node, call_for(federation, asker)) is Status.NOT_PERMITTED


@pytest.mark.parametrize("quarantined", ["nl", "fr"], ids=["the asker", "the node itself"])
def test_in_quarantine_only_a_self_test_is_answered(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, quarantined: str
) -> None:
    node.policy.policy = Policy((replace(ANSWERING, purposes=frozenset(Purpose)),))
    assert status(node, call_for(federation, asker)) is Status.ANSWERED
    member = federation.members[quarantined]
    federation.members[quarantined] = replace(member, entry=replace(member.entry, quarantined=True))
    assert status(node, call_for(federation, asker)) is Status.NOT_PERMITTED
    assert status(node, call_for(federation, asker, purpose=Purpose.SELF_TEST)) is Status.ANSWERED


def test_a_node_whose_own_member_was_removed_answers_a_self_test_only(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator
) -> None:
    node.policy.policy = Policy((replace(ANSWERING, purposes=frozenset(Purpose)),))
    federation.remove("fr")
    assert status(node, call_for(federation, asker, audience=("fr",))) is Status.NOT_PERMITTED
    assert status(node, call_for(federation, asker, audience=("fr",), purpose=Purpose.SELF_TEST)) is Status.ANSWERED


# --- who is at the other end ---


def test_a_caller_who_is_no_member_is_owed_nothing(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker)
    stranger = MemoryFederation(federation.clock)
    stranger.add("nl", "xx")
    for leaf in (
        stranger.members["nl"].tls.certificate,  # a CA of the same name
        stranger.members["xx"].tls.certificate,
        make_node_leaf(federation.members["br"].ca, FEDERATION, "nl").certificate,  # member A's CA naming member B
        make_node_leaf(federation.members["nl"].ca, "elsewhere", "nl").certificate,
        asker.tls.certificate,  # an investigator, past the own gateway
    ):
        with pytest.raises(UnknownPeerError):
            node.ask_as(leaf, call)
    assert node.logged() == 0


def test_a_certificate_that_names_nobody_is_owed_nothing(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    with pytest.raises(UnknownPeerError):
        node.ask_as(b"garbage", call_for(federation, asker))


def test_removed_but_still_connected(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    leaf = federation.members["nl"].tls.certificate
    first, second = call_for(federation, asker), call_for(federation, asker)
    node.ask_as(leaf, first)
    federation.remove("nl")
    with pytest.raises(UnknownPeerError):
        node.ask_as(leaf, second)


def test_a_replaced_signing_key_no_longer_speaks(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    call = call_for(federation, asker)
    nl = federation.members["nl"]
    federation.members["nl"] = replace(nl, entry=replace(nl.entry, signing_keys=(SigningKey.generate().public,)))
    assert status(node, call) is Status.BAD_SIGNATURE
