"""`vidfed gateway`. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vidfed.casework.errors import CaseworkError
from vidfed.cli.terminal import HELP, HOME, console, print_json, reporting, say
from vidfed.federation.lookup.errors import FederationError
from vidfed.index.errors import HashError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from pathlib import Path

_COMMAND = reporting(FederationError, SecurityError, HashError, WireError, CaseworkError)


@click.group(context_settings=HELP)
def gateway() -> None:
    """Run the gateway that a member's own investigators ask through."""


@gateway.command(cls=_COMMAND)
@HOME
def serve(home: Path) -> None:
    """Take the lookups of this member's investigators until SIGTERM or Ctrl-C."""
    import asyncio

    from vidfed.federation.gateway.metrics import serving_gateway_metrics
    from vidfed.federation.gateway.service import serve as serve_gateway
    from vidfed.federation.gateway.status import SERVING_FILE
    from vidfed.security.lockfile import check_not_serving
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.logs import start_logging

    member_home = MemberHome(home)
    start_logging(member_home, "gateway")
    check_not_serving(member_home.state_file(SERVING_FILE), "gateway")
    with serving_gateway_metrics(member_home):
        asyncio.run(serve_gateway(member_home, lambda address: say(f"gateway of {member_home.member} listens on {address}")))


@gateway.command(cls=_COMMAND)
@HOME
@click.option("--json", "as_json", is_flag=True, help="Print the state as JSON (schema vidfed.gateway-status/1).")
def status(home: Path, as_json: bool) -> None:
    """Show how the other members' nodes do, as this gateway has found them, and which are left alone for a while.

    Exit status: 0 the gateway serves, 1 it does not.
    """
    from vidfed.federation.gateway.status import read_status
    from vidfed.federation.output.table import show_gateway
    from vidfed.security.member.home import MemberHome

    state = read_status(MemberHome(home))
    if as_json:
        print_json(state.to_fields())
    else:
        show_gateway(state, console())
    raise SystemExit(0 if state.address else 1)
