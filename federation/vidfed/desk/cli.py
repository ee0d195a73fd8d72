"""`vidfed desk`. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from vidfed.cli.terminal import HELP, kit_option, note, reporting, say
from vidfed.security.errors import SecurityError

_COMMAND = reporting(SecurityError)
_MAX_PORT = 65_535


@click.command(cls=_COMMAND, context_settings=HELP)
@kit_option("--kit", what="Your kit.")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="On the server: the member's folder, for the rooms of its node, instead of a kit.",
)
@click.option("--port", type=click.IntRange(0, _MAX_PORT), default=0, show_default="a free one", help="Port on 127.0.0.1.")
@click.option(
    "--public-port", type=click.IntRange(1, _MAX_PORT), help="The port as your browser sees it, where a tunnel gives it another (ssh -L)."
)
@click.option("--open/--no-open", "open_it", default=True, show_default=True, help="Open the browser.")
@click.option("--practice", is_flag=True, help="Show exercises for your role too: for a practice federation (vidfed demo --stay).")
def desk(kit: Path, home: Path | None, port: int, public_port: int | None, open_it: bool, practice: bool) -> None:
    """Open the desk: asking, cases and requests in your browser; with --home, a node's rooms.

    It is a program on this machine that only you can reach: it listens on 127.0.0.1, and the address that it shows works once. Press Enter
    for another address, Ctrl-C to end it. Keys and pictures stay where they are.

    \b
      vidfed desk
      vidfed desk --kit /media/stick/kit --no-open
      ssh -L 8500:127.0.0.1:8500 server vidfed desk --home /srv/vidfed/nl --port 8500 --no-open
    """  # noqa: D301 - click wants the character itself
    from vidfed.desk.opening import for_home, for_kit
    from vidfed.desk.run import run_desk
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import Kit

    try:
        opened = for_home(MemberHome(home), practice=practice) if home is not None else for_kit(Kit(kit), practice=practice)
        run_desk(opened, port, public_port, open_it=open_it, say=say, note=note)
    except OSError as error:
        raise click.ClickException(f"{error.filename or f'port {port}'}: {error.strerror}") from None
