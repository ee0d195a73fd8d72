"""A node answers from the record store that it had, and from no other in its place; what was erased stays so."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from vidfed.index import Algorithm
from vidfed.node.errors import IndexBrokenError, StoreError
from vidfed.node.records.backup import back_up, restore
from vidfed.node.records.known import StoreMemory
from vidfed.node.records.lifecycle import RecordQuery, erase, reinstate, retract, stored_record, stored_records
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.security.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = 1_700_000_000_000
CODES = [bytes([number]) * 16 for number in range(1, 6)]


class Place:
    """A member's folder as far as its records go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "records.db"
        self.backup = folder / "backup"
        self.memory = StoreMemory(folder / "state.db")

    def open(self) -> RecordStore:
        store = RecordStore(self.path, make=False)
        self.memory.check(store)
        return store

    def restore(self) -> int:
        return restore(self.path, self.backup, self.folder / "index", self.memory, now_ms=NOW)

    def live(self) -> list[str]:
        with closing(self.open()) as store:
            return [each.record.reference for each in stored_records(store, RecordQuery())]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """With five records, as many as its backup has, the last of them retracted since and the one before it erased."""
    made = Place(tmp_path)
    with closing(RecordStore(made.path)) as store:
        made.memory.adopt(store)
        store.upsert([Record({Algorithm.MD5: code}, series="S", reference=f"r{code[0]}") for code in CODES], now_ms=NOW)
        made.memory.note(store)
        back_up(made.path, made.backup)
        erase(store, "r4", now_ms=NOW)
        retract(store, "r5", "by court order", now_ms=NOW)
        made.memory.note(store)
    return made


def gone(place: Place) -> None:
    place.path.unlink()


def emptied(place: Place) -> None:
    place.path.unlink()
    RecordStore(place.path).close()


def truncated(place: Place) -> None:
    place.path.write_bytes(b"")


def older(place: Place) -> None:
    shutil.copy(place.backup, place.path)


def changed_since_put_back(place: Place) -> None:
    older(place)
    with closing(RecordStore(place.path)) as store:
        store.upsert([Record({Algorithm.MD5: bytes([number]) * 16}) for number in range(10, 20)], now_ms=NOW)


@pytest.mark.parametrize("happened", [gone, emptied, truncated, older, changed_since_put_back])
def test_another_store_in_the_place_of_the_node_s_is_refused_and_the_cure_named(place: Place, happened: Callable[[Place], None]) -> None:
    happened(place)
    with pytest.raises(StoreError, match="vidfed node restore"):
        place.open()
    if happened is gone:
        assert not place.path.exists()  # it was not made anew
    place.restore()
    assert place.live() == ["r1", "r2", "r3"]


def test_without_its_memory_a_store_is_not_believed(place: Place) -> None:
    place.memory.path.unlink()
    for step in (place.open, place.restore):
        with pytest.raises(StoreError, match="adopt-store"):
            step()
    with closing(RecordStore(place.path, make=False)) as store:
        place.memory.adopt(store)
    assert place.live() == ["r1", "r2", "r3"]


@pytest.mark.parametrize("happened", [gone, emptied, truncated, older, changed_since_put_back])
def test_a_running_node_whose_store_is_exchanged_searches_no_more(place: Place, happened: Callable[[Place], None]) -> None:
    """Connections that are open go on with the old file; whatever opens a new one must not search the new one."""
    with closing(place.open()) as store, closing(Catalogue(store, place.folder / "index", system_clock)) as catalogue:
        catalogue.catch_up()
        catalogue.check()
        store.database.engine.dispose()
        for path in place.folder.glob("records.db-*"):
            path.unlink()
        happened(place)
        for step in (catalogue.check, lambda: catalogue.search([])):
            with pytest.raises((StoreError, IndexBrokenError)):
                step()


