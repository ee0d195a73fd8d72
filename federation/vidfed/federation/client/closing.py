"""What else ends when a person closes the last conversation of a case: its standing lookups, at the gateway and at every node."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.casework.core.state import Phase, state_of
from vidfed.casework.writing import hit_of
from vidfed.federation.client.receipt_store import RECEIPTS_FILE, ReceiptStore
from vidfed.federation.client.standing import StandingClient
from vidfed.security.clock import system_clock
from vidfed.wire.answers import read_answer_with_digest
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from vidfed.casework.client import CaseworkClient
    from vidfed.casework.reading import View
    from vidfed.security.clock import Clock
    from vidfed.security.member.kit import Kit

_OVER = frozenset({Phase.CLOSED, Phase.WITHDRAWN, Phase.REFUSED})


@dataclass(frozen=True, slots=True)
class EndedWatches:
    """What became of the standing lookups of a case, one of whose conversations was closed.

    Attributes:
        case_reference: the case; empty where this kit does not know it, because another one looked up what the conversation is about.
        watches: ids of the standing lookups that ended.
        still_open: other conversations of the case that go on; then its standing lookups do too.
    """

    case_reference: str
    watches: tuple[str, ...] = ()
    still_open: int = 0


async def end_watches_of(kit: Kit, client: CaseworkClient, closed: View, clock: Clock = system_clock) -> EndedWatches:
    """End the standing lookups of the case of a conversation that was just closed, if it was the last one of that case.

    Args:
        kit: the person's.
        client: the person's conversations.
        closed: the conversation.
        clock: gives the time.

    Raises:
        GatewayFailedError: the conversations cannot be seen.
        GatewayError, GatewayRefusedError, SecurityError: the gateway did not end them; `vidfed watch stop --case` does it again.
        MailboxError: the kit's receipts cannot be read.
    """
    subject = hit_of(closed.conversation).subject
    views = [view for view in (await client.conversations()).values() if view.conversation.asker]
    cases = await asyncio.to_thread(_cases_of, kit, {hit_of(view.conversation).subject.answer_digest for view in views})
    case = cases.get(subject.answer_digest, "")
    if not case:
        return EndedWatches("")
    still_open = 0
    for view in views:
        hit = hit_of(view.conversation)
        other = hit.subject != subject and cases.get(hit.subject.answer_digest) == case
        still_open += other and state_of(view.conversation).phase not in _OVER
    if still_open:
        return EndedWatches(case, still_open=still_open)
    async with StandingClient(kit, clock) as standing:
        return EndedWatches(case, tuple(await standing.stop_case(case)))


def _cases_of(kit: Kit, answers: set[bytes]) -> dict[bytes, str]:
    """Return for which case a kit asked what these answers, by their digests, answer."""
    found: dict[bytes, str] = {}
    with contextlib.closing(ReceiptStore(kit.folder / RECEIPTS_FILE)) as receipts:
        for receipt in receipts.all():
            with contextlib.suppress(WireError):
                _, digest = read_answer_with_digest(receipt.answer.payload)
                if digest in answers:
                    found[digest] = receipt.case_reference
    return found
