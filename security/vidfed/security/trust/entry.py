"""A member's own part of the directory: its role's metadata, signed with its entry key, and the files it lists.

The same form is the request to join (version 1) and every later change, which needs no ceremony: the online publisher takes it as soon as
the key that the administrators delegated to has signed it, with a higher version.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets

from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import PublicKey
from vidfed.security.documents import read_document
from vidfed.security.errors import DirectoryError, EnvelopeError
from vidfed.security.identity.directory import Member, read_member_request, read_revoked, write_revoked
from vidfed.security.trust.fingerprint import fingerprint
from vidfed.security.trust.metadata_rules import (
    ENTRY_LIFE,
    MEMBER_FILE,
    REVOKED_FILE,
    TufSigning,
    moment,
    parse,
    path_of,
    role_of,
    signed_by,
    tuf_key,
)
from vidfed.security.trust.reader import MAX_MEMBER_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vidfed.security.crypto.keys import Signer

_FORM = {"kind": str, "federation": str, "entry_key": str, "metadata": dict, "files": dict}
_KIND = "vidfed-member-entry/1"


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a member's part.

    Attributes:
        federation: for which it was made.
        key: the entry key that signed it.
        member: what it says.
        revoked: when each credential was revoked, in ms since the epoch, by serial.
        metadata: the signed role.
        files: the target files, by name without folder.
    """

    federation: str
    key: PublicKey
    member: Member
    revoked: Mapping[str, int]
    metadata: Metadata[Any]
    files: Mapping[str, bytes]

    @property
    def version(self) -> int:
        """The version of the role."""
        return int(self.metadata.signed.version)

    @property
    def words(self) -> str:
        """Fingerprint over what is signed, which names every file by its hash."""
        return fingerprint(self.metadata.signed_bytes)

    @classmethod
    def make(cls, federation: str, envelope: Envelope, revoked: Mapping[str, int], signer: Signer, version: int, now_ms: int) -> Entry:
        """Sign a new version.

        Args:
            federation: its id.
            envelope: the member's file, from `member_request`.
            revoked: when each credential was revoked, in ms since the epoch, by serial.
            signer: the entry key.
            version: one more than the last.
            now_ms: the time its life starts at.
        """
        files = {MEMBER_FILE: envelope.to_json()}
        if revoked:
            files[REVOKED_FILE] = write_revoked(revoked)
        member = read_member_request(envelope)
        paths = {path_of(member.id, name): content for name, content in files.items()}
        listed = {path: TargetFile.from_data(path, content, ["sha256"]) for path, content in paths.items()}
        metadata = Metadata(Targets(version, None, moment(now_ms) + ENTRY_LIFE, listed))
        metadata.sign(TufSigning(signer))
        return cls(federation, signer.public, member, dict(revoked), metadata, files)

    def to_json(self) -> bytes:
        """Write the file that `from_json` reads."""
        fields = {
            "kind": _KIND,
            "federation": self.federation,
            "entry_key": self.key.text,
            "metadata": self.metadata.to_dict(),
            "files": {name: base64.b64encode(content).decode() for name, content in self.files.items()},
        }
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes, what: str = "member.json") -> Entry:
        """Read an entry and check all that can be checked without knowing whether its key is the right one.

        That is: the key it names signed the role, the files are those the role lists, and every key in the member's file has proven itself.

        Raises:
            DirectoryError: something does not hold.
        """
        fields = read_document(content, _FORM, DirectoryError, what)
        if fields["kind"] != _KIND:
            raise DirectoryError(f"{what}: not a member's entry of this version")
        try:
            key = PublicKey.parse(fields["entry_key"])
            files = {str(name): base64.b64decode(data, validate=True) for name, data in fields["files"].items()}
            metadata = parse(json.dumps(fields["metadata"]).encode(), Targets, what)
        except (ValueError, TypeError) as error:
            raise DirectoryError(f"{what}: {error}") from None
        if MEMBER_FILE not in files or not files.keys() <= {MEMBER_FILE, REVOKED_FILE}:
            raise DirectoryError(f"{what}: must hold {MEMBER_FILE}, perhaps {REVOKED_FILE}, and nothing else")
        if max(map(len, files.values())) > MAX_MEMBER_FILE_BYTES:
            raise DirectoryError(f"{what}: a file is larger than {MAX_MEMBER_FILE_BYTES} bytes")
        try:
            member = read_member_request(Envelope.from_json(files[MEMBER_FILE]))
        except EnvelopeError as error:
            raise DirectoryError(f"{what}: {error}") from None
        revoked = read_revoked(files[REVOKED_FILE]) if REVOKED_FILE in files else {}
        targets: Targets = metadata.signed
        if set(targets.targets) != {path_of(member.id, name) for name in files} or targets.delegations is not None:
            raise DirectoryError(f"{what}: the role lists other files than it holds")
        try:
            for name, data in files.items():
                targets.targets[path_of(member.id, name)].verify_length_and_hashes(data)
        except RepositoryError:
            raise DirectoryError(f"{what}: a file is not the one that is signed for") from None
        if not signed_by(metadata, tuf_key(key)):
            raise DirectoryError(f"{what}: the entry key {key.key_id} has not signed it")
        return cls(fields["federation"], key, member, revoked, metadata, files)

    @classmethod
    def load(cls, path: Path) -> Entry:
        """Read an entry's file.

        Raises:
            DirectoryError: it is not one.
        """
        try:
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise DirectoryError(f"{path}: {error.strerror}") from None

    def published(self) -> dict[str, bytes]:
        """Return its files by the names they are published under."""
        found = {f"metadata/{self.version}.{role_of(self.member.id)}.json": self.metadata.to_bytes()}
        for name, content in self.files.items():
            found[f"targets/{path_of(self.member.id, f'{hashlib.sha256(content).hexdigest()}.{name}')}"] = content
        return found
