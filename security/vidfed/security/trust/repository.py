"""The published folder: what members take. Whoever writes it needs the online key, and can only say what is newest, never what is true."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from vidfed.security.clock import DAY_MS, SECOND_MS
from vidfed.security.errors import DirectoryError
from vidfed.security.files import write_whole
from vidfed.security.lockfile import locked
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.metadata_rules import (
    ENTRY_LIFE,
    ISSUED_FIELD,
    SNAPSHOT_LIFE,
    TIMESTAMP_LIFE,
    TufSigning,
    check_targets,
    moment,
    moment_ms,
    parse,
    role_of,
    tuf_key,
)
from vidfed.security.trust.mirrors import TIMESTAMP_NAME, FolderMirror, OverlayMirror
from vidfed.security.trust.reader import read_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import Directory
    from vidfed.security.trust.entry import Entry


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

    def entry_version(self, member: str) -> int:
        """Return the newest version of a member's role; 0 if it never had one."""
        snapshot = self.snapshot()
        meta = snapshot.signed.meta.get(f"{role_of(member)}.json") if snapshot else None
        return meta.version if meta else 0

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
    ) -> Directory:
        """Publish new signed parts: snapshot and timestamp are made for them, the whole is read as a newcomer would, then it is written.

        The same again changes nothing but the timestamp, so that an interrupted publication can be repeated. Caller holds `writing`.

        Raises:
            DirectoryError: the whole would not hold; nothing was written.
        """
        newest_root = root or self.root()
        newest_targets = targets or self.targets()
        if newest_root is None or newest_targets is None:
            raise DirectoryError(f"{self.folder}: no root and list of members yet")
        role = newest_root.signed.roles["timestamp"]
        if tuf_key(online.public).keyid not in role.keyids:
            raise DirectoryError(f"the key {online.public.key_id} is not the online key that the root names")
        files: dict[str, bytes] = {}
        for entry in (entries or {}).values():
            files.update(entry.published())
        targets_name = f"{newest_targets.signed.version}.targets.json"
        files[f"metadata/{targets_name}"] = self._unless_published(targets_name, newest_targets)
        snapshot = self._next_snapshot(newest_targets, entries or {}, files, now_ms)
        snapshot.sign(TufSigning(online))
        files[f"metadata/{snapshot.signed.version}.snapshot.json"] = content = snapshot.to_bytes()
        if root is not None:
            files[f"metadata/{root.signed.version}.root.json"] = root.to_bytes()
        before = self.timestamp()
        version = before.signed.version + 1 if before else 1
        timestamp = Metadata(
            Timestamp(
                version,
                None,
                moment(now_ms) + TIMESTAMP_LIFE,
                MetaFile.from_data(snapshot.signed.version, content, ["sha256"]),
                {ISSUED_FIELD: moment_ms(moment(now_ms))},
            )
        )
        timestamp.sign(TufSigning(online))
        files[TIMESTAMP_NAME] = timestamp.to_bytes()  # last: with it the rest takes effect
        directory = self._check(files, root, now_ms)
        for member in entries or {}:
            if member not in directory.members:
                raise DirectoryError(f"the entry of {member} {directory.left_out.get(member, 'is missing')}")
        for path, data in files.items():
            write_whole(self.folder / path, data)
        self._prune(snapshot.signed, now_ms)
        return directory

    def renew(self, online: Signer, now_ms: int) -> bool:
        """Renew the timestamp if half of its life is over, and the snapshot with it; tell whether it was necessary.

        Raises:
            DirectoryError: nothing is published, or the key is not the online key.
        """
        with self.writing():
            timestamp = self.timestamp()
            if timestamp is None:
                raise DirectoryError(f"{self.folder}: nothing is published here")
            if moment_ms(timestamp.signed.expires) - now_ms > TIMESTAMP_LIFE.total_seconds() * 500:
                return False
            self.publish(online, now_ms)
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

    def _next_snapshot(
        self, targets: Metadata[Targets], entries: Mapping[str, Entry], files: Mapping[str, bytes], now_ms: int
    ) -> Metadata[Snapshot]:
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
        return Metadata(Snapshot(before.signed.version + 1 if before else 1, None, moment(now_ms) + SNAPSHOT_LIFE, meta))

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
