"""What is asked and answered, as frozen values. Numbers in enums are those on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, unique
from typing import TYPE_CHECKING, NamedTuple

from vidfed.index import Algorithm
from vidfed.index.codes import WHOLE
from vidfed.v1 import gateway_pb2
from vidfed.v1 import lookup_pb2 as pb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidfed.wire.statuses import Status

MESSAGE_ID_BYTES = 16
DIGEST_BYTES = 32
MAX_ITEMS = 1_000  # in one lookup: so many records of hits fit into one answer
MAX_WORK = 16_384  # in one lookup, as `work_of` counts it: 0.2 s of one core at a million records, 0.6 MiB of codes
MAX_CODES_OF_ITEM = 640  # of one algorithm, but for the frames of films: a file's eight orientations in 16 views and 64 further frames
MAX_STRETCHES = 32  # of one hit of a film
MAX_MESSAGE_BYTES = 1024 * 1024  # in one envelope; a full lookup of PhotoDNA codes takes 150 KiB
MAX_AUDIENCE = 256
STREAM_ID_BYTES = 16
MAX_UNANSWERED_CHUNKS = (
    4  # of one stream, at either end: 4 MiB at most, enough to keep both ends busy; a longer wait could outlast signatures
)
GATEWAY_GRACE_S = 2.0  # how much longer a gateway gets than the nodes, to say which of them did not answer
DRAIN_S = 10.0  # how long running calls may take when a service is told to stop
RECORD_BANDS = (0, *(10**power for power in range(3, 12)))  # what an answer says of the number of records: at least so many
MAX_TEXT = 500  # characters of any one text in a message

LOOKUP_METHOD = "vidfed.v1.NodeService/Lookup"
STREAM_METHOD = "vidfed.v1.NodeService/LookupStream"
STANDING_METHOD = "vidfed.v1.NodeService/Standing"  # carried by Lookup, with a mandate
EPOCH_BYTES = 120  # of an epoch, which is sealed
REQUEST_TYPE = "application/vnd.vidfed.lookup-request.v1+protobuf"
ANSWER_TYPE = "application/vnd.vidfed.lookup-answer.v1+protobuf"


class Coded(Enum):
    """An enum whose members have a lower-case name for files and the command line."""

    @property
    def code(self) -> str:
        """The name with hyphens, as in `self-test`."""
        return self.name.lower().replace("_", "-")


def work_of(algorithm: Algorithm) -> int:
    """Return what one code of an algorithm takes of `MAX_WORK`: PDQ, digests and 64-bit hashes 1, PhotoDNA 16 (docs/adr/0070)."""
    return 16 if algorithm is Algorithm.PHOTODNA else 1


@unique
class Purpose(Coded):
    """Why a question is asked."""

    IDENTIFICATION = pb.PURPOSE_IDENTIFICATION
    INVESTIGATION = pb.PURPOSE_INVESTIGATION
    PROSECUTION = pb.PURPOSE_PROSECUTION
    SELF_TEST = pb.PURPOSE_SELF_TEST


@unique
class Urgency(Coded):
    """How urgent a question is."""

    ROUTINE = pb.URGENCY_ROUTINE
    LIFE_AT_RISK = pb.URGENCY_LIFE_AT_RISK


@unique
class Ternary(Coded):
    """Yes, no, or unknown; unknown is not no."""

    YES = pb.TERNARY_YES
    NO = pb.TERNARY_NO
    UNKNOWN = pb.TERNARY_UNKNOWN


@unique
class HandlingCode(Coded):
    """Europol handling code: what the receiver may do with a hit."""

    H0 = pb.HANDLING_CODE_H0
    H1 = pb.HANDLING_CODE_H1
    H2 = pb.HANDLING_CODE_H2
    H3 = pb.HANDLING_CODE_H3

    @property
    def meaning(self) -> str:
        """The rule in a few words."""
        return _HANDLING[self]


@unique
class FailureKind(Coded):
    """Why a gateway has no signed answer of a node."""

    UNREACHABLE = gateway_pb2.FAILURE_KIND_UNREACHABLE
    TIMEOUT = gateway_pb2.FAILURE_KIND_TIMEOUT
    PROTOCOL_ERROR = gateway_pb2.FAILURE_KIND_PROTOCOL_ERROR
    BREAKER_OPEN = gateway_pb2.FAILURE_KIND_BREAKER_OPEN


_HANDLING = {
    HandlingCode.H0: "to prevent and fight crime",
    HandlingCode.H1: "not in court without permission",
    HandlingCode.H2: "not passed on without permission",
    HandlingCode.H3: "other limits, see the note",
}


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """Who asks whom, when, why. Fields as in `RequestHeader` of lookup.proto."""

    federation: str
    issuer: str
    audience: tuple[str, ...]
    message_id: bytes
    issued_ms: int
    expires_ms: int
    method: str
    directory_version: int
    purpose: Purpose | None
    legal_basis: str
    offence_type: str
    case_reference: str = field(repr=False)
    pseudonym: str
    urgency: Urgency


@dataclass(frozen=True, slots=True, eq=False)
class HashColumn:
    """All codes of one algorithm in one question.

    Attributes:
        algorithm: of all the codes.
        codes: uint8[n, algorithm.code_bytes].
        items: uint32[n], the item each code belongs to.
        max_distance: inclusive; 0 for digests.
    """

    algorithm: Algorithm
    codes: NDArray[np.uint8] = field(repr=False)  # what is logged by mistake must not hold a hash
    items: NDArray[np.uint32]
    max_distance: int


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where a chunk stands in its stream. Fields as in `StreamPosition` of lookup.proto."""

    stream_id: bytes
    number: int = 0
    last: bool = False
    previous_digest: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class FilmTimes:
    """That an item is a film, and when its PDQ codes are shown. Fields as in `Film` of lookup.proto.

    Attributes:
        item: its number.
        from_ms, until_ms: uint32[n], for each of its PDQ codes, in order.
    """

    item: int
    from_ms: NDArray[np.uint32]
    until_ms: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Standing:
    """By which mandate (SHA-256 of its signed bytes) a question is asked, and since which epoch; empty: everything.

    A question in outline (`sketch`) only asks whether anything new could be near; what is not sent of its columns is zero.
    """

    mandate: bytes
    epoch: bytes = b""
    sketch: bool = False


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """One question: items numbered from 0 to item_count - 1, each with one or more codes.

    `stream` is set in a chunk of a stream, `standing` in a question that is asked by a mandate.
    """

    header: RequestHeader
    item_count: int
    columns: tuple[HashColumn, ...]
    stream: StreamPosition | None = None
    standing: Standing | None = None
    films: tuple[FilmTimes, ...] = ()

    @property
    def hash_count(self) -> int:
        """How many hashes are asked about, of all algorithms together."""
        return sum(len(column.codes) for column in self.columns)


