"""An Ed25519 key in a hardware token, by PKCS#11: the second `Signer`. The secret never leaves the token. Needs the extra `hsm`.

A key is named `pkcs11:TOKEN/LABEL` wherever a key file could be named; the library is in VIDFED_PKCS11_LIBRARY, the token's PIN is asked
for like a passphrase.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from vidfed.cli.parts import how_to_add
from vidfed.security.crypto.keys import PUBLIC_KEY_BYTES, PublicKey
from vidfed.security.errors import KeyFileError

if TYPE_CHECKING:
    from types import TracebackType

    from vidfed.security.crypto.passphrase import Passphrase

PREFIX = "pkcs11:"
LIBRARY_VARIABLE = "VIDFED_PKCS11_LIBRARY"
# The curve as DER PrintableString, the form tokens agree on; the point comes back as DER OCTET STRING.
_CURVE = b"\x13\x0cedwards25519"
_OCTET_STRING = b"\x04\x20"


@dataclass(frozen=True, slots=True)
class TokenName:
    """Which key in which token."""

    token: str
    label: str

    @classmethod
    def parse(cls, text: str) -> TokenName:
        """Read `pkcs11:TOKEN/LABEL`.

        Raises:
            KeyFileError: it is not of that form.
        """
        token, slash, label = text.removeprefix(PREFIX).partition("/")
        if not text.startswith(PREFIX) or not slash or not token or not label:
            raise KeyFileError(f"{text!r:.80}: a key in a token is named {PREFIX}TOKEN/LABEL")
        return cls(token, label)


class TokenKey:
    """One key in a token, for as long as its session is open. Use as a context manager. Its `repr` is the public key's id."""

    def __init__(self, name: str, pin: Passphrase, *, make: bool = False) -> None:
        """Open a session.

        Args:
            name: `pkcs11:TOKEN/LABEL`.
            pin: gives the token's PIN.
            make: make the key; one of that label must not exist.

        Raises:
            KeyFileError: library, token or key is missing, the PIN is wrong, or the extra `hsm` is not installed.
        """
        self._named = TokenName.parse(name)
        self._foreign, self._session = _open(self._named, pin(name).decode())
        try:
            if make:
                self._make()
            self._key = self._find("PRIVATE_KEY")
            self.public = self._public()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TokenKey {self.public.key_id}>"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`, made in the token.

        Raises:
            KeyFileError: the token refuses, or is gone.
        """
        try:
            signature = bytes(self._key.sign(message, mechanism=self._foreign.Mechanism.EDDSA))
        except self._foreign.exceptions.PKCS11Error as error:
            raise KeyFileError(f"token {self._named.token}: {type(error).__name__}") from None
        if not self.public.holds(message, signature):
            raise KeyFileError(f"token {self._named.token}: gave a signature that does not hold")
        return signature

    def close(self) -> None:
        """Close the session; the token forgets the PIN."""
        with contextlib.suppress(self._foreign.exceptions.PKCS11Error):
            self._session.close()

    def _make(self) -> None:
        with contextlib.suppress(KeyFileError):
            self._find("PRIVATE_KEY")
            raise FileExistsError(0, "a key is never overwritten", f"{PREFIX}{self._named.token}/{self._named.label}")
        parameters = self._session.create_domain_parameters(
            self._foreign.KeyType.EC_EDWARDS, {self._foreign.Attribute.EC_PARAMS: _CURVE}, local=True
        )
        parameters.generate_keypair(mechanism=self._foreign.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, label=self._named.label, store=True)

    def _find(self, kind: str) -> Any:  # noqa: ANN401 - an object of the token
        found = list(
            self._session.get_objects(
                {
                    self._foreign.Attribute.LABEL: self._named.label,
                    self._foreign.Attribute.CLASS: self._foreign.ObjectClass[kind],
                    self._foreign.Attribute.KEY_TYPE: self._foreign.KeyType.EC_EDWARDS,
                }
            )
        )
        if len(found) != 1:
            raise KeyFileError(f"token {self._named.token}: {len(found)} Ed25519 keys of the label {self._named.label!r:.50}")
        return found[0]

    def _public(self) -> PublicKey:
        point = bytes(self._find("PUBLIC_KEY")[self._foreign.Attribute.EC_POINT])
        return PublicKey(point.removeprefix(_OCTET_STRING) if len(point) > PUBLIC_KEY_BYTES else point)


def _open(named: TokenName, pin: str) -> tuple[Any, Any]:
    try:
        import pkcs11  # noqa: PLC0415 - an extra: most machines have no token
    except ImportError:
        raise KeyFileError(f"keys in tokens need an extra; {how_to_add('hsm')}") from None
    library = os.environ.get(LIBRARY_VARIABLE)
    if not library:
        raise KeyFileError(f"{LIBRARY_VARIABLE} must name the token's PKCS#11 library")
    try:
        token = pkcs11.lib(library).get_token(token_label=named.token)
        return pkcs11, token.open(rw=True, user_pin=pin)
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as error:
        raise KeyFileError(f"token {named.token}: {type(error).__name__.removesuffix('Error')}: {error}") from None
