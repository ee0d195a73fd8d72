"""What the commands about lookups share: how a result is shown, and with which status they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.cli.terminal import console, note, print_json
from vidfed.federation.lookup.closing import Verdict
from vidfed.federation.lookup.errors import GatewayRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vidfed.federation.lookup.result import LookupResult
    from vidfed.security.member.kit import Kit

INCOMPLETE = 3
"""Exit status: some node did not answer; what it holds is not known."""
REFUSED = 4
"""Exit status: the gateway, or every node asked, refused."""
LIMITED = 5
"""Exit status: every node asked answered, but less was asked than was named, or the answers are old."""
EXIT_STATUS = {
    Verdict.COMPLETE: 0,
    Verdict.NOTHING_ASKED: 1,
    Verdict.INCOMPLETE: INCOMPLETE,
    Verdict.REFUSED: REFUSED,
    Verdict.LIMITED: LIMITED,
}


def report(
    ask: Callable[[], LookupResult], failures: Mapping[str, str], as_json: bool, *, kit: Kit | None = None, online: bool = True
) -> int:
    """Print what asking gives, with what owners have said of the records since, and return the exit status."""
    from vidfed.casework.news.book import NewsBook
    from vidfed.federation.cli.conversations import after_a_lookup
    from vidfed.federation.output.json import to_document
    from vidfed.federation.output.table import show_result
    from vidfed.security.clock import system_clock

    def show() -> int:
        result = ask().with_failures(failures)
        waiting = after_a_lookup(kit) if kit and online else 0
        if kit:
            result = result.with_news(NewsBook(kit.folder).all())
        if as_json:
            print_json(to_document(result))
        else:
            show_result(result, console(), now_ms=system_clock(), own=kit.member if kit else "")
        if waiting:
            note(f"{waiting} new message{'s' if waiting > 1 else ''}: vidfed inbox")
        return EXIT_STATUS[result.closing.verdict]

    return or_refused(show)


def or_refused(run: Callable[[], int]) -> int:
    """Run, and return the exit status, also where the own gateway refuses."""
    try:
        return run()
    except GatewayRefusedError as error:
        note(f"Error: {error}")
        return REFUSED
