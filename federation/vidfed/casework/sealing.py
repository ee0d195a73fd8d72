"""Contents sealed to persons: one key for each content, wrapped for each reader, and a commitment that holds them all to one text.

Section 3 of docs/casework-protocol.md. libsodium's secretbox (XSalsa20-Poly1305) and sealed boxes (X25519), by PyNaCl. A secretbox can be
made to open to different texts under different keys; the commitment in the signed header is what forbids it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import SecretBox
from nacl.utils import random as random_bytes

from vidfed.casework.errors import SealError
from vidfed.wire.casework import read_content, read_sealed, write_content, write_sealed
from vidfed.wire.casework_values import KEY_BYTES, KEY_ID_BYTES, MAX_READERS, MAX_SEALED_BYTES, Content, Sealed, Wrap
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from vidfed.wire.casework_values import EntryHeader

_DOMAIN = b"vidfed-casework-content/1\x00"


def key_id(public: bytes) -> bytes:
    """Return what a wrap names a reader's X25519 public key by, 8 bytes; a hint, it decides nothing."""
    return hashlib.sha256(public).digest()[:KEY_ID_BYTES]


def commit(payload: bytes) -> bytes:
    """Return the 32-byte commitment to a content's bytes, which hold its salt."""
    return hashlib.sha256(_DOMAIN + payload).digest()


class SealingKey:
    """A person's X25519 private key in memory. Never shown: its `repr` is the public key's id."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        """Take the 32 bytes of a private key.

        Raises:
            SealError: of another length.
        """
        if len(private) != KEY_BYTES:
            raise SealError(f"a sealing key has {KEY_BYTES} bytes, this one {len(private)}")
        self._private = PrivateKey(private)
        self.public = bytes(self._private.public_key)

    @classmethod
    def generate(cls) -> SealingKey:
        """Make a new key from the system's randomness."""
        return cls(bytes(PrivateKey.generate()))

    @property
    def private(self) -> bytes:
        """The private half, 32 bytes, for the kit's file alone."""
        return bytes(self._private)

    def unwrap(self, wraps: Iterable[Wrap]) -> bytes:
        """Return the content key that one of `wraps` holds for this key.

        Raises:
            SealError: none of them is for it, or it is damaged.
        """
        own = key_id(self.public)
        for wrap in wraps:
            if wrap.key_id == own:
                try:
                    content_key = bytes(SealedBox(self._private).decrypt(wrap.sealed_key))
                except CryptoError:
                    continue  # another key with the same id, or damaged
                if len(content_key) == KEY_BYTES:
                    return content_key
        raise SealError("not sealed for this key; who can read it can hand it on (vidfed cases hand-over), or the owner releases again")

    def __repr__(self) -> str:
        return f"<SealingKey {key_id(self.public).hex()}>"


@dataclass(frozen=True, slots=True)
class SealedContent:
    """A content ready to be signed for.

    Attributes:
        payload: the sealed part's bytes.
        commitment: for the header, 32 bytes.
    """

    payload: bytes
    commitment: bytes

    @property
    def digest(self) -> bytes:
        """For the header, 32 bytes."""
        return sealed_digest(self.payload)


def sealed_digest(payload: bytes) -> bytes:
    """Return the SHA-256 of a sealed part's bytes."""
    return hashlib.sha256(payload).digest()


def seal(content: Content, readers: Collection[bytes]) -> SealedContent:
    """Seal a content.

    Args:
        content: what only the readers see.
        readers: their X25519 public keys, 32 bytes each; the author's own among them, else it cannot read it again.

    Raises:
        SealError: no readers, too many, a key that is none, or a content that is too large.
    """
    unique = list(dict.fromkeys(readers))
    if not 1 <= len(unique) <= MAX_READERS:
        raise SealError(f"{len(unique)} readers, expected 1 to {MAX_READERS}")
    opened = write_content(content)
    try:
        read_content(opened)
    except WireError as error:
        raise SealError(f"this cannot be sent: {error}") from None
    content_key = random_bytes(KEY_BYTES)
    ciphertext = bytes(SecretBox(content_key).encrypt(opened))
    payload = write_sealed(Sealed(ciphertext, tuple(_wrap(content_key, reader) for reader in unique)))
    if len(payload) > MAX_SEALED_BYTES:
        raise SealError(f"{len(payload)} bytes sealed, at most {MAX_SEALED_BYTES}")
    return SealedContent(payload, commit(opened))


def unseal(header: EntryHeader, payload: bytes, key: SealingKey, later: Iterable[Wrap] = ()) -> Content:
    """Open an entry's sealed part.

    Args:
        header: verified.
        payload: the sealed part as received.
        key: of the person who reads.
        later: wraps made for this person after the entry was signed.

    Raises:
        SealError: it was deleted, is not for this key, or is not what was signed.
    """
    return check_opening(header, _open(header, payload, key, later)[1])


def opening(header: EntryHeader, payload: bytes, key: SealingKey, later: Iterable[Wrap] = ()) -> bytes:
    """Return what opens one entry to somebody without a key: the content's bytes, salt included. See `check_opening`.

    Raises:
        SealError: as `unseal`.
    """
    opened = _open(header, payload, key, later)[1]
    check_opening(header, opened)
    return opened


def check_opening(header: EntryHeader, opened: bytes) -> Content:
    """Return the content if it is what the header commits to. The overseer's side of `opening`: needs the signed header and no key.

    Raises:
        SealError: it is not what was signed.
    """
    if not hmac.compare_digest(commit(opened), header.commitment):
        raise SealError("the content is not what was signed: its author sealed something else for this reader; tell the overseer")
    try:
        return read_content(opened)
    except WireError as error:
        raise SealError(f"the content was signed for, but cannot be read: {error}") from None


def wrap_for(header: EntryHeader, payload: bytes, key: SealingKey, reader: bytes, later: Iterable[Wrap] = ()) -> Wrap:
    """Return the content key wrapped for one more reader of the own member.

    Raises:
        SealError: as `unseal`.
    """
    content_key, opened = _open(header, payload, key, later)
    check_opening(header, opened)
    return _wrap(content_key, reader)


def named_readers(payload: bytes) -> frozenset[bytes]:
    """Return the key ids for which a sealed part says to be wrapped. Whether the wraps open only the readers can tell.

    Raises:
        WireError: it is no sealed part.
    """
    return frozenset(wrap.key_id for wrap in read_sealed(payload).wraps)


def _open(header: EntryHeader, payload: bytes, key: SealingKey, later: Iterable[Wrap]) -> tuple[bytes, bytes]:
    if not payload:
        raise SealError("the content was deleted, as its time was over")
    if sealed_digest(payload) != header.sealed_digest:
        raise SealError("the sealed part is not the one that was signed for")
    try:
        sealed = read_sealed(payload)
    except WireError as error:
        raise SealError(f"the sealed part cannot be read: {error}") from None
    content_key = key.unwrap((*sealed.wraps, *later))
    try:
        return content_key, bytes(SecretBox(content_key).decrypt(sealed.ciphertext))
    except CryptoError:
        raise SealError("the sealed part does not open with the key that was wrapped for this reader") from None


def _wrap(content_key: bytes, reader: bytes) -> Wrap:
    try:
        return Wrap(key_id(reader), bytes(SealedBox(PublicKey(reader)).encrypt(content_key)))
    except (CryptoError, ValueError, TypeError, RuntimeError):
        raise SealError(f"the sealing key {reader.hex():.16} is none: ask its member for a new kit") from None
