"""What a person believes of what the own gateway hands out: only what the signatures, chains and rules allow. Pure.

A gateway can withhold. It cannot add, alter or reorder, nor invent what the other member did: receipts are the other member's.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidfed.casework.carriage.verification import verify
from vidfed.casework.core.clocks import clocks_of
from vidfed.casework.core.conversation import Conversation, Fit
from vidfed.casework.core.rules import check
from vidfed.casework.core.state import Phase, state_of
from vidfed.casework.errors import CaseworkError
from vidfed.security.errors import SecurityError
from vidfed.security.identity.credentials import Credential
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_receipt, read_wrap
from vidfed.wire.casework_values import RECEIPT_TYPE, ReceiptStatus
from vidfed.wire.news import NEWS_TYPE, read_news
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidfed.casework.carriage.verification import Verified
    from vidfed.security.identity.directory import Directory
    from vidfed.v1 import casework_pb2 as pb
    from vidfed.wire.casework_values import EntryHeader, Receipt, Wrap
    from vidfed.wire.news import News

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """An own entry that the other member refused by its signed word, and with which words."""

    header: EntryHeader
    status: ReceiptStatus
    detail: str


@dataclass(slots=True)
class View:
    """One conversation as far as it is proven.

    Attributes:
        conversation: both chains.
        sealed: sealed parts by digest; empty once deleted.
        signed: entries with their signatures and credentials, by digest.
        later_wraps: content keys wrapped after an entry was signed, by digest.
        receipts: when each entry was received by the other side's node, by that member's signed word, by digest.
        refused: own entries that are in no chain.
        drafts: deliveries that wait for another officer's signature.
        problems: what the gateway handed out and could not be believed.
    """

    conversation: Conversation = field(default_factory=Conversation)
    sealed: dict[bytes, bytes] = field(default_factory=dict)
    signed: dict[bytes, pb.Delivery] = field(default_factory=dict)
    later_wraps: dict[bytes, list[Wrap]] = field(default_factory=dict)
    receipts: dict[bytes, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    drafts: list[pb.Delivery] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def pressing(view: View, now_ms: int) -> tuple[bool, int]:
    """Return by what conversations are put in order, the most pressing first."""
    clocks = clocks_of(view.conversation, view.receipts, now_ms)
    running = bool(clocks) and clocks[-1].ended_ms is None
    return not running, (clocks[-1].due_ms or clocks[-1].written_ms) if clocks else 0


def waits_for(view: View, member: str) -> bool:
    """Tell whether a conversation waits for a person of a member: the other side wrote last, or something went wrong."""
    conversation = view.conversation
    if not conversation.asker:
        return False
    own = conversation.owner if conversation.asker[0].header.owner == member else conversation.asker
    other = conversation.asker if own is conversation.owner else conversation.owner
    unanswered = bool(other) and (not own or own[-1].header.seen_number < len(other))
    closed = own is conversation.asker and state_of(conversation).phase is Phase.CLOSED
    return (unanswered and not closed) or bool(view.drafts or view.refused or view.problems)


def read_inbox(kept: Iterable[pb.KeptEntry], directory: Directory, member: str, now_ms: int) -> dict[bytes, View]:
    """Return the conversations that what a gateway kept amounts to, by id.

    Args:
        kept: everything of each conversation, in any order.
        directory: the person's own copy, verified.
        member: the person's.
        now_ms: the time.
    """
    views: dict[bytes, View] = {}
    chains: list[tuple[pb.KeptEntry, Verified]] = []
    voids: list[tuple[pb.KeptEntry, Verified]] = []
    for each in kept:
        try:
            verified = _verified(each, directory, member, now_ms)
        except (CaseworkError, SecurityError, WireError) as error:
            views.setdefault(b"", View()).problems.append(f"an entry that does not hold: {error}")
            continue
        view = views.setdefault(verified.entry.header.conversation, View())
        if each.draft:
            view.drafts.append(each.delivery)
        elif each.void:
            voids.append((each, verified))
        else:
            chains.append((each, verified))
    refused: set[bytes] = set()
    for each, verified in sorted(voids, key=lambda pair: pair[1].entry.header.number):
        _note_refusal(views[verified.entry.header.conversation], each, verified, directory, refused)
    _join(views, chains, directory)
    return views


def read_news_of(kept: Iterable[pb.KeptNews], directory: Directory, member: str, pseudonym: str) -> list[News]:
    """Return the news that owners signed for this person; what does not hold is no news.

    Args:
        kept: as a gateway hands it out.
        directory: the person's own copy, verified.
        member: the person's.
        pseudonym: the person's.
    """
    found = []
    for each in kept:
        try:
            envelope = wire_envelope.from_message(each.news)
            issuer = directory.member(read_news(envelope.payload).issuer)
            news = read_news(envelope.verify(NEWS_TYPE, (*issuer.signing_keys, *issuer.retired_keys)))
        except (SecurityError, WireError) as error:
            _log.warning("news that does not hold: %s", error)
            continue
        if (news.federation, news.issuer, news.audience, news.pseudonym) == (directory.federation, issuer.id, member, pseudonym):
            found.append(news)
    return found


def _join(views: dict[bytes, View], chains: list[tuple[pb.KeptEntry, Verified]], directory: Directory) -> None:
    """Put the entries into their chains, causes first, whatever order they came in."""
    chains.sort(key=lambda pair: pair[1].entry.header.number)
    left, moved = chains, True
    while left and moved:
        moved, waiting = False, []
        for each, verified in left:
            header = verified.entry.header
            view = views[header.conversation]
            if view.conversation.fit(verified.entry) is not Fit.NEXT:
                waiting.append((each, verified))
                continue
            moved = True
            try:
                check(view.conversation, header)
            except CaseworkError as error:
                view.problems.append(f"entry {header.number} of {header.writer} is not allowed: {error}")
                continue
            view.conversation = view.conversation.added(verified.entry)
            _note(view, each, verified, directory)
        left = waiting
    for _, verified in left:
        header = verified.entry.header
        views[header.conversation].problems.append(f"entry {header.number} of {header.writer} does not follow from what is here")


def _note(view: View, each: pb.KeptEntry, verified: Verified, directory: Directory) -> None:
    digest, header = verified.entry.digest, verified.entry.header
    view.sealed[digest] = each.delivery.sealed
    view.signed[digest] = each.delivery
    view.later_wraps[digest] = [read_wrap(wrap) for wrap in each.later_wraps]
    if each.HasField("receipt"):
        try:
            receipt = _receipt(each, verified, directory)
        except (SecurityError, WireError, CaseworkError) as error:
            view.problems.append(f"the receipt of entry {header.number} of {header.writer} does not hold: {error}")
            return
        if receipt.status is ReceiptStatus.TAKEN:
            view.receipts[digest] = receipt.received_ms


def _note_refusal(view: View, each: pb.KeptEntry, verified: Verified, directory: Directory, refused: set[bytes]) -> None:
    """Believe that an entry was refused if the other member's signed word says so, or if it stood behind one of which it does."""
    header = verified.entry.header
    claim = f"the gateway says that {header.receiver} refused entry {header.number}"
    status, detail = ReceiptStatus.REFUSED, "it stood behind one that was refused"
    if each.HasField("receipt"):
        try:
            receipt = _receipt(each, verified, directory)
        except (SecurityError, WireError, CaseworkError) as error:
            view.problems.append(f"{claim}, and cannot show it: {error}")
            return
        status, detail = receipt.status, receipt.detail
        if not status.final:
            view.problems.append(f"{claim}; its receipt says {status.code}")
            return
    elif header.previous not in refused:
        view.problems.append(f"{claim}, and cannot show it")
        return
    refused.add(verified.entry.digest)
    view.refused.append(Refused(header, status, detail))


