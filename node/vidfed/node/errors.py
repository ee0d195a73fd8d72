"""What the node package raises.

NodeError
├── StoreError         the record store cannot be opened, read or written
├── ImportFileError    a file to import is not what it should be
├── PolicyError        the policy file is not what it should be
├── RateLimitedError   a member's budget is spent
├── QuotasError       it cannot be known what was spent
├── ScaleError         a table of category scales is not what it should be (in scales)
├── IndexBehindError   the index does not equal the store yet
└── IndexBrokenError   the index cannot be used at all
"""

from __future__ import annotations


class NodeError(Exception):
    """Root of everything this package raises on purpose."""


class StoreError(NodeError):
    """The record store cannot be opened, read or written."""


class JournalBusyError(StoreError):
    """Something was erased, and stays in the store's journal while another program reads."""


class ImportFileError(NodeError):
    """A file to import is not what it should be."""


class MostlyKnownGoodError(ImportFileError):
    """More than half of a file is known good: one of the two is likely the wrong file."""


class PolicyError(NodeError):
    """The policy file is not what it should be; it changes nothing."""


class RateLimitedError(NodeError):
    """A member's budget is spent. The message may be told to whoever asks."""


class QuotasError(NodeError):
    """It cannot be known what was spent of a budget; nothing may be answered."""


class IndexBehindError(NodeError):
    """The index does not equal the store yet; nothing can be said about what is not found."""


class IndexBrokenError(NodeError):
    """The index cannot be used at all; nothing can be said about what is not found."""
