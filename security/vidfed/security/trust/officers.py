"""What a reader remembers of members' lists of officers, so that none can go back to one before, whoever publishes it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from vidfed.security.errors import DirectoryError
from vidfed.security.files import write_whole
from vidfed.security.identity.officers import Officers, check_continues

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.identity.directory import Directory

_log = logging.getLogger(__name__)


class SeenOfficers:
    """The longest list seen of each member. A member whose list leaves something out is itself left out of the directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, Officers] = {}
        self._on_disk: dict[str, Officers] = {}

    def judge(self, directory: Directory) -> Directory:
        """Return the directory without the members whose list does not go on from what was seen of it; the rest is remembered.

        What cannot be written is remembered in memory.
        """
        seen, members, left_out = self._all_seen(), dict(directory.members), dict(directory.left_out)
        after = dict(seen)
        for member in directory.members.values():
            before = seen.get(member.id, Officers())
            try:
                check_continues(before, member.officers)
            except DirectoryError as error:
                del members[member.id]
                left_out[member.id] = str(error)
            else:
                if member.officers.digests:
                    after[member.id] = Officers(rounds=member.officers.rounds, digests=member.officers.digests)
        self._seen = after
        if after != self._on_disk:
            self._write(after)
        if len(members) == len(directory.members):
            return directory
        return replace(directory, members=MappingProxyType(members), left_out=MappingProxyType(left_out))

    def _all_seen(self) -> dict[str, Officers]:
        """Return what this process has seen, and what others of the member have written since."""
        found, self._on_disk = dict(self._seen), {}
        try:
            for member, each in json.loads(self._path.read_bytes()).items():
                read = Officers(rounds=tuple(map(tuple, each["rounds"])), digests=tuple(each["digests"]))
                self._on_disk[str(member)] = read
                if _length(read) > _length(found.get(member, Officers())):
                    found[str(member)] = read
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.warning("%s: cannot be read; going on from what this process has seen: %s", self._path, error)
        return found

    def _write(self, seen: dict[str, Officers]) -> None:
        lines = {member: {"rounds": each.rounds, "digests": each.digests} for member, each in sorted(seen.items()) if each.digests}
        try:
            write_whole(self._path, json.dumps(lines, indent=1).encode())
        except OSError as error:
            _log.debug("%s: %s: remembered in memory only", self._path, error)


def _length(officers: Officers) -> tuple[int, int]:
    return len(officers.rounds), len(officers.digests)
