"""`vidfed enrol`: an investigator's keys, made here and certified by the unit. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, kit_option, note, reporting
from vidfed.security.cli.common import FILE, passphrase_from, passphrase_options
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidfed.security.identity.enrolment_request import Request
    from vidfed.security.member.invitation import Invitation
    from vidfed.security.member.kit import Kit


@click.command(cls=reporting(SecurityError), context_settings=HELP)
@click.argument("invitation", type=FILE, required=False)
@kit_option("--to", "folder", what="Where the kit is, or will be.")
@click.option("--renew", is_flag=True, help="Renew the kit by its own credential, while that holds. Keys, history and receipts stay.")
@click.option("--request", "to_file", type=FILE, help="Write the request to this file, for the unit, instead of calling the gateway.")
@click.option("--reply", "from_file", type=FILE, help="Install what the unit certified (`vidfed trust certify`).")
@click.option("--cosign", type=FILE, help="Sign another officer's request with this kit, as an officer of the same unit.")
@click.option("--yes", is_flag=True, help="Do not ask before signing another officer's request.")
@passphrase_options
def enrol(
    invitation: Path | None,
    folder: Path,
    renew: bool,
    to_file: Path | None,
    from_file: Path | None,
    cosign: Path | None,
    yes: bool,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
) -> None:
    r"""Make your keys on this machine and have your unit certify them, with INVITATION, the file your unit gave you.

    The private keys never leave this machine. Where there is no way to the gateway: --request FILE, hand that to your unit, --reply FILE.

    Examples:
    \b
        vidfed enrol anna.invitation
        vidfed enrol --renew
        vidfed enrol anna.invitation --request anna.request     then, with what the unit gives back
        vidfed enrol --reply anna.reply
    """
    from vidfed.security.files import write_whole
    from vidfed.security.member.enrolment import install, request
    from vidfed.security.member.invitation import Invitation

    if (invitation is not None) + renew + (from_file is not None) + (cosign is not None) != 1:
        raise click.UsageError("one of: an INVITATION, --renew, --reply FILE, --cosign FILE")
    if cosign is not None:
        _cosign(cosign, folder, ask=not yes)
        return
    if from_file is not None:
        _said(install(folder, from_file.read_bytes()))
        return
    opened = Invitation.open(invitation, passphrase_from(passphrase_file, passphrase_fd)) if invitation is not None else None
    asked = request(folder, opened)
    if to_file is not None:
        write_whole(to_file, asked.to_json())
        note(f"Made your keys in {folder} and the request {to_file}. Next: your unit runs vidfed trust certify {to_file.name} REPLY")
        _officer_words(asked.statement.roles, asked.statement.signing_key.raw)
        return
    _said(install(folder, _through_gateway(folder, opened, asked)))
    if invitation is not None:
        note(f"The invitation is used up: delete {invitation}.")


def _through_gateway(folder: Path, invitation: Invitation | None, asked: Request) -> bytes:
    from vidfed.rpc.enrolment import enrol as call
    from vidfed.security.member.kit import Kit

    if invitation is not None:
        address, tls, ca = invitation.gateway, invitation.tls, invitation.ca
    else:
        kit = Kit(folder)
        address, tls = kit.gateway, kit.tls
        ca = kit.directory_source().last_known_or_fail().member(kit.member).tls_ca
    return call(address, tls, ca, asked.statement.federation, asked.statement.member, asked.to_json())


def _cosign(path: Path, folder: Path, *, ask: bool) -> None:
    from vidfed.security.files import write_whole
    from vidfed.security.identity.enrolment_request import Request
    from vidfed.security.member.kit import Kit
    from vidfed.security.trust.fingerprint import fingerprint

    asked, kit = Request.from_json(path.read_bytes()), Kit(folder)
    statement = asked.statement
    note(f"{statement.pseudonym} of {statement.member} asks to be: {', '.join(statement.roles) or 'an investigator'}")
    note(f"words of the key: {fingerprint(statement.signing_key.raw)}")
    if ask:
        click.confirm("Have you compared the words with that person, and shall this be signed?", abort=True, err=True)
    write_whole(path, asked.signed_by(kit.signer).to_json())
    note(f"Signed {path} as {kit.pseudonym}.")


def _said(kit: Kit) -> None:
    from vidfed.security.clock import as_text

    note(f"Enrolled {kit.pseudonym} of {kit.member} in {kit.folder}, until {as_text(kit.holder.not_after_ms)}.")
    if kit.directory_source().last_known_or_fail().member(kit.member).officers.find(kit.pseudonym, kit.signer.public) is None:
        _officer_words(kit.holder.roles, kit.signer.public.raw)


def _officer_words(roles: Sequence[str], key: bytes) -> None:
    """Say what a new officer is asked for by telephone: who hands out kits could name another key."""
    from vidfed.security.identity.officers import OFFICER_ROLE
    from vidfed.security.trust.fingerprint import fingerprint

    if OFFICER_ROLE in roles:
        note(f"Words of your key, for whoever signs that you are an officer and calls you: {fingerprint(key)}")
