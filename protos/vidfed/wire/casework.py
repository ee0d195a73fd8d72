"""Entries, their sealed parts and receipts: values to bytes and back.

Reading is strict, as in `vidfed.wire.requests`. Whether an entry is allowed where it stands is not judged here: `vidfed.casework`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vidfed.v1 import casework_pb2 as pb
from vidfed.wire.casework_values import (
    CONVERSATION_BYTES,
    KEY_BYTES,
    KEY_ID_BYTES,
    MAX_AUTHORS,
    MAX_CONTENT_TEXT,
    MAX_ENTRIES,
    MAX_HEADER_BYTES,
    MAX_READERS,
    MAX_SEALED_BYTES,
    PADDED_TO_BYTES,
    SALT_BYTES,
    SEALED_KEY_BYTES,
    Acknowledge,
    Ask,
    AskUrgency,
    Basis,
    Body,
    Close,
    Content,
    Correct,
    Correction,
    Detail,
    Disposition,
    EntryHeader,
    HandOver,
    Note,
    NotTheSame,
    PersonDetails,
    Reader,
    ReaderStatement,
    Receipt,
    ReceiptStatus,
    RecordWrong,
    RefusalReason,
    Refuse,
    Release,
    Sealed,
    Side,
    Subject,
    TransferGround,
    Wait,
    WaitReason,
    Withdraw,
    Wrap,
)
from vidfed.wire.statuses import MalformedError
from vidfed.wire.strict import check_digest, check_texts, enum, parse
from vidfed.wire.values import DIGEST_BYTES, MAX_TEXT, HandlingCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_MAX_MS = 2**53  # times beyond the year 280,000 are nonsense, and exact in JSON below it
_MAX_RECEIPT_BYTES = 4 * 1024
_LENGTH_BYTES = 3  # of a field of 128 to 16,383 bytes: its tag and a length of two bytes


def write_entry(header: EntryHeader) -> bytes:
    """Return the bytes to be signed."""
    message = pb.EntryHeader(
        federation=header.federation,
        conversation=header.conversation,
        asker=header.asker,
        owner=header.owner,
        side=header.side.value,
        number=header.number,
        previous=header.previous,
        seen_number=header.seen_number,
        seen=header.seen,
        written_ms=header.written_ms,
        authors=header.authors,
        commitment=header.commitment,
        sealed_digest=header.sealed_digest,
    )
    if header.subject is not None:
        message.subject.CopyFrom(
            pb.Subject(
                lookup_digest=header.subject.lookup_digest,
                answer_digest=header.subject.answer_digest,
                reference=header.subject.reference,
                holder=_write_reader(header.subject.holder),
                deputy=_write_reader(header.subject.deputy),
            )
        )
    _write_body(header.body, message)
    return message.SerializeToString()


def read_entry(payload: bytes) -> EntryHeader:
    """Read a header's verified bytes.

    Raises:
        MalformedError: not of the stated form; the message says what.
        VersionError: it has fields or codes this program does not know.
    """
    message = parse(payload, pb.EntryHeader(), MAX_HEADER_BYTES)
    check_texts((message.federation, message.asker, message.owner, *message.authors), MAX_TEXT)
    check_digest(message.conversation, CONVERSATION_BYTES, "conversation")
    check_digest(message.commitment, DIGEST_BYTES, "commitment")
    check_digest(message.sealed_digest, DIGEST_BYTES, "digest of the sealed part")
    if not 1 <= message.number <= MAX_ENTRIES:
        raise MalformedError(f"entry number {message.number}, expected 1 to {MAX_ENTRIES}")
    if message.seen_number > MAX_ENTRIES:
        raise MalformedError(f"entry {message.seen_number} seen, which cannot be")
    check_digest(message.previous, DIGEST_BYTES if message.number > 1 else 0, "digest of the entry before")
    check_digest(message.seen, DIGEST_BYTES if message.seen_number else 0, "digest of the entry seen")
    if not 1 <= len(message.authors) <= MAX_AUTHORS or len(set(message.authors)) != len(message.authors) or "" in message.authors:
        raise MalformedError(f"an entry has one to {MAX_AUTHORS} different authors")
    if message.asker == message.owner:
        raise MalformedError("a conversation of a member with itself")
    return EntryHeader(
        federation=message.federation,
        conversation=message.conversation,
        asker=message.asker,
        owner=message.owner,
        side=enum(Side, message.side),
        number=message.number,
        previous=message.previous,
        seen_number=message.seen_number,
        seen=message.seen,
        written_ms=_moment(message.written_ms),
        authors=tuple(message.authors),
        commitment=message.commitment,
        sealed_digest=message.sealed_digest,
        body=_read_body(message),
        subject=_read_subject(message.subject) if message.HasField("subject") else None,
    )


def write_sealed(sealed: Sealed) -> bytes:
    """Return the bytes of a sealed part; an entry's header names their SHA-256."""
    wraps = [pb.Wrap(key_id=wrap.key_id, sealed_key=wrap.sealed_key) for wrap in sealed.wraps]
    return pb.Sealed(ciphertext=sealed.ciphertext, wraps=wraps).SerializeToString()


