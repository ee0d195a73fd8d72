"""Bulk lookups: whole, interrupted, resumed, incomplete, rate limited; and the files they end in. The peer is faked, the store is real."""

from __future__ import annotations

import csv
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_S
from vidfed.federation.bulk.lookup import RATE_TRIES, BulkLookup, NumberedPart, StreamAsk
from vidfed.federation.bulk.ranges import Range
from vidfed.federation.bulk.result import BulkResult, result_of
from vidfed.federation.bulk.result_files import ANNOTATION, write_all
from vidfed.federation.bulk.sources import SourceReader, picture_reader, read_file
from vidfed.federation.bulk.store import FILE, BulkStore
from vidfed.federation.lookup.closing import Verdict
from vidfed.federation.lookup.errors import GatewayError, GatewayRefusedError, QuestionError
from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item, Shortfall
from vidfed.federation.output.report import ReportHead
from vidfed.formats.entries import FormatError
from vidfed.index import Algorithm
from vidfed.synthetic.pictures import picture
from vidfed.wire.values import RecordView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

HEAD = ReportHead("jansen", "nl", "2026-17", "identification", "law", "victim-identity", "", 0)
SCOPE = {"case": "2026-17"}
MEMBERS = ("fr", "nl")


class ScriptedNodes:
    """`nl` knows the codes in `known`; `fr` knows nothing, and does to its chunks as told, the last thing from then on."""

    def __init__(self, known: Iterable[bytes] = (), fr: Iterable[Outcome | None] = (Outcome.NO_MATCH,)) -> None:
        """Begin; None in `fr` is a break of the gateway's connection."""
        self.known = set(known)
        self.fr = list(fr)
        self.asked: dict[str, list[str]] = {member: [] for member in MEMBERS}
        self.streams: list[tuple[str, ...]] = []

    async def __call__(
        self, parts: AsyncIterator[NumberedPart], ask: Sequence[str], on_node: Callable[[NumberedPart, NodeOutcome], None]
    ) -> dict[str, NodeOutcome]:
        self.streams.append(tuple(ask))
        left: dict[str, NodeOutcome] = {}
        async for part in parts:
            for member in ask:
                if member in left:
                    continue
                outcome = self._outcome_of(member)
                if outcome is None:
                    raise GatewayError("gone")
                if outcome in {Outcome.TIMEOUT, Outcome.UNREACHABLE}:
                    left[member] = NodeOutcome(member, outcome, "why")
                    continue
                self.asked[member] += [item.label for item in part.items]
                on_node(part, NodeOutcome(member, outcome, hits=self._hits(part) if member == "nl" else ()))
        return left

    def _outcome_of(self, member: str) -> Outcome | None:
        if member == "nl":
            return Outcome.NO_MATCH
        return self.fr.pop(0) if len(self.fr) > 1 else self.fr[0]

    def _hits(self, part: NumberedPart) -> tuple[FoundHit, ...]:
        view = RecordView("ref", series="<b>Blue</b>", category="1", category_scale="VICS", category_region="UK", case_contact="=cmd()")
        return tuple(
            FoundHit(number, "nl", view, (FoundMatch(Algorithm.MD5, 0),))
            for number, item in enumerate(part.items)
            if item.codes[Algorithm.MD5][0] in self.known
        )


def code(number: int) -> bytes:
    return number.to_bytes(16, "big")


def items(count: int) -> list[tuple[int, Item]]:
    return [(number, Item(f"entry {number}", {Algorithm.MD5: (code(number),)})) for number in range(1, count + 1)]


async def ask(nodes: ScriptedNodes, store: BulkStore, *, waits: list[str] | None = None, reading: SourceReader | None = None) -> BulkResult:
    told = waits if waits is not None else []

    async def sleep(_: float) -> None:
        pass

    lookup = BulkLookup(store, MEMBERS, {}, nodes, on_wait=told.append, sleep=sleep)
    await lookup.run(reading or SourceReader(None))
    return result_of(store, MEMBERS, lookup.said)


