"""A member's private keys on disk, `keys/*.key`, open (mode 0600) or closed with a passphrase.

A TLS key and its certificate are one file, key first, both PEM: two files would be torn apart by a crash between writing them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vidfed.security.crypto.certificates import TlsIdentity
from vidfed.security.crypto.keys import KeyFile, SigningKey
from vidfed.security.crypto.passphrase import is_closed, read_secret, write_secret
from vidfed.security.errors import KeyFileError

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.crypto.passphrase import Passphrase

_TLS_NAMES = ("ca", "node")
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class Keyring:
    """The keys below a member's folder. What is made new is closed as the others are."""

    def __init__(self, folder: Path, passphrase: Passphrase | None) -> None:
        """Name the member's folder, and what gives the passphrase if the keys are closed."""
        self._folder = folder
        self._passphrase = passphrase
        self._identities: dict[str, tuple[object, TlsIdentity]] = {}

    def path(self, name: str) -> Path:
        """Return where a private key is."""
        return self._folder / f"keys/{name}.key"

    def follow(self, name: str) -> KeyFile:
        """Return a signer that goes over to a rotated key by itself.

        Raises:
            KeyFileError: the key cannot be used.
        """
        return KeyFile(self.path(name), self._passphrase)

    def load(self, name: str) -> SigningKey:
        """Read a signing key.

        Raises:
            KeyFileError: it cannot be used.
        """
        return SigningKey.load(self.path(name), self._passphrase)

    def save(self, name: str, key: SigningKey) -> None:
        """Write a signing key."""
        key.save(self.path(name), self._closing())

    def tls(self, name: str) -> TlsIdentity:
        """Return a TLS key and its certificate as they are now.

        Raises:
            KeyFileError: they cannot be used.
        """
        path = self.path(name)
        try:
            status = os.stat(path)  # noqa: PTH116 - for each handshake
        except OSError as error:
            raise KeyFileError(f"{error.filename}: {error.strerror}") from None
        stamp = (status.st_mtime_ns, status.st_ino, status.st_mode)
        known = self._identities.get(name)
        if known is None or known[0] != stamp:
            # Kept, because a closed one takes most of a second to open, and servers ask for each handshake.
            key, begin, certificate = read_secret(path, self._passphrase).partition(_CERTIFICATE)
            known = self._identities[name] = (stamp, TlsIdentity(key, begin + certificate))
        return known[1]

    def save_tls(self, name: str, identity: TlsIdentity) -> None:
        """Write a TLS key and its certificate, in one step."""
        write_secret(self.path(name), identity.key + identity.certificate, self._closing())

    def close(self, passphrase: bytes) -> list[str]:
        """Close every key that is still open; return the names of their files. Interrupted, it can be repeated."""
        return self._rewrite_where(False, passphrase)

    def open(self) -> list[str]:
        """Take the passphrase off every key; return the names of their files. Interrupted, it can be repeated.

        Raises:
            KeyFileError: the passphrase at hand is not the right one.
        """
        return self._rewrite_where(True, None)

    def _rewrite_where(self, closed: bool, passphrase: bytes | None) -> list[str]:
        paths = [path for path in sorted((self._folder / "keys").glob("*.key")) if is_closed(path) is closed]
        for path in paths:
            if path.name.startswith(_TLS_NAMES):
                write_secret(path, read_secret(path, self._passphrase), passphrase)
            else:
                SigningKey.load(path, self._passphrase).save(path, passphrase)
        return [path.name for path in paths]

    def _closing(self) -> bytes | None:
        """Return the passphrase to close a new key with: the one at hand, unless the member keeps its keys open."""
        path = self.path("signing")
        if self._passphrase is None or (path.exists() and not is_closed(path)):
            return None
        return self._passphrase(str(path))
