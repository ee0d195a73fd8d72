"""What a member's entry says without anybody's doing: what this node's program understands, and which officers were enrolled."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from vidfed.rpc.trust import submit_entry
from vidfed.security.audit import AuditEntry, Event, Operation
from vidfed.security.clock import system_clock
from vidfed.security.errors import DirectoryError, SecurityError
from vidfed.security.member.rotation import OwnEntry
from vidfed.wire.capabilities import SPOKEN

if TYPE_CHECKING:
    from vidfed.security.audit import AuditLog
    from vidfed.security.identity.directory import Directory, DirectorySource
    from vidfed.security.member.home import MemberHome
    from vidfed.security.trust.entry import Entry
    from vidfed.security.trust.federation import FederationFolder

_LOOK_S = 60.0  # a file and a value in memory are compared; what was refused for its number an hour ago is taken then
_log = logging.getLogger(__name__)


class Stating:
    """Keeps the entry's `speaks` at what runs, and publishes what was changed in the list of officers.

    It touches an entry only where nothing else waits to be published: what a person has begun (a rotation, a new address, a request that
    the administrators are to sign and whose words were read to them) is theirs to publish.
    """

    def __init__(
        self,
        home: MemberHome,
        source: DirectorySource,
        audit: AuditLog,
        publisher: FederationFolder | None = None,
        speaks: frozenset[str] = SPOKEN,
    ) -> None:
        """Look after the entry of `home`.

        Args:
            home: the member's folder.
            source: what is published.
            audit: where the change is logged.
            publisher: the administrators' folder, if this process publishes.
            speaks: what runs here.
        """
        self._own = OwnEntry(home)
        self._home = home
        self._source = source
        self._audit = audit
        self._publisher = publisher
        self._speaks = speaks
        self._said = ""

    async def run(self) -> None:
        """Look now and then, without an end."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except SecurityError as error:
                self._say(str(error))
            await asyncio.sleep(_LOOK_S)

    def look(self) -> bool:
        """State what runs here, if the entry says something else, and publish it if that can be done from here; tell whether it was.

        Raises:
            SecurityError: the entry cannot be read, signed, logged or published.
        """
        directory = self._source.current()
        if self._home.member not in directory.members:
            return False
        waiting = self._own.unpublished(directory)
        if set(waiting) - {"speaks", "officers"}:
            self._say(f"{self._home.entry_path} waits to be published: {', '.join(waiting)}")
            return False
        entry = self._own.present()
        if entry.member.speaks != self._speaks:
            details: dict[str, int | str] = {"what": "capabilities", "version": entry.version + 1}
            member, now_ms = self._home.member, system_clock()
            self._audit.append(AuditEntry(now_ms, Operation.ALTERATION, Event.ENTRY_CHANGED, member, outcome="BEGUN", details=details))
            entry = self._own.state(self._speaks)
            _log.info("version %d of %s says what this program speaks", entry.version, self._home.entry_path)
        elif not waiting:
            return False
        return self._publish(entry, directory)

    def _publish(self, entry: Entry, directory: Directory) -> bool:
        """Publish here if that is this process's turn, else hand it to the node that published last."""
        refused = "it is not known who publishes: vidfed trust accept, by whoever does"
        if self._publisher is not None:
            try:
                self._publisher.accept(entry)
            except DirectoryError as error:  # another publisher's turn
                refused = str(error)
            else:
                return True
        publisher = directory.members.get(directory.publisher)
        if publisher is not None and publisher.id != self._home.member:
            submit_entry(entry.to_json(), self._home.node_tls(), directory, publisher)
            return True
        self._say(f"{self._home.entry_path} waits to be published: {refused}")
        return False

    def _say(self, what: str) -> None:
        """Log a state once, not at each look."""
        if what != self._said:
            self._said = what
            _log.warning("%s", what)
