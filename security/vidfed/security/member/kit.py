"""An investigator's kit: what the own member hands over so that a person may ask.

On its way it is one file closed with a passphrase; installed, a folder with mode 0700, its files 0600.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vidfed.security.clock import DAY_MS, MINUTE_MS, Clock, system_clock
from vidfed.security.crypto.certificates import TlsIdentity
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.crypto.passphrase import close, open_closed
from vidfed.security.documents import PSEUDONYM, read_document
from vidfed.security.errors import HomeError
from vidfed.security.files import read_private, write_private
from vidfed.security.identity.credentials import Credential
from vidfed.security.identity.tls import make_investigator_leaf
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.client import TufDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from vidfed.security.crypto.passphrase import Passphrase
    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.home import MemberHome
    from vidfed.security.trust.mirrors import Mirror

CREDENTIAL_LIFE_DAYS = 30
_FORM = {"kind": str, "federation": str, "member": str, "pseudonym": str, "gateway": str}
_KIND = "vidfed-kit/1"
_CLOSED_KIND = "vidfed-kit-closed/1"
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9/._-]{0,199}")


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


def issue_kit(
    home: MemberHome,
    folder: Path,
    *,
    gateway: str,
    pseudonym: str | None = None,
    roles: tuple[str, ...] = (),
    clock: Clock = system_clock,
) -> Kit:
    """Make a kit and install it at once in `folder`, which must not exist yet, or be empty. See `make_kit` and `install_kit`."""
    _check_free(folder)
    return install_kit(make_kit(home, gateway=gateway, pseudonym=pseudonym, roles=roles, clock=clock), folder)


def make_kit(
    home: MemberHome, *, gateway: str, pseudonym: str | None = None, roles: tuple[str, ...] = (), clock: Clock = system_clock
) -> dict[str, bytes]:
    """Make a kit for one of the member's investigators, valid for CREDENTIAL_LIFE_DAYS, and enter it in the member's list.

    Args:
        home: the member's folder, with its signing key and CA.
        gateway: `host:port` of the member's gateway.
        pseudonym: 2 to 40 lower-case letters, digits and hyphens; random if not given, the same as before to renew.
        roles: of `credentials.ROLES`; what other members' policies may ask for.
        clock: gives the time the validity starts from.

    Returns:
        The kit's files by name.

    Raises:
        HomeError: the pseudonym is malformed.
        DirectoryError: the trust directory cannot be used.
    """
    pseudonym = pseudonym or f"inv-{secrets.token_hex(4)}"
    if not PSEUDONYM.fullmatch(pseudonym):
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
        not_before_ms=now_ms - 5 * MINUTE_MS,
        not_after_ms=now_ms + CREDENTIAL_LIFE_DAYS * DAY_MS,
        roles=roles,
    )
    tls = make_investigator_leaf(home.ca, home.federation, home.member, pseudonym)
    fields = {"kind": _KIND, "federation": home.federation, "member": home.member, "pseudonym": pseudonym, "gateway": gateway}
    issued = [*issued_kits(home), Issued(credential.serial, pseudonym, credential.not_after_ms)]
    write_private(_issued_path(home), json.dumps([asdict(kit) for kit in issued], indent=1).encode() + b"\n")
    return {
        "signing.key": signer.to_file(),
        "credential.json": credential.to_envelope(home.signer).to_json(),
        "tls.key": tls.key,
        "tls.crt": tls.certificate,
        "anchor.json": home.anchor_path.read_bytes(),
        **{f"trust/held/{name}": content for name, content in source.files().items()},
        "kit.json": json.dumps(fields, indent=1).encode() + b"\n",
    }


def install_kit(files: Mapping[str, bytes], folder: Path) -> Kit:
    """Install a kit's files, each with mode 0600, in a folder with mode 0700.

    Raises:
        HomeError: the folder is in use, or a name leads out of it.
    """
    _check_free(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == "kit.json"):  # last: with it the kit is whole
        if not _FILE_NAME.fullmatch(name) or ".." in name:
            raise HomeError(f"the kit holds a file of the name {name!r:.50}")
        write_private(folder / name, files[name])
    return Kit(folder)


def close_kit(files: Mapping[str, bytes], passphrase: bytes) -> bytes:
    """Return a kit as one file, closed with a passphrase."""
    inside = json.dumps({name: base64.b64encode(content).decode() for name, content in files.items()}).encode()
    return json.dumps({"kind": _CLOSED_KIND, **close(inside, passphrase)}).encode() + b"\n"


def open_kit(path: Path, passphrase: Passphrase) -> dict[str, bytes]:
    """Read a closed kit.

    Raises:
        HomeError: it is not one.
        KeyFileError: another passphrase, or damaged.
    """
    try:
        fields = json.loads(path.read_bytes())
        if fields["kind"] != _CLOSED_KIND:
            raise HomeError(f"{path}: not a kit of this version")
        inside = json.loads(open_closed(fields, passphrase(str(path)), str(path)))
        return {str(name): base64.b64decode(content, validate=True) for name, content in inside.items()}
    except OSError as error:
        raise HomeError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise HomeError(f"{path}: damaged, or not a kit") from None


@dataclass(frozen=True, slots=True)
class Issued:
    """One line of the member's list of kits: whose, and until when (ms since the epoch)."""

    serial: str
    pseudonym: str
    not_after_ms: int


def issued_kits(home: MemberHome) -> list[Issued]:
    """Return the kits this member has issued, oldest first.

    Raises:
        HomeError: the list is damaged.
    """
    path = _issued_path(home)
    if not path.exists():
        return []
    try:
        return [Issued(**entry) for entry in json.loads(read_private(path))]
    except (ValueError, TypeError):
        raise HomeError(f"{path}: damaged") from None


def _issued_path(home: MemberHome) -> Path:
    return home.state_file("investigators.json")


def _check_free(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise HomeError(f"{folder}: exists and is not empty; a kit is never overwritten")
