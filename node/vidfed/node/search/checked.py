"""A store that is checked before it is believed, at start and ever again, by the process that keeps its indexes, for all processes.

What the check found stands in a file beside the indexes: every search looks for it first.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from vidfed.node.errors import IndexBehindError, IndexBrokenError, StoreError
from vidfed.node.records.soundness import check_soundness
from vidfed.security.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.node.records.store import RecordStore

AGAIN_S = 6 * 3600.0
"""How long after a check the next one begins."""
AT_ONCE_RECORDS = 100_000
"""Up to so many records the first check is made before anything else: it takes about a second."""
_FILE = "unsound"
_BEING_CHECKED = "being checked"
_log = logging.getLogger(__name__)


class CheckedStore:
    """Whether a store was found whole. Safe from several threads."""

    def __init__(self, store: RecordStore, folder: Path) -> None:
        """Begin with what the last check left; nothing is checked before `start`."""
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
        """Check it now, and say for all processes what was found."""
        try:
            check_soundness(self._store.database)
        except StoreError as error:
            _log.error("ALARM: %s", error)
            self._say(str(error))
        else:
            self._said = ""
            self._path.unlink(missing_ok=True)

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
        waited = _BEING_CHECKED in {self._said, self._path.read_text(encoding="utf-8") if self._path.exists() else ""}
        while waited or not self._stop.wait(AGAIN_S):
            waited = False
            self.check()
