"""vPDQ of films as the vpdq tools and HMA write it, in every form, into records and out again; TMK is kept and not searched."""

from __future__ import annotations

import io
import json
import random
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node.search.test_films import ask
from tests.support.records import NOW
from vidfed.federation.bulk.sources import _item_of_entry
from vidfed.formats.entries import FileEntry, Skip
from vidfed.formats.recognise import open_hash_file
from vidfed.formats.vpdq import frame_lines, frame_text, frames_of, is_vpdq
from vidfed.index import Algorithm, Code
from vidfed.index.codes import frame_kind
from vidfed.node.intake.exports import write_csv, write_vics, write_vpdq
from vidfed.node.intake.importer import import_files
from vidfed.node.intake.options import ImportOptions
from vidfed.node.records.lifecycle import RecordQuery, stored_records
from vidfed.node.records.record import Record
from vidfed.node.search.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vidfed.node.intake.report import ImportReport
    from vidfed.node.records.store import RecordStore

RNG = random.Random(19)
HASHES = [RNG.randbytes(32) for _ in range(3)]
PLAIN = RNG.randbytes(32)
FRAMES = [(HASHES[0], 100, 0.0), (HASHES[1], 87, 1.0), (HASHES[1], 87, 2.0), (PLAIN, 12, 3.0), (HASHES[2], 64, 4.5)]
EXPECTED = (
    Code(Algorithm.PDQ, HASHES[0], "second:0-0", 100),
    Code(Algorithm.PDQ, HASHES[1], "second:1-2", 87),
    Code(Algorithm.PDQ, HASHES[2], "second:4.5-4.5", 64),
)
MD5 = "0123456789abcdef0123456789abcdef"
COMPACT = [f"{code.hex()},{quality},{at:.3f}" for code, quality, at in FRAMES]
FORMS: dict[str, str] = {
    "vpdq-hash-video": "".join(f"{n},{quality},{code.hex()},{at:.3f}\n" for n, (code, quality, at) in enumerate(FRAMES)),
    "python binding": "".join(f"{n},{code.hex()},{quality},{at}\n" for n, (code, quality, at) in enumerate(FRAMES)),
    "three columns": "".join(f"{quality},{code.hex()},{at}\r\n" for code, quality, at in FRAMES),
    "list of HMA": json.dumps(COMPACT),
    "indented": json.dumps(COMPACT, indent=1),
    "by frame number": json.dumps({str(n): {"quality": q, "hash": c.hex(), "timestamp": at} for n, (c, q, at) in enumerate(FRAMES)}),
    "signals of HMA": json.dumps({"vpdq": json.dumps(COMPACT)}),
    "with a digest": json.dumps({"video_md5": MD5, "vpdq": json.dumps(COMPACT)}),
    "many films": json.dumps([{"video_md5": MD5, "vpdq": COMPACT}]),
}


def imported(store: RecordStore, path: Path) -> ImportReport:
    (report,) = import_files(store, [path], ImportOptions(), now_ms=NOW)
    return report


def entries(path: Path) -> list[FileEntry | Skip]:
    file = open_hash_file(path)
    assert file.format == "vpdq"
    return list(file.entries())


@pytest.mark.parametrize("form", FORMS)
def test_a_film_is_read_in_every_form_the_tools_write(form: str, tmp_path: Path) -> None:
    (tmp_path / "film").write_text(FORMS[form])
    (entry,) = entries(tmp_path / "film")
    assert isinstance(entry, FileEntry)
    assert tuple(entry.further) == EXPECTED
    assert entry.notes == ["1 of 5 frames are too plain (quality below 50) and were left out"]
    assert entry.codes == ({"md5": bytes.fromhex(MD5)} if "md5" in FORMS[form] else {})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (json.dumps([COMPACT[0], "0,1"]), "frame 2: '0,1' is not hash,quality,seconds"),
        (json.dumps([COMPACT[0], COMPACT[0].replace(",100,", ",101,")]), "quality 101"),
        (json.dumps({"0": {"hash": "0"}, "1": 5}), "frame '0' is no object with hash, quality and timestamp"),
        (json.dumps({"vpdq": 5}), "no list of frames"),
        (f"{HASHES[0].hex()},10,0.0", "no usable frame; 1 of 1 frames are too plain"),
    ],
)
def test_what_is_no_vpdq_is_named_with_the_frame(said: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "film").write_text(said)
    (skip,) = entries(tmp_path / "film")
    assert isinstance(skip, Skip)
    assert reason in skip.reason


@given(
    st.lists(
        st.tuples(st.binary(min_size=32, max_size=32), st.integers(50, 100), st.integers(0, 10**7)), min_size=1, unique_by=lambda f: f[0]
    )
)
def test_what_is_written_reads_back(frames: list[tuple[bytes, int, int]]) -> None:
    at = {code: hundredths * 10 for code, _, hundredths in frames}
    further = tuple(Code(Algorithm.PDQ, code, frame_kind(at[code], at[code]), quality) for code, quality, _ in frames)
    wanted = {(each.code, each.kind, each.quality) for each in further}
    for said in (frame_text(further), json.dumps(frame_lines(further))):
        assert is_vpdq(said)
        again, notes = frames_of(said)
        assert ({(each.code, each.kind, each.quality) for each in again}, notes) == (wanted, [])


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_nothing_that_is_read_ends_otherwise_than_with_a_reason(said: str) -> None:
    is_vpdq(said)
    with suppress(ValueError):
        frames_of(said)


