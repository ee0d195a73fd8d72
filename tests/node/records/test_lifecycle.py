"""Editing, retracting, erasing, reviewing, backing up."""

from __future__ import annotations

import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.records import NOW, code, record
from vidfed.index import Algorithm, Hash
from vidfed.node.errors import StoreError
from vidfed.node.intake.importer import import_files
from vidfed.node.intake.options import ImportOptions
from vidfed.node.records.backup import back_up, restore
from vidfed.node.records.known import StoreMemory
from vidfed.node.records.lifecycle import RecordQuery, edit, erase, reinstate, retract, stored_record, stored_records
from vidfed.node.records.record import Record, Sharing
from vidfed.node.records.store import PERCEPTUAL, RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from pathlib import Path


def add(store: RecordStore, *records: Record) -> list[str]:
    store.upsert(records, now_ms=NOW)
    return [each.reference for each in records]


def test_an_edit_sets_and_clears_and_is_a_change(store: RecordStore) -> None:
    (reference,) = add(store, record(1, series="s", tags=("a",)))
    kept = edit(store, reference, {"victim_identified": Ternary.YES, "series": "", "tags": ("b", "c")}, now_ms=NOW + 1)
    assert (kept.record.victim_identified, kept.record.series, kept.record.tags) == (Ternary.YES, "", ("b", "c"))
    assert store.version() == (2, NOW + 1)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_was_edited_by_hand_outlives_a_later_import_unless_told_otherwise(store: RecordStore, tmp_path: Path, overwrite: bool) -> None:
    (reference,) = add(store, record(1, series="s", category="1"))
    edit(store, reference, {"series": "mine", "victim_identified": Ternary.YES}, now_ms=NOW)
    path = tmp_path / "set.csv"
    path.write_text(f"md5,series,victim_identified,category\n{code(Algorithm.MD5, 1).hex()},theirs,no,2\n")
    for _ in range(2):
        options = ImportOptions(overwrite=overwrite)
        (report,) = import_files(store, [path], options, now_ms=NOW, report_file=tmp_path / "report")
    kept = stored_record(store, reference).record
    assert kept.category == "2"
    assert (kept.series, kept.victim_identified) == (("theirs", Ternary.NO) if overwrite else ("mine", Ternary.YES))
    told = f"entry 2: series, victim_identified of record {reference} were edited by hand and stay so" in (tmp_path / "report").read_text()
    assert (report.counts.unchanged, report.counts.kept_edits, told) == (1, 0 if overwrite else 1, not overwrite)


def test_a_retracted_record_is_a_tombstone_that_lookups_do_not_find(store: RecordStore) -> None:
    (reference,) = add(store, record(1))
    retract(store, reference, "not what it was taken for", now_ms=NOW + 1)
    assert store.find(Algorithm.MD5, [code(Algorithm.MD5, 1)]) == {}
    assert store.records([1]) == {}
    assert [list(codes) for codes in store.changes_after(0, limit=5).codes.values()] == [[None]] * len(PERCEPTUAL)
    assert stored_record(store, reference).retraction_reason == "not what it was taken for"
    reinstate(store, reference, now_ms=NOW + 2)
    assert store.find(Algorithm.MD5, [code(Algorithm.MD5, 1)]) != {}


def test_erasure_leaves_nothing_but_reference_and_times(store: RecordStore) -> None:
    (reference,) = add(store, record(1, tuple(Algorithm), series="s", case_reference="2026-17", source_id="x/1"))
    erase(store, reference, now_ms=NOW + 1)
    kept = stored_record(store, reference)
    assert kept.state == "erased"
    assert kept.record == Record(hashes={}, reference=reference)
    with pytest.raises(StoreError, match="was erased"):
        edit(store, reference, {"series": "again"}, now_ms=NOW)
    assert store.upsert([record(1)], now_ms=NOW).new == 1, "an erased item is as if it had never been known"


def test_erased_hashes_are_gone_from_the_file(tmp_path: Path) -> None:
    with closing(RecordStore(tmp_path / "records.db")) as store:
        (reference, _) = add(store, record(1, tuple(Algorithm)), record(2))
        erase(store, reference, now_ms=NOW)
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [algorithm.label for algorithm in Algorithm if code(algorithm, 1) in content]
    assert code(Algorithm.MD5, 2) in content


def test_the_index_follows_retraction_and_erasure(tmp_path: Path) -> None:
    with closing(RecordStore(tmp_path / "records.db")) as store:
        references = add(store, record(1), record(2), record(3))
        with closing(Catalogue(store, tmp_path / "index", lambda: NOW)) as catalogue:
            catalogue.catch_up()
            retract(store, references[0], "r", now_ms=NOW)
            erase(store, references[1], now_ms=NOW)
            catalogue.catch_up()
            assert len(catalogue._follower.indexes[Algorithm.PDQ]) == 1


