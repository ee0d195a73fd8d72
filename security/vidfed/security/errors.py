"""What the security package raises.

SecurityError
├── KeyFileError          a key file is missing, damaged, or readable by others
├── EnvelopeError         an envelope is not well formed
├── SignatureError        no signature of the keys asked for holds
├── DirectoryError        the trust directory cannot be used
│   ├── DirectoryExpiredError
│   └── UnknownMemberError
├── CredentialError       an investigator's credential does not hold
├── TimeWindowError       a message is too old, or from a clock that is ahead
├── ReplayError           a message was seen before
│   └── ReplayMemoryError it cannot be known whether it was: the memory is full, or cannot be read or written
│       └── ForgottenError    the memory does not reach back so far: nothing is accepted until a moment that it names
├── PeerError             a TLS peer is not the member it says, by that member's own CA
├── HomeError             a member's folder or an investigator's kit is incomplete or wrong
└── AuditError            the audit log cannot be written or read
    ├── NoLogError            there is no log yet
    ├── AuditDamagedError     the log is not what its own checkpoints say
    ├── CheckpointError       a checkpoint is malformed or not signed by whom it should be
    ├── ProofError            a proof does not show what it should
    ├── ReceiptError          a receipt does not hold, or the node cannot stand by it
    └── OversightError        nobody may read the log with this credential
"""

from __future__ import annotations


class SecurityError(Exception):
    """Root of everything this package raises on purpose."""


class KeyFileError(SecurityError):
    """A key file is missing, damaged, or readable by others."""


class EnvelopeError(SecurityError):
    """An envelope is not well formed."""


class SealedFileError(SecurityError):
    """A sealed file is damaged, cut off, or for another key."""


class SignatureError(SecurityError):
    """No signature of the keys asked for holds."""


class DirectoryError(SecurityError):
    """The trust directory cannot be used."""


class DirectoryExpiredError(DirectoryError):
    """The trust directory is past its expiry."""


class UnknownMemberError(DirectoryError):
    """The trust directory lists no such member."""


class CredentialError(SecurityError):
    """An investigator's credential does not hold."""


class TimeWindowError(SecurityError):
    """A message is too old, or from a clock that is ahead."""


class ReplayError(SecurityError):
    """A message was seen before."""


class ReplayMemoryError(ReplayError):
    """It cannot be known whether a message was seen before: the memory is full, or cannot be read or written."""


class ForgottenError(ReplayMemoryError):
    """The memory does not reach back so far: the machine was restarted, or its clock was ahead. `until_ms` is when it does."""

    def __init__(self, until_ms: int, said: str) -> None:
        super().__init__(said)
        self.until_ms = until_ms


class PeerError(SecurityError):
    """A TLS peer is not the member it says, judged by that member's own CA."""


class HomeError(SecurityError):
    """A member's folder or an investigator's kit is incomplete or wrong."""


class EnrolmentError(SecurityError):
    """Keys are not certified, or what came back is not what was asked for."""


class AuditError(SecurityError):
    """The audit log cannot be written or read."""


class NoLogError(AuditError):
    """There is no log yet."""

    def __init__(self, place: str) -> None:
        super().__init__(f"{place}: there is no log yet; it begins with the first import, lookup or answer")


class AuditDamagedError(AuditError):
    """The log is not what its own checkpoints say: edited, truncated or replaced by an older copy."""


class CheckpointError(AuditError):
    """A checkpoint is malformed or not signed by whom it should be."""


class ProofError(AuditError):
    """A proof does not show what it should."""


class ReceiptError(AuditError):
    """A receipt does not hold, or the node cannot stand by it."""


class OversightError(AuditError):
    """Nobody may read the log with this credential."""
