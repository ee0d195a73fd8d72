"""One run of the desk on the server of a national unit: its node's rooms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.desk.desk import EXERCISES, PRIVATE, Room
from vidfed.desk.shell.preferences import Preferences
from vidfed.desk.shell.sessions import Sessions
from vidfed.desk.shell.uploads import Uploads
from vidfed.desk.work.importing import DeskImport

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.member.home import MemberHome


class UnitDesk:
    """One run, for one member's folder."""

    def __init__(self, home: MemberHome, *, practice: bool = False) -> None:
        """Begin.

        Args:
            home: the member's folder.
            practice: show exercises.
        """
        self.home = home
        self.practice = practice
        self.sessions = Sessions()
        self.folder: Path = home.state_file("desk")
        self.folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self.preferences = Preferences.load(self.folder)
        self.uploads = Uploads(self.folder / "dropped")
        self.importing = DeskImport(home)

    @property
    def who(self) -> str:
        """For whom it is."""
        return f"{self.home.identity.name} · {self.home.member}"

    @property
    def rooms(self) -> list[Room]:
        """The rooms that are open, in their order."""
        return [
            Room("node", "/", "Node"),
            Room("records", "/records", "Records"),
            Room("import", "/import", "Import"),
            Room("policy", "/policy", "Policy"),
            Room("kits", "/kits", "Kits"),
            Room("news", "/news", "News"),
            Room("audit", "/audit", "Audit"),
            *([EXERCISES] if self.practice else []),
        ]

    @property
    def path(self) -> str:
        """Below which all pages are."""
        return self.sessions.path

    async def close(self) -> None:
        """Let an import come to its end, and leave nothing behind."""
        await self.importing.wait()
        self.uploads.close()
