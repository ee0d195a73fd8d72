"""What a hit is worth: exact, near, or weak; and that weak ones are never taken for more."""

from __future__ import annotations

import csv
import io
import json
from itertools import combinations, product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vidfed.federation.bulk.result import result_of
from vidfed.federation.bulk.result_files import ANNOTATION, write_all
from vidfed.federation.bulk.store import BulkStore
from vidfed.federation.lookup.evidence import Evidence, evidence_of, in_words
from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome, outcome_of_answer
from vidfed.federation.lookup.question import Item
from vidfed.federation.lookup.result import LookupResult
from vidfed.federation.output.json import hit_fields, to_document
from vidfed.federation.output.report import ReportHead
from vidfed.federation.output.table import show_result
from vidfed.index import Algorithm
from vidfed.wire.statuses import Status
from vidfed.wire.values import AnswerHeader, Hit, IndexState, LookupAnswer, Match, RecordView, Searched, Ternary

if TYPE_CHECKING:
    from pathlib import Path

DIGESTS = [algorithm for algorithm in Algorithm if algorithm.is_digest]
SHORT = [Algorithm.PHASH, Algorithm.DHASH, Algorithm.AHASH, Algorithm.WHASH]
IDENTIFIED = RecordView("ref-1", "Tulip", victim_identified=Ternary.YES, case_contact="desk")
ITEM = Item("photo.jpg", {Algorithm.DHASH: (bytes(8),), Algorithm.SHA256: (bytes(32),)})
HEAD = ReportHead("jansen", "nl", "2026-17", "identification", "law", "victim-identity", "", 0)


def evidence(*algorithms: Algorithm, plain: bool = False) -> Evidence:
    return evidence_of(FoundMatch(algorithm, 0, plain=plain) for algorithm in algorithms)


def dhash_hit(item: int = 0) -> FoundHit:
    return FoundHit(item, "fr", IDENTIFIED, (FoundMatch(Algorithm.DHASH, 3),))


def shown(result: LookupResult) -> str:
    written = io.StringIO()
    show_result(result, Console(file=written, width=200, force_terminal=True, color_system="truecolor", highlight=False), now_ms=0)
    return written.getvalue()


@pytest.mark.parametrize("digest", DIGESTS)
def test_a_digest_that_agrees_is_exact_whatever_else_does(digest: Algorithm) -> None:
    assert evidence(digest) is Evidence.EXACT
    assert evidence(Algorithm.DHASH, digest) is Evidence.EXACT


@pytest.mark.parametrize("strong", [Algorithm.PDQ, Algorithm.PHOTODNA])
def test_pdq_and_photodna_are_near_alone(strong: Algorithm) -> None:
    assert evidence(strong) is Evidence.NEAR


@pytest.mark.parametrize("alone", SHORT)
def test_one_64_bit_hash_alone_is_weak_however_often_it_matched(alone: Algorithm) -> None:
    assert evidence(alone) is evidence(alone, alone) is Evidence.WEAK


@pytest.mark.parametrize(("one", "other"), list(combinations(SHORT, 2)))
def test_two_algorithms_that_look_at_different_things_are_near(one: Algorithm, other: Algorithm) -> None:
    alike = {one, other} == {Algorithm.AHASH, Algorithm.WHASH}
    assert evidence(one, other) is (Evidence.WEAK if alike else Evidence.NEAR)


@given(st.lists(st.sampled_from([algorithm for algorithm in Algorithm if algorithm.is_perceptual]), max_size=5))
def test_what_matched_a_plain_view_only_is_weak(algorithms: list[Algorithm]) -> None:
    assert evidence(*algorithms, plain=True) is Evidence.WEAK


def test_a_hit_by_a_plain_view_that_was_asked_all_the_same_is_weak() -> None:
    item = Item("wall.jpg", {Algorithm.PDQ: (bytes(32), b"\x0f" * 32)}, {Algorithm.PDQ: ("as it is", "frame 2")}, plain=(0,))
    index = IndexState(1, 0, 0, (Searched(Algorithm.PDQ, 31),))
    header = AnswerHeader("f", "fr", "nl", bytes(32), "m", 0, Status.ANSWERED, "", index)

    def outcome(code: int) -> Outcome:
        answer = LookupAnswer(header, (IDENTIFIED,), (Hit(0, 0, (Match(Algorithm.PDQ, 3, code),)),))
        return outcome_of_answer("fr", answer, [item], {Algorithm.PDQ: 31}).outcome

    assert [outcome(0), outcome(1)] == [Outcome.WEAK_MATCH, Outcome.MATCH]


