"""The form our TUF metadata has, beyond what the specification asks: names, lives, and the rules that every root and targets file keeps.

Rules, checked by `check_root` and `check_targets` on whatever a source gives:

- every key is Ed25519 and its id is the SHA-256 of its 32 bytes, so that no key can count twice under two ids
- snapshots are consistent: what belongs together has names that say so, and is replaced as one
- root names its federation, and not less than one key for each role
- a strict tree: targets delegates `members/ID/*` to one role `member-ID` each, terminating; a member's role delegates nothing further
- every holder of a key has a name that is one line of text
- the administrators' standing of each member is in the delegation, which the member cannot sign; so are the officers whom they accepted
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, SSlibKey
from securesystemslib.signer import Signature as TufSignature
from securesystemslib.signer import Signer as TufSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES, DelegatedRole, Metadata, Root, Targets

from vidfed.security.clock import SECOND_MS
from vidfed.security.crypto.keys import PublicKey, Signer
from vidfed.security.documents import FEDERATION_ID, MAX_NAME_CHARS, MEMBER_ID, check_line
from vidfed.security.errors import DirectoryError
from vidfed.security.identity.officers import MAX_LINES, MAX_OFFICERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.security.identity.officers import Rounds

ROOT_LIFE = timedelta(days=365)
TARGETS_LIFE = timedelta(days=200)  # longer than the half year between two meetings of the administrators
ENTRY_LIFE = timedelta(days=365)
SNAPSHOT_LIFE = timedelta(days=7)
TIMESTAMP_LIFE = timedelta(hours=24)  # how long a stolen key may go on where nothing new arrives
LEASE = TIMESTAMP_LIFE / 2
"""How long after it last confirmed the directory a publisher alone may write. Then another has half a life left to take over."""
RENEW_AFTER = TIMESTAMP_LIFE / 4
"""So a publisher that runs never comes near the end of its lease, and half of a life without being confirmed is an alarm."""
LEASE_MARGIN = timedelta(minutes=5)
"""Between the end of a lease and a take-over, for clocks that differ."""

FEDERATION_FIELD = "x-vidfed-federation"
HOLDER_FIELD = "x-vidfed-holder"
STANDING_FIELD = "x-vidfed-standing"
ISSUED_FIELD = "x-vidfed-issued-ms"
OFFICERS_FIELD = "x-vidfed-officers"

MAX_VERSION = 999_999_999
"""Of any role: as many digits as `PUBLISHED_NAME` has places for. A version a second would last thirty years."""

MEMBER_FILE = "member.json"
REVOKED_FILE = "revoked.json"
OFFICERS_FILE = "officers.json"
MAX_MEMBER_FILE_BYTES = 256 * 1024
"""A member's file has 4 KiB; its list of revoked credentials 60 bytes for each of 4,000; its officers 1.6 KiB each."""
_ROLE_PREFIX = "member-"
PUBLISHED_NAME = re.compile(
    r"metadata/([0-9]{1,9}\.)?(root|targets|snapshot|timestamp|member-[a-z0-9-]{2,32})\.json"
    r"|targets/members/[a-z0-9-]{2,32}/[0-9a-f]{64}\.(member|revoked|officers)\.json"
)
"""Every name a source may be asked for: nothing else is looked up on a disk."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Standing(Enum):
    """What the administrators let a member do. The value is what the metadata says."""

    QUARANTINE = "quarantine"  # asks and answers a self-test only
    MEMBER = "member"


def role_of(member: str) -> str:
    """Return the name of the role a member signs its entry with."""
    return f"{_ROLE_PREFIX}{member}"


def member_of(role: str) -> str:
    """Return the member whose role this is.

    Raises:
        DirectoryError: it is no member's role.
    """
    member = role.removeprefix(_ROLE_PREFIX)
    if member == role or not MEMBER_ID.fullmatch(member):
        raise DirectoryError(f"trust directory: {role!r:.50} is not a member's role")
    return member


def path_of(member: str, name: str) -> str:
    """Return the target path of one of a member's files."""
    return f"members/{member}/{name}"


