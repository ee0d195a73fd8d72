"""Whether this member's node answers lookups now, as gRPC's health service tells: asked where it listens, over the federation's TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vidfed.rpc.channels import blocking_channel
from vidfed.security.clock import system_clock
from vidfed.security.identity.replay import refusal_text, refuses_until_ms
from vidfed.security.lockfile import serving_address

if TYPE_CHECKING:
    from vidfed.security.member.home import MemberHome

_CALL_S = 10.0


def ask_health(home: MemberHome) -> str:
    """Return SERVING, or NOT_SERVING, or why it cannot be asked.

    Raises:
        SecurityError: keys or directory cannot be used.
    """
    address = serving_address(home.state_file("serving"))
    if address is None:
        return "no node runs here"
    directory = home.directory_source().current()
    host, _, port = address.rpartition(":")
    own = f"{'127.0.0.1' if host in {'0.0.0.0', ''} else '[::1]' if host == '[::]' else host}:{port}"  # noqa: S104 - compared, not bound
    request = health_pb2.HealthCheckRequest(service="vidfed.v1.NodeService")
    try:
        with blocking_channel(own, home.node_tls(), directory, directory.member(home.member)) as channel:
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_CALL_S).status
    except grpc.RpcError as error:
        return f"{own}: {error.code().name}"
    said = str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
    until_ms = refuses_until_ms(home.state_file("replay.db"), system_clock())
    return said if until_ms is None else f"NOT_SERVING: {refusal_text(until_ms)}"
