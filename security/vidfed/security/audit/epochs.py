"""Epochs of a log: how an honest member goes on after its log was lost or put back from a backup, and how others see that it did.

What was signed and is gone cannot be proven any more, so a log that was put back contradicts what others hold of it, and looks like a fork.
Its way back is to say so: a new epoch is a log of its own name, which keeps the entries that are left and announces, signed, why it
begins, how many entries it keeps, and the last state of its predecessor that anybody is known to hold. Witnesses take it as a new log if
the predecessor it names is not older than what they cosigned; entries that it says it keeps must still be those they cosigned. An epoch is
never taken back, and whoever begins one is seen to have lost entries by all others for good.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfed.security.audit.merkle import HASH_BYTES
from vidfed.security.audit.notes import MAX_EPOCH, Checkpoint, epoch_of
from vidfed.security.clock import as_text
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.documents import check_line, read_document
from vidfed.security.errors import CheckpointError, EnvelopeError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vidfed.security.crypto.keys import PublicKey, Signer

EPOCH_TYPE = "application/vnd.vidfed.audit-epoch.v1+json"
MAX_REASON_CHARS = 200
MAX_EPOCH_BYTES = 200 * 1024  # of one announcement: the note in it takes up to 64 KiB, twice in base64
MAX_EPOCHS_SENT = 8  # announcements that travel with a checkpoint, the newest: a log is not lost every week
_WHAT = "announcement of an epoch"
_FORM = {
    "federation": str,
    "member": str,
    "epoch": int,
    "began_ms": int,
    "reason": str,
    "kept": int,
    "kept_root": str,
    "predecessor": str,
}


@dataclass(frozen=True, slots=True)
class EpochStart:
    """The announcement of a new epoch.

    Attributes:
        federation, member: whose log.
        epoch: its number; the first log is 1 and is not announced.
        began_ms: when, in ms since the epoch of the clock.
        reason: one line for people, at most MAX_REASON_CHARS.
        kept: how many entries of the predecessor are left; they are the new log's first.
        kept_root: the root over them, 32 bytes.
        predecessor: the last state of the predecessor that anybody is known to hold, as its log signed it.
        envelope: what was signed.
    """

    federation: str
    member: str
    epoch: int
    began_ms: int
    reason: str
    kept: int
    kept_root: bytes
    predecessor: Checkpoint
    envelope: Envelope | None = None

    def signed_by(self, signer: Signer) -> EpochStart:
        """Return it with its envelope, signed with the audit key.

        Raises:
            CheckpointError: the reason is no line of text.
        """
        check_line(self.reason, MAX_REASON_CHARS, CheckpointError, "reason")
        fields = {
            "federation": self.federation,
            "member": self.member,
            "epoch": self.epoch,
            "began_ms": self.began_ms,
            "reason": self.reason,
            "kept": self.kept,
            "kept_root": self.kept_root.hex(),
            "predecessor": self.predecessor.text,
        }
        made = Envelope(EPOCH_TYPE, json.dumps(fields, sort_keys=True).encode()).signed_by(signer)
        return replace(self, envelope=made)

    @property
    def text(self) -> str:
        """The signed announcement, as it is kept and sent."""
        if self.envelope is None:
            raise CheckpointError("an announcement that nobody signed")
        return self.envelope.to_json().decode()

    @property
    def lost(self) -> int:
        """How many entries somebody is known to hold a state of, and which the log no longer has."""
        return max(0, self.predecessor.size - self.kept)

    def names(self, size: int, epoch: int) -> bool:
        """Tell whether the state it names as its predecessor's last is not older than this one, signed in an epoch before it."""
        named = epoch_of(self.predecessor.origin, self.federation, self.member) or 1
        return named > epoch or (named == epoch and self.predecessor.size >= size)

    @property
    def words(self) -> str:
        """What it says, in a sentence."""
        held = f"the last state known of the one before had {self.predecessor.size} entries, {self.kept} of them are kept"
        return f"epoch {self.epoch} began {as_text(self.began_ms)}: {self.reason}; {held}{f', {self.lost} are lost' if self.lost else ''}"

    @classmethod
    def parse(cls, text: str) -> EpochStart:
        """Read an announcement; it is not verified by that.

        Raises:
            CheckpointError: not of this form.
        """
        if len(text) > MAX_EPOCH_BYTES:
            raise CheckpointError(f"the announcement of an epoch has more than {MAX_EPOCH_BYTES} characters")
        try:
            envelope = Envelope.from_json(text.encode())
            fields = read_document(envelope.payload, _FORM, CheckpointError, _WHAT)
            fields["kept_root"] = bytes.fromhex(fields["kept_root"])
        except (EnvelopeError, ValueError) as error:
            raise CheckpointError(f"{_WHAT}: {error}") from None
        fields["predecessor"] = Checkpoint.parse(fields["predecessor"])
        found = cls(**fields, envelope=envelope)
        check_line(found.reason, MAX_REASON_CHARS, CheckpointError, f"{_WHAT}: reason")
        before = epoch_of(found.predecessor.origin, found.federation, found.member)
        if before is None or not before < found.epoch <= MAX_EPOCH or found.kept < 0 or len(found.kept_root) != HASH_BYTES:
            raise CheckpointError(f"{_WHAT}: it does not come after its predecessor")
        return found

    def verify(self, federation: str, member: str, keys: Sequence[PublicKey]) -> None:
        """Return if a member's log announced this, and signed the state that it names as its predecessor's last.

        Raises:
            CheckpointError: it did not.
        """
        try:
            if self.envelope is None or (self.federation, self.member) != (federation, member):
                raise CheckpointError(f"{_WHAT}: of another log")
            self.envelope.verify(EPOCH_TYPE, keys)
        except (EnvelopeError, SignatureError) as error:
            raise CheckpointError(f"{_WHAT}: {error}") from None
        self.predecessor.verify_log(federation, member, keys)


def is_binding(checkpoint: Checkpoint, epoch: int, starts: Iterable[EpochStart]) -> bool:
    """Tell whether a log that has begun these epochs must still continue this state, signed in `epoch`.

    It must, but for entries of which a later epoch announced the loss: a state beyond the last one that the announcement names was not
    announced.
    """
    return not any(start.epoch > epoch and start.kept < checkpoint.size and start.names(checkpoint.size, epoch) for start in starts)
