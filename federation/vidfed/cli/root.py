"""The root of the command line. It names the commands and where they live; loading one is left until it is called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


_FULL = frozenset({errno.ENOSPC, errno.EFBIG, errno.EIO})
"""What a device says that takes no more output."""


@dataclass(frozen=True, slots=True)
class _Registered:
    module: str
    attribute: str
    role: str
    help: str


_COMMANDS = {
    "desk": _Registered("vidfed.desk.cli", "desk", "Investigators", "Ask, and follow cases, in your browser."),
    "lookup": _Registered(
        "vidfed.federation.cli.lookup", "lookup", "Investigators", "Ask every member's database about pictures or hashes."
    ),
    "lookups": _Registered("vidfed.federation.cli.history", "lookups", "Investigators", "See earlier lookups and fetch late answers."),
    "cases": _Registered("vidfed.federation.cli.cases", "cases", "Investigators", "Ask for details about a hit, and read what comes."),
    "watch": _Registered("vidfed.federation.cli.watch", "watch", "Investigators", "Be told when somebody learns what nobody knows yet."),
    "inbox": _Registered("vidfed.federation.cli.cases", "inbox", "Investigators", "See which of your conversations wait for you."),
    "enrol": _Registered(
        "vidfed.federation.cli.enrol", "enrol", "Investigators", "Make your keys and have your unit certify them; renew them."
    ),
    "hash": _Registered("vidfed.index.cli", "hash_command", "Investigators", "Show the digests and perceptual hashes of pictures."),
    "requests": _Registered("vidfed.federation.cli.requests", "requests", "Officers", "Answer what others ask about your records."),
    "node": _Registered("vidfed.node.cli.node", "node", "National units", "Set up, fill and run a member's node."),
    "join": _Registered("vidfed.node.cli.membership", "join", "National units", "Join a federation: what is read aloud, and the wait."),
    "gateway": _Registered(
        "vidfed.federation.cli.gateway", "gateway", "National units", "Run the gateway that a member's investigators ask through."
    ),
    "serve": _Registered("vidfed.unit.cli", "serve", "National units", "Run node and gateway of a small unit in one process."),
    "trust": _Registered("vidfed.security.cli.trust", "trust", "Administrators", "Say who is a member; hand out investigators' kits."),
    "audit": _Registered("vidfed.federation.cli.audit", "audit", "Oversight", "Prove what was asked, answered and changed."),
    "demo": _Registered("vidfed.synthetic.cli", "demo", "Anyone", "Run a federation of three on this machine, on synthetic pictures."),
}


class _Root(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; one whose part is not installed says how to add it."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            from vidfed.cli.parts import missing_part

            if (what := missing_part(error)) is None:
                raise
            raise click.ClickException(what) from None

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is not a command")
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        roles = dict.fromkeys(entry.role for entry in _COMMANDS.values())
        for role in roles:
            with formatter.section(role):
                formatter.write_dl([(name, entry.help) for name, entry in _COMMANDS.items() if entry.role == role])


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from vidfed.cli.terminal import say
        from vidfed.cli.version import describe_version

        say(f"vidfed {describe_version()}")
        ctx.exit()


@click.command(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and the commit it was built from.",
)
def root() -> None:
    """Ask every national victim-identification database at once whether a picture is known.

    Only hashes and signed answers travel; no picture is ever stored, sent or shown.

    Exit statuses: 0 done and complete, 3 incomplete (some members did not answer), 4 refused, 2 wrong usage, 1 anything else.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    from vidfed.cli.process import keep_grpc_silent, keep_memory_private

    keep_memory_private()
    keep_grpc_silent()
    try:
        try:
            root.main(args=arguments, prog_name="vidfed")
        finally:
            sys.stdout.flush()  # not when the interpreter ends, where nobody could be told
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of the output is not tried again
        sys.stderr.write(f"Error: the output cannot be written: {error.strerror}\n")
        sys.exit(1)