async def test_every_item_is_known_or_unseen_when_all_nodes_answer(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(2500))
        result = await ask(ScriptedNodes([code(5)]), store)
    assert (result.asked, result.known, result.unseen, result.open, result.complete) == (2500, 1, 2499, 0, True)


async def test_duplicates_are_asked_once_and_answered_each(tmp_path: Path) -> None:
    nodes = ScriptedNodes([code(2)])
    with BulkStore(tmp_path, SCOPE) as store:
        store.add([*items(3), (7, Item("again", {Algorithm.MD5: (code(2),)}))])
        result = await ask(nodes, store)
        found = [(each.number, each.item.label, each.status) for each in store.entries(MEMBERS)]
    assert nodes.asked["nl"] == ["entry 1", "entry 2", "entry 3"]
    assert (result.asked, result.different, result.known) == (4, 3, 2)
    assert found == [(1, "entry 1", "unseen"), (2, "entry 2", "known"), (3, "entry 3", "unseen"), (7, "again", "known")]


async def test_an_item_that_a_node_did_not_answer_is_open_not_unseen(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(3))
        result = await ask(ScriptedNodes([code(1)], [Outcome.TIMEOUT]), store)
    assert (result.known, result.unseen, result.open, result.partial, result.complete) == (1, 0, 2, 3, False)
    assert result.nodes["fr"].detail == "timeout why"
    assert result.nodes["fr"].missing == (Range(1, 3),)
    assert result.nodes["nl"].hits == 1


async def test_a_part_searched_only_partly_is_open_and_its_hits_are_kept(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(3))
        result = await ask(ScriptedNodes(fr=[Outcome.PARTIAL]), store)
    assert (result.open, result.complete) == (3, False)


async def test_an_interrupted_lookup_goes_on_where_each_node_stopped(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(21_000))
        with pytest.raises(ZeroDivisionError):
            await BulkLookup(store, MEMBERS, {}, _interrupted_after(ScriptedNodes(), 10)).run(SourceReader(None))
    again = ScriptedNodes()
    with BulkStore(tmp_path, SCOPE) as store:
        result = await ask(again, store)
    assert (len(again.asked["nl"]), len(again.asked["fr"])) == (11_000, 11_000)
    assert (result.unseen, result.complete) == (21_000, True)


def _interrupted_after(nodes: ScriptedNodes, chunks: int) -> StreamAsk:
    async def asker(
        parts: AsyncIterator[NumberedPart], ask: Sequence[str], on_node: Callable[[NumberedPart, NodeOutcome], None]
    ) -> dict[str, NodeOutcome]:
        async def some() -> AsyncIterator[NumberedPart]:
            for _ in range(chunks):
                yield await anext(parts)
            raise ZeroDivisionError

        return await nodes(some(), ask, on_node)

    return asker


async def test_a_node_that_dies_mid_stream_is_asked_only_for_what_it_did_not_answer(tmp_path: Path) -> None:
    nodes = ScriptedNodes(fr=[Outcome.NO_MATCH, Outcome.NO_MATCH, Outcome.UNREACHABLE, Outcome.NO_MATCH])
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(5000))
        result = await ask(nodes, store)
    assert nodes.streams == [("fr", "nl"), ("fr",)]
    assert (len(nodes.asked["fr"]), len(nodes.asked["nl"])) == (5000, 5000)
    assert result.complete


async def test_a_node_that_brings_nothing_is_not_asked_for_ever(tmp_path: Path) -> None:
    nodes = ScriptedNodes(fr=[Outcome.NO_MATCH, Outcome.UNREACHABLE])
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(3000))
        result = await ask(nodes, store)
    assert nodes.streams == [("fr", "nl"), ("fr",)]
    assert (result.nodes["fr"].answered, result.nodes["fr"].unanswered) == (1000, 2000)


