"""What the wire package raises, and the one table of statuses.

WireError
├── MalformedError    a message is not of its stated form; the sender is at fault
│   └── TooLargeError a message holds more than one message may
├── VersionError      a message of a version, or with fields, that this program does not know
├── SequenceError     a chunk or an answer is not the next of its stream
└── ServeError        a service cannot listen where it is told to
"""

from __future__ import annotations

from enum import Enum, unique

from vidfed.v1 import lookup_pb2 as pb


class WireError(Exception):
    """Root of everything this package raises on purpose."""


class MalformedError(WireError):
    """A message is not of its stated form; the sender is at fault."""


class TooLargeError(MalformedError):
    """A message holds more than one message may."""


class VersionError(WireError):
    """A message of a version, or with fields, that this program does not know."""


class SequenceError(WireError):
    """A chunk or an answer is not the next of its stream: dropped, repeated, reordered, of another stream, or the stream was cut."""


class ServeError(WireError):
    """A service cannot listen where it is told to."""


@unique
class Status(Enum):
    """How a node disposed of a question: answered, or refused for a stable reason. The value is the number on the wire."""

    ANSWERED = pb.STATUS_ANSWERED
    MALFORMED = pb.STATUS_MALFORMED
    VERSION_UNSUPPORTED = pb.STATUS_VERSION_UNSUPPORTED
    BAD_SIGNATURE = pb.STATUS_BAD_SIGNATURE
    BAD_CREDENTIAL = pb.STATUS_BAD_CREDENTIAL
    WRONG_FEDERATION = pb.STATUS_WRONG_FEDERATION
    WRONG_AUDIENCE = pb.STATUS_WRONG_AUDIENCE
    WRONG_METHOD = pb.STATUS_WRONG_METHOD
    OUTSIDE_TIME_WINDOW = pb.STATUS_OUTSIDE_TIME_WINDOW
    REPLAYED = pb.STATUS_REPLAYED
    JUSTIFICATION_MISSING = pb.STATUS_JUSTIFICATION_MISSING
    NOT_PERMITTED = pb.STATUS_NOT_PERMITTED
    TOO_LARGE = pb.STATUS_TOO_LARGE
    RATE_LIMITED = pb.STATUS_RATE_LIMITED
    STALE_INDEX = pb.STATUS_STALE_INDEX
    INDEX_UNAVAILABLE = pb.STATUS_INDEX_UNAVAILABLE
    AUDIT_UNAVAILABLE = pb.STATUS_AUDIT_UNAVAILABLE
    DIRECTORY_UNAVAILABLE = pb.STATUS_DIRECTORY_UNAVAILABLE
    INTERNAL_ERROR = pb.STATUS_INTERNAL_ERROR
    BUSY = pb.STATUS_BUSY
    OUT_OF_SEQUENCE = pb.STATUS_OUT_OF_SEQUENCE
    RECORDS_TOO_OLD = pb.STATUS_RECORDS_TOO_OLD
    NOT_YET = pb.STATUS_NOT_YET

    @property
    def advice(self) -> str:
        """What the person who asked can do about it; empty when there is nothing to do."""
        return _ADVICE.get(self, "")


_ADVICE = {
    Status.MALFORMED: "the two programs disagree; compare their versions",
    Status.VERSION_UNSUPPORTED: "one of the two programs is too old; compare their versions",
    Status.BAD_SIGNATURE: "the node does not accept the signatures; does it hold the same trust directory?",
    Status.BAD_CREDENTIAL: "ask your unit for a new kit",
    Status.WRONG_FEDERATION: "the node belongs to another federation; check the trust directory",
    Status.WRONG_AUDIENCE: "the question was not addressed to this node; check the trust directory",
    Status.WRONG_METHOD: "the two programs disagree; compare their versions",
    Status.OUTSIDE_TIME_WINDOW: "it came too late, or one of the two clocks is wrong: compare both with the correct time",
    Status.REPLAYED: "ask again: every lookup must be new",
    Status.JUSTIFICATION_MISSING: "give purpose, legal basis, offence type and case reference",
    Status.NOT_PERMITTED: "the member's policy does not allow this; contact the member",
    Status.TOO_LARGE: "ask for fewer hashes at once",
    Status.RATE_LIMITED: "try again later",
    Status.STALE_INDEX: "the node is catching up with its records; try again in some minutes",
    Status.INDEX_UNAVAILABLE: "the node cannot search right now; try again later or contact the member",
    Status.AUDIT_UNAVAILABLE: "the node cannot log and therefore does not answer; contact the member",
    Status.DIRECTORY_UNAVAILABLE: "the node has no valid trust directory; contact the member",
    Status.INTERNAL_ERROR: "contact the member",
    Status.BUSY: "the node is busy; try again in some seconds",
    Status.RECORDS_TOO_OLD: "the member's records were not brought up to date for too long; contact the member",
    Status.NOT_YET: "the node answers again from the time it says; contact the member if that is far off",
    Status.OUT_OF_SEQUENCE: "part of a stream was lost on the way; ask again about what was not answered",
}
