"""Receipts: the signed answers an investigator keeps, each naming the entry in the node's log that must speak of it.

Later the node is asked to prove that the entry is there and says the same. If it cannot, the receipt is the evidence: the node's own
signature over a position and a commitment that its log does not have.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.security.audit.entries import commit, read_body
from vidfed.security.audit.epochs import MAX_EPOCHS_SENT, EpochStart
from vidfed.security.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from vidfed.security.audit.notes import Checkpoint, epoch_of
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.documents import read_document
from vidfed.security.errors import AuditDamagedError, CheckpointError, EnvelopeError, ProofError, ReceiptError, SignatureError
from vidfed.security.files import write_private
from vidfed.wire.answers import read_answer_with_digest
from vidfed.wire.audit import read_note, read_proof
from vidfed.wire.statuses import Status, WireError
from vidfed.wire.values import ANSWER_TYPE, LogReceipt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidfed.security.identity.directory import Directory, Member
    from vidfed.v1.audit_pb2 import GetProofResponse

UNLOGGED = frozenset({Status.AUDIT_UNAVAILABLE, Status.BUSY})
"""Refusals that a node gives without an entry in its log: it cannot write one, or has not looked at the question."""
RECEIPT_KIND = "vidfed-receipt/1"
_FORM = {"kind": str, "federation": str, "member": str, "asked_ms": int, "case": str, "answer": str}


class NothingLoggedError(ReceiptError):
    """The answer is an honest refusal that leaves no entry in the node's log; there is nothing to prove, and nobody to accuse."""


class LostEntryError(ReceiptError):
    """The node announced, signed, that it lost the entry with a part of its log: nothing it says about it is proven or refuted any more."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One answer kept.

    Attributes:
        federation, member: whose node answered.
        asked_ms: when.
        case_reference: of the question, for the one who keeps the receipt.
        answer: the signed answer.
    """

    federation: str
    member: str
    asked_ms: int
    case_reference: str
    answer: Envelope

    @property
    def name(self) -> str:
        """What people and files call it: when it was asked, which answer, whose. Names sort by time."""
        return f"{self.name_begins(self.asked_ms)}-{self.answer.digest.hex()[:12]}-{self.member}"

    @staticmethod
    def name_begins(asked_ms: int) -> str:
        """Return how the names of receipts of this time begin."""
        return f"{asked_ms:013}"

    def save(self, folder: Path) -> Path:
        """Write the receipt into a folder as a file of its own, mode 0600, for somebody else to check, and return its path."""
        fields = {
            "kind": RECEIPT_KIND,
            "federation": self.federation,
            "member": self.member,
            "asked_ms": self.asked_ms,
            "case": self.case_reference,
            "answer": base64.b64encode(self.answer.to_json()).decode(),
        }
        path = folder / f"{self.name}.json"
        write_private(path, json.dumps(fields, indent=1, ensure_ascii=False).encode() + b"\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Receipt:
        """Read a receipt.

        Raises:
            ReceiptError: it is not one.
        """
        try:
            fields = read_document(path.read_bytes(), _FORM, ReceiptError, str(path))
            answer = Envelope.from_json(base64.b64decode(fields["answer"], validate=True))
        except OSError as error:
            raise ReceiptError(f"{path}: {error.strerror}") from None
        except (EnvelopeError, ValueError) as error:
            raise ReceiptError(f"{path}: {error}") from None
        if fields["kind"] != RECEIPT_KIND:
            raise ReceiptError(f"{path}: not a receipt of this version")
        return cls(fields["federation"], fields["member"], fields["asked_ms"], fields["case"], answer)

    def read(self, directory: Directory) -> tuple[LogReceipt, Checkpoint, bytes, bytes]:
        """Return what the node signed: its log receipt, the checkpoint in it, and the digests of question and answer.

        Raises:
            NothingLoggedError: it is a refusal that is not logged.
            ReceiptError: the node did not sign this, or it names no entry.
        """
        member = directory.member(self.member)
        try:
            payload = self.answer.verify(ANSWER_TYPE, member.signing_keys)
            answer, digest = read_answer_with_digest(payload)
            if answer.log is None and answer.header.status in UNLOGGED:
                raise NothingLoggedError(f"{self.member} refused with {answer.header.status.name}, which is not logged: nothing to prove")
            if answer.log is None:
                raise ReceiptError(f"{self.member} answered {answer.header.status.name} without logging it")
            checkpoint = Checkpoint.parse(answer.log.checkpoint)
            checkpoint.verify_log(directory.federation, self.member, member.audit_keys)
        except (EnvelopeError, SignatureError, WireError, CheckpointError) as error:
            raise ReceiptError(f"the receipt is not {self.member}'s: {error}") from None
        return answer.log, checkpoint, answer.header.request_digest, digest


@dataclass(frozen=True, slots=True)
class Checked:
    """A receipt that the node stands by. `opened` tells whether the entry's content was still there to be compared."""

    position: int
    checkpoint: Checkpoint
    opened: bool


def check_proof(receipt: Receipt, response: GetProofResponse, directory: Directory) -> Checked:
    """Return if the node's proof bears out the receipt.

    Raises:
        LostEntryError: the entry is among those that the node announced to have lost.
        ReceiptError: it does not; the message says what the node cannot show.
    """
    log, then, request_digest, digest = receipt.read(directory)
    member = directory.member(receipt.member)
    try:
        now = Checkpoint.parse(read_note(response.checkpoint))
        now.verify_log(directory.federation, receipt.member, member.audit_keys)
        lost = _lost_since(then, response.announcements, directory, member)
        if lost is not None and log.position >= lost.kept:
            raise LostEntryError(f"{receipt.member} lost entry {log.position} with a part of its log, as it announced: {lost.words}")
        if lost is None or then.size <= lost.kept:
            verify_consistency(then.size, now.size, then.root, now.root, read_proof(response.consistency))
        verify_inclusion(leaf_hash(log.commitment), log.position, now.size, now.root, read_proof(response.inclusion))
    except (CheckpointError, ProofError, WireError) as error:
        raise ReceiptError(f"{receipt.member} cannot show that entry {log.position} is in its log: {error}") from None
    if not response.body:
        return Checked(log.position, now, opened=False)
    try:
        fields = read_body(response.body)
    except AuditDamagedError as error:
        raise ReceiptError(f"entry {log.position} of {receipt.member}: {error}") from None
    if commit(response.salt, response.body) != log.commitment:
        raise ReceiptError(f"entry {log.position} of {receipt.member}: what it shows is not what it committed to in its answer")
    if (fields["request"], fields["answer"]) != (request_digest.hex(), digest.hex()):
        raise ReceiptError(f"entry {log.position} of {receipt.member} speaks of another question or another answer")
    return Checked(log.position, now, opened=True)


def _lost_since(then: Checkpoint, announcements: Sequence[str], directory: Directory, member: Member) -> EpochStart | None:
    """Return the epoch, of those begun since a state was signed, that kept the least of the log; None if none was begun."""
    since = epoch_of(then.origin, directory.federation, member.id) or 1
    starts = [EpochStart.parse(text) for text in announcements[-MAX_EPOCHS_SENT:]]
    for start in starts:
        start.verify(directory.federation, member.id, member.audit_keys)
    return min((start for start in starts if start.epoch > since), key=lambda start: start.kept, default=None)
