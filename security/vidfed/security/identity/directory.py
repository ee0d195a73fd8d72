"""The trust directory: who is a member, with which keys, CA and endpoints.

`Directory` is a value. Where it comes from is a `DirectorySource`: `trust.client.TufDirectory` in every program.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from vidfed.cli.printable import printable
from vidfed.security.clock import LAST_MS
from vidfed.security.crypto.certificates import are_cas
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import PublicKey, Signer
from vidfed.security.documents import (
    FEDERATION_ID,
    MAX_CONTACT_CHARS,
    MAX_NAME_CHARS,
    MEMBER_ID,
    SERIAL,
    check_endpoint,
    check_id,
    check_line,
    read_document,
    read_open_document,
    read_open_object,
)
from vidfed.security.errors import DirectoryError, EnvelopeError, KeyFileError, SignatureError, UnknownMemberError
from vidfed.security.identity.officers import Officers

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_OFFICERS = Officers()
MAX_KEYS = 64
"""Of each kind in a member's entry: a rotation a quarter for sixteen years."""
MAX_SPOKEN = 256
"""Capabilities in a member's entry: far more than there will be, and a bound to what one member makes all others keep."""
MEMBER_REQUEST_TYPE = "application/vnd.vidfed.member-request.v1+json"

_MEMBER_FORM = {
    "id": str,
    "name": str,
    "endpoint": str,
    "signing_keys": list,
    "audit_keys": list,
    "retired_keys": list,
    "tls_ca": str,
    "contact": str,
}
_REQUEST_FORM = {"federation": str, "entry_key": str, "member": dict}
_REVOKED_FORM = {"revoked": dict}
_CAPABILITY = re.compile(r"[a-z0-9][a-z0-9.-]{0,30}(/[a-z0-9.-]{1,31})?")


@dataclass(frozen=True, slots=True)
class Member:
    """One national unit as the others know it.

    Attributes:
        id: short id, as `nl`.
        name: for people.
        endpoint: `host:port` of the node.
        signing_keys: any of these speaks for the member; two while one replaces the other.
        audit_keys: sign the checkpoints of its audit log, the present one first; retired ones stay, so that old ones can be verified.
        tls_ca: PEM of the CA its TLS certificates come from; two while one replaces the other.
        contact: whom to call in an urgent case.
        retired_keys: former signing keys. They verify history and never a new message.
        speaks: what its programs understand; see `identity.capabilities`.
        entry_key: signs its entry; said by the administrators, None where a member speaks of itself.
        quarantined: it may ask and be asked a self-test only; said by the administrators, not by the member.
        revoked: serials of the credentials of its investigators that no longer hold.
        officers: who decides on release.
    """

    id: str
    name: str
    endpoint: str
    signing_keys: tuple[PublicKey, ...]
    audit_keys: tuple[PublicKey, ...]
    tls_ca: bytes
    contact: str
    retired_keys: tuple[PublicKey, ...] = ()
    speaks: frozenset[str] = frozenset()
    entry_key: PublicKey | None = None
    quarantined: bool = False
    revoked: frozenset[str] = frozenset()
    officers: Officers = NO_OFFICERS

    def to_fields(self) -> dict[str, object]:
        """Write the JSON object that `from_fields` reads: what the member says of itself."""
        return {
            "id": self.id,
            "name": self.name,
            "endpoint": self.endpoint,
            "signing_keys": [key.text for key in self.signing_keys],
            "audit_keys": [key.text for key in self.audit_keys],
            "retired_keys": [key.text for key in self.retired_keys],
            "tls_ca": self.tls_ca.decode(),
            "contact": self.contact,
            "speaks": sorted(self.speaks),
        }

    @classmethod
    def from_fields(cls, fields: object) -> Member:
        """Read one member. Fields that are not known here are those of a later version, and say nothing to this one.

        Raises:
            DirectoryError: a field is missing or wrong.
        """
        entry = read_open_object(fields, _MEMBER_FORM, DirectoryError, "member")
        check_id(entry["id"], MEMBER_ID, DirectoryError, "member id")
        signing, audit, retired = (_read_keys(entry, name) for name in ("signing_keys", "audit_keys", "retired_keys"))
        if not signing or not audit:
            raise DirectoryError(f"member {entry['id']}: signing_keys and audit_keys must name at least one key each")
        if set(signing) & set(retired):
            raise DirectoryError(f"member {entry['id']}: a key is both in use and retired")
        check_line(entry["name"], MAX_NAME_CHARS, DirectoryError, f"member {entry['id']}: name")
        check_line(entry["contact"], MAX_CONTACT_CHARS, DirectoryError, f"member {entry['id']}: contact")
        check_endpoint(entry["endpoint"], DirectoryError, f"member {entry['id']}: endpoint")
        ca = entry["tls_ca"].encode() if entry["tls_ca"].isascii() else b""
        if not are_cas(ca):
            raise DirectoryError(f"member {entry['id']}: tls_ca must be one CA certificate, or two while one replaces the other")
        speaks = _read_speaks(entry.get("speaks"))
        return cls(entry["id"], entry["name"], entry["endpoint"], signing, audit, ca, entry["contact"], retired, speaks)