def _verified(each: pb.KeptEntry, directory: Directory, member: str, now_ms: int) -> Verified:
    """Verify an entry by whichever of the two members wrote it; what the own gateway may still add to a draft it need not have."""
    if each.draft:
        return verify(each.delivery, directory, member, now_ms, history=True, draft=True)
    error: Exception | None = None
    for writer in _writers(each, member, directory):
        try:
            return verify(each.delivery, directory, writer, now_ms, history=True)
        except (CaseworkError, SecurityError) as found:
            error = error or found
    raise error or CaseworkError("it names no member")


def _writers(each: pb.KeptEntry, member: str, directory: Directory) -> list[str]:
    """Return the members whose it may be: those its credentials name, which are verified next."""
    named = [Credential.read(credential.payload).member for credential in each.delivery.credentials[:1]]
    return [name for name in (*named, member) if name in directory.members]


def _receipt(each: pb.KeptEntry, verified: Verified, directory: Directory) -> Receipt:
    header = verified.entry.header
    issuer = directory.member(header.receiver)
    envelope = wire_envelope.from_message(each.receipt)
    receipt = read_receipt(envelope.verify(RECEIPT_TYPE, (*issuer.signing_keys, *issuer.retired_keys)))
    if (receipt.federation, receipt.issuer, receipt.audience, receipt.entry) != (
        directory.federation,
        header.receiver,
        header.writer,
        verified.entry.digest,
    ):
        raise CaseworkError("it is for another entry or member")
    return receipt
