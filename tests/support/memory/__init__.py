"""A federation in memory that really signs: for tests that fake the peer, never the crypto.

Members, investigators, the trust directory, credentials and calls are made with true keys and certificates, on a clock that the test
sets. Nothing here listens on a network; `MemoryNode` is one member's real pipeline over a real store in a folder.
"""

from __future__ import annotations

from tests.support.memory.answers import answer_to, sign_answer
from tests.support.memory.clock import SettableClock
from tests.support.memory.members import FEDERATION, MemoryFederation, MemoryInvestigator, MemoryMember
from tests.support.memory.node import ANSWERING, MemoryNode, SettablePolicy
from tests.support.memory.questions import call_of, columns_of

__all__ = [
    "ANSWERING",
    "FEDERATION",
    "MemoryFederation",
    "MemoryInvestigator",
    "MemoryMember",
    "MemoryNode",
    "SettableClock",
    "SettablePolicy",
    "answer_to",
    "call_of",
    "columns_of",
    "sign_answer",
]
