"""A federation over real sockets, and one member's node over a real socket in a federation in memory that really signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.memory import MemoryFederation, MemoryNode
from tests.support.sockets import ServedNode, SocketFederation, serve_node
from vidfed.index import Algorithm, Hash
from vidfed.node.records.record import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator

KNOWN = Hash(Algorithm.SHA256, bytes(range(32)))
KNOWN_NEAR = Hash(Algorithm.PDQ, bytes(range(32)))
UNKNOWN = Hash(Algorithm.SHA256, bytes(32))


@pytest.fixture
async def federation(tmp_path: Path) -> AsyncIterator[SocketFederation]:
    """Two members whose nodes answer honestly over real sockets."""
    async with SocketFederation(tmp_path, "nl", "fr") as made:
        await made.start_honest("nl", "fr")
        yield made


@pytest.fixture
def memory() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr")
    return made


@pytest.fixture
def asker(memory: MemoryFederation) -> MemoryInvestigator:
    return memory.investigator("nl")


@pytest.fixture
def node(memory: MemoryFederation, tmp_path: Path) -> Iterator[MemoryNode]:
    """The node of fr, which knows one picture."""
    with MemoryNode(memory, "fr", tmp_path) as made:
        made.hold(Record({known.algorithm: known.code for known in (KNOWN, KNOWN_NEAR)}))
        yield made


@pytest.fixture
async def served(node: MemoryNode) -> AsyncIterator[ServedNode]:
    async with serve_node(node) as serving:
        yield serving
