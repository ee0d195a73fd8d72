"""What other members hold of this member's log: asked of them directly, so that not even this member's own memory has to be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from vidfed.rpc.channels import open_channel
from vidfed.security.audit.notes import Checkpoint, epoch_of
from vidfed.security.audit.verify import KnownCheckpoint
from vidfed.security.errors import CheckpointError
from vidfed.v1 import audit_pb2 as pb
from vidfed.v1 import audit_pb2_grpc as rpc
from vidfed.wire.audit import read_note
from vidfed.wire.statuses import MalformedError

if TYPE_CHECKING:
    from vidfed.security.identity.directory import Directory, Member
    from vidfed.security.member.home import MemberHome

_CALL_S = 10.0


async def held_by(other: Member, home: MemberHome, directory: Directory) -> list[KnownCheckpoint] | None:
    """Return the states of this member's log that another cosigned last; None if it cannot be asked. Nothing is verified yet."""
    channel = open_channel(other.endpoint, home.node_tls(), directory, other)
    try:
        response = await rpc.AuditServiceStub(channel).GetWitnessed(pb.GetWitnessedRequest(), timeout=_CALL_S)
        found = [Checkpoint.parse(read_note(note)) for note in response.checkpoints[: len(directory.members)]]
    except (grpc.aio.AioRpcError, CheckpointError, MalformedError):
        return None
    finally:
        await channel.close()
    federation = directory.federation
    return [
        KnownCheckpoint(f"{other.id}, asked now", checkpoint)
        for checkpoint in found
        if epoch_of(checkpoint.origin, federation, home.member)
    ]
