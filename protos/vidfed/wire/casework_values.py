"""Entries of conversations and their receipts, as frozen values. What they mean: docs/casework-protocol.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import unique
from typing import TYPE_CHECKING, ClassVar

from vidfed.v1 import casework_pb2 as pb
from vidfed.wire.values import Coded

if TYPE_CHECKING:
    from vidfed.wire.values import HandlingCode

CONVERSATION_BYTES = 32
SALT_BYTES = 32
KEY_BYTES = 32  # X25519 keys and content keys
KEY_ID_BYTES = 8
SEALED_KEY_BYTES = 80  # a sealed box adds 48 to the 32 of a content key
MAX_ENTRIES = 500  # of one side of a conversation: far above what two people write; bounds what its state costs
MAX_TALKING = 400  # up to this number asks and messages are taken; what ends or mends a conversation always finds room behind it
MAX_AUTHORS = 2
MAX_HEADER_BYTES = 8 * 1024
MAX_SEALED_BYTES = 256 * 1024
MAX_READERS = 64  # wraps of one entry: holder, deputy, the officers, a recovery key
MAX_CONTENT_TEXT = 8_000  # characters of the one long text
PADDED_TO_BYTES = 1024
MAX_FETCHED = 64  # entries in one answer to a Fetch; the caller asks again for more
MAX_CARDS = 256  # of one member's persons
MAX_CREDENTIAL_BYTES = 4 * 1024

ENTRY_TYPE = "application/vnd.vidfed.casework-entry.v1+protobuf"
READER_TYPE = "application/vnd.vidfed.casework-reader.v1+protobuf"
RECEIPT_TYPE = "application/vnd.vidfed.casework-receipt.v1+protobuf"


@unique
class Side(Coded):
    """Which of the two members."""

    ASKER = pb.SIDE_ASKER
    OWNER = pb.SIDE_OWNER

    @property
    def other(self) -> Side:
        """The other one."""
        return Side.OWNER if self is Side.ASKER else Side.ASKER


@unique
class Detail(Coded):
    """Something that can be wanted and given."""

    VICTIM_IDENTITY = pb.DETAIL_VICTIM_IDENTITY
    OFFENDER_IDENTITY = pb.DETAIL_OFFENDER_IDENTITY
    CASE_STATE = pb.DETAIL_CASE_STATE
    ORIGIN = pb.DETAIL_ORIGIN
    CALL = pb.DETAIL_CALL


@unique
class AskUrgency(Coded):
    """How soon an answer is needed."""

    ROUTINE = pb.ASK_URGENCY_ROUTINE
    URGENT = pb.ASK_URGENCY_URGENT
    LIFE_AT_RISK = pb.ASK_URGENCY_LIFE_AT_RISK


@unique
class Basis(Coded):
    """What the asker's word that it is the same picture rests on."""

    SAME_DIGEST = pb.BASIS_SAME_DIGEST
    COMPARED = pb.BASIS_COMPARED
    HASH_DISTANCE_ONLY = pb.BASIS_HASH_DISTANCE_ONLY

    @property
    def confirmed(self) -> bool:
        """False if nobody compared the pictures."""
        return self is not Basis.HASH_DISTANCE_ONLY


@unique
class TransferGround(Coded):
    """On what ground personal data may go to the asker."""

    MEMBER_STATE = pb.TRANSFER_GROUND_MEMBER_STATE
    ADEQUACY = pb.TRANSFER_GROUND_ADEQUACY
    SAFEGUARDS = pb.TRANSFER_GROUND_SAFEGUARDS
    DEROGATION = pb.TRANSFER_GROUND_DEROGATION


@unique
class RefusalReason(Coded):
    """Why an officer refuses."""

    LAW = pb.REFUSAL_REASON_LAW
    ONGOING_INVESTIGATION = pb.REFUSAL_REASON_ONGOING_INVESTIGATION
    SAFETY = pb.REFUSAL_REASON_SAFETY
    NOT_PROPORTIONATE = pb.REFUSAL_REASON_NOT_PROPORTIONATE
    NOT_OURS = pb.REFUSAL_REASON_NOT_OURS
    OTHER_CHANNEL = pb.REFUSAL_REASON_OTHER_CHANNEL
    NOT_HELD = pb.REFUSAL_REASON_NOT_HELD
    THIRD_PARTY = pb.REFUSAL_REASON_THIRD_PARTY


@unique
class WaitReason(Coded):
    """For what the clock stands still."""

    JUDICIAL_AUTHORISATION = pb.WAIT_REASON_JUDICIAL_AUTHORISATION
    THIRD_PARTY = pb.WAIT_REASON_THIRD_PARTY


@unique
class Disposition(Coded):
    """What came of it."""

    VICTIM_IDENTIFIED = pb.DISPOSITION_VICTIM_IDENTIFIED
    SAFEGUARDED = pb.DISPOSITION_SAFEGUARDED
    USEFUL = pb.DISPOSITION_USEFUL
    KNOWN_ALREADY = pb.DISPOSITION_KNOWN_ALREADY
    NO_USE = pb.DISPOSITION_NO_USE


@unique
class Correction(Coded):
    """What is the matter with an earlier release."""

    WRONG = pb.CORRECTION_WRONG
    NO_LONGER_TO_BE_USED = pb.CORRECTION_NO_LONGER_TO_BE_USED


