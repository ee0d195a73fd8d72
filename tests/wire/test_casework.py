"""Entries, contents and receipts to bytes and back; everything that does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.casework import ASK, HAND_OVER, RELEASE, SUBJECT, next_header, written
from vidfed.casework.core.conversation import Conversation
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire.casework import (
    read_content,
    read_entry,
    read_receipt,
    read_sealed,
    write_content,
    write_entry,
    write_receipt,
    write_sealed,
)
from vidfed.wire.casework_values import (
    MAX_CONTENT_TEXT,
    MAX_ENTRIES,
    PADDED_TO_BYTES,
    Acknowledge,
    Body,
    Close,
    Content,
    Correct,
    Correction,
    Disposition,
    Note,
    NotTheSame,
    PersonDetails,
    Receipt,
    ReceiptStatus,
    RecordWrong,
    RefusalReason,
    Refuse,
    Sealed,
    Side,
    Wait,
    WaitReason,
    Withdraw,
    Wrap,
)
from vidfed.wire.statuses import MalformedError, VersionError, WireError

FIRST = next_header(Conversation(), Side.ASKER, ASK)
ASKED = written((Side.ASKER, ASK))
BODIES: list[Body] = [
    ASK,
    Acknowledge(),
    RELEASE,
    Refuse(RefusalReason.SAFETY),
    Wait(WaitReason.THIRD_PARTY, 5),
    NotTheSame(),
    RecordWrong(),
    Note(),
    Withdraw(),
    Close(Disposition.SAFEGUARDED),
    Correct(3, Correction.NO_LONGER_TO_BE_USED),
    HAND_OVER,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.kind)
def test_every_kind_of_entry_comes_back_as_it_was(body: Body) -> None:
    header = next_header(ASKED, Side.ASKER, body)
    assert read_entry(write_entry(header)) == header


def altered(**fields: object) -> bytes:
    message = pb.EntryHeader.FromString(write_entry(FIRST))
    for name, value in fields.items():
        setattr(message, name, value)
    return message.SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation": b"short"},
        {"commitment": b""},
        {"sealed_digest": b"x" * 31},
        {"number": 0},
        {"number": MAX_ENTRIES + 1, "previous": b"x" * 32},
        {"number": 2},  # without the digest of the one before
        {"previous": b"x" * 32},  # and the first has none before it
        {"seen_number": 1},
        {"seen_number": MAX_ENTRIES + 1, "seen": b"x" * 32},
        {"seen": b"x" * 32},
        {"written_ms": -1},
        {"written_ms": 2**60},
        {"owner": "nl"},
        {"federation": "a\x1bb"},
        {"asker": "x" * 501},
    ],
    ids=str,
)
def test_header_that_does_not_fit(fields: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        read_entry(altered(**fields))


@pytest.mark.parametrize("authors", [[], ["a", "b", "c"], ["a", "a"], [""]], ids=str)
def test_entry_has_one_or_two_different_authors(authors: list[str]) -> None:
    message = pb.EntryHeader.FromString(write_entry(FIRST))
    del message.authors[:]
    message.authors.extend(authors)
    with pytest.raises(MalformedError, match="authors"):
        read_entry(message.SerializeToString())


def test_entry_that_says_nothing() -> None:
    message = pb.EntryHeader.FromString(write_entry(FIRST))
    message.ClearField("ask")
    with pytest.raises(MalformedError, match="says nothing"):
        read_entry(message.SerializeToString())


@pytest.mark.parametrize("wanted", [[], [2, 1], [1, 1]], ids=str)
def test_details_are_named_once_and_in_order(wanted: list[int]) -> None:
    message = pb.EntryHeader.FromString(write_entry(FIRST))
    del message.ask.wanted[:]
    message.ask.wanted.extend(wanted)  # type: ignore[arg-type]
    with pytest.raises(MalformedError, match="ascending"):
        read_entry(message.SerializeToString())


@pytest.mark.parametrize(("field", "number"), [("urgency", 0), ("urgency", 77), ("basis", 0)])
def test_code_that_is_not_known(field: str, number: int) -> None:
    message = pb.EntryHeader.FromString(write_entry(FIRST))
    setattr(message.ask, field, number)
    with pytest.raises(VersionError):
        read_entry(message.SerializeToString())


def test_unknown_field_smuggled_into_an_entry() -> None:
    with pytest.raises(VersionError, match="field"):
        read_entry(write_entry(FIRST) + b"\xa2\x1f\x01x")
    reader = SUBJECT.holder.sealing_key
    assert reader in write_entry(FIRST)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_in_our_own_words(payload: bytes) -> None:
    for read in (read_entry, read_sealed, read_content, read_receipt):
        try:
            read(payload)
        except WireError:
            continue


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=200).filter(str.isprintable)
people = st.none() | st.builds(PersonDetails, texts, texts, texts, texts)


@given(st.builds(Content, texts, texts, texts, texts, texts, people, people, texts, texts, texts, texts))
def test_content_comes_back_and_its_length_tells_little(content: Content) -> None:
    payload = write_content(content)
    assert read_content(payload) == content
    assert len(payload) % PADDED_TO_BYTES == 0


@given(st.integers(0, 3000))
def test_content_of_any_length_is_padded_to_the_same_steps(length: int) -> None:
    payload = write_content(Content(text="x" * length))
    assert len(payload) % PADDED_TO_BYTES == 0
    assert len(payload) - length < 2 * PADDED_TO_BYTES


def test_content_has_line_breaks_and_no_other_control_characters() -> None:
    assert read_content(write_content(Content(text="one\ntwo"))).text == "one\ntwo"
    for content in (Content(text="a\x1b[2Jb"), Content(contact="a\nb"), Content(text="x" * (MAX_CONTENT_TEXT + 1))):
        with pytest.raises(MalformedError):
            read_content(write_content(content))


def test_content_does_not_show_in_its_repr() -> None:
    assert "secret" not in repr(Content(text="secret"))


def test_sealed_part_comes_back_and_wraps_have_their_lengths() -> None:
    sealed = Sealed(b"c" * 50, (Wrap(b"i" * 8, b"k" * 80),))
    assert read_sealed(write_sealed(sealed)) == sealed
    for wraps in ((), (Wrap(b"i" * 7, b"k" * 80),), (Wrap(b"i" * 8, b"k" * 79),), (Wrap(b"i" * 8, b"k" * 80),) * 65):
        with pytest.raises(MalformedError):
            read_sealed(write_sealed(replace(sealed, wraps=wraps)))


@pytest.mark.parametrize("status", ReceiptStatus)
def test_receipt_comes_back_as_it_was(status: ReceiptStatus) -> None:
    receipt = Receipt("f", "fr", "nl", b"e" * 32, status, 7, 2, "why")
    assert read_receipt(write_receipt(receipt)) == receipt


@pytest.mark.parametrize("change", [{"expects": 0}, {"expects": 502}, {"entry": b"x"}, {"received_ms": -1}, {"detail": "a\nb"}], ids=str)
def test_receipt_that_does_not_fit(change: dict[str, object]) -> None:
    receipt = replace(Receipt("f", "fr", "nl", b"e" * 32, ReceiptStatus.TAKEN, 7, 2), **change)  # type: ignore[arg-type]
    with pytest.raises(MalformedError):
        read_receipt(write_receipt(receipt))
