"""What `vidfed node status` tells: read from the member's folder, whether the node runs or not."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vidfed.index import HashError, HashIndex
from vidfed.node.config import NodeSection
from vidfed.node.errors import PolicyError
from vidfed.node.policy.file import POLICY_FILE, not_in_force, read_own_policy
from vidfed.node.records.known import open_store
from vidfed.node.records.store import PERCEPTUAL
from vidfed.node.search.checked import LastCheck, last_check, refused_for
from vidfed.node.search.erasure import indexes_with_erased
from vidfed.node.sources.overview import SourceOverview, overview
from vidfed.security.clock import DAY_MS, as_text, system_clock
from vidfed.security.errors import SecurityError
from vidfed.security.identity.replay import refusal_text, refuses_until_ms
from vidfed.security.identity.tls import leaf_expires_ms
from vidfed.security.lockfile import serving_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.node.records.store import RecordStore
    from vidfed.security.member.home import MemberHome

_SCHEMA = "vidfed.node-status/1"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node's state. Times in ms since the epoch; 0 for never.

    Attributes:
        refuses: until when it refuses every question, and why.
        erased_left: algorithms whose index files may still hold codes of erased records.
        unsound: why nothing is searched: the store is damaged, or being checked for the first time.
        checked: when store and indexes were last read in full, and what was found.
    """

    federation: str
    member: str
    signing_key: str
    serving: bool
    address: str
    refuses: str
    records: int
    store_version: int
    store_changed_ms: int
    index_version: int | None
    erased_left: tuple[str, ...]
    unsound: str
    checked: LastCheck
    directory: str
    directory_version: int | None
    directory_expires_ms: int | None
    members: tuple[str, ...]
    answers: tuple[str, ...]
    policy: str
    certificate_expires_ms: int
    disk_free_bytes: int
    sources: tuple[SourceOverview, ...]

    def to_fields(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"schema": _SCHEMA} | asdict(self)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield (label, text) for people."""
        yield "member", f"{self.member} of federation {self.federation}, signing key {self.signing_key}"
        yield "serving", (f"yes, on {self.address}" if self.serving else "no") + (f", but refuses: {self.refuses}" if self.refuses else "")
        changed = f", last change {as_text(self.store_changed_ms)}" if self.store_changed_ms else ""
        yield "records", f"{self.records}{changed}"
        if self.sources:
            yield "sources", self._sources_line()
        yield "index", self._index_line()
        yield "checked", self.checked_line()
        if self.erased_left:
            yield "erased", self.erased_line()
        yield "directory", self.directory
        yield "policy", self.policy
        days = (self.certificate_expires_ms - system_clock()) // DAY_MS
        yield "certificate", f"ends {as_text(self.certificate_expires_ms)} (in {days} days)"
        yield "disk", f"{self.disk_free_bytes / 2**30:.1f} GiB free"

    def _sources_line(self) -> str:
        oldest = min(self.sources, key=lambda each: each.as_of_ms)
        as_of = f"as of {as_text(oldest.as_of_ms)}" if oldest.as_of_ms else "NEVER READ"
        behind = [each.name for each in self.sources if each.behind]
        late = f"; BEHIND: {', '.join(behind)} (vidfed node source status)" if behind else ""
        return f"{len(self.sources)}, the oldest, {oldest.name}, {as_of}{late}"

    def checked_line(self) -> str:
        """Return when all that is searched was last read in full, and what was found."""
        last = self.checked
        if self.unsound:
            return f"NOT SEARCHED: {self.unsound}"
        said = (
            f"every byte of records and index, whole on {as_text(last.whole_ms)}" if last.whole_ms else "not yet; the node does it at start"
        )
        return said + (f"; DAMAGE on {as_text(last.found_ms)}: {last.found}" if last.found else "")

    def erased_line(self) -> str:
        """Return where codes of erased records are still; they are found by no question from the moment of the erasure."""
        what = "are rewritten now" if self.serving else "are rewritten when the node starts"
        return f"codes of erased records are still in files of the index ({', '.join(self.erased_left)}), which {what}"

    def _index_line(self) -> str:
        if self.index_version is None:
            return "cannot be read; the node rebuilds it from the records when it starts"
        if self.index_version == self.store_version:
            return "equals the records"
        behind = self.store_version - self.index_version
        return f"{behind} changes behind the records" + ("" if self.serving else "; it catches up when the node starts")


def read_status(home: MemberHome) -> NodeStatus:
    """Read a node's state.

    Raises:
        SecurityError, StoreError: keys, configuration or store cannot be read.
    """
    with open_store(home, reads_only=True) as store:
        state = store.state()
        index_version = _index_version(home.folder / "index", store)
        erased_left = _erased_left(home.folder / "index", store)
        sources = tuple(overview(home, store, system_clock()))
    try:
        directory = home.directory_source().current()
        text = f"version {directory.version}, {len(directory.members)} members, valid until {as_text(directory.expires_ms)}"
        version, expires, members = directory.version, directory.expires_ms, tuple(sorted(directory.members))
        if home.member not in members:
            text += f"; {home.member} is NOT in it: the administrators must add member.json"
    except SecurityError as error:
        text, version, expires, members = f"NOT USABLE: {error}", None, None, ()
    policy, answers = _policy(home, members)
    address = serving_address(home.state_file("serving"))
    until_ms = refuses_until_ms(home.state_file("replay.db"), system_clock())
    return NodeStatus(
        federation=home.federation,
        member=home.member,
        signing_key=home.signer.public.key_id,
        serving=address is not None,
        address=address or home.section("node", NodeSection).listen,
        refuses="" if until_ms is None else refusal_text(until_ms),
        records=state.records,
        store_version=state.version,
        store_changed_ms=state.changed_ms,
        index_version=index_version,
        erased_left=erased_left,
        unsound=refused_for(home.folder / "index"),
        checked=last_check(home.folder / "index"),
        directory=text,
        directory_version=version,
        directory_expires_ms=expires,
        members=members,
        answers=answers,
        policy=policy,
        certificate_expires_ms=leaf_expires_ms(home.node_tls().certificate),
        disk_free_bytes=shutil.disk_usage(home.folder).free,
        sources=sources,
    )


def _policy(home: MemberHome, members: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return what there is to say about the policy file, and whom it answers."""
    try:
        policy = read_own_policy(home, members or None)
    except PolicyError as error:
        return f"NOT USABLE: {error}; a node that runs keeps the one before it", ()
    if other := not_in_force(home, policy, system_clock()):
        return other, tuple(sorted(policy.members()))
    if not policy.rules:
        return f"answers nobody: {POLICY_FILE} has no rule", ()
    named = tuple(sorted(policy.members()))
    count = len(policy.rules)
    gone = f"; not in the trust directory: {', '.join(strangers)}" if members and (strangers := policy.strangers(members)) else ""
    return f"{count} rule{'s' if count > 1 else ''} for {', '.join(named)}{gone}", named


def _index_version(folder: Path, store: RecordStore) -> int | None:
    """Return what the index has reached of this store's history; None where it cannot be read, 0 where it followed another."""
    versions = []
    for algorithm in PERCEPTUAL:
        try:
            with HashIndex.open(folder / algorithm.value, algorithm, read_only=True) as index:
                followed = store.mark(index.source_version) == index.source_mark
                versions.append(index.source_version if followed else 0)
        except HashError:
            return None
    return min(versions)


def _erased_left(folder: Path, store: RecordStore) -> tuple[str, ...]:
    try:
        return tuple(algorithm.label for algorithm in indexes_with_erased(folder, store.last_erasure()))
    except HashError:
        return ()  # it is made anew
