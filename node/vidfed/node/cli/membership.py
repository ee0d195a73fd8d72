"""`vidfed node request|rotate|submit|check`: a member's own place in the federation. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HOME, JSON, note, print_json, say
from vidfed.node.cli.options import COMMAND
from vidfed.security.cli.common import new_passphrase, passphrase_from, passphrase_options

if TYPE_CHECKING:
    from vidfed.node.operations.check import Report


@click.command(cls=COMMAND)
@HOME
@click.option("--endpoint", help="Another host:port under which the others reach this node.")
def request(home: Path, endpoint: str | None) -> None:
    """Make member.json anew: to join again, to live longer, or with another name, contact or endpoint."""
    from vidfed.security.audit import Event, Operation
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.rotation import OwnEntry
    from vidfed.wire.capabilities import SPOKEN

    member_home = MemberHome(home)
    with logged(member_home, Operation.ALTERATION, Event.ENTRY_CHANGED, what="renewed") as done:
        made = OwnEntry(member_home).renew(endpoint=endpoint, speaks=SPOKEN)
        done["version"] = made.version
    note(f"Made version {made.version} of {member_home.entry_path}; words: {made.words}")
    note("Next: hand it to whoever has the online key: vidfed trust accept FOLDER member.json")
    note("  (who is not a member, or no longer, needs the administrators: vidfed trust propose add-member)")


@click.command(cls=COMMAND)
@click.argument("what", type=click.Choice(["signing-key", "audit-key", "ca", "certificate", "entry-key", "everything"]))
@click.option("--finish", is_flag=True, help="Go over to the new one, a day after it was published.")
@HOME
def rotate(what: str, finish: bool, home: Path) -> None:
    """Rotate a key of this member, without a ceremony: begin, publish member.json, a day later --finish, publish again.

    The node's certificate is renewed at once and needs no publishing: the member's CA stands behind it. A new entry key takes a ceremony
    of the administrators, because the entry key is what they know this member by. `everything` is for a member whose keys somebody else
    has: all are new at once, kits end, and the administrators sign it like a newcomer's.
    """
    from vidfed.security.audit import Event, Operation
    from vidfed.security.identity.tls import make_node_leaf
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.rotation import OwnEntry

    member_home = MemberHome(home)
    if what == "certificate":
        with logged(member_home, Operation.ALTERATION, Event.ENTRY_CHANGED, what=what):
            member_home.keys.save_tls("node", make_node_leaf(member_home.ca, member_home.federation, member_home.member))
        note("Made a new certificate; running services use it from the next connection on.")
        return
    own = OwnEntry(member_home)
    if what in {"entry-key", "everything"}:
        with logged(member_home, Operation.ALTERATION, Event.ENTRY_CHANGED, what=what) as done:
            made = own.replace_entry_key() if what == "entry-key" else own.replace_everything()
            done["version"] = made.version
        keys = "a new entry key" if what == "entry-key" else "new keys, all of them"
        note(f"Made version {made.version} of {member_home.entry_path}, signed with {keys}; words: {made.words}")
        if what == "everything":
            note("Kits of this member have ended: invite its investigators anew, under the same pseudonyms.")
        note("Next: the administrators: vidfed trust propose add-member FOLDER member.json --standing member")
        return
    steps = {
        "signing-key": (own.begin_signing_key, own.finish_signing_key),
        "audit-key": (own.begin_audit_key, own.finish_audit_key),
        "ca": (own.begin_ca, own.finish_ca),
    }
    with logged(member_home, Operation.ALTERATION, Event.ENTRY_CHANGED, what=f"{what} {'finished' if finish else 'begun'}") as done:
        made = steps[what][finish]()
        done["version"] = made.version
    note(f"Made version {made.version} of {member_home.entry_path}.")
    note(f"Next: whoever has the online key: vidfed trust accept FOLDER {member_home.entry_path}")
    if not finish:
        note(f"A day later: vidfed node rotate {what} --finish --home {home}")


@click.command(cls=COMMAND)
@click.option("--open", "opening", is_flag=True, help="Take the passphrase off again.")
@passphrase_options
@HOME
def passphrase(opening: bool, passphrase_file: Path | None, passphrase_fd: int | None, home: Path) -> None:
    """Close this member's keys with a passphrase, so that who copies the disk or a backup has nothing.

    Services and commands then take it from the file that $VIDFED_PASSPHRASE_FILE names, or from systemd's credential vidfed-passphrase.
    """
    from vidfed.security.member.home import MemberHome

    keys = MemberHome(home, passphrase_from(passphrase_file, passphrase_fd)).keys
    done = keys.open() if opening else keys.close(new_passphrase(f"the keys of {home}", passphrase_file, passphrase_fd))
    note(f"{'Opened' if opening else 'Closed'} {', '.join(done) or 'nothing: all of them were already'}.")


@click.command(cls=COMMAND)
@click.option("--to", "publisher", metavar="MEMBER", help="The member whose node publishes, if not the one that published last.")
@HOME
def submit(publisher: str | None, home: Path) -> None:
    """Hand this member's newest entry (member.json) to the node that publishes, so that everybody learns of it."""
    from vidfed.rpc.trust import submit_entry
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    directory = member_home.directory_source().last_known_or_fail()
    to = publisher or directory.publisher
    if to not in directory.members:
        raise click.ClickException(f"no member's node publishes, but {to or 'nobody known'}: hand {member_home.entry_path} in there")
    submit_entry(member_home.entry_path.read_bytes(), member_home.node_tls(), directory, directory.member(to))
    note(f"The node of {to} has published it.")