def test_restore_does_not_bring_back_what_was_erased(place: Place) -> None:
    assert place.restore() == 2
    assert place.live() == ["r1", "r2", "r3"]
    with closing(place.open()) as store:
        assert stored_record(store, "r4").state == "erased"
        assert (stored_record(store, "r5").state, stored_record(store, "r5").retraction_reason) == ("retracted", "by court order")
        assert store.find(Algorithm.MD5, CODES) == {CODES[number]: [number + 1] for number in range(3)}


def test_restore_does_not_bring_back_what_was_erased_though_the_store_is_lost(place: Place) -> None:
    place.path.write_bytes(b"no database" * 1_000)
    assert place.restore() == 2
    assert place.live() == ["r1", "r2", "r3"]
    assert (place.folder / "records.db.before-restore").read_bytes().startswith(b"no database")


def test_what_was_reinstated_comes_back_with_a_backup(place: Place) -> None:
    with closing(place.open()) as store:
        reinstate(store, "r5", now_ms=NOW)
        place.memory.note(store)
    assert place.restore() == 1
    assert place.live() == ["r1", "r2", "r3", "r5"]


def test_an_import_that_retracts_is_in_the_register(place: Place) -> None:
    with closing(place.open()) as store, store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE records SET retracted_ms = 1, version = 100 WHERE reference = 'r1'")
    with closing(place.open()) as store:
        place.memory.note(store)
    assert "r1" in {removal.reference for removal in place.memory.removals()}


def holding(folder: Path, code: bytes) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and code in path.read_bytes()]


def test_erased_code_is_in_no_file_of_the_store(place: Place) -> None:
    """Neither in the database, its journals nor in the store that a restore set aside."""
    os.replace(place.backup, place.folder / "elsewhere")  # noqa: PTH105
    shutil.move(place.folder / "elsewhere", place.folder.parent / "elsewhere")
    place.backup = place.folder.parent / "elsewhere"
    place.restore()
    with closing(place.open()) as store:
        assert holding(place.folder, CODES[0])
        erase(store, "r1", now_ms=NOW)
        assert holding(place.folder, CODES[0]) == []
    assert holding(place.folder, CODES[0]) == []
    assert holding(place.folder, CODES[1])


class _Stop:
    """Ends the process, as kill -9 does, at the n-th step that changes files."""

    EVENTS = frozenset({"open", "os.rename", "os.remove", "os.link", "sqlite3.connect", "shutil.rmtree", "os.truncate"})

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, event: str, _: tuple[object, ...]) -> None:
        if event in self.EVENTS:
            self._left -= 1
            if self._left < 0:
                os._exit(9)


def killed_at(place: Place, step: int) -> bool:
    """Restore in a process of its own that is killed at a step; return whether it was."""
    child = os.fork()
    if not child:
        sys.addaudithook(_Stop(step))
        place.restore()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_restore_killed_at_every_step(place: Place) -> None:
    """The node has the one store or the other, or refuses; restoring again mends it; nothing else is left."""
    before, after = {"r1", "r2", "r3"}, ["r1", "r2", "r3"]
    with closing(place.open()) as store:
        store.upsert([Record({Algorithm.MD5: bytes([77]) * 16}, reference="new")], now_ms=NOW)
        place.memory.note(store)
    kept = place.folder / "kept"
    kept.mkdir()
    for name in ("records.db", "state.db"):
        shutil.copy(place.folder / name, kept / name)
    outcomes: set[object] = set()
    for step in range(200):
        for path in place.folder.glob("*records.db*"):
            path.unlink()
        for name in ("records.db", "state.db"):
            shutil.copy(kept / name, place.folder / name)
        if not killed_at(place, step):
            break
        assert place.path.exists()
        try:
            found = set(place.live())
        except StoreError:
            outcomes.add("refused")
        else:
            assert found in (before, before | {"new"})
            outcomes.add("new" in found)
        assert place.restore() == 2
        assert place.live() == after
        assert {path.name for path in place.folder.glob("*records.db*")} <= {"records.db", "records.db.before-restore"} | {
            f"records.db{end}" for end in ("-wal", "-shm")
        }
    else:
        pytest.fail("it never ended")
    assert step > 20
    assert {True, False} <= outcomes