@unique
class ReceiptStatus(Coded):
    """What the receiving member did with an entry."""

    TAKEN = pb.RECEIPT_STATUS_TAKEN
    GAP = pb.RECEIPT_STATUS_GAP
    FORK = pb.RECEIPT_STATUS_FORK
    UNKNOWN = pb.RECEIPT_STATUS_UNKNOWN
    REFUSED = pb.RECEIPT_STATUS_REFUSED
    LATER = pb.RECEIPT_STATUS_LATER

    @property
    def final(self) -> bool:
        """True if the same entry will never be taken."""
        return self in {ReceiptStatus.FORK, ReceiptStatus.UNKNOWN, ReceiptStatus.REFUSED}


@dataclass(frozen=True, slots=True)
class Reader:
    """A person who can read what is sealed: name, and X25519 public key of 32 bytes."""

    pseudonym: str
    sealing_key: bytes


@dataclass(frozen=True, slots=True)
class Subject:
    """The hit that a conversation is about (digests of 32 bytes), and who holds the case."""

    lookup_digest: bytes
    answer_digest: bytes
    reference: str
    holder: Reader
    deputy: Reader


@dataclass(frozen=True, slots=True)
class ReaderStatement:
    """What a person says of the own sealing key. Fields as in `ReaderStatement` of casework.proto."""

    federation: str
    member: str
    pseudonym: str
    sealing_key: bytes
    made_ms: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted, how soon, on what basis."""

    kind: ClassVar[str] = "ask"
    wanted: tuple[Detail, ...]
    urgency: AskUrgency
    basis: Basis


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Somebody has it."""

    kind: ClassVar[str] = "acknowledge"


@dataclass(frozen=True, slots=True)
class Release:
    """What is given, on what terms."""

    kind: ClassVar[str] = "release"
    given: tuple[Detail, ...]
    more_follows: bool
    handling_code: HandlingCode
    ground: TransferGround


@dataclass(frozen=True, slots=True)
class Refuse:
    """An officer says no."""

    kind: ClassVar[str] = "refuse"
    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class Wait:
    """The clock stands still, until `until_ms` at the latest."""

    kind: ClassVar[str] = "wait"
    reason: WaitReason
    until_ms: int


@dataclass(frozen=True, slots=True)
class NotTheSame:
    """A false match."""

    kind: ClassVar[str] = "not-the-same"


@dataclass(frozen=True, slots=True)
class RecordWrong:
    """The owner's record is wrong."""

    kind: ClassVar[str] = "record-wrong"


@dataclass(frozen=True, slots=True)
class Note:
    """Free text; `Message` on the wire."""

    kind: ClassVar[str] = "message"


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The ask is not needed any more."""

    kind: ClassVar[str] = "withdraw"


@dataclass(frozen=True, slots=True)
class Close:
    """The end, and what came of it."""

    kind: ClassVar[str] = "close"
    disposition: Disposition


@dataclass(frozen=True, slots=True)
class Correct:
    """The release of this number, of the same side, was wrong or may not be used any more."""

    kind: ClassVar[str] = "correct"
    release: int
    correction: Correction


@dataclass(frozen=True, slots=True)
class HandOver:
    """Who holds the case from now on."""

    kind: ClassVar[str] = "hand-over"
    holder: Reader
    deputy: Reader


Body = Ask | Acknowledge | Release | Refuse | Wait | NotTheSame | RecordWrong | Note | Withdraw | Close | Correct | HandOver


@dataclass(frozen=True, slots=True)
class EntryHeader:
    """What is signed of an entry. Fields as in `EntryHeader` of casework.proto; `subject` is None in all but the first."""

    federation: str
    conversation: bytes
    asker: str
    owner: str
    side: Side
    number: int
    previous: bytes
    seen_number: int
    seen: bytes
    written_ms: int
    authors: tuple[str, ...]
    commitment: bytes
    sealed_digest: bytes
    body: Body
    subject: Subject | None = None

    @property
    def writer(self) -> str:
        """The member whose entry it is."""
        return self.asker if self.side is Side.ASKER else self.owner

    @property
    def receiver(self) -> str:
        """The other member."""
        return self.owner if self.side is Side.ASKER else self.asker


@dataclass(frozen=True, slots=True)
class Wrap:
    """A content key closed for one reader: the reader's key by its id (8 bytes), and the sealed box (80 bytes)."""

    key_id: bytes
    sealed_key: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """The sealed part of an entry."""

    ciphertext: bytes
    wraps: tuple[Wrap, ...]


@dataclass(frozen=True, slots=True)
class PersonDetails:
    """Who somebody is, in the words of the owner's authority."""

    names: str = ""
    born: str = ""
    nationality: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True, repr=False)  # what is logged by mistake must not hold a name
class Content:
    """What only readers see. Fields as in `Content` of casework.proto."""

    text: str = ""
    offence: str = ""
    legal_basis: str = ""
    conditions: str = ""
    contact: str = ""
    victim: PersonDetails | None = None
    offender: PersonDetails | None = None
    case_number: str = ""
    authority: str = ""
    taken: str = ""
    comparison: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the receiving member says of an entry. Fields as in `Receipt` of casework.proto."""

    federation: str
    issuer: str
    audience: str
    entry: bytes
    status: ReceiptStatus
    received_ms: int
    expects: int
    detail: str = field(default="")