async def test_a_gateway_that_restarts_is_waited_for_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    waits: list[str] = []
    nodes = ScriptedNodes(fr=[Outcome.NO_MATCH, None, None, None, Outcome.NO_MATCH])
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(3000))
        result = await ask(nodes, store, waits=waits)
    assert result.complete
    assert waits == ["gone; trying again in 1 s", "gone; trying again in 2 s"], "the first break came after progress"
    assert len(nodes.asked["fr"]) == 3000


async def test_a_gateway_that_stays_away_ends_the_lookup_and_keeps_what_was_answered(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(3000))
        with pytest.raises(GatewayError, match="gone"):
            await ask(ScriptedNodes(fr=[Outcome.NO_MATCH, None]), store)
        assert len(store.answered(["fr"])["fr"]) == 1000


async def test_a_gateway_that_refuses_ends_the_lookup_at_once(tmp_path: Path) -> None:
    async def refuse(
        _parts: AsyncIterator[NumberedPart], _ask: Sequence[str], _on_node: Callable[[NumberedPart, NodeOutcome], None]
    ) -> dict[str, NodeOutcome]:
        raise GatewayRefusedError("no")

    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(3))
        with pytest.raises(GatewayRefusedError):
            await BulkLookup(store, MEMBERS, {}, refuse).run(SourceReader(None))


async def test_a_rate_limit_is_waited_for(tmp_path: Path) -> None:
    waits: list[str] = []
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(1500))
        result = await ask(ScriptedNodes(fr=[Outcome.RATE_LIMITED, Outcome.NO_MATCH]), store, waits=waits)
    assert result.complete
    assert waits == ["fr: rate limit reached; going on in 61 s"]


async def test_a_rate_limit_that_never_ends_is_given_up(tmp_path: Path) -> None:
    waits: list[str] = []
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(10))
        result = await ask(ScriptedNodes(fr=[Outcome.RATE_LIMITED]), store, waits=waits)
    assert not result.complete
    assert len(waits) == RATE_TRIES


async def test_items_are_asked_while_others_are_still_read(tmp_path: Path) -> None:
    first_asked = threading.Event()
    nodes = ScriptedNodes()

    with BulkStore(tmp_path, SCOPE) as store:

        def read(_stop: threading.Event, more: Callable[[], None]) -> None:
            store.add(items(1500))
            more()
            assert first_asked.wait(PATIENCE_S), "nothing is asked before everything is read"
            store.add(items(2500))
            more()

        lookup = BulkLookup(store, MEMBERS, {}, nodes, on_progress=first_asked.set)
        await lookup.run(SourceReader(read))
        result = result_of(store, MEMBERS, lookup.said)
    assert (result.asked, result.complete) == (2500, True)


async def test_what_goes_wrong_while_reading_is_not_swallowed(tmp_path: Path) -> None:
    def read(_stop: threading.Event, _more: Callable[[], None]) -> None:
        raise FormatError("broken")

    with BulkStore(tmp_path, SCOPE) as store, pytest.raises(FormatError):
        await ask(ScriptedNodes(), store, reading=SourceReader(read))


async def test_pictures_are_hashed_once_and_again_only_if_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        picture(seed).save(path)
    text, empty = tmp_path / "text.txt", tmp_path / "empty.png"
    text.write_text("no picture")
    empty.touch()
    nodes = ScriptedNodes()
    with BulkStore(tmp_path / "out", SCOPE) as store:
        result = await ask(nodes, store, reading=picture_reader(store, [*paths, text, empty], any_quality=False))
        assert list(store.failures()) == [str(empty)]
    assert (result.asked, result.exact_only, result.complete) == (4, 1, False)
    assert result.closing.line.startswith("COMPLETE for what was asked; answered 2")
    picture(9).save(paths[1])
    taken: list[str] = []
    add_file = BulkStore.add_file

    def counted(store: BulkStore, path: str, size_bytes: int, changed_ns: int, outcome: Item | str) -> None:
        taken.append(path)
        add_file(store, path, size_bytes, changed_ns, outcome)

    monkeypatch.setattr(BulkStore, "add_file", counted)
    with BulkStore(tmp_path / "out", SCOPE) as store:
        result = await ask(nodes, store, reading=picture_reader(store, [*paths, text, empty], any_quality=False))
        labels = [each.item.label for each in store.entries(MEMBERS)]
    assert len(nodes.asked["nl"]) == 5
    assert taken == [str(paths[1]), str(empty)], "the changed picture, and the file that could not be asked about"
    assert sorted(labels) == [str(path) for path in (*paths, text)]


