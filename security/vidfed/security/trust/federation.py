"""The administrators' folder of a federation, and the changes they can propose in it.

anchor.json     the first root: what every member and investigator starts from
draft.json      the change that is being signed, if any
directory/      what is published; members take it from here, or from one another
online.key      confirms what is newest; only on the machine that publishes, and each publisher has its own

The holders' own keys are never in it.
"""

from __future__ import annotations

import copy
import json
import logging
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES, Delegations, Metadata, Role, Root, Targets

from vidfed.security.clock import DAY_MS, HOUR_MS, Clock, as_text, system_clock
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.crypto.passphrase import is_closed, of_services
from vidfed.security.documents import MAX_NAME_CHARS, check_line
from vidfed.security.errors import DirectoryError, UnknownMemberError
from vidfed.security.files import write_whole
from vidfed.security.identity.directory import check_federation_id
from vidfed.security.lockfile import locked
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.draft import Draft
from vidfed.security.trust.metadata_rules import (
    FEDERATION_FIELD,
    ROOT_LIFE,
    TARGETS_LIFE,
    Standing,
    check_targets,
    delegation,
    holder_of,
    moment,
    officers_of,
    publishers_of,
    role_of,
    standing_of,
    tuf_key,
)
from vidfed.security.trust.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuf.api.metadata import Key

    from vidfed.security.crypto.keys import PublicKey, Signer
    from vidfed.security.crypto.passphrase import Passphrase
    from vidfed.security.identity.directory import Directory
    from vidfed.security.trust.entry import Entry

SUBMISSIONS = ((10, HOUR_MS), (48, DAY_MS))
"""How many versions of its entry a member may publish within which time. A rotation takes two, ten revocations one each."""
_log = logging.getLogger(__name__)
_OFFLINE = (Root.type, Targets.type)


