"""The federation layer: one question to every node, verified answers, honest outcomes.

What other programs use stands here; docs/library.md is the guide. Everything is loaded when it is first used, so that importing this
package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidfed.casework.client import CaseworkClient
    from vidfed.casework.errors import CaseworkError
    from vidfed.federation.client.blocking import BlockingFederationClient
    from vidfed.federation.client.blocking_casework import BlockingCaseworkClient, BlockingStandingClient
    from vidfed.federation.client.client import FederationClient, LookupStatus
    from vidfed.federation.client.standing import StandingClient
    from vidfed.federation.client.told import ToldHit, find_hit
    from vidfed.federation.direct import open_direct
    from vidfed.federation.lookup.agreement import Conflict, SharedSeries
    from vidfed.federation.lookup.closing import Closing, Limit, Verdict
    from vidfed.federation.lookup.errors import FederationError, GatewayError, GatewayRefusedError, MailboxError, QuestionError
    from vidfed.federation.lookup.evidence import Evidence
    from vidfed.federation.lookup.items import items_of_hashes, items_of_pictures
    from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome
    from vidfed.federation.lookup.question import Item, Justification
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.federation.output.cases import cases_schema
    from vidfed.federation.output.json import schema as result_schema
    from vidfed.federation.output.json import to_document
    from vidfed.index import Algorithm
    from vidfed.security.member.kit import Kit
    from vidfed.wire.values import Purpose, RecordView, Ternary, Urgency

__all__ = [
    "Algorithm",
    "BlockingCaseworkClient",
    "BlockingFederationClient",
    "BlockingStandingClient",
    "CaseworkClient",
    "CaseworkError",
    "Closing",
    "Conflict",
    "Evidence",
    "FederationClient",
    "FederationError",
    "FoundHit",
    "FoundMatch",
    "GatewayError",
    "GatewayRefusedError",
    "Item",
    "Justification",
    "Kit",
    "Limit",
    "LookupResult",
    "LookupStatus",
    "MailboxError",
    "NodeOutcome",
    "Outcome",
    "Purpose",
    "QuestionError",
    "RecordView",
    "SharedSeries",
    "StandingClient",
    "Ternary",
    "ToldHit",
    "Urgency",
    "Verdict",
    "cases_schema",
    "find_hit",
    "items_of_hashes",
    "items_of_pictures",
    "open_direct",
    "result_schema",
    "to_document",
]

_HOMES = {
    "vidfed.federation.lookup.agreement": ("Conflict", "SharedSeries"),
    "vidfed.federation.lookup.closing": ("Closing", "Limit", "Verdict"),
    "vidfed.federation.lookup.evidence": ("Evidence",),
    "vidfed.casework.client": ("CaseworkClient",),
    "vidfed.casework.errors": ("CaseworkError",),
    "vidfed.federation.client.blocking": ("BlockingFederationClient",),
    "vidfed.federation.client.blocking_casework": ("BlockingCaseworkClient", "BlockingStandingClient"),
    "vidfed.federation.client.standing": ("StandingClient",),
    "vidfed.federation.client.told": ("ToldHit", "find_hit"),
    "vidfed.federation.client.client": ("FederationClient", "LookupStatus"),
    "vidfed.federation.direct": ("open_direct",),
    "vidfed.federation.lookup.errors": ("FederationError", "GatewayError", "GatewayRefusedError", "MailboxError", "QuestionError"),
    "vidfed.federation.lookup.items": ("items_of_hashes", "items_of_pictures"),
    "vidfed.federation.lookup.outcome": ("FoundHit", "FoundMatch", "NodeOutcome", "Outcome"),
    "vidfed.federation.lookup.question": ("Item", "Justification"),
    "vidfed.federation.lookup.result": ("LookupResult",),
    "vidfed.federation.output.cases": ("cases_schema",),
    "vidfed.federation.output.json": ("to_document",),
    "vidfed.index": ("Algorithm",),
    "vidfed.security.member.kit": ("Kit",),
    "vidfed.wire.values": ("Purpose", "RecordView", "Ternary", "Urgency"),
}
_PLACES = {name: (module, name) for module, names in _HOMES.items() for name in names}
_PLACES["result_schema"] = ("vidfed.federation.output.json", "schema")


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