def test_a_folder_of_another_question_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(3))
        store.keep("nl", [1, 2, 3], (), whole=True)
    with pytest.raises(QuestionError, match="the results of another question"):
        BulkStore(tmp_path, {"case": "other"})


def test_a_folder_in_which_nothing_was_answered_yet_takes_another_question(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(3))
    with BulkStore(tmp_path, {"case": "other"}) as store:
        assert store.count == 0


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"garbage" * 1000)
    with pytest.raises(QuestionError, match=r"lookup\.db"):
        BulkStore(tmp_path, SCOPE)


def test_only_its_owner_reads_the_store(tmp_path: Path) -> None:
    with BulkStore(tmp_path / "out", SCOPE) as store:
        store.add(items(3))
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}


def test_what_a_node_says_again_about_an_item_replaces_what_it_said(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(2))
        store.keep("nl", [1, 2], [(1, {"reference": "old", "evidence": "near"})], whole=False)
        store.keep("nl", [1, 2], [(1, {"reference": "new", "evidence": "near"})], whole=True)
        assert [each.hits for each in store.entries(["nl"])] == [[{"reference": "new", "evidence": "near"}], []]


def test_stored_hit_is_read_with_what_its_owner_has_said_since(tmp_path: Path) -> None:
    with BulkStore(tmp_path, SCOPE) as store:
        store.add(items(1))
        store.keep("nl", [1], [(1, {"reference": "old", "evidence": "near"})], whole=True)
        store.amend = lambda hit: hit | {"superseded": {"changes": ["retracted"], "since_ms": 1, "taken_back": True}}
        ((found,),) = [each.hits for each in store.entries(["nl"])]
        assert found["superseded"]["taken_back"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("md5\nbroken\n", "entry 2: no usable hash"),
        ("md5,colour\n" + "5d" * 16 + ",red\n", "columns passed over: 'colour'"),
        ("md5,sha1\n" + "5d" * 16 + ",abc\n", "entry 2: SHA-1"),
    ],
)
def test_a_file_of_which_something_would_be_passed_over_is_refused_where_that_is_wanted(tmp_path: Path, text: str, what: str) -> None:
    source = tmp_path / "list.csv"
    source.write_text(text)
    seen: list[str] = []

    def read(*, strict: bool) -> None:
        with BulkStore(tmp_path / "out", SCOPE) as store:
            skip = read_file(
                store, source, algorithm=None, strict=strict, on_skip=lambda _number, why: seen.append(why), on_read=lambda *_: None
            )
            seen.extend(skip)

    with pytest.raises(FormatError, match="without --strict") as refused:
        read(strict=True)
    assert what in str(refused.value)
    read(strict=False)


