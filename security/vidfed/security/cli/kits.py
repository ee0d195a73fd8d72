"""A member's handing out of kits (`vidfed trust issue-investigator` and its like). Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from vidfed.cli.terminal import HOME, JSON, note, print_json, say
from vidfed.security.cli.common import COMMAND, FILE, passphrase_from, passphrase_options
from vidfed.security.documents import ROLES


@click.command("issue-investigator", cls=COMMAND)
@click.argument("invitation", type=click.Path(path_type=Path))
@HOME
@click.option("--gateway", required=True, help="host:port of this member's gateway.")
@click.option("--pseudonym", help="The only name other members will see.  [default: a random one]")
@click.option(
    "--role", "roles", multiple=True, type=click.Choice(ROLES), help="What the person is, by this member's word; may be repeated."
)
@click.option("--no-passphrase", is_flag=True, help="Enrol here at once, into an open folder of this name: for a first look.")
@passphrase_options
def issue_investigator(
    invitation: Path,
    home: Path,
    gateway: str,
    pseudonym: str | None,
    roles: tuple[str, ...],
    no_passphrase: bool,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Make INVITATION, the file with which one investigator of this member enrols on their own machine. Valid for 7 days, for one use.

    The person's keys are made there and never leave it. The file is closed with a passphrase, which reaches the person by another way.
    A kit that has expired is renewed in its place by an invitation for the same pseudonym; one that holds renews itself.
    """
    from vidfed.security.audit import Event, Operation
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.enrolment import CREDENTIAL_LIFE_DAYS, issue_kit
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.invitation import INVITATION_DAYS
    from vidfed.security.member.issued import issued_kits
    from vidfed.security.member.persons import gateway_unreachable, invite_person

    if invitation.exists():
        raise click.ClickException(f"{invitation}: exists; nothing is overwritten")
    member_home = MemberHome(home)
    if warning := gateway_unreachable(member_home, gateway):
        note(f"WARNING: {warning}.")
    passphrase = None if no_passphrase else passphrase_from(passphrase_file, passphrase_fd)(str(invitation))
    if passphrase is None:
        with logged(member_home, Operation.ALTERATION, Event.KIT_ISSUED) as done:
            issue_kit(member_home, invitation, gateway=gateway, pseudonym=pseudonym, roles=roles)
            made = issued_kits(member_home)[-1]
            done |= {"pseudonym": made.pseudonym, "serial": made.serial}
        note(f"Made a kit for {made.pseudonym} of {member_home.member}, valid for {CREDENTIAL_LIFE_DAYS} days, serial {made.serial}.")
        note(f"Next: vidfed lookup PICTURE --kit {invitation} --case REFERENCE --purpose identification --legal-basis TEXT")
        return
    invited = invite_person(member_home, invitation, passphrase, gateway=gateway, pseudonym=pseudonym, roles=roles)
    note(f"Made an invitation for {invited} of {member_home.member}, to be used once within {INVITATION_DAYS} days.")
    note(f"Next: hand it over, and the passphrase by another way; the person runs: vidfed enrol {invitation.name}")


@click.command(cls=COMMAND)
@click.argument("request", type=FILE)
@click.argument("reply", type=FILE)
@HOME
@click.option("--introduce", is_flag=True, help="An officer whom the administrators are to accept, since none is left who could sign.")
def certify(request: Path, reply: Path, home: Path, introduce: bool) -> None:
    """Certify the keys in REQUEST (from `vidfed enrol --request`) into REPLY: for a person who has no way to the gateway."""
    from vidfed.security.audit import Event, Operation
    from vidfed.security.files import write_whole
    from vidfed.security.identity.officers import OFFICER_ROLE
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.enrolment import certify as certify_keys
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.persons import accepted_officers
    from vidfed.security.member.rotation import OwnEntry

    if reply.exists():
        raise click.ClickException(f"{reply}: exists; nothing is overwritten")
    member_home = MemberHome(home)
    with logged(member_home, Operation.ALTERATION, Event.KIT_ISSUED) as done:
        content, made = certify_keys(member_home, request.read_bytes(), member_home.directory_source(), introduce=introduce)
        done |= {"pseudonym": made.pseudonym, "serial": made.serial}
        write_whole(reply, content)
    note(f"Certified the keys of {made.pseudonym}, serial {made.serial}. Next: the person runs: vidfed enrol --reply {reply.name}")
    if OFFICER_ROLE in made.roles:
        listed = OwnEntry(member_home).officers(accepted_officers(member_home))
        if any(each.pseudonym == made.pseudonym for each in listed.waiting):
            note(f"{made.pseudonym} decides on release once the administrators accept that: publish member.json (vidfed node submit), and")
            note(f"ask them for: vidfed trust propose officers FEDERATION {member_home.member}")
        else:
            note(f"{made.pseudonym} decides on release once {member_home.entry_path} is published: by the node within a minute.")


