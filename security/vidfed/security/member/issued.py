"""What a member has handed out to its people: credentials, by serial, and invitations that wait to be used.

state/investigators.json   every credential issued, and which was renewed by which
state/invitations.json     invitations, with a key that proves the one-time secret but is not it

No private key of a person is in either, nor anywhere else in the member's folder.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from vidfed.security.errors import DirectoryError, HomeError
from vidfed.security.files import read_private, write_private
from vidfed.security.lockfile import locked
from vidfed.security.trust.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.security.member.home import MemberHome

_Line = TypeVar("_Line")


@dataclass(frozen=True, slots=True)
class Issued:
    """One credential.

    Attributes:
        serial: 32 hex digits.
        pseudonym: whose.
        not_after_ms: until when, in ms since the epoch.
        roles: what the person is.
        key: the person's public signing key.
        renews: the serial it followed; empty for a first one.
        request: SHA-256 of the request that asked for it, hex.
        made_ms: when the person made that request.
    """

    serial: str
    pseudonym: str
    not_after_ms: int
    roles: tuple[str, ...] = ()
    key: str = ""
    renews: str = ""
    request: str = ""
    made_ms: int = 0


@dataclass(frozen=True, slots=True)
class Invited:
    """One invitation.

    Attributes:
        id: 32 hex digits.
        pseudonym, roles: what it grants.
        proof_key: hex; SHA-256 of the one-time secret.
        expires_ms: until when it can be used.
        used: SHA-256 of the request that used it, hex; empty if none has.
        used_ms: when.
    """

    id: str
    pseudonym: str
    roles: tuple[str, ...]
    proof_key: str
    expires_ms: int
    used: str = ""
    used_ms: int = 0


def issued_kits(home: MemberHome) -> list[Issued]:
    """Return the credentials this member has issued, oldest first.

    Raises:
        HomeError: the list is damaged.
    """
    return _listed(Issued, _issued_path(home))


def invitations(home: MemberHome) -> list[Invited]:
    """Return the invitations this member has made, oldest first.

    Raises:
        HomeError: the list is damaged.
    """
    return _listed(Invited, _invited_path(home))


def write_issued(home: MemberHome, kits: list[Issued]) -> None:
    """Write the list of credentials. The caller holds `changing`."""
    write_private(_issued_path(home), json.dumps([asdict(kit) for kit in kits], indent=1).encode() + b"\n")


def write_invitations(home: MemberHome, invited: list[Invited]) -> None:
    """Write the list of invitations. The caller holds `changing`."""
    write_private(_invited_path(home), json.dumps([asdict(one) for one in invited], indent=1).encode() + b"\n")


@contextlib.contextmanager
def changing(home: MemberHome) -> Iterator[None]:
    """Keep other processes from changing the lists while the block runs."""
    with locked(home.state_file("investigators.lock")):
        yield


def descendants(kits: list[Issued], serial: str) -> list[str]:
    """Return a serial and all that renewed it: whoever could renew a lost kit has those too."""
    found = [serial]
    for kit in kits:  # oldest first, so that what renews comes after what it renews
        if kit.renews and kit.renews in found:
            found.append(kit.serial)
    return found


class Standing:
    """What a gateway must know of serials at each call: which are revoked, and whose lookups a renewed kit may fetch.

    Files that have changed are read again.
    """

    def __init__(self, home: MemberHome) -> None:
        self._home = home
        self._revoked: tuple[object, frozenset[str]] = ((), frozenset())
        self._roots: tuple[object, dict[str, str]] = ((), {})

    def revoked(self) -> frozenset[str]:
        """Return the serials that this member has revoked, published or not.

        Raises:
            DirectoryError: the member's own entry cannot be read; better nobody than somebody revoked.
        """
        stamp = _stamp(self._home.entry_path)
        if stamp != self._revoked[0] or not stamp:
            if not stamp:
                raise DirectoryError(f"{self._home.entry_path}: missing; whom this member has revoked stands in it")
            self._revoked = (stamp, frozenset(Entry.load(self._home.entry_path).revoked))
        return self._revoked[1]

    def owner(self, serial: str) -> str:
        """Return the first serial of those that renewed one another up to this one: what is kept for a person belongs to it."""
        path = _issued_path(self._home)
        stamp = _stamp(path)
        if stamp != self._roots[0]:
            roots: dict[str, str] = {}
            for kit in issued_kits(self._home):
                roots[kit.serial] = roots.get(kit.renews, kit.renews) or kit.serial
            self._roots = (stamp, roots)
        return self._roots[1].get(serial, serial)


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ino, status.st_size


def _listed(kind: type[_Line], path: Path) -> list[_Line]:
    if not path.exists():
        return []
    try:
        return [kind(**{**entry, "roles": tuple(entry["roles"])}) for entry in json.loads(read_private(path))]
    except (ValueError, TypeError, KeyError):
        raise HomeError(f"{path}: damaged") from None


def _issued_path(home: MemberHome) -> Path:
    return home.state_file("investigators.json")


def _invited_path(home: MemberHome) -> Path:
    return home.state_file("invitations.json")