async def test_the_files_say_what_was_answered_and_keep_what_the_source_said(tmp_path: Path) -> None:
    source = tmp_path / "case.json"
    media = [{"MD5": code(number).hex(), "Comments": f"c{number}"} for number in (1, 2)] + [{"MD5": "broken"}]
    source.write_text(json.dumps({"@odata.context": "http://x/2.0.xml/US/$metadata#Cases", "value": [{"CaseID": "1", "Media": media}]}))
    skipped: list[int] = []
    with BulkStore(tmp_path / "out", SCOPE) as store:
        read_file(store, source, algorithm=None, on_skip=lambda number, _why: skipped.append(number), on_read=lambda _bytes, _count: None)
        result = await ask(ScriptedNodes([code(1)]), store)
        write_all(tmp_path / "out", store, MEMBERS, result, HEAD, source=source)
    assert skipped == [3]
    (case,) = json.loads((tmp_path / "out/annotated.vics.json").read_text())["value"]
    annotated = case["Media"]
    assert case["CaseID"] == "1"
    assert [each.get("Comments") for each in annotated] == ["c1", "c2", None]
    assert [each.get(ANNOTATION, {}).get("Status") for each in annotated] == ["known", "unseen", None]
    with (tmp_path / "out/unseen.csv").open() as file:
        assert [(row["file_name"], row["md5"]) for row in csv.DictReader(file)] == [("entry 2", code(2).hex())]
    document = json.loads((tmp_path / "out/result.json").read_text())
    assert (document["complete"], document["known"], len(document["items"])) == (True, 1, 2)
    with (tmp_path / "out/result.csv").open() as file:
        assert next(csv.DictReader(file))["case_contact"] == "'=cmd()", "no spreadsheet runs what another member wrote"
    report = (tmp_path / "out/report.html").read_text()
    assert "&lt;b&gt;Blue" in report
    assert "1 VICS UK" in report
    assert "COMPLETE; answered 2" in report
    assert not any(word in report for word in ("<img", "<script", "src=", "href=", "http:"))


PAGE = """<?xml version="1.0"?><queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2"><images count="2">
<image><member id="42">m</member><id>1</id><fingerprints><md5>{}</md5></fingerprints></image>
<deletedImage><member id="42">m</member><id>2</id><fingerprints><md5>{}</md5></fingerprints></deletedImage>
</images></queryResult>"""


def test_a_deletion_in_a_file_is_not_asked(tmp_path: Path) -> None:
    """Its owner took it back: it must not be told, and to count it as not asked about would be an alarm about nothing."""
    page, skipped = tmp_path / "page.xml", list[tuple[int, str]]()
    page.write_text(PAGE.format(code(1001).hex(), code(1002).hex()))
    with BulkStore(tmp_path / "bulk", SCOPE) as store:
        read_file(store, page, algorithm=None, on_skip=lambda *why: skipped.append(why), on_read=lambda *_: None)
        asked = [each.item.codes for each in store.entries(MEMBERS)]
    assert (asked, skipped) == ([{Algorithm.MD5: (code(1001),)}], [])


def test_nothing_asked_is_not_complete(tmp_path: Path) -> None:
    """Every member has answered all of nothing."""
    with BulkStore(tmp_path, SCOPE) as store:
        result = result_of(store, MEMBERS, {})
        assert (result.asked, result.partial, result.complete, result.closing.verdict) == (0, 0, False, Verdict.NOTHING_ASKED)


async def test_the_result_files_say_from_when_answers_are_and_by_what_was_asked(tmp_path: Path) -> None:
    """One moment is said once, two as a range; what was asked by digests alone says so."""
    with BulkStore(tmp_path / "out", SCOPE) as store:
        store.add([(1, Item("a.bin", {Algorithm.MD5: (code(1),)}, shortfalls=(Shortfall.EXACT_ONLY,))), *items(2)[1:]])
        result = await ask(ScriptedNodes([code(1)]), store)
        moved = {
            "nl": replace(result.nodes["nl"], answered_from_ms=5_000, answered_to_ms=5_000),
            "fr": replace(result.nodes["fr"], answered_from_ms=1_000, answered_to_ms=61_000),
        }
        write_all(tmp_path / "out", store, MEMBERS, replace(result, nodes=dict(result.nodes) | moved), HEAD, source=None)
    page = (tmp_path / "out/report.html").read_text()
    assert "1970-01-01T00:00:01Z to 1970-01-01T00:01:01Z" in page
    assert "1970-01-01T00:00:05Z" in page
    assert "1970-01-01T00:00:05Z to" not in page
    with (tmp_path / "out/result.csv").open() as file:
        assert {row["label"]: row["asked_by"] for row in csv.DictReader(file)}["a.bin"] == "exact copies only"
