"""Beginning a new epoch of a member's own log, after it was lost or put back. What an epoch is: `epochs`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from vidfed.security.audit.entries import AuditEntry, Event, Operation, seal
from vidfed.security.audit.epochs import EpochStart, is_binding
from vidfed.security.audit.log import AuditLog
from vidfed.security.audit.merkle import read_frontier, tree_root
from vidfed.security.audit.notes import Checkpoint, epoch_of, log_origin
from vidfed.security.audit.storage.tables import Storage
from vidfed.security.audit.verify import verify_log
from vidfed.security.clock import SECOND_MS
from vidfed.security.errors import AuditError, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from vidfed.security.clock import Clock
    from vidfed.security.crypto.keys import PublicKey, Signer

_ALWAYS_MS = (1 << 63) - 1


def begin_epoch(
    location: Path | str,
    signer: Signer,
    known: Iterable[tuple[Checkpoint, int | None]],
    *,
    federation: str,
    member: str,
    reason: str,
    operator: str,
    beside: Path,
    clock: Clock,
) -> EpochStart:
    """Begin a new epoch of the log; nothing of the member may run. All at once: interrupted, the log is as it was.

    Args:
        location: a SQLite file or a `postgresql://` URL; made if there is none, where the whole log was lost.
        signer: the member's audit key.
        known: states of this log that others hold, each with when it was cosigned, in s, and the copy beside it, with None; those that
            the log did not sign are passed over.
        federation: whose log.
        member: whose log.
        reason: one line for the other members, without case data.
        operator: who does this, for the log.
        beside: the file for the copy of the last checkpoint.
        clock: gives the time.

    Raises:
        AuditError: the log that is left does not hold in itself, or continues all that is known of it: then there is nothing to begin.
    """
    keys = (signer.public,)
    with closing(Storage(location, log_origin(federation, member))) as storage:
        left = verify_log(storage, keys)
        if not left.holds:
            raise AuditError(
                f"{storage.name}: what is left of the log does not hold in itself: {left.findings[0]}. Put a whole copy back, "
                "or move it away and begin without any entry"
            )
        start = _start(storage, _signed(known, storage, keys, federation, member), signer, federation, member, reason, clock())
        _write(storage, start, operator)
    with closing(AuditLog(location, log_origin(federation, member), signer, beside=beside, clock=clock)) as log:
        log.checkpoint()
    return start


class _Known(NamedTuple):
    """A state that the log signed: in which epoch, and until when the entries of what is left are its own, in ms."""

    epoch: int
    checkpoint: Checkpoint
    until_ms: int


def _signed(
    known: Iterable[tuple[Checkpoint, int | None]], storage: Storage, keys: Sequence[PublicKey], federation: str, member: str
) -> list[_Known]:
    """Return what the log signed, its own last state first."""
    own = storage.latest_checkpoint()
    found = []
    for checkpoint, cosigned_s in [*([(Checkpoint.parse(own[1]), None)] if own else []), *known]:
        try:
            checkpoint.verify_log(federation, member, keys)
        except CheckpointError:
            continue
        until_ms = cosigned_s * SECOND_MS if cosigned_s is not None else _ALWAYS_MS
        found.append(_Known(epoch_of(checkpoint.origin, federation, member) or 1, checkpoint, until_ms))
    return found


def _start(
    storage: Storage,
    known: Sequence[_Known],
    signer: Signer,
    federation: str,
    member: str,
    reason: str,
    now_ms: int,
) -> EpochStart:
    starts = [EpochStart.parse(text) for text in storage.epochs()]
    present = epoch_of(storage.about[1], federation, member) or 1
    size = storage.size()
    agreed, contradicted, of = [0], [], 0
    for each in known:
        if each.checkpoint.size <= size and tree_root(storage.read_hashes, each.checkpoint.size) == each.checkpoint.root:
            agreed.append(each.checkpoint.size)
            of = max(of, each.epoch if each.epoch > present else 0)  # of an epoch that this copy does not know
        elif each.epoch > present or is_binding(each.checkpoint, each.epoch, starts):
            contradicted.append(each)
            of = max(of, each.epoch)
    if not of:
        raise AuditError(
            f"{storage.name}: the log continues every state that is known of it ({max(agreed)} of its {size} entries): "
            "nothing is to be begun"
        )
    # Not more than what surely is the predecessor's: nothing that an epoch begun since has added, nothing dated after a contradicting state
    # was cosigned, because that was written after the loss and before it was noticed; and nothing that such a state contradicts.
    kept = min(
        [size, *(start.kept for start in starts if start.epoch > of), *(storage.first_after(each.until_ms) for each in contradicted)]
    )
    for each in contradicted:
        if each.checkpoint.size <= kept:
            kept = max(below for below in agreed if below < each.checkpoint.size)
    predecessor = max((checkpoint for epoch, checkpoint, _ in known if epoch == of), key=lambda each: each.size)
    return EpochStart(
        federation,
        member,
        max(present, *(each.epoch for each in known)) + 1,
        now_ms,
        reason,
        kept,
        tree_root(storage.read_hashes, kept),
        predecessor,
    ).signed_by(signer)


def _write(storage: Storage, start: EpochStart, operator: str) -> None:
    """Give the log its new name, the announcement, and an entry that says so."""
    details: dict[str, int | str] = {"operator": operator, "reason": start.reason, "epoch": start.epoch, "kept": start.kept}
    details |= {"predecessor_size": start.predecessor.size, "predecessor_root": start.predecessor.root.hex()}
    entry = seal(AuditEntry(start.began_ms, Operation.ALTERATION, Event.LOG_EPOCH_BEGUN, start.member, details=details))
    with storage.writing() as transaction:
        edge = read_frontier(storage.read_hashes, storage.size())
        transaction.insert("entries", [(edge.size, *entry)])
        transaction.insert("hashes", list(edge.append(entry.leaf_hash)))
        transaction.insert("epochs", [(start.epoch, start.began_ms, start.text)])
        transaction.execute("UPDATE about SET origin = ?", (log_origin(start.federation, start.member, start.epoch),))
