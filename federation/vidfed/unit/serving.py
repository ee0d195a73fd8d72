"""Node and gateway of one member in one event loop: one trust directory, one audit log, one end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.federation.gateway.service import gateway_service
from vidfed.node.config import NodeSection
from vidfed.node.serving.server import node_service
from vidfed.rpc.serving import open_shared, run_until_signal
from vidfed.wire.statuses import ServeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.security.member.home import MemberHome


async def serve(home: MemberHome, on_node: Callable[[str], None], on_gateway: Callable[[str], None]) -> None:
    """Serve a member's node and its gateway until SIGTERM or SIGINT; then the gateway's running lookups finish, then the node's.

    Args:
        home: the member's folder.
        on_node: called with the node's `host:port` once both take calls.
        on_gateway: called with the gateway's `host:port` then.

    Raises:
        ServeError: an address cannot be used, or the node is to run in several processes; neither service has begun then.
        MailboxError, SecurityError, NodeError, HashError: what either needs cannot be used.
    """
    if (workers := home.section("node", NodeSection).workers) != 1:
        raise ServeError(
            f"{home.config_path}: [node] workers is {workers}, but `vidfed serve` is one process: set it to 1, or run `vidfed node serve`"
            " and `vidfed gateway serve` beside each other"
        )
    with open_shared(home, home.publisher()) as shared:
        async with node_service(shared, on_node) as node, gateway_service(shared, on_gateway) as gateway:
            await run_until_signal(node, gateway)
