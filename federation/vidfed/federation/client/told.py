"""Which hit a reference was told in: found again in the signed answers that the kit keeps."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.federation.client.receipt_store import RECEIPTS_FILE, ReceiptStore
from vidfed.federation.lookup.errors import MailboxError
from vidfed.wire.answers import read_answer_with_digest
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from vidfed.security.member.kit import Kit


@dataclass(frozen=True, slots=True)
class ToldHit:
    """One record as an answer told it.

    Attributes:
        member: whose record.
        lookup_digest, answer_digest: 32 bytes each.
        basis: `same-digest` if a digest agreed, else `hash-distance-only`.
    """

    member: str
    lookup_digest: bytes
    answer_digest: bytes
    basis: str


def find_hit(kit: Kit, reference: str, member: str | None = None) -> ToldHit:
    """Return a hit of a reference among the answers that a kit keeps: the newest in which a digest agreed, else the newest.

    Raises:
        MailboxError: no answer told of it, or more than one member did and none is named.
    """
    found: dict[str, ToldHit] = {}
    with contextlib.closing(ReceiptStore(kit.folder / RECEIPTS_FILE)) as receipts:
        for receipt in receipts.all():
            if member not in {None, receipt.member}:
                continue
            try:
                answer, digest = read_answer_with_digest(receipt.answer.payload)
            except WireError:
                continue
            for position, record in enumerate(answer.records):
                if record.reference == reference:
                    exact = any(match.algorithm.is_digest for hit in answer.hits if hit.record == position for match in hit.matches)
                    basis = "same-digest" if exact else "hash-distance-only"
                    if not exact and receipt.member in found and found[receipt.member].basis == "same-digest":
                        continue
                    found[receipt.member] = ToldHit(receipt.member, answer.header.request_digest, digest, basis)
    if not found:
        raise MailboxError(f"no answer kept in {kit.folder} tells of {reference!r:.80}; look up again, then ask")
    if len(found) > 1:
        raise MailboxError(f"{reference} was told by {', '.join(sorted(found))}: name one with --member")
    return next(iter(found.values()))
