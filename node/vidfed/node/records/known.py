"""Which record store a node has, and what was taken out of it: kept beside the store, so that no other one passes for it.

A volume that is not mounted, a copy put in the store's place, an empty database under the old URL: each would be searched, and "no match"
signed about records that are elsewhere. So what the store's history was is remembered in the state folder, every store is compared with it
when it is opened, and only `vidfed node init`, `restore` and `adopt-store` decide that a node has another one.

Beside it stands the register of what was erased and retracted. A backup is older than the store; what was taken out since must not come
back with it, and the audit log that would say so is pruned after its time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from vidfed.node.config import store_location
from vidfed.node.errors import StoreError
from vidfed.node.records.store import History, RecordStore, Removal
from vidfed.security.sqlite import connect, connect_read_only, transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from vidfed.security.member.home import MemberHome

STORE_MEMORY_FILE = "store.db"
"""Its name in the folder `state`."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS histories (version INTEGER NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (version, mark)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removals (
    reference TEXT PRIMARY KEY, retracted_ms INTEGER, retraction_reason TEXT NOT NULL, erased_ms INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withheld (reason TEXT NOT NULL);
"""
_CURE = (
    "put the right one back (mount its volume), or a backup (vidfed node restore); "
    "if it is meant to be another one: vidfed node adopt-store"
)


class StoreMemory:
    """What a member's state folder remembers of its record store. Opens its file for each step, and writes only what is new."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether anything is remembered."""
        return self.path.exists()

    def check(self, store: RecordStore) -> None:
        """Return if this is the store that the node has.

        Raises:
            StoreError: it is another one, an older copy of it, or nothing is remembered; the message says what to do.
        """
        if withheld := self._withheld():
            raise StoreError(
                f"{store.database.name}: withheld: {withheld}. Nothing is answered. Put it back again with the register "
                "(vidfed node restore --register), or erase and retract it anew by hand, then: vidfed node adopt-store --reason"
            )
        known = self.histories()
        if not any(store.mark(history.version) == history.mark for history in known):
            most = max(known, default=History(0, ""))
            raise StoreError(
                f"{store.database.name}: not the record store that this node had, which was at change {most.version}, "
                f"or an older copy of it; nothing is answered: {_CURE}"
            )

    def histories(self) -> list[History]:
        """Return the histories of which the store must have one: its own; while one is restored, the restored one's too.

        Raises:
            StoreError: nothing is remembered, or it cannot be read.
        """
        return [History(*row) for row in self._rows("SELECT version, mark FROM histories")]

    def removals(self) -> list[Removal]:
        """Return all that was erased or retracted and not reinstated.

        Raises:
            StoreError: as `histories`.
        """
        return [Removal(*row) for row in self._rows("SELECT reference, retracted_ms, retraction_reason, erased_ms FROM removals")]

    def note(self, store: RecordStore) -> None:
        """Remember how far the store has come and what was taken out of it since. It has been checked.

        Raises:
            StoreError: the store cannot be read, or the memory not written.
        """
        known = self.histories()
        now = store.history()
        if known == [now]:
            return
        since = min(history.version for history in known)
        retracted = [removal.reference for removal in self.removals() if removal.erased_ms is None]
        removed = store.removed_after(since)
        self._write([now], removed, store.live_among(retracted))

    def adopt(self, store: RecordStore) -> None:
        """Take this store as the node's from now on, whatever it had before. The register stays.

        Raises:
            StoreError: as `note`.
        """
        self._write([store.history()], store.removed_after(0), (), withheld="")

    def expect(self, store: RecordStore) -> None:
        """Accept this store too, which is about to take the place of the present one.

        Raises:
            StoreError: as `note`.
        """
        self._write([*self.histories(), store.history()], (), ())

    def withhold(self, reason: str) -> None:
        """Answer nothing from the store, though it is the node's own, until it is adopted.

        Raises:
            StoreError: as `note`.
        """
        self._write(self.histories(), (), (), withheld=reason)

    def _withheld(self) -> str:
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'withheld'"):
            return ""
        return next((str(reason) for (reason,) in self._rows("SELECT reason FROM withheld")), "")

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            raise StoreError(f"{self.path}: missing: which record store this node had, and what was erased from it, is not known; {_CURE}")
        try:
            with contextlib.closing(connect_read_only(self.path)) as database:
                return database.execute(query).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}; restore the folder `state` from its backup") from None

    def _write(
        self, histories: Sequence[History], removed: Iterable[Removal], reinstated: Sequence[str], *, withheld: str | None = None
    ) -> None:
        try:
            with contextlib.closing(connect(self.path, {"synchronous": "FULL"})) as database:
                database.executescript(_SCHEMA)
                with transaction(database):
                    database.execute("DELETE FROM histories")
                    if withheld is not None:
                        database.execute("DELETE FROM withheld")
                    if withheld:
                        database.execute("INSERT INTO withheld VALUES (?)", (withheld,))
                    database.executemany("INSERT OR IGNORE INTO histories VALUES (?, ?)", histories)
                    database.executemany("DELETE FROM removals WHERE reference = ? AND erased_ms IS NULL", ((each,) for each in reinstated))
                    database.executemany(
                        "INSERT INTO removals VALUES (?, ?, ?, ?) ON CONFLICT (reference) DO UPDATE SET "
                        "retracted_ms = excluded.retracted_ms, retraction_reason = excluded.retraction_reason, "
                        "erased_ms = coalesce(removals.erased_ms, excluded.erased_ms)",
                        removed,
                    )
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path}: {error}") from None


def store_memory(home: MemberHome) -> StoreMemory:
    """Return what this member remembers of its store."""
    return StoreMemory(home.state_file(STORE_MEMORY_FILE))


def make_store(home: MemberHome) -> None:
    """Make a member's record store, empty, and remember it. Only where there is none yet: `vidfed node init`.

    Raises:
        StoreError: it cannot be made.
    """
    with contextlib.closing(RecordStore(store_location(home))) as store:
        store_memory(home).adopt(store)


@contextlib.contextmanager
def open_store(home: MemberHome, *, reads_only: bool = False) -> Iterator[RecordStore]:
    """Give a member's record store, and remember in the end what was done to it.

    Args:
        home: the member's folder.
        reads_only: nothing is done to it, and nothing remembered: that works on a full disk too.

    Raises:
        StoreError: there is none, it is not the one that this member had, or it cannot be opened.
    """
    memory = store_memory(home)
    with contextlib.closing(RecordStore(store_location(home), make=False)) as store:
        memory.check(store)
        try:
            yield store
        finally:
            if not reads_only:
                memory.note(store)
