"""Lists of harmless files: which item is on one, which list holds, and a list that cannot be meant."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.records import NOW, code
from vidfed.formats.entries import FileEntry
from vidfed.index import Algorithm
from vidfed.node.errors import ImportFileError, MostlyKnownGoodError
from vidfed.node.intake.importer import import_files
from vidfed.node.intake.known_good import KnownGood, add_list, remove_list, stored_lists
from vidfed.node.intake.options import ImportOptions
from vidfed.node.records.store import RecordStore

if TYPE_CHECKING:
    from pathlib import Path


def digest(name: str, seed: int) -> str:
    return code(Algorithm(name), seed).hex()


def listed(folder: Path, text: str, name: str = "nsrl", version: str = "1") -> None:
    path = folder / "good.csv"
    path.write_text(text)
    add_list(folder / "known-good", name, [path], version=version, now_ms=NOW)


@pytest.mark.parametrize(
    ("item", "known"),
    [
        ({"md5": 1}, True),
        ({"md5": 1, "sha1": 1}, True),
        ({"md5": 1, "sha1": 2}, False),
        ({"md5": 1, "sha256": 9}, True),
        ({"md5": 1, "sha1": 1, "sha256": 9}, True),
        ({"md5": 2, "sha1": 1}, True),
        ({"md5": 3, "sha1": 9}, True),
        ({"md5": 4, "sha256": 5}, False),
        ({"md5": 4, "sha1": 9}, True),
        ({"md5": 8}, False),
    ],
)
def test_the_strongest_digest_that_both_have_decides(tmp_path: Path, item: dict[str, int], known: bool) -> None:
    listed(tmp_path, f"md5,sha1,sha256\n{digest('md5', 1)},{digest('sha1', 1)},\n{digest('md5', 3)},,\n{digest('md5', 4)},,{'ab' * 32}\n")
    entry = FileEntry(7, {name: code(Algorithm(name), seed) for name, seed in item.items()}, {})
    with KnownGood(lists=tmp_path / "known-good") as good:
        assert good.among([entry]) == ({7: "the list nsrl 1"} if known else {})


def test_the_newer_list_of_a_name_replaces_the_older(tmp_path: Path) -> None:
    listed(tmp_path, f"md5\n{digest('md5', 1)}\n{digest('md5', 2)}\n")
    listed(tmp_path, f"md5\n{digest('md5', 2)}\n", version="2")
    listed(tmp_path, f"md5\n{digest('md5', 3)}\n", name="own")
    entries = [FileEntry(seed, {"md5": code(Algorithm.MD5, seed)}, {}) for seed in (1, 2, 3)]
    with KnownGood(lists=tmp_path / "known-good") as good:
        assert good.among(entries) == {2: "the list nsrl 2", 3: "the list own 1"}
    assert [(each.title, each.items) for each in stored_lists(tmp_path / "known-good")] == [("nsrl 2", 1), ("own 1", 1)]
    remove_list(tmp_path / "known-good", "nsrl")
    with pytest.raises(ImportFileError, match="there is no known-good list"):
        remove_list(tmp_path / "known-good", "nsrl")


def test_a_list_without_digests_or_of_a_bad_name_changes_nothing(tmp_path: Path) -> None:
    listed(tmp_path, f"md5\n{digest('md5', 1)}\n")
    with pytest.raises(Exception, match="without a single digest"):
        listed(tmp_path, f"pdq\n{digest('pdq', 1)}\n", version="2")
    with pytest.raises(ImportFileError, match="a list's name"):
        listed(tmp_path, "md5\n", name="../x")
    assert [each.title for each in stored_lists(tmp_path / "known-good")] == ["nsrl 1"]
    assert [path.name for path in (tmp_path / "known-good").iterdir()] == ["nsrl.db"]


@pytest.mark.parametrize(("good", "of", "asks"), [(10, 10, True), (60, 100, True), (50, 100, False), (45, 100, False), (1, 1, True)])
def test_more_than_half_known_good_is_asked_about(tmp_path: Path, good: int, of: int, asks: bool) -> None:
    listed(tmp_path, "md5\n" + "".join(f"{digest('md5', seed)}\n" for seed in range(1, good + 1)))
    target = tmp_path / "target.csv"
    target.write_text("md5\n" + "".join(f"{digest('md5', seed)}\n" for seed in range(1, of + 1)))
    with closing(RecordStore(tmp_path / "records.db")) as store, KnownGood(lists=tmp_path / "known-good") as known:
        if asks:
            with pytest.raises(MostlyKnownGoodError, match=f"{good} of {of} entries are known good"):
                import_files(store, [target], ImportOptions(), now_ms=NOW, known_good=known)
        (report,) = import_files(store, [target], ImportOptions(accept_exclusions=True), now_ms=NOW, known_good=known)
        assert (report.counts.new, report.skipped) == (of - good, good)
