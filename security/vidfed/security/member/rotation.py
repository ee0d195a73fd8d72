"""A member's own entry, changed by the member alone: renewed, its keys rotated, its investigators' credentials revoked.

Each change is a new version of `member.json`, signed with the entry key; it takes effect when it is published (`vidfed trust accept` by
whoever has the online key, or `vidfed node submit`). A key is rotated in two steps: `begin` lists the new one beside the old, and once
everybody has seen that, `finish` goes over to the new one. The overlap is the timestamp's life, after which nobody uses an older directory.
"""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from vidfed.security.clock import Clock, as_text, system_clock
from vidfed.security.crypto.certificates import check_identity
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import HomeError, KeyFileError
from vidfed.security.files import write_whole
from vidfed.security.identity.directory import Member
from vidfed.security.identity.officers import Accepted, Added, OfficerList, Removed
from vidfed.security.identity.tls import LEAF_LIFE, leaf_expires_ms, make_ca, make_node_leaf
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.metadata_rules import TIMESTAMP_LIFE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from vidfed.security.crypto.keys import PublicKey, Signer
    from vidfed.security.identity.directory import Directory
    from vidfed.security.identity.enrolment_request import Request
    from vidfed.security.identity.officers import Line, Officers, Rounds
    from vidfed.security.member.home import MemberHome

_log = logging.getLogger(__name__)
OVERLAP_MS = int(TIMESTAMP_LIFE.total_seconds() * 1000)


