"""What the casework package raises.

CaseworkError
├── NotAllowedError      an entry may not stand where it stands, by the protocol's rules
├── MovedOnError         the conversation has moved on since the author looked: look again, sign again
├── RefusedError         an entry or receipt is not signed by whom it says, or not of the stated form
├── LaterError           an entry cannot be taken now; the same entry may be later
├── UnknownHitError      no such hit was told, or it may not be told any more
├── SealError            a sealed part cannot be opened, or is not what was signed
├── GatewayFailedError   the own gateway cannot be reached, or refuses
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


class RefusedError(CaseworkError):
    """An entry or receipt is not signed by whom it says, or not of the stated form."""


class LaterError(CaseworkError):
    """An entry cannot be taken now; the same entry may be later."""


class UnknownHitError(CaseworkError):
    """No such hit was told, or it may not be told any more."""


class SealError(CaseworkError):
    """A sealed part cannot be opened, or is not what was signed."""


class GatewayFailedError(CaseworkError):
    """The own gateway cannot be reached, or refuses."""


class ConversationError(CaseworkError):
    """There is no such conversation, or not for this caller."""


class CaseworkStoreError(CaseworkError):
    """The store cannot be read or written."""
