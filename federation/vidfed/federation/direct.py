"""Asking without a gateway: for a machine that holds the member's own folder and reaches the other members' nodes itself.

A node answers only questions that the member has signed, over a connection with the member's certificate. Both keys lie in the member's
folder; so this is for the unit's own servers (a gateway that is down, a test, a site with one machine), never for an investigator's
laptop. Everything a gateway does is done, in this process: the same checks, the same entries in the same audit log (docs/adr/0032).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vidfed.federation.client.client import FederationClient
from vidfed.federation.client.transport import DirectLink
from vidfed.federation.gateway.audit_trail import Bookkeeping
from vidfed.federation.gateway.core import GatewayDesk
from vidfed.federation.gateway.settings import read_gateway_section
from vidfed.federation.lookup.errors import QuestionError
from vidfed.federation.nodes.pool import Nodes
from vidfed.rpc.trust import PeerMirrors
from vidfed.security.member.audit import open_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import Kit


@contextlib.asynccontextmanager
async def open_direct(kit: Kit, home: MemberHome) -> AsyncIterator[FederationClient]:
    """Give a client that asks the nodes itself. Nothing is kept for later: whoever waits gets the answers.

    Args:
        kit: of the investigator who asks.
        home: the folder of the kit's member.

    Raises:
        QuestionError: kit and folder are of different members.
        SecurityError: keys, directory or log cannot be used.
    """
    if (kit.federation, kit.member) != (home.federation, home.member):
        raise QuestionError(f"the kit is of {kit.member} in {kit.federation}, the folder of {home.member} in {home.federation}")
    section = read_gateway_section(home)
    with contextlib.ExitStack() as stack:
        peers = stack.enter_context(contextlib.closing(PeerMirrors(home.member, home.node_tls)))
        source = home.directory_source(ask=peers)
        source.ready()
        log = stack.enter_context(contextlib.closing(open_log(home)))
        desk = GatewayDesk(home, section, source, Nodes(home.node_tls, section), Bookkeeping(log, home.member))
        async with FederationClient(kit, link=DirectLink(desk, kit, source.held)) as client:
            yield client
