"""A node that is not well itself says so, signed, and never "no match"."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.node.lookup.conftest import KNOWN, UNKNOWN
from tests.support.disk import full_disk
from tests.support.memory import MemoryFederation, MemoryNode, call_of
from vidfed.index import Algorithm, Hash
from vidfed.node.records.record import Record
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status
from vidfed.wire.values import ANSWER_TYPE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator

from tests.node.lookup.asking import call_for, status, told


def test_a_directory_that_has_expired(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    federation.expires_ms = federation.clock()
    assert status(node, call_for(federation, asker)) is Status.DIRECTORY_UNAVAILABLE


@pytest.mark.parametrize("known", [True, False])
def test_audit_that_cannot_be_written(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, *, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    node.audit.close()
    request = federation.request(asker, [KNOWN if known else UNKNOWN])
    call = call_of(asker.credential, federation.sign(request, asker))
    with caplog.at_level(logging.ERROR):
        answer = told(node, call)
    assert answer.header.status is Status.AUDIT_UNAVAILABLE
    assert (answer.header.detail, answer.log) == ("", None)
    assert "audit" in caplog.text


def test_full_disk(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker)) is Status.ANSWERED  # the index is up to date before the disk is full
    with full_disk():
        answer = read_answer(node.ask(call_for(federation, asker), "nl").verify(ANSWER_TYPE, node.member.entry.signing_keys))
    assert answer.header.status is not Status.ANSWERED
    assert (answer.hits, answer.records) == ((), ())
    assert status(node, call_for(federation, asker)) is Status.ANSWERED


def test_a_refusal_needs_the_audit_log_too(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    node.audit.close()
    assert status(node, call_for(federation, asker, purpose=None)) is Status.AUDIT_UNAVAILABLE


def test_index_behind(federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = MemoryNode(federation, "fr", tmp_path)  # its catalogue is never started, so nothing follows the store
    monkeypatch.setattr("vidfed.node.search.catalogue.Catalogue.search.__kwdefaults__", {"patience_s": 0.0}, raising=True)
    node.hold(Record({KNOWN.algorithm: KNOWN.code}))
    for entry in (KNOWN, UNKNOWN):
        call = call_of(asker.credential, federation.sign(federation.request(asker, [entry]), asker))
        assert status(node, call) is Status.STALE_INDEX
    node.__exit__()


def test_index_broken(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator) -> None:
    assert status(node, call_for(federation, asker)) is Status.ANSWERED
    node.catalogue.close()
    perceptual = Hash(Algorithm.PDQ, bytes(32))
    call = call_of(asker.credential, federation.sign(federation.request(asker, [perceptual]), asker))
    assert status(node, call) is Status.INDEX_UNAVAILABLE


def test_store_broken(node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, tmp_path: Path) -> None:
    assert status(node, call_for(federation, asker)) is Status.ANSWERED
    node.catalogue.close()
    node.store.close()
    for path in tmp_path.glob("records.db*"):
        path.unlink()
    (tmp_path / "records.db").mkdir()
    assert status(node, call_for(federation, asker)) is Status.INDEX_UNAVAILABLE


def test_a_defect_is_a_signed_refusal_that_tells_nothing(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(type(node.catalogue), "search", fail)
    answer = told(node, call_for(federation, asker))
    assert (answer.header.status, answer.header.detail) == (Status.INTERNAL_ERROR, "")


def test_nothing_asked_is_in_the_log(
    node: MemoryNode, federation: MemoryFederation, asker: MemoryInvestigator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        told(node, call_for(federation, asker))
        told(node, call_for(federation, asker, purpose=None))
        told(node, call_for(federation, asker, issuer="br"))
    assert KNOWN.code.hex() not in caplog.text
    assert "T-2026-1" not in caplog.text
