"""An investigator's kit: the folder with which a person may ask. Its private keys were made in it and never leave it.

kit.json                   who this is, of which member, and where its gateway is
signing.key, sealing.key   Ed25519 and X25519; stay when the kit is renewed
identity.json              credential, TLS key and certificate, which are renewed together
anchor.json, trust/        where trust starts; the trust directory as last verified
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from vidfed.security.clock import Clock, system_clock
from vidfed.security.crypto.certificates import TlsIdentity
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.crypto.sealing_key import load_sealing_key
from vidfed.security.documents import read_document
from vidfed.security.errors import HomeError
from vidfed.security.files import read_private
from vidfed.security.identity.credentials import Credential
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.client import TufDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from vidfed.security.identity.directory import Directory
    from vidfed.security.trust.mirrors import Mirror

KIT_FILE = "kit.json"
_FORM = {"kind": str, "federation": str, "member": str, "pseudonym": str, "gateway": str}
_IDENTITY_FORM = {"credential": str, "tls_key": str, "tls_certificate": str}
_KIND = "vidfed-kit/2"


class Kit:
    """An investigator's kit on disk."""

    def __init__(self, folder: Path) -> None:
        """Open the kit in `folder`.

        Raises:
            HomeError: there is none.
            KeyFileError: a file is missing, or readable by others.
        """
        self.folder = folder
        if not (folder / KIT_FILE).is_file():
            raise HomeError(
                f"{folder}: no investigator's kit here; your unit makes an invitation with `vidfed trust issue-investigator`, "
                "and `vidfed enrol` makes the kit of it"
            )
        fields = read_document(read_private(folder / KIT_FILE), _FORM, HomeError, str(folder / KIT_FILE))
        if fields["kind"] != _KIND:
            raise HomeError(f"{folder}: not a kit of this version")
        self.federation: str = fields["federation"]
        self.member: str = fields["member"]
        self.pseudonym: str = fields["pseudonym"]
        self.gateway: str = fields["gateway"]

    @functools.cached_property
    def signer(self) -> SigningKey:
        """The investigator's signing key."""
        return SigningKey.load(self.folder / "signing.key")

    @functools.cached_property
    def sealing_key(self) -> bytes:
        """The investigator's X25519 private key, 32 bytes."""
        return load_sealing_key(self.folder / "sealing.key")

    @functools.cached_property
    def credential(self) -> Envelope:
        """The member's statement about this investigator."""
        return self._identity[0]

    @property
    def holder(self) -> Credential:
        """What that statement says."""
        return Credential.read(self.credential.payload)

    @functools.cached_property
    def tls(self) -> TlsIdentity:
        """The TLS key and certificate for calling the gateway."""
        return self._identity[1]

    @functools.cached_property
    def _identity(self) -> tuple[Envelope, TlsIdentity]:
        """Both as they were in one moment: a kit may be renewed while it is open."""
        path = self.folder / "identity.json"
        fields = read_document(read_private(path), _IDENTITY_FORM, HomeError, str(path))
        tls = TlsIdentity(fields["tls_key"].encode(), fields["tls_certificate"].encode())
        return Envelope.from_json(fields["credential"].encode()), tls

    def directory_source(
        self, clock: Clock = system_clock, ask: Callable[[Directory | None], Iterable[Mirror]] = lambda _known: ()
    ) -> TufDirectory:
        """Return the investigator's own copy of the trust directory; `ask` gives the mirrors that a refresh asks."""
        return TufDirectory(self.folder / "trust", Anchor.load(self.folder / "anchor.json"), ask=ask, clock=clock)


def kit_file(federation: str, member: str, pseudonym: str, gateway: str) -> bytes:
    """Return the content of `kit.json`."""
    fields = {"kind": _KIND, "federation": federation, "member": member, "pseudonym": pseudonym, "gateway": gateway}
    return json.dumps(fields, indent=1).encode() + b"\n"


def identity_file(credential: Envelope, tls: TlsIdentity) -> bytes:
    """Return the content of `identity.json`: one file, so that credential and certificate are replaced together."""
    fields = {"credential": credential.to_json().decode(), "tls_key": tls.key.decode(), "tls_certificate": tls.certificate.decode()}
    return json.dumps(fields, indent=1).encode() + b"\n"
