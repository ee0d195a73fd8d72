"""A folder that a tool fills: imported once, moved away with its report, and an alarm when it is gone."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from vidfed.node.errors import StoreError
from vidfed.node.records.lifecycle import RecordQuery, edit, stored_records
from vidfed.node.records.source_states import source_states
from vidfed.node.records.store import RecordStore
from vidfed.node.sources.errors import SourceReadError
from vidfed.node.sources.folder import FolderReport, FolderRun
from vidfed.node.sources.settings import FolderSection, parse_sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_780_000_000_000
MINUTE = 60_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    (tmp_path / "state").mkdir()
    (tmp_path / "inbox").mkdir()
    with closing(RecordStore(tmp_path / "records.db")) as made:
        yield made


def look(store: RecordStore, tmp_path: Path, now_ms: int = NOW, *, dry_run: bool = False, **more: Any) -> FolderReport:  # noqa: ANN401 - settings of any type
    table = {"kind": "folder", "path": "inbox", "complete": "rename"} | more
    settings = parse_sources({"night": table}, tmp_path)["night"]
    assert isinstance(settings.section, FolderSection)
    run = FolderRun(store, settings, settings.section, tmp_path, tmp_path / "state")
    return run.run(now_ms=now_ms, defaults={}, values={}, dry_run=dry_run)


def put(tmp_path: Path, name: str, *numbers: int) -> None:
    (tmp_path / "inbox" / name).write_text("md5,series\n" + "".join(f"{number:032x},S{number}\n" for number in numbers))


def names(tmp_path: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (tmp_path / "inbox" / folder).iterdir() if path.is_file())


def live(store: RecordStore) -> int:
    return len(list(stored_records(store, RecordQuery())))


def test_a_file_is_taken_in_once_and_moved_with_its_report(store: RecordStore, tmp_path: Path) -> None:
    put(tmp_path, "night.csv", 1, 2)
    report = look(store, tmp_path)
    assert [each.counts.new for each in report.imported] == [2]
    assert names(tmp_path, "done") == ["night.csv", "night.csv.report.txt"]
    assert not look(store, tmp_path).imported
    assert {each.source for each in stored_records(store, RecordQuery())} == {"night"}


def test_a_later_delivery_of_the_same_name_adds_and_corrects(store: RecordStore, tmp_path: Path) -> None:
    put(tmp_path, "night.csv", 1, 2)
    look(store, tmp_path)
    put(tmp_path, "night.csv", 2, 3)
    report = look(store, tmp_path)
    assert (report.imported[0].counts.new, report.imported[0].counts.unchanged, live(store)) == (1, 1, 3)
    assert names(tmp_path, "done") == ["night.csv", "night.csv.2", "night.csv.report.txt", "night.csv.report.txt.2"]


def test_a_file_that_still_grows_waits(store: RecordStore, tmp_path: Path) -> None:
    put(tmp_path, "night.csv", 1)
    quiet: dict[str, Any] = {"complete": "quiet", "quiet_s": 60.0}
    assert look(store, tmp_path, **quiet).waiting == ["night.csv"]
    put(tmp_path, "night.csv", 1, 2)
    assert look(store, tmp_path, NOW + 2 * MINUTE, **quiet).waiting == ["night.csv"]
    assert look(store, tmp_path, NOW + 3 * MINUTE, **quiet).imported[0].counts.new == 2


@pytest.mark.parametrize("name", ["x.part", "x.tmp", ".x.csv", "~$x.csv", "x.csv.filepart"])
def test_names_of_unfinished_files_are_passed_by(store: RecordStore, tmp_path: Path, name: str) -> None:
    put(tmp_path, name, 1)
    report = look(store, tmp_path)
    assert (report.imported, report.failed) == ([], {})
    assert (tmp_path / "inbox" / name).exists()


def test_a_link_is_not_followed(store: RecordStore, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("md5\n" + "a1" * 16)
    (tmp_path / "inbox/x.csv").symlink_to(tmp_path / "secret.csv")
    assert not look(store, tmp_path).imported
    assert live(store) == 0


def test_a_file_that_cannot_be_read_is_moved_with_the_reason_and_the_source_is_not_current(store: RecordStore, tmp_path: Path) -> None:
    look(store, tmp_path)
    (tmp_path / "inbox/night.csv").write_text('{"@odata.context": "x", "value": [')
    report = look(store, tmp_path, NOW + MINUTE)
    assert list(report.failed) == ["night.csv"]
    assert names(tmp_path, "failed") == ["night.csv", "night.csv.report.txt"]
    assert "night.csv" in (tmp_path / "inbox/failed/night.csv.report.txt").read_text()
    look(store, tmp_path, NOW + 2 * MINUTE)
    assert source_states(store.database)[0].as_of_ms == NOW
    put(tmp_path, "night.csv", 1)
    assert not look(store, tmp_path, NOW + 3 * MINUTE).not_current
    assert source_states(store.database)[0].as_of_ms == NOW + 3 * MINUTE
    assert names(tmp_path, "failed") == []


def test_one_bad_file_does_not_keep_the_others_out(store: RecordStore, tmp_path: Path) -> None:
    (tmp_path / "inbox/a.csv").write_text("nothing\n1\n")
    put(tmp_path, "b.csv", 1)
    report = look(store, tmp_path)
    assert (len(report.failed), len(report.imported), live(store)) == (1, 1, 1)


def test_a_share_that_is_gone_is_an_alarm_and_no_deletion(store: RecordStore, tmp_path: Path) -> None:
    put(tmp_path, "night.csv", 1)
    look(store, tmp_path)
    (tmp_path / "inbox").rename(tmp_path / "elsewhere")
    with pytest.raises(SourceReadError, match="is the share mounted"):
        look(store, tmp_path, NOW + MINUTE)
    (tmp_path / "inbox").mkdir()  # the empty folder on which it is mounted
    with pytest.raises(SourceReadError, match="is the share mounted"):
        look(store, tmp_path, NOW + 2 * MINUTE)
    assert live(store) == 1
    assert source_states(store.database)[0].as_of_ms == NOW


def test_a_dry_run_moves_and_stores_nothing(store: RecordStore, tmp_path: Path) -> None:
    put(tmp_path, "night.csv", 1)
    assert look(store, tmp_path, dry_run=True).imported[0].counts.new == 1
    assert (tmp_path / "inbox/night.csv").exists()
    assert live(store) == 0


def test_a_delivery_that_does_not_come_makes_the_records_old(store: RecordStore, tmp_path: Path) -> None:
    put(tmp_path, "night.csv", 1)
    look(store, tmp_path, expect_every_s=86_400.0)
    look(store, tmp_path, NOW + 90 * MINUTE, expect_every_s=86_400.0)
    (state,) = source_states(store.database)
    assert state.as_of_ms == NOW
    assert state.is_behind(NOW + 3 * 86_400_000)


def test_records_of_a_folder_are_read_only_here(store: RecordStore, tmp_path: Path) -> None:
    put(tmp_path, "night.csv", 1)
    look(store, tmp_path)
    reference = next(stored_records(store, RecordQuery())).record.reference
    with pytest.raises(StoreError, match="in charge"):
        edit(store, reference, {"series": "x"}, now_ms=NOW)
    edit(store, reference, {"sharing": "nobody"}, now_ms=NOW)
