"""Attacks on the trust directory, each by its name, by an attacker who really signs with what was stolen."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tuf.api.metadata import TargetFile

from tests.security.trust.world import HOUR_MS, TIMESTAMP, LyingMirror, World, signed_anew
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import DirectoryError, DirectoryExpiredError
from vidfed.security.identity.directory import MEMBER_REQUEST_TYPE, MemberRequest
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.metadata_rules import ENTRY_LIFE, tuf_key
from vidfed.security.trust.reader import LIMITS

if TYPE_CHECKING:
    from pathlib import Path

DAY_MS = 24 * HOUR_MS


def test_rollback(world: World, caplog: pytest.LogCaptureFixture) -> None:
    old = world.published_files()
    world.add("fr")
    mirror = world.mirror()
    source = world.source(mirror)
    assert set(source.current().members) == {"nl", "fr"}
    mirror.now_gives(old)
    assert set(source.current().members) == {"nl", "fr"}
    assert "must be >=" in caplog.text


def test_rollback_after_restart(world: World) -> None:
    old = world.published_files()
    world.folder.propose_removal("nl")
    world.sign_and_publish()
    assert set(world.source(world.mirror()).current().members) == set()
    assert set(world.again(LyingMirror(old)).current().members) == set()


def test_rollback_by_the_online_key_of_the_members_list(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The thief of the online key points a new timestamp to the list of before a removal."""
    old = world.published_files()
    world.folder.propose_removal("nl")
    world.sign_and_publish()
    mirror = world.mirror()
    source = world.source(mirror)
    source.current()
    files = world.published_files() | {name: content for name, content in old.items() if name.endswith(".targets.json")}
    newest = max(int(name.split("/")[1].split(".")[0]) for name in files if name.endswith(".snapshot.json"))
    listed = json.loads(files[f"metadata/{newest}.snapshot.json"])["signed"]["meta"] | {"targets.json": {"version": 2}}
    snapshot = signed_anew(files[f"metadata/{newest}.snapshot.json"], {"version": newest + 1, "meta": listed}, world.online)
    files[f"metadata/{newest + 1}.snapshot.json"] = snapshot
    version = json.loads(files[TIMESTAMP])["signed"]["version"] + 1
    files[TIMESTAMP] = signed_anew(files[TIMESTAMP], {"version": version, "meta": {"snapshot.json": {"version": newest + 1}}}, world.online)
    mirror.now_gives(files)
    assert set(source.current().members) == set()
    assert "targets.json version" in caplog.text


def test_freeze(world: World) -> None:
    """Always the same, once valid, directory: it is used until its timestamp expires, and then nothing is."""
    mirror = world.mirror()
    source = world.source(mirror)
    source.current()
    world.folder.propose_removal("nl")
    world.sign_and_publish()
    world.clock.now_ms += 23 * HOUR_MS
    assert "nl" in source.current().members
    world.clock.now_ms += HOUR_MS
    with pytest.raises(DirectoryExpiredError, match="could not be confirmed since"):
        source.current()


def test_a_newcomer_is_not_frozen_longer_than_the_timestamp_lives(world: World) -> None:
    mirror = world.mirror()
    world.clock.now_ms += 24 * HOUR_MS
    with pytest.raises(DirectoryError, match=r"timestamp\.json is expired"):
        world.source(mirror).current()