def tuf_key(public: PublicKey, holder: str = "") -> SSlibKey:
    """Return a public key as TUF metadata lists it, with the name of who holds it."""
    named: dict[str, Any] | None = {HOLDER_FIELD: holder} if holder else None
    return SSlibKey(hashlib.sha256(public.raw).hexdigest(), "ed25519", "ed25519", {"public": public.raw.hex()}, named)


def public_key(key: Key) -> PublicKey:
    """Return the public key of a TUF key.

    Raises:
        DirectoryError: it is not Ed25519, or its id is not its SHA-256.
    """
    try:
        raw = bytes.fromhex(key.keyval["public"]) if (key.keytype, key.scheme) == ("ed25519", "ed25519") else b""
    except (KeyError, TypeError, ValueError):
        raw = b""
    if hashlib.sha256(raw).hexdigest() != key.keyid:
        raise DirectoryError(f"trust directory: key {key.keyid!r:.20} is not an Ed25519 key under its own id")
    return PublicKey(raw)


def holder_of(key: Key) -> str:
    """Return the name of who holds a key, as the administrators signed it; its short id if they gave none.

    Raises:
        DirectoryError: it is no name.
    """
    holder = key.unrecognized_fields.get(HOLDER_FIELD, key.keyid[:16])
    return check_line(holder if isinstance(holder, str) else "", MAX_NAME_CHARS, DirectoryError, "name of a key's holder")


class TufSigning(TufSigner):
    """One of our signers, a key file or a token, as python-tuf uses signers."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def public_key(self) -> Key:
        """The public half."""
        return tuf_key(self._signer.public)

    def sign(self, payload: bytes) -> TufSignature:
        """Sign canonical metadata bytes."""
        return TufSignature(self.public_key.keyid, self._signer.sign(payload).hex())

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: object = None) -> TufSigner:
        """Refuse: keys come from files and tokens, never from an address in metadata."""
        raise NotImplementedError


def signed_by(metadata: Metadata[Any], key: Key) -> bool:
    """Tell whether this key's signature over the metadata holds."""
    signature = metadata.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.verify_signature(signature, metadata.signed_bytes)
    except UnverifiedSignatureError:
        return False
    return True


def parse(content: bytes, kind: type, what: str) -> Metadata[Any]:
    """Read metadata of one kind, unverified.

    Raises:
        DirectoryError: it is not that.
    """
    try:
        metadata = Metadata[Any].from_bytes(content)
    except (RepositoryError, RecursionError) as error:
        raise DirectoryError(f"{what}: {error}") from None
    if not isinstance(metadata.signed, kind):
        raise DirectoryError(f"{what}: is {metadata.signed.type} metadata, expected {kind.__name__.lower()}")
    return metadata


