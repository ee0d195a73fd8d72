"""Ed25519 keys (RFC 8032): whoever signs is a `Signer`, whatever holds its key."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey as NaclSigningKey
from nacl.signing import VerifyKey as NaclVerifyKey

from vidfed.security.crypto.passphrase import SERVICE_PASSPHRASE, close, open_closed
from vidfed.security.errors import KeyFileError
from vidfed.security.files import read_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.crypto.passphrase import Passphrase

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_FILE_KIND = "vidfed-ed25519-seed/1"
_CLOSED_KIND = "vidfed-ed25519-closed/1"
_log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=4096)  # asked for each signature made or verified
def _key_id(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key of 32 bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_KEY_BYTES:
            raise KeyFileError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, this one {len(self.raw)}")

    @property
    def key_id(self) -> str:
        """First 16 hex digits of the key's SHA-256; names the key to people and in envelopes, decides nothing."""
        return _key_id(self.raw)

    @property
    def text(self) -> str:
        """Base64, the form used in files."""
        return base64.b64encode(self.raw).decode()

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the base64 form.

        Raises:
            KeyFileError: it is not base64 of 32 bytes.
        """
        try:
            return cls(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise KeyFileError("a public key is not base64") from None

    def holds(self, message: bytes, signature: bytes) -> bool:
        """Tell whether `signature` is this key's signature over `message`."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        try:
            NaclVerifyKey(self.raw).verify(message, signature)
        except BadSignatureError:
            return False
        return True


class Signer(Protocol):
    """Whatever can sign with one Ed25519 key: a key file here, a hardware token elsewhere."""

    @property
    def public(self) -> PublicKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""


class SigningKey:
    """An Ed25519 private key in memory. Never shown: its `repr` is the public key's id."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = NaclSigningKey(seed)
        self.public = PublicKey(bytes(self._key.verify_key))

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key from the system's randomness."""
        return cls(bytes(NaclSigningKey.generate()))

    @classmethod
    def load(cls, path: Path, passphrase: Passphrase | None = None) -> SigningKey:
        """Read a key file.

        Args:
            path: the file.
            passphrase: gives the passphrase if the file is closed with one.

        Raises:
            KeyFileError: missing, readable by others, not a key file, or closed with another passphrase.
        """
        content = read_private(path)
        try:
            fields = json.loads(content)
            if fields["kind"] == _CLOSED_KIND:
                if passphrase is None:
                    raise KeyFileError(f"{path}: closed with a passphrase; name the file that holds it in {SERVICE_PASSPHRASE}")
                key = cls(open_closed(fields, passphrase(str(path)), str(path)))
            elif fields["kind"] == _FILE_KIND:
                key = cls(base64.b64decode(fields["seed"], validate=True))
            else:
                raise KeyFileError(f"{path}: not a signing key file of this version")
            if key.public.text != fields["public"]:  # half overwritten: another key would sign what nobody believes
                raise KeyFileError(f"{path}: damaged: the secret is not that of the public key beside it")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise KeyFileError(f"{path}: damaged, or not a signing key file") from None
        return key

    def to_file(self, passphrase: bytes | None = None) -> bytes:
        """Return the content of a key file, closed if there is a passphrase."""
        if passphrase is None:
            fields: dict[str, object] = {
                "kind": _FILE_KIND,
                "public": self.public.text,
                "seed": base64.b64encode(bytes(self._key)).decode(),
            }
        else:
            fields = {"kind": _CLOSED_KIND, "public": self.public.text, **close(bytes(self._key), passphrase)}
        return json.dumps(fields, indent=1).encode() + b"\n"

    def save(self, path: Path, passphrase: bytes | None = None) -> None:
        """Write a key file with mode 0600, closed if there is a passphrase."""
        write_private(path, self.to_file(passphrase))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"<SigningKey {self.public.key_id}>"


class KeyFile:
    """A `Signer` whose key is in a file, and is read anew when the file changes: a service goes over to a rotated key by itself."""

    def __init__(self, path: Path, passphrase: Passphrase | None = None) -> None:
        """Read the key; see `SigningKey.load`.

        Raises:
            KeyFileError: it cannot be used.
        """
        self._path = path
        self._passphrase = passphrase
        self._stamp = self._stamp_now()
        self._key = SigningKey.load(path, passphrase)

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self._current().public

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._current().sign(message)

    def _current(self) -> SigningKey:
        stamp = self._stamp_now()
        if stamp != self._stamp:
            try:
                self._key = SigningKey.load(self._path, self._passphrase)
            except KeyFileError as error:
                _log.error("ALARM: the old key signs on: %s", error)
            self._stamp = stamp  # after the key: another thread must not take the old one for the new
        return self._key

    def _stamp_now(self) -> object:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - for each signature; half the time of Path
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_mode

    def __repr__(self) -> str:
        return f"<KeyFile {self._key.public.key_id}>"