def test_mix_and_match(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The newest timestamp with the snapshot and lists of before: refused, and what was known goes on, also after a restart."""
    old = world.published_files()
    mirror = LyingMirror(old)
    source = world.source(mirror)
    source.current()
    world.add("fr")
    new = world.published_files()
    mirror.now_gives(
        {**new, **{name: old[name] for name in old if name != TIMESTAMP}, "metadata/3.snapshot.json": old["metadata/2.snapshot.json"]}
    )
    assert set(source.current().members) == {"nl"}
    assert "not the one that is signed for" in caplog.text
    assert set(world.again().current().members) == {"nl"}


@pytest.mark.parametrize("part", ["root", "members"])
def test_threshold_short_by_one(world: World, part: str) -> None:
    draft = world.folder.propose_threshold(1) if part == "root" else world.folder.propose_removal("nl")
    del draft
    with pytest.raises(DirectoryError, match=r"1 of 2 signatures; still to sign: ben, cleo"):
        world.sign_and_publish(by=("anna",))


def test_threshold_short_by_one_published_all_the_same(world: World) -> None:
    """Somebody who has one administrator's key and the online key writes the folder past our own commands."""
    files = world.published_files()
    targets = signed_anew(files["metadata/2.targets.json"], {"version": 3, "delegations": {"keys": {}, "roles": []}}, world.keys["anna"])
    files["metadata/3.targets.json"] = targets
    meta = json.loads(files["metadata/2.snapshot.json"])["signed"]["meta"] | {"targets.json": {"version": 3}}
    files["metadata/3.snapshot.json"] = signed_anew(files["metadata/2.snapshot.json"], {"version": 3, "meta": meta}, world.online)
    files[TIMESTAMP] = signed_anew(files[TIMESTAMP], {"version": 9, "meta": {"snapshot.json": {"version": 3}}}, world.online)
    with pytest.raises(DirectoryError, match="targets was signed by 1/2 keys"):
        world.source(LyingMirror(files)).current()


def test_same_key_counted_twice_by_two_signatures(world: World) -> None:
    world.folder.propose_removal("nl")
    with pytest.raises(DirectoryError, match="1 of 2 signatures"):
        world.sign_and_publish(by=("anna", "anna"))


def test_same_key_counted_twice_under_two_ids(world: World) -> None:
    """A root in which one key stands under two ids would let one person be two."""
    root = json.loads(world.published_files()["metadata/1.root.json"])
    anna, ben = tuf_key(world.keys["anna"].public), tuf_key(world.keys["ben"].public)
    root["signed"]["keys"][ben.keyid] = anna.to_dict()
    content = signed_anew(json.dumps(root).encode(), {}, world.keys["anna"], world.keys["ben"])
    with pytest.raises(DirectoryError, match="not an Ed25519 key under its own id"):
        Anchor.read(content)


def test_same_key_given_by_two_administrators(world: World) -> None:
    with pytest.raises(DirectoryError, match="the same key twice"):
        world.folder.propose_key("cleo", "dora", world.keys["anna"].public)


def test_revoked_key_reused(world: World) -> None:
    """After cleo's key was replaced, it counts for nothing."""
    stolen, dora = world.keys["cleo"], SigningKey.generate()
    world.folder.propose_key("cleo", "dora", dora.public)
    world.sign_and_publish()
    world.folder.propose_removal("nl")
    with pytest.raises(DirectoryError, match="is not one of those that can sign"):
        world.folder.sign(stolen)
    files = world.published_files()
    removal = signed_anew(files["metadata/3.targets.json"], {"version": 4}, stolen, world.keys["anna"])
    with pytest.raises(DirectoryError, match="targets was signed by 1/2 keys"):
        world.source(LyingMirror(with_targets(world, files, removal, 4))).current()


def test_revoked_online_key_reused(world: World) -> None:
    stolen = world.online
    world.folder.propose_online_key()
    world.sign_and_publish()
    files = world.published_files()
    version = json.loads(files[TIMESTAMP])["signed"]["version"]
    files[TIMESTAMP] = signed_anew(files[TIMESTAMP], {"version": version + 1}, stolen)
    with pytest.raises(DirectoryError, match="timestamp was signed by 0/1 keys"):
        world.source(LyingMirror(files)).current()
    assert set(world.source(world.mirror()).current().members) == {"nl"}


def test_root_skipped(world: World) -> None:
    world.folder.propose_renewal()
    world.sign_and_publish()
    world.folder.propose_renewal()
    world.sign_and_publish()
    files = world.published_files()
    files["metadata/2.root.json"] = files["metadata/3.root.json"]
    with pytest.raises(DirectoryError, match="Expected root version 2 instead got version 3"):
        world.source(LyingMirror(files)).current()


def test_root_of_another_federation(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", "other")
    with pytest.raises(DirectoryError):
        world.source(other.mirror()).current()


def test_target_substituted(world: World) -> None:
    """The member's file of another key, under the name of the one that is signed for."""
    thief = SigningKey.generate()
    mirror = world.mirror()
    name = next(name for name in mirror.files if name.endswith(".member.json"))
    listed = world.entry("nl").member
    mirror.files[name] = MemberRequest("test", thief.public, listed).to_envelope(thief).to_json()
    with pytest.raises(DirectoryError, match="a file is not the one that is signed for"):
        world.source(mirror).current()


@pytest.mark.parametrize("name", [TIMESTAMP, "metadata/2.root.json", "metadata/2.snapshot.json", "metadata/2.targets.json"])
def test_endless_data(world: World, name: str) -> None:
    mirror = world.mirror()
    mirror.endless.add(name)
    with pytest.raises(DirectoryError):
        world.source(mirror).current()
    assert mirror.given_bytes <= 2 * LIMITS.targets_max_length


def test_diamond_delegation(world: World) -> None:
    """A member that passes on its role, so that a name could be reached by two ways, is left out."""
    unit, files = world.units["nl"], world.published_files()
    key = tuf_key(unit.entry.public)
    second = {"name": "member-fr", "keyids": [key.keyid], "threshold": 1, "terminating": True, "paths": ["members/nl/*"]}
    delegating = {"delegations": {"keys": {key.keyid: key.to_dict()}, "roles": [second]}, "version": 2}
    files["metadata/2.member-nl.json"] = signed_anew(files["metadata/1.member-nl.json"], delegating, unit.entry)
    directory = world.source(LyingMirror(with_entry(world, files, 2))).current()
    assert directory.left_out == {"nl": "delegates its role to others"}
    assert "nl" not in directory.members


def test_a_delegation_that_reaches_beyond_its_member_is_refused(world: World) -> None:
    files = world.published_files()
    targets = json.loads(files["metadata/2.targets.json"])
    targets["signed"]["delegations"]["roles"][0]["paths"] = ["members/*/*"]
    content = signed_anew(json.dumps(targets).encode(), {"version": 3}, world.keys["anna"], world.keys["ben"])
    with pytest.raises(DirectoryError, match="reaches beyond its member"):
        world.source(LyingMirror(with_targets(world, files, content, 3))).current()


def test_a_member_publishing_another_s_entry_is_left_out(world: World) -> None:
    """fr, a member, signs the whole entry of nl into its own role."""
    world.add("fr")
    world.add("nl")
    unit, files = world.units["fr"], world.published_files()
    nl_file = next(content for name, content in files.items() if "/nl/" in name)
    metadata = json.loads(files["metadata/1.member-fr.json"])
    (hashed,) = (name.rpartition("/")[2].split(".")[0] for name, content in files.items() if content == nl_file)
    listed = {"members/fr/member.json": {"length": len(nl_file), "hashes": {"sha256": hashed}}}
    files["metadata/2.member-fr.json"] = signed_anew(json.dumps(metadata).encode(), {"version": 2, "targets": listed}, unit.entry)
    files[f"targets/members/fr/{hashed}.member.json"] = nl_file
    directory = world.source(LyingMirror(with_entry(world, files, 2, "fr"))).current()
    assert directory.left_out == {"fr": "has published the entry of nl"}


@pytest.mark.parametrize("authority", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_member_publishing_a_damaged_ca_is_left_out(world: World, authority: str) -> None:
    """gRPC takes all members' CAs as one text, in which this one would spoil the others."""
    unit, files = world.units["nl"], world.published_files()
    listed = world.entry("nl", 2).member.to_fields() | {"tls_ca": authority}
    asked = {"federation": "test", "entry_key": unit.entry.public.text, "member": listed}
    content = Envelope(MEMBER_REQUEST_TYPE, json.dumps(asked).encode()).signed_by(unit.signing, unit.audit).to_json()
    target = TargetFile.from_data("members/nl/member.json", content, ["sha256"])
    changes = {"version": 2, "targets": {"members/nl/member.json": target.to_dict()}}
    files["metadata/2.member-nl.json"] = signed_anew(files["metadata/1.member-nl.json"], changes, unit.entry)
    files[f"targets/members/nl/{target.hashes['sha256']}.member.json"] = content
    directory = world.source(LyingMirror(with_entry(world, files, 2))).current()
    assert list(directory.left_out) == ["nl"]
    assert "CA certificate" in directory.left_out["nl"]


def test_stale_mirror(world: World) -> None:
    """A mirror that is behind, listed first, costs nothing: the one that claims the newest is asked first."""
    behind = world.mirror()
    world.add("fr")
    source = world.source(behind, world.mirror())
    assert set(source.current().members) == {"nl", "fr"}


def test_a_mirror_that_claims_to_be_the_newest_and_lies_costs_its_turn_only(world: World) -> None:
    liar = world.mirror()
    liar.files[TIMESTAMP] = signed_anew(liar.files[TIMESTAMP], {"version": 999_999}, SigningKey.generate())
    assert set(world.source(liar, world.mirror()).current().members) == {"nl"}


def test_expired_role(world: World) -> None:
    """A member whose entry has expired is left out; the others stay."""
    world.clock.now_ms += 190 * DAY_MS
    world.folder.propose_renewal()
    world.sign_and_publish()
    world.add("fr")
    world.clock.now_ms += int(ENTRY_LIFE.total_seconds() * 1000) - 190 * DAY_MS - HOUR_MS
    world.folder.propose_renewal()
    world.sign_and_publish()
    world.clock.now_ms += 2 * HOUR_MS
    directory = world.source(world.mirror()).current()
    assert set(directory.members) == {"fr"}
    assert "expired" in directory.left_out["nl"]


@pytest.mark.parametrize("days", [201, 366])
def test_expired_list_or_root(world: World, days: int) -> None:
    """The online key alone cannot keep alive what the administrators no longer sign."""
    world.clock.now_ms += days * DAY_MS
    with pytest.raises(DirectoryError, match="expired"):
        world.folder.repository.publish(world.online, world.clock())


def test_clock_moved_forward(world: World) -> None:
    source = world.source(world.mirror())
    source.current()
    world.clock.now_ms += 400 * DAY_MS
    with pytest.raises(DirectoryExpiredError):
        source.current()


def test_clock_moved_back(world: World) -> None:
    """An expired directory does not become good again by setting the clock to before it was issued."""
    source = world.source(world.mirror())
    source.current()
    world.clock.now_ms -= 2 * HOUR_MS
    with pytest.raises(DirectoryError, match="the clock says"):
        source.current()


def with_targets(world: World, files: dict[str, bytes], content: bytes, version: int) -> dict[str, bytes]:
    """Return files in which the thief of the online key has confirmed another list of members."""
    return _confirmed(world, files | {f"metadata/{version}.targets.json": content}, {"targets.json": {"version": version}})


def with_entry(world: World, files: dict[str, bytes], version: int, member: str = "nl") -> dict[str, bytes]:
    """Return files in which the online key has confirmed another version of a member's role."""
    return _confirmed(world, files, {f"member-{member}.json": {"version": version}})


def _confirmed(world: World, files: dict[str, bytes], meta: dict[str, Any]) -> dict[str, bytes]:
    newest = max(int(name.split("/")[1].split(".")[0]) for name in files if name.endswith(".snapshot.json"))
    before = files[f"metadata/{newest}.snapshot.json"]
    listed = json.loads(before)["signed"]["meta"] | meta
    snapshot = signed_anew(before, {"version": newest + 1, "meta": listed}, world.online)
    version = json.loads(files[TIMESTAMP])["signed"]["version"] + 1
    timestamp = signed_anew(files[TIMESTAMP], {"version": version, "meta": {"snapshot.json": {"version": newest + 1}}}, world.online)
    return files | {f"metadata/{newest + 1}.snapshot.json": snapshot, TIMESTAMP: timestamp}


def test_a_running_source_closes_when_its_list_expires_before_its_timestamp(world: World) -> None:
    """What expires first ends it, whichever file that is: here the list of members, in the middle of its timestamp's life."""
    world.clock.now_ms += 199 * DAY_MS + 23 * HOUR_MS
    world.folder.repository.publish(world.online, world.clock())
    source = world.source(world.mirror())
    expires_ms = source.current().expires_ms
    assert expires_ms < world.clock.now_ms + 24 * HOUR_MS
    world.clock.now_ms = expires_ms - 1
    source.current()
    world.clock.now_ms = expires_ms
    with pytest.raises(DirectoryExpiredError):
        source.current()


def test_held_from_a_kit_is_not_rolled_back_with_an_empty_cache(world: World) -> None:
    """A new kit brings a verified copy and no cache that remembers what was seen; an older list that is still valid is older still."""
    old = world.mirror()
    world.add("be")
    issuer = world.source(world.mirror())
    newest = issuer.current()
    kit = world.base / "kit"
    shutil.copytree(issuer.held.folder, kit / issuer.held.folder.name)
    source = TufDirectory(kit, world.folder.anchor, [old], clock=world.clock)
    assert source.current().version == newest.version
    assert "be" in source.current().members
