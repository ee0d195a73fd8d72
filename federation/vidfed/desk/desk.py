"""One run of the desk: for whom, and what it has at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vidfed.casework.cards import DUTY_ROLE
from vidfed.casework.client import CaseworkClient
from vidfed.desk.shell.preferences import Preferences
from vidfed.desk.shell.sessions import Sessions
from vidfed.desk.shell.uploads import Uploads
from vidfed.desk.work.asking import Draft, Lookups
from vidfed.desk.work.whole_cases import WholeCases
from vidfed.federation.client.client import FederationClient
from vidfed.federation.client.standing import StandingClient
from vidfed.security.identity.officers import OFFICER_ROLE

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.member.kit import Kit


class Room(NamedTuple):
    """A room: by what templates know it, where it is, and its title in English."""

    key: str
    path: str
    title: str


EXERCISES = Room("exercises", "/exercises", "Exercises")
FOLDER = "desk"
"""In the kit's folder: preferences, whole cases, and for moments dropped files."""
PRIVATE = 0o700
"""Mode of its folders."""


class Desk:
    """One run, for one kit."""

    def __init__(self, kit: Kit, *, practice: bool = False) -> None:
        """Begin.

        Args:
            kit: the person's.
            practice: show exercises.

        Raises:
            SecurityError: the kit cannot be used.
        """
        self.kit = kit
        self.practice = practice
        self.sessions = Sessions()
        self.folder: Path = kit.folder / FOLDER
        self.folder.mkdir(mode=PRIVATE, exist_ok=True)
        self.preferences = Preferences.load(self.folder)
        self.uploads = Uploads(self.folder / "dropped")
        self.draft = Draft()
        self.lookups = Lookups()
        self.whole_cases = WholeCases(self.folder / "whole-cases", kit)
        self._client: FederationClient | None = None
        self._casework: CaseworkClient | None = None
        self._standing: StandingClient | None = None

    @property
    def who(self) -> str:
        """For whom it is."""
        return f"{self.kit.pseudonym} · {self.kit.member}"

    @property
    def rooms(self) -> list[Room]:
        """The rooms that are open, in their order."""
        rooms = [
            Room("ask", "/", "Ask"),
            Room("whole-cases", "/whole-cases", "Whole cases"),
            Room("inbox", "/inbox", "Inbox"),
            Room("cases", "/cases", "Cases"),
            Room("watched", "/watched", "Watched"),
        ]
        if {OFFICER_ROLE, DUTY_ROLE} & set(self.kit.holder.roles):
            rooms.append(Room("requests", "/requests", "Requests"))
        if self.practice:
            rooms.append(EXERCISES)
        return rooms

    @property
    def path(self) -> str:
        """Below which all pages are."""
        return self.sessions.path

    @property
    def client(self) -> FederationClient:
        """Asks for this person. To be used on the desk's event loop only.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
        """
        if self._client is None:
            self._client = FederationClient(self.kit)
        return self._client

    @property
    def standing(self) -> StandingClient:
        """This person's standing lookups. To be used on the desk's event loop only.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
        """
        if self._standing is None:
            self._standing = StandingClient(self.kit)
        return self._standing

    async def casework(self) -> CaseworkClient:
        """Return this person's conversations. To be used on the desk's event loop only.

        Raises:
            SecurityError, CaseworkError: the kit cannot be used, or the gateway cannot be reached.
        """
        if self._casework is None:
            made = CaseworkClient(self.kit)
            try:
                await made.__aenter__()
            except BaseException:
                await made.__aexit__()
                raise
            self._casework = made
        return self._casework

    async def close(self) -> None:
        """Give up what is under way and leave nothing behind."""
        await self.lookups.close()
        await self.whole_cases.close()
        self.uploads.close()
        if self._client is not None:
            await self._client.__aexit__()
        if self._standing is not None:
            await self._standing.__aexit__()
        if self._casework is not None:
            await self._casework.__aexit__()
