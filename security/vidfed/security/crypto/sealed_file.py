"""A file sealed to an offline recipient: whoever writes it cannot read it again, and nothing of it can be changed, left out or cut off.

A line of JSON names the recipient's X25519 key and holds the file's own key in a sealed box for it; then libsodium's secretstream
(XChaCha20-Poly1305), in pieces of CHUNK_BYTES, the last of which is marked. The first line is authenticated with the first piece.
"""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
from typing import TYPE_CHECKING, BinaryIO

from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from vidfed.security.crypto.sealing_key import make_sealing_key, save_sealing_key, sealing_public_key
from vidfed.security.documents import read_document
from vidfed.security.errors import KeyFileError, SealedFileError
from vidfed.security.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import ReadableBuffer, WriteableBuffer

SEALED_KIND = "vidfed-sealed-file/1"
CHUNK_BYTES = 1 << 20
_MAX_HEAD_BYTES = 4_096
_RECIPIENT = re.compile(rb"vidfed-recipient-1 ([A-Za-z0-9+/]{43}=)\s*")
_FORM = {"kind": str, "recipient": str, "key": str, "stream": str}
_OVERHEAD_BYTES = bindings.crypto_secretstream_xchacha20poly1305_ABYTES
_LAST = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_MORE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE


def make_recipient(private: Path, public: Path) -> None:
    """Write a recipient's key pair: `private` (0600) is taken away from this machine, `public` stays.

    Raises:
        KeyFileError: one of the files exists.
    """
    for path in (private, public):
        if path.exists():
            raise KeyFileError(f"{path}: exists; a key is never overwritten")
    key = make_sealing_key()
    save_sealing_key(private, key)
    write_whole(public, b"vidfed-recipient-1 %b\n" % base64.b64encode(sealing_public_key(key)))


def read_recipient(public: Path) -> bytes:
    """Return the 32-byte public key in a recipient's file.

    Raises:
        KeyFileError: there is none.
    """
    try:
        found = _RECIPIENT.fullmatch(public.read_bytes())
    except OSError as error:
        raise KeyFileError(f"{public}: {error.strerror}") from None
    if found is None:
        raise KeyFileError(f"{public}: not the public key of a backup's recipient (vidfed node backup-key makes one)")
    return base64.b64decode(found.group(1))


class SealingWriter(io.RawIOBase):
    """Seals what is written to it; complete only once `finish` was called."""

    def __init__(self, file: BinaryIO, recipient: bytes) -> None:
        """Write the first line to `file`, for this 32-byte public key."""
        super().__init__()
        self._file = file
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        key = secrets.token_bytes(bindings.crypto_secretstream_xchacha20poly1305_KEYBYTES)
        stream = bindings.crypto_secretstream_xchacha20poly1305_init_push(self._state, key)
        fields = {"recipient": recipient, "key": SealedBox(PublicKey(recipient)).encrypt(key), "stream": stream}
        texts = {name: base64.b64encode(value).decode() for name, value in fields.items()}
        self._head = json.dumps({"kind": SEALED_KIND} | texts).encode() + b"\n"
        file.write(self._head)
        self._waiting = bytearray()

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Seal some bytes."""
        view = memoryview(data)
        self._waiting += view
        while len(self._waiting) > CHUNK_BYTES:
            self._push(bytes(self._waiting[:CHUNK_BYTES]), _MORE)
            del self._waiting[:CHUNK_BYTES]
        return view.nbytes

    def finish(self) -> None:
        """Write the last piece."""
        self._push(bytes(self._waiting), _LAST)

    def _push(self, piece: bytes, tag: int) -> None:
        self._file.write(bindings.crypto_secretstream_xchacha20poly1305_push(self._state, piece, self._head, tag))
        self._head = b""


class OpeningReader(io.RawIOBase):
    """Reads what a sealed file holds. Nothing may be done with it before the end was read: only then is it known to be whole."""

    def __init__(self, path: Path, file: BinaryIO, private: bytes) -> None:
        """Read the first line of `file`, with the recipient's 32-byte private key.

        Raises:
            SealedFileError: not a sealed file, or not for this key.
        """
        super().__init__()
        self._path = path
        self._file = file
        head = file.readline(_MAX_HEAD_BYTES)
        fields = read_document(head, _FORM, SealedFileError, f"{path}: not a sealed backup")
        try:
            recipient, sealed, stream = (base64.b64decode(fields[name], validate=True) for name in ("recipient", "key", "stream"))
        except ValueError:
            raise SealedFileError(f"{path}: damaged in its first line") from None
        if fields["kind"] != SEALED_KIND or recipient != sealing_public_key(private):
            raise SealedFileError(f"{path}: sealed for another key than this one")
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        try:
            key = SealedBox(PrivateKey(private)).decrypt(sealed)
            bindings.crypto_secretstream_xchacha20poly1305_init_pull(self._state, stream, key)
        except (CryptoError, RuntimeError, ValueError):
            raise SealedFileError(f"{path}: damaged in its first line") from None
        self._head = head
        self._left = b""
        self._ended = False

    def readable(self) -> bool:
        """Tell that it can be read from."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read some bytes; 0 at the verified end.

        Raises:
            SealedFileError: changed, or cut off.
        """
        while not self._left and not self._ended:
            piece = self._file.read(CHUNK_BYTES + _OVERHEAD_BYTES)
            try:
                self._left, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(self._state, piece, self._head)
            except (CryptoError, RuntimeError, ValueError):
                raise SealedFileError(f"{self._path}: damaged, or cut off") from None
            self._head, self._ended = b"", tag == _LAST
            if self._ended and self._file.read(1):
                raise SealedFileError(f"{self._path}: something was added at its end")
        view = memoryview(buffer)
        count = min(view.nbytes, len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
