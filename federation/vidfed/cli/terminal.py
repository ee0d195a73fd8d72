"""What all commands share: results on stdout, everything else on stderr, errors as one line, progress where it takes time.

Nothing reaches the terminal but through here: `say`, `note`, `print_json`, `console`, `progress` and a command's errors make visible what
a text by others holds that a terminal would obey (`printable`).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidfed.cli.printable import json_text, visible, visible_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress, TextColumn

_SAY_EVERY_S = 60.0  # how often long work says how far it is where there is no terminal
HELP = {"help_option_names": ["-h", "--help"]}

HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    envvar="VIDFED_HOME",
    show_default="the current folder, or $VIDFED_HOME",
    help="The member's folder, made by `vidfed node init`.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


def kit_option(*names: str, what: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Return an option that names an investigator's kit."""
    return click.option(
        *names,
        type=click.Path(path_type=Path, file_okay=False),
        default=Path.home() / ".vidfed/kit",
        envvar="VIDFED_KIT",
        show_default="~/.vidfed/kit, or $VIDFED_KIT",
        help=what,
    )


class Command(click.Command):
    """A command that turns the errors its package raises on purpose into one line on stderr and status 1.

    Anything else is a defect and shows as one.
    """

    reports: tuple[type[Exception], ...] = ()

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except self.reports as error:
            raise click.ClickException(visible(str(error)) or type(error).__name__) from None
        except click.ClickException as error:
            error.message = visible(error.message)  # type: ignore[misc]  # its class, which decides the exit status, stays
            raise
        except OSError as error:
            if error.filename is None:
                raise
            raise click.ClickException(visible(f"{error.filename}: {error.strerror}")) from None


def reporting(*errors: type[Exception]) -> type[Command]:
    """Return the command class that reports these errors."""
    return type("ReportingCommand", (Command,), {"reports": errors})


def print_json(document: object) -> None:
    """Write one JSON document to stdout."""
    click.echo(json_text(document, indent=2))


def say(text: str = "", *, err: bool = False) -> None:
    """Print one line of a result, on stdout unless that is taken."""
    click.echo(visible(text), err=err)


def note(text: str = "") -> None:
    """Say something to the person at the terminal, on stderr, out of the way of results: one line."""
    say(text, err=True)


def console() -> Console:
    """Return the console for results. Not on a terminal it is wide, so that tables keep their lines whole in files and pipes.

    Nothing in a text is taken for markup, and what a terminal would obey is made visible in whatever is printed.
    """
    from rich.console import Console
    from rich.segment import Segment

    class PlainConsole(Console):
        """A console that passes on no control character but its own."""

        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:  # noqa: ANN401 - as rich declares them
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible_lines(segment.text), segment.style)

    width = None if sys.stdout.isatty() else 160
    return PlainConsole(width=width, highlight=False, soft_wrap=False, markup=False, emoji=False)


def _description() -> TextColumn:
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)  # a file's name may look like markup


def progress() -> Progress:
    """Return a progress display on stderr; on something that is no terminal it shows nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        _description(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    error_console = Console(stderr=True)
    return Progress(*columns, console=error_console, transient=True, disable=not error_console.is_terminal)


@contextmanager
def file_progress(what: str) -> Iterator[Callable[[int, int, int], None]]:
    """Show how far the reading of files is, with rate and time left, and give what to call with (bytes done, bytes in all, entries).

    Not on a terminal, a line a minute says the same.
    """
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    error_console = Console(stderr=True)
    rate = TextColumn("{task.fields[entries]:,} entries, {task.fields[rate]:,.0f}/s")
    columns = (
        _description(),
        BarColumn(),
        TaskProgressColumn(),
        rate,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    started = said = time.monotonic()
    with Progress(*columns, console=error_console, disable=not error_console.is_terminal) as bar:
        task = bar.add_task(visible(what), total=None, entries=0, rate=0.0)

        def update(done: int, total: int, entries: int) -> None:
            nonlocal said
            now = time.monotonic()
            per_s = entries / max(now - started, 1e-9)
            bar.update(task, completed=done, total=total, entries=entries, rate=per_s)
            if not error_console.is_terminal and now - said >= _SAY_EVERY_S:
                said = now
                left_s = (now - started) * (total - done) / max(done, 1)
                note(f"{what}: {entries:,} entries, {per_s:,.0f}/s, {100 * done // max(total, 1)} %, {left_s:.0f} s left")

        yield update
