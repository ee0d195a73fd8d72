"""`vidfed lookups` and `vidfed lookup --resume`. Thin: parse, call, print."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, console, kit_option, print_json, reporting, say
from vidfed.federation.cli.results import report
from vidfed.federation.lookup.errors import FederationError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import TypeVar

    from vidfed.federation.client.client import FederationClient, LookupStatus
    from vidfed.security.member.kit import Kit

    Value = TypeVar("Value")

_COMMAND = reporting(FederationError, SecurityError, WireError)
_KIT = kit_option("--kit", what="Your investigator's kit.")


@click.group(context_settings=HELP)
def lookups() -> None:
    """See your earlier lookups and fetch what came after you stopped waiting.

    The gateway goes on collecting answers for a while after a lookup's deadline, and keeps them sealed for your kit alone.
    """


@lookups.command("list", cls=_COMMAND)
@_KIT
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON (schema vidfed.lookups/1).")
def list_lookups(kit: Path, as_json: bool) -> None:
    """List your lookups, the newest first, and how many replies the gateway keeps of each."""
    from vidfed.federation.cli.kits import open_kit
    from vidfed.federation.output.table import show_lookups
    from vidfed.security.clock import system_clock

    states = _run(open_kit(kit), lambda client: client.history())
    if as_json:
        print_json({"schema": "vidfed.lookups/1", "lookups": [_fields(state) for state in states]})
    else:
        show_lookups(states, console(), now_ms=system_clock())


@lookups.command(cls=_COMMAND)
@click.argument("lookup")
@_KIT
def forget(lookup: str, kit: Path) -> None:
    """Delete a lookup from your kit and what the gateway keeps of it. What the logs say of it stays."""
    from vidfed.federation.cli.kits import open_kit

    _run(open_kit(kit), lambda client: client.forget(lookup))
    say(f"Lookup {lookup} is deleted here and at the gateway.")


def resume_lookup(kit: Kit, lookup: str, *, as_json: bool) -> int:
    """Fetch what was collected of a lookup, print it, and return the exit status."""
    return report(lambda: _run(kit, lambda client: client.resume(lookup)), {}, as_json, kit=kit)


def _run(kit: Kit, use: Callable[[FederationClient], Awaitable[Value]]) -> Value:
    from vidfed.federation.client.client import FederationClient

    async def run() -> Value:
        async with FederationClient(kit) as client:
            await client.refresh_directory()
            return await use(client)

    return asyncio.run(run())


def _fields(state: LookupStatus) -> dict[str, object]:
    own = state.lookup
    header = own.parts[0].asked.request.header
    return {
        "lookup": own.id,
        "asked_ms": own.asked_ms,
        "case": header.case_reference,
        "purpose": header.purpose.code if header.purpose else "",
        "items": [item.label for item in own.items],
        "replies_expected": state.asked,
        "replies_kept": state.replies,
        "collecting_until_ms": state.collecting_until_ms or None,
        "kept_until_ms": state.kept_until_ms or None,
    }
