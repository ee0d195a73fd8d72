"""One member's node in a federation in memory that really signs: what the tests of attacks on its pipeline share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.memory import MemoryFederation, MemoryNode
from vidfed.index import Algorithm, Hash
from vidfed.node.records.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator

KNOWN = Hash(Algorithm.SHA256, bytes(range(32)))
UNKNOWN = Hash(Algorithm.SHA256, bytes(32))


@pytest.fixture
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr", "br")
    return made


@pytest.fixture
def asker(federation: MemoryFederation) -> MemoryInvestigator:
    return federation.investigator("nl")


@pytest.fixture
def node(federation: MemoryFederation, tmp_path: Path) -> Iterator[MemoryNode]:
    """The node of fr, which knows one picture."""
    with MemoryNode(federation, "fr", tmp_path) as made:
        made.hold(Record({KNOWN.algorithm: KNOWN.code}, series="S"))
        yield made
