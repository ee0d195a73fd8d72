"""A member's own part of the directory: its role's metadata, signed with its entry key, and the files it lists.

Federation and entry key stand in the member's file, which its own keys have signed and the role names by its hash: there is nothing beside
what is signed that could be altered on the way, and the words cover all of it.

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
from vidfed.security.documents import read_document
from vidfed.security.errors import DirectoryError, EnvelopeError
from vidfed.security.identity.directory import MemberRequest, read_revoked, write_revoked
from vidfed.security.identity.officers import OfficerList
from vidfed.security.trust.fingerprint import fingerprint
from vidfed.security.trust.metadata_rules import (
    ENTRY_LIFE,
    MAX_MEMBER_FILE_BYTES,
    MAX_VERSION,
    MEMBER_FILE,
    OFFICERS_FILE,
    REVOKED_FILE,
    TufSigning,
    moment,
    parse,
    path_of,
    role_of,
    signed_by,
    tuf_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from vidfed.security.crypto.keys import PublicKey, Signer
    from vidfed.security.identity.directory import Member

_FORM = {"kind": str, "metadata": dict, "files": dict}
_KIND = "vidfed-member-entry/2"


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a member's part.

    Attributes:
        request: what it says, for which federation, and the entry key that signed it.
        revoked: when each credential was revoked, in ms since the epoch, by serial.
        officers: who decides on release, as the member says; what it is worth the administrators' delegation tells.
        metadata: the signed role.
        files: the target files, by name without folder.
    """

    request: MemberRequest
    revoked: Mapping[str, int]
    officers: OfficerList
    metadata: Metadata[Any]
    files: Mapping[str, bytes]

    @property
    def federation(self) -> str:
        """The federation for which it was made."""
        return self.request.federation

    @property
    def key(self) -> PublicKey:
        """The entry key that signed it."""
        return self.request.entry_key

    @property
    def member(self) -> Member:
        """What it says."""
        return self.request.member

    @property
    def version(self) -> int:
        """The version of the role."""
        return int(self.metadata.signed.version)

    @property
    def words(self) -> str:
        """Fingerprint over what is signed, which names every file by its hash."""
        return fingerprint(self.metadata.signed_bytes)

    @classmethod
    def make(
        cls,
        federation: str,
        member: Member,
        holding: Iterable[Signer],
        revoked: Mapping[str, int],
        signer: Signer,
        version: int,
        now_ms: int,
        officers: OfficerList = OfficerList(),  # noqa: B008 - immutable
    ) -> Entry:
        """Sign a new version.

        Args:
            federation: its id.
            member: what it is to say.
            holding: every key in use that `member` names.
            revoked: when each credential was revoked, in ms since the epoch, by serial.
            signer: the entry key.
            version: one more than the last.
            now_ms: the time its life starts at.
            officers: who decides on release.

        Raises:
            DirectoryError: others would refuse it; the message says what of it.
        """
        envelope = MemberRequest(federation, signer.public, member).to_envelope(*holding)
        request = MemberRequest.read(envelope)
        files = {MEMBER_FILE: envelope.to_json()}
        if revoked:
            files[REVOKED_FILE] = write_revoked(revoked)
        if officers.lines:
            files[OFFICERS_FILE] = officers.to_json()
        paths = {path_of(member.id, name): content for name, content in files.items()}
        listed = {path: TargetFile.from_data(path, content, ["sha256"]) for path, content in paths.items()}
        metadata = Metadata(Targets(version, None, moment(now_ms) + ENTRY_LIFE, listed))
        metadata.sign(TufSigning(signer))
        return cls(request, dict(revoked), officers, metadata, files)

    def to_json(self) -> bytes:
        """Write the file that `from_json` reads."""
        fields = {
            "kind": _KIND,
            "metadata": self.metadata.to_dict(),
            "files": {name: base64.b64encode(content).decode() for name, content in self.files.items()},
        }
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes, what: str = "member.json") -> Entry:
        """Read an entry and check all that can be checked without knowing whether its key is the right one.

        That is: the key it names signed the role, the files are those the role lists, and every key in the member's file has proven itself
        and named that entry key and that federation.

        Raises:
            DirectoryError: something does not hold.
        """
        fields = read_document(content, _FORM, DirectoryError, what)
        if fields["kind"] != _KIND:
            raise DirectoryError(f"{what}: not a member's entry of this version")
        try:
            files = {str(name): base64.b64decode(data, validate=True) for name, data in fields["files"].items()}
            metadata = parse(json.dumps(fields["metadata"]).encode(), Targets, what)
        except (ValueError, TypeError) as error:
            raise DirectoryError(f"{what}: {error}") from None
        return cls.of(metadata, files, what)

    @classmethod
    def of(cls, metadata: Metadata[Any], files: Mapping[str, bytes], what: str) -> Entry:
        """Put an entry together from its parts, and check them as `from_json` does.

        Raises:
            DirectoryError: something does not hold.
        """
        if MEMBER_FILE not in files or not files.keys() <= {MEMBER_FILE, REVOKED_FILE, OFFICERS_FILE}:
            raise DirectoryError(f"{what}: must hold {MEMBER_FILE}, perhaps {REVOKED_FILE} and {OFFICERS_FILE}, and nothing else")
        if max(map(len, files.values())) > MAX_MEMBER_FILE_BYTES:
            raise DirectoryError(f"{what}: a file is larger than {MAX_MEMBER_FILE_BYTES} bytes")
        try:
            request = MemberRequest.read(Envelope.from_json(files[MEMBER_FILE]))
        except (DirectoryError, EnvelopeError) as error:
            raise DirectoryError(f"{what}: {error}") from None
        revoked = read_revoked(files[REVOKED_FILE]) if REVOKED_FILE in files else {}
        officers = OfficerList.from_json(files[OFFICERS_FILE]) if OFFICERS_FILE in files else OfficerList()
        member, key = request.member, request.entry_key
        targets: Targets = metadata.signed
        if not 1 <= targets.version <= MAX_VERSION:
            raise DirectoryError(f"{what}: the version must be 1 to {MAX_VERSION}")
        if set(targets.targets) != {path_of(member.id, name) for name in files} or targets.delegations is not None:
            raise DirectoryError(f"{what}: the role lists other files than it holds")
        try:
            for name, data in files.items():
                targets.targets[path_of(member.id, name)].verify_length_and_hashes(data)
        except RepositoryError:
            raise DirectoryError(f"{what}: a file is not the one that is signed for") from None
        if not signed_by(metadata, tuf_key(key)):
            raise DirectoryError(f"{what}: the entry key {key.key_id} has not signed it")
        return cls(request, revoked, officers, metadata, files)

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
