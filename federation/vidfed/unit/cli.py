"""`vidfed serve`. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vidfed.casework.errors import CaseworkError
from vidfed.cli.terminal import HELP, HOME, reporting, say
from vidfed.federation.lookup.errors import FederationError
from vidfed.index.errors import HashError
from vidfed.node.errors import NodeError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from pathlib import Path

_COMMAND = reporting(FederationError, NodeError, SecurityError, HashError, WireError, CaseworkError)


@click.command(cls=_COMMAND, context_settings=HELP)
@HOME
def serve(home: Path) -> None:
    """Run node and gateway of a small unit in one process until SIGTERM or Ctrl-C.

    The same as `vidfed node serve` and `vidfed gateway serve` beside each other, with the same settings, for less memory. [node] workers
    must be 1.
    """
    import asyncio

    from vidfed.federation.gateway.status import SERVING_FILE
    from vidfed.rpc.counting import counting_in
    from vidfed.security.lockfile import check_not_serving
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.logs import start_logging

    member_home = MemberHome(home)
    member = member_home.member
    start_logging(member_home, "unit")
    check_not_serving(member_home.state_file("serving"), "node")
    check_not_serving(member_home.state_file(SERVING_FILE), "gateway")
    with counting_in(member_home.state_file("metrics"), "node"):
        from vidfed.federation.gateway.metrics import serving_gateway_metrics
        from vidfed.node.serving.metrics import serving_node_metrics
        from vidfed.unit.serving import serve as serve_both

        with serving_node_metrics(member_home), serving_gateway_metrics(member_home):
            asyncio.run(
                serve_both(
                    member_home,
                    lambda address: say(f"node {member} answers on {address}"),
                    lambda address: say(f"gateway of {member} listens on {address}"),
                )
            )