@click.command(cls=COMMAND)
@click.argument("address")
@click.option("--words", required=True, help="The words of the anchor, as the administrators read them to you on the telephone.")
@click.option("--carry", type=click.Path(path_type=Path), help="A stick, share or file on which the request goes to the administrators.")
@click.option("--no-wait", is_flag=True, help="Look once: exit status 3 if they have not signed yet.")
@HOME
def join(address: str, words: str, carry: Path | None, no_wait: bool, home: Path) -> None:
    """Join the federation at ADDRESS, host:port of any member's node, with the folder that `vidfed node init` made.

    Compares the anchor's words, lays out the request, says what is read aloud on the telephone, waits until the administrators have signed,
    hands in what has changed since, and runs `vidfed node check`. It can be broken off and given again. While you are not in the
    directory no node talks to you, so the request itself goes by hand: a stick, a letter, a mail; its words protect it on any way.
    """
    import contextlib
    import time

    from vidfed.node.operations.check import check_node
    from vidfed.node.operations.joining import Join, check_anchor, checklist
    from vidfed.node.operations.joining import request as lay_out_request
    from vidfed.node.operations.status import read_status
    from vidfed.security.documents import check_endpoint
    from vidfed.security.errors import HomeError
    from vidfed.security.member.home import MemberHome

    check_endpoint(address, HomeError, "ADDRESS")
    member_home = MemberHome(home)
    check_anchor(member_home, words)
    with contextlib.closing(Join(member_home, address)) as joining:
        standing = joining.look()
        if not standing:
            at = lay_out_request(member_home, carry)
            for line in checklist(member_home).lines():
                say(line)
            note(f"The request is {at}. The administrators: vidfed trust propose add-member FOLDER {at.name}")
            if no_wait:
                note("Not in the directory yet. Give the same command again.")
                raise SystemExit(3)
            note(f"Waiting until they have signed; Ctrl-C is safe, the same command goes on. Asking {address}")
            note("If they say it is published and this still waits, read the words once more: another request may have been signed.")
            standing = joining.wait(time.sleep, lambda: note("."))
        say(f"{member_home.member} is in the directory, standing: {standing}")
        if handed_in := joining.submit():
            note(handed_in)
    if address not in member_home.ask:
        note(f'For a day on which no copy leads to anybody, write ask = ["{address}"] into [trust] of {member_home.config_path}')
    _show(check_node(member_home, before_start=not read_status(member_home).serving), as_json=False)
    note(f"Next: systemctl enable --now vidfed-node@{home.name}, or vidfed node serve --home {home}; then vidfed node check --home {home}")


@click.command(cls=COMMAND)
@HOME
@JSON
def check(home: Path, as_json: bool) -> None:
    """Run the protocol of an accession: directory, clock, keys, permissions, TLS, disk, index, and a signed self-test of every node.

    Attach what it prints to the accession. Nothing is changed. Exit status 1 if a point fails.
    """
    from vidfed.node.operations.check import check_node
    from vidfed.security.member.home import MemberHome

    _show(check_node(MemberHome(home)), as_json=as_json)


@click.command(cls=COMMAND)
@HOME
@JSON
def doctor(home: Path, as_json: bool) -> None:
    """Look at everything a node needs and say of each point whether it is ok, a warning or failed, and what to do.

    Configuration, keys and permissions, certificates and kits, trust directory, clock, disk, records, index, policy, audit log, services,
    and a signed self-test of every node that can be reached. Nothing is changed. Exit status 1 if a point failed; warnings are none.
    """
    from vidfed.node.operations.doctor import examine
    from vidfed.security.member.home import MemberHome

    _show(examine(MemberHome(home)), as_json=as_json)


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_fields())
    else:
        for line in report.lines():
            say(line)
    if not report.passed:
        raise SystemExit(1)