@unique
class Share(Enum):
    """How many of a node's records carry a hash of one algorithm, in bands; its value is the number on the wire."""

    FEW = 1
    SOME = 2
    MOST = 3
    NEARLY_ALL = 4

    @property
    def code(self) -> str:
        """The name for scripts, as `nearly-all`."""
        return self.name.lower().replace("_", "-")

    @property
    def text(self) -> str:
        """The same for people, as `few of its records`."""
        return f"{self.name.lower().replace('_', ' ')} of its records"

    @classmethod
    def of(cls, carrying: int, records: int) -> Share:
        """Return the band of so many records of so many."""
        reached = (share for share, tenths in _SHARES if 10 * carrying >= tenths * records)
        return next(reached, cls.FEW)


_SHARES = ((Share.NEARLY_ALL, 9), (Share.MOST, 5), (Share.SOME, 1))  # in tenths, from where on; no records lack nothing


@dataclass(frozen=True, slots=True)
class Searched:
    """One algorithm by which an answer was searched for, up to which distance (inclusive), and how many records carry it at all."""

    algorithm: Algorithm
    max_distance: int
    share: Share = Share.NEARLY_ALL


@dataclass(frozen=True, slots=True)
class IndexState:
    """What was searched, and how fresh it is. Times in ms since the epoch; `records_at_least` is one of RECORD_BANDS.

    `records_as_of_ms` is the moment of the source that was read longest ago; 0: one was never read; None: no source is followed.
    """

    version: int
    changed_ms: int
    current_ms: int
    searched: tuple[Searched, ...] = ()
    records_at_least: int = 0
    records_as_of_ms: int | None = None
    source_behind: bool = False