class OwnEntry:
    """The entry of one member's folder."""

    def __init__(self, home: MemberHome, *, clock: Clock = system_clock) -> None:
        self._home = home
        self._clock = clock

    def present(self) -> Entry:
        """Return the newest version.

        Raises:
            DirectoryError: it is missing or damaged.
        """
        return Entry.load(self._home.entry_path)

    def renew(self, *, endpoint: str | None = None, speaks: frozenset[str] | None = None) -> Entry:
        """Sign it again with a new life, with what the configuration says now, perhaps another endpoint, or what a new version speaks."""
        present, identity = self.present(), self._home.identity
        member = replace(
            present.member,
            name=identity.name,
            contact=identity.contact,
            endpoint=endpoint or present.member.endpoint,
            speaks=present.member.speaks if speaks is None else speaks,
        )
        return self._write(member, present.revoked)

    def state(self, speaks: frozenset[str]) -> Entry:
        """Say what the member's programs understand; nothing else changes."""
        present = self.present()
        return self._write(replace(present.member, speaks=speaks), present.revoked)

    def unpublished(self, directory: Directory) -> tuple[str, ...]:
        """Return what of the own file is not in the published directory: names of fields, `entry_key` and `revoked` among them.

        Raises:
            DirectoryError: the own file is missing or damaged.
            UnknownMemberError: the directory does not list this member.
        """
        present, published = self.present(), directory.member(self._home.member)
        officers = present.officers.judge(present.federation, self._home.member, published.officers.rounds)
        expected = replace(
            present.member,
            entry_key=present.key,
            quarantined=published.quarantined,
            revoked=frozenset(present.revoked),
            officers=officers,
        )
        return tuple(each.name for each in fields(Member) if getattr(expected, each.name) != getattr(published, each.name))

    def revoke(self, *serials: str, officers: Collection[PublicKey] = (), accepted: Rounds = ()) -> Entry:
        """Revoke investigators' credentials.

        Args:
            serials: 32 hex digits each, as `vidfed trust investigators` lists them.
            officers: keys that are an officer's no more, where they are.
            accepted: whom the administrators accepted as officers, as published.
        """
        present = self.present()
        lines = self._without(present.officers.lines, officers, accepted)
        return self._write(present.member, {**dict.fromkeys(serials, self._clock()), **present.revoked}, OfficerList(lines))

    def officers(self, accepted: Rounds) -> Officers:
        """Return who decides on release by the own entry, published or not.

        Args:
            accepted: whom the administrators accepted, as published.

        Raises:
            DirectoryError: the own list is not the one that they accepted.
        """
        present = self.present()
        return present.officers.judge(present.federation, self._home.member, accepted)

    def add_officer(self, asked: Request, accepted: Rounds) -> Entry:
        """List a person for whom an officer there has signed.

        Raises:
            DirectoryError: others would refuse it.
        """
        present = self.present()
        lines = present.officers.lines
        held, waiting = (lines[:-1], lines[-1:]) if _waits(present.officers, accepted) else (lines, ())
        return self._list((*held, Added(replace(asked, proof="")), *waiting), accepted)

    def introduce_officer(self, asked: Request, accepted: Rounds) -> Entry:
        """List a person whom the administrators are to accept: beside others who wait for that.

        Raises:
            DirectoryError: others would refuse it.
        """
        present = self.present()
        *held, last = present.officers.lines or (Accepted(()),)
        waiting: tuple[Request, ...] = ()
        if _waits(present.officers, accepted) and isinstance(last, Accepted):
            waiting = tuple(each for each in last.requests if each.statement.pseudonym != asked.statement.pseudonym)
        elif present.officers.lines:
            held = [*held, last]
        lines = (*held, Accepted((*waiting, replace(asked, proof=""))))
        return self._list(lines, accepted)

    def remove_officer(self, key: PublicKey, accepted: Rounds) -> Entry:
        """Take an officer out, for good.

        Raises:
            HomeError: the key is no officer's.
            DirectoryError: the own list is not the one that the administrators accepted.
        """
        present = self.present()
        lines = self._without(present.officers.lines, [key], accepted)
        if lines == present.officers.lines:
            raise HomeError("this key is no officer's; `vidfed trust officers` lists them")
        return self._list(lines, accepted)

    def take_published_officers(self, published: OfficerList) -> Entry:
        """Go on from the list that is published: where this folder was put back from an older backup."""
        present = self.present()
        return self._write(present.member, present.revoked, published)

    def _without(self, lines: tuple[Line, ...], keys: Collection[PublicKey], accepted: Rounds) -> tuple[Line, ...]:
        listed = OfficerList(lines)
        present = {each.key for each in listed.judge(self._home.federation, self._home.member, accepted).present} if keys else set()
        removed = tuple(Removed(key) for key in keys if key in present)
        if not _waits(listed, accepted):
            return (*lines, *removed)
        *held, last = lines
        waiting = [each for each in last.requests if each.statement.signing_key not in keys] if isinstance(last, Accepted) else []
        return (*held, *removed, *([Accepted(tuple(waiting))] if waiting else []))

    def _list(self, lines: tuple[Line, ...], accepted: Rounds) -> Entry:
        officers = OfficerList(lines)
        OfficerList.from_json(officers.to_json()).judge(self._home.federation, self._home.member, accepted)
        present = self.present()
        return self._write(present.member, present.revoked, officers)

    def begun(self) -> dict[str, int]:
        """Return the rotations that are not finished: from when each can be, in ms since the epoch, by its name for `vidfed node rotate`.

        Raises:
            DirectoryError: the own file is missing or damaged.
            KeyFileError: the audit key cannot be used.
        """
        listed = self.present().member
        half = {
            "signing-key": len(listed.signing_keys) > 1,
            "audit-key": listed.audit_keys[0] != self._home.audit_signer.public,
            "ca": listed.tls_ca != self._home.ca.certificate,
        }
        begun = [name for name, is_half in half.items() if is_half or self._home.keys.path(_next(name.removesuffix("-key"))).exists()]
        return dict.fromkeys(begun, int(self._home.entry_path.stat().st_mtime * 1000) + OVERLAP_MS)

    def begin_signing_key(self) -> Entry:
        """Make a new signing key and list it beside the present one, which signs on."""
        present, new = self.present(), self._begin("signing")
        return self._write(replace(present.member, signing_keys=(*present.member.signing_keys, new.public)), present.revoked)

    def finish_signing_key(self) -> Entry:
        """Go over to the new signing key; the old one is listed as retired and its secret half is gone. Interrupted, it can be repeated.

        Raises:
            HomeError: no rotation has begun, or others may not have seen the new key yet.
        """
        present = self.present()
        self._finish("signing", interrupted=len(present.member.signing_keys) > 1)
        new = self._home.signer.public
        retired = (*present.member.retired_keys, *(key for key in present.member.signing_keys if key != new))
        return self._write(replace(present.member, signing_keys=(new,), retired_keys=retired), present.revoked)

    def begin_audit_key(self) -> Entry:
        """Make a new audit key and list it beside the present one, which signs on."""
        present, new = self.present(), self._begin("audit")
        return self._write(replace(present.member, audit_keys=(*present.member.audit_keys, new.public)), present.revoked)

    def finish_audit_key(self) -> Entry:
        """Go over to the new audit key; the old ones stay listed, for the checkpoints they signed. Interrupted, it can be repeated.

        Raises:
            HomeError: no rotation has begun, or others may not have seen the new key yet.
        """
        present = self.present()
        self._finish("audit", interrupted=self._home.audit_signer.public != present.member.audit_keys[0])
        new = self._home.audit_signer.public
        keys = (new, *(key for key in present.member.audit_keys if key != new))
        return self._write(replace(present.member, audit_keys=keys), present.revoked)

    def replace_entry_key(self) -> Entry:
        """Make a new entry key and sign the entry with it: a request, which the administrators must sign like that of a newcomer."""
        self._home.keys.save("entry", SigningKey.generate())
        present = self.present()
        return self._write(present.member, present.revoked)

    def replace_everything(self) -> Entry:
        """Make every key anew at once, without an overlap: somebody else has the old ones. A request, as after `replace_entry_key`.

        The old signing keys stay listed as retired and the old audit keys after the new one, for what they signed before; the old
        certification authority goes, and with it every certificate and kit. Rotations that were begun end. Interrupted, it is done again.
        """
        home, present = self._home, self.present()
        for name in ("signing", "audit", "ca"):
            home.keys.path(_next(name)).unlink(missing_ok=True)
        for name in ("signing", "audit", "entry"):
            home.keys.save(name, SigningKey.generate())
        ca = make_ca(home.federation, home.member)
        home.keys.save_tls("ca", ca)
        home.keys.save_tls("node", make_node_leaf(ca, home.federation, home.member))
        listed = present.member
        member = replace(
            listed,
            signing_keys=(home.signer.public,),
            retired_keys=(*listed.retired_keys, *listed.signing_keys),
            audit_keys=(home.audit_signer.public, *listed.audit_keys),
            tls_ca=ca.certificate,
        )
        return self._write(member, present.revoked)

    def begin_ca(self) -> Entry:
        """Make a new certification authority and list it beside the present one, which goes on."""
        self._check_none_begun("ca")
        new = make_ca(self._home.federation, self._home.member)
        self._home.keys.save_tls(_next("ca"), new)
        present = self.present()
        return self._write(replace(present.member, tls_ca=present.member.tls_ca + new.certificate), present.revoked)

    def finish_ca(self) -> Entry:
        """Go over to the new certification authority. Investigators' kits made under the old one must be renewed before."""
        home = self._home
        self._check_overlap("certification authority", home.keys.path(_next("ca")).exists())
        new = home.keys.tls(_next("ca"))
        home.keys.save_tls("node", make_node_leaf(new, home.federation, home.member))
        home.keys.save_tls("ca", new)
        present = self.present()
        entry = self._write(replace(present.member, tls_ca=new.certificate), present.revoked)
        home.keys.path(_next("ca")).unlink()
        return entry

    def _begin(self, name: str) -> SigningKey:
        self._check_none_begun(name)
        new = SigningKey.generate()
        self._home.keys.save(_next(name), new)
        return new

    def _finish(self, name: str, *, interrupted: bool) -> None:
        """Put the new key in the place of the present one, unless a `finish` that was interrupted has done that."""
        following = self._home.keys.path(_next(name))
        if following.exists() or not interrupted:
            self._check_overlap(f"{name} key", following.exists())
            following.replace(self._home.keys.path(name))

    def _check_none_begun(self, name: str) -> None:
        path = self._home.keys.path(_next(name))
        if path.exists():
            raise HomeError(f"{path}: a rotation has begun already; finish it")

    def _check_overlap(self, what: str, begun: bool) -> None:
        if not begun:
            raise HomeError(f"no rotation of the {what} has begun")
        began_ms = int(self._home.entry_path.stat().st_mtime * 1000)
        if self._clock() < began_ms + OVERLAP_MS:
            raise HomeError(f"others may not know the new {what} yet; finish after {as_text(began_ms + OVERLAP_MS)}")

    def _write(self, member: Member, revoked: Mapping[str, int], officers: OfficerList | None = None) -> Entry:
        home, present = self._home, self.present()
        held: list[Signer] = [home.signer]
        if home.keys.path(_next("signing")).exists():
            held.append(home.keys.load(_next("signing")))
        signers = [key for key in held if key.public in member.signing_keys]
        holding = (*signers, home.audit_signer)
        listed = present.officers if officers is None else officers
        entry = Entry.make(home.federation, member, holding, revoked, home.entry_signer, present.version + 1, self._clock(), listed)
        write_whole(home.entry_path, entry.to_json())
        return entry


def _waits(listed: OfficerList, accepted: Rounds) -> bool:
    """Tell whether a list ends with persons whom the administrators have not accepted yet."""
    return len(listed.rounds) > len(accepted)


def _next(name: str) -> str:
    """Return the name of the key that will follow the one of this name."""
    return f"{name}-next"


def renew_leaf(home: MemberHome, now_ms: int) -> bool:
    """Renew the node's certificate if less than a third of its life is left or it cannot be used; tell whether it was necessary.

    Raises:
        KeyFileError: the key file cannot be read, or a new one is needed and the member's CA cannot be used; what is there stays.
    """
    present = home.node_tls()
    try:
        check_identity(present)
    except KeyFileError as error:
        _log.warning("%s: %s; making a new one", home.keys.path("node"), error)
    else:
        if leaf_expires_ms(present.certificate) - now_ms > LEAF_LIFE.total_seconds() * 1000 / 3:
            return False
    home.keys.save_tls("node", make_node_leaf(home.ca, home.federation, home.member))
    _log.info("renewed the node's certificate")
    return True