def test_a_film_without_a_digest_is_one_record_and_is_found(store: RecordStore, tmp_path: Path) -> None:
    path = tmp_path / "film.txt"
    path.write_text(FORMS["vpdq-hash-video"])
    assert (imported(store, path).counts.new, imported(store, path).counts.unchanged) == (1, 1)
    (kept,) = stored_records(store, RecordQuery())
    assert (kept.record.hashes, kept.record.further) == ({}, EXPECTED)
    (entry,) = entries(path)
    assert isinstance(entry, FileEntry)
    item = _item_of_entry(entry)
    assert item.times == ((0, 0), (1_000, 2_000), (4_500, 4_500))
    with closing(Catalogue(store, tmp_path / "index", lambda: NOW)) as catalogue:
        catalogue.catch_up()
        (hit,) = ask(catalogue, item).hits
    assert hit.film is not None
    assert (hit.film.frames_agreeing, hit.film.record_frames_agreeing) == (3, 3)


def test_films_survive_every_export(store: RecordStore, tmp_path: Path) -> None:
    further = (
        Code(Algorithm.PDQ, HASHES[0], "second:0-0.5", 100),
        Code(Algorithm.PDQ, HASHES[1], "second:2-2.25", 80),
        Code(Algorithm.PDQ, HASHES[2], "second-trimmed:2-2.25", 70),
    )
    film = Record({Algorithm.MD5: bytes.fromhex(MD5)}, further=further, other_hashes=("TMK:QUJD",))
    store.upsert([film, Record({}, further=EXPECTED), Record({Algorithm.MD5: b"\2" * 16})], now_ms=NOW)
    written: dict[str, Callable[..., int]] = {"vics": write_vics, "csv": write_csv, "vpdq": write_vpdq}
    for name, write in written.items():
        out = io.StringIO()
        records = [kept.record for kept in stored_records(store, RecordQuery())]
        assert write(records, out, lambda _done: None) == (2 if name == "vpdq" else 3)
        (tmp_path / name).write_text(out.getvalue())
        read = [each for each in open_hash_file(tmp_path / name).entries() if isinstance(each, FileEntry)]
        assert [each.codes.get("md5") for each in (read[0], read[-1])] == [bytes.fromhex(MD5), None]
        assert tuple(read[-1].further) == tuple(
            Code(c.algorithm, c.code, c.kind if name != "vpdq" else frame(c), c.quality) for c in EXPECTED
        )
        if name != "vpdq":
            assert (tuple(read[0].further), read[0].values["other_hashes"]) == (further, ("TMK:QUJD",))


def frame(code: Code) -> str:
    """Return the kind of a frame of which the moment alone is told."""
    first = code.kind.partition("-")[0]
    return f"{first}-{first.partition(':')[2]}"


def test_a_vics_video_keeps_its_digest_and_takes_vpdq_and_tmk(store: RecordStore, tmp_path: Path) -> None:
    hashes = [{"HashName": "vPDQ", "HashValue": json.dumps(COMPACT)}, {"HashName": "TMK+PDQF", "HashValue": "VE1LMQ=="}]
    media = [{"MediaID": 1, "MD5": MD5, "AlternativeHashes": hashes}, {"MediaID": 2, "MD5": "f" * 32}]
    media.append({"MediaID": 3, "MD5": "e" * 32, "AlternativeHashes": [{"HashName": "vPDQ", "HashValue": "[5]"}]})
    (tmp_path / "videos.json").write_text(json.dumps({"value": media}))
    report = imported(store, tmp_path / "videos.json")
    notes = " ".join(str(each) for each in report.noted_first)
    assert "TMK+PDQF: kept as it came, and exported; lookups do not search it" in notes
    assert "alternative hash frame 1" in notes
    first, second, third = (kept.record for kept in stored_records(store, RecordQuery()))
    assert (first.further, first.other_hashes, second.further, third.further) == (EXPECTED, ("TMK:VE1LMQ==",), (), ())


def test_ncmec_gives_vpdq_and_tmk(store: RecordStore, tmp_path: Path) -> None:
    page = f"""<queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2"><videos><video><member id="1">m</member><id>v</id>
    <fingerprints><md5>{MD5}</md5><vpdq>{json.dumps(COMPACT)}</vpdq><tmk_pdqf>VE1LMQ==</tmk_pdqf></fingerprints></video></videos></queryResult>"""
    (tmp_path / "page.xml").write_text(page)
    imported(store, tmp_path / "page.xml")
    (kept,) = stored_records(store, RecordQuery())
    assert (kept.record.further, kept.record.other_hashes) == (EXPECTED, ("TMK:VE1LMQ==",))
