"""How many of a node's records can be found by what was asked: an answer tells it, and the asker sees it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.support.memory import MemoryFederation, MemoryInvestigator, MemoryNode
from vidfed.federation.lookup.closing import Limit, Verdict
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome, outcome_of_answer
from vidfed.federation.lookup.question import Item
from vidfed.federation.lookup.result import LookupResult
from vidfed.federation.output.json import to_document
from vidfed.federation.output.table import show_result
from vidfed.index import Algorithm, Hash
from vidfed.node.records.record import Record
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.answers import read_answer
from vidfed.wire.envelope import to_message
from vidfed.wire.values import Share

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKED = {Algorithm.MD5: 0, Algorithm.PDQ: 31}
ITEM = Item("photo.jpg", {Algorithm.MD5: (bytes(16),), Algorithm.PDQ: (b"\xaa" * 32,)})
FLAT = bytes(8)


@pytest.fixture
def node(memory: MemoryFederation, tmp_path: Path) -> Iterator[MemoryNode]:
    with MemoryNode(memory, "fr", tmp_path) as made:
        yield made


def record(number: int, *algorithms: Algorithm, **more: object) -> Record:
    return Record({each: (number + 1).to_bytes(each.code_bytes, "big") for each in algorithms}, **more)  # type: ignore[arg-type]


def answer(node: MemoryNode, asker: MemoryInvestigator, *hashes: Hash) -> NodeOutcome:
    federation = node.federation
    node.pipeline.catalogue.catch_up()  # the records are counted once the indexes have them
    request = federation.request(asker, hashes, "fr")
    call = LookupCall(credential=to_message(asker.credential), request=to_message(federation.sign(request, asker)))
    read = read_answer(node.ask(call, "nl").payload)
    items = [Item(str(number), {each.algorithm: (each.code,)}) for number, each in enumerate(hashes)]
    return outcome_of_answer("fr", read, items, {column.algorithm: column.max_distance for column in request.columns})


def ask(node: MemoryNode, asker: MemoryInvestigator) -> NodeOutcome:
    return answer(node, asker, *(Hash(algorithm, ITEM.codes[algorithm][0]) for algorithm in ASKED))


def test_records_without_pdq_are_not_searched_by_pdq(node: MemoryNode, asker: MemoryInvestigator) -> None:
    node.hold(*(record(number, Algorithm.MD5) for number in range(30)))
    said = ask(node, asker)
    assert said.index
    assert {each.algorithm: each.share for each in said.index.searched} == {Algorithm.MD5: Share.NEARLY_ALL, Algorithm.PDQ: Share.FEW}
    result = LookupResult((ITEM,), (said,))
    assert (said.outcome, result.closing.verdict, result.closing.limits) == (Outcome.NO_MATCH, Verdict.LIMITED, (Limit.COVERAGE,))
    assert "; PDQ: few of the records of fr; " in result.closing.line
    written = io.StringIO()
    show_result(result, Console(file=written, width=200), now_ms=0)
    shown = " ".join(written.getvalue().split())
    assert "Searched by MD5, PDQ up to 31 (few of the records of fr)." in shown
    assert "PDQ: few of its records" in shown
    document = to_document(result)
    assert document["few_records"] == [{"algorithm": "pdq", "members": ["fr"]}]
    assert [each["records_with"] for each in document["nodes"][0]["index"]["searched"]] == ["nearly-all", "few"]


BANDS = [(0, Share.FEW), (1, Share.FEW), (2, Share.SOME), (10, Share.MOST), (18, Share.NEARLY_ALL), (20, Share.NEARLY_ALL)]


@pytest.mark.parametrize(("carrying", "share"), BANDS)
def test_how_many_records_carry_a_hash_is_told_in_bands(node: MemoryNode, asker: MemoryInvestigator, carrying: int, share: Share) -> None:
    full, bare = (Algorithm.MD5, Algorithm.PDQ), (Algorithm.MD5,)
    node.hold(*(record(number, *(full if number < carrying else bare)) for number in range(20)))
    said = ask(node, asker)
    assert said.index
    assert {each.algorithm: each.share for each in said.index.searched}[Algorithm.PDQ] is share


def test_a_node_without_records_lacks_nothing(node: MemoryNode, asker: MemoryInvestigator) -> None:
    said = ask(node, asker)
    assert said.index
    assert {each.share for each in said.index.searched} == {Share.NEARLY_ALL}


@pytest.mark.parametrize(("quality", "told"), [(None, True), (100, True), (50, True), (49, False), (0, False)])
def test_a_plain_record_is_not_found_by_a_64_bit_hash(node: MemoryNode, asker: MemoryInvestigator, quality: int | None, told: bool) -> None:
    """Every plain picture has nearly the same one."""
    node.hold(Record({Algorithm.DHASH: FLAT, Algorithm.PHASH: FLAT, Algorithm.MD5: b"\1" * 16}, pdq_quality=quality))
    item = Hash(Algorithm.DHASH, FLAT)
    assert answer(node, asker, item).outcome is (Outcome.WEAK_MATCH if told else Outcome.NO_MATCH)


def test_a_plain_record_is_found_by_its_digest(node: MemoryNode, asker: MemoryInvestigator) -> None:
    node.hold(Record({Algorithm.DHASH: FLAT, Algorithm.MD5: bytes(16)}, pdq_quality=0))
    assert answer(node, asker, Hash(Algorithm.MD5, bytes(16))).outcome is Outcome.MATCH