def test_lists_come_in_pages_with_filters(store: RecordStore) -> None:
    add(store, *(record(seed, series="odd" if seed % 2 else "even", tags=(f"t{seed % 3}",)) for seed in range(30)))
    odd = list(stored_records(store, RecordQuery(equal={"series": "odd"})))
    assert len(odd) == 15
    assert [kept.number for kept in stored_records(store, RecordQuery(equal={"series": "odd"}), after=odd[9].number)] == [
        k.number for k in odd[10:]
    ]
    assert len(list(stored_records(store, RecordQuery(tag="t1")))) == 10
    (one,) = stored_records(store, RecordQuery(hash=Hash(Algorithm.SHA1, code(Algorithm.SHA1, 7))))
    assert one.number == 8


def test_records_due_for_review_are_listed(store: RecordStore) -> None:
    add(store, record(1, review_ms=NOW), record(2, review_ms=NOW + 2), record(3))
    assert [kept.number for kept in stored_records(store, RecordQuery(due_ms=NOW + 1))] == [1]


def test_an_unknown_reference_is_said(store: RecordStore) -> None:
    with pytest.raises(StoreError, match="no record has the reference 'x'"):
        retract(store, "x", "r", now_ms=NOW)


@pytest.mark.parametrize(
    ("rule", "seen"), [("", {"fr", "nl"}), ("nobody", set()), ("only:fr", {"fr"}), ("only: fr, de", {"fr"}), ("not:fr", {"nl"})]
)
def test_a_sharing_rule_narrows_who_sees_a_record(rule: str, seen: set[str]) -> None:
    assert {member for member in ("fr", "nl") if record(1, sharing=rule).visible_to(member)} == seen


@pytest.mark.parametrize("rule", ["everybody", "only:", "not:", "only", " "])
def test_a_sharing_rule_that_cannot_be_read_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="sharing must be"):
        Sharing.parse(rule)


def test_a_backup_made_while_others_write_restores_to_what_was(location: Path | str, tmp_path: Path) -> None:
    target, index = tmp_path / "backup", tmp_path / "index"
    index.mkdir()
    (index / "pdq").mkdir()
    with closing(RecordStore(location)) as store:
        add(store, *(record(seed, series="s") for seed in range(50)))
        before = list(stored_records(store, RecordQuery(state="all")))
        with store.database.writing():  # an import that is under way
            back_up(location, target)
        add(store, record(100))
    with pytest.raises(StoreError, match="never overwritten"):
        back_up(location, target)
    memory = StoreMemory(tmp_path / "state.db")
    with closing(RecordStore(location)) as store:
        memory.adopt(store)
    assert restore(location, target, index, memory, now_ms=NOW) == 0
    assert list(index.iterdir()) == []
    with closing(RecordStore(location)) as store:
        assert list(stored_records(store, RecordQuery(state="all"))) == before
        assert store.upsert([record(100)], now_ms=NOW).new == 1


def test_a_password_of_the_store_s_url_is_in_no_program_s_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of a machine sees the arguments of all its programs."""
    seen: list[tuple[tuple[str, ...], str]] = []

    def look(command: tuple[str, ...], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append((command, env.get("PGPASSWORD", "")))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", look)
    url = "postgresql://vidfed:very%20secret@127.0.0.1:1/records"
    back_up(url, tmp_path / "copy", lambda _done, _total: None)
    memory = StoreMemory(tmp_path / "state.db")
    with closing(RecordStore(tmp_path / "any.db")) as store:
        memory.adopt(store)
    with pytest.raises(StoreError):  # nothing was restored there
        restore(url, tmp_path / "copy", tmp_path / "index", memory, now_ms=NOW)
    assert {command[0] for command, _ in seen} == {"pg_dump", "pg_restore"}
    assert not [command for command, _ in seen if "secret" in " ".join(command)]
    assert [password for command, password in seen if any("--dbname=" in part for part in command)] == ["very secret"] * 2


def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    with closing(RecordStore(tmp_path / "records.db")) as store:
        add(store, *(record(seed) for seed in range(200)))
        memory = StoreMemory(tmp_path / "state.db")
        memory.adopt(store)
    back_up(tmp_path / "records.db", tmp_path / "backup")
    content = bytearray((tmp_path / "backup").read_bytes())
    content[5000:15000] = bytes(10_000)
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|malformed|could not be restored"):
        restore(tmp_path / "records.db", tmp_path / "damaged", tmp_path / "index", memory, now_ms=NOW)
    assert sorted(path.name for path in tmp_path.glob("*records.db*")) == ["records.db"]
    with closing(RecordStore(tmp_path / "records.db")) as store:
        assert store.state().records == 200
