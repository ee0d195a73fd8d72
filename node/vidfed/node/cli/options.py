"""What the node's commands share: where the member's folder is, what is said about all records taken in, how errors are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vidfed.casework.errors import CaseworkError
from vidfed.cli.terminal import reporting
from vidfed.formats.entries import FormatError
from vidfed.formats.fields import FIELDS
from vidfed.index.errors import HashError
from vidfed.node.errors import NodeError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.formats.fields import Option, RecordField
    from vidfed.node.records.upsert.repeated import Repeats

COMMAND = reporting(NodeError, SecurityError, HashError, WireError, FormatError, CaseworkError)


def _option(field: RecordField, option: Option) -> Callable[..., Any]:
    choices = click.Choice(option.choices) if option.choices else None
    return click.option(f"--{option.name}", field.name, type=choices, help=option.help or None, metavar=option.metavar)


DESCRIPTION = {field.name: _option(field, field.option) for field in FIELDS.values() if field.option is not None}


def described(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say something about all the records a command takes in or edits."""
    for option in reversed(DESCRIPTION.values()):
        function = option(function)
    return function


def said(options: dict[str, Any]) -> dict[str, object]:
    """Return what such options say, by record field, checked; what was not given is not in it.

    Raises:
        click.BadParameter: a value is not of its field's form.
    """
    from vidfed.formats.fields import field_value
    from vidfed.formats.values import text

    values = {}
    for name, value in options.items():
        if value is None:
            continue
        try:
            values[name] = field_value(name, value)
            if text(value) != str(value).strip():
                raise ValueError(f"{name}: at most 500 printable characters on one line")
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return values


def repeats_words(found: Repeats) -> dict[str, int]:
    """Return what a report says of perceptual hashes that are on many unrelated items, each with its number."""
    decide = "an operator decides: vidfed node repeats list"
    return {
        "perceptual hashes are on many different files and were set aside as a tool's filler; " + decide: found.set_aside,
        "perceptual hashes are on many different files and are kept, although nothing confirms that it is one picture; "
        + decide: found.undecided,
        "perceptual hashes are on many different files that are one picture": found.kept - found.undecided,
        "times a hash was left out that was refused here (vidfed node repeats list)": found.left_out,
    }
