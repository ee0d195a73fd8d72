"""Whose kits a member has issued, and how they are invited and revoked, with the log. What the commands and the desk share."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from vidfed.cli.printable import printable
from vidfed.security.audit import Event, Operation
from vidfed.security.clock import Clock, system_clock
from vidfed.security.crypto.keys import PublicKey
from vidfed.security.errors import HomeError
from vidfed.security.files import write_private
from vidfed.security.identity.officers import OFFICER_ROLE
from vidfed.security.member.audit_log import logged
from vidfed.security.member.invitation import invite
from vidfed.security.member.issued import changing, descendants, issued_kits
from vidfed.security.member.rotation import OwnEntry

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.identity.officers import Rounds
    from vidfed.security.member.home import MemberHome


class KitState(NamedTuple):
    """One kit: its serial, whose, until when (ms since the epoch), and `valid`, `expired` or `revoked`."""

    serial: str
    pseudonym: str
    not_after_ms: int
    state: str


def kit_states(home: MemberHome) -> list[KitState]:
    """Return the kits that a member has issued.

    Raises:
        HomeError: the list or the own entry cannot be read.
    """
    revoked, now_ms = OwnEntry(home).present().revoked, system_clock()
    return [
        KitState(
            kit.serial,
            kit.pseudonym,
            kit.not_after_ms,
            "revoked" if kit.serial in revoked else "expired" if kit.not_after_ms <= now_ms else "valid",
        )
        for kit in issued_kits(home)
    ]


def revoke_kit(home: MemberHome, serial: str) -> tuple[list[str], int]:
    """Revoke a kit and whatever was renewed from it; return their serials and the version of the own entry that says so.

    Raises:
        HomeError: no kit of this serial was issued here.
        AuditError: it cannot be logged; nothing was changed.
    """
    with changing(home):
        kits = issued_kits(home)
        if serial not in {kit.serial for kit in kits}:
            raise HomeError(f"no kit of serial {serial} was issued here; `vidfed trust investigators` lists them")
        own, serials = OwnEntry(home), descendants(kits, serial)
        keys = [PublicKey.parse(kit.key) for kit in kits if kit.serial in serials and OFFICER_ROLE in kit.roles]
        with logged(home, Operation.ALTERATION, Event.KIT_REVOKED, serial=serial, with_renewed=len(serials) - 1):
            made = own.revoke(*serials, officers=dict.fromkeys(keys), accepted=accepted_officers(home) if keys else ())
    return list(serials), made.version


def gateway_unreachable(home: MemberHome, gateway: str) -> str:
    """Tell why nobody will reach the own gateway at `gateway` (`host:port`), which is about to go into a kit; empty if they may.

    A gateway that listens on loopback only is reached from its own machine; that is the default, and right for a first look only.
    """
    settings = home.tables("gateway")
    listen = str(settings.get("listen", "")) if isinstance(settings, dict) else ""
    if not listen or not _is_loopback(listen) or _is_loopback(gateway):
        return ""
    port = gateway.rpartition(":")[2]
    return (
        f"the gateway listens on {listen}, which only this machine reaches, and the kit says {gateway}: set [gateway] listen = "
        f'"0.0.0.0:{port}" in {home.config_path} and restart it'
    )


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def accepted_officers(home: MemberHome, clock: Clock = system_clock) -> Rounds:
    """Return whom the administrators accepted as this member's officers, by the directory last verified.

    Raises:
        DirectoryError: none was ever verified here.
    """
    listed = home.directory_source(clock).last_known_or_fail().members.get(home.member)
    return listed.officers.rounds if listed is not None else ()


def remove_officer(home: MemberHome, pseudonym: str) -> int:
    """Take an officer out of the own list, for good: decides no more, and signs for nobody; return the version of the entry that says so.

    Raises:
        HomeError: there is no officer of this name.
        SecurityError: the list cannot be read, logged or signed.
    """
    with changing(home):
        own, accepted = OwnEntry(home), accepted_officers(home)
        listed = own.officers(accepted)
        officer = next((each for each in (*listed.present, *listed.waiting) if each.pseudonym == pseudonym), None)
        if officer is None:
            raise HomeError(f"{printable(pseudonym, 40)} is no officer of {home.member}; `vidfed trust officers` lists them")
        with logged(home, Operation.ALTERATION, Event.ENTRY_CHANGED, what="officer removed", pseudonym=pseudonym):
            return own.remove_officer(officer.key, accepted).version


def invite_person(
    home: MemberHome, invitation: Path, passphrase: bytes, *, gateway: str, pseudonym: str | None, roles: tuple[str, ...]
) -> str:
    """Write an invitation, closed with a passphrase; return the person's pseudonym.

    Raises:
        HomeError: something named is malformed.
        AuditError: it cannot be logged; nothing was changed.
        OSError: it cannot be written.
    """
    with logged(home, Operation.ALTERATION, Event.KIT_INVITED) as done:
        invited = invite(home, gateway=gateway, pseudonym=pseudonym, roles=roles)
        done |= {"pseudonym": invited.pseudonym, "invitation": invited.id}
        write_private(invitation, invited.close(passphrase))
    return invited.pseudonym
