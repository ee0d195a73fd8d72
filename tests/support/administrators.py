"""Three administrators who sign whatever they are asked to: for federations that a test or a simulation makes in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.security.clock import Clock, system_clock
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.federation import FederationFolder
from vidfed.security.trust.metadata_rules import Standing

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.home import MemberHome
    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.draft import Draft

HOLDERS = ("anna", "ben", "cleo")


class Administrators:
    """A new federation below a folder, with the keys of its three administrators at hand; two of them must sign.

    Attributes:
        folder: the administrators' folder; `folder.repository.folder` is what they publish.
        keys: the private halves by name.
    """

    def __init__(self, folder: Path, federation: str, *, clock: Clock = system_clock) -> None:
        self.keys = {name: SigningKey.generate() for name in HOLDERS}
        public = {name: key.public for name, key in self.keys.items()}
        self.folder = FederationFolder.create(folder, federation, public, 2, clock=clock)
        self.sign_and_publish()

    @property
    def anchor(self) -> Anchor:
        """Where the federation's trust starts."""
        return self.folder.anchor

    @property
    def published(self) -> Path:
        """The folder that members follow."""
        return self.folder.repository.folder

    def directory(self) -> Directory:
        """Return what is published, verified as a newcomer would."""
        return self.folder.directory()

    def sign_and_publish(self, _draft: Draft | None = None, by: tuple[str, ...] = HOLDERS[:2]) -> Directory:
        """Sign the draft in the folder with these administrators' keys and publish it."""
        for name in by:
            self.folder.sign(self.keys[name])
        return self.folder.publish()

    def admit(self, *entries: Entry, standing: Standing = Standing.MEMBER) -> Directory:
        """Make members of those who sent these entries, all at once."""
        return self.sign_and_publish(self.folder.propose_members(entries, standing))

    def accept_officers(self, home: MemberHome) -> Directory:
        """Publish a member's own entry and accept those whom it names as officers."""
        self.folder.accept(Entry.load(home.entry_path))
        return self.sign_and_publish(self.folder.propose_officers(home.member))

    def remove(self, member: str) -> Directory:
        """Remove a member."""
        return self.sign_and_publish(self.folder.propose_removal(member))

    def published_files(self) -> dict[str, bytes]:
        """Return what is published, by name."""
        return {str(path.relative_to(self.published)): path.read_bytes() for path in self.published.rglob("*.json")}
