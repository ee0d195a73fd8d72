"""Who keeps the directory confirmed, where several may: one writes at a time, by a lease; another goes on when it is over.

The lease is the timestamp itself: whoever's online key signed it writes alone for LEASE after that. A publisher that was away, or comes out
of a backup, first asks what is newest: so it never goes on from something old, and what it writes others take. Versions of two publishers
are never the same, whatever happens; see `metadata_rules.next_version`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vidfed.security.clock import Clock, as_text, system_clock
from vidfed.security.errors import DirectoryError
from vidfed.security.trust.metadata_rules import LEASE, LEASE_MARGIN, RENEW_AFTER, holder_of, tuf_key
from vidfed.security.trust.reader import claimed_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vidfed.security.trust.federation import FederationFolder
    from vidfed.security.trust.mirrors import Mirror

_log = logging.getLogger(__name__)


class Publisher:
    """One publisher at work on its folder."""

    def __init__(
        self,
        folder: FederationFolder,
        follow: Sequence[Mirror] = (),
        *,
        ask: Callable[[], bool] | None = None,
        clock: Clock = system_clock,
    ) -> None:
        """Begin to keep `folder` confirmed.

        Args:
            folder: this publisher's own.
            follow: where what others have published can be seen.
            ask: brings `follow` up to date and tells whether anybody answered; by default, whether one of `follow` can be read.
            clock: the time.
        """
        self.folder = folder
        self._follow = tuple(follow)
        self._ask = ask or self._readable
        self._clock = clock
        self._asked = False
        self._said = ""

    def look(self) -> bool:
        """Take over what others have published, then confirm it if it is this publisher's to do; tell whether it was.

        Raises:
            DirectoryError: nothing is published and nothing can be followed, or what is here cannot be confirmed.
            KeyFileError: there is no online key.
        """
        self._adopt()
        if self.folder.repository.root() is None:  # a stand-by that has seen nothing yet
            self._ask()
            self._adopt()
        keys = self.folder.publishers()
        own = tuf_key(self.folder.online_signer(self.folder.root()).public).keyid
        if own not in keys:
            self._say("this online key is not in the root: the administrators sign it with vidfed trust propose publisher")
            return False
        heard = True
        if len(keys) > 1 and (not self._asked or self._is_due(own)):
            heard = self._ask()
            self._adopt()
            self._asked = self._asked or heard
        if not self._is_due(own):
            return False
        if len(keys) > 1 and not heard:
            self._say("nobody can be asked what is newest: nothing is confirmed from here, for another publisher may have taken over")
            return False
        holder = self.folder.repository.publisher()
        if not self.folder.renew_timestamp(seen=True):
            return False
        if holder is not None and holder.keyid != own:
            _log.warning("ALARM: took over from %s, which has confirmed nothing for %s", holder_of(holder), LEASE)
        self._said = ""
        return True

    def _is_due(self, own: str) -> bool:
        holder, age_ms = self.folder.repository.publisher(), self._clock() - self.folder.repository.issued_ms()
        if holder is None or holder.keyid == own:
            return age_ms >= RENEW_AFTER.total_seconds() * 1000
        if age_ms < (LEASE + LEASE_MARGIN).total_seconds() * 1000:
            ends_ms = self.folder.repository.issued_ms() + int(LEASE.total_seconds() * 1000)
            self._say(f"{holder_of(holder)} publishes; this publisher stands by", f"until {as_text(ends_ms)}")
            return False
        return True

    def _adopt(self) -> None:
        for mirror in self._follow:
            try:
                if self.folder.repository.adopt(mirror, self.folder.anchor, self._clock()):
                    _log.info("took what is published at %s", mirror.name)
            except (DirectoryError, OSError) as error:
                self._say(f"what {mirror.name} has is not taken: {error}")

    def _readable(self) -> bool:
        found = 0
        for mirror in self._follow:
            try:
                found += claimed_version(mirror) > 0
            except OSError as error:
                _log.warning("%s: %s", mirror.name, error.strerror or error)
        return found > 0

    def _say(self, what: str, more: str = "") -> None:
        """Log a state once, not at each look."""
        if what != self._said:
            self._said = what
            _log.warning("%s", f"{what} {more}".rstrip())
