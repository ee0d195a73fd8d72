"""A unit's database followed: taken over, compared, corrected, lost, and never half."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.memory import columns_of
from tests.support.patience import PATIENCE_S
from vidfed.index import Algorithm, Hash
from vidfed.node.errors import StoreError
from vidfed.node.records.lifecycle import RecordQuery, edit, erase, reinstate, retract, stored_records
from vidfed.node.records.record import Record
from vidfed.node.records.source_states import Freshness, source_states
from vidfed.node.records.store import RecordStore
from vidfed.node.records.upsert.repeated import Repeats
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.query import SearchQuery
from vidfed.node.sources.comparison.run import RunOptions, RunResult, SourceRun
from vidfed.node.sources.errors import SourceBusyError, SourceError, SourceReadError, SuspiciousError
from vidfed.node.sources.settings import parse_sources
from vidfed.security.lockfile import exclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.node.sources.conftest import Unit
    from vidfed.node.records.lifecycle import StoredRecord
    from vidfed.node.sources.settings import SourceSettings

NOW = 1_780_000_000_000
DAY = 86_400_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with closing(RecordStore(tmp_path / "records.db")) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


def settings(unit: Unit, tmp_path: Path, name: str = "cases", **more: Any) -> SourceSettings:  # noqa: ANN401 - settings of any type
    table = {"kind": "sql", "url": unit.url, "table": "media", "key": "id", "deleted": "gone", "page_rows": 7}
    table |= {"columns": {"md5": "md5", "series": "series"}, "constants": {"handling_code": "H1"}} | more
    return parse_sources({name: {key: value for key, value in table.items() if value is not None}}, tmp_path / "vidfed.toml")[name]


def source(store: RecordStore, unit: Unit, folder: Path, **more: Any) -> SourceRun:  # noqa: ANN401 - settings of any type
    return SourceRun(store, settings(unit, folder, **more), folder, folder / "state")


def made(unit: Unit, count: int = 10) -> None:
    unit.run("CREATE TABLE media (id INTEGER PRIMARY KEY, md5 VARCHAR(40), series VARCHAR(40), gone INTEGER, changed TIMESTAMP NULL)")
    if count:
        values = [{"id": number, "md5": f"{number:032x}"} for number in range(1, count + 1)]
        unit.run("INSERT INTO media VALUES (:id, :md5, 'S', NULL, '2026-01-01 10:00:00')", values=values)


def run(source: SourceRun, now_ms: int = NOW, **more: Any) -> RunResult:  # noqa: ANN401 - options of any type
    return source.run(RunOptions(now_ms, **more))


def live(store: RecordStore) -> list[StoredRecord]:
    return list(stored_records(store, RecordQuery()))


def counts(result: RunResult, *names: str) -> tuple[int, ...]:
    return tuple(getattr(result.report, name) for name in names)


def test_everything_is_taken_over_as_the_source_says(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    result = run(source(store, unit, folder))
    assert counts(result, "rows", "new", "passed_over") == (10, 10, 0)
    records = live(store)
    assert {each.record.hashes[Algorithm.MD5].hex() for each in records} == {f"{number:032x}" for number in range(1, 11)}
    assert {(each.source, each.record.series, each.record.handling_code.name, each.origin) for each in records} == {
        ("cases", "S", "H1", "source cases")
    }
    (state,) = source_states(store.database)
    assert (state.as_of_ms, state.compared_ms, state.live) == (NOW, NOW, 10)


def test_several_columns_of_one_perceptual_hash_are_codes_of_one_record(store: RecordStore, unit: Unit, folder: Path) -> None:
    """Each is found; what the source changes or takes out is found no more, whatever places it had."""
    whole, trimmed, later = (bytes(range(start, start + 32)) for start in (1, 77, 140))
    unit.run("CREATE TABLE media (id INTEGER PRIMARY KEY, md5 VARCHAR(40), a VARCHAR(64), b VARCHAR(64), c VARCHAR(64))")
    unit.run(f"INSERT INTO media VALUES (1, NULL, NULL, '{whole.hex()}', '{trimmed.hex()}'), (2, '{7:032x}', '{later.hex()}', NULL, NULL)")
    followed = source(store, unit, folder, columns={"md5": "md5", "pdq": ["a", "b", "c"]}, deleted=None, constants=None)

    def views() -> dict[str, list[tuple[str, bytes]]]:
        return {each.record.source_id: [(code.kind, code.code) for code in each.record.further] for each in live(store)}

    run(followed)
    assert views() == {"1": [("view:3", trimmed)], "2": []}
    assert live(store)[0].record.hashes[Algorithm.PDQ] == whole
    assert counts(run(followed, NOW + 1), "unchanged", "changed") == (2, 0)
    with closing(Catalogue(store, folder / "index", lambda: NOW)) as catalogue:
        catalogue.start()

        def held(code: bytes) -> int:
            (found,) = catalogue.search([SearchQuery(columns_of([Hash(Algorithm.PDQ, code)], 0), 20)], patience_s=PATIENCE_S)
            return len(found.hits)

        assert [held(code) for code in (whole, trimmed, later)] == [1, 1, 1]
        unit.run(f"UPDATE media SET c = '{later.hex()}' WHERE id = 1", "UPDATE media SET a = NULL WHERE id = 2")
        assert counts(run(followed, NOW + 2), "unchanged", "changed") == (0, 2)
        assert views() == {"1": [("view:3", later)], "2": []}
        assert [held(code) for code in (whole, trimmed, later)] == [1, 0, 1]
    unit.run("UPDATE media SET c = NULL WHERE id = 1")
    run(followed, NOW + 3)
    assert views() == {"1": [], "2": []}


def test_a_second_run_changes_nothing(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    version = store.version()
    assert counts(run(followed, NOW + 1), "unchanged", "new", "changed", "vanished") == (10, 0, 0, 0)
    assert store.version() == version
    assert source_states(store.database)[0].as_of_ms == NOW + 1


def test_new_changed_deleted_and_vanished_rows_are_followed(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    references = {each.record.source_id: each.record.reference for each in live(store)}
    unit.run(
        "INSERT INTO media VALUES (11, '0000000000000000000000000000000b', 'S', NULL, NULL)",
        "UPDATE media SET series = 'T' WHERE id = 1",
        "UPDATE media SET series = NULL WHERE id = 2",
        "UPDATE media SET gone = 1 WHERE id = 3",
        "UPDATE media SET md5 = 'broken' WHERE id = 4",
        "DELETE FROM media WHERE id = 5",
    )
    result = run(followed, NOW + 1)
    assert counts(result, "new", "changed", "deleted", "lost_hashes", "vanished", "unchanged") == (1, 2, 1, 1, 1, 5)
    by_key = {each.record.source_id: each for each in stored_records(store, RecordQuery(state="all"))}
    assert [by_key[key].record.series for key in ("1", "2", "11")] == ["T", "", "S"]
    assert by_key["1"].record.reference == references["1"]
    reasons = [by_key[key].retraction_reason for key in ("3", "4", "5")]
    assert reasons == ["taken back by its source", "its source has nothing usable of it any more", "no longer at its source"]
    assert source_states(store.database)[0].live == 8


def test_what_comes_back_is_reinstated_by_its_source(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    unit.run("UPDATE media SET gone = 1 WHERE id = 3")
    run(followed, NOW + 1)
    unit.run("UPDATE media SET gone = 0 WHERE id = 3")
    assert counts(run(followed, NOW + 2), "back", "changed") == (1, 1)
    assert len(live(store)) == 10
    assert live(store)[2].retraction_reason == ""


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM media", "DELETE FROM media WHERE id > 70", "UPDATE media SET md5 = NULL", "UPDATE media SET gone = 1 WHERE id <= 30"],
)
def test_a_source_that_lost_much_is_asked_about_and_nothing_changes(store: RecordStore, unit: Unit, folder: Path, statement: str) -> None:
    made(unit, 100)
    followed = source(store, unit, folder)
    run(followed)
    unit.run(statement, "UPDATE media SET series = 'T' WHERE id = 1")
    version = store.version()
    with pytest.raises(SuspiciousError, match="of 100 records would be retracted"):
        run(followed, NOW + 1)
    assert store.version() == version
    assert source_states(store.database)[0].as_of_ms == NOW
    assert not list((folder / "state").glob("*.spool"))
    run(followed, NOW + 2, accept_losses=True)
    assert len(live(store)) < 100
    assert source_states(store.database)[0].as_of_ms == NOW + 2


def test_a_source_that_cannot_be_read_changes_nothing_and_grows_old(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    unit.run("DROP TABLE media")
    with pytest.raises(SourceReadError):
        run(followed, NOW + DAY)
    assert len(live(store)) == 10
    (state,) = source_states(store.database)
    assert state.as_of_ms == NOW
    assert Freshness.of([state], NOW + DAY) == Freshness(NOW, behind=True)


def test_a_dry_run_says_what_would_be_and_does_nothing(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    followed = source(store, unit, folder)
    assert counts(run(followed, dry_run=True), "new") == (10,)
    assert not live(store)
    assert not source_states(store.database)
    run(followed)
    unit.run("DELETE FROM media WHERE id = 5")
    assert counts(run(followed, dry_run=True), "vanished") == (1,)
    assert len(live(store)) == 10


def test_only_changes_are_read_when_the_source_tells_them(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    unit.run("UPDATE media SET changed = '2026-01-01 10:00:05' WHERE id = 9")
    followed = source(store, unit, folder, changed="changed", changed_overlap=0.0)
    assert run(followed).full
    unit.run(
        "UPDATE media SET series = 'T', changed = '2026-01-02 10:00:00' WHERE id = 4",
        "DELETE FROM media WHERE id = 5",
        "INSERT INTO media VALUES (12, '0000000000000000000000000000000c', 'S', NULL, '2026-01-02 11:00:00')",
    )
    result = run(followed, NOW + 1)
    assert not result.full
    assert counts(result, "rows", "changed", "new", "vanished") == (3, 1, 1, 0)
    later = run(followed, NOW + DAY + 1)
    assert later.full
    assert counts(later, "vanished") == (1,)
    assert source_states(store.database)[0].live == 10


def test_changes_that_were_committed_late_are_found_in_the_overlap(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    followed = source(store, unit, folder, changed="changed", changed_overlap=3600.0)
    run(followed)
    unit.run("UPDATE media SET series = 'T', changed = '2026-01-01 09:30:00' WHERE id = 4")
    assert counts(run(followed, NOW + 1), "changed") == (1,)


def test_two_sources_and_an_import_that_know_one_file_are_three_statements(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit, 1)
    by_hand = Record({Algorithm.MD5: bytes.fromhex(f"{1:032x}")}, series="by hand")
    store.upsert([by_hand], now_ms=NOW)
    run(source(store, unit, folder))
    run(source(store, unit, folder, name="other", columns={"md5": "md5"}))
    store.upsert([by_hand], now_ms=NOW)
    assert [(each.source, each.record.series) for each in live(store)] == [("", "by hand"), ("cases", "S"), ("other", "")]
    assert len(store.find(Algorithm.MD5, [bytes.fromhex(f"{1:032x}")])[bytes.fromhex(f"{1:032x}")]) == 3


def test_a_source_is_in_charge_but_for_sharing_and_review(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    reference = live(store)[0].record.reference
    changes: list[Callable[[], object]] = [
        lambda: edit(store, reference, {"series": "mine"}, now_ms=NOW),
        lambda: edit(store, reference, {"series": "mine", "sharing": "nobody"}, now_ms=NOW),
        lambda: retract(store, reference, "wrong", now_ms=NOW),
        lambda: reinstate(store, reference, now_ms=NOW),
    ]
    for change in changes:
        with pytest.raises(StoreError, match="source cases, which is in charge"):
            change()
    edit(store, reference, {"sharing": "only:fr", "review_ms": 5}, now_ms=NOW)
    unit.run("UPDATE media SET series = 'T'")
    run(followed, NOW + 1)
    first = live(store)[0].record
    assert (first.series, first.sharing, first.review_ms) == ("T", "only:fr", 5)


def test_what_was_erased_here_is_never_taken_in_again(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    first = live(store)[0]
    erase(store, first.record.reference, now_ms=NOW)
    unit.run("UPDATE media SET series = 'T'")
    assert counts(run(followed, NOW + 1), "erased", "changed", "new") == (1, 9, 0)
    assert len(live(store)) == 9
    assert not store.find(Algorithm.MD5, [bytes.fromhex(f"{1:032x}")])


def test_a_perceptual_hash_on_everything_is_set_aside(store: RecordStore, unit: Unit, folder: Path) -> None:
    unit.run("CREATE TABLE media (id INTEGER PRIMARY KEY, md5 VARCHAR(40), pdq VARCHAR(64), gone INTEGER)")
    unit.run(
        "INSERT INTO media VALUES (:id, :md5, :pdq, NULL)", values=[{"id": n, "md5": f"{n:032x}", "pdq": "ab" * 32} for n in range(1, 200)]
    )
    result = run(source(store, unit, folder, columns={"md5": "md5", "pdq": "pdq"}))
    assert (result.report.new, result.report.repeats) == (199, Repeats(set_aside=1))
    assert all(Algorithm.PDQ not in each.record.hashes for each in live(store))


def test_a_key_that_is_none_makes_no_second_record(store: RecordStore, unit: Unit, folder: Path) -> None:
    unit.run("CREATE TABLE media (id INTEGER, part INTEGER, md5 VARCHAR(40), series VARCHAR(40), gone INTEGER)")
    rows = [{"id": n % 30, "part": n, "md5": f"{n + 1:032x}"} for n in range(60)]
    unit.run("INSERT INTO media VALUES (:id, :part, :md5, 'S', NULL)", values=rows)
    followed = source(store, unit, folder)
    assert counts(run(followed), "new", "repeated") == (30, 30)
    assert len(live(store)) == 30
    assert counts(run(followed, NOW + 1), "new", "vanished") == (0, 0)


def test_one_run_of_a_source_at_a_time(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    with exclusive(folder / "state/cases.lock"), pytest.raises(SourceBusyError):
        run(source(store, unit, folder))


def test_a_run_that_was_killed_while_it_wrote_goes_on_without_reading(
    store: RecordStore, unit: Unit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    unit.run("UPDATE media SET series = 'T'", "DELETE FROM media WHERE id = 10")

    class PowerCutError(BaseException):
        pass

    def cut(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr("vidfed.node.sources.comparison.writer.SourceWriter.finish", cut)
        patch.setattr("vidfed.node.sources.comparison.spool.Spool.remove", lambda _self: None)
        with pytest.raises(PowerCutError):
            run(followed, NOW + 1)
    assert {each.record.series for each in live(store)} == {"S"}
    unit.run("DROP TABLE media")
    result = run(source(store, unit, folder), NOW + 2)
    assert result.taken_up
    assert {each.record.series for each in live(store)} == {"T"}
    assert (len(live(store)), source_states(store.database)[0].as_of_ms) == (9, NOW + 1)
    assert not list((folder / "state").glob("*.spool"))


@pytest.mark.parametrize("change", ["settings", "newer"])
def test_what_was_read_is_not_written_when_it_no_longer_fits(
    store: RecordStore, unit: Unit, folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    unit.run("UPDATE media SET series = 'T'")
    with monkeypatch.context() as patch:
        patch.setattr("vidfed.node.sources.comparison.run.SourceRun._write", lambda *_: None)
        run(followed, NOW + 1)
    kept = (folder / "state/cases.spool").read_bytes()
    unit.run("UPDATE media SET series = 'U'")
    if change == "newer":
        (folder / "state/cases.spool").unlink()
        run(followed, NOW + 2)
        (folder / "state/cases.spool").write_bytes(kept)
        assert not run(followed, NOW + 3).taken_up
    else:
        assert not run(source(store, unit, folder, constants={"handling_code": "H2"}), NOW + 3).taken_up
    assert {each.record.series for each in live(store)} == {"U"}


def test_a_full_disk_changes_nothing(store: RecordStore, unit: Unit, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(unit)
    followed = source(store, unit, folder)
    run(followed)
    unit.run("UPDATE media SET series = 'T'")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(SourceError, match="No space left"):
            run(followed, NOW + 1)
    assert {each.record.series for each in live(store)} == {"S"}
    assert counts(run(followed, NOW + 2), "changed") == (10,)


_KILLED = """
import os, sys
from pathlib import Path
import vidfed.node.sources.comparison.writer as writer
from vidfed.node.records.store import RecordStore
from vidfed.node.sources.comparison.run import RunOptions, SourceRun
from vidfed.node.sources.settings import parse_sources
folder = Path(sys.argv[1])
writer.SourceWriter.finish = lambda _self: os.kill(os.getpid(), 9)
table = {"kind": "sql", "url": sys.argv[2], "table": "media", "key": "id", "columns": {"md5": "md5", "series": "series"}}
settings = parse_sources({"cases": table}, folder)["cases"]
SourceRun(RecordStore(folder / "records.db"), settings, folder, folder / "state").run(RunOptions(int(sys.argv[3])))
"""


def test_kill_9_in_the_first_run_leaves_nothing_half(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(folder), unit.url, str(NOW)], check=False, timeout=60, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not live(store)
    assert source_states(store.database)[0].as_of_ms == 0
    assert counts(run(source(store, unit, folder, deleted=None)), "new") == (10,)


def test_the_password_comes_from_a_private_file_alone(store: RecordStore, unit: Unit, folder: Path) -> None:
    made(unit)
    (folder / "secret").write_text("geheim\n")
    (folder / "secret").chmod(0o644)
    url = unit.url.replace("reader@", "secured@")  # MariaDB's only user with a password
    with pytest.raises(SourceError, match="password_file"):
        run(source(store, unit, folder, url=url, password_file="secret"))
    (folder / "secret").chmod(0o600)
    run(source(store, unit, folder, url=url, password_file="secret"))
