"""A member's handing out of kits (`vidfed trust issue-investigator` and its like), and `vidfed enrol`. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from vidfed.cli.terminal import HELP, HOME, JSON, kit_option, note, print_json, say
from vidfed.security.cli.common import COMMAND, FILE, passphrase_from, passphrase_options
from vidfed.security.documents import ROLES


@click.command("issue-investigator", cls=COMMAND)
@click.argument("kit", type=click.Path(path_type=Path))
@HOME
@click.option("--gateway", required=True, help="host:port of this member's gateway.")
@click.option("--pseudonym", help="The only name other members will see; the same again to renew.  [default: a random one]")
@click.option(
    "--role", "roles", multiple=True, type=click.Choice(ROLES), help="What the person is, by this member's word; may be repeated."
)
@click.option("--no-passphrase", is_flag=True, help="Make an open folder to ask with at once: for a first look.")
@passphrase_options
def issue_investigator(
    kit: Path,
    home: Path,
    gateway: str,
    pseudonym: str | None,
    roles: tuple[str, ...],
    no_passphrase: bool,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Make KIT, the file with which one investigator of this member can ask. Valid for 30 days.

    It is closed with a passphrase, which reaches the person by another way than the file.
    """
    from vidfed.security.audit import Event, Operation
    from vidfed.security.files import write_private
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import CREDENTIAL_LIFE_DAYS, close_kit, issue_kit, issued_kits, make_kit

    if kit.exists():
        raise click.ClickException(f"{kit}: exists; a kit is never overwritten")
    member_home = MemberHome(home)
    passphrase = None if no_passphrase else passphrase_from(passphrase_file, passphrase_fd)(str(kit))
    with logged(member_home, Operation.ALTERATION, Event.KIT_ISSUED) as done:
        if passphrase is None:
            issue_kit(member_home, kit, gateway=gateway, pseudonym=pseudonym, roles=roles)
        else:
            write_private(kit, close_kit(make_kit(member_home, gateway=gateway, pseudonym=pseudonym, roles=roles), passphrase))
        made = issued_kits(member_home)[-1]
        done |= {"pseudonym": made.pseudonym, "serial": made.serial}
    note(f"Made a kit for {made.pseudonym} of {member_home.member}, valid for {CREDENTIAL_LIFE_DAYS} days, serial {made.serial}.")
    if no_passphrase:
        note(f"Next: vidfed lookup PICTURE --kit {kit} --case REFERENCE --purpose identification --legal-basis TEXT")
    else:
        note(f"Next: hand it over, and the passphrase by another way; the person runs: vidfed enrol {kit.name}")


@click.command(cls=COMMAND)
@HOME
@JSON
def investigators(home: Path, as_json: bool) -> None:
    """List the kits this member has issued: serial, pseudonym, until when, whether revoked."""
    from vidfed.security.clock import as_text, system_clock
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import issued_kits
    from vidfed.security.member.rotation import OwnEntry

    member_home = MemberHome(home)
    revoked, now_ms = OwnEntry(member_home).present().revoked, system_clock()
    rows = [
        {
            "serial": kit.serial,
            "pseudonym": kit.pseudonym,
            "not_after_ms": kit.not_after_ms,
            "state": "revoked" if kit.serial in revoked else "expired" if kit.not_after_ms <= now_ms else "valid",
        }
        for kit in issued_kits(member_home)
    ]
    if as_json:
        print_json({"schema": "vidfed.investigators/1", "kits": rows})
        return
    for row in rows:
        say(f"{row['serial']}  {row['pseudonym']:<16} {row['state']:<8} until {as_text(int(str(row['not_after_ms'])))}")


@click.command("revoke-investigator", cls=COMMAND)
@click.argument("serial")
@HOME
def revoke_investigator(serial: str, home: Path) -> None:
    """Revoke the kit with this SERIAL: publish member.json, and no member answers it any more."""
    from vidfed.security.audit import Event, Operation
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import issued_kits
    from vidfed.security.member.rotation import OwnEntry

    member_home = MemberHome(home)
    if serial not in {kit.serial for kit in issued_kits(member_home)}:
        raise click.ClickException(f"no kit of serial {serial} was issued here; `vidfed trust investigators` lists them")
    with logged(member_home, Operation.ALTERATION, Event.KIT_REVOKED, serial=serial):
        made = OwnEntry(member_home).revoke(serial)
    note(f"Made version {made.version} of {member_home.entry_path}. It takes effect when it is published:")
    note(f"  vidfed node submit --to MEMBER --home {home}, or hand it to whoever has the online key")


@click.command(cls=COMMAND, context_settings=HELP)
@click.argument("kit", type=FILE)
@kit_option("--to", "folder", what="Where to install it.")
@passphrase_options
def enrol(kit: Path, folder: Path, passphrase_file: Path | None, passphrase_fd: int | None) -> None:
    """Install KIT, the file your unit gave you, readable by you alone."""
    from vidfed.security.member.kit import install_kit, open_kit

    made = install_kit(open_kit(kit, passphrase_from(passphrase_file, passphrase_fd)), folder)
    note(f"Installed the kit of {made.pseudonym} of {made.member} in {folder}. Now delete {kit}.")
