"""What the casework package raises.

CaseworkError
├── NotAllowedError      an entry may not stand where it stands, by the protocol's rules
├── MovedOnError         the conversation has moved on since the author looked: look again, sign again
├── SealError            a sealed part cannot be opened, or is not what was signed
├── ConversationError    there is no such conversation, or not for this caller
└── CaseworkStoreError   the store cannot be read or written
"""

from __future__ import annotations


class CaseworkError(Exception):
    """Root of everything this package raises on purpose."""


class NotAllowedError(CaseworkError):
    """An entry may not stand where it stands, by the protocol's rules."""


class MovedOnError(CaseworkError):
    """The conversation has moved on since the author looked."""


class SealError(CaseworkError):
    """A sealed part cannot be opened, or is not what was signed."""


class ConversationError(CaseworkError):
    """There is no such conversation, or not for this caller."""


class CaseworkStoreError(CaseworkError):
    """The store cannot be read or written."""
