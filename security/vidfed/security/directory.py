"""The trust directory: who is a member, with which keys, CA and endpoints.

`Directory` is a value. Where it comes from is a `DirectorySource`; the only one so far is a file signed with one federation
key, `SignedDirectoryFile`.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from vidfed.security.clock import Clock, as_text, system_clock
from vidfed.security.documents import FEDERATION_ID, MEMBER_ID, check_id, read_document, read_object
from vidfed.security.envelope import Envelope
from vidfed.security.errors import (
    DirectoryError,
    DirectoryExpiredError,
    EnvelopeError,
    KeyFileError,
    SignatureError,
    UnknownMemberError,
)
from vidfed.security.files import write_whole
from vidfed.security.keys import PublicKey, Signer
from vidfed.security.tls import is_one_ca

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DIRECTORY_TYPE = "application/vnd.vidfed.directory.v1+json"
MEMBER_REQUEST_TYPE = "application/vnd.vidfed.member-request.v1+json"
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024  # 194 members take about 300 KiB; bounds what a lying source can make us read

_MEMBER_FORM = {
    "id": str,
    "name": str,
    "endpoint": str,
    "signing_keys": list,
    "audit_keys": list,
    "tls_ca": str,
    "contact": str,
}
_DIRECTORY_FORM = {"federation": str, "version": int, "issued_ms": int, "expires_ms": int, "members": list}
_ANCHOR_FORM = {"kind": str, "federation": str, "key": str}
_ANCHOR_KIND = "vidfed-anchor/1"


@dataclass(frozen=True, slots=True)
class Member:
    """One national unit as the others know it.

    Attributes:
        id: short id, as `nl`.
        name: for people.
        endpoint: `host:port` of the node.
        signing_keys: any of these speaks for the member.
        audit_keys: sign the checkpoints of its audit log, the present one first; retired ones stay, so that old ones can be verified.
        tls_ca: PEM of the one CA its TLS certificates come from.
        contact: whom to call in an urgent case.
    """

    id: str
    name: str
    endpoint: str
    signing_keys: tuple[PublicKey, ...]
    audit_keys: tuple[PublicKey, ...]
    tls_ca: bytes
    contact: str

    def to_fields(self) -> dict[str, object]:
        """Write the JSON object that `from_fields` reads."""
        return {
            "id": self.id,
            "name": self.name,
            "endpoint": self.endpoint,
            "signing_keys": [key.text for key in self.signing_keys],
            "audit_keys": [key.text for key in self.audit_keys],
            "tls_ca": self.tls_ca.decode(),
            "contact": self.contact,
        }

    @classmethod
    def from_fields(cls, fields: object) -> Member:
        """Read one member.

        Raises:
            DirectoryError: a field is missing, unknown or wrong.
        """
        entry = read_object(fields, _MEMBER_FORM, DirectoryError, "member")
        check_id(entry["id"], MEMBER_ID, DirectoryError, "member id")
        signing, audit = (_read_keys(entry, name) for name in ("signing_keys", "audit_keys"))
        host, _, port = entry["endpoint"].rpartition(":")
        if not host or not port.isdecimal():
            raise DirectoryError(f"member {entry['id']}: endpoint must be host:port")
        return cls(entry["id"], entry["name"], entry["endpoint"], signing, audit, entry["tls_ca"].encode(), entry["contact"])


@dataclass(frozen=True, slots=True)
class Directory:
    """The federation's members at one version. Immutable: a change is a new value with a higher version."""

    federation: str
    version: int
    issued_ms: int
    expires_ms: int
    members: Mapping[str, Member]

    def member(self, member_id: str) -> Member:
        """Return one member.

        Raises:
            UnknownMemberError: it is not listed.
        """
        try:
            return self.members[member_id]
        except KeyError:
            raise UnknownMemberError(f"{member_id!r:.50} is no member of federation {self.federation}") from None

    def to_envelope(self, signer: Signer) -> Envelope:
        """Sign this directory."""
        fields = {
            "federation": self.federation,
            "version": self.version,
            "issued_ms": self.issued_ms,
            "expires_ms": self.expires_ms,
            "members": [self.members[member].to_fields() for member in sorted(self.members)],
        }
        return Envelope(DIRECTORY_TYPE, json.dumps(fields, sort_keys=True).encode()).signed_by(signer)

    @classmethod
    def from_envelope(cls, envelope: Envelope, anchor: Anchor) -> Directory:
        """Verify and read a signed directory. Expiry is the caller's to check: an old one can still be shown.

        Raises:
            DirectoryError: not signed with the anchor's key, of another federation, or malformed.
        """
        try:
            payload = envelope.verify(DIRECTORY_TYPE, [anchor.key])
        except (SignatureError, EnvelopeError) as error:
            raise DirectoryError(f"trust directory: {error} (federation key {anchor.key.key_id})") from None
        fields = read_document(payload, _DIRECTORY_FORM, DirectoryError, "trust directory")
        if fields["federation"] != anchor.federation:
            raise DirectoryError(f"trust directory of federation {fields['federation']!r:.70}, expected {anchor.federation}")
        members = [Member.from_fields(entry) for entry in fields["members"]]
        by_id = {member.id: member for member in members}
        if len(by_id) != len(members):
            raise DirectoryError("trust directory: a member is listed twice")
        return cls(fields["federation"], fields["version"], fields["issued_ms"], fields["expires_ms"], MappingProxyType(by_id))


