"""`vidfed node known-good ...`: lists of harmless files that must not become records. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from vidfed.cli.terminal import HELP, HOME, JSON, print_json, say
from vidfed.node.cli.options import COMMAND


@click.group("known-good", context_settings=HELP)
def known_good() -> None:
    """Keep lists of harmless files (NSRL, one's own): what is on them is not taken in by any import."""


@known_good.command(cls=COMMAND)
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--version", required=True, help="As the publisher calls it, e.g. 2026.03.1.")
@HOME
def add(name: str, files: tuple[Path, ...], version: str, home: Path) -> None:
    """Keep the digests in FILES as the known-good list NAME, in the place of an older list of that name.

    FILES are of any format that `vidfed node import` reads. Digests alone count; where an item has several, the strongest that both sides
    have decides.
    """
    from vidfed.node.intake.known_good import FOLDER, add_list
    from vidfed.security.audit import Event, Operation
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    with logged(member_home, Operation.ALTERATION, Event.POLICY_CHANGED, what=f"known-good list {name} {version}"[:200]):
        made, before = add_list(member_home.folder / FOLDER, name, files, version=version, now_ms=system_clock())
    say(f"{made.title}: {made.items} items are known good" + (f"; it replaces {before.title}" if before else ""))


@known_good.command("list", cls=COMMAND)
@JSON
@HOME
def list_(home: Path, as_json: bool) -> None:
    """Show the lists."""
    from vidfed.node.intake.known_good import FOLDER, stored_lists
    from vidfed.security.clock import as_text
    from vidfed.security.member.home import MemberHome

    lists = stored_lists(MemberHome(home).folder / FOLDER)
    if as_json:
        fields = [{"name": each.name, "version": each.version, "added": as_text(each.added_ms), "items": each.items} for each in lists]
        print_json({"schema": "vidfed.known-good/1", "lists": fields})
        return
    for each in lists:
        say(f"{each.title}: {each.items} items, since {as_text(each.added_ms)[:10]}")
    if not lists:
        say("no list: nothing is kept out of imports as known good")


@known_good.command(cls=COMMAND)
@click.argument("name")
@HOME
def remove(name: str, home: Path) -> None:
    """Remove the list NAME: imports take in what is on it again."""
    from vidfed.node.intake.known_good import FOLDER, remove_list
    from vidfed.security.audit import Event, Operation
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    with logged(member_home, Operation.ALTERATION, Event.POLICY_CHANGED, what=f"known-good list {name} removed"[:200]):
        gone = remove_list(member_home.folder / FOLDER, name)
    say(f"{gone.title} is removed")
