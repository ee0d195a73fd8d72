"""`vidfed trust propose ...`: the changes that administrators can propose. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, JSON, note
from vidfed.security.cli.ceremony import public_key, sign_and_publish
from vidfed.security.cli.common import COMMAND, FILE, passphrases_from, signers_passphrase_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.security.trust.draft import Draft
    from vidfed.security.trust.federation import FederationFolder

_FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.group(context_settings=HELP)
def propose() -> None:
    """Begin a change: it takes effect when enough administrators have signed it and it is published."""


def _proposal(function: Callable[..., Draft]) -> click.Command:
    """Make a `propose` command of a function that is given the folder and its own parameters and returns the draft."""

    def run(
        folder: Path,
        signing: tuple[Path, ...],
        at_once: bool,
        yes: bool,
        passphrase_files: tuple[Path, ...],
        passphrase_fd: int | None,
        as_json: bool,
        **own: object,
    ) -> None:
        from vidfed.security.trust.federation import FederationFolder

        opened = FederationFolder(folder)
        draft = function(opened, **own)
        try:
            passphrases = passphrases_from(passphrase_files, passphrase_fd, len(signing))
            sign_and_publish(opened, draft, signing, passphrases, at_once=at_once, ask=not yes, as_json=as_json)
        except click.Abort:
            opened.withdraw()
            raise

    run.__doc__ = function.__doc__
    options = (
        _FOLDER,
        click.option("--sign", "signing", multiple=True, type=FILE, help="A key file to sign with at once; may be repeated."),
        click.option("--publish", "at_once", is_flag=True, help="Publish at once, if enough have signed."),
        click.option("--yes", is_flag=True, help="Do not ask before signing."),
        signers_passphrase_options,
        JSON,
    )
    command: Callable[..., None] = run
    for option in reversed(options):
        command = option(command)
    made = propose.command(function.__name__.replace("_", "-"), cls=COMMAND)(command)
    # The folder first, then what the proposal itself takes: click reads arguments in the order of this list.
    made.params[1:1] = reversed(getattr(function, "__click_params__", []))
    return made


@_proposal
@click.argument("requests", nargs=-1, required=True, type=FILE)
@click.option("--standing", type=click.Choice(["quarantine", "member"]), default="quarantine", show_default=True, help="What it may do.")
def add_member(folder: FederationFolder, requests: tuple[Path, ...], standing: str) -> Draft:
    """Propose the members whose requests (member.json) are REQUESTS; again for one that returns or has a new entry key.

    Compare the words with the unit by telephone. In quarantine a member may ask and answer a self-test only.
    """
    from vidfed.security.trust.describe import entry_lines
    from vidfed.security.trust.entry import Entry
    from vidfed.security.trust.metadata_rules import Standing

    entries = [Entry.load(request) for request in requests]
    for entry in entries:
        for line in entry_lines(entry):
            note(line)
    return folder.propose_members(entries, Standing(standing))


@_proposal
@click.argument("member")
@click.argument("standing", type=click.Choice(["quarantine", "member"]))
def set_standing(folder: FederationFolder, member: str, standing: str) -> Draft:
    """Propose to raise MEMBER out of quarantine, or to put it back."""
    from vidfed.security.trust.metadata_rules import Standing

    return folder.propose_standing(member, Standing(standing))


@_proposal
@click.argument("member")
def officers(folder: FederationFolder, member: str) -> Draft:
    """Propose to accept as officers of MEMBER those whom its published entry names and for whom no officer there has signed.

    They are its first ones, or none is left who could sign; then those before decide no more. Compare the words with each of them by
    telephone, over a number that does not come from whoever runs the unit's machines.
    """
    return folder.propose_officers(member)


@_proposal
@click.argument("member")
def remove_member(folder: FederationFolder, member: str) -> Draft:
    """Propose to remove MEMBER. Nodes that see the change refuse it at once."""
    return folder.propose_removal(member)


@_proposal
@click.argument("holder")
@click.argument("public", type=FILE)
def rotate_key(folder: FederationFolder, holder: str, public: Path) -> Draft:
    """Propose the key in PUBLIC in place of that of HOLDER: a new key of the same person, or another person."""
    name, key = public_key(public)
    return folder.propose_key(holder, name, key)


@_proposal
def rotate_online_key(folder: FederationFolder) -> Draft:
    """Propose a new online key, made here; the present one goes on until the change is published."""
    return folder.propose_online_key()


@_proposal
@click.argument("public", type=FILE)
def add_publisher(folder: FederationFolder, public: Path) -> Draft:
    """Propose the online key in PUBLIC (`vidfed trust stand-by` made it) as one more publisher, which goes on when the others are lost.

    The file's name in it is the publisher's. Compare the words of the key by telephone.
    """
    name, key = public_key(public)
    return folder.propose_publisher(name, key)


@_proposal
@click.argument("name")
def remove_publisher(folder: FederationFolder, name: str) -> Draft:
    """Propose that the publisher NAME is none any more: its machine or its online key is lost for good."""
    return folder.propose_publisher_removal(name)


@_proposal
@click.argument("threshold", type=click.IntRange(1))
def change_threshold(folder: FederationFolder, threshold: int) -> Draft:
    """Propose that THRESHOLD administrators must sign."""
    return folder.propose_threshold(threshold)


@_proposal
def renew(folder: FederationFolder) -> Draft:
    """Propose root and members as they are, with a new life."""
    return folder.propose_renewal()
