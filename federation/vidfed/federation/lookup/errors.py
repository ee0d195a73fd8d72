"""What the federation package raises.

FederationError
├── QuestionError   what is asked is not complete or not allowed
├── AnswerError     a node's answer does not hold: signature, binding to the question, or content
│   └── ClockError  it is dated so that the node's clock is not the asker's
├── UnreachableError  no connection to a member's node could be made; nothing was sent
├── BusyError       this member's gateway has as many lookups as it takes at once
├── MailboxError       what gateway or kit keep of a lookup cannot be written, read, or is not there
├── GatewayError    the own member's gateway cannot be reached or failed
└── GatewayRefusedError  the own member's gateway refuses this investigator or question
"""

from __future__ import annotations

from vidfed.security.clock import SECOND_MS, as_text


class FederationError(Exception):
    """Root of everything this package raises on purpose."""


class QuestionError(FederationError, ValueError):
    """What is asked is not complete or not allowed."""


class AnswerError(FederationError):
    """A node's answer does not hold: signature, binding to the question, or content."""


class ClockError(AnswerError):
    """A node's answer is dated so that its clock is not the asker's.

    Attributes:
        ahead_ms: by how much at least the node's is ahead; negative where it is behind.
    """

    def __init__(self, answered_ms: int, ahead_ms: int) -> None:
        super().__init__(f"is dated {as_text(answered_ms)}, by a clock that differs by {abs(ahead_ms) // SECOND_MS} s")
        self.ahead_ms = ahead_ms


class UnreachableError(FederationError):
    """No connection to a member's node could be made; nothing was sent."""


class BusyError(FederationError):
    """This member's gateway has as many lookups as it takes at once."""


class MailboxError(FederationError):
    """What gateway or kit keep of a lookup cannot be written or read, or is not there (any more, or for this person)."""


class GatewayError(FederationError):
    """The own member's gateway cannot be reached or failed."""


class GatewayRefusedError(FederationError):
    """The own member's gateway refuses this investigator or this question."""