def read_sealed(payload: bytes) -> Sealed:
    """Read a sealed part.

    Raises:
        MalformedError: not of the stated form.
        VersionError: it has fields this program does not know.
    """
    message = parse(payload, pb.Sealed(), MAX_SEALED_BYTES)
    if not 1 <= len(message.wraps) <= MAX_READERS:
        raise MalformedError(f"a sealed part for {len(message.wraps)} readers, expected 1 to {MAX_READERS}")
    return Sealed(message.ciphertext, tuple(map(read_wrap, message.wraps)))


def read_wrap(wrap: pb.Wrap) -> Wrap:
    """Read one wrapped content key.

    Raises:
        MalformedError: of the wrong length.
    """
    return Wrap(check_digest(wrap.key_id, KEY_ID_BYTES, "key id"), check_digest(wrap.sealed_key, SEALED_KEY_BYTES, "wrapped content key"))


def write_content(content: Content, salt: bytes | None = None) -> bytes:
    """Return a content's bytes, with a salt (a new one if None), padded to a multiple of PADDED_TO_BYTES."""
    message = pb.Content(
        salt=os.urandom(SALT_BYTES) if salt is None else salt,
        text=content.text,
        offence=content.offence,
        legal_basis=content.legal_basis,
        conditions=content.conditions,
        contact=content.contact,
        case_number=content.case_number,
        authority=content.authority,
        taken=content.taken,
        comparison=content.comparison,
    )
    for name in ("victim", "offender"):
        person: PersonDetails | None = getattr(content, name)
        if person is not None:
            details = pb.PersonDetails(names=person.names, born=person.born, nationality=person.nationality, sex=person.sex)
            getattr(message, name).CopyFrom(details)
    missing = -message.ByteSize() % PADDED_TO_BYTES
    if missing < PADDED_TO_BYTES // 2:  # a padding's own length takes 3 bytes only from 128 bytes of it on
        missing += PADDED_TO_BYTES
    message.padding = bytes(missing - _LENGTH_BYTES)
    return message.SerializeToString()


def read_content(payload: bytes) -> Content:
    """Read a content's bytes, which must be those that were committed to.

    Raises:
        MalformedError: not of the stated form.
        VersionError: it has fields this program does not know.
    """
    message = parse(payload, pb.Content(), MAX_SEALED_BYTES)
    check_digest(message.salt, SALT_BYTES, "salt")
    check_texts((message.text, message.conditions), MAX_CONTENT_TEXT, lines=True)
    short = (message.offence, message.legal_basis, message.contact, message.case_number, message.authority, message.taken)
    check_texts((*short, message.comparison), MAX_TEXT)
    return Content(
        text=message.text,
        offence=message.offence,
        legal_basis=message.legal_basis,
        conditions=message.conditions,
        contact=message.contact,
        victim=_read_person(message.victim) if message.HasField("victim") else None,
        offender=_read_person(message.offender) if message.HasField("offender") else None,
        case_number=message.case_number,
        authority=message.authority,
        taken=message.taken,
        comparison=message.comparison,
    )


def write_receipt(receipt: Receipt) -> bytes:
    """Return the bytes to be signed."""
    return pb.Receipt(
        federation=receipt.federation,
        issuer=receipt.issuer,
        audience=receipt.audience,
        entry=receipt.entry,
        status=receipt.status.value,
        received_ms=receipt.received_ms,
        expects=receipt.expects,
        detail=receipt.detail,
    ).SerializeToString()


def read_receipt(payload: bytes) -> Receipt:
    """Read a receipt's verified bytes.

    Raises:
        MalformedError: not of the stated form.
        VersionError: it has fields or codes this program does not know.
    """
    message = parse(payload, pb.Receipt(), _MAX_RECEIPT_BYTES)
    check_texts((message.federation, message.issuer, message.audience, message.detail), MAX_TEXT)
    if not 1 <= message.expects <= MAX_ENTRIES + 1:
        raise MalformedError(f"entry {message.expects} expected, which cannot be")
    return Receipt(
        federation=message.federation,
        issuer=message.issuer,
        audience=message.audience,
        entry=check_digest(message.entry, DIGEST_BYTES, "digest of the entry"),
        status=enum(ReceiptStatus, message.status),
        received_ms=_moment(message.received_ms),
        expects=message.expects,
        detail=message.detail,
    )


def write_statement(statement: ReaderStatement) -> bytes:
    """Return the bytes to be signed."""
    return pb.ReaderStatement(
        federation=statement.federation,
        member=statement.member,
        pseudonym=statement.pseudonym,
        sealing_key=statement.sealing_key,
        made_ms=statement.made_ms,
    ).SerializeToString()


