"""X.509 certificates as files and bytes: a key with its certificate, and whether a text is a CA. Who they speak for: `identity.tls`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from vidfed.security.errors import KeyFileError

MAX_CAS_BYTES = 16 * 1024  # of the PEM of both; ours have 1 KiB each
MAX_CAS = 2  # of a member: the present one, and while it is replaced the next


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A private key and its certificate, both PEM."""

    key: bytes
    certificate: bytes

    def __repr__(self) -> str:
        return "<TlsIdentity>"  # the key must not reach a log or a traceback


def check_identity(identity: TlsIdentity) -> None:
    """Check that a private key and a certificate can be read and belong together.

    Raises:
        KeyFileError: they do not.
    """
    try:
        key = serialization.load_pem_private_key(identity.key, password=None)
        certificate = x509.load_pem_x509_certificate(identity.certificate)
    except ValueError:
        raise KeyFileError("the TLS key or certificate is damaged: vidfed node rotate certificate makes a new pair") from None
    if key.public_key() != certificate.public_key():
        raise KeyFileError("the TLS key is not that of the certificate")


@functools.lru_cache(maxsize=1_024)
def are_cas(authorities_pem: bytes) -> bool:
    """Tell whether this is one CA certificate, or two while one replaces the other.

    gRPC takes all members' CAs as one text, in which a damaged one spoils the others.
    """
    if len(authorities_pem) > MAX_CAS_BYTES:
        return False
    try:
        authorities = x509.load_pem_x509_certificates(authorities_pem)
        sound = all(authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for authority in authorities)
    except Exception:  # noqa: BLE001 - a member writes them, and what the library raises at them has no common root (InvalidVersion, say)
        return False
    return sound and 1 <= len(authorities) <= MAX_CAS
