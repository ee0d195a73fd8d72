"""The administrators' ceremony: by files, m of n, interrupted and continued."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import Delegations, Metadata, Targets

from tests.security.trust.world import HOUR_MS, World
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import DirectoryError, KeyFileError, UnknownMemberError
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.describe import changes, show_document, status_document
from vidfed.security.trust.draft import Draft
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.federation import FederationFolder
from vidfed.security.trust.fingerprint import _word, fingerprint
from vidfed.security.trust.metadata_rules import Standing, TufSigning

if TYPE_CHECKING:
    from pathlib import Path


def test_a_draft_says_what_it_changes_from_what_is_signed(world: World) -> None:
    draft = world.folder.propose_members([world.entry("fr")], Standing.QUARANTINE)
    (change,) = changes(draft)
    assert change.startswith("fr joins with the standing quarantine; words ")
    assert change.endswith(', endpoint 127.0.0.1:1, name "Unit fr"')
    world.folder.withdraw()
    assert changes(world.folder.propose_removal("nl")) == ["nl is no longer a member"]
    world.folder.withdraw()
    assert changes(world.folder.propose_threshold(3)) == ["3 of 3 administrators must sign, no longer 2 of 3"]
    world.folder.withdraw()
    assert changes(world.folder.propose_renewal()) == ["nothing but longer lives of what is signed"]


def test_signatures_on_copies_come_together(world: World, tmp_path: Path) -> None:
    world.folder.propose_removal("nl")
    copy = tmp_path / "copy.json"
    copy.write_bytes(world.folder.draft_path.read_bytes())
    world.folder.sign(world.keys["anna"])
    Draft.load(copy).sign(world.keys["cleo"]).save(copy)
    assert not world.folder.draft().complete
    assert "nl" not in world.folder.publish([Draft.load(copy)]).members


def test_copies_of_another_draft_are_refused(world: World) -> None:
    other = world.folder.propose_removal("nl")
    world.folder.withdraw()
    world.folder.propose_renewal()
    with pytest.raises(DirectoryError, match="not copies of one draft"):
        world.folder.publish([other])


def test_an_interrupted_ceremony_goes_on_from_its_file(world: World) -> None:
    world.folder.propose_removal("nl")
    world.folder.sign(world.keys["anna"])
    later = FederationFolder(world.folder.folder, clock=world.clock)
    later.sign(world.keys["ben"])
    assert dict(later.publish().members) == {}


def test_a_publication_interrupted_before_the_draft_was_dropped_is_repeated(world: World) -> None:
    world.folder.propose_renewal()
    draft = world.folder.sign(world.keys["anna"])
    draft = world.folder.sign(world.keys["ben"])
    world.folder.publish()
    draft.save(world.folder.draft_path)
    assert "nl" in world.folder.publish().members


def test_a_draft_that_was_overtaken_is_refused(world: World) -> None:
    world.folder.propose_removal("nl")
    world.folder.sign(world.keys["anna"])
    overtaken = world.folder.sign(world.keys["ben"])
    world.folder.withdraw()
    world.add("fr")
    world.add("br")
    overtaken.save(world.folder.draft_path)
    with pytest.raises(DirectoryError, match="made before the last change was published"):
        world.folder.publish()


def test_one_change_at_a_time(world: World) -> None:
    world.folder.propose_removal("nl")
    with pytest.raises(DirectoryError, match="another change is being signed"):
        world.folder.propose_renewal()


def test_a_draft_that_pretends_to_change_another_state_is_refused_by_who_has_an_anchor(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    draft = other.folder.propose_threshold(1)
    draft.check(other.folder.anchor)
    with pytest.raises(DirectoryError, match="continues another federation"):
        draft.check(world.folder.anchor)


def test_a_draft_with_an_altered_part_loses_its_signatures(world: World) -> None:
    world.folder.propose_removal("nl")
    signed = world.folder.sign(world.keys["anna"])
    fields = json.loads(signed.to_json())
    fields["targets"]["signed"]["expires"] = "2099-01-01T00:00:00Z"
    altered = Draft.from_json(json.dumps(fields).encode())
    assert altered.words != signed.words
    assert altered.quorums()[0].signed == ()


def test_a_new_root_needs_the_former_administrators_too(world: World) -> None:
    dora, emil = SigningKey.generate(), SigningKey.generate()
    world.folder.propose_key("ben", "dora", dora.public)
    for key in (dora, world.keys["cleo"]):
        world.folder.sign(key)
    with pytest.raises(DirectoryError, match=r"present administrators\): 1 of 2 signatures; still to sign: anna, ben"):
        world.folder.publish()
    with pytest.raises(DirectoryError, match="not one of those that can sign"):
        world.folder.sign(emil)
    world.folder.sign(world.keys["anna"])
    world.folder.publish()
    holders = [holder["holder"] for holder in show_document(world.folder)["administrators"]]  # type: ignore[attr-defined]
    assert holders == ["anna", "cleo", "dora"]
    assert "nl" in world.source(world.mirror()).current().members


def test_a_member_starts_in_quarantine_and_is_raised(world: World) -> None:
    world.add("fr", Standing.QUARANTINE)
    assert world.folder.directory().member("fr").quarantined
    assert world.folder.directory().full_members() == ("nl",)
    world.folder.propose_standing("fr", Standing.MEMBER)
    assert not world.sign_and_publish().member("fr").quarantined


def test_a_member_that_left_returns_with_a_higher_version_only(world: World) -> None:
    first = world.entry("nl")
    world.folder.propose_removal("nl")
    world.sign_and_publish()
    with pytest.raises(DirectoryError, match="version 1 was published already"):
        world.folder.propose_members([first], Standing.MEMBER)
    assert "nl" in world.add("nl").members


def test_what_nobody_is_cannot_be_removed(world: World) -> None:
    with pytest.raises(UnknownMemberError, match="'xx' is no member"):
        world.folder.propose_removal("xx")


def test_a_member_changes_its_own_entry_without_a_ceremony(world: World) -> None:
    world.folder.accept(world.entry("nl", 2, endpoint="127.0.0.1:2"))
    assert world.folder.directory().member("nl").endpoint == "127.0.0.1:2"


def test_an_entry_by_another_key_or_of_an_older_version_or_of_a_stranger_is_refused(world: World) -> None:
    with pytest.raises(DirectoryError, match="version 1 is published already"):
        world.folder.accept(world.entry("nl"))
    world.unit("nl")
    with pytest.raises(DirectoryError, match="which the administrators do not know"):
        world.folder.accept(world.entry("nl", 2))
    with pytest.raises(DirectoryError, match="joining needs the administrators"):
        world.folder.accept(world.entry("xx"))


def test_a_revoked_credential_is_known_to_everybody(world: World) -> None:
    source = world.source(mirror := world.mirror())
    assert source.current().member("nl").revoked == frozenset()
    world.folder.accept(world.entry("nl", 2, {"ab" * 16: world.clock()}))
    mirror.now_gives(world.published_files())
    assert source.current().member("nl").revoked == {"ab" * 16}


def test_the_timestamp_is_renewed_when_half_of_its_life_is_over(world: World) -> None:
    assert not world.folder.renew_timestamp()
    world.clock.now_ms += 13 * HOUR_MS
    assert world.folder.renew_timestamp()
    world.clock.now_ms += 20 * HOUR_MS
    assert "nl" in world.folder.directory().members


def test_without_the_online_key_nothing_is_published(world: World) -> None:
    world.folder.online_key_path.unlink()
    world.folder.propose_removal("nl")
    with pytest.raises(KeyFileError, match="no such key file"):
        world.sign_and_publish()
    assert "nl" in world.folder.directory().members


def test_status_tells_what_expires_and_who_is_missing(world: World) -> None:
    world.clock.now_ms += 180 * 24 * HOUR_MS
    world.folder.propose_renewal()
    world.folder.sign(world.keys["ben"])
    document = status_document(world.folder, world.clock())
    assert document["renew_soon"] == ["members"]
    assert document["expired"] == ["snapshot", "timestamp"]
    draft = document["draft"]
    assert isinstance(draft, dict)
    assert [part["missing"] for part in draft["signatures"]] == [["anna", "cleo"]] * 3


@pytest.mark.parametrize(("holders", "threshold", "says"), [(("anna",), 2, "2 of 1"), (("anna", "ben"), 3, "3 of 2")])
def test_a_threshold_that_cannot_be_reached_is_refused(tmp_path: Path, holders: tuple[str, ...], threshold: int, says: str) -> None:
    keys = {name: SigningKey.generate().public for name in holders}
    with pytest.raises(DirectoryError, match=says):
        FederationFolder.create(tmp_path / "new", "test", keys, threshold)


def test_an_anchor_that_its_own_keys_did_not_sign_is_refused(world: World) -> None:
    content = json.loads(world.folder.anchor.content)
    content["signatures"] = content["signatures"][:1]
    with pytest.raises(DirectoryError, match="1/2 keys"):
        Anchor.read(json.dumps(content).encode())


def test_fingerprints_are_the_proquints_of_the_first_96_bits_of_sha_256() -> None:
    assert [_word(bits) for bits in (0x7F00, 0x0001, 0x3F54, 0xDCC1)] == ["lusab", "babad", "gutih", "tugad"]  # the paper's examples
    assert fingerprint(b"") == "vavub-sidaf-nogus-dubih-norur-zigam"


def a_draft_after_two_new_roots(world: World) -> Draft:
    for _ in range(2):
        world.folder.propose_renewal()
        world.sign_and_publish()
    draft = world.folder.propose_renewal()
    draft.check(world.folder.anchor)
    assert len(draft.roots_before) == 3
    return draft


def test_a_missing_root_between_is_refused(world: World) -> None:
    draft = a_draft_after_two_new_roots(world)
    first, _, last = draft.roots_before
    with pytest.raises(DirectoryError, match="a root between the first and the present one is missing"):
        replace(draft, roots_before=(first, last)).check(world.folder.anchor)


def test_a_former_root_its_predecessors_did_not_sign_is_refused_by_an_anchor(world: World, tmp_path: Path) -> None:
    """Another federation's second root, signed by its own administrators, hung onto the first root that the anchor knows."""
    draft = a_draft_after_two_new_roots(world)
    (tmp_path / "other").mkdir()
    other = a_draft_after_two_new_roots(World(tmp_path / "other"))
    forged = replace(other, roots_before=(draft.roots_before[0], *other.roots_before[1:]))
    with pytest.raises(DirectoryError, match="root version 2 was not signed by its administrators"):
        forged.check(world.folder.anchor)


def test_an_entry_of_another_federation_is_not_in_a_draft(world: World) -> None:
    """The same member with the same entry key has joined two federations; its entry for one is put into a draft of the other."""
    draft = world.folder.propose_members([world.entry("fr")], Standing.QUARANTINE)
    unit = world.units["fr"]
    listed = world.entry("fr").member
    foreign = Entry.make("elsewhere", listed, (unit.signing, unit.audit), {}, unit.entry, 1, world.clock())
    with pytest.raises(DirectoryError, match="the entry of fr does not belong to it"):
        replace(draft, entries={"fr": foreign}).check(world.folder.anchor)


def test_an_entry_that_delegates_is_refused(world: World) -> None:
    """A member's key could else name further keys, under whichever names it likes."""
    fields = json.loads(world.entry("fr").to_json())
    metadata: Metadata[Targets] = Metadata.from_dict(fields["metadata"])
    metadata.signed.delegations = Delegations({}, {})
    metadata.sign(TufSigning(world.units["fr"].entry))
    fields["metadata"] = json.loads(metadata.to_bytes())
    with pytest.raises(DirectoryError, match="the role lists other files than it holds"):
        Entry.from_json(json.dumps(fields).encode(), "fr.json")
