"""An investigator's kit: what the own member hands over so that a person may ask. A folder with mode 0700, its files 0600."""

from __future__ import annotations

import functools
import json
import re
import secrets
from typing import TYPE_CHECKING

from vidfed.security.clock import DAY_MS, Clock, system_clock
from vidfed.security.credentials import Credential
from vidfed.security.documents import read_document
from vidfed.security.envelope import Envelope
from vidfed.security.errors import HomeError
from vidfed.security.files import read_private, write_private
from vidfed.security.keys import SigningKey
from vidfed.security.tls import TlsIdentity, make_investigator_leaf
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.reader import keep_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from vidfed.security.directory import Directory
    from vidfed.security.home import MemberHome
    from vidfed.security.trust.mirrors import Mirror

CREDENTIAL_LIFE_DAYS = 30
_FORM = {"kind": str, "federation": str, "member": str, "pseudonym": str, "gateway": str}
_KIND = "vidfed-kit/1"
_PSEUDONYM = re.compile(r"[a-z0-9][a-z0-9-]{1,39}")


class Kit:
    """An investigator's kit on disk."""

    def __init__(self, folder: Path) -> None:
        """Open the kit in `folder`.

        Raises:
            HomeError: there is none.
            KeyFileError: a file is missing, or readable by others.
        """
        self.folder = folder
        if not (folder / "kit.json").is_file():
            raise HomeError(f"{folder}: no investigator's kit here; your unit makes one with `vidfed trust issue-investigator`")
        fields = read_document(read_private(folder / "kit.json"), _FORM, HomeError, str(folder / "kit.json"))
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
    def credential(self) -> Envelope:
        """The member's statement about this investigator."""
        return Envelope.from_json(read_private(self.folder / "credential.json"))

    @functools.cached_property
    def tls(self) -> TlsIdentity:
        """The TLS key and certificate for calling the gateway."""
        return TlsIdentity(read_private(self.folder / "tls.key"), read_private(self.folder / "tls.crt"))

    def directory_source(
        self, clock: Clock = system_clock, ask: Callable[[Directory | None], Iterable[Mirror]] = lambda _known: ()
    ) -> TufDirectory:
        """Return the investigator's own copy of the trust directory; `ask` gives the mirrors that a refresh asks."""
        return TufDirectory(self.folder / "trust", Anchor.load(self.folder / "anchor.json"), ask=ask, clock=clock)


def issue_kit(home: MemberHome, folder: Path, *, gateway: str, pseudonym: str | None = None, clock: Clock = system_clock) -> Kit:
    """Make a kit for one of the member's investigators, valid for CREDENTIAL_LIFE_DAYS.

    Args:
        home: the member's folder, with its signing key and CA.
        folder: where the kit goes; must not exist yet, or be empty.
        gateway: `host:port` of the member's gateway.
        pseudonym: 2 to 40 lower-case letters, digits and hyphens; random if not given.
        clock: gives the time the validity starts from.

    Raises:
        HomeError: the folder is in use or the pseudonym is malformed.
        DirectoryError: the trust directory cannot be used.
    """
    if folder.exists() and any(folder.iterdir()):
        raise HomeError(f"{folder}: exists and is not empty; a kit is never overwritten")
    pseudonym = pseudonym or f"inv-{secrets.token_hex(4)}"
    if not _PSEUDONYM.fullmatch(pseudonym):
        raise HomeError(f"pseudonym {pseudonym!r:.50}: 2 to 40 lower-case letters, digits and hyphens")
    source = home.directory_source(clock)
    source.current()
    signer = SigningKey.generate()
    now_ms = clock()
    credential = Credential(
        federation=home.federation,
        member=home.member,
        serial=secrets.token_hex(16),
        pseudonym=pseudonym,
        key=signer.public,
        not_before_ms=now_ms - 5 * 60_000,
        not_after_ms=now_ms + CREDENTIAL_LIFE_DAYS * DAY_MS,
    )
    tls = make_investigator_leaf(home.ca, home.federation, home.member, pseudonym)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer.save(folder / "signing.key")
    write_private(folder / "credential.json", credential.to_envelope(home.signer).to_json())
    write_private(folder / "tls.key", tls.key)
    write_private(folder / "tls.crt", tls.certificate)
    write_private(folder / "anchor.json", home.anchor_path.read_bytes())
    keep_files(folder / "trust/held", source.files())
    fields = {"kind": _KIND, "federation": home.federation, "member": home.member, "pseudonym": pseudonym, "gateway": gateway}
    write_private(folder / "kit.json", json.dumps(fields, indent=1).encode() + b"\n")  # last: with it the kit is whole
    return Kit(folder)
