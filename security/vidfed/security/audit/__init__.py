"""The audit log: what was asked, answered and changed, in a Merkle tree whose checkpoints are signed and witnessed by others."""

from vidfed.security.audit.entries import AuditEntry, Event, Operation, SealedEntry
from vidfed.security.audit.log import AuditLog, LogPosition
from vidfed.security.audit.notes import Checkpoint, log_origin, witness_name

__all__ = [
    "AuditEntry",
    "AuditLog",
    "Checkpoint",
    "Event",
    "LogPosition",
    "Operation",
    "SealedEntry",
    "log_origin",
    "witness_name",
]