def read_statement(payload: bytes) -> ReaderStatement:
    """Read a statement's verified bytes.

    Raises:
        MalformedError: not of the stated form.
        VersionError: it has fields this program does not know.
    """
    message = parse(payload, pb.ReaderStatement(), _MAX_RECEIPT_BYTES)
    check_texts((message.federation, message.member, message.pseudonym), MAX_TEXT)
    key = check_digest(message.sealing_key, KEY_BYTES, "sealing key")
    return ReaderStatement(message.federation, message.member, message.pseudonym, key, _moment(message.made_ms))


def _write_body(body: Body, message: pb.EntryHeader) -> None:
    match body:
        case Ask():
            message.ask.CopyFrom(
                pb.Ask(
                    wanted=[detail.value for detail in body.wanted],
                    urgency=body.urgency.value,
                    basis=body.basis.value,
                )
            )
        case Release():
            message.release.CopyFrom(
                pb.Release(
                    given=[detail.value for detail in body.given],
                    more_follows=body.more_follows,
                    handling_code=body.handling_code.value,
                    ground=body.ground.value,
                )
            )
        case Refuse():
            message.refuse.reason = body.reason.value
        case Wait():
            message.wait.CopyFrom(pb.Wait(reason=body.reason.value, until_ms=body.until_ms))
        case Close():
            message.close.disposition = body.disposition.value
        case Correct():
            message.correct.CopyFrom(pb.Correct(release=body.release, correction=body.correction.value))
        case HandOver():
            message.hand_over.CopyFrom(pb.HandOver(holder=_write_reader(body.holder), deputy=_write_reader(body.deputy)))
        case _:
            getattr(message, _PLAIN[type(body)]).SetInParent()


def _read_body(message: pb.EntryHeader) -> Body:
    name = message.WhichOneof("body")
    if name is None:
        raise MalformedError("an entry that says nothing")
    return _BODIES[name](getattr(message, name))


def _read_ask(ask: pb.Ask) -> Ask:
    return Ask(_details(ask.wanted), enum(AskUrgency, ask.urgency), enum(Basis, ask.basis))


def _read_release(release: pb.Release) -> Release:
    handling, ground = enum(HandlingCode, release.handling_code), enum(TransferGround, release.ground)
    return Release(_details(release.given), release.more_follows, handling, ground)


def _read_correct(correct: pb.Correct) -> Correct:
    if not 1 <= correct.release <= MAX_ENTRIES:
        raise MalformedError(f"release number {correct.release}, which cannot be")
    return Correct(correct.release, enum(Correction, correct.correction))


_PLAIN: dict[type, str] = {
    Acknowledge: "acknowledge",
    NotTheSame: "not_the_same",
    RecordWrong: "record_wrong",
    Note: "message",
    Withdraw: "withdraw",
}
_BODIES: dict[str, Callable[[Any], Body]] = {
    "ask": _read_ask,
    "release": _read_release,
    "refuse": lambda refuse: Refuse(enum(RefusalReason, refuse.reason)),
    "wait": lambda wait: Wait(enum(WaitReason, wait.reason), _moment(wait.until_ms)),
    "close": lambda close: Close(enum(Disposition, close.disposition)),
    "correct": _read_correct,
    "hand_over": lambda over: HandOver(_read_reader(over.holder), _read_reader(over.deputy)),
    **{name: lambda _, kind=kind: kind() for kind, name in _PLAIN.items()},  # type: ignore[misc]  # a default argument binds `kind`
}


def _details(numbers: Iterable[int]) -> tuple[Detail, ...]:
    details = tuple(enum(Detail, number) for number in numbers)
    values = [detail.value for detail in details]
    if not values or values != sorted(set(values)):
        raise MalformedError("details are named each once, ascending, and at least one")
    return details


def _write_reader(reader: Reader) -> pb.Reader:
    return pb.Reader(pseudonym=reader.pseudonym, sealing_key=reader.sealing_key)


def _read_reader(reader: pb.Reader) -> Reader:
    check_texts((reader.pseudonym,), MAX_TEXT)
    if not reader.pseudonym:
        raise MalformedError("a reader without a name")
    return Reader(reader.pseudonym, check_digest(reader.sealing_key, KEY_BYTES, "sealing key"))


def _read_subject(subject: pb.Subject) -> Subject:
    check_texts((subject.reference,), MAX_TEXT)
    return Subject(
        check_digest(subject.lookup_digest, DIGEST_BYTES, "digest of the lookup"),
        check_digest(subject.answer_digest, DIGEST_BYTES, "digest of the answer"),
        subject.reference,
        _read_reader(subject.holder),
        _read_reader(subject.deputy),
    )


def _read_person(person: pb.PersonDetails) -> PersonDetails:
    details = PersonDetails(person.names, person.born, person.nationality, person.sex)
    check_texts((details.names, details.born, details.nationality, details.sex), MAX_TEXT)
    return details


def _moment(moment_ms: int) -> int:
    if not 0 <= moment_ms <= _MAX_MS:
        raise MalformedError("a time outside the calendar")
    return moment_ms
