"""`vidfed node request|rotate|submit|check`: a member's own place in the federation. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import note, print_json
from vidfed.node.cli_options import COMMAND, HOME, JSON

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=COMMAND)
@HOME
@click.option("--endpoint", help="Another host:port under which the others reach this node.")
def request(home: Path, endpoint: str | None) -> None:
    """Make member.json anew: to join again, to live longer, or with another name, contact or endpoint."""
    from vidfed.security.audit import Event, Operation
    from vidfed.security.audit.member import logged
    from vidfed.security.home import MemberHome
    from vidfed.security.trust.own import OwnEntry

    member_home = MemberHome(home)
    with logged(member_home, Operation.ALTERATION, Event.ENTRY_CHANGED, what="renewed") as done:
        made = OwnEntry(member_home).renew(endpoint=endpoint)
        done["version"] = made.version
    note(f"Made version {made.version} of {member_home.entry_path}; words: {made.words}")
    note("Next: hand it to whoever has the online key: vidfed trust accept FOLDER member.json")
    note("  (who is not a member, or no longer, needs the administrators: vidfed trust propose add-member)")


@click.command(cls=COMMAND)
@click.argument("what", type=click.Choice(["signing-key", "ca", "certificate"]))
@click.option("--finish", is_flag=True, help="Go over to the new one, a day after it was published.")
@HOME
def rotate(what: str, finish: bool, home: Path) -> None:
    """Rotate a key of this member, without a ceremony: begin, publish member.json, a day later --finish, publish again.

    The node's certificate is renewed at once and needs no publishing: the member's CA stands behind it.
    """
    from vidfed.security.audit import Event, Operation
    from vidfed.security.audit.member import logged
    from vidfed.security.home import MemberHome
    from vidfed.security.tls import make_node_leaf
    from vidfed.security.trust.own import OwnEntry, write_node_tls

    member_home = MemberHome(home)
    if what == "certificate":
        with logged(member_home, Operation.ALTERATION, Event.ENTRY_CHANGED, what=what):
            write_node_tls(member_home, make_node_leaf(member_home.ca, member_home.federation, member_home.member))
        note("Made a new certificate; running services use it from the next connection on.")
        return
    own = OwnEntry(member_home)
    steps = {"signing-key": (own.begin_signing_key, own.finish_signing_key), "ca": (own.begin_ca, own.finish_ca)}
    with logged(member_home, Operation.ALTERATION, Event.ENTRY_CHANGED, what=f"{what} {'finished' if finish else 'begun'}") as done:
        made = steps[what][finish]()
        done["version"] = made.version
    note(f"Made version {made.version} of {member_home.entry_path}.")
    note(f"Next: whoever has the online key: vidfed trust accept FOLDER {member_home.entry_path}")
    note("Then restart node and gateway." if finish else f"A day later: vidfed node rotate {what} --finish --home {home}")


@click.command(cls=COMMAND)
@click.option("--to", "publisher", required=True, metavar="MEMBER", help="The member whose node publishes.")
@HOME
def submit(publisher: str, home: Path) -> None:
    """Hand this member's newest entry (member.json) to the node that publishes, so that everybody learns of it."""
    from vidfed.security.home import MemberHome
    from vidfed.wire.trust import submit_entry

    member_home = MemberHome(home)
    directory = member_home.directory_source().last_known_or_fail()
    submit_entry(member_home.entry_path.read_bytes(), member_home.node_tls(), directory, directory.member(publisher))
    note(f"The node of {publisher} has published it.")


@click.command(cls=COMMAND)
@HOME
@JSON
def check(home: Path, as_json: bool) -> None:
    """Run the protocol of an accession: directory, clock, keys, permissions, TLS, disk, index, and a signed self-test of every node.

    Attach what it prints to the accession. Nothing is changed. Exit status 1 if a point fails.
    """
    from vidfed.node.check import check_node
    from vidfed.security.home import MemberHome

    report = check_node(MemberHome(home))
    if as_json:
        print_json(report.to_fields())
    else:
        for line in report.lines():
            click.echo(line)
    if not report.passed:
        raise SystemExit(1)
