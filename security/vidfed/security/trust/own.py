"""A member's own entry, changed by the member alone: renewed, its keys rotated, its investigators' credentials revoked.

Each change is a new version of `member.json`, signed with the entry key; it takes effect when it is published (`vidfed trust accept` by
whoever has the online key, or `vidfed node submit`). A key is rotated in two steps: `begin` lists the new one beside the old, and once
everybody has seen that, `finish` goes over to the new one. The overlap is the timestamp's life, after which nobody uses an older directory.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from vidfed.security.clock import Clock, as_text, system_clock
from vidfed.security.directory import member_request
from vidfed.security.errors import HomeError
from vidfed.security.files import write_private, write_whole
from vidfed.security.keys import SigningKey
from vidfed.security.tls import LEAF_LIFE, TlsIdentity, leaf_expires_ms, make_ca, make_node_leaf
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.form import TIMESTAMP_LIFE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.security.directory import Member
    from vidfed.security.home import MemberHome

_log = logging.getLogger(__name__)
OVERLAP_MS = int(TIMESTAMP_LIFE.total_seconds() * 1000)


class OwnEntry:
    """The entry of one member's folder."""

    def __init__(self, home: MemberHome, *, clock: Clock = system_clock) -> None:
        self._home = home
        self._clock = clock
        self._next_signing = home.folder / "keys/signing-next.key"
        self._next_ca = home.folder / "keys/ca-next.key"

    def present(self) -> Entry:
        """Return the newest version.

        Raises:
            DirectoryError: it is missing or damaged.
        """
        return Entry.load(self._home.entry_path)

    def renew(self, *, endpoint: str | None = None) -> Entry:
        """Sign it again with a new life, with what the configuration says now, perhaps with another endpoint."""
        present, identity = self.present(), self._home.identity
        member = replace(present.member, name=identity.name, contact=identity.contact, endpoint=endpoint or present.member.endpoint)
        return self._write(member, present.revoked)

    def revoke(self, serial: str) -> Entry:
        """Revoke one investigator's credential.

        Args:
            serial: 32 hex digits, as `vidfed trust investigators` lists them.
        """
        present = self.present()
        return self._write(present.member, {**present.revoked, serial: self._clock()})

    def begin_signing_key(self) -> Entry:
        """Make a new signing key and list it beside the present one, which signs on."""
        if self._next_signing.exists():
            raise HomeError(f"{self._next_signing}: a rotation has begun already; finish it")
        new = SigningKey.generate()
        new.save(self._next_signing)
        present = self.present()
        return self._write(replace(present.member, signing_keys=(*present.member.signing_keys, new.public)), present.revoked)

    def finish_signing_key(self) -> Entry:
        """Go over to the new signing key; the old one is listed as retired and its secret half is gone.

        Raises:
            HomeError: no rotation has begun, or others may not have seen the new key yet.
        """
        self._check_overlap("signing", self._next_signing.exists())
        present = self.present()
        new, old = SigningKey.load(self._next_signing), self._home.signer.public
        self._next_signing.replace(self._home.folder / "keys/signing.key")
        self._home.forget_keys()
        member = replace(present.member, signing_keys=(new.public,), retired_keys=(*present.member.retired_keys, old))
        return self._write(member, present.revoked)

    def begin_ca(self) -> Entry:
        """Make a new certification authority and list it beside the present one, which goes on."""
        if self._next_ca.exists():
            raise HomeError(f"{self._next_ca}: a rotation has begun already; finish it")
        new = make_ca(self._home.federation, self._home.member)
        write_whole(self._home.folder / "tls/ca-next.crt", new.certificate)
        write_private(self._next_ca, new.key)
        present = self.present()
        return self._write(replace(present.member, tls_ca=present.member.tls_ca + new.certificate), present.revoked)

    def finish_ca(self) -> Entry:
        """Go over to the new certification authority. Investigators' kits made under the old one must be renewed before."""
        self._check_overlap("certification authority", self._next_ca.exists())
        folder = self._home.folder
        new = TlsIdentity(self._next_ca.read_bytes(), (folder / "tls/ca-next.crt").read_bytes())
        write_node_tls(self._home, make_node_leaf(new, self._home.federation, self._home.member))
        (folder / "tls/ca-next.crt").replace(folder / "tls/ca.crt")
        self._next_ca.replace(folder / "keys/ca.key")
        self._home.forget_keys()
        present = self.present()
        return self._write(replace(present.member, tls_ca=new.certificate), present.revoked)

    def _check_overlap(self, what: str, begun: bool) -> None:
        if not begun:
            raise HomeError(f"no rotation of the {what} has begun")
        began_ms = int(self._home.entry_path.stat().st_mtime * 1000)
        if self._clock() < began_ms + OVERLAP_MS:
            raise HomeError(f"others may not know the new {what} yet; finish after {as_text(began_ms + OVERLAP_MS)}")

    def _write(self, member: Member, revoked: Mapping[str, int]) -> Entry:
        home = self._home
        held = [home.signer, *([SigningKey.load(self._next_signing)] if self._next_signing.exists() else [])]
        signers = [key for key in held if key.public in member.signing_keys]
        envelope = member_request(member, *signers, home.audit_signer)
        entry = Entry.make(home.federation, envelope, revoked, home.entry_signer, self.present().version + 1, self._clock())
        write_whole(home.entry_path, entry.to_json())
        return entry


def write_node_tls(home: MemberHome, leaf: TlsIdentity) -> None:
    """Put a new certificate and key where the running services take them from."""
    write_whole(home.folder / "tls/node.crt", leaf.certificate)
    write_private(home.folder / "keys/node.key", leaf.key)


def renew_leaf(home: MemberHome, now_ms: int) -> bool:
    """Renew the node's certificate if less than a third of its life is left; tell whether it was necessary.

    Raises:
        KeyFileError: the member's CA cannot be used; the present certificate stays.
    """
    if leaf_expires_ms(home.node_tls().certificate) - now_ms > LEAF_LIFE.total_seconds() * 1000 / 3:
        return False
    write_node_tls(home, make_node_leaf(home.ca, home.federation, home.member))
    _log.info("renewed the node's certificate")
    return True