def moment(now_ms: int) -> datetime:
    """Return a moment as TUF writes it: UTC, whole seconds."""
    return datetime.fromtimestamp(now_ms // SECOND_MS, UTC)


def moment_ms(at: datetime) -> int:
    """Return a TUF moment in ms since the epoch."""
    return int(at.timestamp()) * SECOND_MS


def federation_of(root: Root) -> str:
    """Return the federation a root speaks for.

    Raises:
        DirectoryError: it names none.
    """
    federation = root.unrecognized_fields.get(FEDERATION_FIELD)
    if not isinstance(federation, str) or not FEDERATION_ID.fullmatch(federation):
        raise DirectoryError("trust root: names no federation")
    return federation


def check_root(root: Root, federation: str) -> None:
    """Check the rules for root.

    Raises:
        DirectoryError: one is broken.
    """
    if federation_of(root) != federation:
        raise DirectoryError(f"trust root of federation {federation_of(root)!r:.70}, expected {federation}")
    if not root.consistent_snapshot:
        raise DirectoryError("trust root: without consistent snapshots")
    for name in sorted(TOP_LEVEL_ROLE_NAMES):
        role = root.roles[name]
        for key in role.keyids:
            if key not in root.keys:
                raise DirectoryError(f"trust root: role {name} names a key that is not listed")
        if not 1 <= role.threshold <= len(role.keyids):
            raise DirectoryError(f"trust root: role {name} asks {role.threshold} of {len(role.keyids)} keys")
    _check_keys(root.keys)


def check_targets(targets: Targets) -> Mapping[str, DelegatedRole]:
    """Check the rules for the administrators' targets; return each member's delegation.

    Raises:
        DirectoryError: one is broken.
    """
    if targets.targets:
        raise DirectoryError("trust directory: the administrators' role lists files; only members' roles do")
    if targets.delegations is None:
        return {}
    if targets.delegations.roles is None:
        raise DirectoryError("trust directory: members are delegated to by name only")
    _check_keys(targets.delegations.keys)
    found = {}
    for name, role in targets.delegations.roles.items():
        member = member_of(name)
        if role.paths != [path_of(member, "*")] or not role.terminating:
            raise DirectoryError(f"trust directory: role {name} reaches beyond its member")
        if (role.threshold, len(role.keyids)) != (1, 1) or role.keyids[0] not in targets.delegations.keys:
            raise DirectoryError(f"trust directory: role {name} asks {role.threshold} of {len(role.keyids)} keys, not its one entry key")
        standing_of(role)
        officers_of(role)
        found[member] = role
    return found


def publishers_of(root: Root) -> list[str]:
    """Return the ids of the online keys, in the order in which the administrators signed them: who may confirm what is newest."""
    return list(root.roles["timestamp"].keyids)


def publisher_of(root: Root, timestamp: Metadata[Any]) -> Key | None:
    """Return the online key that confirmed a timestamp; None if the administrators no longer list it."""
    keys = (root.keys[key] for key in publishers_of(root))
    return next((key for key in keys if signed_by(timestamp, key)), None)


def next_version(last: int, publishers: list[str], own: str) -> int:
    """Return the version after `last` that this publisher may use.

    Each has the versions of one residue of its own, so that no version is ever used twice for two contents, not even where two publishers
    that cannot see each other write at the same time.
    """
    following = last + 1
    return following + (publishers.index(own) - following) % len(publishers)


def standing_of(role: DelegatedRole) -> Standing:
    """Return what the administrators let this member do.

    Raises:
        DirectoryError: nothing that this program knows.
    """
    try:
        return Standing(role.unrecognized_fields.get(STANDING_FIELD))
    except ValueError:
        raise DirectoryError(f"trust directory: role {role.name} has a standing this program does not know") from None


def officers_of(role: DelegatedRole) -> Rounds:
    """Return whom the administrators accepted as this member's officers; see `identity.officers`.

    Raises:
        DirectoryError: malformed.
    """
    rounds = role.unrecognized_fields.get(OFFICERS_FIELD, [])
    if not isinstance(rounds, list) or len(rounds) > MAX_LINES or not all(_is_round(each) for each in rounds):
        raise DirectoryError(f"trust directory: role {role.name} does not say whom the administrators accepted as officers")
    return tuple(map(tuple, rounds))


def _is_round(digests: object) -> bool:
    return (
        isinstance(digests, list)
        and 0 < len(digests) <= MAX_OFFICERS
        and all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in digests)
        and digests == sorted(set(digests))
    )


def delegation(member: str, keys: list[str], standing: Standing, officers: Rounds = ()) -> DelegatedRole:
    """Return the delegation to a member's role."""
    said: dict[str, Any] = {STANDING_FIELD: standing.value}
    if officers:
        said[OFFICERS_FIELD] = [list(each) for each in officers]
    return DelegatedRole(role_of(member), keys, 1, True, [path_of(member, "*")], None, said)


def _check_keys(keys: Mapping[str, Key]) -> None:
    for key in keys.values():
        public_key(key)
        holder_of(key)
