"""What the commands of this package share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import reporting
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.security.crypto.passphrase import Passphrase

COMMAND = reporting(SecurityError)
FILE = click.Path(path_type=Path, dir_okay=False)


def passphrase_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where a passphrase comes from; without one, a person is asked."""
    function = click.option("--passphrase-fd", type=int, help="Open file descriptor whose first line is the passphrase.")(function)
    return click.option("--passphrase-file", type=FILE, help="File (mode 0600) whose first line is the passphrase.")(function)


def signers_passphrase_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the same options where several people may sign: a file for each key, in the keys' order, or one for all."""
    function = click.option("--passphrase-fd", type=int, help="Open file descriptor whose first line is the passphrase of all keys.")(
        function
    )
    return click.option(
        "--passphrase-file",
        "passphrase_files",
        multiple=True,
        type=FILE,
        help="File (mode 0600) whose first line is the passphrase; repeat for each key, in their order, if they differ.",
    )(function)


def passphrases_from(files: tuple[Path, ...], descriptor: int | None, keys: int) -> list[Passphrase]:
    """Return where the passphrase of each key comes from."""
    if len(files) not in {0, 1, keys}:
        raise click.UsageError(f"{len(files)} passphrase files for {keys} keys: name one for all, or one for each in the keys' order")
    if len(files) > 1:
        return [passphrase_from(file, None) for file in files]
    return [passphrase_from(files[0] if files else None, descriptor)] * keys


def passphrase_from(file: Path | None, descriptor: int | None) -> Passphrase:
    """Return where passphrases come from: a file, a descriptor, or the person at the terminal."""
    from vidfed.security.crypto.passphrase import from_descriptor, from_file

    if file is not None:
        return from_file(file)
    if descriptor is not None:
        return from_descriptor(descriptor)
    return lambda what: str(click.prompt(f"Passphrase of {what}", hide_input=True, err=True)).encode()


def new_passphrase(what: str, file: Path | None, descriptor: int | None) -> bytes:
    """Return a passphrase that is to close something from now on; a person at the terminal types it twice.

    Raises:
        click.ClickException: not the same twice.
    """
    source = passphrase_from(file, descriptor)
    given = source(what)
    if file is None and descriptor is None and source("the same, again") != given:
        raise click.ClickException("not the same twice")
    return given
