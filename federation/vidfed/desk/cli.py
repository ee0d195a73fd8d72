"""`vidfed desk`. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, kit_option, note, reporting, say
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from pathlib import Path

_COMMAND = reporting(SecurityError)
_MAX_PORT = 65_535


@click.command(cls=_COMMAND, context_settings=HELP)
@kit_option("--kit", what="Your kit.")
@click.option("--port", type=click.IntRange(0, _MAX_PORT), default=0, show_default="a free one", help="Port on 127.0.0.1.")
@click.option(
    "--public-port", type=click.IntRange(1, _MAX_PORT), help="The port as your browser sees it, where a tunnel gives it another (ssh -L)."
)
@click.option("--open/--no-open", "open_it", default=True, show_default=True, help="Open the browser.")
def desk(kit: Path, port: int, public_port: int | None, open_it: bool) -> None:
    """Open the desk: asking, cases and requests in your browser.

    It is a program on this machine that only you can reach: it listens on 127.0.0.1, and the address that it shows works once. Press Enter
    for another address, Ctrl-C to end it. Keys and pictures stay where they are.

    \b
      vidfed desk
      vidfed desk --kit /media/stick/kit --no-open
    """  # noqa: D301 - click wants the character itself
    try:
        from vidfed.desk.run import run_desk
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn", "babel"}:
            raise
        raise click.ClickException("the desk needs more packages: pip install 'vidfed[desk]'") from None
    from vidfed.desk.desk import Desk
    from vidfed.security.member.kit import Kit

    try:
        run_desk(Desk(Kit(kit)), port, public_port, open_it=open_it, say=say, note=note)
    except OSError as error:
        raise click.ClickException(f"port {port}: {error.strerror}") from None
