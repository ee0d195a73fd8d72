"""Bulk lookups: whole, resumed, incomplete, rate limited; and the files they end in. The peer is faked, the journal is real."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from vidfed.federation.bulk import JOURNAL, BulkResult, Journal, ask_all, items_of_file
from vidfed.federation.errors import QuestionError
from vidfed.federation.outcome import FoundHit, FoundMatch, LookupResult, NodeOutcome, Outcome
from vidfed.federation.question import Item, Justification
from vidfed.federation.result_files import ANNOTATION, write_all
from vidfed.index import Algorithm
from vidfed.wire.values import Purpose, RecordView

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vidfed.federation.question import Part

JUSTIFICATION = Justification(Purpose.IDENTIFICATION, "law", "2026-17")
QUESTION = {"case": "2026-17"}


class Gateway:
    """`nl` knows the codes in `known`; `fr` knows nothing and does as its outcomes say, the last one from then on."""

    def __init__(self, known: Iterable[bytes] = (), fr: Iterable[Outcome] = (Outcome.NO_MATCH,)) -> None:
        self.known = set(known)
        self.fr = list(fr)
        self.asked: list[str] = []

    async def lookup(self, part: Part, _justification: Justification, **_: object) -> LookupResult:
        self.asked += [item.label for item in part.items]
        view = RecordView("ref", series="<b>Blue</b>", category="1", category_scale="VICS", category_region="UK", case_contact="=cmd()")
        hits = tuple(
            FoundHit(number, "nl", view, (FoundMatch(Algorithm.MD5, 0),))
            for number, item in enumerate(part.items)
            if item.codes[Algorithm.MD5][0] in self.known
        )
        outcome = self.fr.pop(0) if len(self.fr) > 1 else self.fr[0]
        nodes = (NodeOutcome("nl", Outcome.MATCH if hits else Outcome.NO_MATCH, hits=hits), NodeOutcome("fr", outcome))
        return LookupResult(part.items, nodes)


def items(count: int) -> list[Item]:
    return [Item(f"entry {number}", {Algorithm.MD5: (number.to_bytes(16, "big"),)}) for number in range(1, count + 1)]


async def ask(gateway: Gateway, journal: Journal, given: Iterable[Item], waits: list[str] | None = None) -> BulkResult:
    told = waits if waits is not None else []
    client: Any = gateway
    return await ask_all(
        client,
        given,
        {},
        JUSTIFICATION,
        journal,
        ask=(),
        deadline_s=1,
        on_progress=lambda _done: None,
        on_wait=told.append,
        rate_wait_s=0,
    )


async def test_every_item_is_known_or_unseen_when_all_nodes_answer(tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION) as journal:
        result = await ask(Gateway([(5).to_bytes(16, "big")]), journal, items(2500))
    assert (result.asked, result.known, result.unseen, result.open, result.complete) == (2500, 1, 2499, 0, True)


async def test_an_item_that_a_node_did_not_answer_is_open_not_unseen(tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION) as journal:
        result = await ask(Gateway([(1).to_bytes(16, "big")], [Outcome.TIMEOUT]), journal, items(3))
    assert (result.known, result.unseen, result.open, result.partial, result.complete) == (1, 0, 2, 3, False)


async def test_an_interrupted_lookup_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def interrupted() -> Iterable[Item]:
        yield from items(21_000)
        raise KeyboardInterrupt

    with Journal(tmp_path, QUESTION) as journal, pytest.raises(KeyboardInterrupt):
        await ask(Gateway(), journal, interrupted())
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"key": "torn')  # as a crash leaves it
    second = Gateway()
    with Journal(tmp_path, QUESTION) as journal:
        result = await ask(second, journal, items(21_000))
    assert len(second.asked) == 1_000
    assert (result.unseen, result.complete) == (21_000, True)


async def test_only_what_was_not_answered_is_asked_again(tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION) as journal:
        assert not (await ask(Gateway(fr=[Outcome.NO_MATCH, Outcome.UNREACHABLE]), journal, items(1500))).complete
    again = Gateway()
    with Journal(tmp_path, QUESTION) as journal:
        assert (await ask(again, journal, items(1500))).complete
    assert len(again.asked) == 500


async def test_a_rate_limit_is_waited_for(tmp_path: Path) -> None:
    waits: list[str] = []
    with Journal(tmp_path, QUESTION) as journal:
        result = await ask(Gateway(fr=[Outcome.RATE_LIMITED, Outcome.NO_MATCH]), journal, items(3), waits)
    assert result.complete
    assert waits == ["fr: rate limit reached; asking again in 0 s"]


async def test_a_folder_of_another_question_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION):
        pass
    with pytest.raises(QuestionError, match="the results of another question"):
        Journal(tmp_path, {"case": "other"})


async def test_the_journal_holds_no_hash_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION) as journal:
        await ask(Gateway(), journal, items(3))
    assert (2).to_bytes(16, "big").hex() not in (tmp_path / JOURNAL).read_text()
    assert (tmp_path / JOURNAL).stat().st_mode & 0o777 == 0o600


async def test_the_files_say_what_was_answered_and_keep_what_the_source_said(tmp_path: Path) -> None:
    source = tmp_path / "case.json"
    media = [{"MD5": number.to_bytes(16, "big").hex(), "Comments": f"c{number}"} for number in (1, 2)] + [{"MD5": "broken"}]
    source.write_text(json.dumps({"@odata.context": "http://x/2.0.xml/US/$metadata#Cases", "value": [{"CaseID": "1", "Media": media}]}))

    def given() -> Iterable[tuple[int, Item]]:
        return items_of_file(source, algorithm=None, on_skip=lambda _number, _why: None)

    with Journal(tmp_path / "out", QUESTION) as journal:
        result = await ask(Gateway([(1).to_bytes(16, "big")]), journal, (item for _, item in given()))
        write_all(tmp_path / "out", given, journal, result, JUSTIFICATION, source=source, now_ms=0)
    (case,) = json.loads((tmp_path / "out/annotated.vics.json").read_text())["value"]
    annotated = case["Media"]
    assert case["CaseID"] == "1"
    assert [each.get("Comments") for each in annotated] == ["c1", "c2", None]
    assert [each.get(ANNOTATION, {}).get("Status") for each in annotated] == ["known", "unseen", None]
    with (tmp_path / "out/unseen.csv").open() as file:
        assert [row["md5"] for row in csv.DictReader(file)] == [(2).to_bytes(16, "big").hex()]
    document = json.loads((tmp_path / "out/result.json").read_text())
    assert (document["complete"], document["known"], len(document["items"])) == (True, 1, 2)
    with (tmp_path / "out/result.csv").open() as file:
        assert next(csv.DictReader(file))["case_contact"] == "'=cmd()", "no spreadsheet runs what another member wrote"
    report = (tmp_path / "out/report.html").read_text()
    assert "&lt;b&gt;Blue" in report
    assert "1 VICS UK" in report
    assert "COMPLETE: every node" in report
    assert not any(word in report for word in ("<img", "<script", "src=", "href=", "http:"))
