"""Who can read what, and what a hostile author can do with keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nacl.public import PublicKey, SealedBox
from nacl.secret import SecretBox

from tests.support.casework import ASK, next_header
from vidfed.casework.core.conversation import Conversation
from vidfed.casework.errors import SealError
from vidfed.casework.sealing import SealingKey, check_opening, commit, key_id, named_readers, opening, seal, sealed_digest, unseal, wrap_for
from vidfed.wire.casework import read_sealed, write_content, write_sealed
from vidfed.wire.casework_values import MAX_READERS, Content, EntryHeader, PersonDetails, Sealed, Side, Wrap

SECRET = "Anna Example, seen in Lyon"
CONTENT = Content(text=SECRET, victim=PersonDetails("Anna Example", "2010-01-01", "FR", "f"))


@pytest.fixture
def reader() -> SealingKey:
    return SealingKey.generate()


def signed_for(payload: bytes, commitment: bytes) -> EntryHeader:
    header = next_header(Conversation(), Side.ASKER, ASK)
    return replace(header, sealed_digest=sealed_digest(payload), commitment=commitment)


def test_each_reader_opens_the_same_content_and_nobody_else(reader: SealingKey) -> None:
    other, stranger = SealingKey.generate(), SealingKey.generate()
    sealed = seal(CONTENT, [reader.public, other.public])
    header = signed_for(sealed.payload, sealed.commitment)
    assert unseal(header, sealed.payload, reader) == unseal(header, sealed.payload, other) == CONTENT
    with pytest.raises(SealError, match="not sealed for this key"):
        unseal(header, sealed.payload, stranger)
    assert named_readers(sealed.payload) == {key_id(reader.public), key_id(other.public)}


def test_sealed_part_shows_nothing_of_its_content(reader: SealingKey) -> None:
    payload = seal(CONTENT, [reader.public]).payload
    assert not any(part.encode() in payload for part in (SECRET, "Anna", "Lyon", "2010-01-01"))


def test_same_content_twice_has_nothing_in_common(reader: SealingKey) -> None:
    one, two = (seal(CONTENT, [reader.public]) for _ in range(2))
    assert one.commitment != two.commitment
    assert read_sealed(one.payload).ciphertext[:64] != read_sealed(two.payload).ciphertext[:64]


def test_author_who_seals_another_text_to_one_reader_is_found_out(reader: SealingKey) -> None:
    told, shown = write_content(Content(text="told")), write_content(Content(text="shown"))
    wraps = tuple(Wrap(key_id(reader.public), bytes(SealedBox(PublicKey(reader.public)).encrypt(key))) for key in (b"k" * 32,))
    payload = write_sealed(Sealed(bytes(SecretBox(b"k" * 32).encrypt(shown)), wraps))
    with pytest.raises(SealError, match="not what was signed"):
        unseal(signed_for(payload, commit(told)), payload, reader)


def test_sealed_part_swapped_by_a_gateway(reader: SealingKey) -> None:
    sealed, other = seal(CONTENT, [reader.public]), seal(Content(text="other"), [reader.public])
    with pytest.raises(SealError, match="not the one that was signed for"):
        unseal(signed_for(sealed.payload, sealed.commitment), other.payload, reader)


def test_deleted_content_is_said_to_be_deleted(reader: SealingKey) -> None:
    sealed = seal(CONTENT, [reader.public])
    with pytest.raises(SealError, match="deleted"):
        unseal(signed_for(sealed.payload, sealed.commitment), b"", reader)


@pytest.mark.parametrize("key", [b"k" * 31, b"k" * 33])
def test_wrap_that_holds_no_key(reader: SealingKey, key: bytes) -> None:
    wrap = Wrap(key_id(reader.public), bytes(SealedBox(PublicKey(reader.public)).encrypt(key)))
    with pytest.raises(SealError, match="not sealed for this key"):
        reader.unwrap([wrap])


def test_reader_hands_on_to_a_colleague_who_reads_the_same(reader: SealingKey) -> None:
    colleague = SealingKey.generate()
    sealed = seal(CONTENT, [reader.public])
    header = signed_for(sealed.payload, sealed.commitment)
    wrap = wrap_for(header, sealed.payload, reader, colleague.public)
    assert unseal(header, sealed.payload, colleague, [wrap]) == CONTENT


def test_wrap_of_another_entry_handed_on_opens_nothing(reader: SealingKey) -> None:
    colleague = SealingKey.generate()
    sealed, other = seal(CONTENT, [reader.public]), seal(Content(text="other"), [reader.public])
    wrap = wrap_for(signed_for(other.payload, other.commitment), other.payload, reader, colleague.public)
    with pytest.raises(SealError, match="does not open"):
        unseal(signed_for(sealed.payload, sealed.commitment), sealed.payload, colleague, [wrap])


def test_either_party_opens_one_entry_to_an_overseer_who_has_no_key(reader: SealingKey) -> None:
    sealed = seal(CONTENT, [reader.public])
    header = signed_for(sealed.payload, sealed.commitment)
    opened = opening(header, sealed.payload, reader)
    assert check_opening(header, opened) == CONTENT
    with pytest.raises(SealError, match="not what was signed"):
        check_opening(header, write_content(Content(text="something else")))
    with pytest.raises(SealError, match="not what was signed"):
        check_opening(header, write_content(CONTENT))  # the same words under another salt: nobody signed these bytes


@pytest.mark.parametrize("readers", [[], [bytes([1]) * 31], [bytes(32)]], ids=["none", "short", "low order"])
def test_keys_that_are_none(readers: list[bytes]) -> None:
    with pytest.raises(SealError):
        seal(CONTENT, readers)


def test_more_readers_than_one_entry_may_have() -> None:
    with pytest.raises(SealError, match="readers"):
        seal(CONTENT, [SealingKey.generate().public for _ in range(MAX_READERS + 1)])


def test_content_that_could_not_be_read_is_not_sealed(reader: SealingKey) -> None:
    with pytest.raises(SealError, match="cannot be sent"):
        seal(Content(text="a\x1b[2J"), [reader.public])


def test_key_does_not_show(reader: SealingKey) -> None:
    assert repr(reader) == f"<SealingKey {key_id(reader.public).hex()}>"