@click.command(cls=COMMAND)
@HOME
@JSON
def investigators(home: Path, as_json: bool) -> None:
    """List the kits this member has issued: serial, pseudonym, until when, whether revoked."""
    from vidfed.security.clock import as_text
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.persons import kit_states

    rows = [each._asdict() for each in kit_states(MemberHome(home))]
    if as_json:
        print_json({"schema": "vidfed.investigators/1", "kits": rows})
        return
    for row in rows:
        say(f"{row['serial']}  {row['pseudonym']:<16} {row['state']:<8} until {as_text(int(str(row['not_after_ms'])))}")


@click.command("revoke-investigator", cls=COMMAND)
@click.argument("serial")
@HOME
def revoke_investigator(serial: str, home: Path) -> None:
    """Revoke the kit with this SERIAL, and whatever was renewed from it. Publish member.json, and no member answers it any more."""
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.persons import revoke_kit

    member_home = MemberHome(home)
    serials, version = revoke_kit(member_home, serial)
    note(f"Revoked {', '.join(serials)}. This member's gateway refuses it from now on, to fetch and delete too.")
    note(f"Made version {version} of {member_home.entry_path}. The other members refuse it when that is published:")
    note(f"  vidfed node submit --to MEMBER --home {home}, or hand it to whoever has the online key")


@click.command(cls=COMMAND)
@HOME
@JSON
def officers(home: Path, as_json: bool) -> None:
    """List the officers of this member by its own entry, published or not: who decides on release, and who vouches for each."""
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.persons import accepted_officers
    from vidfed.security.member.rotation import OwnEntry
    from vidfed.security.trust.fingerprint import fingerprint

    member_home = MemberHome(home)
    listed = OwnEntry(member_home).officers(accepted_officers(member_home))
    rows = [
        {"pseudonym": each.pseudonym, "state": state, "by": each.by, "words": fingerprint(each.key.raw)}
        for state, group in (("decides", listed.present), ("waits", listed.waiting), ("former", listed.former))
        for each in group
    ]
    if as_json:
        print_json({"schema": "vidfed.officers/1", "member": member_home.member, "officers": rows})
        return
    for row in rows:
        by = {"waits": "for the administrators"}.get(row["state"], f"by {row['by'] or 'the administrators'}")
        say(f"{row['pseudonym']:<16} {row['state']:<8} {by:<24} {row['words']}")
    if not rows:
        note("No officer: nobody can answer what other members ask. vidfed trust issue-investigator --role release-officer invites one.")


@click.command("remove-officer", cls=COMMAND)
@click.argument("pseudonym")
@HOME
def remove_officer(pseudonym: str, home: Path) -> None:
    """Take the officer PSEUDONYM out, for good: who leaves, or has another task. The kit itself is revoked by revoke-investigator."""
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.persons import remove_officer as remove

    member_home = MemberHome(home)
    version = remove(member_home, pseudonym)
    note(f"{pseudonym} decides no more, and can sign for no other officer. Made version {version} of {member_home.entry_path};")
    note(f"the node publishes it within a minute, or: vidfed node submit --to MEMBER --home {home}")
