"""What a ceremony is about: one file that goes from hand to hand until enough administrators have signed it.

A draft is self-contained: beside the new root or list of members it carries the ones it changes, back to the first root, so that a holder
on a machine without network sees what changes, judged from the anchor that machine already has. Summaries are made from what is signed,
never from what the draft says about itself. The same draft may be signed on several copies; `merged` brings the signatures together.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from vidfed.security.documents import read_document
from vidfed.security.errors import DirectoryError
from vidfed.security.files import write_whole
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.fingerprint import fingerprint
from vidfed.security.trust.metadata_rules import (
    TufSigning,
    check_root,
    check_targets,
    holder_of,
    moment_ms,
    officers_of,
    parse,
    signed_by,
    tuf_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tuf.api.metadata import Key

    from vidfed.security.crypto.keys import PublicKey, Signer
    from vidfed.security.trust.anchor import Anchor

_FORM = {"kind": str, "federation": str, "root": dict, "targets": dict, "entries": dict, "roots_before": list, "targets_before": dict}
_KIND = "vidfed-draft/1"
MAX_DRAFT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Quorum:
    """Who must sign one part of a draft, and who has.

    Attributes:
        part: `root`, `root (by the present administrators)` or `members`.
        threshold: how many of them.
        signed, missing: names of the holders.
    """

    part: str
    threshold: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def reached(self) -> bool:
        """Whether enough have signed."""
        return len(self.signed) >= self.threshold


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposed change.

    Attributes:
        federation: its id.
        root: the new root, None if it stays.
        targets: the new list of members, None if it stays.
        entries: entries of members that come with it, by id.
        roots_before: every root so far, oldest first.
        targets_before: the list of members it changes; None at the creation.
    """

    federation: str
    root: Metadata[Root] | None
    targets: Metadata[Targets] | None
    entries: Mapping[str, Entry]
    roots_before: tuple[bytes, ...]
    targets_before: Metadata[Targets] | None

    @property
    def root_before(self) -> Root | None:
        """The root it changes; None at the creation."""
        return parse(self.roots_before[-1], Root, "present root").signed if self.roots_before else None

    @property
    def effective_root(self) -> Root:
        """The root that will hold."""
        root = self.root.signed if self.root else self.root_before
        if root is None:
            raise DirectoryError("draft: without any root")
        return root

    @property
    def words(self) -> str:
        """Fingerprint over all that is signed, to compare by telephone: two drafts with the same words are the same."""
        parts = [part.signed_bytes for part in (self.root, self.targets) if part]
        parts += [self.entries[member].metadata.signed_bytes for member in sorted(self.entries)]
        return fingerprint(b"".join(hashlib.sha256(part).digest() for part in parts))

    def check(self, anchor: Anchor | None = None) -> None:
        """Check that it is well formed and continues what it says it changes.

        Args:
            anchor: what the reader already trusts; the roots before must lead from it. Without, they are only consistent with themselves.

        Raises:
            DirectoryError: something does not hold.
        """
        before = self._check_roots_before(anchor)
        if self.root is None and self.targets is None:
            raise DirectoryError("draft: changes nothing")
        if self.root is not None:
            check_root(self.root.signed, self.federation)
            expected = before.version + 1 if before else 1
            if self.root.signed.version != expected:
                raise DirectoryError(f"draft: root version {self.root.signed.version}, expected {expected}")
        if self.targets_before is not None and (before is None or not _holds(before, self.targets_before, Targets.type)):
            raise DirectoryError("draft: the list of members it changes is not signed by the present administrators")
        if self.targets is not None:
            roles = check_targets(self.targets.signed)
            expected = self.targets_before.signed.version + 1 if self.targets_before else 1
            if self.targets.signed.version != expected:
                raise DirectoryError(f"draft: list of members version {self.targets.signed.version}, expected {expected}")
            for member, entry in self.entries.items():
                if member not in roles or tuf_key(entry.key).keyid not in roles[member].keyids or entry.federation != self.federation:
                    raise DirectoryError(f"draft: the entry of {member} does not belong to it")
                entry.officers.judge(self.federation, member, officers_of(roles[member]))

    def sign(self, signer: Signer) -> Draft:
        """Add a holder's signature to every part the key may sign.

        Raises:
            DirectoryError: this key may sign nothing in it.
        """
        parts = [part for part, keys in self._signable() if tuf_key(signer.public).keyid in keys]
        if not parts:
            raise DirectoryError(f"key {signer.public.key_id} is not one of those that can sign this draft")
        signed = self._copied()
        for part in parts:
            metadata = signed.root if part == Root.type else signed.targets
            if metadata is not None:
                metadata.sign(TufSigning(signer), append=True)
        return signed

    def holder(self, public: PublicKey) -> str:
        """Return the name under which the administrators, or those they change, list a key.

        Raises:
            DirectoryError: it is none of theirs.
        """
        for root in (self.effective_root, self.root_before):
            for key in signers_of(root, Root.type) if root else ():
                if key.keyid == tuf_key(public).keyid:
                    return holder_of(key)
        raise DirectoryError(f"key {public.key_id} is not one of those that can sign this draft")

    def merged(self, other: Draft) -> Draft:
        """Return this draft with the signatures of another copy of it.

        Raises:
            DirectoryError: it is another draft.
        """
        if other.words != self.words:
            raise DirectoryError(f"not copies of one draft: {self.words} and {other.words}")
        both = self._copied()
        for mine, theirs in ((both.root, other.root), (both.targets, other.targets)):
            if mine is not None and theirs is not None:
                mine.signatures.update(theirs.signatures)
        return both

    def quorums(self) -> list[Quorum]:
        """Return who must sign what; a signature that does not hold counts as missing."""
        found = []
        if self.root is not None:
            if self.root_before is not None:
                found.append(_quorum("root (by the present administrators)", self.root_before, Root.type, self.root))
            found.append(_quorum("root", self.root.signed, Root.type, self.root))
        if self.targets is not None:
            found.append(_quorum("members", self.effective_root, Targets.type, self.targets))
        return found

    @property
    def complete(self) -> bool:
        """Whether every part has enough signatures."""
        return all(quorum.reached for quorum in self.quorums())

    def expires(self) -> dict[str, int]:
        """Return when each new part will expire, in ms since the epoch."""
        return {name: moment_ms(part.signed.expires) for name, part in (("root", self.root), ("members", self.targets)) if part}

    def to_json(self) -> bytes:
        """Write the file that `from_json` reads."""
        fields = {
            "kind": _KIND,
            "federation": self.federation,
            "root": self.root.to_dict() if self.root else {},
            "targets": self.targets.to_dict() if self.targets else {},
            "entries": {member: json.loads(entry.to_json()) for member, entry in self.entries.items()},
            "roots_before": [json.loads(root) for root in self.roots_before],
            "targets_before": self.targets_before.to_dict() if self.targets_before else {},
        }
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes, what: str = "draft") -> Draft:
        """Read a draft; `check` judges it.

        Raises:
            DirectoryError: it is not one.
        """
        fields = read_document(content, _FORM, DirectoryError, what)
        if fields["kind"] != _KIND:
            raise DirectoryError(f"{what}: not a draft of this version")
        entries = {
            str(member): Entry.from_json(json.dumps(entry).encode(), f"{what}: {member}") for member, entry in fields["entries"].items()
        }
        if any(entry.member.id != member for member, entry in entries.items()):
            raise DirectoryError(f"{what}: an entry under another member's name")
        # Written anew, a root has the same signed content; nobody compares these copies byte by byte.
        roots = tuple(_metadata(root, Root, what).to_bytes() for root in fields["roots_before"])
        return cls(
            fields["federation"],
            _metadata(fields["root"], Root, what) if fields["root"] else None,
            _metadata(fields["targets"], Targets, what) if fields["targets"] else None,
            entries,
            roots,
            _metadata(fields["targets_before"], Targets, what) if fields["targets_before"] else None,
        )

    @classmethod
    def load(cls, path: Path) -> Draft:
        """Read a draft's file.

        Raises:
            DirectoryError: it is not one.
        """
        try:
            if path.stat().st_size > MAX_DRAFT_BYTES:
                raise DirectoryError(f"{path}: larger than {MAX_DRAFT_BYTES} bytes")
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise DirectoryError(f"{path}: {error.strerror}") from None

    def save(self, path: Path) -> None:
        """Write the draft's file whole: an interrupted ceremony goes on from it."""
        write_whole(path, self.to_json())

    def _check_roots_before(self, anchor: Anchor | None) -> Root | None:
        trusted: Root | None = None
        for content in self.roots_before:
            metadata = parse(content, Root, "draft: former root")
            root: Root = metadata.signed
            check_root(root, self.federation)
            if trusted is not None and root.version != trusted.version + 1:
                raise DirectoryError("draft: a root between the first and the present one is missing")
            if not _holds(trusted or root, metadata, Root.type) or not _holds(root, metadata, Root.type):
                raise DirectoryError(f"draft: root version {root.version} was not signed by its administrators")
            if anchor and root.version == anchor.version and fingerprint(metadata.signed_bytes) != anchor.words:
                raise DirectoryError("draft: it continues another federation than the one this anchor knows")
            trusted = root
        if anchor and (trusted is None or trusted.version < anchor.version or anchor.federation != self.federation):
            raise DirectoryError("draft: it does not continue from the root this anchor knows")
        return trusted

    def _signable(self) -> Iterator[tuple[str, set[str]]]:
        before = self.root_before
        if self.root is not None:
            yield Root.type, {*self.root.signed.roles[Root.type].keyids, *(before.roles[Root.type].keyids if before else ())}
        if self.targets is not None:
            yield Targets.type, set(self.effective_root.roles[Targets.type].keyids)

    def _copied(self) -> Draft:
        root = Metadata(self.root.signed, dict(self.root.signatures)) if self.root else None
        targets = Metadata(self.targets.signed, dict(self.targets.signatures)) if self.targets else None
        return replace(self, root=root, targets=targets)


def signers_of(root: Root, role: str) -> list[Key]:
    """Return the keys of one role of a root."""
    return [root.keys[key] for key in root.roles[role].keyids]


def _quorum(part: str, root: Root, role: str, metadata: Metadata[Any]) -> Quorum:
    keys = signers_of(root, role)
    signed = [key for key in keys if signed_by(metadata, key)]
    return Quorum(
        part,
        root.roles[role].threshold,
        tuple(sorted(holder_of(key) for key in signed)),
        tuple(sorted(holder_of(key) for key in keys if key not in signed)),
    )


def _holds(root: Root, metadata: Metadata[Any], role: str) -> bool:
    try:
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except RepositoryError:
        return False
    return True


def _metadata(fields: object, kind: type, what: str) -> Metadata[Any]:
    return parse(json.dumps(fields).encode(), kind, what)
