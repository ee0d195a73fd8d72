"""The trust directory as a running program holds it.

- Asked for every call, `current` answers from memory; it looks, at the cost of a `stat`, if a folder it follows has changed.
- What was last complete and verified is kept on disk (`held`). When nobody can be asked, or what they have does not hold, it is used on,
  until its timestamp expires; then `current` fails, and says since when and why.
- Several processes of one member share the folder: one refreshes, under a lock, the others see it.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from vidfed.cli.system import lock_file
from vidfed.security.clock import MINUTE_MS, SECOND_MS, Clock, as_text, system_clock
from vidfed.security.errors import DirectoryError, DirectoryExpiredError
from vidfed.security.trust.mirrors import FolderMirror
from vidfed.security.trust.officers import SeenOfficers
from vidfed.security.trust.reader import claimed_issue_ms, claimed_version, keep_files, read_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vidfed.security.identity.directory import Directory
    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.mirrors import Mirror
    from vidfed.security.trust.reader import Reading

REFRESH_S = 300.0  # how often others are asked; far below the timestamp's life, so that one night without network does no harm
UNKNOWN_PAUSE_MS = 10 * SECOND_MS  # between two refreshes that strangers can cause
CLOCK_TOLERANCE_MS = MINUTE_MS
_log = logging.getLogger(__name__)


class TufDirectory:
    """A `DirectorySource` on TUF metadata. Safe from several threads and processes."""

    def __init__(
        self,
        folder: Path,
        anchor: Anchor,
        follow: Sequence[Mirror] = (),
        *,
        ask: Callable[[Directory | None], Iterable[Mirror]] = lambda _known: (),
        clock: Clock = system_clock,
    ) -> None:
        """Open or make the state in `folder`.

        Args:
            folder: of this source alone: what was verified, and the complete set it serves to others.
            anchor: where trust starts.
            follow: mirrors with a stamp, looked at before every use: folders.
            ask: gives the mirrors that are asked by `refresh`, from the directory last known, expired or not: other members' nodes.
            clock: the time.
        """
        self.anchor = anchor
        self.held = FolderMirror(folder / "held")
        self._folder = folder
        self._follow = tuple(follow)
        self._ask = ask
        self._clock = clock
        self._turn = threading.Lock()
        self._asking = threading.Lock()
        self._background: threading.Thread | None = None
        self._known: Directory | None = None
        self._stamps: tuple[object, ...] | None = None
        self._problem = ""
        self._refreshed_ms = 0
        self._heard = False
        self._seen = SeenOfficers(folder / "officers.json")

    def current(self) -> Directory:
        """Return the newest directory known; see `DirectorySource.current`."""
        if self._stamps != self._stamps_now() and self._turn.acquire(blocking=self._known is None):
            try:
                self._look()
            finally:
                self._turn.release()
        known = self._known
        if known is None:
            raise DirectoryError(f"no trust directory yet: {self._problem or 'it comes from the administrators, or from other members'}")
        now_ms = self._clock()
        if now_ms >= known.expires_ms:
            because = f" ({self._problem})" if self._problem else ""
            raise DirectoryExpiredError(
                f"trust directory version {known.version} could not be confirmed since {as_text(known.issued_ms)} and expired at "
                f"{as_text(known.expires_ms)}{because}"
            )
        if now_ms < known.issued_ms - CLOCK_TOLERANCE_MS:
            raise DirectoryError(
                f"the clock says {as_text(now_ms)}, but the trust directory was issued at {as_text(known.issued_ms)}: set it"
            )
        return known

    @property
    def last_known(self) -> Directory | None:
        """The directory last verified, expired or not: to find those who have a newer one, never to trust anybody with."""
        return self._known

    def ready(self) -> Directory:
        """Return the newest directory, after asking others if what is held here has expired: for a program that starts.

        Raises:
            DirectoryError: nobody has a usable one.
        """
        try:
            return self.current()
        except DirectoryError:
            self.refresh()
        return self.current()

    def last_known_or_fail(self) -> Directory:
        """Return the directory last verified, expired or not: enough to reach those who may have a newer one.

        Raises:
            DirectoryError: none was ever known here.
        """
        try:
            return self.current()
        except DirectoryError:
            if self._known is None:
                raise
            return self._known

    def files(self) -> dict[str, bytes]:
        """Return the complete set of files that is held, by the names they are published under: for others, who verify it themselves."""
        held = self.held.folder
        with self._locked():
            return {str(path.relative_to(held)): path.read_bytes() for path in held.rglob("*.json")}

    def refresh(self) -> bool:
        """Ask all mirrors for something newer; tell whether there was. What fails is logged and leaves everything as it is."""
        with self._turn:
            self._refreshed_ms = self._clock()
            asked = tuple(self._ask(self._known))
            self._heard = not asked
            return self._look(asked=asked)

    def hear(self) -> bool:
        """Ask all mirrors now; tell whether one of them answered, be it with something newer or not, or whether there is none to ask."""
        with contextlib.suppress(DirectoryError):
            self.current()  # what is held tells whom to ask
        self.refresh()
        return self._heard

    def refresh_for(self, member: str) -> bool:
        """Begin to refresh because of a member or key that is not known here; see `DirectorySource.refresh_for`.

        At most one at a time, in a thread of its own, and UNKNOWN_PAUSE_MS after another: whoever answers calls must not wait for mirrors
        that hang.
        """
        with self._asking:
            if self._background is not None and self._background.is_alive():
                return True
            if 0 <= self._clock() - self._refreshed_ms < UNKNOWN_PAUSE_MS:
                return False
            self._refreshed_ms = self._clock()
            _log.info("%.40r is not known here; asking for a newer trust directory", member)
            self._background = threading.Thread(target=self._refresh_beside, name="trust-unknown", daemon=True)
            self._background.start()
            return True

    def _refresh_beside(self) -> None:
        try:
            self.refresh()
        except Exception:  # noqa: BLE001 - there is nobody above to tell
            _log.exception("defect while refreshing the trust directory")

    @contextlib.contextmanager
    def refreshing(self, every_s: float = REFRESH_S, *, first: Callable[[], object] | None = None) -> Iterator[None]:
        """Refresh in a thread of its own, at once and then every `every_s`, while the block runs; before each, do `first`."""
        ended = threading.Event()

        def run() -> None:
            while True:
                try:
                    if first is not None:
                        first()
                    self.refresh()
                except Exception:  # noqa: BLE001 - the thread must outlive a defect; expiry closes what it failed to renew
                    _log.exception("defect while refreshing the trust directory")
                if ended.wait(every_s):
                    return

        thread = threading.Thread(target=run, name="trust-refresh", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _stamps_now(self) -> tuple[object, ...]:
        return (self.held.stamp(), *(mirror.stamp() for mirror in self._follow))

    def _look(self, asked: Sequence[Mirror] = ()) -> bool:
        """Read what is newest among those followed, those asked, and what is held. The caller holds the lock."""
        stamps = self._stamps_now()
        before = self._known
        problems: list[str] = []
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._locked(wait=bool(asked)))
            except BlockingIOError:  # another process is asking others, and may have to wait for them; what is known here serves meanwhile
                if self._known is None:
                    self._known = self._valid_held()
                if self._known is not None:
                    return False
                stack.enter_context(self._locked())
            held = self._known or self._from_held(problems)  # first: what came along with a kit must not be rolled back either
            found = self._newest(self._follow, asked, held, problems) or self._from_held(problems) or held or self._hint()
        self._stamps = (self.held.stamp(), *stamps[1:])
        if found is not None:
            found = self._seen.judge(found)
            self._known = found
            for member, reason in found.left_out.items():
                _log.warning("%s is left out of the trust directory: its entry %s", member, reason)
        problem = "; ".join(dict.fromkeys(problems))
        if problem and problem != self._problem:
            _log.warning("trust directory: %s", problem)
        self._problem = problem
        return self._known is not None and self._known != before

    @contextlib.contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[None]:
        """Keep other processes of this member out of the folder; where nothing can be written there, nobody changes it either.

        Raises BlockingIOError if one is in it and this is not to wait.
        """
        with contextlib.ExitStack() as stack:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = stack.enter_context((self._folder / "lock").open("wb"))
            except OSError as error:
                _log.debug("%s: %s: read without a lock", self._folder, error)
            else:
                lock_file(lock.fileno(), wait=wait)
            yield

    def _newest(self, followed: Sequence[Mirror], asked: Sequence[Mirror], held: Directory | None, problems: list[str]) -> Directory | None:
        claims = []
        for mirror in (*followed, *asked):
            try:
                claims.append((claimed_version(mirror), mirror))
            except OSError as error:
                problems.append(f"{mirror.name}: {error.strerror or error}")
        if asked:
            self._heard = any(mirror in asked for _, mirror in claims)
        for _, mirror in sorted(claims, key=lambda claim: -claim[0]):
            try:
                reading = self._read(mirror, self._folder / "verified", self._clock())
                if held is not None and reading.directory.version < held.version:
                    raise DirectoryError(f"{mirror.name}: version {reading.directory.version}, but version {held.version} is known here")
            except DirectoryError as error:
                problems.append(str(error))
            else:
                keep_files(self.held.folder, reading.files)
                problems.clear()
                return reading.directory
        return None

    def _from_held(self, problems: list[str]) -> Directory | None:
        """Read what was last complete, unless this process has it already."""
        if not self.held.stamp():
            return None
        try:
            return self._read_held(self._clock()).directory
        except DirectoryError as error:
            problems.append(str(error))
        # Expired, it still tells whom to ask for a newer one; `current` closes by the moment it expired at.
        with contextlib.suppress(DirectoryError, OSError):
            return self._read_held(claimed_issue_ms(self.held)).directory
        return None

    def _valid_held(self) -> Directory | None:
        """Read what was last complete if it still serves: without the lock, for a half-written set does not verify."""
        with contextlib.suppress(DirectoryError, OSError):
            return self._seen.judge(self._read_held(self._clock()).directory)
        return None

    def _hint(self) -> Directory | None:
        """Read a copy that has expired, for a newcomer: `current` refuses it, but the members in it can be asked."""
        for mirror in self._follow:
            with contextlib.suppress(DirectoryError, OSError), tempfile.TemporaryDirectory(dir=self._folder, prefix=".again-") as cache:
                return self._read(mirror, Path(cache), claimed_issue_ms(mirror)).directory
        return None

    def _read_held(self, now_ms: int) -> Reading:
        # A cache of its own: the other may have seen a newer timestamp whose rest was then withheld, and would refuse this one. In memory
        # where there is such a place: what was verified before must be readable when the disk is full.
        memory = Path("/dev/shm")  # noqa: S108 - a folder of mode 0700 in it
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else self._folder, prefix=".again-") as cache:
            return self._read(self.held, Path(cache), now_ms)

    def _read(self, mirror: Mirror, cache: Path, now_ms: int) -> Reading:
        try:
            return read_directory(mirror, cache, self.anchor, now_ms)
        except OSError as error:
            raise DirectoryError(f"{mirror.name}: {error.strerror or error}") from None