class FederationFolder:
    """A federation's folder, created or about to be."""

    def __init__(self, folder: Path, *, passphrase: Passphrase | None = None, clock: Clock = system_clock) -> None:
        """Open `folder`.

        Args:
            folder: where the federation is published from.
            passphrase: gives that of the online key, if it is closed; by default `passphrase.of_services`.
            clock: the time.

        Raises:
            DirectoryError: it holds neither a federation nor the draft of one.
        """
        self.folder = folder
        self.anchor_path = folder / "anchor.json"
        self.draft_path = folder / "draft.json"
        self.online_key_path = folder / "online.key"
        self.repository = Repository(folder / "directory")
        self._passphrase = passphrase or of_services()
        self._clock = clock
        if not self.anchor_path.exists() and not self.draft_path.exists():
            raise DirectoryError(f"{folder}: no federation here; `vidfed trust create` makes one")

    @classmethod
    def create(
        cls,
        folder: Path,
        federation: str,
        holders: Mapping[str, PublicKey],
        threshold: int,
        *,
        clock: Clock = system_clock,
        publisher: str = "online",
    ) -> FederationFolder:
        """Make the online key and the draft of a federation's first root and its list of members, still empty.

        Args:
            folder: must not exist yet, or be empty.
            federation: its id.
            holders: the administrators' public keys by name.
            threshold: how many of them must sign.
            clock: the time.
            publisher: name of who publishes: the id of the member whose node does, if one does.

        Raises:
            DirectoryError: the folder is in use, or the threshold cannot be.
        """
        check_federation_id(federation)
        if folder.exists() and any(folder.iterdir()):
            raise DirectoryError(f"{folder}: exists and is not empty; a federation is never overwritten")
        keys = [tuf_key(key, name) for name, key in holders.items()]
        _check_holders(keys, threshold)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        online = SigningKey.generate()
        online.save(folder / "online.key")
        online_key = tuf_key(online.public, check_line(publisher, MAX_NAME_CHARS, DirectoryError, "name of the publisher"))
        roles = {
            name: Role([key.keyid for key in keys], threshold) if name in _OFFLINE else Role([online_key.keyid], 1)
            for name in sorted(TOP_LEVEL_ROLE_NAMES)
        }
        listed: dict[str, Key] = {key.keyid: key for key in (*keys, online_key)}
        now = moment(clock())
        root = Root(1, None, now + ROOT_LIFE, listed, roles, True, {FEDERATION_FIELD: federation})
        targets = Targets(1, None, now + TARGETS_LIFE, {}, Delegations({}, {}))
        Draft(federation, Metadata(root), Metadata(targets), {}, (), None).save(folder / "draft.json")
        return cls(folder, clock=clock)

    @classmethod
    def stand_by(cls, folder: Path, anchor: Anchor, *, clock: Clock = system_clock) -> tuple[FederationFolder, PublicKey]:
        """Make a further publisher's folder, with an online key of its own; return that key's public half too.

        Args:
            folder: must not exist yet, or be empty.
            anchor: the federation's first root.
            clock: the time.

        Raises:
            DirectoryError: the folder is in use, or the anchor is not the first root.
        """
        if folder.exists() and any(folder.iterdir()):
            raise DirectoryError(f"{folder}: exists and is not empty; a federation is never overwritten")
        if anchor.version != 1:
            raise DirectoryError("a publisher starts from the federation's first root: the administrators' anchor.json")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        online = SigningKey.generate()
        online.save(folder / "online.key")
        anchor.save(folder / "anchor.json")
        return cls(folder, clock=clock), online.public

    @property
    def anchor(self) -> Anchor:
        """The first root.

        Raises:
            DirectoryError: nothing is published yet.
        """
        return Anchor.load(self.anchor_path)

    def directory(self) -> Directory:
        """Return the published directory, read as a newcomer would.

        Raises:
            DirectoryError: it does not hold, or has expired.
        """
        return self.repository.directory(self.anchor, self._clock())

    def draft(self) -> Draft:
        """Return the draft that is being signed.

        Raises:
            DirectoryError: there is none.
        """
        if not self.draft_path.exists():
            raise DirectoryError(f"{self.folder}: no change is being signed; `vidfed trust propose` begins one")
        return Draft.load(self.draft_path)

    def withdraw(self) -> None:
        """Drop the draft; what was signed of it stays worthless."""
        self.draft_path.unlink(missing_ok=True)

    def propose_members(self, entries: Sequence[Entry], standing: Standing) -> Draft:
        """Propose members, or their return, or another entry key for them.

        Raises:
            DirectoryError: an entry is of another federation, or older than what was published of it; or two are of one member.
        """
        federation = self.anchor.federation
        targets = self._targets_copy()
        delegations = _delegations(targets)
        by_member = {entry.member.id: entry for entry in entries}
        if len(by_member) != len(entries):
            raise DirectoryError("two requests of the same member")
        for member, entry in by_member.items():
            if entry.federation != federation:
                raise DirectoryError(f"the request of {member} is made for federation {entry.federation!r:.70}, this is {federation}")
            known = self.repository.entry_version(member)
            if entry.version <= known:
                raise DirectoryError(
                    f"the entry of {member} has version {entry.version}; version {known} was published already: request it anew"
                )
            present = _roles(delegations).get(role_of(member))
            accepted = officers_of(present) if present is not None else ()
            if entry.officers.rounds[: len(accepted)] != accepted:
                raise DirectoryError(f"the entry of {member} does not name the officers whom the administrators accepted: request it anew")
            self._drop(delegations, member)
            key = tuf_key(entry.key, member)
            if key.keyid in delegations.keys:
                raise DirectoryError(f"the entry key of {member} is another member's already")
            delegations.keys[key.keyid] = key
            _roles(delegations)[role_of(member)] = delegation(member, [key.keyid], standing, entry.officers.rounds)
        return self._propose(targets=targets, entries=by_member)

    def propose_standing(self, member: str, standing: Standing) -> Draft:
        """Propose to raise a member out of quarantine, or to put it back.

        Raises:
            UnknownMemberError: it is none.
        """
        targets = self._targets_copy()
        delegations = _delegations(targets)
        present = self._role(member)
        if standing_of(present) is standing:
            raise DirectoryError(f"{member} has the standing {standing.value} already")
        _roles(delegations)[role_of(member)] = delegation(member, present.keyids, standing, officers_of(present))
        return self._propose(targets=targets)

    def propose_officers(self, member: str) -> Draft:
        """Propose to accept those whom a member's published entry names as officers and nobody has vouched for: the first, or anew.

        Raises:
            UnknownMemberError: it is no member.
            DirectoryError: its entry names nobody who waits to be accepted.
        """
        targets, present = self._targets_copy(), self._role(member)
        entry, accepted = self.repository.entry(member), officers_of(present)
        rounds = entry.officers.rounds if entry is not None else ()
        if entry is None or rounds[: len(accepted)] != accepted or len(rounds) == len(accepted):
            raise DirectoryError(
                f"the published entry of {member} names no officer who waits to be accepted; the unit enrols them, and hands its entry in: "
                "vidfed node submit"
            )
        keys = list(present.keyids)
        _roles(_delegations(targets))[role_of(member)] = delegation(member, keys, standing_of(present), rounds)
        return self._propose(targets=targets, entries={member: entry})

    def propose_removal(self, member: str) -> Draft:
        """Propose to remove a member.

        Raises:
            UnknownMemberError: it is none.
        """
        self._role(member)
        targets = self._targets_copy()
        self._drop(_delegations(targets), member)
        return self._propose(targets=targets)

    def propose_key(self, old: str, holder: str, new: PublicKey) -> Draft:
        """Propose another key for an administrator.

        Args:
            old: name of the holder, or id of the key (at least 8 digits), that goes.
            holder: name of who holds the new one.
            new: the new public key.
        """
        root = self._root_copy()
        gone = [key for key in self._offline_keys(root) if old == holder_of(key) or (len(old) >= 8 and key.keyid.startswith(old))]  # noqa: PLR2004
        if len(gone) != 1:
            raise DirectoryError(f"{old!r:.50} names {len(gone)} administrators' keys; `vidfed trust show` lists them")
        keys = [key for key in self._offline_keys(root) if key is not gone[0]] + [tuf_key(new, holder)]
        return self._propose(root=_with_holders(root, keys, root.roles[Root.type].threshold), targets=self._targets_copy())

    def propose_threshold(self, threshold: int) -> Draft:
        """Propose that another number of administrators must sign."""
        root = self._root_copy()
        return self._propose(root=_with_holders(root, self._offline_keys(root), threshold), targets=self._targets_copy())

    def propose_online_key(self) -> Draft:
        """Make a new online key of this publisher and propose it; the present one goes on until the change is published."""
        root = self._root_copy()
        present = tuf_key(self.online_signer(root).public).keyid
        name = holder_of(root.keys[present])
        new = SigningKey.generate()
        closed = self._passphrase is not None and is_closed(self.online_key_path)
        new.save(self._next_online_key_path, self._passphrase(str(self._next_online_key_path)) if self._passphrase and closed else None)
        key = tuf_key(new.public, name)
        self._set_publishers(root, [key if each.keyid == present else each for each in self._online_keys(root)])
        return self._propose(root=root)

    def propose_publisher(self, name: str, public: PublicKey) -> Draft:
        """Propose one more publisher: who holds this online key may confirm what is newest, whenever no other does.

        Raises:
            DirectoryError: there is one of this name or key already.
        """
        root = self._root_copy()
        present, key = self._online_keys(root), tuf_key(public, name)
        if any(key.keyid == each.keyid or name == holder_of(each) for each in present):
            raise DirectoryError(f"{name!r:.50}: there is a publisher of this name or with this key already")
        if key.keyid in root.keys:
            raise DirectoryError("an administrator's key cannot be an online key: it must stay offline")
        self._set_publishers(root, [*present, key])
        return self._propose(root=root)

    def propose_publisher_removal(self, name: str) -> Draft:
        """Propose that a publisher of this name no longer is one.

        Raises:
            DirectoryError: there is none of this name, or no other.
        """
        root = self._root_copy()
        present = self._online_keys(root)
        kept = [each for each in present if holder_of(each) != name]
        if len(kept) != len(present) - 1 or not kept:
            raise DirectoryError(f"{name!r:.50} is not one of several publishers; there are: {', '.join(map(holder_of, present))}")
        self._set_publishers(root, kept)
        return self._propose(root=root)

    def publishers(self) -> dict[str, str]:
        """Return the names of who may publish, in the order of their versions, by the id of the online key."""
        return {key.keyid: holder_of(key) for key in self._online_keys(self.root())}

    @staticmethod
    def _online_keys(root: Root) -> list[Key]:
        return [root.keys[key] for key in publishers_of(root)]

    @staticmethod
    def _set_publishers(root: Root, keys: Sequence[Key]) -> None:
        for role in set(TOP_LEVEL_ROLE_NAMES) - set(_OFFLINE):
            root.roles[role] = Role([key.keyid for key in keys], 1)
        used = {key for role in root.roles.values() for key in role.keyids}
        root.keys = {key.keyid: key for key in (*root.keys.values(), *keys) if key.keyid in used}

    def propose_renewal(self) -> Draft:
        """Propose the same root and members again, with a new life."""
        return self._propose(root=self._root_copy(), targets=self._targets_copy())

    def sign(self, signer: Signer) -> Draft:
        """Add a signature to the draft.

        Raises:
            DirectoryError: there is none, it does not hold, or this key cannot sign it.
        """
        draft = self.draft()
        draft.check(self.anchor if self.anchor_path.exists() else None)
        signed = draft.sign(signer)
        signed.save(self.draft_path)
        return signed

    def publish(self, copies: Sequence[Draft] = ()) -> Directory:
        """Publish the draft, with the signatures of its copies, if enough have signed. Interrupted, it can be repeated.

        Raises:
            DirectoryError: signatures are missing (their names are told), or it no longer fits what is published.
        """
        draft = self.draft()
        for other in copies:
            draft = draft.merged(other)
        draft.save(self.draft_path)
        draft.check(self.anchor if self.anchor_path.exists() else None)
        for quorum in draft.quorums():
            if not quorum.reached:
                raise DirectoryError(
                    f"{quorum.part}: {len(quorum.signed)} of {quorum.threshold} signatures; still to sign: {', '.join(quorum.missing)}"
                )
        with self.repository.writing():
            self._check_basis(draft)
            now_ms = self._clock()
            directory = self.repository.publish(
                self.online_signer(draft.effective_root), now_ms, root=draft.root, targets=draft.targets, entries=self._newer(draft)
            )
            if not self.anchor_path.exists():
                Anchor.read(self.repository.roots()[0]).save(self.anchor_path)
        if (
            self._next_online_key_path.exists()
            and tuf_key(SigningKey.load(self._next_online_key_path).public).keyid in draft.effective_root.keys
        ):
            self._next_online_key_path.replace(self.online_key_path)
        self.withdraw()
        return directory

    def accept(self, entry: Entry) -> Directory:
        """Publish a member's own newer entry; see `Repository.accept`."""
        return self.repository.accept(entry, self.online_signer(self.root()), self._clock())

    def accept_submitted(self, entry: Entry) -> Directory:
        """Publish a member's own newer entry that its node handed in: as `accept`, but only so often.

        Each version takes a new snapshot, which everybody reads, and room on the publisher's disk.

        Raises:
            DirectoryError: the member has published as often as it may for now; the message says when it may again.
        """
        now_ms = self._clock()
        with locked(self.folder / ".submissions.lock"):
            before = self._submissions()
            mine = [at_ms for at_ms in before.get(entry.member.id, []) if now_ms - DAY_MS < at_ms <= now_ms]
            for most, span_ms in SUBMISSIONS:
                recent = [at_ms for at_ms in mine if at_ms > now_ms - span_ms]
                if len(recent) >= most:
                    again = as_text(recent[-most] + span_ms)
                    raise DirectoryError(
                        f"{entry.member.id} has published {most} versions within {span_ms // HOUR_MS} h; again after {again}, "
                        "or at once by whoever has the online key: vidfed trust accept"
                    )
            directory = self.accept(entry)
            write_whole(self._submissions_path, json.dumps({**before, entry.member.id: [*mine, now_ms]}).encode())
        return directory

    def _submissions(self) -> dict[str, list[int]]:
        try:
            return dict(json.loads(self._submissions_path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError):
            _log.warning("%s: damaged; counting anew", self._submissions_path)
            return {}

    @property
    def _submissions_path(self) -> Path:
        return self.folder / "submissions.json"

    def renew_timestamp(self, *, seen: bool = False) -> bool:
        """Renew the timestamp if it is time; see `Repository.renew`."""
        return self.repository.renew(self.online_signer(self.root()), self._clock(), seen=seen)

    def take_over(self) -> Directory:
        """Confirm what is here as the newest, whoever's lease runs: for a person who has made sure that no other publisher does.

        Raises:
            DirectoryError: nothing is here yet, or this folder's online key is not in the root.
        """
        with self.repository.writing():
            return self.repository.publish(self.online_signer(self.root()), self._clock(), force=True)

    def online_signer(self, root: Root) -> SigningKey:
        """Return the online key that this root names.

        Raises:
            KeyFileError: it is not on this machine.
        """
        if self._next_online_key_path.exists():
            following = SigningKey.load(self._next_online_key_path, self._passphrase)
            if tuf_key(following.public).keyid in root.roles["timestamp"].keyids:
                return following
        return SigningKey.load(self.online_key_path, self._passphrase)

    def close_online_keys(self, passphrase: bytes) -> list[str]:
        """Close the online keys here that are still open with a passphrase; return the names of their files.

        Raises:
            KeyFileError: there is none, or the passphrase is too short.
        """
        return self._rewrite_online_keys(False, passphrase)

    def open_online_keys(self) -> list[str]:
        """Take the passphrase off the online keys here again; return the names of their files.

        Raises:
            KeyFileError: there is none, or the passphrase at hand is another.
        """
        return self._rewrite_online_keys(True, None)

    def _rewrite_online_keys(self, closed: bool, passphrase: bytes | None) -> list[str]:
        next_too = [self._next_online_key_path] if self._next_online_key_path.exists() else []
        paths = [path for path in (self.online_key_path, *next_too) if is_closed(path) is closed]
        for path in paths:
            SigningKey.load(path, self._passphrase).save(path, passphrase)
        return [path.name for path in paths]

    @property
    def _next_online_key_path(self) -> Path:
        return self.folder / "online-next.key"

    def _propose(self, *, root: Root | None = None, targets: Targets | None = None, entries: Mapping[str, Entry] | None = None) -> Draft:
        if self.draft_path.exists():
            raise DirectoryError(f"{self.draft_path}: another change is being signed; publish it, or `vidfed trust withdraw`")
        now = moment(self._clock())
        if root is not None:
            root.version += 1
            root.expires = now + ROOT_LIFE
        if targets is not None:
            targets.version += 1
            targets.expires = now + TARGETS_LIFE
        draft = Draft(
            self.anchor.federation,
            Metadata(root) if root else None,
            Metadata(targets) if targets else None,
            entries or {},
            tuple(self.repository.roots()),
            self.repository.targets(),
        )
        draft.check(self.anchor)
        draft.save(self.draft_path)
        return draft

    def _check_basis(self, draft: Draft) -> None:
        """Refuse a draft that was overtaken by another, unless it is itself what is published already."""
        for proposed, published in ((draft.root, self.repository.root()), (draft.targets, self.repository.targets())):
            if proposed is None or published is None:
                continue
            again = proposed.signed.version == published.signed.version and proposed.signed_bytes == published.signed_bytes
            if proposed.signed.version != published.signed.version + 1 and not again:
                raise DirectoryError("the draft was made before the last change was published; withdraw it and propose it again")

    def _newer(self, draft: Draft) -> dict[str, Entry]:
        """Return the draft's entries but for those that a member has replaced by itself while the draft was being signed."""
        found = {}
        for member, entry in draft.entries.items():
            published = self.repository.entry(member)
            if published is None or published.key != entry.key or published.version <= entry.version:
                found[member] = entry
        return found

    def root(self) -> Root:
        """Return the newest root.

        Raises:
            DirectoryError: nothing is published here yet.
        """
        root = self.repository.root()
        if root is None:
            raise DirectoryError(f"{self.folder}: the federation's first root is not published yet")
        return root.signed

    def _root_copy(self) -> Root:
        return copy.deepcopy(self.root())

    def _targets_copy(self) -> Targets:
        targets = self.repository.targets()
        if targets is None:
            raise DirectoryError(f"{self.folder}: no list of members is published yet")
        return copy.deepcopy(targets.signed)

    def _role(self, member: str) -> Any:  # noqa: ANN401 - python-tuf's DelegatedRole
        try:
            return check_targets(self._targets_copy())[member]
        except KeyError:
            raise UnknownMemberError(f"{member!r:.50} is no member of this federation") from None

    def _drop(self, delegations: Delegations, member: str) -> None:
        role = _roles(delegations).pop(role_of(member), None)
        for key in role.keyids if role else ():
            delegations.keys.pop(key, None)

    def _offline_keys(self, root: Root) -> list[Key]:
        return [root.keys[key] for key in root.roles[Root.type].keyids]


def _with_holders(root: Root, keys: Sequence[Key], threshold: int) -> Root:
    _check_holders(keys, threshold)
    for name in _OFFLINE:
        root.roles[name] = Role([key.keyid for key in keys], threshold)
    used = {key for role in root.roles.values() for key in role.keyids}
    root.keys = {key.keyid: key for key in (*root.keys.values(), *keys) if key.keyid in used}
    return root


def _check_holders(keys: Sequence[Key], threshold: int) -> None:
    if len({key.keyid for key in keys}) != len(keys):
        raise DirectoryError("the same key twice: every administrator needs a key of their own")
    if len({holder_of(key) for key in keys}) != len(keys):
        raise DirectoryError("two administrators of the same name")
    if not 1 <= threshold <= len(keys):
        raise DirectoryError(f"{threshold} of {len(keys)} signatures cannot be asked for")


def _delegations(targets: Targets) -> Delegations:
    if targets.delegations is None:
        targets.delegations = Delegations({}, {})
    return targets.delegations


def _roles(delegations: Delegations) -> dict[str, Any]:
    if delegations.roles is None:
        delegations.roles = {}
    return delegations.roles
