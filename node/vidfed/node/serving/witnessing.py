"""The rounds a node makes: has its own checkpoints cosigned by all other members, and compares what they were shown of each other's logs.

A log that shows two members two different pasts is found as soon as these two, or any third that asks both, make a round.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from vidfed.rpc.channels import open_channel
from vidfed.security.audit.epochs import EpochStart
from vidfed.security.audit.notes import Checkpoint, NoteSignature, epoch_of, witness_name
from vidfed.security.audit.witness import Refusal, WitnessRefusalError
from vidfed.security.errors import AuditError, SecurityError
from vidfed.v1 import audit_pb2 as pb
from vidfed.v1 import audit_pb2_grpc as rpc
from vidfed.wire.audit import read_cosignatures, read_note, read_proof
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from vidfed.security.audit import AuditLog
    from vidfed.security.audit.changes import Seen
    from vidfed.security.audit.witness import Witness
    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.identity.directory import Directory, DirectorySource, Member

_CALL_S = 10.0
_NOT_THERE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Witnessing:
    """One member's rounds."""

    member: str
    log: AuditLog
    witness: Witness
    source: DirectorySource
    own_tls: Callable[[], TlsIdentity]
    seen: Seen

    async def run(self, every_s: float) -> None:
        """Make a round every so often, for ever. Whoever starts this supervises it: only what is known to pass is outlived here."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.round()
            except (SecurityError, OSError) as error:
                _log.error("no witnesses this time: %s", error)

    async def round(self) -> None:
        """Ask all other members at the same time.

        Raises:
            SecurityError: the own log or the trust directory cannot be used.
        """
        directory = self.source.current()
        await asyncio.to_thread(self.seen.trust, self.source)
        if await asyncio.to_thread(len, self.log):
            await asyncio.to_thread(self.log.checkpoint)
        others = [member for member in directory.members.values() if member.id != self.member]
        await asyncio.gather(*(self._visit(member, directory) for member in others))

    async def _visit(self, other: Member, directory: Directory) -> None:
        channel = open_channel(other.endpoint, self.own_tls(), directory, other)
        try:
            stub = rpc.AuditServiceStub(channel)
            if await self._of(other, "its cosignature", self._agree(stub, other, directory)):
                await self._of(other, "what it was shown", self._compare_shown(stub, other, directory))
        finally:
            await channel.close()

    async def _of(self, other: Member, what: str, work: Coroutine[None, None, None]) -> bool:
        """Do one thing with what another member sends; tell whether it answers. What fails is its own affair and stops nothing else."""
        try:
            await work
        except grpc.aio.AioRpcError as error:
            _log.info("witness %s, %s: %s this time", other.id, what, error.code().name)
            return error.code() not in _NOT_THERE
        except (AuditError, WireError) as error:
            _log.error("witness %s, %s: %s", other.id, what, error)
        except Exception:  # noqa: BLE001 - one member's nonsense must not end the round with the others
            _log.exception("witness %s, %s: a defect", other.id, what)
        return True

    async def _compare_shown(self, stub: rpc.AuditServiceAsyncStub, other: Member, directory: Directory) -> None:
        witnessed = await stub.GetWitnessed(pb.GetWitnessedRequest(), timeout=_CALL_S)
        for note in witnessed.checkpoints[: 2 * len(directory.members)]:  # it may still show those of former members
            await self._of(other, "a checkpoint that it shows", self._compare(note, directory))

    async def _agree(self, stub: rpc.AuditServiceAsyncStub, other: Member, directory: Directory) -> None:
        """Have it cosign; that it does not is remembered until it does, for whoever asks how the log stands."""
        try:
            await self._be_cosigned(stub, other, directory)
        except AuditError as error:
            await asyncio.to_thread(self.witness.note_disagreement, other.id, str(error))
            raise

    async def _be_cosigned(self, stub: rpc.AuditServiceAsyncStub, other: Member, directory: Directory) -> None:
        own = self.log.latest_checkpoint
        if own is None:
            return
        known = self.witness.cosignatures().get(other.id)
        announcements = await asyncio.to_thread(self.log.announcements)
        old_size = min(known[1].size, own.size) if known else 0
        if known and known[1].origin != own.origin and announcements:
            old_size = min(old_size, EpochStart.parse(announcements[-1]).kept)
        try:
            lines = await self._ask(stub, own, old_size, announcements)
        except WitnessRefusalError as refusal:
            if refusal.refusal is Refusal.EPOCH:
                raise AuditError(
                    "it cosigned a state of another epoch of this log, or a later one than the announcement of this epoch names: "
                    "vidfed audit new-epoch asks it, and names that one"
                ) from None
            if refusal.latest_size == old_size:
                raise
            if refusal.latest_size > own.size:
                raise AuditError(
                    f"it cosigned {refusal.latest_size} entries of this log, which has {own.size}: was an older copy put back? "
                    "Then: vidfed audit new-epoch"
                ) from None
            lines = await self._ask(stub, own, refusal.latest_size, announcements)
        both = own.with_signatures(NoteSignature.parse(line) for line in lines.splitlines()[:4])
        if not both.cosignatures(witness_name(directory.federation, other.id), other.audit_keys):
            raise AuditError("its cosignature does not hold")
        await asyncio.to_thread(self.witness.remember_cosignature, other.id, both)

    async def _ask(self, stub: rpc.AuditServiceAsyncStub, own: Checkpoint, old_size: int, announcements: Sequence[str]) -> str:
        proof = await asyncio.to_thread(self.log.prove_consistency, old_size, own.size)
        request = pb.AddCheckpointRequest(old_size=old_size, proof=proof, checkpoint=own.text, announcements=announcements)
        return read_cosignatures(await stub.AddCheckpoint(request, timeout=_CALL_S))

    async def _compare(self, note: str, directory: Directory) -> None:
        checkpoint = Checkpoint.parse(read_note(note))
        if epoch_of(checkpoint.origin, directory.federation, self.member) is not None:
            await asyncio.to_thread(self._compare_own, checkpoint, directory)
            return
        differing = await asyncio.to_thread(self.witness.compare, note, directory)
        if differing is None:
            return
        member, older, newer = differing
        if await asyncio.to_thread(
            self.witness.judge, member, older, newer, await self._prove(directory.member(member), older, newer, directory)
        ):
            return
        _log.error("the log of %s could not show that its %d entries continue its %d: kept as evidence", member, newer.size, older.size)

    def _compare_own(self, checkpoint: Checkpoint, directory: Directory) -> None:
        checkpoint.verify(checkpoint.origin, directory.member(self.member).audit_keys)
        if not self.log.is_bound_by(checkpoint):
            return
        if checkpoint.size > len(self.log) or self.log.root(checkpoint.size) != checkpoint.root:
            raise AuditError(
                f"it holds a checkpoint of this log that this log does not continue ({checkpoint.size} entries): "
                "an older copy was put back (then: vidfed audit new-epoch), or the audit key is in other hands"
            )

    async def _prove(self, member: Member, older: Checkpoint, newer: Checkpoint, directory: Directory) -> list[bytes] | None:
        """Return the proof that the log gives, None if it says that it has none.

        Raises:
            grpc.aio.AioRpcError: it cannot be asked now; that proves nothing.
        """
        channel = open_channel(member.endpoint, self.own_tls(), directory, member)
        try:
            request = pb.GetConsistencyRequest(old_size=older.size, new_size=newer.size)
            response = await rpc.AuditServiceStub(channel).GetConsistency(request, timeout=_CALL_S)
            return read_proof(response.proof)
        except grpc.aio.AioRpcError as error:
            if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE}:
                return None
            raise
        finally:
            await channel.close()
