"""Joining a federation: from a folder with a request in it to a node that the others know, with one address and one telephone call."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.rpc.trust import PeerMirrors, submit_entry
from vidfed.security.audit import Event, Operation
from vidfed.security.errors import DirectoryError, HomeError
from vidfed.security.member.audit_log import logged
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.entry import Entry
from vidfed.wire.capabilities import SPOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vidfed.security.member.home import MemberHome

LOOK_EVERY_S = 15.0
"""How often it is asked whether the administrators have signed. They must meet, so it may be days."""


@dataclass(frozen=True, slots=True)
class Checklist:
    """What is read aloud on the telephone, by whom, and compared with what.

    Attributes:
        request: words of this member's request, which its operator reads to the administrators.
        anchor: words of the anchor, which the administrators have read to the operator.
    """

    member: str
    request: str
    anchor: str

    def lines(self) -> Iterator[str]:
        """Yield it as it is printed."""
        yield "On the telephone, with a number you did not get by the same way as the files:"
        yield f"  [ ] THEY read to you  the words of the anchor      {self.anchor}   (they: vidfed trust show)"
        yield f"  [ ] YOU read to them  the words of your request    {self.request}   (they: when they propose and sign)"
        yield "  The words of a draft and of an administrator's key are the administrators' own: nobody reads them to you."


def check_anchor(home: MemberHome, words: str) -> None:
    """Compare the anchor with the words that the administrators read to the operator.

    Raises:
        HomeError: they are others; nothing was changed.
    """
    anchor = Anchor.load(home.anchor_path)
    if words.strip().lower() != anchor.words:
        raise HomeError(
            f"{home.anchor_path}: its words are {anchor.words}, not those read to you: it is of another federation, or was altered on its "
            "way. Ask the administrators for it anew; nothing was sent"
        )


def checklist(home: MemberHome) -> Checklist:
    """Return what is compared by telephone."""
    return Checklist(home.member, Entry.load(home.entry_path).words, Anchor.load(home.anchor_path).words)


def request(home: MemberHome, carry: Path | None) -> Path:
    """Make the request anew where the one there is no longer of use, and lay it where it is carried from; return where it is.

    Raises:
        HomeError: it cannot be made.
        AuditError: it cannot be logged; nothing was changed.
    """
    entry = Entry.load(home.entry_path)
    if entry.member.speaks != SPOKEN:
        with logged(home, Operation.ALTERATION, Event.ENTRY_CHANGED, what="renewed") as done:
            done["version"] = OwnEntry(home).renew(speaks=SPOKEN).version
    if carry is None:
        return home.entry_path
    target = carry / f"{home.member}.json" if carry.is_dir() else carry
    target.write_bytes(home.entry_path.read_bytes())
    return target


class Join:
    """One operator's waiting for the administrators, at one address. Everything can be broken off and begun again."""

    def __init__(self, home: MemberHome, address: str) -> None:
        self._home = home
        self._address = address
        self._peers = PeerMirrors(home.member, home.node_tls, home.federation, (address, *home.ask))
        self._source = home.directory_source(ask=self._peers)

    def close(self) -> None:
        """End the connections."""
        self._peers.close()

    def look(self) -> str:
        """Ask once; return how this member stands, `quarantine` or `member`, or nothing if it is not in the directory yet.

        A member's node talks to members alone: to one that is not listed yet it does not even answer.

        Raises:
            DirectoryError: the directory lists this member with another entry key: somebody else's request was signed.
        """
        with contextlib.suppress(DirectoryError):
            self._source.current()
        self._source.refresh()
        try:
            directory = self._source.current()
        except DirectoryError:
            return ""
        known = directory.members.get(self._home.member)
        if known is None:
            return ""
        own = Entry.load(self._home.entry_path)
        if known.entry_key != own.key:
            raise DirectoryError(
                f"the directory lists {self._home.member} with another entry key than yours: a request that is not yours was signed. "
                "Call the administrators now; do not start the node"
            )
        return "quarantine" if known.quarantined else "member"

    def submit(self) -> str:
        """Hand the own entry in if it says something else than what is published; return what was done about it, nothing if nothing.

        Raises:
            DirectoryError: the node that publishes refuses it.
        """
        directory = self._source.current()
        own = Entry.load(self._home.entry_path)
        if own.member.to_fields() == directory.member(self._home.member).to_fields():
            return ""
        if directory.publisher not in directory.members:
            return f"Your entry has changed since it was signed: hand {self._home.entry_path} to whoever has the online key."
        submit_entry(own.to_json(), self._home.node_tls(), directory, directory.member(directory.publisher))
        return f"Your entry has changed since it was signed: handed in, and published by the node of {directory.publisher}."

    def wait(self, pause: Callable[[float], object], waiting: Callable[[], object]) -> str:
        """Look until this member is listed; return how it stands. `waiting` is called before each pause."""
        while not (standing := self.look()):
            waiting()
            pause(LOOK_EVERY_S)
        return standing
