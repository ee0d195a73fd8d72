"""Why something is asked: as the command line says, else as the kit's `usual.toml` says, else as the person at the terminal answers."""

from __future__ import annotations

import sys
import tomllib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

USUAL_FILE = "usual.toml"
"""In a kit: the purpose and the legal basis that its holder asks under where nothing else is said. A unit may put it there."""
_SETTINGS = ("purpose", "legal_basis")


def why_of(
    kit: Path, case_reference: str | None, purpose: str | None, legal_basis: str | None, purposes: Sequence[str]
) -> tuple[str, str, str]:
    """Return case reference, purpose and legal basis.

    Args:
        kit: the folder.
        case_reference: as the command line says; None or empty: it does not. A case is never usual.
        purpose: the same, of those in `purposes`.
        legal_basis: the same.
        purposes: that there are.

    Raises:
        click.ClickException: the kit's file makes no sense.
        click.UsageError: something is missing and nobody is there to be asked.
    """
    usual = _usual(kit / USUAL_FILE, purposes)
    purpose, legal_basis = purpose or usual.get("purpose"), legal_basis or usual.get("legal_basis")
    if not (case_reference and purpose and legal_basis) and not _is_somebody_there():
        raise click.UsageError("say why you ask: --case, --purpose and --legal-basis; every node logs them and refuses without")
    case_reference = case_reference or click.prompt("Reference of your case", err=True)
    purpose = purpose or click.prompt("Why you ask", type=click.Choice(list(purposes)), err=True)
    legal_basis = legal_basis or click.prompt("The law you ask under", err=True)
    return case_reference, purpose, legal_basis


def _usual(path: Path, purposes: Sequence[str]) -> dict[str, str]:
    try:
        said = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    for name, value in said.items():
        if name not in _SETTINGS:
            raise click.ClickException(f"{path}: {name!r:.40} is unknown; known are {', '.join(_SETTINGS)}")
        if not isinstance(value, str) or not value.strip():
            raise click.ClickException(f"{path}: {name} must be a text")
    if said.get("purpose", purposes[0]) not in purposes:
        raise click.ClickException(f"{path}: purpose must be one of {', '.join(purposes)}")
    return said


def _is_somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
