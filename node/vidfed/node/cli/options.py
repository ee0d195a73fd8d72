"""What the node's commands share: where the member's folder is, what is said about all records taken in, how errors are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vidfed.cli.terminal import reporting
from vidfed.formats.entries import FormatError
from vidfed.index.errors import HashError
from vidfed.node.errors import NodeError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = reporting(NodeError, SecurityError, HashError, WireError, FormatError)
_TERNARY = click.Choice(["yes", "no", "unknown"])

DESCRIPTION = {
    "series": click.option("--series", help="Series the pictures belong to."),
    "tags": click.option("--tags", help="Tags, with commas."),
    "case_reference": click.option("--case", "case_reference", help="Reference of the case they come from."),
    "case_contact": click.option("--contact", "case_contact", help="Whom to call about them.  [default: the member's contact]"),
    "victim_identified": click.option("--victim-identified", type=_TERNARY),
    "offender_identified": click.option("--offender-identified", type=_TERNARY),
    "distributed": click.option("--distributed", type=_TERNARY, help="Is it passed around?"),
    "handling_code": click.option(
        "--handling", "handling_code", type=click.Choice(["H0", "H1", "H2", "H3"]), help="Handling code.  [default: H0]"
    ),
    "handling_note": click.option("--handling-note", help="The limits that H3 stands for."),
    "source_grading": click.option("--source-grading", type=click.Choice(["A", "B", "C", "X"]), help="How reliable the source is."),
    "information_grading": click.option("--information-grading", type=click.Choice(["1", "2", "3", "4"]), help="How sure it is."),
    "sharing": click.option("--sharing", help="Who may see it, within the policy: nobody, only:fr,nl or not:de."),
    "review_ms": click.option("--review", "review_ms", metavar="DATE", help="When it must be reviewed."),
}


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
    from vidfed.formats.values import field_value, text

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
