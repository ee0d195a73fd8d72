"""From a mirror to a verified `Directory`: one pass of python-tuf's client, then our own rules, then the members' entries.

What is wrong with the whole (a root, the administrators' list, a file that is not the one snapshot names) refuses the whole; what is
wrong with one member's own signed entry leaves out that member and nobody else.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from tuf.api.exceptions import (
    DownloadError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig

from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import DirectoryError, EnvelopeError
from vidfed.security.files import write_whole
from vidfed.security.identity.directory import Directory, Member, MemberRequest, read_revoked
from vidfed.security.identity.officers import OfficerList
from vidfed.security.trust.metadata_rules import (
    ISSUED_FIELD,
    MAX_MEMBER_FILE_BYTES,
    MEMBER_FILE,
    OFFICERS_FILE,
    REVOKED_FILE,
    Standing,
    check_root,
    check_targets,
    holder_of,
    moment,
    moment_ms,
    officers_of,
    parse,
    path_of,
    publisher_of,
    role_of,
    standing_of,
    tuf_key,
)
from vidfed.security.trust.mirrors import TIMESTAMP_NAME, FilesMirror, MirrorFetcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuf.api.metadata import DelegatedRole, TargetFile

    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.mirrors import Mirror

LIMITS = UpdaterConfig(
    max_root_rotations=256,  # a rotation a month for twenty years, for a kit that comes out of a drawer
    max_delegations=4,  # targets and one member's role; the tree is no deeper
    root_max_length=256 * 1024,  # bytes; a root of 50 keys has 15 KiB
    timestamp_max_length=16 * 1024,
    snapshot_max_length=512 * 1024,  # 194 members have 30 KiB
    targets_max_length=1024 * 1024,  # 194 members have 130 KiB
)
"""How much of each file is read at most: what a lying source can make a reader take in."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A directory, and the complete set of files it was read from, by the names they are published under."""

    directory: Directory
    files: dict[str, bytes]


def read_directory(mirror: Mirror, cache: Path, anchor: Anchor, now_ms: int) -> Reading:
    """Bring `cache` up to date from `mirror` and read the directory in it.

    Args:
        mirror: where to take files from.
        cache: python-tuf's folder: what was verified before, so that nothing goes back. One user at a time.
        anchor: where trust starts.
        now_ms: the time, in ms since the epoch.

    Raises:
        DirectoryError: what the mirror has does not hold; the message says why.
    """
    (cache / "files").mkdir(parents=True, exist_ok=True)
    # A link left behind by a crash between its removal and its making must not stop the next start.
    updater = Updater(
        str(cache), "metadata/", str(cache / "files"), "targets/", MirrorFetcher(mirror), config=LIMITS, bootstrap=anchor.content
    )
    updater._trusted_set.reference_time = moment(now_ms)  # noqa: SLF001 - python-tuf takes no clock; pinned by the tests of expiry
    try:
        updater.refresh()
        return _Reader(updater, cache, anchor).read()
    except (RepositoryError, DownloadError, ValueError) as error:
        raise DirectoryError(f"{mirror.name}: {_said(error)}") from None
    except DirectoryError as error:
        raise DirectoryError(f"{mirror.name}: {error}") from None


def read_as_issued(files: Mapping[str, bytes], anchor: Anchor, what: str) -> Directory:
    """Read a directory that was kept with something else, as of the moment it says it was issued: history may have expired since.

    Args:
        files: a complete set, by the names they are published under; see `TufDirectory.files`.
        anchor: where trust starts.
        what: what they came in, for people.

    Raises:
        DirectoryError: they do not hold.
    """
    mirror = FilesMirror(what, files)
    try:
        with tempfile.TemporaryDirectory() as cache:
            return read_directory(mirror, Path(cache), anchor, claimed_issue_ms(mirror)).directory
    except OSError as error:
        raise DirectoryError(f"{what}: {error.strerror or f'lacks {error}'}") from None


