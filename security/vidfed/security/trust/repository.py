"""The published folder: what members take. Whoever writes it needs the online key, and can only say what is newest, never what is true."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from vidfed.security.clock import DAY_MS, SECOND_MS, as_text
from vidfed.security.errors import DirectoryError
from vidfed.security.files import write_whole
from vidfed.security.identity.officers import check_continues
from vidfed.security.lockfile import locked
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.metadata_rules import (
    ENTRY_LIFE,
    ISSUED_FIELD,
    LEASE,
    LEASE_MARGIN,
    RENEW_AFTER,
    SNAPSHOT_LIFE,
    TIMESTAMP_LIFE,
    TufSigning,
    check_targets,
    holder_of,
    moment,
    moment_ms,
    next_version,
    officers_of,
    parse,
    path_of,
    publisher_of,
    publishers_of,
    role_of,
    tuf_key,
)
from vidfed.security.trust.mirrors import TIMESTAMP_NAME, FolderMirror, OverlayMirror
from vidfed.security.trust.reader import claimed_issue_ms, claimed_version, read_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from tuf.api.metadata import Key

    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import Directory
    from vidfed.security.identity.officers import Officers
    from vidfed.security.trust.mirrors import Mirror


class Repository:
    """A published folder, existing or to be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metadata = folder / "metadata"

    def roots(self) -> list[bytes]:
        """Return every root published, oldest first; none if nothing is published yet."""
        found: list[bytes] = []
        while (path := self._metadata / f"{len(found) + 1}.root.json").exists():
            found.append(path.read_bytes())
        return found

    def root(self) -> Metadata[Root] | None:
        """Return the newest root."""
        roots = self.roots()
        return parse(roots[-1], Root, "root") if roots else None

    def timestamp(self) -> Metadata[Timestamp] | None:
        """Return the timestamp."""
        return self._read("timestamp.json", Timestamp)

    def snapshot(self) -> Metadata[Snapshot] | None:
        """Return the newest snapshot."""
        timestamp = self.timestamp()
        return self._read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json", Snapshot) if timestamp else None

    def targets(self) -> Metadata[Targets] | None:
        """Return the administrators' newest list."""
        snapshot = self.snapshot()
        return self._read(f"{snapshot.signed.meta['targets.json'].version}.targets.json", Targets) if snapshot else None

    def issued_ms(self) -> int:
        """Return when the directory was last confirmed, in ms since the epoch; 0 if never."""
        timestamp = self.timestamp()
        return int(timestamp.signed.unrecognized_fields.get(ISSUED_FIELD, 0)) if timestamp else 0

    def publisher(self) -> Key | None:
        """Return the online key that last confirmed the directory; None if there is none, or it is no publisher's any more."""
        root, timestamp = self.root(), self.timestamp()
        return publisher_of(root.signed, timestamp) if root and timestamp else None

    def _check_turn(self, name: str, now_ms: int, *, seen: bool) -> None:
        """Return if the publisher of this name may write now: the only one, or with the lease, or after it and having `seen` the newest.

        Raises:
            DirectoryError: another writes, or may have taken over meanwhile.
        """
        root, holder = self.root(), self.publisher()
        if root is None or holder is None or len(publishers_of(root.signed)) == 1:
            return
        own, ends_ms = holder_of(holder) == name, self.issued_ms() + _ms(LEASE)  # by name: a key is replaced within a lease
        if own and (seen or now_ms < ends_ms):
            return
        if own:
            raise DirectoryError(
                f"nothing was confirmed here since {as_text(ends_ms - _ms(LEASE))}, so another publisher may have taken over: "
                "vidfed trust serve, or vidfed trust take-over, looks first"
            )
        if now_ms < ends_ms + _ms(LEASE_MARGIN):
            raise DirectoryError(
                f"{holder_of(holder)} publishes, at least until {as_text(ends_ms)}: hand it in there; "
                "if that machine is lost, and surely does not run: vidfed trust take-over"
            )
        if not seen:
            raise DirectoryError(
                f"{holder_of(holder)} published last, until {as_text(ends_ms)}; to go on from here: vidfed trust take-over"
            )

    def adopt(self, mirror: Mirror, anchor: Anchor, now_ms: int) -> bool:
        """Take what another publisher has published since, if it holds and takes nothing back; tell whether there was anything.

        What has expired is taken too: whoever goes on where another was lost must know all that it had signed.

        Raises:
            DirectoryError: it does not hold, or is older than what is here in some part.
            OSError: the mirror cannot be read.
        """
        with self.writing(), tempfile.TemporaryDirectory() as cache:
            own = FolderMirror(self.folder)
            before = self.timestamp()
            if before is not None:
                if claimed_version(mirror) <= before.signed.version:
                    return False
                read_directory(own, Path(cache), anchor, claimed_issue_ms(own))
            reading = read_directory(mirror, Path(cache), anchor, min(now_ms, claimed_issue_ms(mirror)))
            for path, content in sorted(reading.files.items(), key=lambda entry: entry[0] == TIMESTAMP_NAME):
                write_whole(self.folder / path, content)
            return True

    def entry_version(self, member: str) -> int:
        """Return the newest version of a member's role; 0 if it never had one."""
        snapshot = self.snapshot()
        meta = snapshot.signed.meta.get(f"{role_of(member)}.json") if snapshot else None
        return meta.version if meta else 0

    def entry(self, member: str) -> Entry | None:
        """Return the newest entry of a member, expired or not; None if it never had one.

        Raises:
            DirectoryError: what is published does not hold.
        """
        version = self.entry_version(member)
        metadata = self._read(f"{version}.{role_of(member)}.json", Targets) if version else None
        if metadata is None:
            return None
        files = {
            path.removeprefix(path_of(member, "")): (self.folder / "targets" / file.get_prefixed_paths()[0]).read_bytes()
            for path, file in metadata.signed.targets.items()
        }
        return Entry.of(metadata, files, f"the published entry of {member}")

    def _officers(self, member: str) -> Officers | None:
        """Return a member's officers as they are published; None if it has none, or is no member."""
        targets, entry = self.targets(), self.entry(member)
        role = check_targets(targets.signed).get(member) if targets else None
        return entry.officers.judge(entry.federation, member, officers_of(role)) if role is not None and entry is not None else None

    def directory(self, anchor: Anchor, now_ms: int) -> Directory:
        """Read what a newcomer would, with nothing known before.

        Raises:
            DirectoryError: it does not hold.
        """
        with tempfile.TemporaryDirectory() as cache:
            return read_directory(FolderMirror(self.folder), Path(cache), anchor, now_ms).directory

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out while the block runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock"):
            yield

    def publish(
        self,
        online: Signer,
        now_ms: int,
        *,
        root: Metadata[Root] | None = None,
        targets: Metadata[Targets] | None = None,
        entries: Mapping[str, Entry] | None = None,
        seen: bool = False,
        force: bool = False,
    ) -> Directory:
        """Publish new signed parts: snapshot and timestamp are made for them, the whole is read as a newcomer would, then it is written.

        The same again changes nothing but the timestamp, so that an interrupted publication can be repeated. Caller holds `writing`.

        Args:
            online: this publisher's online key.
            now_ms: the time.
            root: a new root.
            targets: a new list of members.
            entries: new entries, by member.
            seen: that others were just asked, and what is here is the newest they have.
            force: that another publisher, whose lease may still run, does not run: a person has made sure of that.

        Raises:
            DirectoryError: the whole would not hold, or it is not this publisher's turn; nothing was written.
        """
        newest_root = root or self.root()
        newest_targets = targets or self.targets()
        if newest_root is None or newest_targets is None:
            raise DirectoryError(f"{self.folder}: no root and list of members yet")
        publishers, own = publishers_of(newest_root.signed), tuf_key(online.public).keyid
        if own not in publishers:
            raise DirectoryError(f"the key {online.public.key_id} is no online key that the root names")
        if not force:
            self._check_turn(holder_of(newest_root.signed.keys[own]), now_ms, seen=seen)
        files: dict[str, bytes] = {}
        for entry in (entries or {}).values():
            files.update(entry.published())
        targets_name = f"{newest_targets.signed.version}.targets.json"
        files[f"metadata/{targets_name}"] = self._unless_published(targets_name, newest_targets)
        meta = self._next_meta(newest_targets, entries or {}, files)
        last = self.snapshot()
        version = next_version(last.signed.version if last else 0, publishers, own)
        snapshot = Metadata(Snapshot(version, None, moment(now_ms) + SNAPSHOT_LIFE, meta))
        snapshot.sign(TufSigning(online))
        files[f"metadata/{snapshot.signed.version}.snapshot.json"] = content = snapshot.to_bytes()
        if root is not None:
            files[f"metadata/{root.signed.version}.root.json"] = root.to_bytes()
        before = self.timestamp()
        timestamp = Metadata(
            Timestamp(
                next_version(before.signed.version if before else 0, publishers, own),
                None,
                moment(now_ms) + TIMESTAMP_LIFE,
                MetaFile.from_data(snapshot.signed.version, content, ["sha256"]),
                {ISSUED_FIELD: moment_ms(moment(now_ms))},
            )
        )
        timestamp.sign(TufSigning(online))
        files[TIMESTAMP_NAME] = timestamp.to_bytes()  # last: with it the rest takes effect
        directory = self._check(files, root, now_ms)
        before_targets = self.targets() if targets is not None else None
        for member in {*(entries or {}), *(_changed(before_targets.signed, targets.signed) if before_targets and targets else ())}:
            if member not in directory.members:
                raise DirectoryError(f"the entry of {member} {directory.left_out.get(member, 'is missing')}")
            if (officers := self._officers(member)) is not None:
                check_continues(officers, directory.members[member].officers)
        for path, data in files.items():
            write_whole(self.folder / path, data)
        self._prune(snapshot.signed, now_ms)
        return directory

    def renew(self, online: Signer, now_ms: int, *, seen: bool = False) -> bool:
        """Renew the timestamp if RENEW_AFTER is over, and the snapshot with it; tell whether it was necessary.

        Raises:
            DirectoryError: nothing is published, the key is no online key, or it is another publisher's turn.
        """
        with self.writing():
            if self.timestamp() is None:
                raise DirectoryError(f"{self.folder}: nothing is published here")
            if now_ms - self.issued_ms() < _ms(RENEW_AFTER):
                return False
            self.publish(online, now_ms, seen=seen)
            return True

    def accept(self, entry: Entry, online: Signer, now_ms: int) -> Directory:
        """Publish a newer entry of a member, if the key that the administrators delegated to has signed it.

        Raises:
            DirectoryError: it has not, or it is not newer.
        """
        with self.writing():
            targets = self.targets()
            role = check_targets(targets.signed).get(entry.member.id) if targets else None
            if role is None:
                raise DirectoryError(
                    f"{entry.member.id} is no member here; joining needs the administrators (`vidfed trust propose add-member`)"
                )
            if tuf_key(entry.key).keyid not in role.keyids:
                raise DirectoryError(
                    f"the entry of {entry.member.id} is signed with key {entry.key.key_id}, which the administrators do not know"
                )
            life_ms = moment_ms(entry.metadata.signed.expires) - now_ms
            if not 0 < life_ms <= ENTRY_LIFE.total_seconds() * SECOND_MS + DAY_MS:
                raise DirectoryError(f"the entry of {entry.member.id} has expired, or would live longer than a year: make it anew")
            known = self.entry_version(entry.member.id)
            if entry.version <= known:
                raise DirectoryError(f"the entry of {entry.member.id} has version {entry.version}; version {known} is published already")
            return self.publish(online, now_ms, entries={entry.member.id: entry})

    def _prune(self, snapshot: Snapshot, now_ms: int) -> None:
        """Delete snapshots and members' files that were replaced so long ago that no timestamp which still holds leads to them.

        Roots stay, because newcomers walk through all of them, and so do the administrators' lists.
        """
        newest = {f"{snapshot.version}.snapshot.json"} | {f"{meta.version}.{name}" for name, meta in snapshot.meta.items()}
        before_s = now_ms / SECOND_MS - 2 * TIMESTAMP_LIFE.total_seconds()
        listed: set[str] = set()
        for path in [*self._metadata.glob("*.member-*.json"), *self._metadata.glob("*.snapshot.json")]:
            if path.name not in newest and path.stat().st_mtime < before_s:
                path.unlink()
            elif ".member-" in path.name:
                role: Targets = parse(path.read_bytes(), Targets, path.name).signed
                listed |= {prefixed for file in role.targets.values() for prefixed in file.get_prefixed_paths()}
        targets = self.folder / "targets"
        for path in targets.rglob("*.json"):
            if str(path.relative_to(targets)) not in listed and path.stat().st_mtime < before_s:
                path.unlink()

    def _next_meta(self, targets: Metadata[Targets], entries: Mapping[str, Entry], files: Mapping[str, bytes]) -> dict[str, MetaFile]:
        before = self.snapshot()
        # A member that left keeps its line: a reader refuses a snapshot from which one is missing.
        meta = dict(before.signed.meta) if before else {}
        meta["targets.json"] = MetaFile.from_data(
            targets.signed.version, files[f"metadata/{targets.signed.version}.targets.json"], ["sha256"]
        )
        for member, entry in entries.items():
            name = f"{role_of(member)}.json"
            if name in meta and entry.version < meta[name].version:
                raise DirectoryError(f"the entry of {member} has version {entry.version}, but version {meta[name].version} is published")
            meta[name] = MetaFile.from_data(entry.version, files[f"metadata/{entry.version}.{name}"], ["sha256"])
        return meta

    def _check(self, files: Mapping[str, bytes], root: Metadata[Root] | None, now_ms: int) -> Directory:
        roots = self.roots()
        anchor = Anchor.read(roots[0] if roots else root.to_bytes() if root else b"", "first root")
        with tempfile.TemporaryDirectory() as cache:
            return read_directory(OverlayMirror(FolderMirror(self.folder), files), Path(cache), anchor, now_ms).directory

    def _unless_published(self, name: str, metadata: Metadata[Any]) -> bytes:
        """Return the bytes as published: signatures that came later must not change a file that a snapshot names by its hash."""
        path = self._metadata / name
        if path.exists() and parse(path.read_bytes(), Targets, name).signed_bytes == metadata.signed_bytes:
            return path.read_bytes()
        return metadata.to_bytes()

    def _read(self, name: str, kind: type) -> Metadata[Any] | None:
        try:
            return parse((self._metadata / name).read_bytes(), kind, name)
        except FileNotFoundError:
            return None


def _changed(before: Targets, after: Targets) -> list[str]:
    """Return the members of whom the administrators accept other officers than before."""
    old, new = check_targets(before), check_targets(after)
    return [member for member, role in new.items() if member in old and officers_of(old[member]) != officers_of(role)]


def _ms(span: timedelta) -> int:
    return int(span.total_seconds() * SECOND_MS)