@dataclass(frozen=True, slots=True)
class Directory:
    """The federation's members at one version. Immutable: a change is a new value with a higher version.

    Attributes:
        federation: its id.
        version: grows with every change.
        issued_ms: when it was last confirmed to be the newest.
        expires_ms: until when it may be used without being confirmed again.
        members: by id.
        left_out: members that are delegated to but whose own entry cannot be used, with the reason.
        publisher: name of who confirmed it last, as the administrators signed it; a member's id where a member's node publishes.
    """

    federation: str
    version: int
    issued_ms: int
    expires_ms: int
    members: Mapping[str, Member]
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    publisher: str = ""

    def member(self, member_id: str) -> Member:
        """Return one member.

        Raises:
            UnknownMemberError: it is not listed.
        """
        try:
            return self.members[member_id]
        except KeyError:
            raise UnknownMemberError(f"{member_id!r:.50} is no member of federation {self.federation}") from None

    def full_members(self) -> tuple[str, ...]:
        """Return the ids of all members that are not in quarantine: whom a lookup asks."""
        return tuple(sorted(member.id for member in self.members.values() if not member.quarantined))


class DirectorySource(Protocol):
    """Where a process gets the directory it trusts right now."""

    def current(self) -> Directory:
        """Return the newest directory known, verified and unexpired. Quick: it is asked for every call.

        Raises:
            DirectoryError: there is none; fail closed.
        """

    def refresh_for(self, member: str) -> bool:
        """Begin to ask others for a newer directory because of a member or key that is not known here; tell whether that is under way.

        Never waits: what comes of it is seen in `current`. Nothing is begun if that was done shortly before, so that strangers cannot
        drive it.
        """


@dataclass(frozen=True, slots=True)
class MemberRequest:
    """What a member asks to be listed with.

    Attributes:
        federation: in which.
        entry_key: by which its entry is to be believed from then on.
        member: what it says of itself.
    """

    federation: str
    entry_key: PublicKey
    member: Member

    def to_envelope(self, *signers: Signer) -> Envelope:
        """Sign it with each key the member names, as proof that it holds them and gives them into the hands of this entry key."""
        fields = {"federation": self.federation, "entry_key": self.entry_key.text, "member": self.member.to_fields()}
        return Envelope(MEMBER_REQUEST_TYPE, json.dumps(fields, sort_keys=True).encode()).signed_by(*signers)

    @classmethod
    def read(cls, envelope: Envelope) -> MemberRequest:
        """Read a member's file and check that each key in use signed it.

        Raises:
            DirectoryError: malformed, or a key's possession is not proven.
        """
        fields = read_open_document(envelope.payload, _REQUEST_FORM, DirectoryError, "member's file")
        check_federation_id(fields["federation"])
        try:
            entry_key = PublicKey.parse(fields["entry_key"])
            member = Member.from_fields(fields["member"])
            for key in (*member.signing_keys, *member.audit_keys[:1]):
                envelope.verify(MEMBER_REQUEST_TYPE, [key])
        except (KeyFileError, SignatureError, EnvelopeError) as error:
            raise DirectoryError(f"member's file: {error}") from None
        return cls(fields["federation"], entry_key, member)


def write_revoked(serials: Mapping[str, int]) -> bytes:
    """Write a member's list of revoked credentials.

    Args:
        serials: when each was revoked, in ms since the epoch.
    """
    return json.dumps({"revoked": dict(sorted(serials.items()))}, indent=1).encode() + b"\n"


def read_revoked(content: bytes) -> dict[str, int]:
    """Read a member's list of revoked credentials: when, in ms since the epoch, by serial.

    Raises:
        DirectoryError: malformed.
    """
    revoked: dict[str, int] = read_document(content, _REVOKED_FORM, DirectoryError, "list of revoked credentials")["revoked"]
    for serial, when_ms in revoked.items():
        if not SERIAL.fullmatch(serial):
            raise DirectoryError(f"list of revoked credentials: {printable(serial, 40)!r} is no serial")
        if type(when_ms) is not int or not 0 <= when_ms <= LAST_MS:
            raise DirectoryError("list of revoked credentials: a time is not a number of ms since 1970")
    return revoked


def check_federation_id(federation: str) -> str:
    """Return a federation's id if it is well formed.

    Raises:
        DirectoryError: it is not.
    """
    return check_id(federation, FEDERATION_ID, DirectoryError, "federation id")


def _read_keys(entry: Mapping[str, Any], name: str) -> tuple[PublicKey, ...]:
    keys = entry[name]
    if len(keys) > MAX_KEYS:
        raise DirectoryError(f"member {entry['id']}: {name} lists {len(keys)} keys, at most {MAX_KEYS} are read")
    if not all(isinstance(key, str) for key in keys):
        raise DirectoryError(f"member {entry['id']}: {name} must be a list of keys")
    try:
        return tuple(PublicKey.parse(key) for key in keys)
    except KeyFileError as error:
        raise DirectoryError(f"member {entry['id']}: {error}") from None


def _read_speaks(names: object) -> frozenset[str]:
    """Read the names of capabilities; whatever this program cannot make sense of is left out, since it may be of a later version."""
    if not isinstance(names, list):
        return frozenset()
    if len(names) > MAX_SPOKEN:
        raise DirectoryError(f"member's file: speaks names {len(names)} capabilities, at most {MAX_SPOKEN} are read")
    return frozenset(name for name in names if isinstance(name, str) and _CAPABILITY.fullmatch(name))
