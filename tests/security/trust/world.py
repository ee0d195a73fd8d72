"""A federation on disk that really signs, and mirrors that lie about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Metadata

from tests.support.administrators import Administrators
from vidfed.security.clock import system_clock
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.identity.directory import Member
from vidfed.security.identity.tls import make_ca
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.metadata_rules import Standing, TufSigning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.identity.directory import Directory

HOUR_MS = 3_600_000
TIMESTAMP = "metadata/timestamp.json"


@dataclass(slots=True)
class FakeClock:
    now_ms: int = field(default_factory=lambda: system_clock() // 1000 * 1000)

    def __call__(self) -> int:
        return self.now_ms


@dataclass(slots=True)
class LyingMirror:
    """Files in memory, as a network or a disk in wrong hands would give them. `endless` files never stop."""

    files: dict[str, bytes]
    name: str = "mirror"
    endless: set[str] = field(default_factory=set)
    given_bytes: int = 0
    stamps: int = 0

    def open(self, path: str) -> Iterator[bytes]:
        if path in self.endless:
            while True:
                self.given_bytes += 65536
                yield b" " * 65536
        if path not in self.files:
            raise FileNotFoundError(path)
        yield self.files[path]

    def stamp(self) -> object:
        return self.stamps

    def now_gives(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.stamps += 1


@dataclass(frozen=True, slots=True)
class Unit:
    """A member with its private halves."""

    id: str
    signing: SigningKey
    audit: SigningKey
    entry: SigningKey
    ca: TlsIdentity


class World(Administrators):
    """A federation whose administrators do what the test says, on a clock that stands still."""

    def __init__(self, base: Path, federation: str = "test") -> None:
        self.base = base
        self.clock = FakeClock()
        super().__init__(base / "federation", federation, clock=self.clock)
        self.units: dict[str, Unit] = {}
        self._sources = 0

    @property
    def online(self) -> SigningKey:
        return SigningKey.load(self.folder.online_key_path)

    def unit(self, member: str) -> Unit:
        ca = make_ca("test", member)
        self.units[member] = Unit(member, SigningKey.generate(), SigningKey.generate(), SigningKey.generate(), ca)
        return self.units[member]

    def entry(self, member: str, version: int = 1, revoked: dict[str, int] | None = None, **changes: Any) -> Entry:  # noqa: ANN401
        unit = self.units.get(member) or self.unit(member)
        fields = {"name": f"Unit {member}", "endpoint": "127.0.0.1:1", "contact": "desk", "speaks": frozenset()} | changes
        listed = Member(
            unit.id,
            fields["name"],
            fields["endpoint"],
            (unit.signing.public,),
            (unit.audit.public,),
            unit.ca.certificate,
            fields["contact"],
            speaks=fields["speaks"],
        )
        return Entry.make("test", listed, (unit.signing, unit.audit), revoked or {}, unit.entry, version, self.clock())

    def add(self, member: str, standing: Standing = Standing.MEMBER) -> Directory:
        version = self.folder.repository.entry_version(member) + 1
        return self.admit(self.entry(member, version), standing=standing)

    def mirror(self) -> LyingMirror:
        return LyingMirror(self.published_files())

    def source(self, *mirrors: LyingMirror) -> TufDirectory:
        """Return the directory of a newcomer who follows these mirrors."""
        self._sources += 1
        return TufDirectory(self.base / f"source-{self._sources}", self.folder.anchor, mirrors, clock=self.clock)

    def again(self, *mirrors: LyingMirror) -> TufDirectory:
        """Return the directory of the last newcomer after a restart."""
        return TufDirectory(self.base / f"source-{self._sources}", self.folder.anchor, mirrors, clock=self.clock)


def signed_anew(content: bytes, changes: dict[str, Any], *signers: SigningKey) -> bytes:
    """Return metadata with fields of its signed part replaced, signed by these keys and no others."""
    fields = json.loads(content)
    fields["signed"] |= changes
    fields["signatures"] = []
    metadata = Metadata[Any].from_dict(fields)
    for signer in signers:
        metadata.sign(TufSigning(signer), append=True)
    return metadata.to_bytes()
