"""What the index package raises.

HashError
├── HashTextError      a hash's text is not of its algorithm's form
├── HashInputError     the caller's arrays, labels or limits are not what the index takes
├── DistanceError      a distance the algorithm does not allow, with the reason
├── HashingError       no process can be started that decodes pictures
├── IndexCorruptError  an index file is damaged; rebuild it from the record store
├── IndexLockedError   another process writes this index
├── IndexClosedError   the index was closed, or is read-only and was asked to change
└── IndexStorageError  the disk refused; what was flushed before is intact
"""

from __future__ import annotations


class HashError(Exception):
    """Root of everything this package raises on purpose."""


class HashTextError(HashError, ValueError):
    """A hash's text is not of its algorithm's form."""


class HashInputError(HashError, ValueError):
    """The caller's arrays, labels or limits are not what the index takes."""


class DistanceError(HashError, ValueError):
    """A distance the algorithm does not allow, with the reason."""


class HashingError(HashError):
    """No process can be started that decodes pictures; the message has its last words."""


class IndexCorruptError(HashError):
    """An index file is damaged; rebuild it from the record store."""


class IndexLockedError(HashError):
    """Another process writes this index; only one may."""


class IndexClosedError(HashError):
    """The index was closed, or is read-only and was asked to change."""


class IndexStorageError(HashError):
    """The disk refused (full, read-only, no permission, no such index); what was flushed before is intact."""
