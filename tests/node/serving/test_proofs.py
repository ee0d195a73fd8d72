"""Who is shown what of the audit log by `GetProof`: the entry to who holds its receipt, the proofs to every member's node."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.memory import FEDERATION, MemoryFederation, MemoryNode, call_of, sign_answer
from vidfed.federation.lookup.receipts import LostEntryError, Receipt, check_proof
from vidfed.index import Algorithm, Hash
from vidfed.node.serving.audit_service import AuditCore
from vidfed.security.audit import AuditEntry, AuditLog, Event, Operation, log_origin
from vidfed.security.audit.entries import commit, read_body
from vidfed.security.audit.witness import Witness
from vidfed.security.errors import ProofError, ReceiptError
from vidfed.security.member.new_epoch import begin_epoch
from vidfed.v1 import audit_pb2 as pb
from vidfed.wire.answers import read_answer
from vidfed.wire.values import ANSWER_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.wire.values import LogReceipt

ASKED = Hash(Algorithm.SHA256, bytes(32))


@pytest.fixture
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr", "br")
    return made


@pytest.fixture
def node(federation: MemoryFederation, tmp_path: Path) -> Iterator[MemoryNode]:
    with MemoryNode(federation, "fr", tmp_path) as made:
        yield made


@pytest.fixture
def core(node: MemoryNode, tmp_path: Path) -> Iterator[AuditCore]:
    with closing(Witness(tmp_path / "witness.db", federation=FEDERATION, member="fr", signer=node.member.audit_signer)) as witness:
        yield AuditCore(node.audit, witness, node.federation, node.federation.clock)


def ask(node: MemoryNode, member: str = "nl") -> LogReceipt:
    """Have somebody of this member ask; return the receipt that came with the answer."""
    asker = node.federation.investigator(member)
    envelope = node.ask(call_of(asker.credential, node.federation.sign(node.federation.request(asker, [ASKED]), asker)), member)
    log = read_answer(envelope.verify(ANSWER_TYPE, node.member.entry.signing_keys)).log
    assert log is not None
    return log


def shown(core: AuditCore, member: str, request: pb.GetProofRequest) -> pb.GetProofResponse:
    return core.proof(request, core.source.members[member].tls.certificate)  # type: ignore[attr-defined]  # a MemoryFederation


def test_proof_is_opened_to_who_holds_the_receipt_only(node: MemoryNode, core: AuditCore) -> None:
    receipt = ask(node)
    opened = shown(core, "nl", pb.GetProofRequest(position=receipt.position, commitment=receipt.commitment))
    assert commit(opened.salt, opened.body) == receipt.commitment
    assert read_body(opened.body)["member"] == "nl"
    other = ask(node)
    for commitment in (b"", bytes(32), receipt.commitment[:-1], other.commitment):
        closed = shown(core, "nl", pb.GetProofRequest(position=receipt.position, commitment=commitment))
        assert (closed.salt, closed.body) == (b"", b"")
        assert closed.checkpoint
        assert receipt.commitment not in closed.SerializeToString()  # or it could be asked for first, and shown then
    closed = shown(core, "br", pb.GetProofRequest(position=receipt.position, commitment=receipt.commitment))
    assert closed.body == b""


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 10])
def test_a_number_beyond_the_log_is_refused_whatever_its_size(node: MemoryNode, core: AuditCore, number: int) -> None:
    ask(node)
    for request in (pb.GetProofRequest(position=number), pb.GetProofRequest(known_size=number)):
        with pytest.raises(ProofError, match="the log has"):
            shown(core, "nl", request)
    leaf = node.federation.members["nl"].tls.certificate
    for sizes in ({"old_size": number}, {"new_size": number}):
        with pytest.raises(ProofError, match="the log has"):
            core.consistency(pb.GetConsistencyRequest(**sizes), leaf)
    assert core.add_checkpoint(pb.AddCheckpointRequest(old_size=number, checkpoint=node.audit.checkpoint().text), leaf).HasField("refusal")


def test_a_receipt_whose_entry_was_lost_accuses_nobody(node: MemoryNode, core: AuditCore, tmp_path: Path) -> None:
    """The log was put back: what it keeps is still proven across the loss, and what it has announced to have lost is no lie."""

    def receive() -> Receipt:
        asker = node.federation.investigator("nl")
        call = call_of(asker.credential, node.federation.sign(node.federation.request(asker, [ASKED]), asker))
        return Receipt(FEDERATION, "fr", 1, "2026-1", node.ask(call, "nl"))

    def prove(receipt: Receipt, core: AuditCore) -> bool:
        log, then, _, _ = receipt.read(node.federation.directory())
        request = pb.GetProofRequest(position=log.position, known_size=then.size, commitment=log.commitment)
        return check_proof(receipt, shown(core, "nl", request), node.federation.directory()).opened

    kept = receive()
    with closing(sqlite3.connect(tmp_path / "audit.db")) as database, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        database.backup(backup)
    lost = receive()
    late = node.audit.checkpoint()
    node.audit.close()
    for name in ("audit.db-wal", "audit.db-shm", "audit.checkpoint"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "backup.db").replace(tmp_path / "audit.db")
    names = {"federation": FEDERATION, "member": "fr", "reason": "the disk failed", "operator": "root"}
    signer, clock = node.member.audit_signer, node.federation.clock
    begin_epoch(tmp_path / "audit.db", signer, [(late, None)], beside=tmp_path / "audit.checkpoint", clock=clock, **names)
    with closing(AuditLog(tmp_path / "audit.db", log_origin(FEDERATION, "fr"), signer, clock=clock)) as log:
        restored = AuditCore(log, core.witness, node.federation, clock)
        assert prove(kept, restored)
        for _ in range(2):  # while the place is empty, and when something else is in it
            with pytest.raises(LostEntryError, match="the disk failed"):
                prove(lost, restored)
            log.append_many([log_entry(clock())] * 5)


def log_entry(time_ms: int) -> AuditEntry:
    return AuditEntry(time_ms, Operation.ALTERATION, Event.RECORDS_ADDED, "fr")


def test_a_proof_of_an_entry_that_speaks_of_another_answer_is_none(node: MemoryNode, core: AuditCore) -> None:
    """The node signs a receipt for an entry that is in its log and says something else: the entry opens, and convicts it."""
    asker = node.federation.investigator("nl")
    call = call_of(asker.credential, node.federation.sign(node.federation.request(asker, [ASKED]), asker))
    honest = Receipt(FEDERATION, "fr", 1, "2026-1", node.ask(call, "nl"))
    log = read_answer(honest.answer.payload).log
    assert log is not None
    proof = shown(core, "nl", pb.GetProofRequest(position=log.position, known_size=0, commitment=log.commitment))
    assert check_proof(honest, proof, node.federation.directory()).opened
    other = replace(read_answer(honest.answer.payload), log=None)
    other = replace(other, header=replace(other.header, detail="another"), log=log)
    lying = replace(honest, answer=sign_answer(other, node.member.signer))
    with pytest.raises(ReceiptError, match="another question or another answer"):
        check_proof(lying, proof, node.federation.directory())
