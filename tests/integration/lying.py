"""Asking through a gateway, for the tests of peers that lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.patience import DEADLINE_S
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.question import Item, Justification, split
from vidfed.index import Algorithm
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.security.member.kit import Kit

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
(PART,) = split([Item("photo.jpg", {Algorithm.SHA256: (bytes(32),), Algorithm.PDQ: (bytes(32),)})], {})


async def look_up(
    kit: Kit, *ask: str, deadline_s: float = DEADLINE_S, on_node: Callable[[NodeOutcome], None] = lambda _: None
) -> LookupResult:
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        return await client.lookup(PART, WHY, ask=ask, deadline_s=deadline_s, on_node=on_node)


def outcomes(result: LookupResult) -> dict[str, Outcome]:
    return {node.member: node.outcome for node in result.nodes}
