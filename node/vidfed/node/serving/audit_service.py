"""The audit log on the network: proofs of the own log for those who hold a receipt, and the cosigning of others' checkpoints."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc

from vidfed.rpc.channels import peer_certificate
from vidfed.rpc.turns import CrowdedError
from vidfed.security.audit import Event
from vidfed.security.audit.epochs import MAX_EPOCHS_SENT
from vidfed.security.audit.witness import Refusal, WitnessRefusalError
from vidfed.security.clock import Clock, system_clock
from vidfed.security.errors import AuditError, DirectoryError, PeerError, ProofError
from vidfed.security.identity.tls import NODE_ROLE, verify_peer
from vidfed.v1 import audit_pb2 as pb
from vidfed.v1 import audit_pb2_grpc as rpc
from vidfed.wire.audit import read_proof, write_refusal
from vidfed.wire.statuses import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.rpc.trust import Enter
    from vidfed.rpc.turns import Turns
    from vidfed.security.audit import AuditLog, Checkpoint
    from vidfed.security.audit.witness import Witness
    from vidfed.security.identity.directory import Directory, DirectorySource
    from vidfed.security.identity.tls import Peer

_log = logging.getLogger(__name__)
Response = TypeVar("Response")
# Each method is served as (request, context) of messages the type checker cannot name here.
_Context = grpc.aio.ServicerContext


@dataclass(frozen=True, slots=True)
class AuditCore:
    """What the service does, without the network. Blocking; called from worker threads."""

    log: AuditLog
    witness: Witness
    source: DirectorySource
    clock: Clock = system_clock

    def admit(self, leaf_pem: bytes) -> tuple[Directory, Peer]:
        """Return the directory and who calls: a node of some member.

        Raises:
            PeerError, DirectoryError: nobody who may call.
        """
        directory = self.source.current()
        peer = verify_peer(leaf_pem, directory, self.clock())
        if peer.role != NODE_ROLE:
            raise PeerError("not a node")
        return directory, peer

    def add_checkpoint(self, request: pb.AddCheckpointRequest, leaf_pem: bytes) -> pb.AddCheckpointResponse:
        """Cosign, or say why not."""
        directory, peer = self.admit(leaf_pem)
        try:
            proof, announcements = read_proof(request.proof), list(request.announcements[:MAX_EPOCHS_SENT])
            line = self.witness.add_checkpoint(request.old_size, proof, request.checkpoint, directory, peer.member, announcements)
        except MalformedError:
            return write_refusal(WitnessRefusalError(Refusal.BAD_REQUEST))
        except WitnessRefusalError as error:
            _log.warning("checkpoint from %s: %s", peer.member, error)
            return write_refusal(error)
        return pb.AddCheckpointResponse(cosignatures=line)

    def witnessed(self, _: pb.GetWitnessedRequest, leaf_pem: bytes) -> pb.GetWitnessedResponse:
        """Tell what was cosigned last of each log."""
        self.admit(leaf_pem)
        return pb.GetWitnessedResponse(checkpoints=[checkpoint.text for _, checkpoint in self.witness.witnessed().values()])

    def consistency(self, request: pb.GetConsistencyRequest, leaf_pem: bytes) -> pb.GetConsistencyResponse:
        """Prove that the own log only grew."""
        self.admit(leaf_pem)
        self._check_within(request.old_size, request.new_size)
        return pb.GetConsistencyResponse(proof=self.log.prove_consistency(request.old_size, request.new_size))

    def proof(self, request: pb.GetProofRequest, leaf_pem: bytes) -> pb.GetProofResponse:
        """Prove that an entry is in the own log, and open it to who holds the receipt for it."""
        _, peer = self.admit(leaf_pem)
        announcements = self.log.announcements()
        if announcements and max(request.position + 1, request.known_size) > len(self.log):
            # Lost, as announced: which of the entries asked for are, whoever asks finds in the announcements.
            return pb.GetProofResponse(checkpoint=self.log.checkpoint().text, announcements=announcements)
        self._check_within(request.position + 1, request.known_size)
        entry = self.log.storage.entry(request.position)
        checkpoint = self._covering(max(request.position + 1, request.known_size))
        response = pb.GetProofResponse(
            checkpoint=checkpoint.text,
            inclusion=self.log.prove_inclusion(request.position, checkpoint.size),
            consistency=self.log.prove_consistency(request.known_size, checkpoint.size),
            announcements=announcements,
        )
        # The commitment came with the answer, to the person who asked, and is told nowhere else: positions can be counted through, and
        # colleagues of that person are not to read what was asked. Of another member's entry nobody is told anything.
        if entry.salt is not None and entry.body is not None and hmac.compare_digest(request.commitment, entry.commitment):
            fields = entry.fields()
            if (fields["event"], fields["member"]) == (Event.LOOKUP_ANSWERED.value, peer.member):
                response.salt, response.body = entry.salt, entry.body
        return response

    def _check_within(self, *sizes: int) -> None:
        """Return if the log has so many entries. A number on the wire has 64 bits, one in the database a sign besides.

        Raises:
            ProofError: it has not.
        """
        if max(sizes) > (have := len(self.log)):
            raise ProofError(f"the log has {have} entries, not {max(sizes)}")

    def _covering(self, size: int) -> Checkpoint:
        latest = self.log.latest_checkpoint
        return latest if latest is not None and latest.size >= size else self.log.checkpoint()


class AuditServicer(rpc.AuditServiceServicer):
    """Hands each call to the core in a thread that no lookup needs, the callers' in turn."""

    def __init__(self, core: AuditCore, turns: Turns, enter: Enter | None = None) -> None:
        """Serve `core`.

        Args:
            core: does the work.
            turns: gives it a thread.
            enter: awaited first for each call: counts it among its member's, or ends it.
        """
        self._core = core
        self._turns = turns
        self._enter = enter

    async def AddCheckpoint(  # noqa: N802 - the name in the .proto
        self, request: pb.AddCheckpointRequest, context: _Context[pb.AddCheckpointRequest, pb.AddCheckpointResponse]
    ) -> pb.AddCheckpointResponse:
        """Cosign another member's checkpoint."""
        return await self._run(context, lambda leaf: self._core.add_checkpoint(request, leaf))

    async def GetWitnessed(  # noqa: N802
        self, request: pb.GetWitnessedRequest, context: _Context[pb.GetWitnessedRequest, pb.GetWitnessedResponse]
    ) -> pb.GetWitnessedResponse:
        """Tell what this node cosigned last."""
        return await self._run(context, lambda leaf: self._core.witnessed(request, leaf))

    async def GetConsistency(  # noqa: N802
        self, request: pb.GetConsistencyRequest, context: _Context[pb.GetConsistencyRequest, pb.GetConsistencyResponse]
    ) -> pb.GetConsistencyResponse:
        """Prove that this node's log only grew."""
        return await self._run(context, lambda leaf: self._core.consistency(request, leaf))

    async def GetProof(  # noqa: N802
        self, request: pb.GetProofRequest, context: _Context[pb.GetProofRequest, pb.GetProofResponse]
    ) -> pb.GetProofResponse:
        """Prove that an entry is in this node's log."""
        return await self._run(context, lambda leaf: self._core.proof(request, leaf))

    async def _run(self, context: grpc.aio.ServicerContext, work: Callable[[bytes], Response]) -> Response:  # type: ignore[type-arg]  # any call's
        if self._enter is not None:
            await self._enter(context)
        leaf_pem = peer_certificate(context)
        try:
            _, peer = self._core.admit(leaf_pem)
            return await self._turns.run(peer.member, lambda: work(leaf_pem))
        except PeerError:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not a member's node")
        except CrowdedError:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls of this member wait; ask again later")
        except DirectoryError:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no valid trust directory")
        except ProofError as error:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
        except AuditError as error:
            _log.error("%s", error)
            await context.abort(grpc.StatusCode.NOT_FOUND, "the log cannot show that")
        except Exception:  # noqa: BLE001 - gRPC would tell the caller what the exception says
            _log.exception("defect while answering about the log")
            await context.abort(grpc.StatusCode.INTERNAL, "a defect of this node")
