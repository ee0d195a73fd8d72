"""Store and indexes that are checked before they are believed, at start and ever again, by the process that keeps them, for all processes.

What the check found stands in files beside the indexes. Every search looks for the one first: a damaged store is not searched until it was
put back. A damaged index is made anew from the store, and not searched meanwhile. The other says when all was last found whole.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vidfed.node.errors import IndexBehindError, IndexBrokenError, StoreError
from vidfed.node.records.soundness import check_soundness
from vidfed.security.clock import as_text, system_clock
from vidfed.security.files import write_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vidfed.node.records.store import RecordStore

AGAIN_S = 6 * 3600.0
"""How long after a check the next one begins."""
AT_ONCE_RECORDS = 100_000
"""Up to so many records the first check is made before anything else: it takes about a second."""
INDEX_BYTES_S = 100e6
"""Bytes of the indexes' files read in a second at most: disk and processor are for queries."""
_NICENESS = 15  # of the checking thread, to Linux
_FILE = "unsound"
_LAST = "checked.json"
_BEING_CHECKED = "being checked"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LastCheck:
    """What is known of the checks of store and indexes. Times in ms since the epoch; 0: never.

    Attributes:
        checked_ms: when all was read last.
        whole_ms: when all was found whole last.
        found: what was damaged the last time that something was.
        found_ms: when that was.
    """

    checked_ms: int = 0
    whole_ms: int = 0
    found: str = ""
    found_ms: int = 0


def last_check(folder: Path) -> LastCheck:
    """Return what the checks have left in the folder of the indexes."""
    try:
        return LastCheck(**json.loads((folder / _LAST).read_bytes()))
    except (OSError, ValueError, TypeError):
        return LastCheck()


def refused_for(folder: Path) -> str:
    """Return why nothing is searched; empty where the store was found whole."""
    try:
        return (folder / _FILE).read_text(encoding="utf-8")
    except OSError:
        return ""


class CheckedStore:
    """Whether a store was found whole. Safe from several threads."""

    def __init__(self, store: RecordStore, folder: Path, check_indexes: Callable[[Callable[[int], None]], str] = lambda _pause: "") -> None:
        """Begin with what the last check left; nothing is checked before `start`.

        Args:
            store: the records.
            folder: of the indexes.
            check_indexes: reads them, calling what it is given after each piece with its bytes, and returns what was damaged.
        """
        self._check_indexes = check_indexes
        self._last = folder / _LAST
        self._store = store
        self._path = folder / _FILE
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""  # where the disk is full

    def require(self) -> None:
        """Return if the store may be believed.

        Raises:
            IndexBehindError: it is being checked for the first time since the node started.
            IndexBrokenError: it is damaged.
        """
        try:
            said = self._said or self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except OSError as error:
            raise IndexBrokenError(f"{self._path}: {error.strerror}") from None
        if said == _BEING_CHECKED:
            raise IndexBehindError("the record store is being checked, which is done before it is believed")
        raise IndexBrokenError(said)

    def start(self) -> None:
        """Check the store, and again and again; a large one in a thread, and nothing is answered until that is done."""
        self._say(_BEING_CHECKED)
        if self._store.state().records <= AT_ONCE_RECORDS:
            self.check()
        self._thread = threading.Thread(target=self._run, name="store-checks", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check all of it now, and say for all processes what was found."""
        try:
            check_soundness(self._store.database)
        except StoreError as error:
            found = str(error)
            self._say(found)
        else:
            self._said = ""
            self._path.unlink(missing_ok=True)
            found = self._check_indexes(lambda size: self._pause(size / INDEX_BYTES_S))
            if self._stop.is_set():
                return
        self._note(found)

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _note(self, found: str) -> None:
        """Write down that everything was looked at, and what was found, if it was anything, with when it had last been whole."""
        before = last_check(self._last.parent)
        now_ms = system_clock()
        if found:
            since = f"; answers since {as_text(before.whole_ms)} may have missed records" if before.whole_ms else ""
            found = f"{found}{since}"
            _log.error("ALARM: %s", found)
            now = LastCheck(now_ms, before.whole_ms, found, now_ms)
        else:
            now = LastCheck(now_ms, now_ms, before.found, before.found_ms)
        try:
            write_private(self._last, json.dumps(asdict(now)).encode())
        except OSError as error:
            _log.error("%s: %s", self._last, error.strerror)

    def close(self) -> None:
        """Stop checking; a check that runs is waited for."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _say(self, text: str) -> None:
        try:
            write_private(self._path, text.encode())
        except OSError as error:
            _log.error("%s: %s", self._path, error.strerror)
            self._said = text

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # to Linux a thread is a process with a priority of its own; a filter may forbid the call
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        waited = _BEING_CHECKED in {self._said, self._path.read_text(encoding="utf-8") if self._path.exists() else ""}
        while waited or not self._stop.wait(AGAIN_S):
            waited = False
            self.check()
