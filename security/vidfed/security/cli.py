"""`vidfed trust ...`: the administrators' commands, and a member's handing out of kits. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, note, print_json, reporting
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from vidfed.security.directory import Directory

_COMMAND = reporting(SecurityError)
_FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.group(context_settings=HELP)
def trust() -> None:
    """Say who is a member; hand out investigators' kits."""


@trust.command(cls=_COMMAND)
@_FOLDER
@click.option("--federation", required=True, help="Id of the federation, e.g. europe.")
def create(folder: Path, federation: str) -> None:
    """Make FOLDER with a new federation's key, its anchor file and an empty directory.

    FOLDER/federation.key decides who is a member: keep it on a machine that is not online. anchor.json and directory.json are public.
    """
    from vidfed.security.federation import FederationFolder

    made = FederationFolder.create(folder, federation)
    note(f"Made federation {federation}, key {made.anchor.key.key_id}.")
    note(f"Next: give {made.anchor_path} to each unit; add the member.json it sends back: vidfed trust add {folder} member.json")


@trust.command(cls=_COMMAND)
@_FOLDER
@click.argument("request", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask; the key was compared by another channel.")
def add(folder: Path, request: Path, yes: bool) -> None:
    """Add the member whose member.json is REQUEST to the directory in FOLDER, or replace its entry."""
    from vidfed.security.federation import FederationFolder

    opened = FederationFolder(folder)
    member = opened.read_request(request)
    note(f"member    {member.id}: {member.name}\nendpoint  {member.endpoint}\ncontact   {member.contact}")
    note(f"key       {', '.join(key.key_id for key in member.signing_keys)}")
    if not yes:
        click.confirm("Does the unit confirm this key by telephone, and shall it be a member?", abort=True, err=True)
    _print_directory(opened.add(member), opened.directory_path)


@trust.command(cls=_COMMAND)
@_FOLDER
@click.argument("member")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(folder: Path, member: str, yes: bool) -> None:
    """Remove MEMBER from the directory in FOLDER. Nodes that see the new directory refuse it at once."""
    from vidfed.security.federation import FederationFolder

    if not yes:
        click.confirm(f"Remove {member} from the federation?", abort=True, err=True)
    opened = FederationFolder(folder)
    _print_directory(opened.remove(member), opened.directory_path)


@trust.command(cls=_COMMAND)
@_FOLDER
def renew(folder: Path) -> None:
    """Sign the directory in FOLDER again, so that it does not expire."""
    from vidfed.security.federation import FederationFolder

    opened = FederationFolder(folder)
    _print_directory(opened.renew(), opened.directory_path)


@trust.command(cls=_COMMAND)
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(folder: Path, as_json: bool) -> None:
    """Show the federation in FOLDER: its key, its members and their keys, when the directory expires."""
    from vidfed.security.clock import as_text
    from vidfed.security.federation import FederationFolder

    opened = FederationFolder(folder)
    directory = opened.directory()
    members = [directory.members[member] for member in sorted(directory.members)]
    if as_json:
        entries = [
            {"id": m.id, "name": m.name, "endpoint": m.endpoint, "keys": [k.key_id for k in m.signing_keys], "contact": m.contact}
            for m in members
        ]
        head = {"schema": "vidfed.directory/1", "federation": directory.federation, "key": opened.anchor.key.key_id}
        print_json({**head, "version": directory.version, "expires_ms": directory.expires_ms, "members": entries})
        return
    click.echo(f"federation {directory.federation}, key {opened.anchor.key.key_id}")
    click.echo(f"directory version {directory.version}, valid until {as_text(directory.expires_ms)}")
    for member in members:
        keys = ", ".join(key.key_id for key in member.signing_keys)
        click.echo(f"  {member.id:<8} {member.name}, {member.endpoint}, key {keys}, contact {member.contact}")


@trust.command("issue-investigator", cls=_COMMAND)
@click.argument("kit", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    envvar="VIDFED_HOME",
    show_default="the current folder, or $VIDFED_HOME",
    help="The member's folder.",
)
@click.option("--gateway", required=True, help="host:port of this member's gateway.")
@click.option("--pseudonym", help="The only name other members will see.  [default: a random one]")
def issue_investigator(kit: Path, home: Path, gateway: str, pseudonym: str | None) -> None:
    """Make KIT, the folder with which one investigator of this member can ask. Valid for 30 days."""
    from vidfed.security.audit import Event, Operation
    from vidfed.security.audit.member import logged
    from vidfed.security.home import MemberHome
    from vidfed.security.kit import CREDENTIAL_LIFE_DAYS, issue_kit

    member_home = MemberHome(home)
    with logged(member_home, Operation.ALTERATION, Event.KIT_ISSUED) as done:
        made = issue_kit(member_home, kit, gateway=gateway, pseudonym=pseudonym)
        done["pseudonym"] = made.pseudonym
    note(f"Made a kit for {made.pseudonym} of {made.member}, valid for {CREDENTIAL_LIFE_DAYS} days.")
    note(f"Next: vidfed lookup PICTURE --kit {kit} --case REFERENCE --purpose identification --legal-basis TEXT")


def _print_directory(directory: Directory, path: Path) -> None:
    from vidfed.security.clock import as_text

    names = ", ".join(sorted(directory.members)) or "nobody yet"
    note(f"Signed directory version {directory.version}: {names}; valid until {as_text(directory.expires_ms)}.")
    note(f"Next: put {path} where each member's [trust] directory_file says.")
