"""ICSE's CSV, CSV with a header, plain lists, NCMEC's pages; export and back; interruption."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.records import NOW, code, full_record, record
from vidfed.formats.entries import FileEntry, FormatError
from vidfed.formats.fields import field_text, field_value
from vidfed.formats.recognise import open_hash_file
from vidfed.formats.values import moment_ms, one_of
from vidfed.index import Algorithm, Code
from vidfed.node.errors import ImportFileError
from vidfed.node.intake.exports import write_csv, write_vics
from vidfed.node.intake.importer import import_files
from vidfed.node.intake.options import ImportOptions
from vidfed.node.records.lifecycle import RecordQuery, retract, stored_records
from vidfed.node.records.store import RecordStore
from vidfed.wire.values import MAX_TEXT, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.node.intake.report import ImportReport

ICSE = (
    "MD5;SHA1;PhotoDNA;Image ID;Is distributed;Victim identified;Offender identified;Series name;"
    "Number of submissions;File Available;Media Type;Baseline"
)
MD5 = [code(Algorithm.MD5, seed).hex() for seed in range(5)]
PAGE = '<?xml version="1.0"?><queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2">{}</queryResult>'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with closing(RecordStore(tmp_path / "records.db")) as opened:
        yield opened


def take_in(store: RecordStore, folder: Path, *contents: str, options: ImportOptions | None = None) -> list[ImportReport]:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"file{number}")
        paths[-1].write_text(content)
    return import_files(store, paths, options or ImportOptions(), now_ms=NOW)


def image(identity: int, md5: str, *, deleted: bool = False, classification: str = "A1") -> str:
    tag = "deletedImage" if deleted else "image"
    prints = f"<classification>{classification}</classification><fingerprints><md5>{md5}</md5></fingerprints>" if md5 else ""
    known = '<member id="42">Unit</member><timestamp>2024-01-02T03:04:05Z</timestamp>'
    return f'<{tag}s count="1"><{tag}>{known}<id>{identity}</id>{prints}</{tag}></{tag}s>'


def test_an_icse_file_is_recognised_and_its_flags_read_in_every_spelling(store: RecordStore, tmp_path: Path) -> None:
    rows = [f"{MD5[0]};;;77;y;YES;n;Blue;3;t;image/jpeg;true", f"{MD5[1]};;;78;f;False;;;;;;", ""]
    (report,) = take_in(store, tmp_path, "\r\n".join([ICSE, *rows]))
    assert (report.format, report.counts.new, report.skipped) == ("ICSE hash CSV", 2, 0)
    first, second = store.records([1, 2]).values()
    assert (first.distributed, first.victim_identified, first.offender_identified) == (Ternary.YES, Ternary.YES, Ternary.NO)
    assert (first.series, first.case_reference, first.category, first.category_scale) == ("Blue", "ICSE 77", "yes", "interpol-baseline")
    assert (second.distributed, second.victim_identified, second.offender_identified) == (Ternary.NO, Ternary.NO, Ternary.UNKNOWN)


def test_ragged_icse_rows_lose_nothing_that_is_sure(store: RecordStore, tmp_path: Path) -> None:
    rows = [f"{MD5[0]};;;77;y", f"{MD5[1]};;;78;y;y;n;Blue; or green;3;t;image/jpeg;n"]
    (report,) = take_in(store, tmp_path, "\n".join([ICSE, *rows]))
    assert (report.counts.new, report.noted) == (2, 1)
    assert (store.records([2])[2].victim_identified, store.records([2])[2].series) == (Ternary.YES, "")


def test_in_a_csv_what_cannot_be_read_is_named_and_the_rest_of_the_row_kept(store: RecordStore, tmp_path: Path) -> None:
    content = f"MD5,Victim identified,size\n{MD5[0]},yes,5\n{MD5[1]},maybe,5\n{MD5[2]}\n"
    (report,) = take_in(store, tmp_path, content)
    assert (report.counts.new, report.skipped_first) == (2, ["entry 4: 1 values for 3 columns"])
    assert report.noted_first == ["entry 3: victim_identified: 'maybe' is not yes, no or unknown; left out"]
    with pytest.raises(ImportFileError, match=r"entry 3: victim_identified: .* Nothing was changed"):
        take_in(store, tmp_path, content, options=ImportOptions(strict=True))


def test_a_row_whose_limits_cannot_be_read_is_left_out(store: RecordStore, tmp_path: Path) -> None:
    (report,) = take_in(store, tmp_path, f"md5,sharing\n{MD5[0]},only fr\n")
    assert (report.counts.new, report.skipped_first) == (0, ["entry 2: sharing: must be nobody, only:MEMBER,... or not:MEMBER,..."])


def test_votes_are_kept_and_a_voter_is_not_the_owner(store: RecordStore, tmp_path: Path) -> None:
    feedback = (
        '<feedback><affirmativeFeedback type="Md5"><members><member id="77">V</member><member id="78">W</member></members>'
        '</affirmativeFeedback><negativeFeedback type="Pdq"><members><member id="79">X</member></members>'
        '<reasons><reason guid="1" name="Not as described"/></reasons></negativeFeedback></feedback></image>'
    )
    voted = PAGE.format(image(1, MD5[1]).replace("</image>", feedback, 1))
    reports = take_in(store, tmp_path, voted, PAGE.format(image(1, "", deleted=True) + image(9, "", deleted=True)))
    (gone,) = stored_records(store, RecordQuery(state="retracted"))
    assert gone.record.votes == ("affirmed Md5 by 77", "affirmed Md5 by 78", "disputed Pdq by 79 (Not as described)")
    assert (reports[1].counts.retracted, reports[1].counts.unknown_retracted) == (1, 1)


@pytest.mark.parametrize("line", ["{}", "{}  picture.jpg", "md5:{}", "MD5: {}", '"{}",'])
def test_a_plain_list_is_recognised(store: RecordStore, tmp_path: Path, line: str) -> None:
    content = "# a comment\n" + "\n".join(line.format(digest) for digest in MD5[:2]) + "\n\n"
    (report,) = take_in(store, tmp_path, content)
    assert (report.format, report.counts.new) == ("list of hashes", 2)


def test_an_ambiguous_list_is_read_when_told_what_it_is(store: RecordStore, tmp_path: Path) -> None:
    content = code(Algorithm.PDQ, 1).hex()
    take_in(store, tmp_path, content, options=ImportOptions(algorithm="pdq"))
    assert store.records([1])[1].hashes == {Algorithm.PDQ: code(Algorithm.PDQ, 1)}


def test_ncmec_pages_correct_and_take_back_what_earlier_pages_said(store: RecordStore, tmp_path: Path) -> None:
    pages = (PAGE.format(image(1, MD5[1]) + image(2, MD5[2]) + image(3, MD5[3])), PAGE.format(image(1, MD5[1], classification="B2")))
    take_in(store, tmp_path, *pages, PAGE.format(image(2, "", deleted=True) + image(9, "", deleted=True)))
    assert store.state().records == 2
    assert store.find(Algorithm.MD5, [bytes.fromhex(MD5[2])]) == {}
    assert (store.records([1])[1].category, store.records([1])[1].category_scale) == ("B2", "ncmec")
    (gone,) = stored_records(store, RecordQuery(state="retracted"))
    assert gone.retraction_reason == "taken back by its source"
    take_in(store, tmp_path, PAGE.format(image(2, MD5[2])))
    assert store.state().records == 3, "what a source gives again is there again"


def test_a_further_page_is_pointed_out(store: RecordStore, tmp_path: Path) -> None:
    (report,) = take_in(store, tmp_path, PAGE.format(image(1, MD5[1]) + "<paging><next>/v2/entries?start=1</next></paging>"))
    assert report.notes == ["there is a further page: import it too"]


def test_what_the_owner_retracted_no_import_brings_back(store: RecordStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, MD5[0])
    retract(store, store.records([1])[1].reference, "wrong picture", now_ms=NOW)
    (report,) = take_in(store, tmp_path, MD5[0])
    assert (report.counts.kept_retracted, store.state().records) == (1, 0)


def test_a_broken_second_file_leaves_the_first_out_too(store: RecordStore, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="truncated"):
        take_in(store, tmp_path, MD5[0], '{"value": [')
    assert store.version() == (0, 0)


@pytest.mark.parametrize("writer", [write_vics, write_csv])
def test_a_round_trip_loses_nothing_we_hold(store: RecordStore, tmp_path: Path, writer: object) -> None:
    given = [
        full_record(1),
        record(2),
        record(3, (Algorithm.PDQ,), category="A", category_scale="own"),
        record(4, category="3", category_region="UK"),
    ]
    given.append(record(5, tags=("x",), victim_identified=Ternary.NO, series='with "quotes", commas; and\u00a0more'))
    further = (
        Code(Algorithm.PDQ, code(Algorithm.PDQ, 77), "rendering:black", 80),
        Code(Algorithm.PHASH, code(Algorithm.PHASH, 77), "frame:3"),
    )
    given[1] = replace(given[1], further=further, votes=("affirmed Md5 by 7", "disputed Md5 by 8"), method="luma-1/2", series="=1;@x")
    store.upsert(given, now_ms=NOW)
    out = io.StringIO()
    assert writer((kept.record for kept in stored_records(store, RecordQuery())), out, lambda _count: None) == 5  # type: ignore[operator]
    with closing(RecordStore(tmp_path / "other.db")) as other:
        (report,) = take_in(other, tmp_path, out.getvalue())
        assert (report.counts.new, report.skipped, report.noted) == (5, 0, 0)
        stored = (kept.record for kept in stored_records(other, RecordQuery()))
        back = {each.hashes[Algorithm.PDQ]: replace(each, reference="") for each in stored}
        printable = [replace(each, series=each.series.replace("\u00a0", " "), reference="") for each in given]  # does not print
        assert back == {each.hashes[Algorithm.PDQ]: each for each in printable}


def test_an_export_is_what_other_tools_accept(store: RecordStore) -> None:
    store.upsert([full_record(1), record(2, (Algorithm.PDQ,))], now_ms=NOW)
    out = io.StringIO()
    write_vics((kept.record for kept in stored_records(store, RecordQuery())), out, lambda _count: None)
    made = json.loads(out.getvalue())
    assert list(made) == ["@odata.context", "value"]
    assert made["@odata.context"].endswith("/2.0.xml/Default/$metadata#Media")
    assert made["value"][0]["MD5"] == code(Algorithm.MD5, 1).hex().upper()
    assert made["value"][0]["VictimIdentified"] is True
    assert made["value"][1]["VictimIdentified"] is None
    assert {"HashName": "PDQ", "HashValue": code(Algorithm.PDQ, 2).hex(), "MD5": ""} in made["value"][1]["AlternativeHashes"]


def test_a_killed_import_has_changed_nothing_and_can_be_run_again(tmp_path: Path) -> None:
    """The child says when rows have been written but not committed, and is then killed without a chance to clean up."""
    path = tmp_path / "set.txt"
    path.write_text("\n".join(code(Algorithm.MD5, seed).hex() for seed in range(12_000)))
    program = (
        "import sys, pathlib\n"
        "from vidfed.node.intake.importer import import_files\n"
        "from vidfed.node.intake.options import ImportOptions\n"
        "from vidfed.node.records.store import RecordStore\n"
        "def say(done, total, entries):\n"
        "    if entries >= 10_000:\n"
        "        print('half', flush=True)\n"
        "        sys.stdin.read()\n"
        "import_files(RecordStore(pathlib.Path(sys.argv[1])), [pathlib.Path(sys.argv[2])], ImportOptions(), now_ms=1, on_progress=say)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "records.db"), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
    with closing(RecordStore(tmp_path / "records.db")) as store:
        assert store.version() == (0, 0)
        (report,) = import_files(store, [path], ImportOptions(), now_ms=NOW)
        assert report.counts.new == 12_000


def test_a_file_is_read_once_and_digested_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text(MD5[0])
    opened = open_hash_file(path)
    assert len(list(opened.entries())) == 1
    assert opened.source.read_bytes == opened.source.size_bytes == 32


def test_a_large_file_is_read_by_a_process_of_its_own_with_the_same_result(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "\n".join([*(code(Algorithm.MD5, seed).hex() for seed in range(12_000)), "broken"])
    (here,) = take_in(store, tmp_path, content, options=ImportOptions(dry_run=True))
    monkeypatch.setattr("vidfed.node.intake.reader.LARGE_BYTES", 0)
    (beside,) = take_in(store, tmp_path, content)
    assert beside == here
    with pytest.raises(Exception, match=r"file0: line 2, column 1: the file ends"):
        take_in(store, tmp_path, '{"value": [\n')
    assert store.state().records == 12_000


@pytest.mark.parametrize(
    ("said", "ms"),
    [
        ("2023-06-07", 1_686_096_000_000),
        ("2023-06-07T02:31:49.8300Z", 1_686_105_109_830),
        ("2023-06-07T02:31:49+1:00Z", 1_686_101_509_000),
        ("/Date(1686105109830)/", 1_686_105_109_830),
        ("0227-01-01", None),
        ("/Date(999999999999999)/", None),
        ("yesterday", None),
    ],
)
def test_dates_are_read_in_every_form_seen_and_no_others(said: str, ms: int | None) -> None:
    if ms is None:
        with pytest.raises(ValueError, match=r"is no date or time|is not from 1970 to 9999"):
            moment_ms(said)
    else:
        assert moment_ms(said) == ms
        assert field_value("review_ms", field_text("review_ms", ms)) == ms


def test_no_text_of_a_file_is_longer_than_a_record_can_hold(store: RecordStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, "MD5;Image ID;Is distributed;Series name\n" + f"{code(Algorithm.MD5, 1).hex()};{'7' * 900};y;{'a ' * 600}\n")
    (held,) = store.records([1]).values()
    assert (len(held.case_reference), len(held.series)) == (MAX_TEXT, MAX_TEXT - 1), "cut, and no space at the end"


def test_an_image_inside_deletedImages_retracts(store: RecordStore, tmp_path: Path) -> None:  # noqa: N802 - the element's name
    """Some senders put plain <image> elements into <deletedImages>."""
    take_in(store, tmp_path, PAGE.format(image(1, MD5[1]) + image(2, MD5[2])))
    inside = image(1, MD5[1]).replace("<images ", "<deletedImages ").replace("</images>", "</deletedImages>")
    take_in(store, tmp_path, PAGE.format(inside))
    assert store.state().records == 1
    assert store.find(Algorithm.MD5, [bytes.fromhex(MD5[1])]) == {}


def test_equal_ids_of_two_members_are_two_records(store: RecordStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, PAGE.format(image(1, MD5[1]) + image(1, MD5[2]).replace('id="42"', 'id="43"')))
    assert store.state().records == 2
    take_in(store, tmp_path, PAGE.format(image(1, "", deleted=True).replace('id="42"', 'id="43"')))
    assert store.find(Algorithm.MD5, [bytes.fromhex(MD5[2])]) == {}
    assert store.state().records == 1


def test_an_overlong_element_is_refused(store: RecordStore, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="too long a text"):
        take_in(store, tmp_path, PAGE.format(image(1, MD5[1], classification="A" * 2_000_000)))


@pytest.mark.parametrize("unknown", ["unknown", "UNKNOWN"])
def test_unknown_in_csv_overwrites_nothing(store: RecordStore, tmp_path: Path, unknown: str) -> None:
    """Whoever exports what it does not know takes nothing back from one who knows."""
    take_in(store, tmp_path, f"md5,victim_identified,distributed\n{MD5[1]},yes,no\n")
    take_in(store, tmp_path, f"md5,victim_identified,distributed\n{MD5[1]},{unknown},{unknown}\n")
    take_in(store, tmp_path, f"{ICSE}\n{MD5[1]};;;;{unknown};{unknown};{unknown};;;;;{unknown}\n")
    (held,) = store.records([1]).values()
    assert (held.victim_identified, held.distributed) == (Ternary.YES, Ternary.NO)


@pytest.mark.parametrize("category", ["1", "01", "7a", "\u0661", ""])
def test_a_category_is_written_as_a_number_only_if_it_comes_back_the_same(tmp_path: Path, category: str) -> None:
    kept = replace(record(1), category=category, category_scale="VICS" if category else "", category_region="UK" if category else "")
    out = io.StringIO()
    write_vics([kept], out, lambda _count: None)
    assert json.loads(out.getvalue())["value"][0]["Category"] == (1 if category == "1" else None)
    path = tmp_path / "export.json"
    path.write_text(out.getvalue())
    (entry,) = open_hash_file(path).entries()
    assert isinstance(entry, FileEntry)
    assert entry.values.get("category", "") == category


def test_what_is_none_of_the_texts_allowed_is_refused() -> None:
    read = one_of("A", "B")
    assert (read("a"), read("B")) == ("A", "B")
    with pytest.raises(ValueError, match="must be one of A, B"):
        read("C")


def test_a_vote_of_nobody_named_is_a_vote(store: RecordStore, tmp_path: Path) -> None:
    feedback = '<feedback><negativeFeedback type="Md5"><members/></negativeFeedback></feedback></image>'
    take_in(store, tmp_path, PAGE.format(image(1, MD5[1]).replace("</image>", feedback, 1)))
    (held,) = store.records([1]).values()
    assert held.votes == ("disputed Md5 by unknown",)
