"""What following a source can end with.

SourceError              a source cannot be used; nothing was changed
├── SourceSettingsError  its settings make no sense
├── SourceReadError      it cannot be reached or read now
├── SuspiciousError      it lost so much at once that a person must decide
└── SourceBusyError      another run of it goes on
"""

from __future__ import annotations

from vidfed.node.errors import NodeError


class SourceError(NodeError):
    """A source cannot be used; nothing was changed."""


class SourceSettingsError(SourceError):
    """A source's settings make no sense; the message names section and setting."""


class SourceReadError(SourceError):
    """A source cannot be reached or read now."""


class SuspiciousError(SourceError):
    """A source lost so much at once that a person must decide whether that is right."""


class SourceBusyError(SourceError):
    """Another run of the same source goes on."""
