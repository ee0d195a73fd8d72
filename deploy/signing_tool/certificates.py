"""Stands for vidfed.security.crypto.certificates in the signing tool, whose machine has no package that reads X.509.

A member's CA certificates are told by their frame only. Who signs decides on the words over the whole entry; whoever publishes, and every
reader, looks into the certificates and refuses what is none.
"""

from __future__ import annotations

import ssl

MAX_CAS = 2
MAX_CAS_BYTES = 16 * 1024
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def are_cas(authorities_pem: bytes) -> bool:
    """Tell whether this is one certificate in PEM, or two, by its frame."""
    if len(authorities_pem) > MAX_CAS_BYTES:
        return False
    try:
        parts = [f"{part}{_END}\n" for part in authorities_pem.decode("ascii").split(f"{_END}\n")[:-1]]
        return 1 <= len(parts) <= MAX_CAS and all(part.startswith(_BEGIN) and ssl.PEM_cert_to_DER_cert(part) for part in parts)
    except ValueError:
        return False