@dataclass(frozen=True, slots=True)
class AnswerHeader:
    """Who answers which question, with what status. Fields as in `AnswerHeader` of lookup.proto."""

    federation: str
    issuer: str
    audience: str
    request_digest: bytes
    method: str
    answered_ms: int
    status: Status
    detail: str = ""
    index: IndexState | None = None
    sequence: int = 0
    last: bool = True
    previous_digest: bytes = b""
    directory_version: int = 0
    epoch: bytes = b""


@dataclass(frozen=True, slots=True)
class RecordView:
    """What a node tells about one of its records. Fields as in `RecordView` of lookup.proto."""

    reference: str
    series: str = ""
    tags: tuple[str, ...] = ()
    victim_identified: Ternary = Ternary.UNKNOWN
    offender_identified: Ternary = Ternary.UNKNOWN
    distributed: Ternary = Ternary.UNKNOWN
    case_reference: str = ""
    case_contact: str = ""
    handling_code: HandlingCode = HandlingCode.H0
    handling_note: str = ""
    category: str = ""
    category_scale: str = ""
    category_region: str = ""
    source_grading: str = ""
    information_grading: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """How a record matched: distance 0 to the algorithm's maximum; `code` is the position in the request's column.

    The true distance lies between `distance - slack` and `distance`. `kind` says what the record's code is the code of, as
    `vidfed.index.Code.kind` does, and `quality` the PDQ quality of that view, 0 to 100, or None where it is not known. `compared` is of how
    many of the hash's bits the distance is (PhotoDNA: of how many of its numbers); 0: of all.
    """

    algorithm: Algorithm
    distance: int
    code: int
    slack: int = 0
    kind: str = WHOLE
    quality: int | None = None
    compared: int = 0


class Stretch(NamedTuple):
    """When a film and a record's agree, in milliseconds after the beginning of each; 0 of a record that is a picture."""

    from_ms: int
    until_ms: int
    record_from_ms: int
    record_until_ms: int


@dataclass(frozen=True, slots=True)
class FilmMatch:
    """How much of a film, and of a record, agrees, in distinct frames. Fields as in `FilmMatch` of lookup.proto."""

    frames: int
    frames_agreeing: int
    record_frames: int
    record_frames_agreeing: int
    stretches: tuple[Stretch, ...]
    stretches_left_out: int = 0
    coarse: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """Item `item` of the question matched record number `record` of the answer."""

    item: int
    record: int
    matches: tuple[Match, ...]
    film: FilmMatch | None = None


class FramesNotSearched(NamedTuple):
    """Frames of an item that very many of the node's films share, and that it did not search. Fields as in lookup.proto."""

    item: int
    frames: int


@dataclass(frozen=True, slots=True)
class LogReceipt:
    """Where an answer stands in the node's audit log.

    Attributes:
        position: from 0.
        commitment: 32 bytes, the entry's leaf.
        checkpoint: the node's newest signed checkpoint then; it may be older than the entry.
    """

    position: int
    commitment: bytes
    checkpoint: str


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """A node's reply to one question. `log` is None while it is not logged yet, or could not be."""

    header: AnswerHeader
    records: tuple[RecordView, ...] = ()
    hits: tuple[Hit, ...] = ()
    truncated_items: tuple[int, ...] = field(default=())
    log: LogReceipt | None = None
    frames_not_searched: tuple[FramesNotSearched, ...] = ()
