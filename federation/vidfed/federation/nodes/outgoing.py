"""What goes out to the nodes, and what is said of one that gives no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from vidfed.security.identity.directory import Directory
    from vidfed.v1.lookup_pb2 import LookupCall
    from vidfed.wire.values import FailureKind


@dataclass(frozen=True, slots=True)
class OutgoingLookup:
    """One signed request on its way to the nodes.

    Attributes:
        call: what is asked.
        directory: names the members' keys and addresses.
        deadline_s: for all nodes together, from now.
        late_s: how much longer an answer to a request that was sent in time is awaited.
        urgent: a child may be in danger: no breaker keeps it from a node.
    """

    call: LookupCall
    directory: Directory
    deadline_s: float
    late_s: float = 0.0
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class NodeChannel:
    """A way to a node for a stream.

    Attributes:
        channel: connected.
        end: to be called with what became of it: `good` as in `Breaker.report`; only the first call counts.
        retire: makes the next stream or lookup connect anew.
    """

    channel: grpc.aio.Channel
    end: Callable[[bool | None], None]
    retire: Callable[[], None]


@dataclass(slots=True)
class NodeUnavailableError(Exception):
    """There is no way to a node; `reply` says why to the investigator."""

    reply: pb.NodeReply


def failure(member: str, kind: FailureKind, detail: str) -> pb.NodeReply:
    """Return what the gateway says of a member that gave no answer."""
    return pb.NodeReply(member=member, failure=pb.Failure(kind=kind.value, detail=detail))