def test_class_algorithm_and_distance_are_said_in_words() -> None:
    assert in_words([FoundMatch(Algorithm.SHA1, 0), FoundMatch(Algorithm.MD5, 0), FoundMatch(Algorithm.PDQ, 9)]) == "exact (MD5, SHA-1)"
    assert in_words([FoundMatch(Algorithm.PHASH, 3), FoundMatch(Algorithm.PDQ, 9, "mirrored")]) == "near: PDQ 9, mirrored + pHash 3"
    assert in_words([FoundMatch(Algorithm.DHASH, 3, slack=2)]) == "weak: dHash 1 to 3"


def test_a_dhash_only_hit_is_never_known(tmp_path: Path) -> None:
    """Not on screen, not in JSON, and in no result file of a whole case; and never in colour."""
    node = NodeOutcome("fr", Outcome.WEAK_MATCH, hits=(dhash_hit(),))
    said = shown(LookupResult((ITEM,), (node,)))
    assert "photo.jpg is neither known nor unknown" in said
    assert "weak: dHash 3" in said
    assert "YES" not in said
    weak_line = next(line for line in said.splitlines() if "dHash 3" in line)
    assert "\x1b[" not in weak_line, "a weak hit is never coloured"

    document = to_document(LookupResult((ITEM,), (node,)))
    assert (document["hits"], document["series"], document["conflicts"]) == ([], [], [])
    assert [hit["evidence"] for hit in document["weak_hits"]] == ["weak"]
    assert (document["items"][0]["status"], document["nodes"][0]["hits"], document["nodes"][0]["weak_hits"]) == ("weak", 0, 1)

    with BulkStore(tmp_path, {}) as store:
        store.add([(1, ITEM), (2, Item("other.jpg", {Algorithm.SHA256: (b"\1" * 32,)}))])
        store.keep("fr", [1, 2], [(1, hit_fields(dhash_hit(1)))], whole=True)
        result = result_of(store, ["fr"], {})
        write_all(tmp_path, store, ["fr"], result, HEAD, source=None)
    assert (result.known, result.weak, result.unseen, result.open) == (0, 1, 1, 0)
    assert (result.nodes["fr"].hits, result.nodes["fr"].weak_hits) == (0, 1)
    bulk = json.loads((tmp_path / "result.json").read_text())
    assert [(entry["status"], len(entry["hits"]), len(entry["weak_hits"])) for entry in bulk["items"]] == [("weak", 0, 1), ("unseen", 0, 0)]
    rows = list(csv.DictReader((tmp_path / "result.csv").read_text().splitlines()))
    assert [(row["status"], row["evidence"], row["matched_by"]) for row in rows] == [("weak", "weak", "dHash 3"), ("unseen", "", "")]
    assert [len(list(csv.DictReader((tmp_path / name).read_text().splitlines()))) for name in ("weak.csv", "unseen.csv")] == [1, 1]
    media = json.loads((tmp_path / "annotated.vics.json").read_text())["value"]
    assert [each[ANNOTATION]["Status"] for each in media] == ["weak", "unseen"]
    assert [(each[ANNOTATION]["Hits"], len(each[ANNOTATION]["WeakHits"])) for each in media] == [([], 1), ([], 0)]
    known, _, weak = (tmp_path / "report.html").read_text().partition('<h2 id="weak">')
    assert "ref-1" in weak
    assert "ref-1" not in known


def test_weak_hits_stand_after_all_others_and_series_and_conflicts_leave_them_out() -> None:
    near = FoundHit(1, "nl", RecordView("ref-2", "Tulip", victim_identified=Ternary.NO), (FoundMatch(Algorithm.PDQ, 30),))
    result = LookupResult(
        (ITEM, ITEM), (NodeOutcome("fr", Outcome.MATCH, hits=(dhash_hit(1),)), NodeOutcome("nl", Outcome.MATCH, hits=(near,)))
    )
    assert ([hit.member for hit in result.hits], [hit.member for hit in result.weak_hits]) == (["nl"], ["fr"])
    assert (result.shared_series, result.conflicts, result.known_items, result.weak_items) == ([], [], {1}, set())
    said = shown(result)
    assert said.index("ref-2") < said.index("ref-1")


@pytest.mark.parametrize(("first", "second"), list(product(["near", "weak"], repeat=2)))
def test_an_item_is_known_by_its_strongest_hit(tmp_path: Path, first: str, second: str) -> None:
    with BulkStore(tmp_path, {}) as store:
        store.add([(1, ITEM)])
        store.keep("fr", [1], [(1, {"evidence": first, "member": "fr"})], whole=True)
        store.keep("nl", [1], [(1, {"evidence": second, "member": "nl"})], whole=True)
        (entry,) = store.entries(["fr", "nl"])
    assert entry.status == ("known" if "near" in {first, second} else "weak")
    assert [hit["evidence"] for hit in (*entry.hits, *entry.weak_hits)] == sorted([first, second])