@dataclass(frozen=True, slots=True)
class Anchor:
    """The root of trust a member or an investigator starts from: the federation's id and its key."""

    federation: str
    key: PublicKey

    def save(self, path: Path) -> None:
        """Write the anchor file; it is public, what matters is that it came from the right hands."""
        fields = {"kind": _ANCHOR_KIND, "federation": self.federation, "key": self.key.text}
        write_whole(path, json.dumps(fields, indent=1).encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> Anchor:
        """Read an anchor file.

        Raises:
            DirectoryError: missing or malformed.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DirectoryError(f"{path}: {error.strerror}; an anchor file comes from the federation's administrators") from None
        fields = read_document(content, _ANCHOR_FORM, DirectoryError, str(path))
        if fields["kind"] != _ANCHOR_KIND:
            raise DirectoryError(f"{path}: not an anchor file of this version")
        check_id(fields["federation"], FEDERATION_ID, DirectoryError, "federation id")
        try:
            return cls(fields["federation"], PublicKey.parse(fields["key"]))
        except KeyFileError as error:
            raise DirectoryError(f"{path}: {error}") from None


class DirectorySource(Protocol):
    """Where a process gets the directory it trusts right now."""

    def current(self) -> Directory:
        """Return the newest directory known, verified and unexpired.

        Raises:
            DirectoryError: there is none; fail closed.
        """

    def signed(self) -> bytes:
        """Return the signed form of `current()`, to pass on to others who verify it themselves."""


class SignedDirectoryFile:
    """A directory file signed with the federation's key; a new file takes effect at the next call.

    Rules enforced: the anchor's key signed it; it is of the anchor's federation; its version never goes back while this process
    lives; it has not expired.
    """

    def __init__(self, path: Path, anchor: Anchor, *, clock: Clock = system_clock) -> None:
        self._path = path
        self._anchor = anchor
        self._clock = clock
        self._known: tuple[tuple[int, int, int], bytes, Directory] | None = None
        self._lock = threading.Lock()

    def current(self) -> Directory:
        """Return the file's directory; see `DirectorySource.current`."""
        return self._unexpired(self._read()[1])

    def signed(self) -> bytes:
        """Return the file's bytes, verified."""
        content, directory = self._read()
        self._unexpired(directory)
        return content

    def accept(self, content: bytes) -> Directory:
        """Replace the file with a newer signed directory if it holds; keep the present one if it is as new.

        Raises:
            DirectoryError: the new one does not hold, or is older than the present one.
        """
        try:
            offered = Directory.from_envelope(Envelope.from_json(content), self._anchor)
        except EnvelopeError as error:
            raise DirectoryError(f"offered trust directory: {error}") from None
        present = self._read()[1] if self._path.exists() else None
        if present is not None and offered.version < present.version:
            raise DirectoryError(f"offered trust directory is version {offered.version}, older than version {present.version} held here")
        self._unexpired(offered)  # before it replaces one that may still be good
        if present is None or offered.version > present.version:
            write_whole(self._path, content)
        return self.current()

    def _unexpired(self, directory: Directory) -> Directory:
        if self._clock() >= directory.expires_ms:
            raise DirectoryExpiredError(
                f"{self._path}: trust directory version {directory.version} expired at {as_text(directory.expires_ms)}; "
                "get a newer one from the federation's administrators"
            )
        return directory

    def _read(self) -> tuple[bytes, Directory]:
        with self._lock:  # or a thread that still reads the old file would take the newer one another has read for a rollback
            return self._read_locked()

    def _read_locked(self) -> tuple[bytes, Directory]:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._known is not None and self._known[0] == stamp:
                return self._known[1], self._known[2]
            if status.st_size > MAX_DIRECTORY_BYTES:
                raise DirectoryError(f"{self._path}: larger than {MAX_DIRECTORY_BYTES} bytes")
            content = self._path.read_bytes()
        except OSError as error:
            raise DirectoryError(f"{self._path}: {error.strerror}; the trust directory comes from the administrators") from None
        try:
            directory = Directory.from_envelope(Envelope.from_json(content), self._anchor)
        except EnvelopeError as error:
            raise DirectoryError(f"{self._path}: {error}") from None
        if self._known is not None and directory.version < self._known[2].version:
            raise DirectoryError(
                f"{self._path}: version {directory.version} is older than version {self._known[2].version} seen before: "
                "a rollback is refused"
            )
        self._known = (stamp, content, directory)
        return content, directory


def member_request(member: Member, *signers: Signer) -> Envelope:
    """Make what a unit hands to the administrators: its entry, signed with each key it names as proof that it holds it."""
    return Envelope(MEMBER_REQUEST_TYPE, json.dumps(member.to_fields(), sort_keys=True).encode()).signed_by(*signers)


def read_member_request(envelope: Envelope) -> Member:
    """Read a unit's request and check that each key in it signed it.

    Raises:
        DirectoryError: malformed, or a key's possession is not proven.
    """
    try:
        member = Member.from_fields(json.loads(envelope.payload))
        for key in (*member.signing_keys, *member.audit_keys[:1]):
            envelope.verify(MEMBER_REQUEST_TYPE, [key])
        if not is_one_ca(member.tls_ca):
            raise DirectoryError(f"member {member.id}: tls_ca must be exactly one CA certificate")
    except (ValueError, RecursionError, SignatureError, EnvelopeError) as error:
        raise DirectoryError(f"member request: {error}") from None
    return member


def _read_keys(entry: Mapping[str, Any], name: str) -> tuple[PublicKey, ...]:
    keys = entry[name]
    if not keys or not all(isinstance(key, str) for key in keys):
        raise DirectoryError(f"member {entry['id']}: {name} must name at least one key")
    try:
        return tuple(PublicKey.parse(key) for key in keys)
    except KeyFileError as error:
        raise DirectoryError(f"member {entry['id']}: {error}") from None