class _Reader:
    """Reads what an `Updater` has just verified."""

    def __init__(self, updater: Updater, cache: Path, anchor: Anchor) -> None:
        self._updater = updater
        self._cache = cache
        self._anchor = anchor
        self._files: dict[str, bytes] = {}

    def read(self) -> Reading:
        root: Root = parse(self._take("root"), Root, "trust root").signed
        confirmed = parse(self._take("timestamp"), Timestamp, "timestamp")
        timestamp: Timestamp = confirmed.signed
        snapshot: Snapshot = parse(self._take("snapshot"), Snapshot, "snapshot").signed
        targets: Targets = parse(self._take("targets"), Targets, "targets").signed
        check_root(root, self._anchor.federation)
        for version in range(self._anchor.version, root.version + 1):
            self._files[f"metadata/{version}.root.json"] = (self._cache / f"root_history/{version}.root.json").read_bytes()
        self._files[TIMESTAMP_NAME] = self._take("timestamp")
        self._files[f"metadata/{snapshot.version}.snapshot.json"] = self._take("snapshot")
        self._files[f"metadata/{targets.version}.targets.json"] = self._take("targets")
        members, left_out = {}, {}
        for member, role in check_targets(targets).items():
            try:
                members[member] = self._member(member, role)
            except (UnsignedMetadataError, ExpiredMetadataError, DirectoryError, EnvelopeError) as error:
                left_out[member] = _said(error)
        issued_ms = timestamp.unrecognized_fields.get(ISSUED_FIELD)
        if type(issued_ms) is not int:
            raise DirectoryError("timestamp: does not say when it was issued")
        expires_ms = min(moment_ms(part.expires) for part in (root, targets, snapshot, timestamp))
        publisher = publisher_of(root, confirmed)
        directory = Directory(
            self._anchor.federation,
            snapshot.version,
            issued_ms,
            expires_ms,
            MappingProxyType(members),
            MappingProxyType(left_out),
            holder_of(publisher) if publisher else "",
        )
        return Reading(directory, self._files)

    def _member(self, member: str, role: DelegatedRole) -> Member:
        info = self._updater.get_targetinfo(path_of(member, MEMBER_FILE))
        if info is None:
            raise DirectoryError("has published no entry")
        metadata = parse(self._take(role_of(member)), Targets, f"entry of {member}")
        if metadata.signed.delegations is not None:
            raise DirectoryError("delegates its role to others")
        self._files[f"metadata/{metadata.signed.version}.{role_of(member)}.json"] = self._take(role_of(member))
        request = MemberRequest.read(Envelope.from_json(self._target(info)))
        if request.member.id != member:
            raise DirectoryError(f"has published the entry of {request.member.id}")
        if request.federation != self._anchor.federation:
            raise DirectoryError(f"was made for federation {request.federation}")
        if tuf_key(request.entry_key).keyid != role.keyids[0]:
            raise DirectoryError(f"names the entry key {request.entry_key.key_id}, not the one the administrators delegated to")
        revoked = self._updater.get_targetinfo(path_of(member, REVOKED_FILE))
        serials = read_revoked(self._target(revoked)) if revoked is not None else {}
        listed = self._updater.get_targetinfo(path_of(member, OFFICERS_FILE))
        officers = OfficerList.from_json(self._target(listed)) if listed is not None else OfficerList()
        return replace(
            request.member,
            entry_key=request.entry_key,
            quarantined=standing_of(role) is not Standing.MEMBER,
            revoked=frozenset(serials),
            officers=officers.judge(request.federation, member, officers_of(role)),
        )

    def _target(self, info: TargetFile) -> bytes:
        if info.length > MAX_MEMBER_FILE_BYTES:
            raise DirectoryError(f"{info.path} has {info.length} bytes, at most {MAX_MEMBER_FILE_BYTES} are read")
        path = self._updater.find_cached_target(info) or self._updater.download_target(info)
        with open(path, "rb") as file:  # noqa: PTH123 - a path as python-tuf gives it
            content = file.read()
        info.verify_length_and_hashes(content)
        self._files[f"targets/{info.get_prefixed_paths()[0]}"] = content
        return content

    def _take(self, role: str) -> bytes:
        return (self._cache / f"{role}.json").read_bytes()


def claimed_version(mirror: Mirror) -> int:
    """Return the version of a mirror's timestamp as it claims it, unverified: only to decide whom to ask first.

    Raises:
        OSError: the mirror cannot be read.
    """
    return _claim(mirror, "version")


def claimed_issue_ms(mirror: Mirror) -> int:
    """Return when a mirror's timestamp says it was issued, unverified; 0 if it does not say.

    Raises:
        OSError: the mirror cannot be read.
    """
    return _claim(mirror, ISSUED_FIELD)


def _claim(mirror: Mirror, field: str) -> int:
    content = b""
    for chunk in mirror.open(TIMESTAMP_NAME):
        content += chunk
        if len(content) > LIMITS.timestamp_max_length:
            return 0
    try:
        return int(json.loads(content)["signed"][field])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return 0


def keep_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write a complete set of files to `folder` as it is published; the timestamp, which points to the rest, last. Others are removed.

    What is there already is left alone: a new time of the timestamp file would make other processes of this member read everything again.
    """
    for path, content in sorted(files.items(), key=lambda entry: entry[0] == TIMESTAMP_NAME):
        place = folder / path
        if not place.exists() or place.read_bytes() != content:
            write_whole(place, content)
    for place in folder.rglob("*.json"):
        if str(place.relative_to(folder)) not in files:
            place.unlink()


def _said(error: Exception) -> str:
    """Return what to tell people about an error of python-tuf."""
    if isinstance(error, LengthOrHashMismatchError):
        return "a file is not the one that is signed for"
    return str(error)
