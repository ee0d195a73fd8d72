"""VICS as tools really write it: each trap by its name."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.records import NOW, code
from vidfed.formats.entries import FileEntry, FormatError
from vidfed.formats.recognise import open_hash_file
from vidfed.formats.vics_read import VicsCopy
from vidfed.index import Algorithm, Code
from vidfed.node.errors import ImportFileError
from vidfed.node.intake.importer import import_files
from vidfed.node.intake.known_good import KnownGood
from vidfed.node.intake.options import ImportOptions
from vidfed.node.records.lifecycle import RecordQuery, stored_records
from vidfed.node.records.store import RecordStore
from vidfed.node.records.upsert.repeated import Repeats
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.node.intake.report import ImportReport
    from vidfed.node.records.record import Record

MEDIA_2_0 = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/UK/$metadata#Media"
CASES_2_0 = MEDIA_2_0.replace("#Media", "#Cases")
CASES_1_3 = "http://github.com/ICMEC/ProjectVic/DataModels/1.3.xml#Cases"
EMPTY_MD5 = "D41D8CD98F00B204E9800998ECF8427E"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with closing(RecordStore(tmp_path / "records.db")) as opened:
        yield opened


def media(seed: int, **fields: object) -> dict[str, Any]:
    return {"MediaID": seed, "MD5": code(Algorithm.MD5, seed).hex().upper()} | fields


def document(*items: object, context: str = MEDIA_2_0) -> str:
    key = "odata.metadata" if "1.3" in context else "@odata.context"
    return json.dumps({key: context, "value": items})


def written(folder: Path, content: str) -> Path:
    path = folder / "set.json"
    path.write_text(content)
    return path


def take_in(
    store: RecordStore, folder: Path, content: str | bytes, options: ImportOptions | None = None, known_good: KnownGood | None = None
) -> ImportReport:
    path = folder / "set.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (report,) = import_files(
        store, [path], options or ImportOptions(), now_ms=NOW, report_file=folder / "report.txt", known_good=known_good
    )
    return report


def only_record(store: RecordStore) -> Record:
    (found,) = store.records([1]).values()
    return found


def test_a_hash_set_of_2_0_is_taken_in(store: RecordStore, tmp_path: Path) -> None:
    photodna = code(Algorithm.PHOTODNA, 1)
    item = media(
        1,
        SHA1=code(Algorithm.SHA1, 1).hex().upper(),
        PhotoDNA=base64.b64encode(photodna).decode(),
        Category=2,
        MediaSize=17,
        MimeType="image/jpeg",
        VictimIdentified=True,
        OffenderIdentified="false",
        IsDistributed=None,
        Series="Blue",
        Tags="a, b",
        Exifs=[{"PropertyName": "x"}],
    )
    report = take_in(store, tmp_path, document(item))
    assert (report.format, report.counts.new, report.skipped) == ("VICS JSON 2.0", 1, 0)
    record = only_record(store)
    assert record.hashes[Algorithm.PHOTODNA] == photodna
    assert (record.category, record.category_scale, record.category_region) == ("2", "VICS", "UK")
    assert (record.size_bytes, record.mime_type, record.series, record.tags) == (17, "image/jpeg", "Blue", ("a", "b"))
    assert (record.victim_identified, record.offender_identified, record.distributed) == (Ternary.YES, Ternary.NO, Ternary.UNKNOWN)


@pytest.mark.parametrize("context", [CASES_1_3, CASES_2_0])
def test_cases_give_their_number_and_contact_to_their_media(store: RecordStore, tmp_path: Path, context: str) -> None:
    case = {"CaseID": "9", "CaseNumber": "2026-17", "ContactName": "Desk", "ContactPhone": "+31 1", "SourceApplicationName": "Tool"}
    report = take_in(store, tmp_path, document(case | {"Media": [media(1), media(2)]}, case | {"Media": []}, context=context))
    assert report.counts.new == 2
    assert (only_record(store).case_reference, only_record(store).case_contact) == ("2026-17", "Desk, +31 1")


def test_photodna_and_sha256_of_1_3_come_from_the_alternative_hashes(store: RecordStore, tmp_path: Path) -> None:
    names = {"PhotoDNA": Algorithm.PHOTODNA, "SHA256": Algorithm.SHA256, "PDQ": Algorithm.PDQ}
    hashes = [{"HashName": name, "HashValue": algorithm.format(code(algorithm, 1))} for name, algorithm in names.items()]
    take_in(store, tmp_path, document({"CaseID": "1", "Media": [media(1, AlternativeHashes=hashes)]}, context=CASES_1_3))
    assert only_record(store).hashes.keys() == {Algorithm.MD5, *names.values()}


def test_photodna_in_hex_is_read(store: RecordStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, document(media(1, PhotoDNA=code(Algorithm.PHOTODNA, 1).hex())))
    assert only_record(store).hashes[Algorithm.PHOTODNA] == code(Algorithm.PHOTODNA, 1)


@pytest.mark.parametrize(
    ("said", "meant"),
    [(True, "yes"), (False, "no"), ("false", "no"), ("FALSE", "no"), ("true", "yes"), (None, "unknown"), ("", "unknown"), (0, "no")],
)
def test_the_text_false_is_no_and_null_is_unknown(store: RecordStore, tmp_path: Path, said: object, meant: str) -> None:
    take_in(store, tmp_path, document(media(1, VictimIdentified=said)))
    assert only_record(store).victim_identified.code == meant


def test_an_absent_flag_is_unknown_and_does_not_overwrite_what_is_known(store: RecordStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, document(media(1, VictimIdentified=True)))
    assert take_in(store, tmp_path, document(media(1))).counts.unchanged == 1
    assert only_record(store).victim_identified is Ternary.YES


def test_header_counts_are_not_believed(store: RecordStore, tmp_path: Path) -> None:
    case = {"CaseID": "1", "TotalMediaFiles": 99, "TotalPrecategorized": 7, "Media": [media(1)]}
    assert take_in(store, tmp_path, document(case, context=CASES_2_0)).entries == 1


def test_one_bogus_photodna_on_every_item_is_set_aside_from_all_and_stays_so(store: RecordStore, tmp_path: Path) -> None:
    placeholder = base64.b64encode(code(Algorithm.PHOTODNA, 0)).decode()
    content = document(
        *(media(seed, PhotoDNA=placeholder) for seed in range(150)), media(1000, PhotoDNA=base64.b64encode(b"x" * 144).decode())
    )
    report = take_in(store, tmp_path, content)
    assert (report.counts.new, report.counts.repeats) == (151, Repeats(set_aside=1))
    found = store.records(range(1, 152))
    assert [number for number, record in found.items() if Algorithm.PHOTODNA in record.hashes] == [151]
    assert "on 150 items of this import with different files and is set aside" in (tmp_path / "report.txt").read_text()
    assert take_in(store, tmp_path, content).counts.unchanged == 151


def test_the_same_hash_on_one_item_named_often_is_no_filler(store: RecordStore, tmp_path: Path) -> None:
    content = document(*(media(1, PhotoDNA=base64.b64encode(b"x" * 144).decode()) for _ in range(150)))
    assert take_in(store, tmp_path, content).counts.repeats == Repeats()
    assert Algorithm.PHOTODNA in only_record(store).hashes


def test_the_empty_files_digest_is_dropped(store: RecordStore, tmp_path: Path) -> None:
    report = take_in(store, tmp_path, document(media(1), {"MD5": EMPTY_MD5, "Category": 1}))
    assert (report.counts.new, report.skipped_first) == (1, ["entry 2: the digest of an empty file says nothing about a picture"])


def test_one_file_named_by_116_entries_is_one_record(store: RecordStore, tmp_path: Path) -> None:
    content = document(*(media(1, MediaID=number) for number in range(116)))
    report = take_in(store, tmp_path, content)
    assert (report.counts.new, report.counts.repeated, store.state().records) == (1, 115, 1)
    assert take_in(store, tmp_path, content).counts.unchanged == 1


def test_entries_that_disagree_about_one_item_keep_the_first_word_on_every_run(store: RecordStore, tmp_path: Path) -> None:
    content = document(media(1, Category=1), media(1, Category=5))
    assert take_in(store, tmp_path, content).counts.disagreeing == 1
    second = take_in(store, tmp_path, content)
    assert (second.counts.updated, only_record(store).category) == (0, "1")


def test_media_ids_used_twice_do_not_join_items(store: RecordStore, tmp_path: Path) -> None:
    assert take_in(store, tmp_path, document(media(1, MediaID=7), media(2, MediaID=7))).counts.new == 2


def test_an_empty_md5_falls_back_to_the_other_digest(store: RecordStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, document({"MD5": "", "SHA1": code(Algorithm.SHA1, 1).hex()}))
    assert only_record(store).hashes.keys() == {Algorithm.SHA1}


def test_numbers_in_texts_are_read_and_nonsense_is_left_out_with_a_note(store: RecordStore, tmp_path: Path) -> None:
    report = take_in(store, tmp_path, document(media(1, MediaSize="123"), media(2, MediaSize="-4", Category=[1], SHA1="zz")))
    assert (report.counts.new, report.noted) == (2, 3)
    assert only_record(store).size_bytes == 123


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_utf_8_with_and_without_bom_and_utf_16_are_read(store: RecordStore, tmp_path: Path, encoding: str) -> None:
    text = json.dumps({"@odata.context": MEDIA_2_0, "value": [media(1, Series="Ünïçødé Ω")]}, ensure_ascii=False)
    take_in(store, tmp_path, text.encode(encoding))
    assert only_record(store).series == "Ünïçødé Ω"


def test_another_encoding_is_named_with_its_place_and_changes_nothing(store: RecordStore, tmp_path: Path) -> None:
    content = document(*(media(seed) for seed in range(7000))).encode()[:-2] + b', {"MD5": "\xe9"}]}'
    with pytest.raises(FormatError, match=f"not UTF-8 text.*near byte {len(content) - 5}"):
        take_in(store, tmp_path, content)
    assert store.state().records == 0


@pytest.mark.parametrize("cut", [1, 2, 30, 300])
def test_a_truncated_download_changes_nothing(store: RecordStore, tmp_path: Path, cut: int) -> None:
    content = document(*(media(seed) for seed in range(12_000)))
    with pytest.raises(FormatError, match=r"line 1, column \d+: .*truncated"):
        take_in(store, tmp_path, content[:-cut])
    assert store.version() == (0, 0)


def test_unknown_keys_any_case_and_any_order_are_passed_over(store: RecordStore, tmp_path: Path) -> None:
    item = {"md5": code(Algorithm.MD5, 1).hex(), "CATEGORY": 1, "Foo": {"Media": [1, {"MD5": "x"}]}, "Exifs": []}
    content = json.dumps({"later": 1, "value": [item], "more": [], "@odata.context": MEDIA_2_0})
    report = take_in(store, tmp_path, content)
    assert (report.counts.new, report.skipped, report.notes) == (1, 0, [])
    assert store.records([1])[1].category_region == "UK", "said after the media"


CASE: dict[str, Any] = {"CaseNumber": "c", "ContactName": "desk"}
TWO: dict[str, Any] = {"Media": [media(1), media(2)]}
SHAPES: dict[str, Any] = {
    "fields of a case after its media": {"@odata.context": CASES_2_0, "value": [TWO | CASE]},
    "context after a case": {"value": [CASE | {"Media": [media(1)]}, {"Media": [media(2)]} | CASE], "@odata.context": CASES_2_0},
    "one case as an object": {"@odata.context": CASES_2_0, "value": CASE | TWO},
    "a case as the document": {"@odata.context": CASES_2_0} | TWO | CASE,
    "a case within a case": {
        "@odata.context": CASES_2_0,
        "value": [{"CaseNumber": "o", "Cases": [CASE | TWO]}],
    },
    "media as an object": {"@odata.context": CASES_2_0, "value": [CASE | {"Media": media(1)}, CASE | {"media": media(2), "Tail": 1}]},
    "cases under their own key": {"@odata.context": CASES_2_0, "Cases": [CASE | {"Media": []}, CASE | TWO]},
    "a bare list of cases": [CASE | TWO],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_cases_are_read_in_whatever_shape_with_their_number_and_contact(store: RecordStore, tmp_path: Path, shape: str) -> None:
    report = take_in(store, tmp_path, json.dumps(SHAPES[shape]))
    assert (report.counts.new, report.skipped) == (2, 0)
    assert {(each.case_reference, each.case_contact) for each in store.records([1, 2]).values()} == {("c", "desk")}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_copy_has_the_structure_of_the_original(tmp_path: Path, shape: str) -> None:
    path, out = tmp_path / "set.json", io.StringIO()
    path.write_text(json.dumps(SHAPES[shape]))
    numbers: list[int] = []

    def keep(number: int, media: object) -> object:
        numbers.append(number)
        return media

    entries = list(open_hash_file(path).entries(copy=VicsCopy(out, keep)))
    assert json.loads(out.getvalue()) == SHAPES[shape]
    assert numbers == [entry.number for entry in entries] == [1, 2]


def test_cases_nested_without_end_are_refused(tmp_path: Path) -> None:
    nested = '{"Cases": [' * 50
    with pytest.raises(FormatError, match="cases are nested too deeply"):
        list(open_hash_file(written(tmp_path, nested)).entries())
    whole: object = media(1)
    for _ in range(50):
        whole = {"Media": [whole]}
    with pytest.raises(FormatError, match="cases are nested too deeply"):
        list(open_hash_file(written(tmp_path, document(media(1), media(2), whole))).entries())


@pytest.mark.parametrize("indent", [None, 2])
def test_objects_parsed_many_at_a_time_are_those_parsed_one_by_one(tmp_path: Path, indent: int | None) -> None:
    """Media with lists and texts in them that look like what stands between two media."""
    trap = '},{"MediaID'
    items = [media(seed, Series=trap, MediaFiles=[{"MediaID": 1}, {"MediaID": 2, "MD5": trap}], Comments="x" * 50) for seed in range(9_000)]
    path = written(tmp_path, json.dumps({"@odata.context": MEDIA_2_0, "value": items}, indent=indent))
    entries = list(open_hash_file(path).entries())
    assert [(entry.number, entry.codes["md5"]) for entry in entries if isinstance(entry, FileEntry)] == [
        (seed + 1, code(Algorithm.MD5, seed)) for seed in range(9_000)
    ]


def test_a_broken_object_among_many_is_named_with_its_place(tmp_path: Path) -> None:
    lines = [json.dumps(media(seed)) for seed in range(9_000)]
    lines[7_000] = lines[7_000].replace('"MD5"', '"MediaID"')
    path = written(tmp_path, f'{{"@odata.context": "{MEDIA_2_0}", "value": [\n' + ",\n".join(lines) + "]}")
    with pytest.raises(FormatError, match=r"line 7002, column 1: the key 'MediaID' is given twice"):
        list(open_hash_file(path).entries())


def test_context_decides_nothing_a_case_among_media_is_still_read(store: RecordStore, tmp_path: Path) -> None:
    mixed = document(media(1), {"CaseNumber": "c", "Media": [media(2)]}, media(3), context=CASES_2_0)
    assert take_in(store, tmp_path, mixed).counts.new == 3


def test_a_known_good_set_keeps_its_items_out(store: RecordStore, tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text(code(Algorithm.MD5, 1).hex() + "\n")
    with KnownGood([good]) as known_good:
        report = take_in(store, tmp_path, document(media(1), media(2)), known_good=known_good)
    assert (report.counts.new, report.skipped_first) == (1, ["entry 1: known good: on the exclusion list"])


def test_an_nsrl_database_is_a_known_good_set(store: RecordStore, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "nsrl.db")) as nsrl:
        nsrl.execute("CREATE TABLE x (md5 VARCHAR, sha1 VARCHAR)")
        nsrl.execute("CREATE VIEW FILE AS SELECT * FROM x")
        nsrl.execute("INSERT INTO x VALUES (?, ?)", (code(Algorithm.MD5, 1).hex().upper(), code(Algorithm.SHA1, 9).hex()))
        nsrl.commit()
    with KnownGood([tmp_path / "nsrl.db"]) as known_good:
        assert take_in(store, tmp_path, document(media(1), media(2)), known_good=known_good).counts.new == 1


def test_illegal_hashes_given_as_known_good_are_noticed(store: RecordStore, tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("\n".join(code(Algorithm.MD5, seed).hex() for seed in range(30)))
    content = document(*(media(seed) for seed in range(40)))
    with KnownGood([good]) as known_good:
        with pytest.raises(ImportFileError, match="30 of 40 entries are known good"):
            take_in(store, tmp_path, content, known_good=known_good)
        assert store.state().records == 0
        assert take_in(store, tmp_path, content, ImportOptions(accept_exclusions=True), known_good=known_good).counts.new == 10


def test_a_dry_run_reports_the_same_and_changes_nothing(store: RecordStore, tmp_path: Path) -> None:
    content = document(media(1), media(2))
    assert take_in(store, tmp_path, content, ImportOptions(dry_run=True)).counts.new == 2
    assert store.version() == (0, 0)


def test_categories_of_known_good_sets_can_be_left_out(store: RecordStore, tmp_path: Path) -> None:
    options = ImportOptions(leave_out=frozenset({"8"}))
    assert take_in(store, tmp_path, document(media(1, Category=8), media(2, Category=1)), options).counts.new == 1


def test_the_operators_scale_and_region_are_kept_with_the_raw_number(store: RecordStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, document(media(1, Category=1), context=CASES_1_3), ImportOptions(scale="own", region="NL"))
    assert (only_record(store).category, only_record(store).category_scale, only_record(store).category_region) == ("1", "own", "NL")


def test_the_report_names_no_hash(store: RecordStore, tmp_path: Path) -> None:
    take_in(store, tmp_path, document(media(1), {"MD5": "AABBCCDDEEFF00112233445566778899AA"}, media(3, SHA1="123456789abcdef0")))
    text = (tmp_path / "report.txt").read_text()
    assert "entry 2: skipped: no usable hash" in text
    assert "AABBCC" not in text
    assert "123456789abcdef0" not in text


@pytest.mark.parametrize(
    ("text", "new", "note"),
    [
        (json.dumps({"odata.metadata": MEDIA_2_0, "value": [{"CaseNumber": "1", "Media": {"value": [media(1), media(2)]}}]}), 2, ""),
        (json.dumps({"@odata.context": MEDIA_2_0, "Media": {"value": [media(1), media(2)]}}), 2, ""),
        (json.dumps({"value": [media(1), {"CaseNumber": "1", "Media": {"value": [media(2)]}}]}), 2, ""),
        ("\n".join(json.dumps(media(seed)) for seed in (1, 2, 3)), 3, "NDJSON"),
        (json.dumps(media(1)), 1, "NDJSON"),
        (document(media(1)) + document(media(2)), 2, "2 VICS documents in one file"),
        (f'{{"value": [{{"MD5": "{code(Algorithm.MD5, 1).hex()}", "MediaSize": NaN}}]}}', 1, ""),
        (f'{{"value": [{{"MD5": "{code(Algorithm.MD5, 1).hex()}", "MediaSize": 1{"0" * 5000}}}]}}', 1, ""),
        (json.dumps({"value": [{"MediaID": 3, "Hashes": [{"HashName": "MD5", "HashValue": code(Algorithm.MD5, 1).hex()}]}]}), 1, ""),
    ],
    ids=["case wrapper", "document wrapper", "wrapper among media", "lines", "one line", "joined", "NaN", "long number", "hashes"],
)
def test_a_wrapper_or_line_is_never_taken_for_one_medium(store: RecordStore, tmp_path: Path, text: str, new: int, note: str) -> None:
    report = take_in(store, tmp_path, text)
    assert (report.counts.new, report.skipped) == (new, 0)
    assert note in " ".join(report.notes)


def test_an_object_that_holds_media_and_has_a_hash_of_its_own_is_named(store: RecordStore, tmp_path: Path) -> None:
    report = take_in(store, tmp_path, document(media(1, Media=[media(2)]), media(3, Media=[media(4)])))
    assert report.counts.new == 2
    assert [text.partition(": ")[2] for text in report.skipped_first] == ["an object that holds media: its own hashes were not read"] * 2


def test_a_second_alternative_hash_is_one_of_a_further_view(store: RecordStore, tmp_path: Path) -> None:
    first, second = code(Algorithm.PDQ, 1), code(Algorithm.PDQ, 2)
    alternatives = [{"HashName": "PDQ", "HashValue": each.hex()} for each in (first, second)]
    take_in(store, tmp_path, document(media(1, AlternativeHashes=alternatives)))
    (kept,) = stored_records(store, RecordQuery())
    assert kept.record.hashes[Algorithm.PDQ] == first
    assert kept.record.further == (Code(Algorithm.PDQ, second, "alternative:2"),)
