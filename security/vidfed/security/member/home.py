"""A member's folder: its keys, certificates, trust directory and configuration.

vidfed.toml                configuration, commented
policy.toml                whom the node answers, and what it tells
member.json                the member's entry in the trust directory, as the administrators are asked to list it
keys/signing.key           the member's voice (0600)
keys/audit.key             signs the audit log's checkpoints, and cosigns those of others (0600)
keys/entry.key             signs member.json: who holds it speaks about the member's other keys (0600)
keys/ca.key, keys/node.key TLS: key and certificate in one file, so that neither is ever without the other (0600)
trust/anchor.json          where trust starts: a root of the federation
store/ index/ state/       records, search index; replay memory, audit log and the trust directory as last verified
"""

from __future__ import annotations

import functools
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.security.clock import Clock, system_clock
from vidfed.security.crypto.keyring import Keyring
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.crypto.passphrase import of_services
from vidfed.security.documents import MEMBER_ID, check_endpoint, check_id
from vidfed.security.errors import HomeError
from vidfed.security.files import PRIVATE_MODE, write_whole
from vidfed.security.identity.directory import Member
from vidfed.security.identity.tls import make_ca, make_node_leaf
from vidfed.security.settings import Section, check_not_below_zero, read_section, read_settings
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.client import REFRESH_S, TufDirectory
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.federation import FederationFolder
from vidfed.security.trust.mirrors import FolderMirror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.crypto.keys import KeyFile
    from vidfed.security.crypto.passphrase import Passphrase
    from vidfed.security.identity.directory import Directory
    from vidfed.security.trust.mirrors import Mirror

CONFIG_FILE = "vidfed.toml"
_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class MemberSection:
    """`[member]`: who this is.

    Attributes:
        federation: id of the federation.
        id: the member's short id.
        name: the unit's name, for people.
        contact: whom other members call about a hit, unless a record says otherwise.
    """

    federation: str
    id: str
    name: str
    contact: str


@dataclass(frozen=True, slots=True)
class TrustSection:
    """`[trust]`: where trust comes from. Paths are relative to the folder.

    Attributes:
        anchor_file: a root of the federation.
        directory_folder: a published folder to follow; none if empty.
        publish_folder: the administrators' folder, with the online key, if this member's node publishes; none if empty.
        refresh_s: how often other members' nodes are asked for something newer; 0 for never.
        ask: addresses (`host:port`) of members' nodes to ask as well, for one whose copy of the directory leads to nobody.
    """

    anchor_file: str = "trust/anchor.json"
    directory_folder: str = ""
    publish_folder: str = ""
    refresh_s: float = REFRESH_S
    ask: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense: below 0, the others would be asked without a pause."""
        check_not_below_zero(self, "refresh_s")
        for address in self.ask:
            check_endpoint(address, HomeError, "ask")


class MemberHome:
    """An existing member's folder."""

    def __init__(self, folder: Path, passphrase: Passphrase | None = None) -> None:
        """Read the configuration of `folder`.

        Args:
            folder: the member's folder.
            passphrase: gives the passphrase of its keys; by default `passphrase.of_services`.

        Raises:
            HomeError: there is none, or it is wrong.
        """
        self.folder = folder
        self._passphrase = passphrase or of_services()
        self.keys = Keyring(folder, self._passphrase)
        self.config_path = folder / CONFIG_FILE
        self._settings = read_settings(self.config_path)
        known = {"member", "trust", "node", "gateway", "audit", "store", "log", "casework", "source", "outbox"}
        if unknown := sorted(self._settings.keys() - known):
            raise HomeError(f"{self.config_path}: unknown section [{unknown[0]}]; known are {', '.join(sorted(known))}")
        self.identity = self.section("member", MemberSection)
        self._trust = self.section("trust", TrustSection)
        check_id(self.identity.id, MEMBER_ID, HomeError, f"{self.config_path}: [member] id")

    @property
    def federation(self) -> str:
        """The federation's id."""
        return self.identity.federation

    @property
    def member(self) -> str:
        """The member's id."""
        return self.identity.id

    def section(self, name: str, kind: type[Section]) -> Section:
        """Return one section of the configuration; see `read_section`."""
        return read_section(self._settings, name, kind, self.config_path)

    def tables(self, name: str) -> object:
        """Return what the configuration has below `name` as it stands there, for sections that are read by whoever knows them."""
        return self._settings.get(name, {})

    @property
    def database_url(self) -> str:
        """`[store] url`: the PostgreSQL server all processes of the member share, or empty for files in the folder."""
        url = self._settings.get("store", {}).get("url", "")
        if not isinstance(url, str):
            raise HomeError(f"{self.config_path}: [store] url must be a text")
        return url

    def state_file(self, name: str) -> Path:
        """Return the path of a file that running services keep."""
        folder = self.folder / "state"
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        return folder / name

    @functools.cached_property
    def signer(self) -> KeyFile:
        """The member's signing key."""
        return self.keys.follow("signing")

    @functools.cached_property
    def audit_signer(self) -> KeyFile:
        """The key that signs the audit log's checkpoints. Not the signing key: who holds one cannot forge what the other shows."""
        return self.keys.follow("audit")

    @functools.cached_property
    def entry_signer(self) -> KeyFile:
        """The key that signs the member's entry in the trust directory."""
        return self.keys.follow("entry")

    @property
    def ca(self) -> TlsIdentity:
        """The member's CA."""
        return self.keys.tls("ca")

    def node_tls(self) -> TlsIdentity:
        """Return the node's TLS key and certificate as they are now, so that a renewed one is seen."""
        return self.keys.tls("node")

    @property
    def entry_path(self) -> Path:
        """The member's own entry, newest version."""
        return self.folder / "member.json"

    def publisher(self) -> FederationFolder | None:
        """Return the administrators' folder if this member's node publishes.

        Raises:
            DirectoryError: it is not one.
        """
        if not self._trust.publish_folder:
            return None
        return FederationFolder(self.folder / self._trust.publish_folder, passphrase=self._passphrase)

    @property
    def refresh_s(self) -> float:
        """How often other members are asked for a newer trust directory; 0 for never."""
        return self._trust.refresh_s

    @property
    def ask(self) -> tuple[str, ...]:
        """Addresses of members' nodes that are asked where no copy of the directory leads to any."""
        return self._trust.ask

    def directory_source(
        self, clock: Clock = system_clock, ask: Callable[[Directory | None], Iterable[Mirror]] = lambda _known: ()
    ) -> TufDirectory:
        """Return the source of this member's trust directory; `ask` gives the mirrors that a refresh asks."""
        anchor = Anchor.load(self.anchor_path)
        if anchor.federation != self.federation:
            raise HomeError(f"{self.config_path}: federation {self.federation!r}, but the anchor is of {anchor.federation!r}")
        followed = [FolderMirror(self.folder / self._trust.directory_folder)] if self._trust.directory_folder else []
        if self._trust.publish_folder:
            followed.append(FolderMirror(self.folder / self._trust.publish_folder / "directory"))
        return TufDirectory(self.state_file("trust"), anchor, followed, ask=ask, clock=clock)

    @property
    def anchor_path(self) -> Path:
        """The anchor file."""
        return self.folder / self._trust.anchor_file


