"""What `vidfed gateway status` tells: a file the running gateway writes, and a lock that says whether it still runs."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from vidfed.federation.gateway.settings import read_gateway_section
from vidfed.federation.nodes.breaker import BreakerState
from vidfed.security.clock import system_clock
from vidfed.security.errors import HomeError
from vidfed.security.files import write_private
from vidfed.security.lockfile import serving_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidfed.federation.nodes.pool import NodePool
    from vidfed.federation.nodes.visit import NodeState
    from vidfed.security.member.home import MemberHome

_log = logging.getLogger(__name__)
SCHEMA = "vidfed.gateway-status/1"
SERVING_FILE = "gateway-serving"
_STATUS_FILE = "gateway-status.json"
_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """One gateway's state.

    Attributes:
        member: whose gateway.
        address: `host:port` where it serves, None if it does not.
        written_ms: when the rest was true.
        lookups: under way.
        nodes: for each node asked since the start, the fields of `NodeState`.
    """

    member: str
    address: str | None
    written_ms: int
    lookups: int
    nodes: tuple[dict[str, Any], ...]

    def to_fields(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"schema": SCHEMA, "serving": self.address is not None} | asdict(self)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield for each node what a table for people shows."""
        for node in self.nodes:
            breaker = str(node["breaker"])
            if breaker == BreakerState.OPEN.value:
                breaker += f", tried again in {node['retry_in_s']:.0f} s"
            load = f"{node['under_way']} of {node['allowed']}" + (f", {node['waiting']} waiting" if node["waiting"] else "")
            usual = f"{node['usual_ms']:.0f} ms" if node["answers"] else "-"
            yield node["member"], breaker, str(node["answers"]), str(node["unanswered"]), usual, load, node["last_failure"] or "-"


async def keep_status(home: MemberHome, nodes: NodePool, lookups: Callable[[], int]) -> None:
    """Write the state every two seconds while something changes, until cancelled."""
    path = home.state_file(_STATUS_FILE)
    before = None
    while True:
        state = describe(nodes, lookups())
        if state != before:
            try:
                await asyncio.to_thread(write_status, home, state)
                before = state
            except OSError as error:
                _log.error("%s: %s; `vidfed gateway status` shows an older state", path, error.strerror)
        await asyncio.sleep(_EVERY_S)


def describe(nodes: NodePool, lookups: int) -> dict[str, Any]:
    """Return the state of a running gateway."""
    return {"lookups": lookups, "nodes": [_node_fields(node) for node in nodes.states()]}


def write_status(home: MemberHome, state: dict[str, Any]) -> None:
    """Write a state for `read_status`. Raises OSError."""
    write_private(home.state_file(_STATUS_FILE), json.dumps({"written_ms": system_clock()} | state).encode())


def read_status(home: MemberHome) -> GatewayStatus:
    """Read the gateway's state.

    Raises:
        HomeError: the gateway has never run here, or its settings make no sense.
    """
    read_gateway_section(home)
    path = home.state_file(_STATUS_FILE)
    address = serving_address(home.state_file(SERVING_FILE))
    try:
        said = json.loads(path.read_bytes())
        return GatewayStatus(home.member, address, said["written_ms"], said["lookups"] if address else 0, tuple(said["nodes"]))
    except FileNotFoundError:
        raise HomeError(f"{path}: no gateway has run here yet; start one with `vidfed gateway serve`") from None
    except (ValueError, KeyError, TypeError):
        raise HomeError(f"{path}: damaged; the running gateway writes it anew") from None


def _node_fields(node: NodeState) -> dict[str, Any]:
    shown = {field.name: getattr(node, field.name) for field in fields(node)}  # `asdict` copies deeply: a millisecond for each of 194
    return shown | {"breaker": node.breaker.value, "retry_in_s": round(node.retry_in_s, 1), "usual_ms": round(node.usual_ms, 1)}
