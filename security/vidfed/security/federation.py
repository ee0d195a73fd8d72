"""The administrator's folder of a federation: its key, its anchor, its signed directory.

One key so far; the file `federation.key` is the whole of the federation's trust, so it belongs on a machine that is not online.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from vidfed.security.clock import DAY_MS, Clock, system_clock
from vidfed.security.directory import Anchor, Directory, SignedDirectoryFile, read_member_request
from vidfed.security.documents import FEDERATION_ID, check_id
from vidfed.security.envelope import Envelope
from vidfed.security.errors import DirectoryError, EnvelopeError
from vidfed.security.files import write_whole
from vidfed.security.keys import SigningKey

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.directory import Member

DIRECTORY_LIFE_DAYS = 90


class FederationFolder:
    """An existing federation's folder."""

    def __init__(self, folder: Path, *, clock: Clock = system_clock) -> None:
        """Open `folder`.

        Raises:
            DirectoryError: it holds no federation.
        """
        self.anchor_path = folder / "anchor.json"
        self.directory_path = folder / "directory.json"
        self._key_path = folder / "federation.key"
        self._clock = clock
        self.anchor = Anchor.load(self.anchor_path)

    @classmethod
    def create(cls, folder: Path, federation: str, *, clock: Clock = system_clock) -> FederationFolder:
        """Make a federation with a new key and no members.

        Raises:
            DirectoryError: the folder is in use, or the id is malformed.
        """
        check_id(federation, FEDERATION_ID, DirectoryError, "federation id")
        if folder.exists() and any(folder.iterdir()):
            raise DirectoryError(f"{folder}: exists and is not empty; a federation's key is never overwritten")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = SigningKey.generate()
        key.save(folder / "federation.key")
        Anchor(federation, key.public).save(folder / "anchor.json")
        created = cls(folder, clock=clock)
        created._publish(Directory(federation, 0, 0, 0, MappingProxyType({})), key)
        return created

    def directory(self) -> Directory:
        """Return the directory as last signed, expired or not.

        Raises:
            DirectoryError: missing or damaged.
        """
        try:
            return Directory.from_envelope(Envelope.from_json(self.directory_path.read_bytes()), self.anchor)
        except (OSError, EnvelopeError) as error:
            raise DirectoryError(f"{self.directory_path}: {error}") from None

    def read_request(self, path: Path) -> Member:
        """Read a unit's member.json and check that it holds the keys it names.

        Raises:
            DirectoryError: it is not such a file.
        """
        try:
            return read_member_request(Envelope.from_json(path.read_bytes()))
        except (OSError, EnvelopeError) as error:
            raise DirectoryError(f"{path}: {error}") from None

    def add(self, member: Member) -> Directory:
        """Add a member, or replace its entry, and sign the next version."""
        directory = self.directory()
        return self._publish(replace(directory, members=MappingProxyType({**directory.members, member.id: member})))

    def remove(self, member_id: str) -> Directory:
        """Remove a member and sign the next version.

        Raises:
            UnknownMemberError: it is not listed.
        """
        directory = self.directory()
        directory.member(member_id)
        rest = {name: member for name, member in directory.members.items() if name != member_id}
        return self._publish(replace(directory, members=MappingProxyType(rest)))

    def renew(self) -> Directory:
        """Sign the same members again with a new expiry."""
        return self._publish(self.directory())

    def _publish(self, directory: Directory, key: SigningKey | None = None) -> Directory:
        now_ms = self._clock()
        signed = replace(directory, version=directory.version + 1, issued_ms=now_ms, expires_ms=now_ms + DIRECTORY_LIFE_DAYS * DAY_MS)
        write_whole(self.directory_path, signed.to_envelope(key or SigningKey.load(self._key_path)).to_json())
        return SignedDirectoryFile(self.directory_path, self.anchor, clock=self._clock).current()
