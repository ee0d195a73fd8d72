"""`vidfed demo`. Thin: parse, call."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from vidfed.cli.terminal import HELP


@click.command(context_settings=HELP)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Put everything here and keep it.  [default: temporary]")
@click.option("--stay", is_flag=True, help="Keep the federation running until Ctrl-C, for lookups of your own.")
def demo(folder: Path | None, stay: bool) -> None:
    """Run a federation of three members on this machine and ask it about synthetic pictures.

    Real node processes on free loopback ports, real keys, real commands, each shown with its output. Everything started is stopped.
    """
    from vidfed.synthetic.demo import DemoError, run_demo

    # As on Ctrl-C: what was started must not outlive it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} exists and is not empty")
    try:
        run_demo(folder, stay=stay)
    except (DemoError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
