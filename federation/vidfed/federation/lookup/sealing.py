"""Sealing a reply so that only the investigator who asked can read it: libsodium's sealed box (X25519, XSalsa20-Poly1305).

Each part of a lookup has a key pair of its own. The private half never leaves the investigator's kit.
"""

from __future__ import annotations

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from vidfed.federation.lookup.errors import MailboxError

KEY_BYTES = 32


def seal(reply: bytes, public: bytes) -> bytes:
    """Close a reply so that only the holder of the private key can open it."""
    return bytes(SealedBox(PublicKey(public)).encrypt(reply))


def unseal(sealed: bytes, private: bytes) -> bytes:
    """Open a reply.

    Raises:
        MailboxError: it was not closed for this key, or altered.
    """
    try:
        return bytes(SealedBox(PrivateKey(private)).decrypt(sealed))
    except CryptoError:
        raise MailboxError("a kept reply was sealed for another key, or altered") from None


def new_key() -> tuple[bytes, bytes]:
    """Make a key pair for one lookup: (private, public), 32 bytes each."""
    private = PrivateKey.generate()
    return bytes(private), bytes(private.public_key)
