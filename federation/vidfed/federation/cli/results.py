"""What the commands about lookups share: how a result is shown, and with which status they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.cli.terminal import console, note, print_json
from vidfed.federation.lookup.errors import GatewayRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vidfed.federation.lookup.result import LookupResult

INCOMPLETE = 3
"""Exit status: some node did not answer; what it holds is not known."""
REFUSED = 4
"""Exit status: the gateway, or every node asked, refused."""


def report(ask: Callable[[], LookupResult], failures: Mapping[str, str], as_json: bool) -> int:
    """Print what asking gives, and return the exit status."""
    from vidfed.federation.output.json import to_document
    from vidfed.federation.output.table import show_result
    from vidfed.security.clock import system_clock

    def show() -> int:
        result = ask()
        if as_json:
            print_json(to_document(result, failures))
        else:
            show_result(result, console(), now_ms=system_clock())
            if failures:
                note(f"{len(failures)} files could not be read and were not asked about; they are listed above.")
        return _exit_status(result, failures)

    return or_refused(show)


def or_refused(run: Callable[[], int]) -> int:
    """Run, and return the exit status, also where the own gateway refuses."""
    try:
        return run()
    except GatewayRefusedError as error:
        note(f"Error: {error}")
        return REFUSED


def _exit_status(result: LookupResult, failures: Mapping[str, str]) -> int:
    if result.refused:
        return REFUSED
    if not result.complete:
        return INCOMPLETE
    return 1 if failures else 0