def create_home(folder: Path, *, config: str, endpoint: str, anchor: Anchor, speaks: frozenset[str] = frozenset()) -> MemberHome:
    """Make a member's folder: keys, certificates, configuration and the request to the administrators.

    Args:
        folder: must not exist yet, or be empty.
        config: text of `vidfed.toml`; its `[member]` section says who this is.
        endpoint: `host:port` under which the others reach the node.
        anchor: the federation's root of trust.
        speaks: what this program understands; a node states it later, if nothing is said here.

    Raises:
        HomeError: the folder is in use, or the configuration is wrong. Nothing is overwritten.
    """
    if folder.exists() and any(folder.iterdir()):
        raise HomeError(f"{folder}: exists and is not empty; keys are never overwritten")
    # Made beside its place and moved there whole: what fails half-way leaves nothing behind.
    place = folder.absolute()
    made = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        _fill_home(made, config, endpoint, anchor, speaks)
        made.replace(place)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return MemberHome(folder)


def _fill_home(folder: Path, config: str, endpoint: str, anchor: Anchor, speaks: frozenset[str]) -> None:
    for part in (folder, *(folder / name for name in ("keys", "trust", "store", "index", "state"))):
        part.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    write_whole(folder / CONFIG_FILE, config.encode(), mode=PRIVATE_MODE)
    home = MemberHome(folder)
    signer, audit_signer, entry_signer = (SigningKey.generate() for _ in range(3))
    for name, key in (("signing", signer), ("audit", audit_signer), ("entry", entry_signer)):
        home.keys.save(name, key)
    ca = make_ca(home.federation, home.member)
    for name, tls in (("ca", ca), ("node", make_node_leaf(ca, home.federation, home.member))):
        home.keys.save_tls(name, tls)
    anchor.save(home.anchor_path)
    identity = home.identity
    keys, audit_keys = (signer.public,), (audit_signer.public,)
    member = Member(identity.id, identity.name, endpoint, keys, audit_keys, ca.certificate, identity.contact, speaks=speaks)
    entry = Entry.make(home.federation, member, (signer, audit_signer), {}, entry_signer, 1, system_clock())
    write_whole(home.entry_path, entry.to_json())


def config_text(value: object) -> str:
    """Write one value as TOML: a text, a number, or a list of texts."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(config_text(entry) for entry in value) + "]"
    return str(value)
